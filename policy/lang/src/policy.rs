//! A policy after checking: names are numbers, fields have ranges. What the compiler and the interpreter both start from.

use crate::diagnostic::Span;
use crate::tree::{self, Constant, Set};

/// A closed range of values.
pub type Values = (i128, i128);

/// The whole policy.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Subjects: guest, kernel, then the apps.
    pub subjects: Vec<String>,
    /// Objects: the wall's own, then services and devices.
    pub objects: Vec<Object>,
    /// Named sets.
    pub sets: Vec<(String, Vec<(Constant, Constant)>)>,
    /// Rules in the order of the text.
    pub rules: Vec<Rule>,
    /// Devices that apps serve.
    pub devices: Vec<Device>,
    /// Resources that the guest may use.
    pub resources: Vec<Resource>,
    /// Resources that apps drive, with the app's subject.
    pub driven: Vec<(u16, Resource)>,
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
    /// What it takes.
    pub arguments: Vec<Field>,
    /// What it answers.
    pub replies: Vec<Field>,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The values that fit.
    pub range: Values,
    /// The values of its type.
    pub kind: Values,
    /// Words that stand for values from 0 on.
    pub words: Vec<String>,
    /// Never recorded.
    pub is_secret: bool,
}

/// A rule on methods.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `allow`, not `deny`.
    pub is_allow: bool,
    /// Who.
    pub subject: u16,
    /// To what: object and method.
    pub targets: Vec<(u16, u16)>,
    /// Under which condition.
    pub condition: Option<tree::Condition>,
    /// Allowed calls are recorded.
    pub audit: bool,
    /// The reason, for people.
    pub because: Option<String>,
    /// Where it stands.
    pub span: Span,
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
    /// First address that the guest sees.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// INTID.
    pub interrupt: Option<u32>,
}

/// A piece of the machine that is the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// INTID.
    pub interrupt: Option<u32>,
}

impl Field {
    /// Whether values are compared as signed numbers.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.kind.0 < 0
    }

    /// The value of a constant where this field is meant.
    #[must_use]
    pub fn constant(&self, constant: &Constant) -> Option<i128> {
        match constant {
            Constant::Number(value, _) => Some(*value),
            Constant::Word(name) => {
                self.words.iter().position(|word| *word == name.text).and_then(|at| at.try_into().ok())
            }
        }
    }
}

impl Policy {
    /// A method, by numbers.
    #[must_use]
    pub fn method(&self, object: u16, method: u16) -> Option<&Method> {
        self.objects.get(usize::from(object))?.methods.get(usize::from(method))
    }

    /// The ranges of a set, as written.
    #[must_use]
    pub fn set<'a>(&'a self, set: &'a Set) -> Option<&'a [(Constant, Constant)]> {
        match set {
            Set::Ranges(ranges) => Some(ranges),
            Set::Named(name) => {
                self.sets.iter().find(|(known, _)| *known == name.text).map(|(_, ranges)| ranges.as_slice())
            }
        }
    }
}
