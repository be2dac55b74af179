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
    let [faulty, brittle, stuck] =
        ["faulty", "brittle", "stuck"].map(|name| find_service(is_svm, name).unwrap_or(0xffff));
    let call = |object: u64, method: u64, arguments: &[u64]| {
        let mut words = [0; 6];
        words.iter_mut().zip(arguments).for_each(|(slot, word)| *slot = *word);
        let [status, value, ..] = service_call(is_svm, object | method << 16 | (arguments.len() as u64) << 32, words);
        (status.cast_signed(), if status == 0 { value } else { 0 })
    };
    // Register D of the clock (MC146818A): its memory and time are valid.
    equal("an app writes to its port", call(faulty, WRITE, &[0x70, 0x0d]), (0, 0));
    for again in ["an app reads its port", "another app writes to its own", "and the first again"] {
        if again.starts_with("another") {
            equal(again, call(brittle, WRITE, &[0x80, 0]), (0, 0));
        } else {
            equal(again, call(faulty, READ, &[0x71]), (0, 0x80));
        }
    }
    for (what, app, port) in [
        ("an app at another's port", brittle, 0x71),
        ("the other way round", faulty, 0x80),
        ("an app without ports", stuck, 0x71),
        ("a port that is nobody's", faulty, 0x72),
        ("a port of the guest's", faulty, 0x3ff),
        ("PCI configuration", faulty, 0xcfc),
        ("the last of all ports", faulty, 0xffff),
    ] {
        equal(what, call(app, READ, &[port]), (GONE, 0));
        equal("the restarted app", call(app, ECHO, &[7]), (0, 7));
    }
    equal("an app that writes to another's port", call(stuck, WRITE, &[0x70, 0x8f]), (GONE, 0));
    equal("the restarted app has its port", call(faulty, READ, &[0x71]), (0, 0x80));
    out8(0x70, 0x0a);
    equal("the guest reads the clock", (0, in8(0x71).into()), (0, 0xff));
    equal("nor does it choose the register", call(faulty, READ, &[0x71]), (0, 0x80));
    let words = if failed == 0 { "done" } else { "not as expected" };
    let _ = writeln!(out, "ports: {words}, {failed} failed");
    power_off()
}
