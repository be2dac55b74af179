//! x86-64: a PC that ACPI and the firmware's memory map describe, a bzImage as the guest. All that is read here was
//! written by firmware, boot chain or bundle, and none of it is trusted.

pub mod acpi;
pub mod bzimage;
pub mod cpu;
pub mod identity;
pub mod layout;
pub mod map;
pub mod multiboot2;
pub mod timer;
pub mod uefi;

/// The little-endian number of `bytes` bytes (at most 8) at an offset.
fn number(from: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let field = from.get(at..at.checked_add(bytes)?)?;
    Some(field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    u32::try_from(number(from, at, 4)?).ok()
}
