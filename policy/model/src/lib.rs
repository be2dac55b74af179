//! The compiled policy: one flat, versioned, little-endian table. It is checked once when it is loaded (`Policy::verify`:
//! every index, every bound), then opened ([`Policy::open`]) and used in place, without allocation.
//!
//! Who may do what is found in two steps: (subject, object) gives a row of cells, the method picks the cell, and the cell
//! names its rules. Neighbours: `policy/monitor` evaluates, `policy/lang` writes.
#![cfg_attr(not(feature = "build"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
pub mod code;
#[cfg(feature = "names")]
mod names;
mod table;
#[cfg(feature = "names")]
mod values;
#[cfg(feature = "verify")]
mod verify;
mod view;

#[cfg(feature = "names")]
pub use names::Told;
pub use table::{
    Cell, Field, FlowState, Header, Index, Interval, Label, MAGIC, Method, Object, Row, Source, State, Test, Text,
    VERSION,
};
#[cfg(feature = "names")]
pub use values::{Step, Values, form};
pub use view::{FormatError, Policy};

/// The most arguments a call carries.
pub const MAX_ARGS: usize = 6;
/// The most grants that can undo the wall: each is recorded at the start, and they take no more than half of the trail.
pub const MAX_GRANTS: u32 = 255;
/// No rule, no server, no row.
pub const NONE: u16 = 0xffff;

/// No rule, where rules are numbered.
pub const NO_RULE: u32 = u32::MAX;

/// Kinds of state ([`State::kind`]). An instance's words are all zero at the start.
pub mod kind {
    /// One number: word 0, less its start.
    pub const COUNTER: u32 = 0;
    /// Word 0: the state; word 1: when it was entered, in microseconds and 1; then the values it holds.
    pub const FLOW: u32 = 1;
    /// Word 0: when it was started, in microseconds and 1.
    pub const TIMER: u32 = 2;
    /// A window: word 0 the oldest of the times after it, in microseconds and 1. A bucket: word 0 when it is full again.
    pub const RATE: u32 = 3;
    /// Word 0: how many; then the values.
    pub const SET: u32 = 4;
    /// Two halves, the one that is committed and the working one. Each: word 0 how many, then keys and values in turn.
    pub const MAP: u32 = 5;
}

/// Subjects that every policy has; apps follow in the order of their declaration.
pub mod subject {
    /// The legacy partition.
    pub const GUEST: u16 = 0;
    /// The secure kernel.
    pub const KERNEL: u16 = 1;
}

/// Objects that every policy has; services and devices follow in the order of their declaration.
pub mod object {
    /// Power calls.
    pub const PSCI: u16 = 0;
    /// System registers: method 0 reads (encoding), 1 writes (encoding, value).
    pub const SYSREG: u16 = 1;
    /// Memory that is mapped for nobody: method 0 reads (address, size), 1 writes (address, size, value).
    pub const MMIO: u16 = 2;
    /// Tasks: method 0 starts (subject).
    pub const TASK: u16 = 3;
    /// What happens to the guest and the wall: for rules that observe it.
    pub const LIFE: u16 = 4;
    /// The time of day: method 0 sets it (seconds).
    pub const TIME: u16 = 5;
    /// I/O ports (x86-64): method 0 reads (port, size), 1 writes (port, size, value).
    pub const PORT: u16 = 6;
    /// Model-specific registers (x86-64): method 0 reads (index), 1 writes (index, value).
    pub const MSR: u16 = 7;
    /// CPUID (x86-64): method 0 reads (leaf, subleaf).
    pub const CPUID: u16 = 8;
    /// PCI configuration space: method 0 reads (function, register, size), 1 writes (function, register, size, value).
    /// A function is bus << 8 | device << 3 | function.
    pub const PCI: u16 = 9;
    /// The machine's power where no PSCI is (x86-64): method 0 switches off, 1 resets.
    pub const POWER: u16 = 10;
}

/// Kinds of machine that a table is for.
pub mod machine {
    /// Whichever.
    pub const ANY: u32 = 0;
    /// AArch64.
    pub const AARCH64: u32 = 1;
    /// x86-64.
    pub const X86_64: u32 = 2;
}

