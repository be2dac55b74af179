//! The hypervisor's pure logic: it decides, the image beside it (`hypervisor/src`) acts. No `unsafe`, no globals, runs on the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod audit;
pub mod call;
pub mod clock;
pub mod esr;
pub mod gate;
pub mod gic;
pub mod paging;
pub mod plan;
pub mod psci;
pub mod share;
pub mod sysreg;
pub mod x86;
