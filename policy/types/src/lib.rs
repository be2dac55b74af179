//! What the Rust types that `bulkhead types` makes from interfaces stand on: values that travel as words, texts and lists
//! with a most, a server's answer, a client's way to a service. The layout is that of `docs/policy.md`, "Interfaces"; who
//! writes the types is `policy/lang/src/types.rs`.
#![no_std]
#![forbid(unsafe_code)]

mod client;
mod many;
mod value;

pub use client::{Answer, ClientError, Transport};
pub use many::{Bytes, List, Text, TooLong};
pub use value::{Malformed, Reader, Value, Writer};

/// The most words of a message, one way.
pub const WORDS: usize = 6;
