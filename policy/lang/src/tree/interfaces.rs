//! Interfaces as written.

use super::{Constant, Name, Number, Way};

/// What a service offers.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: Name,
    /// Its enumerations.
    pub enums: Vec<(Name, Vec<Name>)>,
    /// Its sets of flags.
    pub flags: Vec<(Name, Vec<Name>)>,
    /// Its records.
    pub records: Vec<(Name, Vec<Field>)>,
    /// The errors that its service answers, numbered from 1 on.
    pub errors: Vec<Name>,
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
    /// `fails with ERROR, …`, `never fails`: which of the interface's errors it answers; all, if nothing is said.
    pub errors: Option<Vec<Name>>,
    /// `question NAME(…)`: the app that serves it asks about it, and nobody calls it.
    pub is_question: bool,
    /// `reads`, `writes`, `executes`
    pub way: Way,
}

/// An argument or a reply's value.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: Name,
    /// One value, several, or perhaps none.
    pub shape: Shape,
    /// Its type's name.
    pub kind: Name,
    /// `in A..B`
    pub range: Option<(Constant, Constant)>,
    /// `step 0.01`: what one of it is worth.
    pub step: Option<Number>,
    /// `unit Hz`
    pub unit: Option<Name>,
    /// Never recorded.
    pub is_secret: bool,
}

/// How many values of its type a field has.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One.
    One,
    /// `optional TYPE`: one or none.
    Optional,
    /// `list of TYPE max 4`
    List(i128),
    /// `text max 16`, `bytes max 16`: bytes.
    Text(i128),
}
