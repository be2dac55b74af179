//! What GRUB hands over (Multiboot2 Specification 2.0 §3.6): a list of tags.

use alloc::vec::Vec;
use core::fmt;

use bulkhead_hypervisor_core::plan::Range;

use super::map::Entry;
use super::{number, u32_at};

/// The value of EAX at the entry.
pub const MAGIC: u32 = 0x36d7_6289;
/// The longest list that is looked at.
pub const MAX_BYTES: usize = 1 << 20;

/// What is taken from the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot<'a> {
    /// The only module: the bundle.
    pub bundle: Option<Range>,
    /// The firmware's memory map, as it is.
    pub map: Vec<Entry>,
    /// A copy of ACPI's root pointer: the newest that there is.
    pub rsdp: Option<&'a [u8]>,
}

/// Why the list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// A tag does not lie within the list, or is too short for its kind.
    Tag(u32),
    /// There is no end tag.
    Cut,
    /// A module ends before it starts.
    Module,
    /// There are several modules.
    Modules(usize),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(kind) => write!(f, "the boot chain's tag of kind {kind} is damaged"),
            Self::Cut => f.write_str("the boot chain's list of tags is cut"),
            Self::Module => f.write_str("the boot chain's module ends before it starts"),
            Self::Modules(count) => {
                write!(f, "{count} modules: the bundle, and nothing else, is to be given (module2)")
            }
        }
    }
}

const MODULE: u32 = 3;
const MEMORY_MAP: u32 = 6;
const OLD_RSDP: u32 = 14;
const NEW_RSDP: u32 = 15;

/// Reads the list.
///
/// # Errors
/// [`BootError`]
pub fn read(list: &[u8]) -> Result<Boot<'_>, BootError> {
    let mut boot = Boot { bundle: None, map: Vec::new(), rsdp: None };
    let mut modules = 0;
    let mut rest = list.get(8..).ok_or(BootError::Cut)?;
    loop {
        let (kind, bytes) = u32_at(rest, 0).zip(u32_at(rest, 4)).ok_or(BootError::Cut)?;
        if kind == 0 {
            break;
        }
        let bytes = usize::try_from(bytes).map_err(|_| BootError::Tag(kind))?;
        let body = rest.get(..bytes).and_then(|tag| tag.get(8..)).ok_or(BootError::Tag(kind))?;
        match kind {
            MODULE => {
                let (start, end) = number(body, 0, 4).zip(number(body, 4, 4)).ok_or(BootError::Tag(kind))?;
                let bytes = end.checked_sub(start).ok_or(BootError::Module)?;
                boot.bundle = Some(Range { base: start, bytes });
                modules += 1;
            }
            MEMORY_MAP => boot.map = memory_map(body).ok_or(BootError::Tag(kind))?,
            OLD_RSDP if boot.rsdp.is_some() => {}
            OLD_RSDP | NEW_RSDP => boot.rsdp = Some(body),
            _ => {}
        }
        rest = rest.get(bytes.next_multiple_of(8)..).ok_or(BootError::Cut)?;
    }
    if modules > 1 { Err(BootError::Modules(modules)) } else { Ok(boot) }
}

fn memory_map(body: &[u8]) -> Option<Vec<Entry>> {
    let entry_bytes = usize::try_from(u32_at(body, 0)?).ok().filter(|&bytes| bytes >= 20)?;
    let entry = |bytes: &[u8]| {
        let range = Range { base: number(bytes, 0, 8)?, bytes: number(bytes, 8, 8)? };
        Some(Entry { range, kind: u32_at(bytes, 16)? })
    };
    body.get(8..)?.chunks_exact(entry_bytes).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut tag = [kind.to_le_bytes(), u32::try_from(body.len() + 8).unwrap().to_le_bytes()].concat();
        tag.extend_from_slice(body);
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    }

    fn module(start: u32, end: u32) -> Vec<u8> {
        tag(MODULE, &[&start.to_le_bytes()[..], &end.to_le_bytes(), b"bundle\0"].concat())
    }

    fn list(tags: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; 8], tags.concat(), tag(0, &[])].concat()
    }

    fn entries() -> Vec<u8> {
        let words = [24_u32, 0, 0, 0, 0x9_fc00, 0, 1, 0, 0x10_0000, 0, 0x1000, 1, 3, 0];
        tag(MEMORY_MAP, &words.map(u32::to_le_bytes).concat())
    }

    #[test]
    fn bundle_map_and_the_newest_root_pointer_are_found() {
        let tags =
            [tag(1, b"words\0"), entries(), tag(NEW_RSDP, b"new"), tag(OLD_RSDP, b"old"), module(0x1000, 0x3000)];
        let list = list(&tags);
        let boot = read(&list).unwrap();
        assert_eq!(boot.bundle, Some(Range { base: 0x1000, bytes: 0x2000 }));
        assert_eq!(boot.rsdp, Some(b"new".as_slice()));
        let entry = |base, bytes, kind| Entry { range: Range { base, bytes }, kind };
        assert_eq!(boot.map, [entry(0, 0x9_fc00, 1), entry(0x10_0000, 0x1_0000_1000, 3)]);
    }

    #[test]
    fn lists_that_lie_are_refused() {
        assert_eq!(read(&[]), Err(BootError::Cut));
        assert_eq!(read(&list(&[module(0x3000, 0x1000)])), Err(BootError::Module));
        assert_eq!(read(&list(&[module(0, 1), module(1, 2)])), Err(BootError::Modules(2)));
        assert_eq!(read(&list(&[tag(MODULE, &[0; 7])])), Err(BootError::Tag(MODULE)));
        let mut long = list(&[tag(1, b"x")]);
        long[12] = 0xff;
        assert_eq!(read(&long), Err(BootError::Tag(1)));
        long[12] = 0;
        assert_eq!(read(&long), Err(BootError::Tag(1)), "a tag without its own header");
        let mut small = entries();
        small[8] = 0;
        assert_eq!(read(&list(&[small])), Err(BootError::Tag(MEMORY_MAP)));
    }

    #[test]
    fn every_cut_is_refused() {
        let whole = list(&[entries(), module(0, 1)]);
        for length in 0..whole.len() - 8 {
            assert!(read(&whole[..length]).is_err(), "cut to {length}");
        }
    }
}
