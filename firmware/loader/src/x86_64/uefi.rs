//! What UEFI firmware hands over (UEFI 2.10): its memory map, the tables that it names, the size of the bundle's file.

use alloc::vec::Vec;
use core::fmt;

use bulkhead_hypervisor_core::plan::Range;

use super::map::{Entry, kind};
use super::{number, u32_at};
use crate::wall::PAGE;

/// Where the bundle lies, on the volume that the loader was started from.
pub const BUNDLE: &str = r"\EFI\bulkhead\bundle.img";
/// The longest memory map that is looked at.
pub const MAX_MAP_BYTES: usize = 1 << 16;
/// The longest file that is taken for a bundle.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 30;
/// The most tables that are looked through.
const MAX_TABLES: usize = 256;
/// A descriptor of version 1; firmware may make them longer (§7.2.3).
const DESCRIPTOR_BYTES: usize = 40;

/// Why the firmware's answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UefiError {
    /// The memory map is longer than [`MAX_MAP_BYTES`], or its length is no multiple of a descriptor's.
    Map,
    /// The bundle's file is longer than [`MAX_BUNDLE_BYTES`].
    Large(u64),
    /// There is no memory below 4 GiB for a bundle of so many bytes.
    NoRoom(u64),
}

impl fmt::Display for UefiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map => f.write_str("the firmware's memory map is damaged"),
            Self::Large(bytes) => {
                write!(f, "the bundle ({BUNDLE}) has {bytes} bytes: at most {MAX_BUNDLE_BYTES} are taken")
            }
            Self::NoRoom(bytes) => {
                let needed = bytes.div_ceil(1 << 20);
                write!(f, "too little memory: the bundle ({BUNDLE}) needs {needed} MiB below 4 GiB")
            }
        }
    }
}

/// The memory map's descriptors (§7.2.3), each `descriptor_bytes` long, as entries of ACPI's map. One without pages is left out.
///
/// # Errors
/// [`UefiError::Map`]
pub fn memory_map(map: &[u8], descriptor_bytes: usize) -> Result<Vec<Entry>, UefiError> {
    let is_sound = descriptor_bytes >= DESCRIPTOR_BYTES && map.len() <= MAX_MAP_BYTES;
    if !is_sound || !map.len().is_multiple_of(descriptor_bytes) {
        return Err(UefiError::Map);
    }
    let entry = |descriptor: &[u8]| {
        let (base, pages, attributes) =
            (number(descriptor, 8, 8)?, number(descriptor, 24, 8)?, number(descriptor, 32, 8)?);
        let range = Range { base, bytes: pages.saturating_mul(PAGE) };
        Some(Entry { range, kind: kind_of(u32_at(descriptor, 0)?, attributes) })
    };
    Ok(map.chunks_exact(descriptor_bytes).filter_map(entry).filter(|entry| entry.range.bytes != 0).collect())
}

/// What a descriptor's memory is once boot services are over (§7.2; ACPI 6.5 §15.3): the loader's own and boot
/// services' are free then. What cannot be cached, serves a purpose of its own, or is needed by runtime services is nobody's.
const fn kind_of(of: u32, attributes: u64) -> u32 {
    const WRITE_BACK: u64 = 1 << 3;
    const SPECIFIC_PURPOSE: u64 = 1 << 18;
    const RUNTIME: u64 = 1 << 63;
    let is_plain = attributes & (WRITE_BACK | SPECIFIC_PURPOSE | RUNTIME) == WRITE_BACK;
    match of {
        // Loader code and data, boot services' code and data, conventional memory.
        1..=4 | 7 if is_plain => kind::RAM,
        9 => kind::ACPI_TABLES,
        10 => kind::ACPI_STORAGE,
        _ => kind::RESERVED,
    }
}

