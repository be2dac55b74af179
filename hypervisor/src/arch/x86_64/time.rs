//! The wall's timer, in ticks of the TSC: on VMX the preemption timer of whichever partition runs; on SVM, which has none, a comparator of the
//! HPET or the PIT, which interrupts by an NMI, whatever the guest does with its interrupts.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use bulkhead_hypervisor_core::plan::{MachinePlan, time_source};
use bulkhead_hypervisor_core::x86::apic;

use super::interrupts::{read, write};
use super::{instr, vmx};

/// When it is due; `u64::MAX`: never.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);
/// The TSC's rate.
static RATE: AtomicU64 = AtomicU64::new(1);
/// VMX: the preemption timer counts once in 2^this ticks (IA32_VMX_MISC).
static SHIFT: AtomicU8 = AtomicU8::new(0);
/// SVM: `time_source::*`.
static SOURCE: AtomicU32 = AtomicU32::new(0);
/// The HPET's page.
static HPET: AtomicU64 = AtomicU64::new(0);
/// SVM: the source's ticks in a tick of the TSC, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);
/// SVM: the longest that the source can wait, in ticks of the TSC.
static LONGEST: AtomicU64 = AtomicU64::new(0);
/// SVM: what the source is set to interrupt at, in ticks of the TSC. VMX has no source: nothing is earlier than 0.
static ARMED: AtomicU64 = AtomicU64::new(0);

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
            scale(1_000_000_000_000_000 / period, 0x7fff_ffff, plan.ticks_per_second);
            write(x86.hpet + CONFIGURATION, 1);
            // Edge, 32-bit counting, this pin, enabled. It interrupts at each turn of the counter, too, and nothing is due then.
            write(x86.hpet + TIMER_CONFIGURATION, pin << 9 | 1 << 8 | 1 << 2);
        }
        time_source::PIT => scale(PIT_HZ, 0xffff, plan.ticks_per_second),
        _ => return,
    }
    // NMI, edge, to every CPU: a guest that renames its local APIC does not stop it.
    write(x86.io_apic, apic::IO_TABLE + 2 * pin + 1);
    write(x86.io_apic + 0x10, 0xff << 24);
    write(x86.io_apic, apic::IO_TABLE + 2 * pin);
    write(x86.io_apic + 0x10, 4 << 8);
    ARMED.store(u64::MAX, Ordering::Relaxed);
}

/// The rates of the source and of the TSC, and what the source can count to.
fn scale(source: u64, most: u64, counter: u64) {
    let scaled =
        |value: u64, by: u64| u64::try_from((u128::from(value) << 32) / u128::from(by.max(1))).unwrap_or(u64::MAX);
    let scale = scaled(source, counter);
    SCALE.store(scale, Ordering::Relaxed);
    LONGEST.store(scaled(most - 1, scale), Ordering::Relaxed);
}

/// Wants the timer at a time.
#[inline(always)]
pub(crate) fn set(at: u64) {
    DUE.store(at, Ordering::Relaxed);
    // An earlier interrupt comes first, finds nothing due, and sets the next one.
    if at < ARMED.load(Ordering::Relaxed) {
        arm(at);
    }
}

/// Whether it is due now, whether it has interrupted or not.
pub(crate) fn is_due() -> bool {
    instr::rdtsc() >= DUE.load(Ordering::Relaxed)
}

/// Before a partition is entered on VMX: the preemption timer counts down from what is left. It counts only while a partition runs, so it is
/// set afresh each time.
#[inline(always)]
pub(crate) fn rearm() {
    let left = DUE.load(Ordering::Relaxed).saturating_sub(instr::rdtsc()) >> SHIFT.load(Ordering::Relaxed);
    // The field has 32 bits: what is farther away ends early, finds nothing due, and is set again.
    instr::vmwrite(vmx::fields::TIMER, left);
}

/// The time source interrupted (SVM). True if the timer is due.
pub(crate) fn interrupted() -> bool {
    ARMED.store(u64::MAX, Ordering::Relaxed);
    let due = DUE.load(Ordering::Relaxed);
    if instr::rdtsc() >= due {
        return true;
    }
    arm(due);
    false
}

/// An interrupt of the source may have been taken where nobody looked (SVM): it comes again.
pub(crate) fn again() {
    ARMED.store(u64::MAX, Ordering::Relaxed);
    arm(DUE.load(Ordering::Relaxed));
}

/// Sets the time source of SVM.
#[inline(never)]
fn arm(at: u64) {
    if at == u64::MAX {
        return;
    }
    let now = instr::rdtsc();
    // A source that cannot wait so long interrupts earlier, and is set again then.
    let wait = at.saturating_sub(now).min(LONGEST.load(Ordering::Relaxed));
    ARMED.store(now + wait, Ordering::Relaxed);
    // Rounded up: what comes before its time comes twice.
    let ticks = ((u128::from(wait) * u128::from(SCALE.load(Ordering::Relaxed))) >> 32) + 1;
    #[expect(clippy::cast_possible_truncation, reason = "what the source can count to")]
    let low = ticks as u32;
    match SOURCE.load(Ordering::Relaxed) {
        time_source::HPET => arm_hpet(low.max(LEAST)),
        time_source::PIT => {
            // Channel 0, low and high byte, mode 0: one interrupt at the end of the count (8254 data sheet).
            instr::port_out(0x43, 1, 0x30);
            instr::port_out(0x40, 1, low & 0xff);
            instr::port_out(0x40, 1, low >> 8);
        }
        _ => {}
    }
}

/// The shortest time that the HPET is asked for: a comparator that was passed before it was written would wait for a turn of the counter.
const LEAST: u32 = 64;

fn arm_hpet(mut ticks: u32) {
    let page = HPET.load(Ordering::Relaxed);
    // Each try waits twice as long, so that this ends.
    while ticks != 0 {
        let at = read(page + COUNTER).wrapping_add(ticks);
        write(page + COMPARATOR, at);
        if at.wrapping_sub(read(page + COUNTER)) <= ticks {
            return;
        }
        ticks = ticks.wrapping_mul(2);
    }
}
