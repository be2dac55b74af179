//! A policy after checking: names are numbers, fields have ranges. What the compiler and the interpreter both start from.

use std::fmt;

use bulkhead_model::{Phase, form};

use crate::Arch;
use crate::diagnostic::Span;
use crate::tree::{Decision, Event, Expected, Name, Operator, Space, Way};

/// A closed range of values.
pub type Values = (i128, i128);

/// The whole policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The kind of machine that it is for; any, if it is not told.
    pub arch: Option<Arch>,
    /// How far local time is ahead of UTC, in seconds, if it is stated.
    pub zone: Option<i32>,
    /// Subjects: guest, kernel, then the apps.
    pub subjects: Vec<String>,
    /// Objects: the wall's own, then services and devices.
    pub objects: Vec<Object>,
    /// Tables of registers.
    pub tables: Vec<Table>,
    /// What is remembered.
    pub states: Vec<State>,
    /// What must never be.
    pub nevers: Vec<Never>,
    /// What the machine must have.
    pub requirements: Vec<Requirement>,
    /// Roles and attributes.
    pub groups: Vec<Group>,
    /// One-way channels: what they deny stands among the rules.
    pub channels: Vec<Channel>,
    /// Mandatory lattices: what they deny stands among the rules.
    pub lattices: Vec<Lattice>,
    /// Tests, in the order of the text.
    pub tests: Vec<Test>,
    /// Rules in the order of the text.
    pub rules: Vec<Rule>,
    /// Devices that apps serve.
    pub devices: Vec<Device>,
    /// Resources that the guest may use.
    pub resources: Vec<Resource>,
    /// Resources that apps drive, with the app's subject.
    pub driven: Vec<(u16, Resource)>,
}

/// What must never be.
#[derive(Clone, Debug)]
pub struct Never {
    /// What it is about.
    pub what: NeverWhat,
    /// Where it stands.
    pub span: Span,
}

/// What a `never` is about.
#[derive(Clone, Debug)]
pub enum NeverWhat {
    /// Requests that must not be allowed: as a denying rule that decides nothing. If methods are named, unless one of these was
    /// allowed before.
    Call(Rule, Vec<(u16, u16)>),
    /// What must not be remembered.
    State(Expression),
}

/// Subjects or objects that rules name together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its members, where they were named.
    pub members: Vec<Name>,
    /// Rules that name it as who calls speak of its members only while this holds.
    pub condition: Option<Expression>,
    /// Where it is declared.
    pub span: Span,
}

/// Calls of which nothing comes back.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its name, which its denying rules have as well.
    pub name: String,
    /// Who calls.
    pub senders: Vec<u16>,
    /// Which objects are called, each with its server.
    pub receivers: Vec<(u16, u16)>,
    /// Where it is declared.
    pub span: Span,
}

/// A mandatory lattice of integrity.
#[derive(Clone, Debug)]
pub struct Lattice {
    /// Its name, which its denying rules have as well.
    pub name: String,
    /// Its levels, from the lowest on.
    pub levels: Vec<String>,
    /// Its categories.
    pub categories: Vec<String>,
    /// The subjects that it names.
    pub subjects: Vec<(u16, Labelled)>,
    /// The objects that it names.
    pub objects: Vec<(u16, Labelled)>,
    /// Where it is declared.
    pub span: Span,
}

/// Who or what has a label.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The label.
    pub label: Label,
    /// The one that it has while a condition holds.
    pub rise: Option<(Label, Expression)>,
    /// Where that is said.
    pub span: Span,
    /// It is named there; else it has what all have that nobody names.
    pub is_named: bool,
}

/// A level and a set of categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The level's place, from the lowest on.
    pub level: usize,
    /// Bit n: the category n.
    pub categories: u64,
}

/// What the machine must have, or the wall does not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The fact's name, of [`crate::require::FACTS`].
    pub fact: &'static str,
    /// How much of it at least; 1 for one that is there or not.
    pub least: u64,
    /// Where it is stated.
    pub span: Span,
}

/// Something that has methods.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// The subject that serves it; `None` for the wall's own.
    pub server: Option<u16>,
    /// Its methods.
    pub methods: Vec<Method>,
}

