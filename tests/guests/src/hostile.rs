//! The hostile guest: tries what a guest must not be able to do, from EL1, and says what it got. Each line is `hostile:
//! WHAT: ok` or tells what went wrong. It ends by switching itself off; `tests/e2e` reads its lines and the wall's.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: attacks are made of raw instructions")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests::{Uart, call, find_service, park, service_call, service_info};

const DENIED: u64 = u64::MAX - 1;
const MALFORMED: u64 = u64::MAX - 2;
const UNKNOWN: u64 = u64::MAX - 3;
const NOT_SUPPORTED: u64 = u64::MAX;
const NO_RULE: u64 = 0xffff;

const SYSTEM_OFF: u32 = 0x8400_0008;
const CPU_ON: u32 = 0xc400_0003;
/// The served device of the demonstration's site, and one that nobody declares.
const PORTS: u64 = 0x0a00_3e00;
const UNDECLARED: u64 = 0x0901_0000;

/// Counts what went wrong.
struct Report {
    failed: u32,
}

impl Report {
    fn line(&mut self, what: &str, is_ok: bool) {
        self.failed += u32::from(!is_ok);
        let _ = writeln!(Uart, "hostile: {what}: {}", if is_ok { "ok" } else { "FAILED" });
    }

    fn equal(&mut self, what: &str, got: u64, wanted: u64) {
        if got != wanted {
            let _ = writeln!(Uart, "hostile: {what}: got {got:#x}, wanted {wanted:#x}");
        }
        self.line(what, got == wanted);
    }
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut report = Report { failed: 0 };
    match find_service("plant") {
        Some(plant) => attack(&mut report, plant),
        None => report.line("a service called plant", false),
    }
    let _ = writeln!(Uart, "hostile: done, {} failed", report.failed);
    call(SYSTEM_OFF, [0; 3]);
    park()
}

fn attack(report: &mut Report, plant: u64) {
    let drain = plant | 3 << 16 | 1 << 32;
    let set_pump = plant | 2 << 16 | 1 << 32;
    memory(report);
    headers(report, plant);
    report.equal("a refused method", service_call(drain, [1, 0, 0, 0, 0, 0])[0], DENIED);
    report.equal("no rule is named", service_call(drain, [1, 0, 0, 0, 0, 0])[1], NO_RULE);
    report.equal("an argument out of range", service_call(set_pump, [9999, 0, 0, 0, 0, 0])[0], MALFORMED);
    report.equal("an argument no rule allows", service_call(set_pump, [2900, 0, 0, 0, 0, 0])[0], DENIED);
    report.equal("an argument that is allowed", service_call(set_pump, [1500, 0, 0, 0, 0, 0])[0], 0);
    let leaked = service_call(drain, [1, 2, 3, 4, 5, 6]);
    report.line("a refusal leaks nothing", leaked[2..] == [0; 5]);
    let unknown = (0..2000).all(|n| call(0xc600_0003 + n, [0; 3]) == NOT_SUPPORTED && call(n, [0; 3]) == NOT_SUPPORTED);
    report.line("4,000 unknown ids", unknown);
    report.equal("starting a CPU", call(CPU_ON, [1, 0x4000_0000, 0]), NOT_SUPPORTED);
    report.equal("a service beyond the last", service_info(u64::MAX)[0], UNKNOWN);
    device(report);
    interrupts(report);
    let refused = (0..1_000_000).all(|_| service_call(drain, [1, 0, 0, 0, 0, 0])[0] == DENIED);
    report.line("a million refused calls", refused);
    report.equal("the next good call", service_call(plant, [0; 6])[0], 0);
}

/// Headers that name nothing, or lie about their length.
fn headers(report: &mut Report, plant: u64) {
    report.equal("an unknown service", service_call(0x1234, [0; 6])[0], UNKNOWN);
    report.equal("an object of the wall's own", service_call(7 << 16 | 1 << 32, [0; 6])[0], DENIED);
    report.equal("an unknown method", service_call(plant | 99 << 16, [0; 6])[0], UNKNOWN);
    report.equal("too few arguments", service_call(plant | 2 << 16, [0; 6])[0], MALFORMED);
    report.equal("too many arguments", service_call(plant | 2 << 16 | 6 << 32, [0; 6])[0], MALFORMED);
    report.equal("a length of 255", service_call(plant | 255 << 32, [0; 6])[0], MALFORMED);
    report.equal("reserved bits", service_call(plant | 1 << 63, [0; 6])[0], MALFORMED);
}

/// Memory that is not the guest's: reads give ones, writes vanish, fetches and pairs abort.
fn memory(report: &mut Report) {
    // The wall takes the top of the machine's gigabyte.
    let wall = 0x8000_0000 - 0x1000;
    for (what, address) in [("the wall's memory", wall), ("an undeclared device", UNDECLARED)] {
        report.equal(what, load(address), 0xffff_ffff);
        store(address, 0x5a5a_5a5a);
        report.equal(what, load(address), 0xffff_ffff);
    }
    report.equal("a pair from nowhere aborts", load_pair(UNDECLARED) >> 26, 0x25);
    report.equal("a fetch from the wall aborts", fetch(wall) >> 26, 0x21);
    report.equal("the wall's registers are undefined", hypervisor_register() >> 26, 0);
}

