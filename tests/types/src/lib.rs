//! The types of `shapes.policy` and of an example, as a service would have them.
#![no_std]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));
