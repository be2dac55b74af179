//! What GRUB hands over.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bulkhead_hypervisor_core::plan::Range;
use bulkhead_loader::last::Last;
use bulkhead_loader::x86_64::multiboot2;

use super::{Found, Output, Root};
use crate::memory;

/// What the loader is started with: the list of tags.
pub(crate) struct BootChain {
    list: u64,
}

pub(super) extern "C" fn entered(list: u64) -> ! {
    crate::start(BootChain { list })
}

impl BootChain {
    /// Reads the list.
    pub(super) fn found(&self, _out: &mut Output) -> Result<Found, String> {
        let list = read_list(self.list)?;
        let boot = multiboot2::read(list).map_err(|error| error.to_string())?;
        Ok(Found {
            map: boot.map,
            root: Root::Copy(boot.rsdp),
            bundle: boot.bundle,
            last: Last::NoMemory,
            busy: Vec::from([own(), Range { base: self.list, bytes: list.len() as u64 }]),
            remedy: "give it as the only module (GRUB: module2 /boot/bundle.img)".to_string(),
        })
    }
}

/// The loader's own image.
fn own() -> Range {
    unsafe extern "C" {
        static image_start: u8;
        static image_end: u8;
    }
    let (start, end) = ((&raw const image_start).addr() as u64, (&raw const image_end).addr() as u64);
    Range { base: start, bytes: end - start }
}

fn read_list(address: u64) -> Result<&'static [u8], String> {
    let length = memory(Range { base: address, bytes: 4 }).first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let is_sound = address != 0 && address.is_multiple_of(8) && (length as usize) <= multiboot2::MAX_BYTES;
    if !is_sound {
        return Err("the boot chain's list of tags is damaged".to_string());
    }
    Ok(memory(Range { base: address, bytes: u64::from(length) }))
}