/// The served device, driven as no driver would.
fn device(report: &mut Report) {
    report.equal("the device's magic number", load(PORTS), 0x7472_6976);
    for offset in (0..0x200).step_by(4) {
        store(PORTS + offset, 0xffff_ffff);
    }
    for queue in 0..32 {
        store(PORTS + 0x50, queue);
    }
    // Rings in the wall's memory, then across the end of the guest's.
    let is_memory = |&end: &u64| load(end - 16) != 0xffff_ffff;
    let end = (0..64).map(|blocks| 0x8000_0000 - blocks * 0x20_0000).find(is_memory).unwrap_or(0x8000_0000);
    // One buffer is available there, and its entry lies beyond the end.
    store(end - 4, 1 << 16);
    for base in [0x7ff0_0000, end - 4] {
        store(PORTS + 0x70, 0);
        for (offset, value) in [(0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 2), (0x70, 0xb)] {
            store(PORTS + offset, value);
        }
        for queue in 0..10 {
            for (offset, value) in [(0x30, queue), (0x38, 64), (0x80, base), (0x90, base), (0xa0, base), (0x44, 1)] {
                store(PORTS + offset, value);
            }
        }
        store(PORTS + 0x70, 0xf);
        for queue in 0..10 {
            store(PORTS + 0x50, queue);
        }
        report.line("rings outside memory stop the device", load(PORTS + 0x70) & 64 != 0);
    }
    store(PORTS + 0x70, 0);
    report.equal("a reset mends the device", load(PORTS + 0x70), 0);
}

/// More interrupts at once than the hardware has list registers: eight of its own and the timer's, all masked at first.
fn interrupts(report: &mut Report) {
    const WANTED: u64 = 0xff | 1 << 27;
    // Group 1 on; SGI 0-7 and the virtual timer enabled (addresses of QEMU's virt machine).
    store(0x0800_0000, 0x13);
    store(0x080b_0100, 1 << 27 | 0xff);
    // SAFETY: the guest's own interrupt interface and timer; DAIF stays masked, nothing is taken.
    unsafe {
        asm!("msr icc_pmr_el1, {}", "msr icc_igrpen1_el1, {}", "isb", in(reg) 0xff_u64, in(reg) 1_u64);
        (0..8_u64).for_each(|id| asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) id << 24 | 1));
        asm!("mrs {t}, cntvct_el0", "msr cntv_cval_el0, {t}", "msr cntv_ctl_el0, {}", "isb", in(reg) 1_u64, t = out(reg) _);
    }
    let mut seen = 0;
    for _ in 0..1_000_000 {
        let id: u64;
        // SAFETY: acknowledges and ends what is pending, as an interrupt handler would; the timer is stopped.
        unsafe {
            asm!("mrs {}, icc_iar1_el1", out(reg) id);
            if id == 27 {
                asm!("msr cntv_ctl_el0, xzr", "isb");
            }
            if id < 1020 {
                asm!("msr icc_eoir1_el1, {}", "isb", in(reg) id);
                seen |= 1 << (id & 63);
            }
        }
        if seen == WANTED {
            break;
        }
    }
    report.equal("nine interrupts in four list registers", seen, WANTED);
}

fn load(address: u64) -> u64 {
    let value;
    // SAFETY: an access that the wall answers or aborts; the vectors step over an abort.
    unsafe {
        asm!("mov {v}, #0", "ldr {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, out("x16") _, out("x17") _)
    };
    value
}

fn store(address: u64, value: u64) {
    // SAFETY: as for `load`; of the guest's own memory only the last word is written, where nothing lies.
    unsafe { asm!("str {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, out("x16") _, out("x17") _) };
}

/// ESR_EL1 of a load of a pair, 0 if it did not abort.
fn load_pair(address: u64) -> u64 {
    let syndrome;
    // SAFETY: as for `load`.
    unsafe {
        asm!("mov x16, #0", "ldp {x}, {y}, [{a}]", x = out(reg) _, y = out(reg) _, a = in(reg) address, out("x16") syndrome, out("x17") _);
    }
    syndrome
}

/// ESR_EL1 of a jump, 0 if it came back by itself.
fn fetch(address: u64) -> u64 {
    let syndrome;
    // SAFETY: the vectors return to x30 from an aborted fetch.
    unsafe { asm!("mov x16, #0", "blr {a}", a = in(reg) address, out("x16") syndrome, out("x17") _, out("x30") _) };
    syndrome
}

/// ESR_EL1 of a read of HCR_EL2 (undefined at EL1: class 0); all ones if it was not refused.
fn hypervisor_register() -> u64 {
    let syndrome;
    // SAFETY: undefined at EL1; the vectors step over it.
    unsafe { asm!("mov x16, #-1", "mrs {v}, hcr_el2", v = out(reg) _, out("x16") syndrome, out("x17") _) };
    syndrome
}