/// ACPI's root pointer among the tables that the firmware names (§4.6.1), each by its name's 16 bytes: that of ACPI 2.0 and newer,
/// else the old one.
#[must_use]
pub fn root(tables: impl Iterator<Item = ([u8; 16], u64)>) -> Option<u64> {
    const NEW: [u8; 16] = [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0, 0x80, 0xc7, 0x3c, 0x88, 0x81];
    const OLD: [u8; 16] = [0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11, 0x9a, 0x16, 0, 0x90, 0x27, 0x3f, 0xc1, 0x4d];
    let mut old = None;
    for (name, address) in tables.take(MAX_TABLES).filter(|(_, address)| *address != 0) {
        if name == NEW {
            return Some(address);
        }
        if name == OLD {
            old = old.or(Some(address));
        }
    }
    old
}

/// How many pages the bundle's file takes.
///
/// # Errors
/// [`UefiError::Large`]
pub fn pages(file_bytes: u64) -> Result<usize, UefiError> {
    let pages = usize::try_from(file_bytes.div_ceil(PAGE).max(1));
    pages.ok().filter(|_| file_bytes <= MAX_BUNDLE_BYTES).ok_or(UefiError::Large(file_bytes))
}

#[cfg(test)]
mod tests {
    use super::super::map::{Map, MapError};
    use super::*;

    const PLAIN: u64 = 0xf;

    fn descriptor(of: u32, base: u64, pages: u64, attributes: u64) -> Vec<u8> {
        let mut bytes = [u64::from(of), base, 0, pages, attributes].map(u64::to_le_bytes).concat();
        // As EDK II makes them.
        bytes.resize(48, 0xee);
        bytes
    }

    fn entries(descriptors: &[Vec<u8>]) -> Vec<Entry> {
        memory_map(&descriptors.concat(), 48).unwrap()
    }

    fn entry(base: u64, end: u64, kind: u32) -> Entry {
        Entry { range: Range { base, bytes: end - base }, kind }
    }

    #[test]
    fn what_is_free_after_boot_services_is_memory_and_nothing_else_is() {
        for of in 0..=20 {
            let expected = match of {
                1..=4 | 7 => kind::RAM,
                9 => kind::ACPI_TABLES,
                10 => kind::ACPI_STORAGE,
                _ => kind::RESERVED,
            };
            assert_eq!(entries(&[descriptor(of, 0x1000, 2, PLAIN)]), [entry(0x1000, 0x3000, expected)], "type {of}");
        }
        for attributes in [0, 1, PLAIN | 1 << 18, PLAIN | 1 << 63] {
            assert_eq!(entries(&[descriptor(7, 0x1000, 1, attributes)])[0].kind, kind::RESERVED, "{attributes:#x}");
        }
        assert_eq!(entries(&[descriptor(u32::MAX, 0, 1, PLAIN)])[0].kind, kind::RESERVED);
    }

    #[test]
    fn hundreds_of_descriptors_become_a_map_that_the_zero_page_holds() {
        // As OVMF leaves memory: boot services' code and data in turn.
        let mut descriptors: Vec<_> =
            (0..600).map(|at| descriptor(3 + at % 2, 0x10_0000 + u64::from(at) * 0x1000, 1, PLAIN)).collect();
        descriptors.push(descriptor(6, 0x10_0000 + 600 * 0x1000, 16, PLAIN | 1 << 63));
        descriptors.reverse();
        let map = Map::new(&entries(&descriptors)).unwrap();
        assert_eq!(
            map.entries(),
            [entry(0x10_0000, 0x35_8000, kind::RAM), entry(0x35_8000, 0x36_8000, kind::RESERVED)]
        );
    }

