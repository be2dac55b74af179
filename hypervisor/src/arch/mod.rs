//! The machine's architecture, chosen here and nowhere else.
mod aarch64;
pub(crate) use aarch64::{gic, instr, mmu, vectors};
