//! The [`MachinePlan`]: all that the hypervisor learns about the machine, in one structure that the loader fills and
//! the hypervisor validates once. After that nothing is parsed again.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHMP", little-endian.
pub const PLAN_MAGIC: u32 = 0x504d_4842;
/// Layout version.
pub const PLAN_VERSION: u32 = 1;
/// The most ranges in each list.
pub const MAX_RANGES: usize = 8;
/// The most interrupts in each list.
pub const MAX_INTERRUPTS: usize = 32;

/// A range of host-physical addresses (equal to guest-physical ones: the guest is identity-mapped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Length in bytes; 0 where the entry is unused.
    pub bytes: u64,
}

/// A part of the guest's start image in the store: where it lies and where it goes at each (re)start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StoredPart {
    /// Where the part lies in the store (inside [`MachinePlan::store`]).
    pub stored: Range,
    /// Where it goes in guest memory, and its length there.
    pub target: Range,
    /// 0: plain copy; 1: raw deflate stream (RFC 1951) that yields exactly `target.bytes`.
    pub encoding: u64,
}

/// Kinds of console the wall writes to.
pub mod console {
    /// None: the wall is silent.
    pub const NONE: u32 = 0;
    /// The emergency-write register of a virtio console (virtio 1.2 §5.3.4): 32-bit writes to `console.base + 0x108`.
    pub const VIRTIO_EMERGENCY: u32 = 1;
    /// A PL011 UART, shared with the guest if the policy gives it the same one.
    pub const PL011: u32 = 2;
}

/// The guest device that an app serves: accesses to it become calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Device {
    /// Where the guest sees it; never mapped at stage 2.
    pub range: Range,
    /// The object in the compiled policy: method 0 is read(offset, size) -> value, method 1 write(offset, size, value).
    pub object: u16,
    /// Zero.
    pub reserved: u16,
    /// Its interrupt (INTID), 0 if none.
    pub intid: u32,
}

/// All of it. `#[repr(C)]`, little-endian, no padding.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachinePlan {
    /// [`PLAN_MAGIC`].
    pub magic: u32,
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Everything that is taken from the guest: 2 MiB-aligned, holds all of the next five.
    pub taken: Range,
    /// The hypervisor's image with its zeroed data and stacks, page-aligned.
    pub image: Range,
    /// Executable part of the image (from its start), page multiple.
    pub image_text_bytes: u64,
    /// Read-only part after it, page multiple.
    pub image_rodata_bytes: u64,
    /// The compiled policy, page-aligned base.
    pub policy: Range,
    /// Length of the compiled policy in bytes; `policy` is its pages.
    pub policy_bytes: u64,
    /// The guest's start image, page-aligned.
    pub store: Range,
    /// The audit ring (64 KiB, page-aligned).
    pub audit: Range,
    /// The secure partition's memory, 2 MiB-aligned.
    pub secure: Range,
    /// TTBR1_EL1 of the secure kernel, an address of the partition.
    pub secure_root: u64,
    /// The guest's memory, disjoint, 2 MiB-aligned, all outside `taken`.
    pub guest_ram: [Range; MAX_RANGES],
    /// MMIO ranges that the policy opens to the guest, page-aligned.
    pub guest_mmio: [Range; MAX_RANGES],
    /// Physical interrupts (SPIs, INTID 32 and up) that the policy gives to the guest; 0 where unused.
    pub guest_interrupts: [u32; MAX_INTERRUPTS],
    /// Devices that apps serve to the guest.
    pub devices: [Device; 4],
    /// Parts copied to guest memory at each (re)start; unused ones have `target.bytes == 0`.
    pub parts: [StoredPart; 4],
    /// Where the guest starts (in guest RAM), x0 = `guest_dtb`.
    pub guest_entry: u64,
    /// The device tree's address in guest memory, given in x0.
    pub guest_dtb: u64,
    /// GIC distributor (64 KiB).
    pub gicd: Range,
    /// GIC redistributors (128 KiB a CPU).
    pub gicr: Range,
    /// How many CPUs the machine has (only the boot CPU is used).
    pub cpu_count: u32,
    /// INTID of the hypervisor's physical timer (PPI, 26).
    pub timer_intid: u32,
    /// INTID of the guest's virtual timer (PPI, 27).
    pub guest_timer_intid: u32,
    /// `console::*`.
    pub console_kind: u32,
    /// The console's registers.
    pub console: Range,
    /// Secure partition: period, share of it, and limit of one call of the guest, in microseconds.
    pub period_us: u64,
    /// Share of each period that the secure partition may take by itself.
    pub budget_us: u64,
    /// Longest time one guest call may take.
    pub call_limit_us: u64,
    /// What a guest's SYSTEM_OFF (low byte) and SYSTEM_RESET (second byte) do: 0 stop the machine, 1 restart the guest, 2 hold the guest and let the secure side run on.
    pub on_guest_end: u64,
    /// After this many restarts a further one stops the machine; 0: no limit.
    pub restart_limit: u64,
    /// Where the real PSCI conduit is: 1 SMC (only used to power the machine off), 0 none.
    pub psci_smc: u64,
}