/// A method.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// What it takes: the words of the request.
    pub arguments: Vec<Field>,
    /// What it answers: the words of the reply.
    pub replies: Vec<Field>,
    /// The app that serves it asks about it, and nobody calls it.
    pub is_question: bool,
    /// What the words of the request make up.
    pub argument_shapes: Vec<(String, Shape)>,
    /// What the words of the reply make up.
    pub reply_shapes: Vec<(String, Shape)>,
    /// The one word of an error, if the interface declares errors: which.
    pub errors: Vec<Field>,
    /// The same.
    pub error_shapes: Vec<(String, Shape)>,
    /// Which way its content flows.
    pub way: Way,
}

/// What one word, or several, make up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A number, a word, flags.
    One,
    /// One or none.
    Optional(Box<Self>),
    /// At most so many.
    List(Box<Self>, usize),
    /// At most so many bytes.
    Text(usize),
    /// Others, with their names.
    Record(Vec<(String, Self)>),
}

/// Whether a word of a message is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    #[default]
    Always,
    /// If the message's word `.0` is above `.1`; else it is zero.
    Above(usize, u8),
    /// It holds eight bytes of a text, from byte `.1` on; the message's word `.0` is the length, and what lies beyond is zero.
    Bytes(usize, u8),
}

/// What a word says of those that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// How long the text is; `true` for bytes that are no text.
    Text(bool),
    /// How many elements the list has, each of so many words.
    List(usize),
    /// Whether the value is there.
    Optional,
}

/// A word of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The values that fit.
    pub range: Values,
    /// How its values are written and compared.
    pub kind: Kind,
    /// Never recorded.
    pub is_secret: bool,
    /// Whether it is there.
    pub presence: Presence,
    /// What it says of those that follow.
    pub head: Option<Head>,
}

/// How values are written, and with which others they may be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The values of its type, as they travel.
    pub values: Values,
    /// What one of them is worth: `step.0` divided by ten to the power of `step.1`.
    pub step: (i128, u32),
    /// The unit's name; empty without one.
    pub unit: String,
    /// Words that stand for values from 0 on, where one has a word; for flags, of bits.
    pub words: Vec<String>,
    /// Its values are sets of flags.
    pub is_flags: bool,
}

/// Values of an expression.
pub const EVERY: Values = (i64::MIN as i128, u64::MAX as i128);

impl Kind {
    /// Whole numbers without a unit.
    #[must_use]
    pub const fn plain(values: Values) -> Self {
        Self { values, step: (1, 0), unit: String::new(), words: Vec::new(), is_flags: false }
    }

    /// False and true.
    #[must_use]
    pub fn truth() -> Self {
        Self { words: vec!["false".to_string(), "true".to_string()], ..Self::plain((0, 1)) }
    }

    /// A time, in microseconds.
    #[must_use]
    pub fn time() -> Self {
        Self { step: (1, 6), unit: "s".to_string(), ..Self::plain(EVERY) }
    }

    /// Whether values of both can be compared and added.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.step == other.step && self.unit == other.unit && self.words == other.words
    }

    /// Whether it is false or true.
    #[must_use]
    pub fn is_truth(&self) -> bool {
        !self.is_flags && self.words.first().is_some_and(|word| word == "false")
    }

    /// A value as a person writes it.
    #[must_use]
    pub fn show(&self, value: i128) -> String {
        if self.is_flags {
            let set =
                self.words.iter().enumerate().filter(|(at, _)| value >> at & 1 == 1).map(|(_, word)| word.as_str());
            let set: Vec<&str> = set.collect();
            return if set.is_empty() { "0".to_string() } else { set.join(" | ") };
        }
        let word = usize::try_from(value).ok().and_then(|value| self.words.get(value));
        if let Some(word) = word.filter(|word| !word.is_empty()) {
            return word.clone();
        }
        let (step, decimals) = self.step;
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let Some(scaled) = value.checked_mul(step) else { return format!("{value}{unit}") };
        if decimals == 0 {
            return format!("{scaled}{unit}");
        }
        let power = 10_i128.pow(decimals);
        let sign = if scaled < 0 { "-" } else { "" };
        let (whole, rest) = (scaled.abs() / power, scaled.abs() % power);
        format!("{sign}{whole}.{rest:0>width$}{unit}", width = decimals as usize)
    }
}

/// Registers with names, behind a method.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The object of the method that reaches them.
    pub object: u16,
    /// The method.
    pub method: u16,
    /// Which of its arguments is the register's number.
    pub number: usize,
    /// Which is the value, if it takes one.
    pub value: Option<usize>,
    /// The registers.
    pub rows: Vec<Register>,
}

