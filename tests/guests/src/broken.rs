//! The guest beside broken apps (tests/sites/faulty): each failure gets its defined status, and the next good call works.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: loads and stores of a device")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests::{Uart, call, find_service, park, service_call};

const GONE: i64 = -6;
const TIMED_OUT: i64 = -7;
const FAILED: i64 = -8;
const DEVICE: u64 = 0x0b00_0000;

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut failed = 0;
    let mut equal = |what: &str, got: i64, wanted: i64| {
        failed += i32::from(got != wanted);
        let word = if got == wanted { "ok" } else { "FAILED" };
        let _ = writeln!(Uart, "broken: {what}: got {got}, wanted {wanted}: {word}");
    };
    let (clock, faulty, stuck) = (find_service("clock"), find_service("faulty"), find_service("stuck"));
    let (clock, faulty, stuck) = (clock.unwrap_or(0), faulty.unwrap_or(0), stuck.unwrap_or(0));
    let status = |object: u64, method: u64, len: u64| {
        service_call(object | method << 16 | len << 32, [42, 0, 0, 0, 0, 0])[0].cast_signed()
    };
    equal("an echo", status(faulty, 0, 1), 0);
    for (what, method) in [("a crash", 1), ("a load from the kernel", 3), ("a floating-point register", 4)] {
        equal(what, status(faulty, method, 0), GONE);
        equal("the restarted app", status(faulty, 0, 1), 0);
    }
    equal("a reply that does not fit", status(faulty, 5, 0), FAILED);
    equal("the app after it", status(faulty, 0, 1), 0);
    // Five restarts are allowed; three are used.
    (0..3).for_each(|_| equal("a crash", status(faulty, 1, 0), GONE));
    equal("an app that was given up", status(faulty, 0, 1), GONE);

    equal("a device's load", load(DEVICE + 0x10), 0x10);
    equal("a store that kills its server aborts", store(DEVICE) >> 26, 0x25);
    equal("the restarted device", load(DEVICE + 0x20), 0x20);
    equal("the second one gives it up", store(DEVICE) >> 26, 0x25);
    equal("a dead device's load", load(DEVICE), 0xffff_ffff);
    equal("a dead device's store", store(DEVICE) >> 26, 0x25);

    equal("a hanging app", status(stuck, 2, 0), TIMED_OUT);
    equal("a call to it", status(stuck, 0, 1), TIMED_OUT);
    equal("another service", status(clock, 0, 0), 0);
    let _ = writeln!(Uart, "broken: done, {failed} failed");
    call(0x8400_0008, [0; 3]);
    park()
}

fn load(address: u64) -> i64 {
    let value: u64;
    // SAFETY: an access that the wall answers or aborts; the vectors step over an abort.
    unsafe {
        asm!("mov {v}, #0", "ldr {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, out("x16") _, out("x17") _)
    };
    value.cast_signed()
}

/// ESR_EL1 of the abort, 0 if there was none.
fn store(address: u64) -> i64 {
    let syndrome: u64;
    // SAFETY: as for `load`.
    unsafe { asm!("mov x16, #0", "str wzr, [{a}]", a = in(reg) address, out("x16") syndrome, out("x17") _) };
    syndrome.cast_signed()
}
