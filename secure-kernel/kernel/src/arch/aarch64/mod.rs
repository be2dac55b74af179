//! AArch64 at EL1: traps and registers.
pub(crate) mod instr;
pub(crate) mod traps;
