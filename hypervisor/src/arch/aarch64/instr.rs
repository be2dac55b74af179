//! Each privileged instruction and register access, wrapped once.
#![expect(unsafe_code, reason = "privileged instructions have no safe form")]

use core::arch::asm;

macro_rules! readers {
    ($($name:ident $register:literal)*) => {$(
        #[inline(always)]
        pub(crate) fn $name() -> u64 {
            let value;
            // SAFETY: `mrs` of these registers touches no memory (acknowledging an interrupt changes the GIC's state
            // only); each exists at EL2 of an Armv8.0 CPU with a GICv3.
            unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}

macro_rules! writers {
    ($($name:ident $register:literal)*) => {$(
        #[inline(always)]
        pub(crate) fn $name(value: u64) {
            // SAFETY: none of these registers moves or protects EL2's own memory (those that do are written in `mmu`
            // and `vectors`); they hold the guest's state and what it traps.
            unsafe { asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) };
        }
    )*};
}

readers! {
    read_esr_el2 "esr_el2" read_far_el2 "far_el2" read_hpfar_el2 "hpfar_el2"
    read_elr_el2 "elr_el2" read_spsr_el2 "spsr_el2"
    read_midr_el1 "midr_el1"
    read_vbar_el1 "vbar_el1"
    read_sctlr_el1 "sctlr_el1" read_tcr_el1 "tcr_el1" read_ttbr0_el1 "ttbr0_el1" read_ttbr1_el1 "ttbr1_el1"
    read_mair_el1 "mair_el1" read_cntkctl_el1 "cntkctl_el1" read_sp_el1 "sp_el1" read_sp_el0 "sp_el0"
    read_esr_el1 "esr_el1" read_far_el1 "far_el1" read_elr_el1 "elr_el1" read_spsr_el1 "spsr_el1"
    read_cntvct_el0 "cntvct_el0" read_cntfrq_el0 "cntfrq_el0"
    read_ich_lr0_el2 "ich_lr0_el2" read_ich_lr1_el2 "ich_lr1_el2"
    read_ich_lr2_el2 "ich_lr2_el2" read_ich_lr3_el2 "ich_lr3_el2"
    read_icc_iar1_el1 "icc_iar1_el1" read_ich_elrsr_el2 "ich_elrsr_el2" read_ich_hcr_el2 "ich_hcr_el2"
    read_id_aa64pfr0_el1 "id_aa64pfr0_el1" read_id_aa64pfr1_el1 "id_aa64pfr1_el1"
    read_id_aa64dfr0_el1 "id_aa64dfr0_el1"
    read_id_aa64isar0_el1 "id_aa64isar0_el1" read_id_aa64isar1_el1 "id_aa64isar1_el1"
    read_id_aa64mmfr0_el1 "id_aa64mmfr0_el1" read_id_aa64mmfr1_el1 "id_aa64mmfr1_el1"
}

writers! {
    write_elr_el2 "elr_el2" write_spsr_el2 "spsr_el2"
    write_hcr_el2 "hcr_el2" write_vtcr_el2 "vtcr_el2" write_vttbr_el2 "vttbr_el2"
    write_cptr_el2 "cptr_el2" write_mdcr_el2 "mdcr_el2" write_hstr_el2 "hstr_el2"
    write_cnthctl_el2 "cnthctl_el2" write_cntvoff_el2 "cntvoff_el2" write_cnthp_ctl_el2 "cnthp_ctl_el2"
    write_vmpidr_el2 "vmpidr_el2" write_vpidr_el2 "vpidr_el2"
    write_sctlr_el1 "sctlr_el1" write_tcr_el1 "tcr_el1" write_ttbr0_el1 "ttbr0_el1" write_ttbr1_el1 "ttbr1_el1"
    write_vbar_el1 "vbar_el1" write_cpacr_el1 "cpacr_el1" write_cntkctl_el1 "cntkctl_el1"
    write_mdscr_el1 "mdscr_el1" write_contextidr_el1 "contextidr_el1" write_cntv_ctl_el0 "cntv_ctl_el0"
    write_mair_el1 "mair_el1" write_sp_el1 "sp_el1" write_sp_el0 "sp_el0" write_cnthp_cval_el2 "cnthp_cval_el2"
    write_esr_el1 "esr_el1" write_far_el1 "far_el1" write_elr_el1 "elr_el1" write_spsr_el1 "spsr_el1"
    write_icc_sre_el2 "icc_sre_el2" write_icc_sre_el1 "icc_sre_el1" write_icc_ctlr_el1 "icc_ctlr_el1"
    write_icc_pmr_el1 "icc_pmr_el1" write_icc_igrpen1_el1 "icc_igrpen1_el1"
    write_icc_eoir1_el1 "icc_eoir1_el1" write_icc_dir_el1 "icc_dir_el1"
    write_ich_hcr_el2 "ich_hcr_el2" write_ich_vmcr_el2 "ich_vmcr_el2" write_ich_ap1r0_el2 "ich_ap1r0_el2"
    write_ich_lr0_el2 "ich_lr0_el2" write_ich_lr1_el2 "ich_lr1_el2"
    write_ich_lr2_el2 "ich_lr2_el2" write_ich_lr3_el2 "ich_lr3_el2"
}

/// Makes register writes take effect before the next instruction (Arm ARM B2.6.9).
#[inline(always)]
pub(crate) fn isb() {
    // SAFETY: a barrier changes no state.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Forgets all instructions fetched and all translations of the guest in force (both stages).
pub(crate) fn flush_guest() {
    // SAFETY: invalidation only costs refetching; the barriers order it with what was written before.
    unsafe { asm!("dsb sy", "ic iallu", "tlbi vmalls12e1is", "dsb sy", "isb", options(nostack, preserves_flags)) };
}

/// Cleans and invalidates the cache line of an address to the point of coherency: a guest starts with its MMU off.
#[inline(always)]
pub(crate) fn clean_line(address: u64) {
    // SAFETY: cleaning writes back what the memory should hold anyway.
    unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
}

/// Stops this CPU for good, interrupts masked.
pub(crate) fn park() -> ! {
    loop {
        // SAFETY: waiting changes no state; DAIF is masked at EL2, so nothing is taken.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}

/// A call to the firmware above (SMCCC, PSCI SYSTEM_OFF = 0x8400_0008). Returns only if the firmware refuses.
pub(crate) fn power_off() {
    // SAFETY: SMCCC lets x0-x17 change (declared) and keeps all else; the call ends the machine or has no effect.
    unsafe { asm!("smc #0", inout("x0") 0x8400_0008_u64 => _, clobber_abi("C"), options(nostack)) };
}
