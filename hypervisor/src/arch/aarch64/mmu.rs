//! EL2's MMU and the stage 2 registers.
#![expect(unsafe_code, reason = "turning the MMU on moves everything at once")]

use core::arch::asm;

use bulkhead_hypervisor_core::paging::{Format, MAIR_EL2, MapError};
use bulkhead_hypervisor_core::plan::MachinePlan;

use super::instr;
use crate::spaces;

/// VTTBR_EL2 of each partition: its tables and its VMID (Arm ARM D17.2.158).
#[derive(Clone, Copy)]
pub(crate) struct Stage2 {
    pub(crate) guest: u64,
    pub(crate) secure: u64,
}

/// Builds all address spaces and turns EL2's MMU on.
///
/// # Errors
/// What could not be mapped; a plan that was validated does not lead here but for a lack of tables.
pub(crate) fn build(plan: &MachinePlan) -> Result<Stage2, MapError> {
    let roots = spaces::build(plan, Format::Aarch64, Format::Aarch64)?;
    enable(roots.own);
    // T0SZ 25, SL0 1, write-back inner shareable walks, 4 KiB, PS 40 bits (Arm ARM D17.2.157).
    instr::write_vtcr_el2(0x8002_3559);
    let stage2 = Stage2 { guest: 1 << 48 | roots.guest, secure: 2 << 48 | roots.secure };
    instr::write_vttbr_el2(stage2.guest);
    Ok(stage2)
}

fn enable(root: u64) {
    // T0SZ 25, write-back inner shareable walks, 4 KiB, PS 40 bits, RES1 bits 23 and 31 (Arm ARM D17.2.146).
    let control: u64 = 1 << 31 | 1 << 23 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
    // M, C, I, SA, WXN and the RES1 bits (D17.2.118).
    let system: u64 = 0x30cd_1835;
    // SAFETY: the tables at `root` map this code, the stack and all data at their own addresses (identity), so the
    // instruction after the switch is the one that follows here; caches held nothing of the tables but clean lines,
    // as they were written with the MMU off.
    unsafe {
        asm!(
            "msr mair_el2, {mair}", "msr tcr_el2, {tcr}", "msr ttbr0_el2, {root}",
            "dsb sy", "tlbi alle2", "tlbi alle1", "ic iallu", "dsb sy", "isb",
            "msr sctlr_el2, {sctlr}", "isb",
            mair = in(reg) MAIR_EL2, tcr = in(reg) control, root = in(reg) root, sctlr = in(reg) system,
            options(nostack, preserves_flags)
        );
    }
}
