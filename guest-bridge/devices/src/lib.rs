//! Device models that the guest sees. Pure: guest memory is reached through [`SharedMem`] by copies only, and everything
//! that the guest writes (registers, rings, descriptors, bytes) is hostile. Every walk has a bound. Their neighbour is
//! the `bridge` app, which owns the memory, the interrupt and the meaning of a line.
#![no_std]
#![forbid(unsafe_code)]

mod console;
mod legacy_pci;
mod line;
mod memory;
mod modern_pci;
#[cfg(test)]
mod tests;
mod transport;
mod uart;
mod virtqueue;

pub use console::{Console, MAX_PORTS};
pub use line::{LINE_MAX, Line};
pub use memory::{OutOfRange, SharedMem};
pub use transport::Interface;
pub use uart::Uart;
pub use virtqueue::QUEUE_MAX;
