//! Placing the guest: its memory as at power-on, at the first start and at each restart.
#![expect(unsafe_code, reason = "guest memory is written by physical address")]

use bulkhead_hypervisor_core::plan::{MachinePlan, StoredPart};

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::arch;

/// A part of the start image did not come out of the store as long as the plan says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damaged;

/// Brings the start image from the store into guest memory.
///
/// # Errors
/// [`Damaged`]: the guest must not be started.
pub(crate) fn place(plan: &MachinePlan) -> Result<(), Damaged> {
    for part in plan.parts.iter().filter(|part| part.target.bytes != 0) {
        match part.encoding {
            0 => copy(part),
            _ => inflate(part)?,
        }
        arch::clean(part.target);
    }
    arch::flush_guest();
    Ok(())
}

/// Unpacks a raw deflate stream, which the loader checked by its hash.
fn inflate(part: &StoredPart) -> Result<(), Damaged> {
    let length = |bytes: u64| usize::try_from(bytes).map_err(|_| Damaged);
    let (stored, target) = (length(part.stored.bytes)?, length(part.target.bytes)?);
    // SAFETY: the store is mapped read only, and nobody writes to it.
    let stream = unsafe { core::slice::from_raw_parts(part.stored.base as *const u8, stored) };
    // SAFETY: the range lies in guest memory, is mapped and disjoint from the store and the image. The guest does not run and
    // no device writes to its memory (none that can is given to it), so this reference is the only access while it lives.
    let memory = unsafe { core::slice::from_raw_parts_mut(part.target.base as *mut u8, target) };
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = decompress(&mut DecompressorOxide::new(), stream, memory, 0, flags);
    if status == TINFLStatus::Done && written == target { Ok(()) } else { Err(Damaged) }
}

/// Copies eight bytes at a time; both places are aligned to that, and seven bytes longer than asked at the most.
fn copy(part: &StoredPart) {
    let words = part.target.bytes.min(part.stored.bytes).div_ceil(8);
    for word in 0..words {
        let from = (part.stored.base + word * 8) as *const u64;
        let to = (part.target.base + word * 8) as *mut u64;
        // SAFETY: the plan's store and guest memory are disjoint, mapped at their own addresses, and hold the whole part;
        // both are aligned to eight bytes (pages, and a boot sector at 0x7c00), and end in whole pages. The guest does not run, and no Rust reference points to its memory.
        unsafe { to.write_volatile(from.read_volatile()) };
    }
}
