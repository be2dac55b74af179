//! The EL1 state that differs between the partitions, and the switch from one to the other. What is not named here the
//! secure kernel never writes (FP, TPIDR, CPACR, pointer authentication, the virtual timer), so that it stays the guest's.

use bulkhead_abi::wall;

use super::instr;
use super::mmu::Stage2;
use super::vectors;
use super::{Next, gic};

/// The guest's state while the secure partition runs.
#[derive(Clone, Copy, Default)]
struct El1 {
    sctlr: u64,
    tcr: u64,
    ttbr0: u64,
    ttbr1: u64,
    mair: u64,
    vbar: u64,
    cntkctl: u64,
    sp_el1: u64,
    sp_el0: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
    pc: u64,
    pstate: u64,
}

impl El1 {
    #[inline(always)]
    fn save(&mut self) {
        self.sctlr = instr::read_sctlr_el1();
        self.tcr = instr::read_tcr_el1();
        self.ttbr0 = instr::read_ttbr0_el1();
        self.ttbr1 = instr::read_ttbr1_el1();
        self.mair = instr::read_mair_el1();
        self.vbar = instr::read_vbar_el1();
        self.cntkctl = instr::read_cntkctl_el1();
        self.sp_el1 = instr::read_sp_el1();
        self.sp_el0 = instr::read_sp_el0();
        self.elr = instr::read_elr_el1();
        self.spsr = instr::read_spsr_el1();
        self.esr = instr::read_esr_el1();
        self.far = instr::read_far_el1();
        self.pc = instr::read_elr_el2();
        self.pstate = instr::read_spsr_el2();
    }

    #[inline(always)]
    fn load(&self) {
        instr::write_sctlr_el1(self.sctlr);
        instr::write_tcr_el1(self.tcr);
        instr::write_ttbr0_el1(self.ttbr0);
        instr::write_ttbr1_el1(self.ttbr1);
        instr::write_mair_el1(self.mair);
        instr::write_vbar_el1(self.vbar);
        instr::write_cntkctl_el1(self.cntkctl);
        instr::write_sp_el1(self.sp_el1);
        instr::write_sp_el0(self.sp_el0);
        instr::write_elr_el1(self.elr);
        instr::write_spsr_el1(self.spsr);
        instr::write_esr_el1(self.esr);
        instr::write_far_el1(self.far);
        instr::write_elr_el2(self.pc);
        instr::write_spsr_el2(self.pstate);
    }
}

/// The registers with which the secure partition is entered: kept in memory, where a pair is loaded at once.
struct Secure {
    sctlr: u64,
    tcr: u64,
    ttbr1: u64,
    mair: u64,
    vbar: u64,
    cntkctl: u64,
    pc: u64,
    pstate: u64,
}

impl Secure {
    const fn new(kernel_root: u64) -> Self {
        Self {
            sctlr: wall::aarch64::SCTLR,
            tcr: wall::aarch64::TCR,
            ttbr1: kernel_root,
            mair: wall::aarch64::MAIR,
            vbar: wall::aarch64::VECTORS,
            cntkctl: wall::aarch64::CNTKCTL,
            pc: wall::aarch64::UPCALL_ENTRY,
            // EL1h, DAIF masked.
            pstate: 0x3c5,
        }
    }
}

/// RW, TSW, TACR, TIDCP, TSC, TID3, AMO, IMO, FMO, SWIO, VM (Arm ARM D17.2.48): both partitions.
const HCR: u64 = 0x807c_003b;
/// HCR_EL2.VI: the secure kernel's virtual interrupt.
const VIRTUAL_IRQ: u64 = 1 << 7;
/// SVE trapped, FP and SIMD not; trace trapped (D17.2.31).
const CPTR_GUEST: u64 = 0x33ff;
/// As [`CPTR_GUEST`], FP and SIMD trapped (TFP): the guest's registers stay untouched.
const CPTR_SECURE: u64 = CPTR_GUEST | 1 << 10;

/// The registers of both partitions, as far as they differ.
pub(crate) struct Sides {
    stage2: Stage2,
    secure: Secure,
    guest: El1,
    upcall: [u64; 9],
}

impl Sides {
    pub(crate) fn new(stage2: Stage2, kernel_root: u64) -> Self {
        Self { stage2, secure: Secure::new(kernel_root), guest: El1::default(), upcall: [0; 9] }
    }

    /// From the guest to the secure partition: it is entered at its upcall entry with constant registers, nothing of it was kept.
    #[inline(always)]
    pub(crate) fn enter_secure(&mut self, upcall: [u64; 9]) -> Next {
        self.upcall = upcall;
        to_secure(self.stage2, &self.secure, &mut self.guest);
        &raw const self.upcall
    }

    /// Back to the guest.
    #[inline(always)]
    pub(crate) fn leave_secure(&self) {
        to_guest(self.stage2, &self.guest);
    }

    /// The virtual interrupt of the secure kernel, while it runs: raised or taken back.
    #[inline(always)]
    pub(crate) fn signal(&mut self, is_raised: bool) {
        instr::write_hcr_el2(if is_raised { HCR | VIRTUAL_IRQ } else { HCR });
    }
}

#[inline(always)]
fn to_secure(stage2: Stage2, secure: &Secure, guest: &mut El1) {
    guest.save();
    // SP_EL0, SP_EL1, ELR, SPSR, ESR and FAR of EL1 the kernel writes itself before it reads them, or runs anything.
    instr::write_sctlr_el1(secure.sctlr);
    instr::write_tcr_el1(secure.tcr);
    instr::write_ttbr0_el1(0);
    instr::write_ttbr1_el1(secure.ttbr1);
    instr::write_mair_el1(secure.mair);
    instr::write_vbar_el1(secure.vbar);
    instr::write_cntkctl_el1(secure.cntkctl);
    instr::write_elr_el2(secure.pc);
    instr::write_spsr_el2(secure.pstate);
    instr::write_vttbr_el2(stage2.secure);
    instr::write_hcr_el2(HCR);
    instr::write_cptr_el2(CPTR_SECURE);
    gic::pause_guest();
    vectors::install_secure();
}

#[inline(always)]
fn to_guest(stage2: Stage2, guest: &El1) {
    guest.load();
    instr::write_vttbr_el2(stage2.guest);
    instr::write_hcr_el2(HCR);
    instr::write_cptr_el2(CPTR_GUEST);
    gic::resume_guest();
    vectors::install_guest();
}
