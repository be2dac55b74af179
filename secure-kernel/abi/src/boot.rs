//! What the secure kernel finds in the first 64 KiB of its memory: the bundle's manifest, resolved to numbers and
//! addresses. The host's bundle builder writes it, and with it every translation table of the partition: addresses there
//! are fixed when the bundle is built. The loader only copies it and fills what is marked so.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHBI", little-endian.
pub const BOOT_MAGIC: u32 = 0x4942_4842;
/// Layout version.
pub const BOOT_VERSION: u32 = 3;
/// The most apps a bundle holds.
pub const MAX_APPS: usize = 16;
/// The most objects one app may call.
pub const MAX_CAPS: usize = 16;
/// The most ranges of guest memory.
pub const MAX_GUEST_RANGES: usize = 8;
/// The most virtual interrupts one app may raise.
pub const MAX_APP_IRQS: usize = 4;

/// The most devices that one app drives by registers in memory, and by ports.
pub const MAX_APP_DEVICES: usize = 2;

/// The whole: fits in the first 64 KiB of the secure partition.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u32,
    /// [`BOOT_VERSION`].
    pub version: u32,
    /// How much memory the partition has, from [`crate::wall::SECURE_IPA`], in bytes.
    pub memory_bytes: u64,
    /// The kernel's translation table (TTBR1_EL1; CR3), an address of the partition.
    pub kernel_root: u64,
    /// Length of the compiled policy in bytes.
    pub policy_bytes: u64,
    /// How many of `apps` are in use.
    pub app_count: u32,
    /// How many of `guest_ranges` are in use. Loader.
    pub guest_range_count: u32,
    /// Ticks of the counter that all times are told in, in a second (AArch64: CNTFRQ; x86-64: of the TSC). Loader.
    pub ticks_per_second: u64,
    /// The seconds of the epoch (1970, UTC) at which the counter was 0; 0 where the loader knows no time of day. Loader.
    pub boot_seconds: u64,
    /// x86-64: 1 if the wall is called by VMMCALL (SVM), 0 if by VMCALL (VMX). Loader.
    pub is_svm: u32,
    /// Zero.
    pub reserved: u32,
    /// Guest memory, in the guest's own addresses. Loader.
    pub guest_ranges: [Range; MAX_GUEST_RANGES],
    /// The apps, highest priority first; each is started with its place here as its entry's argument.
    pub apps: [AppInfo; MAX_APPS],
}

const _: () = assert!(size_of::<BootInfo>() <= 0x1_0000);

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// One app.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AppInfo {
    /// Name, padded with zeros.
    pub name: [u8; 16],
    /// Its translation table (TTBR0_EL1 with its ASID; CR3), an address of the partition.
    pub root: u64,
    /// Entry, a virtual address of its own.
    pub entry: u64,
    /// Where its initialised data is kept pristine (offset in the partition, page-aligned).
    pub data_from: u64,
    /// Where it is copied at each start (offset).
    pub data_to: u64,
    /// Length of the initialised data.
    pub data_bytes: u64,
    /// Zeroed data and stack, zeroed at each start (offset).
    pub zero_at: u64,
    /// Their length in bytes.
    pub zero_bytes: u64,
    /// CPU time a period in microseconds; 0: no limit of its own.
    pub budget_us: u32,
    /// The budget's period in microseconds.
    pub period_us: u32,
    /// How often the kernel starts it again after a fault before it gives up.
    pub restart_limit: u32,
    /// [`flags`].
    pub flags: u32,
    /// Its subject id in the compiled policy.
    pub subject: u16,
    /// The object it serves; [`NO_OBJECT`] if none.
    pub serves: u16,
    /// 0 is the highest priority.
    pub priority: u8,
    /// How many of `caps` are in use.
    pub cap_count: u8,
    /// How many of `irqs` are in use.
    pub irq_count: u8,
    /// Zero.
    pub reserved: u8,
    /// Guest interrupts it may raise.
    pub irqs: [u32; MAX_APP_IRQS],
    /// Interrupts of the machine's devices that it drives; 0 where unused.
    pub device_irqs: [u32; MAX_APP_DEVICES],
    /// The registers of those devices, which appear at [`crate::wall::DEVICE_WINDOW`]; 0 bytes where unused.
    pub devices: [Range; MAX_APP_DEVICES],
    /// x86-64: the ports of such devices; 0 bytes where unused.
    pub ports: [Range; MAX_APP_DEVICES],
    /// What it may call, as its own subject.
    pub caps: [Capability; MAX_CAPS],
}

/// [`AppInfo::serves`] of an app that offers nothing.
pub const NO_OBJECT: u16 = 0xffff;

/// Bits of [`AppInfo::flags`].
pub mod flags {
    /// Maps guest memory at `wall::GUEST_WINDOW`.
    pub const GUEST_MEMORY: u32 = 1 << 0;
    /// May call with the guest as subject.
    pub const SPEAKS_FOR_GUEST: u32 = 1 << 1;
    /// Maps the audit ring, read only, at `wall::AUDIT_RING`.
    pub const AUDIT: u32 = 1 << 2;
    /// maps the compiled policy, read only, at `wall::POLICY`.
    pub const POLICY: u32 = 1 << 3;
    /// What it serves is a device of the guest's.
    pub const DEVICE: u32 = 1 << 4;
    /// The device's registers are ports.
    pub const DEVICE_PORTS: u32 = 1 << 5;
    /// The device is a PCI function.
    pub const DEVICE_PCI: u32 = 1 << 6;
}

/// The static part of the policy towards one object: who is named here may be asked about; who is not, is refused
/// after the monitor has recorded it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Capability {
    /// The object.
    pub object: u16,
    /// Zero.
    pub reserved: [u16; 3],
    /// Bit m: method m is always allowed in both directions, without condition, state or audit.
    pub open_methods: u64,
}
