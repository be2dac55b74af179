//! The guest beside apps that have ports (tests/sites/ports): each reaches its own and no other, whoever ran before it; the guest reaches none.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: the entry is called by its name")]

use core::fmt::Write;

use bulkhead_guests_x86_64::{Uart, find_service, in8, is_amd, out8, power_off, service_call};

const GONE: i64 = -6;
const ECHO: u64 = 0;
const READ: u64 = 6;
const WRITE: u64 = 7;

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let (is_svm, mut out, mut failed) = (is_amd(), Uart::open(), 0);
    let mut equal = |what: &str, got: (i64, u64), wanted: (i64, u64)| {
        failed += u32::from(got != wanted);
        let word = if got == wanted { "OK" } else { "FAILED" };
        let _ = writeln!(out, "ports: {what}: got {got:x?}, wanted {wanted:x?}: {word}");
    };
    let [clock, faulty, brittle, stuck] =
        ["clock", "faulty", "brittle", "stuck"].map(|name| find_service(is_svm, name).unwrap_or(0xffff));
    let call = |object: u64, method: u64, arguments: &[u64]| {
        let mut words = [0; 6];
        words.iter_mut().zip(arguments).for_each(|(slot, word)| *slot = *word);
        let [status, value, ..] = service_call(is_svm, object | method << 16 | (arguments.len() as u64) << 32, words);
        (status.cast_signed(), if status == 0 { value } else { 0 })
    };
    // Page registers of the DMA controller (82C37A, at a PC's places), which keep what is written.
    const OWN: u64 = 0x82;
    const OTHERS: u64 = 0x81;
    equal("an app writes to its port", call(faulty, WRITE, &[OWN, 0x5a]), (0, 0));
    equal("another app to its own", call(brittle, WRITE, &[OTHERS, 0x3c]), (0, 0));
    for _ in 0..2 {
        equal("an app reads its port", call(faulty, READ, &[OWN]), (0, 0x5a));
        equal("another app its own", call(brittle, READ, &[OTHERS]), (0, 0x3c));
    }
    for (what, app, port) in [
        ("an app at another's port", brittle, OWN),
        ("the other way round", faulty, OTHERS),
        ("an app without ports", stuck, OWN),
        ("a port that is nobody's", faulty, 0x83),
        ("a port of the guest's", faulty, 0x3ff),
        ("PCI configuration", faulty, 0xcfc),
        ("the last of all ports", faulty, 0xffff),
    ] {
        equal(what, call(app, READ, &[port]), (GONE, 0));
        equal("the restarted app", call(app, ECHO, &[7]), (0, 7));
    }
    equal("an app that writes to another's port", call(stuck, WRITE, &[OWN, 0xa5]), (GONE, 0));
    out8(0x82, 0xa5);
    equal("the guest reads an app's port", (0, in8(0x82).into()), (0, 0xff));
    equal("the restarted app has its port, and what it wrote", call(faulty, READ, &[OWN]), (0, 0x5a));
    // The guest's choice of a register does not reach the clock, which the clock app reads: 2026 or later.
    (0..3_u8).for_each(|register| out8(0x70, register | 0x80));
    let (status, seconds) = call(clock, 0, &[]);
    equal("the clock's time is that of its device", (status, (seconds >= 1_767_225_600).into()), (0, 1));
    equal("and not the guest's to read", (0, in8(0x71).into()), (0, 0xff));
    let words = if failed == 0 { "done" } else { "not as expected" };
    let _ = writeln!(out, "ports: {words}, {failed} failed");
    power_off()
}
