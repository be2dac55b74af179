//! The syntax tree, as written.

use crate::diagnostic::Span;

/// A name where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The word.
    pub text: String,
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
    /// `include "FILE"`
    Include(String, Span),
    /// `interface NAME { … }`
    Interface(Interface),
    /// `app NAME`
    App(Name),
    /// `service NAME: INTERFACE by APP`
    Service(Name, Name, Name),
    /// `device NAME: at BASE size BYTES interrupt N by APP`
    Device(Range, Name),
    /// `resource NAME: mmio BASE size BYTES interrupt N`
    Resource(Range),
    /// `let NAME = SET`
    Let(Name, Vec<(Constant, Constant)>),
    /// `allow …` and `deny …`
    Rule(Rule),
}

/// A named range of registers with its interrupt.
#[derive(Clone, Debug)]
pub struct Range {
    /// Its name.
    pub name: Name,
    /// First address.
    pub base: i128,
    /// Length in bytes.
    pub bytes: i128,
    /// INTID, if it has one.
    pub interrupt: Option<i128>,
    /// Where its numbers stand.
    pub span: Span,
}

/// What a service offers.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: Name,
    /// Its enumerations.
    pub enums: Vec<(Name, Vec<Name>)>,
    /// Its methods, in order.
    pub methods: Vec<Method>,
}

/// One method.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its name.
    pub name: Name,
    /// What it takes.
    pub arguments: Vec<Field>,
    /// What it answers.
    pub replies: Vec<Field>,
}

/// An argument or a reply's value.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: Name,
    /// Its type's name.
    pub kind: Name,
    /// `in A..B`
    pub range: Option<(Constant, Constant)>,
    /// Never recorded.
    pub is_secret: bool,
}

/// A constant as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constant {
    /// A number.
    Number(i128, Span),
    /// `true`, `false`, or an enumeration's word.
    Word(Name),
}

impl Constant {
    /// Where it stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Number(_, span) => *span,
            Self::Word(name) => name.span,
        }
    }
}

/// `allow SUBJECT TARGETS [when CONDITION] [audit] [because "TEXT"]`
#[derive(Clone, Debug)]
pub struct Rule {
    /// `allow`, not `deny`.
    pub is_allow: bool,
    /// Who.
    pub subject: Name,
    /// To what.
    pub targets: Targets,
    /// Under which condition.
    pub condition: Option<Condition>,
    /// Allowed calls are recorded.
    pub audit: bool,
    /// The reason, for people.
    pub because: Option<String>,
    /// The whole rule.
    pub span: Span,
}

/// What a rule is about.
#[derive(Clone, Debug)]
pub enum Targets {
    /// `use NAME, …`: resources.
    Use(Vec<Name>),
    /// `OBJECT.METHOD, …`; `None` for `*`.
    Methods(Vec<(Name, Option<Name>)>),
}

/// A condition on the arguments.
#[derive(Clone, Debug)]
pub enum Condition {
    /// `A or B`
    Or(Box<Self>, Box<Self>),
    /// `A and B`
    And(Box<Self>, Box<Self>),
    /// `not A`
    Not(Box<Self>),
    /// `FIELD in SET`
    In(Name, Set),
    /// `FIELD OPERATOR CONSTANT`
    Compare(Name, Operator, Constant),
}

/// A set of values.
#[derive(Clone, Debug)]
pub enum Set {
    /// One that `let` names.
    Named(Name),
    /// Written out.
    Ranges(Vec<(Constant, Constant)>),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}
