//! The site's numbers that the wall keeps to.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Times and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// Period of the secure partition's share, in microseconds.
    pub period_us: u64,
    /// How much of each period it may take by itself.
    pub budget_us: u64,
    /// Longest time that one call of the guest may take.
    pub call_limit_us: u64,
    /// After this many restarts of the guest a further one stops the machine; 0: no limit.
    pub restart_limit: u64,
}
