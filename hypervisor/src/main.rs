//! The hypervisor's image: entry, registers, tables, devices. What it decides is in `bulkhead-hypervisor-core`.
//!
//! The loader enters it once with a `MachinePlan`; from then on it runs only when the guest is left by a trap or
//! an interrupt. No heap, no parsing, one CPU.
#![no_std]
#![no_main]

mod arch;
mod console;
mod guest;
mod partition;
mod run;
mod spaces;