/// A register, or several in a row.
#[derive(Clone, Debug)]
pub struct Register {
    /// Its name.
    pub name: String,
    /// Its numbers.
    pub numbers: Values,
    /// Its values.
    pub range: Values,
    /// How they are written.
    pub kind: Kind,
}

/// What is remembered between calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// What there is one for.
    pub keys: Vec<Key>,
    /// Which kind.
    pub kind: StateKind,
    /// Where it is declared.
    pub span: Span,
}

/// What there is one of a state object for: values of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name; `caller` for the subject.
    pub name: String,
    /// Its values.
    pub values: Values,
}

/// The kinds of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// A number.
    Counter {
        /// Its values.
        range: Values,
        /// Where it starts.
        start: i128,
    },
    /// A state machine: its states, of which the first is the start, and the names of what they hold.
    Flow {
        /// Its states.
        states: Vec<FlowState>,
        /// The values that its states may hold.
        values: Vec<String>,
    },
    /// When something happened.
    Timer,
    /// So many in so many microseconds; with a burst a bucket of so many.
    Rate {
        /// How many.
        many: u64,
        /// Microseconds.
        period: u64,
        /// 0: a window.
        burst: u64,
    },
    /// At most so many values.
    Set(u32),
    /// At most so many keys with a value each.
    Map(u32),
}

/// A state of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    /// Its name.
    pub name: String,
    /// The states that may follow.
    pub successors: Vec<u8>,
    /// Which of the flow's values it holds.
    pub holds: Vec<u8>,
    /// After how many microseconds it is over, and what follows.
    pub lasts: Option<(u64, u8)>,
}

/// A rule on methods.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Allow, deny, observe.
    pub decision: Decision,
    /// Who.
    pub subjects: Vec<u16>,
    /// Request, reply or error.
    pub event: Event,
    /// What it says of each method that it names.
    pub bodies: Vec<Body>,
    /// The reason, for people.
    pub because: Option<Reason>,
    /// Its name.
    pub name: Option<String>,
    /// Where it stands.
    pub span: Span,
}

impl Rule {
    /// Whether the messages that it decides may be recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.bodies.iter().any(|body| body.recording.is_some())
    }

    /// What it says of a method, to a subject, at an event.
    pub fn bodies_for(&self, subject: u16, object: u16, method: u16, event: Event) -> impl Iterator<Item = &Body> {
        let is_meant = self.event == event && self.subjects.contains(&subject);
        self.bodies.iter().filter(move |body| is_meant && body.object == object && body.method == method)
    }
}

/// A rule's reason, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// As it is written.
    pub written: String,
    /// As the table has it: text, and values in braces with their form.
    pub told: String,
    /// Who is refused is told as well.
    pub to_caller: bool,
}

/// A rule, for one method.
#[derive(Clone, Debug)]
pub struct Body {
    /// The object.
    pub object: u16,
    /// The method.
    pub method: u16,
    /// Under which condition.
    pub condition: Option<Expression>,
    /// Rates that must admit the call, and then count it.
    pub rates: Vec<Place>,
    /// What is remembered.
    pub effects: Vec<Effect>,
    /// What is recorded of the messages that it decides; `None`: nothing.
    pub recording: Option<Recording>,
}

/// Which of the messages that a rule decides are recorded, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Under which condition, which cannot fail; `None`: always.
    pub condition: Option<Expression>,
    /// One in so many, counted by a counter of its own.
    pub sample: Option<(Place, u32)>,
    /// Bit i: word i of the message is left out.
    pub left_out: u8,
}

impl Recording {
    /// Whether a message is recorded, as an expression; `None`: always.
    #[must_use]
    pub fn holds(&self) -> Option<Expression> {
        let is_first = |place: &Place| {
            let count = Box::new(Expression::Count(place.clone()));
            Expression::Binary(Operator::Equal, count, Box::new(Expression::Number(0)))
        };
        match (self.condition.clone(), &self.sample) {
            (Some(condition), Some((place, _))) => {
                Some(Expression::And(Box::new(condition), Box::new(is_first(place))))
            }
            (condition, sample) => condition.or(sample.as_ref().map(|(place, _)| is_first(place))),
        }
    }

    /// What counts the messages for which the condition holds, round and round.
    #[must_use]
    pub fn counting(&self) -> Option<Effect> {
        let (place, many) = self.sample.clone()?;
        let (count, one) = (Expression::Count(place.clone()), Expression::Number(1));
        let more = Box::new(self.condition.clone().unwrap_or(one));
        let sum = Box::new(Expression::Binary(Operator::Add, Box::new(count), more));
        let many = Box::new(Expression::Number(many.into()));
        Some(Effect::Set(place, Expression::Binary(Operator::Remainder, sum, many)))
    }
}