/// Methods of the objects that every policy has, as `policy/lang/src/builtin.policy` declares them.
pub mod method {
    /// Methods of [`super::object::PSCI`] (Arm DEN 0022, DEN 0028).
    pub mod psci {
        /// PSCI_VERSION.
        pub const VERSION: u16 = 0;
        /// PSCI_FEATURES (function).
        pub const FEATURES: u16 = 1;
        /// MIGRATE_INFO_TYPE.
        pub const MIGRATE_INFO_TYPE: u16 = 2;
        /// SYSTEM_OFF.
        pub const OFF: u16 = 3;
        /// SYSTEM_RESET.
        pub const RESET: u16 = 4;
        /// CPU_ON (target, entry, context).
        pub const CPU_ON: u16 = 5;
        /// SMCCC_VERSION.
        pub const SMCCC_VERSION: u16 = 6;
        /// Any other function (id).
        pub const OTHER: u16 = 7;
    }
    /// Methods of [`super::object::SYSREG`], [`super::object::MMIO`] and every device: reads.
    pub const READ: u16 = 0;
    /// As [`READ`]: writes.
    pub const WRITE: u16 = 1;
    /// Method of [`super::object::TASK`]: starts.
    pub const START: u16 = 0;
    /// Method of [`super::object::POWER`]: off.
    pub const POWER_OFF: u16 = 0;
    /// As [`POWER_OFF`]: reset.
    pub const POWER_RESET: u16 = 1;
    /// Method of [`super::object::LIFE`]: the guest is started, at first and again.
    pub const GUEST_START: u16 = 0;
    /// As [`GUEST_START`]: the wall is up, and nothing else runs yet.
    pub const BOOT: u16 = 1;
    /// As [`BOOT`], right after it: the policy is not known to be that of the last start.
    pub const POLICY_SWAP: u16 = 2;
    /// Method of [`super::object::TIME`]: an app that drives a clock tells the time.
    pub const SET_TIME: u16 = 0;
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// A request: rules decide.
    Request = 0,
    /// The reply to an allowed request: it must fit the interface.
    Reply = 1,
    /// The error reply to an allowed request.
    Error = 2,
    /// What an app asks about a call of its own making: rules decide, in the cells of requests.
    Question = 4,
}

/// Why a call was allowed or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A rule allows it.
    Allowed = 0,
    /// No rule names it, or no rule's condition holds.
    NoRule = 1,
    /// A rule denies it.
    DeniedByRule = 2,
    /// It does not fit its interface.
    Malformed = 3,
    /// No such subject or object.
    UnknownObject = 4,
    /// No such method.
    UnknownMethod = 5,
    /// A rule's expression has no value: refused, whatever other rules say.
    Failed = 6,
    /// A rule would allow it, but not so often.
    Rate = 7,
}

impl Reason {
    /// Reads a number that [`Reason`] has; another one is a refusal without a rule.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            0 => Self::Allowed,
            2 => Self::DeniedByRule,
            3 => Self::Malformed,
            4 => Self::UnknownObject,
            5 => Self::UnknownMethod,
            6 => Self::Failed,
            7 => Self::Rate,
            _ => Self::NoRule,
        }
    }

    /// The word that users see.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::NoRule => "no rule",
            Self::DeniedByRule => "denied by rule",
            Self::Malformed => "malformed",
            Self::UnknownObject => "unknown object",
            Self::UnknownMethod => "unknown method",
            Self::Failed => "an expression failed",
            Self::Rate => "too often",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn a_reason_is_read_back_from_its_number_and_what_is_none_is_a_refusal() {
        let words = [
            (Reason::Allowed, "allowed"),
            (Reason::NoRule, "no rule"),
            (Reason::DeniedByRule, "denied by rule"),
            (Reason::Malformed, "malformed"),
            (Reason::UnknownObject, "unknown object"),
            (Reason::UnknownMethod, "unknown method"),
            (Reason::Failed, "an expression failed"),
            (Reason::Rate, "too often"),
        ];
        for ((reason, word), number) in words.into_iter().zip(0..) {
            assert_eq!((reason as u8, Reason::from_raw(number), reason.word()), (number, reason, word));
        }
        assert_eq!([8, 255].map(Reason::from_raw), [Reason::NoRule; 2]);
    }
}
