//! The restless guest of a PC: ends itself, each time by another way that a machine can be reset or lost by. The wall starts it anew, alone,
//! until its limit.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: the ways to end")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests_x86_64::{Uart, out8, out16, park};

/// Memory outlives a start; the image does not. A word of it counts the starts.
const STARTS: *mut u64 = 0x200_0000 as *mut u64;
const MARK: u64 = 0x7e57_1e55_0000_0000;

/// Table registers as LIDT takes them.
#[repr(C, packed)]
struct Table {
    limit: u16,
    base: u64,
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    // SAFETY: nothing else lies there.
    let before = unsafe { STARTS.read_volatile() };
    let start = if before >> 32 == MARK >> 32 { before & 0xffff } else { 0 };
    // SAFETY: as above.
    unsafe { STARTS.write_volatile(MARK | (start + 1)) };
    let mut out = Uart::open();
    // Where the CPU has an x2APIC, the first start switches it on, and each one more finds it so, with nothing in it.
    const MODE: u64 = 1 << 10;
    const MASKED: u64 = 1 << 16;
    let mode = read_register(0x1b);
    if core::arch::x86_64::__cpuid(1).ecx >> 21 & 1 != 0 {
        if (mode & MODE != 0) != (start != 0) {
            let _ = writeln!(out, "restless: still here, mode of the local APIC: {mode:#x}");
        }
        write_register(0x1b, mode | MODE);
        if read_register(0x832) & MASKED == 0 || read_register(0x808) != 0 {
            let _ = writeln!(out, "restless: still here, a timer or a priority of the start before");
        }
        write_register(0x80f, 0x1ff);
        write_register(0x832, 0xef);
        write_register(0x808, 0x20);
    }
    let way = [
        "X40 triple fault",
        "X55 keyboard",
        "X55 fast reset",
        "X55 reset register",
        "X42 no IDT in memory",
        "X42 a loop of exits",
    ];
    let number = usize::try_from(start).unwrap_or(0) % way.len();
    let _ = writeln!(out, "restless: up, ends by {}", way.get(number).unwrap_or(&""));
    match number {
        0 => fault(0, 0),
        1 => out8(0x64, 0xfe),
        2 => out8(0x92, 1),
        3 => out8(0xcf9, 6),
        // Delivering an exception exits, and so does delivering what comes of that.
        4 => fault(0xd000_0000, 1023),
        _ => {
            out16(0xcf8, 0x0600);
            fault(0xfed0_0000, 1023);
        }
    }
    let _ = writeln!(out, "restless: still here");
    park()
}

fn read_register(index: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reading has no effect.
    unsafe { asm!("rdmsr", in("ecx") index, out("rax") low, out("rdx") high) };
    low | high << 32
}

fn write_register(index: u32, value: u64) {
    // SAFETY: the local APIC's; no interrupt is used.
    unsafe { asm!("wrmsr", in("ecx") index, in("rax") value & 0xffff_ffff, in("rdx") value >> 32) };
}

/// An exception whose handler is found nowhere.
fn fault(base: u64, limit: u16) {
    let table = Table { limit, base };
    // SAFETY: ends this program.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const table) };
}