/// A test.
#[derive(Clone, Debug)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Its steps, each with its place.
    pub steps: Vec<(Step, Span)>,
    /// Where it begins.
    pub span: Span,
}

/// A step of a test.
#[derive(Clone, Debug)]
pub enum Step {
    /// So many microseconds pass.
    Wait(u64),
    /// It is so many seconds past midnight.
    TimeOfDay(u64),
    /// It is this day; 0 is Monday.
    DayOfWeek(u64),
    /// This is remembered, whatever led to it; for this caller.
    Given(Effect, u16),
    /// This must hold; for this caller.
    Expect(Expression, u16),
    /// A message, and what is expected of it.
    Call(Call),
}

/// A message, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who.
    pub subject: u16,
    /// To what.
    pub object: u16,
    /// Which method.
    pub method: u16,
    /// Request, reply or error.
    pub event: Event,
    /// The values as they travel.
    pub words: Vec<u64>,
    /// What is expected.
    pub expected: Expected,
    /// The name of the rule that shall decide.
    pub by: Option<String>,
    /// Whether a record shall be made.
    pub recorded: Option<bool>,
    /// What people shall be told.
    pub because: Option<String>,
}

impl Body {
    /// The most changes that the monitor makes for it.
    #[must_use]
    pub fn changes(&self) -> usize {
        let counting = self.recording.as_ref().is_some_and(|recording| recording.sample.is_some());
        self.effects.iter().map(Effect::changes).sum::<usize>() + 2 * self.rates.len() + usize::from(counting)
    }

    /// Whether it remembers anything of its own.
    #[must_use]
    pub fn remembers(&self) -> bool {
        !self.effects.is_empty() || !self.rates.is_empty()
    }
}

/// An instance of a state object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which state object.
    pub state: u16,
    /// Of which keys.
    pub keys: Vec<Expression>,
}

/// An expression; truth is 1, its absence 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A constant.
    Number(i128),
    /// An argument, or a value of the reply.
    Argument(usize),
    /// The subject's number.
    Caller,
    /// Seconds since midnight, in microseconds.
    TimeOfDay,
    /// 1 is Monday.
    DayOfWeek,
    /// Not.
    Not(Box<Self>),
    /// Both; the second is asked only if the first holds.
    And(Box<Self>, Box<Self>),
    /// One of them; the second is asked only if the first does not hold.
    Or(Box<Self>, Box<Self>),
    /// Two numbers; never [`Operator::And`], [`Operator::Or`], [`Operator::Implies`].
    Binary(Operator, Box<Self>, Box<Self>),
    /// In one of the ranges, which are sorted and disjoint.
    Within(Box<Self>, Vec<Values>),
    /// A counter's value.
    Count(Place),
    /// Whether a flow is in a state.
    IsIn(Place, u8),
    /// Microseconds since a flow's state was entered, or a timer was started.
    Age(Place),
    /// What a flow's state holds.
    Holds(Place, u8),
    /// Whether a set has a value, or a map a key.
    Contains(Place, Box<Self>),
    /// A map's value.
    Lookup(Place, Box<Self>),
    /// Word `.0` of the message, which is there if word `.1` is above `.2`; else it fails.
    Present(usize, usize, u8),
    /// Whether the text whose length is word `.0` of the message, and which takes so many words after it, is one of a regular
    /// expression's.
    Matches(usize, usize, String),
}

/// What a rule remembers. All of them read what was before the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A counter's new value.
    Set(Place, Expression),
    /// More for a counter.
    Increase(Place, Expression),
    /// To the start, or emptied.
    Reset(Place),
    /// All instances to the start.
    ResetAll(u16),
    /// A flow's next state, with a value for each of the flow's that it holds.
    Become(Place, u8, Vec<Option<Expression>>),
    /// A timer starts.
    Start(Place),
    /// A set gets a value.
    Insert(Place, Expression),
    /// A set or a map's working half loses one.
    Remove(Place, Expression),
    /// A map's working half gets key and value.
    Put(Place, Expression, Expression),
    /// A map's working half is what counts from now on.
    Commit(Place),
    /// A map's working half is dropped.
    RollBack(Place),
}

