//! The spinning guest: masks every interrupt and spins for five seconds of the virtual counter, then switches itself off.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: the counter")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests::{Uart, call, park};

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let _ = writeln!(Uart, "spinner: spins with interrupts masked");
    let (start, second) = (register_count(), frequency());
    while register_count() - start < 5 * second {}
    let _ = writeln!(Uart, "spinner: done");
    call(0x8400_0008, [0; 3]);
    park()
}

fn register_count() -> u64 {
    let value;
    // SAFETY: reading the counter has no effect; masking interrupts at EL1 is this guest's right.
    unsafe { asm!("msr daifset, #0xf", "mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack)) };
    value
}

fn frequency() -> u64 {
    let value;
    // SAFETY: reading the frequency has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) value, options(nomem, nostack)) };
    value
}
