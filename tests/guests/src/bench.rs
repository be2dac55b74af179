//! The bench guest: how many instructions a round trip into the wall takes. Run it with the exact instruction clock
//! (`--icount`): one tick of the virtual counter is 16 instructions then. It prints one line a figure and powers off.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: calls, counters and device registers")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests::{Uart, call, find_service, park, service_call};
use bulkhead_wire::call::{CALL_UID, FEATURES, SERVICE_CALL, UID};

const PSCI_VERSION: u32 = 0x8400_0000;
const SYSTEM_OFF: u32 = 0x8400_0008;
const UNKNOWN: u32 = 0xc600_7fff;
const GICD_TYPER: u64 = 0x0800_0004;
const UNDECLARED: u64 = 0x0901_0000;
/// How often each operation is repeated; a multiple of the 16 instructions of a tick.
const TURNS: u64 = 16_000;
/// Instructions of the loop around the operation: subtract and branch.
const LOOP: u64 = 2;

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut out = Uart;
    settle();
    let empty = measure_nothing();
    let _ = writeln!(out, "bench: loop {}.{:02}", empty / 100, empty % 100);
    if call(CALL_UID, [0; 3]) != u64::from(UID[0]) {
        let _ = writeln!(out, "bench: no wall beneath: nothing to measure");
    } else {
        for (name, id) in [("null_call", FEATURES), ("psci_version", PSCI_VERSION), ("unknown_call", UNKNOWN)] {
            report(&mut out, name, measure_call(id));
        }
        for (name, address) in [("gicd_read", GICD_TYPER), ("undeclared_read", UNDECLARED)] {
            report(&mut out, name, measure_read(address));
        }
        interrupts_on();
        report(&mut out, "vtimer_delivery", measure_timer());
        report(&mut out, "self_sgi", measure_sgi());
        services(&mut out);
    }
    call(SYSTEM_OFF, [0; 3]);
    park()
}

fn report(out: &mut Uart, name: &str, hundredths: u64) {
    let _ = writeln!(out, "bench: {name} {}.{:02}", hundredths / 100, hundredths % 100);
}

fn counter() -> u64 {
    let value;
    // SAFETY: reading the virtual counter has no effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack)) };
    value
}

/// The apps' start is over, which takes time of the CPU: a fifth of a second.
fn settle() {
    let frequency: u64;
    // SAFETY: reading the counter's frequency has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
    let start = counter();
    while counter() - start < frequency / 5 {}
}

/// Hundredths of an instruction a turn, without the loop's own.
fn a_turn(ticks: u64, own: u64) -> u64 {
    (ticks * 16 * 100 / TURNS).saturating_sub(own * 100)
}

fn measure_nothing() -> u64 {
    let start = counter();
    // SAFETY: an empty loop.
    unsafe { asm!("1: subs {n}, {n}, #1", "b.ne 1b", n = inout(reg) TURNS => _, options(nomem, nostack)) };
    a_turn(counter() - start, 0)
}

/// One turn is: load the id, the call, and the loop; the id and the call itself count as part of the round trip.
fn measure_call(id: u32) -> u64 {
    let start = counter();
    // SAFETY: the call changes x0-x3 at the most (declared by the ABI as results), no memory.
    unsafe {
        asm!(
            "1: mov w0, w20", "hvc #0", "subs x21, x21, #1", "b.ne 1b",
            in("x20") u64::from(id), inout("x21") TURNS => _, out("x0") _, out("x1") _, out("x2") _, out("x3") _,
            options(nostack)
        );
    }
    a_turn(counter() - start, LOOP + 1)
}

/// The plant's service, found by its name: one call that reads, and one that the policy refuses.
fn services(out: &mut Uart) {
    let Some(object) = find_service("plant") else {
        let _ = writeln!(out, "bench: no service called plant");
        return;
    };
    let level = object;
    let drain = object | 3 << 16 | 1 << 32;
    for (name, header, argument, wanted) in [("service_call", level, 0, 0), ("refused_call", drain, 1, u64::MAX - 1)] {
        let [status, ..] = service_call(header, [argument, 0, 0, 0, 0, 0]);
        if status == wanted {
            report(out, name, measure_service(header, argument));
        } else {
            let _ = writeln!(out, "bench: {name}: status {status:#x}");
        }
    }
}

fn measure_service(header: u64, argument: u64) -> u64 {
    let start = counter();
    // SAFETY: as for `service_call`.
    unsafe {
        asm!(
            "1: mov w0, w20", "mov x1, x22", "mov x2, x23", "hvc #0", "subs x21, x21, #1", "b.ne 1b",
            in("x20") u64::from(SERVICE_CALL), inout("x21") TURNS => _, in("x22") header, in("x23") argument,
            out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, options(nostack)
        );
    }
    a_turn(counter() - start, LOOP + 3)
}

/// Group 1, the virtual timer's and SGI 0's interrupts, at EL1.
fn interrupts_on() {
    // SAFETY: the GIC's registers at the addresses of QEMU's virt machine (IHI 0069 §12.9, §12.11); the vectors are in place.
    unsafe {
        (0x0800_0000 as *mut u32).write_volatile(0x13);
        (0x080b_0100 as *mut u32).write_volatile(1 << 27 | 1);
        asm!("msr icc_pmr_el1, {}", "msr icc_igrpen1_el1, {}", "isb", in(reg) 0xff_u64, in(reg) 1_u64, options(nostack));
    }
}

/// From the deadline of the virtual timer to the handler's first instruction, in hundredths of an instruction.
fn measure_timer() -> u64 {
    const TIMES: u64 = 1000;
    let mut ticks = 0;
    for _ in 0..TIMES {
        let deadline = counter() + 200;
        let taken: u64;
        // SAFETY: the handler changes x17, x16 and the flags; it ends the wait by the time it leaves in x16.
        unsafe {
            asm!(
                "mov x16, #0", "msr cntv_cval_el0, {at}", "msr cntv_ctl_el0, {on}", "msr daifclr, #2",
                "1: cbz x16, 1b", "msr daifset, #2",
                at = in(reg) deadline, on = in(reg) 1_u64, out("x16") taken, out("x17") _, options(nostack)
            );
        }
        ticks += taken - deadline;
    }
    ticks * 16 * 100 / TIMES
}

/// A software interrupt to this CPU, taken, acknowledged, ended and returned from.
fn measure_sgi() -> u64 {
    let start = counter();
    // SAFETY: as for `measure_timer`; SGI 0 to affinity 0.0.0.0 target 0 (IHI 0069 §12.2.20).
    unsafe {
        asm!(
            "msr daifclr, #2", "1: msr icc_sgi1r_el1, x20", "isb", "subs x21, x21, #1", "b.ne 1b", "msr daifset, #2",
            in("x20") 1_u64, inout("x21") TURNS => _, out("x17") _, out("x16") _, options(nostack)
        );
    }
    a_turn(counter() - start, LOOP)
}

fn measure_read(address: u64) -> u64 {
    let start = counter();
    // SAFETY: a read of a device register that the wall answers; no effect on memory.
    unsafe {
        asm!(
            "1: ldr w0, [x20]", "subs x21, x21, #1", "b.ne 1b",
            in("x20") address, inout("x21") TURNS => _, out("x0") _, options(nostack)
        );
    }
    a_turn(counter() - start, LOOP)
}