    #[test]
    fn hostile_maps_are_put_in_order_or_refused() {
        let of = |descriptors: &[Vec<u8>]| Map::new(&entries(descriptors));
        // Overlapping and unsorted: who allows less wins. No pages: no entry. More pages than addresses: to their end, and out of reach.
        let map = of(&[
            descriptor(7, 0x20_0000, 0x100, PLAIN),
            descriptor(7, 0x10_0000, 0x200, PLAIN),
            descriptor(5, 0x18_0000, 1, PLAIN | 1 << 63),
            descriptor(7, 0x5000, 0, PLAIN),
            descriptor(9, 0x17_f000, 2, PLAIN),
        ]);
        let wanted = [
            entry(0x10_0000, 0x17_f000, kind::RAM),
            entry(0x17_f000, 0x18_0000, kind::ACPI_TABLES),
            entry(0x18_0000, 0x18_1000, kind::RESERVED),
            entry(0x18_1000, 0x30_0000, kind::RAM),
        ];
        assert_eq!(map.unwrap().entries(), wanted);
        let wraps = of(&[descriptor(7, 0x10_0000, u64::MAX, PLAIN)]).unwrap();
        assert_eq!(wraps.entries(), [entry(0x10_0000, 1 << 39, kind::RAM)]);
        assert_eq!(of(&[descriptor(7, u64::MAX - 0xfff, 2, PLAIN)]), Err(MapError::NoMemory));
        assert_eq!(of(&[descriptor(7, 0x1000, 0, PLAIN)]), Err(MapError::NoMemory));
        assert_eq!(of(&[]), Err(MapError::NoMemory));
        let islands: Vec<_> = (0..129).map(|at| descriptor(7, at * 0x2000, 1, PLAIN)).collect();
        assert_eq!(of(&islands), Err(MapError::TooMany(129)));
        assert!(of(&islands[..128]).is_ok());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let one = descriptor(7, 0, 1, PLAIN);
        assert!(memory_map(&one, 48).is_ok());
        for length in [0, 1, 8, 39, 47, 49, usize::MAX] {
            assert_eq!(memory_map(&one, length), Err(UefiError::Map), "descriptors of {length} bytes");
        }
        assert_eq!(memory_map(&one[..47], 48), Err(UefiError::Map));
        assert_eq!(memory_map(&vec![0; MAX_MAP_BYTES + 64], 64), Err(UefiError::Map));
        assert_eq!(memory_map(&vec![0; MAX_MAP_BYTES], 64), Ok(Vec::new()), "no pages in any");
    }

    #[test]
    fn the_newer_root_pointer_is_taken_and_no_other_table() {
        let bytes = |name: &str| {
            let [a, b, c, d, e] = name.split('-').collect::<Vec<_>>().try_into().unwrap();
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let mut bytes = number(a).to_le_bytes()[..4].to_vec();
            bytes.extend_from_slice(&number(b).to_le_bytes()[..2]);
            bytes.extend_from_slice(&number(c).to_le_bytes()[..2]);
            bytes.extend_from_slice(&number(d).to_be_bytes()[6..]);
            bytes.extend_from_slice(&number(e).to_be_bytes()[2..]);
            <[u8; 16]>::try_from(bytes).unwrap()
        };
        // §4.6.1: ACPI 2.0, ACPI 1.0, SMBIOS.
        let [new, old, other] = [
            "8868e871-e4f1-11d3-bc22-0080c73c8881",
            "eb9d2d30-2d88-11d3-9a16-0090273fc14d",
            "eb9d2d31-2d88-11d3-9a16-0090273fc14d",
        ]
        .map(bytes);
        let of = |tables: &[([u8; 16], u64)]| root(tables.iter().copied());
        assert_eq!(of(&[(other, 1), (old, 2), (new, 3), (new, 4)]), Some(3));
        assert_eq!(of(&[(other, 1), (old, 2), (old, 5)]), Some(2));
        assert_eq!(of(&[(new, 0), (old, 2)]), Some(2), "a null pointer is none");
        assert_eq!((of(&[(other, 1)]), of(&[])), (None, None));
        assert_eq!(root(core::iter::repeat((other, 1))), None, "a list without an end");
    }

    #[test]
    fn a_bundle_of_any_size_gets_its_pages_and_one_that_is_too_long_is_refused() {
        assert_eq!((pages(0), pages(1), pages(4096), pages(4097)), (Ok(1), Ok(1), Ok(1), Ok(2)));
        assert_eq!(pages(MAX_BUNDLE_BYTES), Ok(1 << 18));
        assert_eq!(pages(MAX_BUNDLE_BYTES + 1), Err(UefiError::Large(MAX_BUNDLE_BYTES + 1)));
        assert_eq!(pages(u64::MAX), Err(UefiError::Large(u64::MAX)));
        assert!(UefiError::Large(5).to_string().contains(r"(\EFI\bulkhead\bundle.img) has 5 bytes"));
    }
}
