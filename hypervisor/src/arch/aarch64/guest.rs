//! The guest's registers as at power-on, what it is trapped on, and exceptions given to it.

use bulkhead_hypervisor_core::plan::{MachinePlan, Range};

use super::instr;
use super::vectors::Frame;

/// The smallest data cache line of the CPUs that we know.
const LINE_BYTES: u64 = 64;

/// Cleans what was written to guest memory: a guest starts with its caches off.
pub(crate) fn clean(range: Range) {
    (0..range.bytes.div_ceil(LINE_BYTES)).for_each(|line| instr::clean_line(range.base + line * LINE_BYTES));
}

/// The registers as the Linux boot protocol wants them (Documentation/arch/arm64/booting): EL1h, DAIF masked, MMU off,
/// x0 = device tree, x1-x3 = 0.
pub(crate) fn reset_guest(plan: &MachinePlan, frame: &mut Frame) {
    *frame = Frame::new();
    frame.set(0, plan.guest_argument);
    instr::write_elr_el2(plan.guest_entry);
    instr::write_spsr_el2(0x3c5);
    instr::write_sctlr_el1(0x30d0_0800);
    for write in [
        instr::write_tcr_el1,
        instr::write_ttbr0_el1,
        instr::write_ttbr1_el1,
        instr::write_vbar_el1,
        instr::write_cpacr_el1,
        instr::write_cntkctl_el1,
        instr::write_mdscr_el1,
        instr::write_contextidr_el1,
        instr::write_cntv_ctl_el0,
    ] {
        write(0);
    }
}

/// What the guest is trapped on, for good.
pub(crate) fn set_traps() {
    // RW, TSW, TACR, TIDCP, TSC, TID3, AMO, IMO, FMO, SWIO, VM (Arm ARM D17.2.48).
    instr::write_hcr_el2(0x807c_003b);
    // SVE trapped, FP and SIMD not; trace trapped (D17.2.31).
    instr::write_cptr_el2(0x33ff);
    // TDA, TDOSA, TDRA, TPM, TPMCR; no counters for EL2 (D17.2.96).
    instr::write_mdcr_el2(1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5);
    instr::write_hstr_el2(0);
    // Physical counter and timer trapped; the virtual ones are the guest's.
    instr::write_cnthctl_el2(0);
    instr::write_cntvoff_el2(0);
    instr::write_cnthp_ctl_el2(0);
    instr::write_vpidr_el2(instr::read_midr_el1());
    instr::write_vmpidr_el2(1 << 31);
    instr::isb();
}

/// Gives the guest an exception as its own hardware would: `syndrome` is what ESR_EL1 shall hold (Arm ARM D1.3.3).
pub(crate) fn inject(syndrome: u64, fault_address: Option<u64>) {
    let state = instr::read_spsr_el2();
    // Vector: current EL with SP_EL0, with SP_ELx, lower EL AArch64, lower EL AArch32.
    let offset = match state & 0x1f {
        4 => 0x000,
        5 => 0x200,
        0 => 0x400,
        _ => 0x600,
    };
    if let Some(address) = fault_address {
        instr::write_far_el1(address);
    }
    instr::write_esr_el1(syndrome);
    instr::write_elr_el1(instr::read_elr_el2());
    instr::write_spsr_el1(state);
    instr::write_elr_el2(instr::read_vbar_el1() + offset);
    instr::write_spsr_el2(0x3c5);
}
