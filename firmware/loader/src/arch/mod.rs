//! What differs by architecture, under the same names: `BootChain`, `boot`, `jump`, `stop`, `Output`.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{BootChain, NAME, Output, POLICY_MACHINE, boot, jump, stop};

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{BootChain, NAME, Output, POLICY_MACHINE, boot, jump, stop};
