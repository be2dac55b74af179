//! The loader's pure part: what the machine is, where everything goes, what the guest is told. The image beside it
//! (`main.rs`) reads memory, copies and jumps.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aarch64;
pub mod last;
pub mod misfit;
pub mod require;
pub mod resources;
pub mod wall;
pub mod x86_64;