impl Effect {
    /// The most changes that the monitor makes for it, as `bulkhead_model::kind` lays the words out.
    #[must_use]
    pub const fn changes(&self) -> usize {
        match self {
            Self::Become(_, _, values) => 2 + values.len(),
            Self::Remove(..) | Self::Put(..) => 3,
            Self::Insert(..) => 2,
            _ => 1,
        }
    }

    /// The instance that it changes; `None` if it changes all of a state object.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::ResetAll(_) => None,
            Self::Set(place, _)
            | Self::Increase(place, _)
            | Self::Reset(place)
            | Self::Become(place, ..)
            | Self::Start(place)
            | Self::Insert(place, _)
            | Self::Remove(place, _)
            | Self::Put(place, ..)
            | Self::Commit(place)
            | Self::RollBack(place) => Some(place),
        }
    }

    /// The state object that it changes.
    #[must_use]
    pub fn state(&self) -> u16 {
        match (self, self.place()) {
            (Self::ResetAll(state), _) => *state,
            (_, place) => place.map_or(bulkhead_model::NONE, |place| place.state),
        }
    }

    /// Calls something for each of its expressions: keys and values.
    pub fn each(&self, visit: &mut dyn FnMut(&Expression)) {
        self.place().into_iter().flat_map(|place| &place.keys).for_each(&mut *visit);
        match self {
            Self::Set(_, value) | Self::Increase(_, value) | Self::Insert(_, value) | Self::Remove(_, value) => {
                visit(value)
            }
            Self::Put(_, key, value) => {
                visit(key);
                visit(value);
            }
            Self::Become(_, _, values) => values.iter().flatten().for_each(visit),
            Self::Reset(_) | Self::Start(_) | Self::Commit(_) | Self::RollBack(_) | Self::ResetAll(_) => {}
        }
    }
}

impl Expression {
    /// The instance that it reads, without those that its parts read.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Count(place)
            | Self::IsIn(place, _)
            | Self::Age(place)
            | Self::Holds(place, _)
            | Self::Contains(place, _)
            | Self::Lookup(place, _) => Some(place),
            _ => None,
        }
    }

    /// The word of the message that it reads, without those that its parts read.
    #[must_use]
    pub const fn argument(&self) -> Option<usize> {
        match self {
            Self::Argument(at) | Self::Present(at, ..) | Self::Matches(at, ..) => Some(*at),
            _ => None,
        }
    }

    /// Calls something for it and for each expression in it, keys included.
    pub fn walk(&self, visit: &mut dyn FnMut(&Self)) {
        visit(self);
        self.place().into_iter().flat_map(|place| &place.keys).for_each(|key| key.walk(visit));
        match self {
            Self::Not(inner) | Self::Within(inner, _) | Self::Contains(_, inner) | Self::Lookup(_, inner) => {
                inner.walk(visit)
            }
            Self::And(left, right) | Self::Or(left, right) | Self::Binary(_, left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            _ => {}
        }
    }

    /// Whether it, or an expression in it, is such a one.
    #[must_use]
    pub fn has(&self, is_such: impl Fn(&Self) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |part| found |= is_such(part));
        found
    }
}

/// A device that an app serves to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its object.
    pub object: u16,
    /// The subject that serves it.
    pub server: u16,
    /// The PCI function that it is, bus << 8 | device << 3 | function; its registers are ports then.
    pub function: Option<u16>,
    /// First address, or port, that the guest sees.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
    /// Its interrupt: an INTID, or a line of x86-64's interrupt controllers.
    pub interrupt: Option<u32>,
    /// The I/O APIC's pin, where that is another number.
    pub pin: Option<u32>,
    /// Where it is declared.
    pub span: Span,
}

impl Device {
    /// Where its registers lie.
    #[must_use]
    pub const fn space(&self) -> Space {
        if self.function.is_some() { Space::Ports } else { Space::Memory }
    }
}

/// A piece of the machine that the guest or an app has for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub space: Space,
    /// The first address, port or register.
    pub base: u64,
    /// Length in bytes; how many ports or registers.
    pub size: u64,
    /// It is read (and executed), and not written.
    pub is_read_only: bool,
    /// Its interrupt: an INTID, or a line of x86-64's interrupt controllers.
    pub interrupt: Option<u32>,
    /// Where it is declared.
    pub span: Span,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { space, base, size, .. } = self;
        write!(f, "{} {base:#x}..{:#x}", space.word(), base + size.saturating_sub(1))?;
        if self.is_read_only { f.write_str(" read only") } else { Ok(()) }
    }
}

