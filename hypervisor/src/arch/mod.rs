//! The machine's architecture, chosen here and nowhere else.
mod aarch64;
pub(crate) use aarch64::{el1, gic, instr, mmu, vectors};
