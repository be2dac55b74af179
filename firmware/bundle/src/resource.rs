//! What of the machine the policy gives to the guest, as the bundle's builder wrote it down.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One range of the machine, with its interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Resource {
    /// [`ResourceKind`].
    pub kind: u32,
    /// INTID (x86-64: line of the interrupt controllers), 0 if none.
    pub intid: u32,
    /// The first address, port or model-specific register.
    pub base: u64,
    /// Length in bytes; how many ports or registers.
    pub bytes: u64,
    /// For a served device: its object in the policy. For what an app drives: its subject.
    pub object: u16,
    /// For a served device that is a PCI function: bus << 8 | device << 3 | function; else 0.
    pub function: u16,
    /// For a served device that is a PCI function: the I/O APIC's pin, where that is not `intid`; else 0.
    pub pin: u32,
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
    /// I/O ports of the real machine that the guest uses without an exit.
    Ports = 4,
    /// Model-specific registers that the guest reads and writes without an exit.
    Msrs = 5,
    /// Model-specific registers that the guest reads without an exit.
    MsrsReadOnly = 6,
    /// Memory of the real machine that the guest reads and executes.
    ReadOnly = 7,
    /// I/O ports of the real machine that an app drives.
    AppPorts = 8,
    /// Ports that exist for the guest only, of a PCI function or of their own: an app answers each access.
    ServedPorts = 9,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Passthrough,
        Self::Served,
        Self::Driven,
        Self::Ports,
        Self::Msrs,
        Self::MsrsReadOnly,
        Self::ReadOnly,
        Self::AppPorts,
        Self::ServedPorts,
    ];

    /// What they are called in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passthrough => "ranges of the guest's memory-mapped registers",
            Self::Served | Self::ServedPorts => "devices that apps serve",
            Self::Driven => "ranges of apps' memory-mapped registers",
            Self::Ports => "ranges of the guest's ports",
            Self::Msrs | Self::MsrsReadOnly => "ranges of the guest's model-specific registers",
            Self::ReadOnly => "ranges of the guest's read-only memory",
            Self::AppPorts => "ranges of apps' ports",
        }
    }
}
