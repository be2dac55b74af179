//! What guest and wall agree on: the register call ABI with its discovery, and the line protocol of the named ports.
//!
//! Numbers and layouts only. The register call follows SMCCC 1.2 (Arm DEN 0028): `hvc #0` (or `smc #0`), function id in
//! x0 (w0), arguments from x1, results from x0; registers that carry no result keep their value (x4-x17 included).
#![no_std]
#![forbid(unsafe_code)]

pub mod call;
pub mod console;
pub mod port;
