//! Whether a timer's non-maskable interrupt truly comes: an emulator's HPET, or a board's wiring, may differ from what their
//! registers say, and the secure side would then get no time. The loader tries before it chooses.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::instr::{read_register, read_tsc, write_port8, write_register};

global_asm!(
    r#"
    .text
nmi_came:
    lock inc dword ptr [rip + {count}]
    iretq
    "#,
    count = sym COUNT,
);

/// How many non-maskable interrupts came.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Interrupt descriptors up to vector 2; the first two stay absent.
static GATES: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

/// A source of an interrupt in about a millisecond: started, and stopped again.
pub(super) trait Source {
    /// Starts it once.
    fn start(&self);
    /// Stops it; firmware's tick goes on.
    fn stop(&self);
}

/// Comparator 0 of an HPET (IA-PC HPET specification §2.3), routed to a pin.
pub(super) struct Hpet {
    pub(super) page: u64,
    pub(super) pin: u32,
}

impl Source for Hpet {
    fn start(&self) {
        // Femtoseconds a tick.
        let period = u64::from(read_register(self.page + 4)).max(1);
        let ticks = u32::try_from(1_000_000_000_000 / period).unwrap_or(u32::MAX);
        write_register(self.page + 0x10, 1);
        // Edge, 32 bits, once, this pin, enabled.
        write_register(self.page + 0x100, self.pin << 9 | 1 << 8 | 1 << 2);
        write_register(self.page + 0x108, read_register(self.page + 0xf0).wrapping_add(ticks));
    }

    fn stop(&self) {
        write_register(self.page + 0x100, 0);
        write_register(self.page + 0x10, 0);
    }
}

/// Channel 0 of the PIT (8254).
pub(super) struct Pit;

impl Source for Pit {
    fn start(&self) {
        set_pit(0x30, 1193);
    }

    fn stop(&self) {
        // As firmware leaves it: 18.2 times a second.
        set_pit(0x36, 0);
    }
}

fn set_pit(mode: u8, count: u16) {
    let [low, high] = count.to_le_bytes();
    write_port8(0x43, mode);
    write_port8(0x40, low);
    write_port8(0x40, high);
}

/// Whether the source's interrupt comes as a non-maskable one through a pin of the I/O APIC, within a twentieth of a second.
pub(super) fn interrupts(source: &impl Source, io_apic: u64, pin: u32, ticks_per_second: u64) -> bool {
    load_gates();
    let before = COUNT.load(Ordering::Relaxed);
    // To all CPUs' APICs, edge, NMI (82093AA §3.2.4).
    set_pin(io_apic, pin, 0xff << 24, 4 << 8);
    source.start();
    let start = read_tsc();
    let has_come = || COUNT.load(Ordering::Relaxed) != before;
    while !has_come() && read_tsc().wrapping_sub(start) < ticks_per_second / 20 {}
    set_pin(io_apic, pin, 0, MASKED);
    source.stop();
    has_come()
}

const MASKED: u32 = 1 << 16;

fn set_pin(io_apic: u64, pin: u32, high: u32, low: u32) {
    let kept = read_register(io_apic);
    let entry = 0x10 + 2 * pin;
    // Masked while the halves differ.
    for (register, value) in [(entry, MASKED), (entry + 1, high), (entry, low)] {
        write_register(io_apic, register);
        write_register(io_apic + 0x10, value);
    }
    write_register(io_apic, kept);
}

/// An interrupt gate for vector 2 (SDM 3 §6.14.1).
fn load_gates() {
    #[repr(C, packed)]
    struct Table {
        limit: u16,
        base: u64,
    }
    unsafe extern "C" {
        fn nmi_came();
    }
    const CODE: u64 = 0x08;
    let handler = (nmi_came as *const ()).addr() as u64;
    GATES[4].store(handler & 0xffff | CODE << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48, Ordering::Relaxed);
    GATES[5].store(handler >> 32, Ordering::Relaxed);
    let table = Table { limit: 47, base: GATES.as_ptr().addr() as u64 };
    // SAFETY: the table is static, its only present gate leads to `nmi_came`, which keeps all registers; other vectors are
    // as little handled as before.
    unsafe { asm!("lidt [{}]", in(reg) &raw const table, options(readonly, nostack, preserves_flags)) };
}
