//! The hostile guest of a PC: tries what a guest must not be able to do, from ring 0, and says what it got. Each line is
//! `hostile: ID WHAT: VERDICT`, as it must be, or `FAILED` with what came instead. D: denied, reads give all ones and writes vanish;
//! F: a fault in the guest; V: the wall's own answer, the machine is as it was; OK: must work. It ends by switching itself off.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: attacks are made of raw instructions")]

mod access;
mod calls;
mod code;
mod exceptions;
mod instructions;
mod interrupts;
mod memory;
mod ports;
mod registers;
mod report;
mod sizes;
mod x2apic;

use core::fmt::Write;

use bulkhead_guests_x86_64::{Clock, Uart, find_service, in32, is_amd, out8, power_off};

use report::Report;

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut report = Report { out: Uart::open(), failed: 0, is_svm: is_amd(), is_qemu: in32(0x608) != u32::MAX };
    // Both 8259s are masked: their vectors are still those of the firmware.
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    let plant = find_service(report.is_svm, "plant");
    report.equal("H00 a service called plant", "OK", plant.is_some().into(), 1);
    let plant = plant.unwrap_or(0);
    calls::flood(&mut report, plant);
    ports::ports(&mut report, plant);
    registers::registers(&mut report);
    registers::control(&mut report);
    instructions::instructions(&mut report);
    exceptions::single_steps(&mut report);
    exceptions::exceptions(&mut report);
    interrupts::interrupts(&mut report);
    interrupts::pci(&mut report);
    memory::memory(&mut report);
    code::changing_code(&mut report);
    sizes::sizes(&mut report);
    calls::calls(&mut report, plant);
    x2apic::x2apic(&mut report);
    // The secure side is heard while the guest does nothing that exits: its heartbeat, and a record of one more refused call.
    let _ = writeln!(report.out, "hostile: waits");
    let mut clock = Clock::new();
    clock.wait_milliseconds(1500);
    calls::one_more(&mut report, plant);
    clock.wait_milliseconds(3000);
    let words = if report.failed == 0 { "done" } else { "not as expected" };
    let _ = writeln!(report.out, "hostile: {words}, {} failed", report.failed);
    power_off()
}
