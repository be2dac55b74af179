//! The descriptor tables (SDM 3 §3.4.5, §6.14.1, §7.7): flat segments, one task state segment, and gates for exceptions, the
//! virtual interrupt and system calls. The gates are constants, as the stubs lie at fixed addresses: no code changes them.
#![expect(unsafe_code, reason = "the CPU reads these tables, and writes to one of them")]

use core::cell::UnsafeCell;

use bulkhead_abi::boot::AppInfo;
use bulkhead_abi::wall::KERNEL_IMAGE;
use bulkhead_abi::wall::x86_64::{KERNEL_CODE, SYSCALL, VIRTUAL_IRQ};

use super::instr;

/// Where the stub of vector 0 lies in the image; those of the next follow every [`STUB_BYTES`]: exceptions, the virtual interrupt,
/// last the system call.
pub(super) const STUBS: u64 = 0x100;
pub(super) const STUB_BYTES: u64 = 16;

/// What the CPU reads, or writes, behind the compiler's back.
#[repr(C, align(16))]
pub(super) struct Table<T>(UnsafeCell<T>);

// SAFETY: one CPU; `load` writes before any task runs, afterwards only the CPU and the trap entry do.
unsafe impl<T> Sync for Table<T> {}

/// The task state segment: RSP0 at byte 4, IST1 at [`IST1`] (SDM 3 §8.7).
#[repr(C)]
pub(super) struct TaskState {
    words: [u32; 25],
    trap: u16,
    /// Where the bitmap of ports begins. Where that lies beyond the limit a task reaches none (SDM 1 §19.5.2); so it is whenever an
    /// address space is entered, and a task that has ports is given them when it reaches for one.
    pub(super) ports_at: u16,
    /// A bit for each port, clear for those of the task that has them.
    ports: [u8; 0x2000],
    /// The CPU reads two bytes for each access.
    end: u32,
}

pub(super) static TSS: Table<TaskState> =
    Table(UnsafeCell::new(TaskState { words: [0; 25], trap: 0, ports_at: SHUT, ports: [0xff; 0x2000], end: u32::MAX }));
const IST1: usize = 36;
const OPEN: u16 = 104;
pub(super) const SHUT: u16 = u16::MAX;
/// Null, kernel code and data, user data and code, the descriptor of [`TSS`]. Those of segments are marked accessed.
static GDT: Table<[u64; 7]> = Table(UnsafeCell::new([
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0,
]));
const TASK: u16 = 5 * 8;
/// Where the CPU pushes when the kernel's stack may be what failed: one frame.
static LAST_STACK: Table<[u64; 16]> = Table(UnsafeCell::new([0; 16]));

const GATES: u16 = SYSCALL as u16 + 1;
static IDT: [[u64; 2]; GATES as usize] = idt();

const fn idt() -> [[u64; 2]; GATES as usize] {
    let mut table = [[0; 2]; SYSCALL as usize + 1];
    let mut vector = 0;
    while vector <= VIRTUAL_IRQ as usize {
        table[vector] = gate(vector as u64, vector, 0);
        vector += 1;
    }
    table[SYSCALL as usize] = gate(VIRTUAL_IRQ as u64 + 1, SYSCALL as usize, 3);
    table
}

/// An interrupt gate for a privilege level, on IST1 for NMI, double fault and machine check.
const fn gate(stub: u64, vector: usize, level: u64) -> [u64; 2] {
    let handler = KERNEL_IMAGE + STUBS + stub * STUB_BYTES;
    let stack = if matches!(vector, 2 | 8 | 18) { 1 } else { 0 };
    let low = handler & 0xffff | (KERNEL_CODE as u64) << 16 | stack << 32 | 0x8e << 40 | level << 45;
    [low | (handler >> 16 & 0xffff) << 48, handler >> 32]
}

/// Gives the running task its ports; false if it has none, or has them already.
#[cold]
pub(super) fn open_ports(app: &AppInfo) -> bool {
    // SAFETY: see `Table`: a task is in the kernel, so that neither the CPU nor anybody else reads the segment.
    let state = unsafe { &mut *TSS.0.get() };
    if state.ports_at == OPEN || app.ports.iter().all(|ports| ports.bytes == 0) {
        return false;
    }
    state.ports.fill(0xff);
    for port in app.ports.iter().flat_map(|ports| ports.base..ports.base.saturating_add(ports.bytes)).take(1 << 16) {
        if let Some(byte) = usize::try_from(port / 8).ok().and_then(|at| state.ports.get_mut(at)) {
            *byte &= !(1 << (port % 8));
        }
    }
    state.ports_at = OPEN;
    true
}

/// Loads the tables; they stay over all upcalls.
pub(super) fn load() {
    let tss = TSS.0.get() as u64;
    let stack_end = LAST_STACK.0.get().wrapping_add(1) as u64;
    let available = 0x89;
    let limit = size_of::<TaskState>() as u64 - 1;
    // SAFETY: called once, at the first upcall: nothing else refers to the tables. They are statics and hold the segments
    // that `wall::x86_64` names.
    unsafe {
        TSS.0.get().cast::<u8>().add(IST1).cast::<u64>().write_unaligned(stack_end);
        (*GDT.0.get())[5] = limit | (tss & 0xff_ffff) << 16 | available << 40 | (tss >> 24 & 0xff) << 56;
        (*GDT.0.get())[6] = tss >> 32;
        instr::load_tables((GDT.0.get() as u64, 7 * 8 - 1), (IDT.as_ptr() as u64, GATES * 16 - 1), TASK);
    }
}
