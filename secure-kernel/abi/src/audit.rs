//! The audit ring: records that the hypervisor writes and the audit app reads, in one memory area that the
//! secure partition sees read only. The oldest record is overwritten; the gap in the sequence numbers tells how many.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The whole ring's size in bytes: one [`RingHeader`] in the place of record 0, then the records.
pub const RING_BYTES: usize = 64 * 1024;
/// How many records the ring holds. Record `seq` lies in place `1 + seq % RING_RECORDS`.
pub const RING_RECORDS: usize = RING_BYTES / size_of::<Record>() - 1;

/// First 128 bytes of the ring.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingHeader {
    /// [`RING_MAGIC`].
    pub magic: u32,
    /// Layout version, 1.
    pub version: u32,
    /// The sequence number that the next record will get; all lower ones were written.
    pub next_seq: u64,
    /// How many events were counted, records and repeats together.
    pub events: u64,
    /// No event is added to a record that is older than this many ticks.
    pub window_ticks: u64,
    /// Zero.
    pub reserved: [u64; 12],
}

/// "BHAR", little-endian.
pub const RING_MAGIC: u32 = 0x5241_4842;

/// One event, or a run of like events (same subject, object, method, phase, verdict, reason and rule, at once after each other).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// Sequence number from 0. Written last; a reader that sees another number here than it expects was overtaken.
    pub seq: u64,
    /// CNTVCT at the first event.
    pub time_ticks: u64,
    /// CNTVCT at the last event of the run.
    pub last_ticks: u64,
    /// How many events this record stands for, at least 1.
    pub count: u64,
    /// The guest's program counter at the first event, 0 if not from the guest.
    pub pc: u64,
    /// Who.
    pub subject: u16,
    /// To what.
    pub object: u16,
    /// Which method (for a kind other than [`Kind::Call`]: 0).
    pub method: u16,
    /// The rule that decided, 0xffff for none.
    pub rule: u16,
    /// [`Kind`].
    pub kind: u8,
    /// `bulkhead_model::Phase`.
    pub phase: u8,
    /// 1 allowed, 0 refused.
    pub allowed: u8,
    /// `bulkhead_model::Reason`.
    pub reason: u8,
    /// How many of `args` are in use.
    pub len: u8,
    /// Bit i set: argument i is not recorded: it is secret, or the rule's profile leaves it out.
    pub redacted: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// The arguments of the first event.
    pub args: [u64; 6],
    /// Zero.
    pub reserved_tail: [u64; 3],
}

const _: () = assert!(size_of::<Record>() == 128 && size_of::<RingHeader>() == 128);

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A call that the monitor judged.
    Call = 0,
    /// A task of the secure side started (args: restart count).
    TaskStart = 1,
    /// A task faulted (args: ESR, faulting address).
    TaskFault = 2,
    /// A task was given up after too many restarts (args: restart count).
    TaskGivenUp = 3,
    /// The guest was started or restarted (args: how often).
    GuestStart = 4,
    /// The guest stopped (args: cause).
    GuestStop = 5,
    /// A call of the guest was not finished within its limit (args: token).
    CallTimedOut = 6,
    /// The secure kernel halted (args: code, address).
    KernelFatal = 7,
    /// The guest did something no call describes (args: ESR_EL2, FAR_EL2, HPFAR_EL2).
    GuestFault = 8,
    /// The policy in force has a grant that can undo the wall (args: which, from 0).
    Grant = 9,
}

impl Kind {
    /// Reads a number from a record; `None` for an unknown one.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            0 => Self::Call,
            1 => Self::TaskStart,
            2 => Self::TaskFault,
            3 => Self::TaskGivenUp,
            4 => Self::GuestStart,
            5 => Self::GuestStop,
            6 => Self::CallTimedOut,
            7 => Self::KernelFatal,
            8 => Self::GuestFault,
            9 => Self::Grant,
            _ => return None,
        })
    }
}
