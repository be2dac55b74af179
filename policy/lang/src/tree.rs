//! The syntax tree, as written.

use crate::diagnostic::Span;

mod interfaces;
mod rules;

pub use interfaces::{Field, Interface, Method, Shape};
pub use rules::{Decision, Effect, Event, Expression, Like, Operator, Profile, Reason, Record, Rule, Set, Targets};

/// A name where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The word.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A number as written: digits, a point, a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// All its digits, with the sign.
    pub digits: i128,
    /// How many of them stand after the point.
    pub decimals: u8,
    /// `Hz`, `s`, …
    pub unit: Option<Name>,
    /// Where.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug)]
pub enum Item {
    /// `edition 1`
    Edition(i128, Span),
    /// `policy NAME`
    Policy(Name),
    /// `revision 1`
    Revision(i128, Span),
    /// `cost at most 64 steps`
    Cost(i128, Span),
    /// `include "FILE"`
    Include(String, Span),
    /// `import "FILE" as NAME with PARAMETER = VALUE, …`
    Import(Import),
    /// `part NAME(PARAMETERS)`: what the file's statements stand for.
    Part,
    /// `interface NAME { … }`
    Interface(Interface),
    /// `app NAME [is GROUP, …]`
    App(Name, Vec<Name>),
    /// `group NAME: A, B [when CONDITION]`
    Group(Group),
    /// `exclusive GROUP, GROUP`: no subject is in two of them at one time.
    Exclusive(Vec<Name>),
    /// `service NAME: INTERFACE by APP [is GROUP, …]`
    Service(Name, Name, Name, Vec<Name>),
    /// `device NAME: at BASE size BYTES interrupt N by APP [is GROUP, …]`, `device NAME: [pci BUS:DEVICE.FUNCTION] ports FIRST size COUNT …`
    Device(Range, Name, Vec<Name>),
    /// `resource NAME: mmio BASE size BYTES interrupt N`, `… ports FIRST size COUNT …`, `… msr FIRST size COUNT …`
    Resource(Range),
    /// `zone UTC + 1 h`
    Zone(Option<Number>, Span),
    /// `let NAME = SET`
    Let(Name, Vec<(Constant, Constant)>),
    /// `require iommu`, `require cores >= 2`
    Require(Requirement),
    /// `lattice NAME { levels …; categories …; NAME at LEVEL of CATEGORY }`
    Lattice(Lattice),
    /// `channel NAME one way from SENDER, … to RECEIVER, …`
    Channel(Channel),
    /// `registers NAME via OBJECT.METHOD(REGISTER, VALUE) { … }`
    Registers(Registers),
    /// `counter …`, `flow …`, …
    State(State),
    /// `profile NAME for TARGETS { record … }`
    Profile(Profile),
    /// `allow …`, `deny …`, `on …`
    Rule(Box<Rule>),
    /// `never SUBJECT TARGETS [when CONDITION] [unless TARGET came before]`, `never when CONDITION`
    Never(Never),
    /// `test "NAME" { … }`
    Test(Test),
}

/// Subjects or objects that rules name together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// Those that it names itself.
    pub members: Vec<Name>,
    /// `when CONDITION`: rules speak of its members only then.
    pub condition: Option<Expression>,
    /// The whole statement.
    pub span: Span,
}

/// Calls of which nothing comes back.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its name.
    pub name: Name,
    /// Who calls.
    pub from: Vec<Name>,
    /// What is called.
    pub to: Vec<Name>,
    /// The whole statement.
    pub span: Span,
}

/// A mandatory lattice of integrity.
#[derive(Clone, Debug)]
pub struct Lattice {
    /// Its name.
    pub name: Name,
    /// Its levels, from the lowest on.
    pub levels: Vec<Name>,
    /// Its categories.
    pub categories: Vec<Name>,
    /// Who and what has which label.
    pub lines: Vec<LatticeLine>,
    /// Its name and what stands before it.
    pub span: Span,
}

/// `NAME, … at LABEL rises to LABEL when CONDITION`
#[derive(Clone, Debug)]
pub struct LatticeLine {
    /// Subjects, objects, groups.
    pub names: Vec<Name>,
    /// Their label.
    pub label: Label,
    /// The label that they have while a condition holds.
    pub rise: Option<(Label, Expression)>,
    /// The whole line.
    pub span: Span,
}

