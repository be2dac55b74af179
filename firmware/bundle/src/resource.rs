//! What of the machine the policy gives to the guest, as the bundle's builder wrote it down.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One range of registers, with its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resource {
    /// [`ResourceKind`].
    pub kind: u32,
    /// INTID, 0 if none.
    pub intid: u32,
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// For a served device: its object in the policy.
    pub object: u64,
}

/// Kinds of [`Resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ResourceKind {
    /// Registers of the real machine that the guest uses without an exit.
    Passthrough = 1,
    /// Registers that exist for the guest only: an app answers each access.
    Served = 2,
    /// Registers of the real machine that an app drives.
    Driven = 3,
}
