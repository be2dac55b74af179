//! The rows of the table. All are plain old data; sections follow the header in the order of its counts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHPL", little-endian.
pub const MAGIC: u32 = 0x4c50_4842;
/// Layout version.
pub const VERSION: u32 = 1;

/// The first bytes. Each count is that of a section's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// Length of the whole, in bytes.
    pub total_bytes: u32,
    /// Fields of all methods ([`Field`]).
    pub fields: u32,
    /// Range tests of all rules ([`Condition`]).
    pub conditions: u32,
    /// [`Rule`]s.
    pub rules: u32,
    /// [`Object`]s.
    pub objects: u32,
    /// [`Method`]s of all objects.
    pub methods: u32,
    /// [`Cell`]s.
    pub cells: u32,
    /// Subjects: a [`Text`] each.
    pub subjects: u32,
    /// Rule numbers that cells point to (u32 each).
    pub references: u32,
    /// Bytes of text.
    pub text_bytes: u32,
}

/// A piece of the text section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Text {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub bytes: u32,
}

/// An argument or a reply's value: an integer in a range. Values of signed fields are compared as signed numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Field {
    /// Lowest value.
    pub min: u64,
    /// Highest value.
    pub max: u64,
    /// Name.
    pub name: Text,
    /// 1: signed.
    pub signed: u32,
    /// 1: never recorded.
    pub secret: u32,
}

/// A test of one argument: inside (or outside) a range, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Condition {
    /// Lowest value.
    pub min: u64,
    /// Highest value.
    pub max: u64,
    /// Which argument.
    pub argument: u16,
    /// 1: signed comparison.
    pub signed: u16,
    /// 1: the test holds outside the range.
    pub outside: u32,
}

/// A rule: it matches when all its tests hold. A text rule with `or` becomes several of these with one `source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// First test.
    pub first_condition: u32,
    /// How many tests.
    pub condition_count: u16,
    /// 1: deny.
    pub deny: u8,
    /// 1: record calls that it allows.
    pub audit: u8,
    /// The file it was written in.
    pub file: Text,
    /// The line.
    pub line: u32,
    /// The number that users see: of the rule in the text.
    pub source: u32,
}

/// A service, a device, or a built-in object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Object {
    /// Name; empty for a number that is not in use.
    pub name: Text,
    /// First method.
    pub first_method: u32,
    /// How many methods.
    pub method_count: u16,
    /// The subject that serves it, [`crate::NONE`] for a built-in.
    pub server: u16,
}

/// A method of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Method {
    /// Name.
    pub name: Text,
    /// First field: the request's, then the reply's.
    pub first_field: u32,
    /// How many arguments.
    pub arguments: u16,
    /// How many reply values.
    pub replies: u16,
}

/// What the rules say of one subject, object and method. Cell `subject * methods + method` (over all methods).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cell {
    /// First reference to a rule; denying rules come first.
    pub first_reference: u32,
    /// How many.
    pub reference_count: u32,
}