/// `LEVEL of CATEGORY, …`
#[derive(Clone, Debug)]
pub struct Label {
    /// The level.
    pub level: Name,
    /// The categories.
    pub categories: Vec<Name>,
}

/// Which way a method's content flows, for a lattice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Both ways: nothing is said of it.
    #[default]
    Calls,
    /// `reads`: from the object to who asks.
    Reads,
    /// `writes`: from who asks to the object.
    Writes,
    /// `executes`: who asks runs what the object holds.
    Executes,
}

/// What the machine must have.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// What.
    pub fact: Name,
    /// How much of it at least, if it is counted.
    pub least: Option<Number>,
    /// The whole statement.
    pub span: Span,
}

/// An import of a part.
#[derive(Clone, Debug)]
pub struct Import {
    /// The part's file.
    pub file: String,
    /// What the names that it declares begin with.
    pub name: Name,
    /// The parameters' values, and as they are written.
    pub(crate) arguments: Vec<(Name, Constant, Vec<crate::lexer::Token>)>,
    /// Where it stands.
    pub span: Span,
}

/// What must never be.
#[derive(Clone, Debug)]
pub enum Never {
    /// Requests, unless one of others was allowed before.
    Call(Box<Rule>, Vec<(Name, Option<Name>)>),
    /// What is remembered.
    State(Expression, Span),
}

/// A test: steps that are taken one after the other, from an empty memory on.
#[derive(Clone, Debug)]
pub struct Test {
    /// What it shows.
    pub name: String,
    /// Its steps.
    pub steps: Vec<(Step, Span)>,
    /// Where it begins.
    pub span: Span,
}

/// A step of a test.
#[derive(Clone, Debug)]
pub enum Step {
    /// `wait 30 s`
    Wait(Number),
    /// `time of day 8 h`
    TimeOfDay(Number),
    /// `day of week 1`
    DayOfWeek(i128),
    /// `given EFFECT [for SUBJECT]`: what is remembered, whatever led to it.
    Given(Box<Effect>, Option<Name>),
    /// `expect CONDITION [for SUBJECT]`
    Expect(Box<Expression>, Option<Name>),
    /// `SUBJECT -> OBJECT.METHOD(ARGUMENTS) VERDICT`
    Call(Box<Call>),
}

/// A call in a test, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who.
    pub subject: Name,
    /// To what.
    pub object: Name,
    /// Which method.
    pub method: Name,
    /// Request, reply or error.
    pub event: Event,
    /// The values.
    pub arguments: Vec<Literal>,
    /// What is expected.
    pub expected: Expected,
    /// `by NAME`: the rule that decides.
    pub by: Option<Name>,
    /// `recorded`, `not recorded`
    pub recorded: Option<bool>,
    /// `because "…"`: what people are told.
    pub because: Option<String>,
}

/// What a test expects of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `allowed`
    Allowed,
    /// `refused`, for whatever reason.
    Refused,
    /// `denied`
    Denied,
    /// `refused no rule`
    NoRule,
    /// `failed`
    Failed,
    /// `too often`
    TooOften,
    /// `malformed`
    Malformed,
}

/// Where a range of the machine lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// `mmio`, `at`: addresses.
    Memory,
    /// `ports`: x86-64's I/O ports.
    Ports,
    /// `msr`: x86-64's model-specific registers.
    Registers,
}

impl Space {
    /// The word that stands before a range of it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Memory => "mmio",
            Self::Ports => "ports",
            Self::Registers => "msr",
        }
    }
}

/// A named range of the machine with its interrupt.
#[derive(Clone, Debug)]
pub struct Range {
    /// Its name.
    pub name: Name,
    /// Where it lies.
    pub space: Space,
    /// The first address, port or register.
    pub base: i128,
    /// Length in bytes; how many ports or registers.
    pub size: i128,
    /// `read only`
    pub is_read_only: bool,
    /// Its interrupt, if it has one.
    pub interrupt: Option<i128>,
    /// `or PIN`: the I/O APIC's pin, where a PCI function has another number there.
    pub pin: Option<i128>,
    /// Bus, device and function, of a device that is found by PCI.
    pub function: Option<[i128; 3]>,
    /// Where its numbers stand.
    pub span: Span,
}