impl Field {
    /// What it is called in a sentence: `speed`, `length of tag`, `tag from byte 8`.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.head, self.presence, self.name.split_once('\'')) {
            (Some(Head::Text(_) | Head::List(_)), ..) => format!("length of {}", self.name),
            (_, Presence::Bytes(_, 0), Some((text, _))) => text.to_string(),
            (_, Presence::Bytes(_, first), Some((text, _))) => format!("{text} from byte {first}"),
            _ => self.name.clone(),
        }
    }

    /// A value as a person writes it; eight bytes of a text in quotes.
    #[must_use]
    pub fn show(&self, value: i128) -> String {
        if let Presence::Bytes(..) = self.presence {
            let bytes = u64::try_from(value).unwrap_or(0).to_be_bytes();
            let end = bytes.iter().rposition(|&byte| byte != 0 && byte != 0xff).map_or(0, |last| last + 1);
            return format!("\"{}\"", bytes.get(..end).unwrap_or_default().escape_ascii());
        }
        self.kind.show(value)
    }

    /// How its values are written by who has the table alone: one of [`form`], and its words. `None` for a plain number.
    #[must_use]
    pub fn form(&self) -> Option<(&'static str, String)> {
        let kind = &self.kind;
        Some(match self.head {
            Some(Head::Text(false)) => (form::TEXT, String::new()),
            Some(Head::Text(true)) => (form::BYTES, String::new()),
            Some(Head::List(width)) => (form::LIST, width.to_string()),
            Some(Head::Optional) => (form::OPTIONAL, String::new()),
            None if kind.is_flags => (form::FLAGS, kind.words.join(" ")),
            None if !kind.words.is_empty() => (form::WORDS, kind.words.join(" ")),
            None if kind.step != (1, 0) || !kind.unit.is_empty() => {
                (form::SCALED, format!("{} {} {}", kind.step.0, kind.step.1, kind.unit))
            }
            None => return None,
        })
    }

    /// Whether values are compared as signed numbers.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.kind.values.0 < 0
    }

    /// The value of a word as it travels.
    #[must_use]
    pub fn value(&self, word: u64) -> i128 {
        if self.is_signed() { word.cast_signed().into() } else { word.into() }
    }
}

impl Policy {
    /// A method, by numbers.
    #[must_use]
    pub fn method(&self, object: u16, method: u16) -> Option<&Method> {
        self.objects.get(usize::from(object))?.methods.get(usize::from(method))
    }

    /// The phase of a message: a request to a question is a question.
    #[must_use]
    pub fn phase(&self, object: u16, method: u16, event: Event) -> Phase {
        match event {
            Event::Request if self.method(object, method).is_some_and(|method| method.is_question) => Phase::Question,
            Event::Request => Phase::Request,
            Event::Reply => Phase::Reply,
            Event::Error => Phase::Error,
        }
    }

    /// The first of the words in which an instance is remembered.
    #[must_use]
    pub fn first_word(&self, state: u16, keys: &[i128]) -> usize {
        let size = |state: &State| state.instances() * u64::from(state.words());
        let before: u64 = self.states.iter().take(state.into()).map(size).sum();
        let Some(row) = self.states.get(usize::from(state)) else { return 0 };
        let instance = row.keys.iter().zip(keys).fold(0, |at, (key, value)| {
            let (low, high) = key.values;
            at * (high - low + 1) + (value - low)
        });
        let first = before + u64::try_from(instance).unwrap_or(0) * u64::from(row.words());
        usize::try_from(first).unwrap_or(usize::MAX)
    }

    /// What the words of a method's message make up.
    #[must_use]
    pub fn shapes(&self, object: u16, method: u16, event: Event) -> &[(String, Shape)] {
        match (self.method(object, method), event) {
            (Some(method), Event::Request) => &method.argument_shapes,
            (Some(method), Event::Reply) => &method.reply_shapes,
            (Some(method), Event::Error) => &method.error_shapes,
            (None, _) => &[],
        }
    }

    /// The fields of a method's message at an event.
    #[must_use]
    pub fn fields(&self, object: u16, method: u16, event: Event) -> &[Field] {
        match (self.method(object, method), event) {
            (Some(method), Event::Request) => &method.arguments,
            (Some(method), Event::Reply) => &method.replies,
            (Some(method), Event::Error) => &method.errors,
            (None, _) => &[],
        }
    }
}
