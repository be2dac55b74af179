//! The architecture's part, chosen once.
#[cfg_attr(target_arch = "aarch64", path = "aarch64/mod.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64/mod.rs")]
mod chosen;
pub(crate) use chosen::*;
