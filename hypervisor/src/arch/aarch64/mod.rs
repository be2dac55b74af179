//! AArch64 at EL2 without VHE (HCR_EL2.E2H = 0), GICv3.
mod el1;
mod exits;
mod gic;
mod guest;
mod instr;
mod mmu;
mod vectors;

use bulkhead_hypervisor_core::esr::MemoryAccess;
use bulkhead_hypervisor_core::plan::MachinePlan;

pub(crate) use el1::Sides;
pub(crate) use gic::{Machine, finish};
pub(crate) use guest::{clean, reset_guest};
pub(crate) use instr::{flush_guest, park, power_off};
pub(crate) use vectors::{Frame, STACK_BYTES};

/// What the vectors do after a handler: enter the secure partition with these arguments of an upcall, or, if null, the guest.
pub(crate) type Next = *const [u64; 9];
/// Back to the guest.
pub(crate) const GUEST: Next = core::ptr::null();
/// What the wall says when it is up.
pub(crate) const UP: &str = "up at EL2; ";

/// A load of the guest that waits for its value.
#[derive(Clone, Copy)]
pub(crate) struct Load(pub(crate) MemoryAccess);

impl Load {
    /// Ends it.
    #[inline(always)]
    pub(crate) fn deliver(self, guest: &mut Frame, value: u64) {
        guest.set(self.0.register.into(), self.0.extend(value));
    }
}

/// The counter that all times are told in.
#[inline(always)]
pub(crate) fn now() -> u64 {
    instr::read_cntvct_el0()
}

/// Its rate.
#[inline(always)]
pub(crate) fn ticks_per_second() -> u64 {
    instr::read_cntfrq_el0()
}

/// Where the partition that was left goes on.
#[inline(always)]
pub(crate) fn pc() -> u64 {
    instr::read_elr_el2()
}

/// The wall's timer. CNTHP_CTL_EL2: enabled, not masked (Arm ARM D17.11.7). It counts as the virtual counter does: CNTVOFF_EL2
/// is 0. `u64::MAX` is never reached.
#[inline(always)]
pub(crate) fn set_timer(at: u64) {
    instr::write_cnthp_cval_el2(at);
    instr::write_cnthp_ctl_el2(1);
}

/// Faults of the wall's own are reported from here on.
pub(crate) fn take_faults() {
    vectors::install_guest();
    instr::isb();
}

/// Builds all address spaces, turns EL2's MMU on, and sets what the guest is trapped on.
///
/// # Errors
/// What could not be mapped.
pub(crate) fn take_over(plan: &MachinePlan) -> Result<Sides, &'static str> {
    let stage2 = mmu::build(plan).map_err(bulkhead_hypervisor_core::paging::MapError::word)?;
    guest::set_traps();
    Ok(Sides::new(stage2, plan.secure_root))
}

/// Starts the guest.
pub(crate) fn start(plan: &MachinePlan) -> ! {
    let mut frame = Frame::new();
    reset_guest(plan, &mut frame);
    vectors::start(&frame)
}
