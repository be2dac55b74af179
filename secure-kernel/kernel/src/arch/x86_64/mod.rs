//! x86-64 at privilege level 0: descriptor tables, traps and registers.
mod descriptors;
pub(crate) mod instr;
pub(crate) mod traps;
