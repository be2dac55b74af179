//! The architecture's part, chosen once.
#[path = "aarch64/mod.rs"]
mod chosen;
pub(crate) use chosen::*;
