//! The way between the partitions, and the virtual interrupt of the secure kernel. The secure side runs with interrupts masked (RFLAGS.IF = 0),
//! so that what the machine's devices raise waits for the guest, whose it is; the wall gives the virtual interrupt when a task runs.
#![expect(unsafe_code, reason = "the partitions' frames are statics that the exit path reaches")]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bulkhead_abi::wall::x86_64 as entry;
use bulkhead_hypervisor_core::x86::timer::next_look;

use super::entry::SECURE_FRAME;
use super::field::{self, Control};
use super::{Next, guest, instr, svm, time, vmx};

/// The registers of both partitions: in their frames, VMCSs and VMCBs.
pub(crate) struct Sides;

/// The virtual interrupt is raised and the kernel has not taken it.
static IS_RAISED: AtomicBool = AtomicBool::new(false);
/// How often it was looked for a task in vain since.
static LOOKS: AtomicU32 = AtomicU32::new(0);
const IF: u64 = 1 << 9;

impl Sides {
    /// From the guest to the secure partition: its frame. The back end's handler switches to it when it is told so ([`begin`]).
    #[inline(always)]
    pub(crate) fn enter_secure(&mut self, upcall: [u64; 9]) -> Next {
        IS_RAISED.store(false, Ordering::Relaxed);
        LOOKS.store(0, Ordering::Relaxed);
        // SAFETY: the secure partition does not run, and nobody holds its frame but who switches to it.
        let frame = unsafe { SECURE_FRAME.get() };
        for (register, value) in upcall.into_iter().enumerate() {
            frame.set(register, value);
        }
        SECURE_FRAME.pointer()
    }

    /// Back to the guest, by force.
    pub(crate) fn leave_secure(&mut self) {
        if field::is_svm() { svm::to_guest() } else { vmx::to_guest() }
    }

    /// The virtual interrupt of the secure kernel, while it runs: raised or taken back.
    #[inline(always)]
    pub(crate) fn signal(&mut self, is_raised: bool) {
        IS_RAISED.store(is_raised, Ordering::Relaxed);
    }
}

/// The secure partition is entered at its upcall entry; nothing of it was kept but its tables.
#[inline(always)]
pub(crate) fn begin(control: Control) {
    field::RIP.write_in(control, entry::UPCALL_ENTRY);
    field::RFLAGS.write_in(control, 2);
}

/// Gives the virtual interrupt to the task that runs; while the kernel runs, looks again soon.
pub(crate) fn signal_if_due() {
    if !IS_RAISED.load(Ordering::Relaxed) {
        return;
    }
    if guest::is_kernel(Control::current()) || guest::has_event() {
        let looks = LOOKS.load(Ordering::Relaxed);
        LOOKS.store(looks + 1, Ordering::Relaxed);
        time::set_no_later(instr::rdtsc() + next_look(looks));
        return;
    }
    IS_RAISED.store(false, Ordering::Relaxed);
    LOOKS.store(0, Ordering::Relaxed);
    // An interrupt enters only with IF set (SDM 3 §27.3.1.4); its gate clears it, and the kernel keeps it so.
    field::RFLAGS.write(field::RFLAGS.read() | IF);
    guest::inject_interrupt(entry::VIRTUAL_IRQ);
}
