//! The compiled policy: one flat, versioned, little-endian table. It is checked once when it is taken ([`Policy::verify`]:
//! every index, every bound), then used in place, without allocation.
//!
//! Who may do what is found in two steps: (subject, object) gives a row of cells, the method picks the cell, and the cell
//! names its rules. Neighbours: `policy/monitor` evaluates, `policy/lang` writes.
#![cfg_attr(not(feature = "build"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
mod table;
mod view;

pub use table::{Cell, Condition, Field, Header, MAGIC, Method, Object, Rule, Text, VERSION};
pub use view::{FormatError, Policy};

/// The most arguments a call carries.
pub const MAX_ARGS: usize = 6;
/// No rule, no server, no row.
pub const NONE: u16 = 0xffff;

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
        }
    }
}
