//! The wall's timer, in ticks of the TSC: on VMX the preemption timer of whichever partition runs; on SVM, which has none, a comparator of the
//! HPET or the PIT, which interrupts by an NMI, whatever the guest does with its interrupts.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use bulkhead_hypervisor_core::plan::{MachinePlan, time_source};
use bulkhead_hypervisor_core::x86::apic;
use bulkhead_hypervisor_core::x86::timer::{Timer, compare};

use super::interrupts::{read, write};
use super::{instr, vmx};

/// When it is due, and what SVM's source is set to; VMX has none.
static TIMER: Timer = Timer::new();
/// The TSC's rate.
static RATE: AtomicU64 = AtomicU64::new(1);
/// VMX: the preemption timer counts once in 2^this ticks (IA32_VMX_MISC).
static SHIFT: AtomicU8 = AtomicU8::new(0);
/// SVM: `time_source::*`.
static SOURCE: AtomicU32 = AtomicU32::new(0);
/// The HPET's page.
static HPET: AtomicU64 = AtomicU64::new(0);

/// The HPET's registers (IA-PC HPET 1.0a §2.3).
const CAPABILITIES: u64 = 0;
const CONFIGURATION: u64 = 0x10;
const COUNTER: u64 = 0xf0;
const TIMER_CONFIGURATION: u64 = 0x100;
const COMPARATOR: u64 = 0x108;
/// The PIT's rate in Hz.
const PIT_HZ: u64 = 1_193_182;

pub(crate) fn set_shift(shift: u8) {
    SHIFT.store(shift, Ordering::Relaxed);
}

/// The TSC's rate.
#[inline(always)]
pub(crate) fn rate() -> u64 {
    RATE.load(Ordering::Relaxed)
}

/// Takes the time source over.
pub(crate) fn take_over(plan: &MachinePlan) {
    let x86 = &plan.x86;
    RATE.store(plan.ticks_per_second, Ordering::Relaxed);
    SOURCE.store(x86.time_source, Ordering::Relaxed);
    HPET.store(x86.hpet, Ordering::Relaxed);
    let pin = x86.time_pin;
    match x86.time_source {
        time_source::HPET => {
            // Femtoseconds a tick; a millionth of a second at the most.
            let period = u64::from(read(x86.hpet + CAPABILITIES + 4)).clamp(1, 1_000_000_000);
            TIMER.take_over(1_000_000_000_000_000 / period, 0x7fff_ffff, plan.ticks_per_second);
            write(x86.hpet + CONFIGURATION, 1);
            // Edge, 32-bit counting, this pin, enabled. It interrupts at each turn of the counter, too, and nothing is due then.
            write(x86.hpet + TIMER_CONFIGURATION, pin << 9 | 1 << 8 | 1 << 2);
        }
        time_source::PIT => TIMER.take_over(PIT_HZ, 0xffff, plan.ticks_per_second),
        _ => return,
    }
    // NMI, edge, to every CPU: a guest that renames its local APIC does not stop it.
    write(x86.io_apic, apic::IO_TABLE + 2 * pin + 1);
    write(x86.io_apic + 0x10, 0xff << 24);
    write(x86.io_apic, apic::IO_TABLE + 2 * pin);
    write(x86.io_apic + 0x10, 4 << 8);
}

/// Wants the timer at a time.
#[inline(always)]
pub(crate) fn set(at: u64) {
    if TIMER.set(at) {
        arm();
    }
}

/// Wants the timer at a time, but no later than it was wanted.
pub(crate) fn set_no_later(at: u64) {
    if TIMER.set_no_later(at) {
        arm();
    }
}

/// Whether it is due now, whether it has interrupted or not.
pub(crate) fn is_due() -> bool {
    instr::rdtsc() >= TIMER.due()
}

/// Before a partition is entered on VMX: the preemption timer counts down from what is left. It counts only while a partition runs, so it is
/// set afresh each time.
#[inline(always)]
pub(crate) fn rearm() {
    let left = TIMER.due().saturating_sub(instr::rdtsc()) >> SHIFT.load(Ordering::Relaxed);
    // The field has 32 bits: what is farther away ends early, finds nothing due, and is set again.
    instr::vmwrite(vmx::fields::TIMER, left);
}

/// The time source interrupted (SVM). True if the timer is due.
pub(crate) fn interrupted() -> bool {
    TIMER.spend();
    let is_due = is_due();
    if !is_due {
        arm();
    }
    is_due
}

/// An interrupt of the source may have been taken where nobody looked (SVM): it comes again.
pub(crate) fn again() {
    TIMER.spend();
    arm();
}

/// Sets the time source of SVM.
#[inline(never)]
fn arm() {
    let Some(ticks) = TIMER.arm(instr::rdtsc()) else { return };
    match SOURCE.load(Ordering::Relaxed) {
        time_source::HPET => {
            let page = HPET.load(Ordering::Relaxed);
            compare(ticks, || read(page + COUNTER), |at| write(page + COMPARATOR, at));
        }
        time_source::PIT => {
            // Channel 0, low and high byte, mode 0: one interrupt at the end of the count (8254 data sheet).
            instr::port_out(0x43, 1, 0x30);
            instr::port_out(0x40, 1, ticks & 0xff);
            instr::port_out(0x40, 1, ticks >> 8);
        }
        _ => {}
    }
}
