//! AArch64 at EL2 without VHE (HCR_EL2.E2H = 0), GICv3.
pub(crate) mod el1;
pub(crate) mod gic;
pub(crate) mod instr;
pub(crate) mod mmu;
pub(crate) mod vectors;
