//! The rows of the table. All are plain old data; sections follow the header in the order of its counts. Sections whose rows
//! hold 64-bit numbers come first, so that every row is aligned.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHPL", little-endian.
pub const MAGIC: u32 = 0x4c50_4842;
/// Layout version.
pub const VERSION: u32 = 5;

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
    /// Words of state (u64 each) that the policy needs; all zero at the start.
    pub state_words: u32,
    /// Fields of all methods ([`Field`]).
    pub fields: u32,
    /// Numbers that do not fit elsewhere (u64 each).
    pub numbers: u32,
    /// State objects ([`State`]).
    pub states: u32,
    /// States of flows ([`FlowState`]).
    pub flow_states: u32,
    /// Where cells look first ([`Index`]).
    pub indexes: u32,
    /// Words of all rows (u32 each): a [`Row`], then its [`Test`]s.
    pub rows: u32,
    /// Rules as users number them ([`Source`]).
    pub sources: u32,
    /// [`Object`]s.
    pub objects: u32,
    /// [`Method`]s of all objects.
    pub methods: u32,
    /// [`Cell`]s: one for each subject and method; three if [`Header::phases`] says so.
    pub cells: u32,
    /// Places of rows that cells point to (u32 each).
    pub references: u32,
    /// Intervals of indexes ([`Interval`]).
    pub intervals: u32,
    /// Buckets of indexes (u32 each).
    pub buckets: u32,
    /// Subjects: a [`Text`] each.
    pub subjects: u32,
    /// Files of the text: a [`Text`] each.
    pub files: u32,
    /// What is told of rules ([`Label`]).
    pub labels: u32,
    /// Instructions ([`crate::code`], u32 each).
    pub code: u32,
    /// Bytes of text.
    pub text_bytes: u32,
    /// 1: rules are about requests only; 3: about replies and errors too.
    pub phases: u32,
    /// The kind of machine that it was compiled for ([`crate::machine`]).
    pub machine: u32,
    /// How far the site's local time is ahead of UTC, in seconds.
    pub zone: i32,
    /// How many of the sources, the last ones, are no rules but grants that can undo the wall; at most [`crate::MAX_GRANTS`].
    pub grants: u32,
    /// Which of its name the policy is: a machine that remembers takes none that is older.
    pub revision: u64,
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
    pub signed: u8,
    /// 1: never recorded.
    pub secret: u8,
    /// [`Field::ALWAYS`], [`Field::ABOVE`], [`Field::BYTES`].
    pub presence: u8,
    /// The value of the same message that says whether this one is there: a length, or a 1 for present.
    pub guard: u8,
    /// It is there if that value is above this one.
    pub above: u8,
    /// Zero.
    pub reserved: u8,
    /// How people write its values: a [`Label`] of a form and words, from 1 on; 0 for a plain number.
    pub label: u16,
}

impl Field {
    /// It is there in every message.
    pub const ALWAYS: u8 = 0;
    /// It is there if its guard is above [`Field::above`]; else it is zero.
    pub const ABOVE: u8 = 1;
    /// Eight bytes of a text, the first of them in the highest bits, from byte [`Field::above`] on; those at and beyond the
    /// length, which is its guard, are zero.
    pub const BYTES: u8 = 2;
}

/// A test of one argument: inside a range, both ends included. Signed and unsigned values are tested alike: a value is inside
/// if it is at most the range's span above its lowest value, counted modulo 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Test {
    /// Lowest value, or where it and the span stand in the numbers.
    pub low: i32,
    /// Highest value less lowest.
    pub span: u32,
    /// Which argument.
    pub argument: u16,
    /// 1: both stand in the numbers, from `low` on.
    pub is_wide: u16,
}

/// A rule for one method: it matches when all its tests, which follow it, and its condition hold. A text rule with `or` becomes
/// several of these with one `source`. Its place is that of its first word among the words of all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Row {
    /// The number that users see: of the rule in the text.
    pub source: u32,
    /// First instruction of the rest of its condition, which its effects follow; [`Row::PLAIN`] without either.
    pub code: u32,
    /// How many tests.
    pub test_count: u16,
    /// [`Row::DENY`], [`Row::AUDIT`], [`Row::EFFECTS`].
    pub flags: u16,
}