/// A value as written in a call.
#[derive(Clone, Debug)]
pub enum Literal {
    /// A number or a word.
    One(Constant),
    /// `"text"`
    Text(String, Span),
    /// `[1, 2]`
    List(Vec<Self>, Span),
    /// `{1, 2}`: a record's fields in their order.
    Record(Vec<Self>, Span),
    /// `none`: an optional value that is not there.
    None(Span),
    /// `remote | local`: flags.
    Flags(Vec<Name>),
}

impl Literal {
    /// Where it stands.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::One(constant) => constant.span(),
            Self::Text(_, span) | Self::List(_, span) | Self::Record(_, span) | Self::None(span) => *span,
            Self::Flags(names) => names.first().map_or(Span::default(), |name| name.span),
        }
    }
}

/// A constant as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constant {
    /// A number.
    Number(Number),
    /// `true`, `false`, or an enumeration's word.
    Word(Name),
}

impl Constant {
    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Number(number) => number.span,
            Self::Word(name) => name.span,
        }
    }
}

/// Registers of a field device: numbers that a method takes, with names.
#[derive(Clone, Debug)]
pub struct Registers {
    /// The table's name.
    pub name: Name,
    /// The object of the method that reaches them.
    pub object: Name,
    /// The method.
    pub method: Name,
    /// Which of its arguments is the register's number, and which the value, if it takes one.
    pub arguments: Vec<Name>,
    /// The registers.
    pub rows: Vec<Register>,
    /// `from "FILE"`: where the registers stand, as comma-separated values.
    pub file: Option<(String, Span)>,
}

/// A register.
#[derive(Clone, Debug)]
pub struct Register {
    /// Its name.
    pub name: Name,
    /// Its number, or the first and the last of several.
    pub numbers: (Constant, Constant),
    /// `in A..B`: its values.
    pub range: Option<(Constant, Constant)>,
    /// `step 0.01`
    pub step: Option<Number>,
    /// `unit Hz`
    pub unit: Option<Name>,
}

/// What is remembered between calls.
#[derive(Clone, Debug)]
pub struct State {
    /// Its name.
    pub name: Name,
    /// Which kind.
    pub kind: StateKind,
    /// `per caller, unit in 1..8`
    pub keys: Vec<Key>,
    /// The whole statement.
    pub span: Span,
}

/// The kinds of state, with what is particular to each.
#[derive(Clone, Debug)]
pub enum StateKind {
    /// `counter NAME in A..B start C`
    Counter {
        /// Its values.
        range: (Constant, Constant),
        /// Where it starts; without it: at 0, or at its lowest value.
        start: Option<Number>,
    },
    /// `flow NAME { … }`
    Flow(Vec<FlowLine>),
    /// `timer NAME`
    Timer,
    /// `rate NAME at most 10 per min`
    Rate(Limit),
    /// `set NAME max 16`
    Set(i128),
    /// `map NAME max 16`
    Map(i128),
    /// `grant NAME lasts 10 min`
    Grant(Number),
}

/// What there is one of a state object for.
#[derive(Clone, Debug)]
pub enum Key {
    /// For each subject.
    Caller(Span),
    /// For each value of a range.
    Values(Name, Box<(Constant, Constant)>),
}

/// A line of a flow.
#[derive(Clone, Debug)]
pub enum FlowLine {
    /// `idle -> selected, failed`
    Steps(Name, Vec<Name>),
    /// `selected holds value, unit`
    Holds(Name, Vec<Name>),
    /// `selected lasts 30 s -> idle`
    Lasts(Name, Number, Name),
}

/// `at most 10 per min burst 3`
#[derive(Clone, Debug)]
pub struct Limit {
    /// How many.
    pub many: i128,
    /// In which time: `min`, `10 s`.
    pub period: Number,
    /// With it: a bucket of so many, filled evenly. Without: a window.
    pub burst: Option<i128>,
    /// Where.
    pub span: Span,
}
