//! A policy after checking: names are numbers, fields have ranges. What the compiler and the interpreter both start from.

use std::fmt;

use bulkhead_model::Phase;

use crate::Arch;
use crate::diagnostic::Span;
use crate::tree::{Decision, Event, Expected, Name, Operator, Space, Way};

mod expressions;
mod values;

pub use expressions::{Effect, Expression, Place};
pub use values::{EVERY, Field, Head, Kind, Presence};

/// A closed range of values.
pub type Values = (i128, i128);

/// The whole policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Which of its name this is: a machine that remembers takes none that is older. 0 if none is stated.
    pub revision: u64,
    /// The kind of machine that it is for; any, if it is not told.
    pub arch: Option<Arch>,
    /// How far local time is ahead of UTC, in seconds, if it is stated.
    pub zone: Option<i32>,
    /// The steps that a decision may take at the most, and where that is said.
    pub most_steps: Option<(u128, Span)>,
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

/// A device that an app serves to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its object.
    pub object: u16,
    /// The subject that serves it.
    pub server: u16,
    /// Where its registers lie: in memory, or ports.
    pub space: Space,
    /// The PCI function that it is, bus << 8 | device << 3 | function.
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