impl Row {
    /// No instructions.
    pub const PLAIN: u32 = u32::MAX;
    /// Flag: it refuses.
    pub const DENY: u16 = 1;
    /// Flag: what it decides is recorded, unless its condition ends with 2.
    pub const AUDIT: u16 = 2;
    /// Flag: effects follow the condition.
    pub const EFFECTS: u16 = 4;
    /// From this bit on: words of the message that are left out of the record.
    pub const LEFT_OUT: u16 = 8;

    /// Whether it refuses.
    #[must_use]
    #[inline(always)]
    pub const fn is_deny(&self) -> bool {
        self.flags & Self::DENY != 0
    }
}

/// A rule of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Source {
    /// Its file's number << 24 | its line.
    pub place: u32,
    /// Its [`Label`], from 1 on; 0 for none.
    pub label: u32,
}

/// What people are told of a rule, or how they write a field's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Label {
    /// Its name; empty without one. Of a field: what kind of value it is.
    pub name: Text,
    /// Its reason; empty without one. Values stand in braces, as `Told` writes them. Of a field: the words for its values, or what
    /// one is worth.
    pub because: Text,
    /// 1: who is refused is told the reason.
    pub to_caller: u32,
}

/// A piece of remembered state: `count` instances of `stride` words each, from word `base` of the state on. What an
/// instance is of, its keys say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct State {
    /// Lowest value of each key, as a signed number.
    pub key_low: [i64; 2],
    /// How many values each key has; 1 for a key that is not there.
    pub key_count: [u32; 2],
    /// Counter: lowest value. Rate: how many. Set, map: how many at most. Flow: the first of its states.
    pub low: i64,
    /// Counter: highest value. Rate: microseconds of the window, or for each of a bucket's places. Flow: how many states.
    pub high: i64,
    /// Counter: where it starts. Rate: the burst, 0 for a window.
    pub start: i64,
    /// Name.
    pub name: Text,
    /// First word.
    pub base: u32,
    /// Words an instance.
    pub stride: u32,
    /// One of the kinds of [`crate::kind`].
    pub kind: u32,
    /// How many keys.
    pub keys: u32,
}

/// A state of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowState {
    /// Microseconds after which it is over; 0: never.
    pub lasts: u64,
    /// Bit s: state s may follow.
    pub successors: u32,
    /// The state that it then is.
    pub then: u32,
    /// Name.
    pub name: Text,
}

/// Where a cell with many rows looks first: the value of one argument finds the rows that may match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Index {
    /// The lowest value of the argument (its bits; signed arguments are moved by 2^63).
    pub base: u64,
    /// Which argument.
    pub argument: u16,
    /// Values of one bucket, as a power of two.
    pub shift: u16,
    /// First bucket.
    pub first_bucket: u32,
    /// How many; one more stands after them.
    pub bucket_count: u32,
    /// 1: the argument is signed.
    pub signed: u32,
}

/// The rows that may match from a value on, until the next interval begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Interval {
    /// First value, less the index' base.
    pub start: u32,
    /// The place of the one row; or, with [`Interval::LIST`], that of a reference that counts those after it.
    pub rows: u32,
}

impl Interval {
    /// None or several. Rows are never so far on: a table has less than 2^32 bytes.
    pub const LIST: u32 = 1 << 31;
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
    /// First field: the request's, then the reply's, then the error's.
    pub first_field: u32,
    /// How many arguments.
    pub arguments: u8,
    /// How many reply values.
    pub replies: u8,
    /// [`Method::GUARDS`], [`Method::QUESTION`].
    pub flags: u8,
    /// 1: the interface declares errors, and a field has the words for their numbers.
    pub errors: u8,
}

impl Method {
    /// Flag: whether some of its values are there depends on others.
    pub const GUARDS: u8 = 1;
    /// Flag: nobody calls it; the app that serves the object asks about it.
    pub const QUESTION: u8 = 2;
}

/// What the rules say of one subject, object and method. Cell `subject * methods + method` (over all methods).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cell {
    /// First reference to a row; refusing ones come first.
    pub first_reference: u32,
    /// How many.
    pub reference_count: u32,
    /// Its index; [`Cell::PLAIN`] without one.
    pub index: u32,
    /// 1: a row of it has instructions, so that all that match are looked at.
    pub has_code: u32,
}

impl Cell {
    /// No index.
    pub const PLAIN: u32 = u32::MAX;
}
