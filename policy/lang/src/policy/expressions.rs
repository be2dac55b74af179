//! Conditions and effects, with names resolved.

use super::Values;
use crate::tree::Operator;

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
