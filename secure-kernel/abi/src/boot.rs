//! What the secure kernel finds in the first 64 KiB of its memory: the bundle's manifest, resolved to numbers and
//! addresses. The host's bundle builder writes it (addresses relative to [`crate::wall::SECURE_IPA`]); the loader only
//! copies it and fills [`BootInfo::memory_bytes`], [`BootInfo::guest_ranges`] and [`BootInfo::counter_hz`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHBI", little-endian.
pub const BOOT_MAGIC: u32 = 0x4942_4842;
/// Layout version.
pub const BOOT_VERSION: u32 = 1;
/// The most apps a bundle holds.
pub const MAX_APPS: usize = 16;
/// The most objects one app may call.
pub const MAX_CAPS: usize = 16;
/// The most ranges of guest memory.
pub const MAX_GUEST_RANGES: usize = 4;
/// The most virtual interrupts one app may raise.
pub const MAX_APP_IRQS: usize = 4;

/// The whole: fits in the first 64 KiB of the secure partition.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u32,
    /// [`BOOT_VERSION`].
    pub version: u32,
    /// How much memory the partition has, from [`crate::wall::SECURE_IPA`], in bytes. Loader.
    pub memory_bytes: u64,
    /// First byte after all images: memory from here on is free. Page-aligned offset.
    pub free_offset: u64,
    /// The compiled policy's place (page-aligned offset) and length in bytes.
    pub policy_offset: u64,
    /// Length of the compiled policy in bytes.
    pub policy_bytes: u64,
    /// Ticks a second of CNTVCT. Loader.
    pub counter_hz: u64,
    /// How many of `apps` are in use.
    pub app_count: u32,
    /// How many of `guest_ranges` are in use. Loader.
    pub guest_range_count: u32,
    /// Guest memory, in the guest's own addresses. Loader.
    pub guest_ranges: [Range; MAX_GUEST_RANGES],
    /// The apps, highest start order first.
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
    /// Where its flat image starts (page-aligned offset); text, rodata and data follow each other, each a multiple of 4 KiB.
    pub image_offset: u64,
    /// Executable part in bytes (multiple of 4 KiB), mapped at [`crate::wall::APP_VA`].
    pub text_bytes: u64,
    /// Read-only part.
    pub rodata_bytes: u64,
    /// Initialised data; copied at each start.
    pub data_bytes: u64,
    /// Zeroed data after it.
    pub bss_bytes: u64,
    /// Stack.
    pub stack_bytes: u64,
    /// Entry, EL0 virtual address.
    pub entry: u64,
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
    /// What it may call, as its own subject.
    pub caps: [Capability; MAX_CAPS],
    /// A device the guest sees at this address, all of whose accesses go to this app as calls to `serves`; 0 bytes: none.
    pub device: Range,
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
    /// Maps the compiled policy, read only, at `wall::APP_POLICY_VA`.
    pub const POLICY: u32 = 1 << 3;
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
