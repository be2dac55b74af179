//! AArch64: a machine that a device tree describes, and a Linux-style Image as the guest.

pub mod layout;
pub mod tree;
