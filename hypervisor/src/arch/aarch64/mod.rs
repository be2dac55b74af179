//! AArch64 at EL2 without VHE (HCR_EL2.E2H = 0), GICv3.
mod el1;
mod exits;
mod gic;
mod guest;
mod instr;
mod mmu;
mod vectors;

use bulkhead_hypervisor_core::esr::MemoryAccess;
use bulkhead_hypervisor_core::plan::{MachinePlan, console};

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

/// Writes a byte to the wall's console. VIRTIO_EMERGENCY: emerg_wr, offset 8 of the configuration at 0x100 (virtio 1.2 §5.3.4); PL011: UARTDR.
pub(crate) fn console_put(kind: u32, base: u64, byte: u8) {
    let register = match kind {
        console::VIRTIO_EMERGENCY => base + 0x108,
        console::PL011 => base,
        _ => return,
    };
    // SAFETY: the loader found this device, the plan names its registers and `spaces` maps them; a 32-bit write there sends one byte
    // and has no effect on memory.
    #[expect(unsafe_code, reason = "device registers are reached by volatile accesses")]
    unsafe {
        (register as *mut u32).write_volatile(u32::from(byte));
    }
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
