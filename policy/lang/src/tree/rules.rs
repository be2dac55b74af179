//! Rules as written: what they name, when they hold, what they remember and record.

use super::{Constant, Limit, Name, Number};
use crate::diagnostic::Span;

/// What is recorded of the messages that rules decide.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: Name,
    /// `for OBJECT.METHOD, …`: whose rules follow it without naming it.
    pub targets: Vec<(Name, Option<Name>)>,
    /// `record 1 in 10 allowed when …`
    pub allowed: Option<Record>,
    /// `record denied when …`
    pub denied: Option<Record>,
    /// `record only ARGUMENT, …`
    pub only: Option<Vec<Name>>,
}

/// Which messages of a kind are recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// One in so many.
    pub sample: i128,
    /// Under which condition.
    pub condition: Option<Expression>,
    /// Where it stands.
    pub span: Span,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// `allow`
    Allow,
    /// `deny`
    Deny,
    /// `on`: it only remembers.
    Observe,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The request.
    Request,
    /// `reply`
    Reply,
    /// `error`
    Error,
}

/// `allow SUBJECT TARGETS` and its clauses
#[derive(Clone, Debug)]
pub struct Rule {
    /// Allow, deny, observe.
    pub decision: Decision,
    /// Who.
    pub subject: Name,
    /// To what.
    pub targets: Targets,
    /// Request, reply or error.
    pub event: Event,
    /// `when …` and `except …`: under which condition.
    pub condition: Option<Expression>,
    /// `at most …`
    pub limits: Vec<Limit>,
    /// `within RATE`
    pub rates: Vec<Expression>,
    /// `using GRANT`
    pub grants: Vec<Expression>,
    /// `then …`
    pub effects: Vec<Effect>,
    /// `audit`, `audit by PROFILE`: the messages that it allows are recorded, as the profile says.
    pub audit: Option<Option<Name>>,
    /// The reason, for people.
    pub because: Option<Reason>,
    /// `as NAME`
    pub name: Option<Name>,
    /// The whole rule.
    pub span: Span,
}

/// `because "…"`, `because "…" to caller`
#[derive(Clone, Debug)]
pub struct Reason {
    /// The text, with values in braces.
    pub text: String,
    /// Where the text stands.
    pub span: Span,
    /// Who is refused is told as well.
    pub to_caller: bool,
}

/// Whom or what a rule names.
#[derive(Clone, Debug)]
pub enum Targets {
    /// `use NAME, …`: resources.
    Use(Vec<Name>),
    /// `OBJECT.METHOD, …`; `None` for `*`.
    Methods(Vec<(Name, Option<Name>)>),
}

/// An expression.
#[derive(Clone, Debug)]
pub enum Expression {
    /// `52.00 Hz`
    Number(Number),
    /// An argument, a constant, an enumeration's word, a state object.
    Word(Name),
    /// `NAME(KEYS)`: a state object.
    Keyed(Name, Vec<Self>, Span),
    /// `NAME(KEYS).VALUE`: what a flow's state holds.
    Value(Box<Self>, Name),
    /// `NAME(KEYS)[KEY]` is written `KEY of NAME(KEYS)`: a map's value.
    Of(Box<Self>, Box<Self>),
    /// `age of NAME(KEYS)`
    Age(Box<Self>),
    /// `caller`
    Caller(Span),
    /// `time of day`
    TimeOfDay(Span),
    /// `day of week`: 1 is Monday.
    DayOfWeek(Span),
    /// `not A`
    Not(Box<Self>),
    /// `-A`
    Negative(Box<Self>, Span),
    /// `A OPERATOR B`
    Binary(Operator, Box<Self>, Box<Self>),
    /// `A in SET`
    In(Box<Self>, Set),
    /// `A for N in SET`: A, and what follows it, N values in all.
    Several(Box<Self>, Box<Self>, Set),
    /// `FLOW is STATE`, `FIELD is present`
    Is(Box<Self>, Name),
    /// `"text"`
    Text(String, Span),
    /// `length of FIELD`
    Length(Box<Self>, Span),
    /// `LIST[0]`
    Element(Box<Self>, i128, Span),
    /// `FLAGS has FLAG`
    Has(Box<Self>, Name),
    /// `TEXT starts with "…"`, `ends with`, `matches`
    Like(Box<Self>, Like, String, Span),
    /// `for all X in LIST: CONDITION`; `true` for all, `false` for any.
    For(bool, Name, Box<Self>, Box<Self>),
}

/// What a text is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Like {
    /// Its beginning.
    Starts,
    /// Its end.
    Ends,
    /// A regular expression, for the whole text.
    Matches,
}

impl Expression {
    /// Where it stands.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Number(number) => number.span,
            Self::Word(name) => name.span,
            Self::Keyed(name, _, end) => name.span.to(*end),
            Self::Value(inner, name) | Self::Is(inner, name) => inner.span().to(name.span),
            Self::Caller(span) | Self::TimeOfDay(span) | Self::DayOfWeek(span) | Self::Text(_, span) => *span,
            Self::Length(inner, span) | Self::Element(inner, _, span) | Self::Like(inner, .., span) => {
                inner.span().to(*span)
            }
            Self::Has(inner, name) => inner.span().to(name.span),
            Self::For(_, name, _, condition) => name.span.to(condition.span()),
            Self::Negative(inner, start) => start.to(inner.span()),
            Self::Age(inner) | Self::Not(inner) | Self::In(inner, _) => inner.span(),
            Self::Binary(_, left, right) | Self::Of(left, right) | Self::Several(left, right, _) => {
                left.span().to(right.span())
            }
        }
    }
}

/// A set of values.
#[derive(Clone, Debug)]
pub enum Set {
    /// One that `let` names, or one that is remembered.
    Named(Box<Expression>),
    /// Written out.
    Ranges(Vec<(Constant, Constant)>),
    /// Texts, written out.
    Texts(Vec<(String, Span)>),
}

/// An operator between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Operator {
    Or,
    And,
    Implies,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

impl Operator {
    /// Whether it compares two values.
    #[must_use]
    pub const fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::Unequal | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual
        )
    }
}

/// What a rule remembers.
#[derive(Clone, Debug)]
pub enum Effect {
    /// `FLOW becomes STATE(VALUES)`
    Become(Expression, Name, Vec<Expression>),
    /// `set COUNTER to A`
    Set(Expression, Expression),
    /// `add A to NAME`: a counter's amount, a set's value; `count NAME` adds 1
    Add(Expression, Expression),
    /// `remove A from NAME`
    Remove(Expression, Expression),
    /// `put A at KEY in MAP`
    Put(Expression, Expression, Expression),
    /// `start TIMER`
    Start(Expression),
    /// `reset NAME`
    Reset(Expression),
    /// `reset all NAME`
    ResetAll(Name),
    /// `commit MAP`
    Commit(Expression),
    /// `roll back MAP`
    RollBack(Expression),
    /// `give GRANT`
    Give(Expression),
}
