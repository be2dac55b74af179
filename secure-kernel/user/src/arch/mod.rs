//! The architecture's part, chosen once.
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
mod chosen;
pub(crate) use chosen::svc;
pub use chosen::{now, ticks_per_second};
#[cfg(target_arch = "x86_64")]
pub use chosen::{read_port, write_port};
