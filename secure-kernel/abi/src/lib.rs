//! What the secure kernel, its apps and the wall beneath it agree on: status codes, messages,
//! system calls, the wall's calls, and the boot information that the loader leaves.
//!
//! Everything here is a number or a layout; nothing here decides. Neighbours: `secure-kernel/core`
//! (decides), `secure-kernel/user` (system call stubs), `hypervisor` (the wall's side),
//! `firmware/bundle` (writes [`boot`] structures on the host).
#![no_std]
#![forbid(unsafe_code)]

pub mod audit;
pub mod boot;
pub mod message;
pub mod status;
pub mod syscall;
pub mod wall;

pub use message::{MESSAGE_WORDS, Message};
pub use status::Status;
