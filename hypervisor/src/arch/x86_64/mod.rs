//! x86-64, by VMX or by SVM, as the plan says. The guest keeps its real interrupt controllers.
mod control;
mod entry;
mod exceptions;
mod exits;
mod faults;
mod field;
mod guest;
mod instr;
mod interrupts;
mod memory;
#[cfg(feature = "observe")]
mod observe;
mod secure;
mod svm;
mod time;
mod vmx;

use core::sync::atomic::{AtomicU32, Ordering};

use bulkhead_hypervisor_core::paging::{Format, MapError};
use bulkhead_hypervisor_core::plan::{MachinePlan, Range, console, machine};
use bulkhead_hypervisor_core::x86::PortAccess;

use crate::spaces;
use entry::{GUEST_FRAME, SECURE_FRAME};

pub(crate) use entry::{Frame, STACK_BYTES};
pub(crate) use guest::reset_guest;
pub(crate) use instr::park;
pub(crate) use interrupts::Machine;
#[cfg(feature = "observe")]
pub(crate) use observe::tell as tell_what_was_seen;
pub(crate) use secure::Sides;
pub(crate) use time::set as set_timer;

/// Where the CPU goes on after a handler: the registers of the partition to enter.
pub(crate) type Next = *mut Frame;
/// Back to the guest.
pub(crate) const GUEST: Next = GUEST_FRAME.pointer();
/// What the wall says when it is up.
pub(crate) const UP: &str = "up beneath the guest; ";

/// An `in` of the guest that waits for its value.
#[derive(Clone, Copy)]
pub(crate) struct Load(pub(crate) PortAccess);

impl Load {
    /// Ends it.
    #[inline(always)]
    pub(crate) fn deliver(self, guest: &mut Frame, value: u64) {
        guest.set(0, self.0.merge(guest.get(0), value));
    }
}

/// The counter that all times are told in.
#[inline(always)]
pub(crate) fn now() -> u64 {
    instr::rdtsc()
}

/// Its rate.
#[inline(always)]
pub(crate) fn ticks_per_second() -> u64 {
    time::rate()
}

/// Where the partition that was left goes on.
#[inline(always)]
pub(crate) fn pc() -> u64 {
    field::RIP.read_in(field::Control::current())
}

/// Caches are coherent.
pub(crate) const fn clean(_range: Range) {}

/// The guest's translations are forgotten.
pub(crate) fn flush_guest() {
    if field::is_svm() {
        svm::flush();
    } else {
        instr::invalidate_ept();
    }
}

/// Writes a byte to the wall's console: an emulator's debug port, or a 16550's transmit register.
pub(crate) fn console_put(kind: u32, base: u64, byte: u8) {
    let port = match kind {
        console::PORT_E9 => 0xe9,
        console::UART_16550 => u16::try_from(base).unwrap_or(0),
        _ => return,
    };
    instr::port_out(port, 1, byte.into());
}

/// Faults of the wall's own are reported from here on.
pub(crate) fn take_faults() {
    faults::install();
}

/// Builds all address spaces and both partitions.
///
/// # Errors
/// What could not be mapped, or what the CPU lacks.
pub(crate) fn take_over(plan: &MachinePlan) -> Result<Sides, &'static str> {
    POWER_REGISTER.store(plan.x86.pm1a_control, Ordering::Relaxed);
    let is_vmx = plan.machine == machine::VMX;
    let format = if is_vmx { Format::Ept } else { Format::LongMode };
    // NX and, where the CPU has it, XSAVE for the guest's XCR0.
    instr::wrmsr(0xc000_0080, instr::rdmsr(0xc000_0080) | 1 << 11);
    if instr::cpuid(1, 0)[2] >> 26 & 1 != 0 {
        instr::write_cr4(instr::read_cr4() | 1 << 18);
    }
    let roots = spaces::build(plan, Format::LongMode, format).map_err(MapError::word)?;
    instr::write_cr0(instr::read_cr0() | 1 << 16);
    instr::write_cr3(roots.own);
    // SAFETY: nothing runs yet that holds a frame.
    #[expect(unsafe_code, reason = "the frames are statics")]
    let (guest_frame, secure_frame) = unsafe { (GUEST_FRAME.get(), SECURE_FRAME.get()) };
    if is_vmx {
        guest_frame.bind(vmx::guest_exit, 0);
        secure_frame.bind(vmx::secure_exit, 0);
        vmx::build(plan, &roots)?;
        instr::invalidate_ept();
    } else {
        let [guest_control, secure_control] = svm::controls();
        guest_frame.bind(svm::guest_exit, guest_control);
        secure_frame.bind(svm::secure_exit, secure_control);
        svm::build(plan, &roots);
    }
    #[cfg(feature = "observe")]
    observe::begin(guest_frame, secure_frame);
    time::take_over(plan);
    Ok(Sides)
}

/// Starts the guest.
pub(crate) fn start(plan: &MachinePlan) -> ! {
    // SAFETY: no handler holds the frame: none has run.
    #[expect(unsafe_code, reason = "the frames are statics")]
    reset_guest(plan, unsafe { GUEST_FRAME.get() });
    let enter = if field::is_svm() { entry::svm_enter as *const () } else { entry::vmx_enter as *const () };
    if !field::is_svm() {
        time::rearm();
    }
    // SAFETY: the entry path takes the frame in RAX and gives this stack up; both partitions are built.
    #[expect(unsafe_code, reason = "the jump into the guest")]
    unsafe {
        core::arch::asm!("jmp {enter}", enter = in(reg) enter, in("rax") GUEST, options(noreturn));
    }
}

/// Ends the machine as ACPI has it (6.5 §4.8.3.2.1), with the sleep type that the guest chose if it was the guest who asked.
pub(crate) fn power_off() {
    let register = POWER_REGISTER.load(Ordering::Relaxed);
    if let Ok(port @ 1..) = u16::try_from(register) {
        instr::port_out(port, 2, POWER_VALUE.load(Ordering::Relaxed));
    }
}

/// PM1a_CNT.
static POWER_REGISTER: AtomicU32 = AtomicU32::new(0);
/// What is written there: SLP_EN.
pub(crate) static POWER_VALUE: AtomicU32 = AtomicU32::new(1 << 13);

/// Interrupts of devices that apps drive: none on this architecture yet.
pub(crate) const fn finish(_intid: u32) {}
