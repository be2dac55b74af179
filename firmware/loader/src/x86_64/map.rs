//! The firmware's memory map (ACPI 6.5 §15): sorted, without overlaps, whatever the firmware wrote.

use alloc::vec::Vec;
use core::fmt;

use bulkhead_hypervisor_core::plan::Range;

use crate::wall::PAGE;

/// Kinds of memory (ACPI 6.5 table 15.4).
pub mod kind {
    /// Main memory.
    pub const RAM: u32 = 1;
    /// Nobody's; also every kind that this loader does not know.
    pub const RESERVED: u32 = 2;
    /// ACPI's tables: memory once they were read.
    pub const ACPI_TABLES: u32 = 3;
    /// ACPI's storage.
    pub const ACPI_STORAGE: u32 = 4;
}

/// The most entries of a map in order: the zero page has room for no more (Documentation/arch/x86/zero-page).
pub const MAX_ENTRIES: usize = 128;
/// The most entries that are put in order: UEFI's maps have hundreds.
const MAX_RAW: usize = 2048;
/// Memory from here on is nobody's: nothing of the wall can address it.
const LIMIT: u64 = 1 << 39;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub range: Range,
    /// [`kind`].
    pub kind: u32,
}

/// A map that was put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    entries: Vec<Entry>,
}

/// Why a map is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The firmware's map has more than 2,048, or the one put in order more than [`MAX_ENTRIES`].
    TooMany(usize),
    /// No entry is main memory.
    NoMemory,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => {
                write!(f, "the firmware's memory map has {count} entries: at most {MAX_ENTRIES} are understood")
            }
            Self::NoMemory => f.write_str("the firmware's memory map names no memory"),
        }
    }
}

/// Which kind holds where two entries overlap: the one that allows less.
const fn strength(of: u32) -> u32 {
    match of {
        kind::RAM => 0,
        kind::ACPI_TABLES => 1,
        kind::ACPI_STORAGE => 2,
        _ => 3,
    }
}

impl Map {
    /// Puts the entries in order. An entry that wraps ends where addresses do; memory above 512 GiB is left out.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn new(raw: &[Entry]) -> Result<Self, MapError> {
        if raw.len() > MAX_RAW {
            return Err(MapError::TooMany(raw.len()));
        }
        let end = |entry: &Entry| {
            let end = entry.range.base.saturating_add(entry.range.bytes);
            if entry.kind == kind::RAM { end.min(LIMIT) } else { end }
        };
        let mut edges: Vec<u64> = raw.iter().flat_map(|entry| [entry.range.base, end(entry)]).collect();
        edges.sort_unstable();
        edges.dedup();
        let mut entries: Vec<Entry> = Vec::new();
        for (&from, &to) in edges.iter().zip(edges.iter().skip(1)) {
            let covers = raw.iter().filter(|entry| entry.range.base <= from && to <= end(entry));
            let Some(strongest) = covers.map(|entry| entry.kind).max_by_key(|kind| strength(*kind)) else { continue };
            let kind = if strength(strongest) == 3 { kind::RESERVED } else { strongest };
            match entries.last_mut() {
                Some(last) if last.kind == kind && last.range.end() == Some(from) => last.range.bytes += to - from,
                _ => entries.push(Entry { range: Range { base: from, bytes: to - from }, kind }),
            }
        }
        if entries.len() > MAX_ENTRIES {
            return Err(MapError::TooMany(entries.len()));
        }
        if entries.iter().all(|entry| entry.kind != kind::RAM) {
            return Err(MapError::NoMemory);
        }
        Ok(Self { entries })
    }

    /// The map as somebody sees it who does not get `range`.
    ///
    /// # Errors
    /// [`MapError`]
    pub fn without(&self, range: Range) -> Result<Self, MapError> {
        let reserved = Entry { range, kind: kind::RESERVED };
        Self::new(&self.entries.iter().copied().chain([reserved]).collect::<Vec<_>>())
    }

    /// The entries: sorted, disjoint.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The ranges of one kind.
    pub fn of_kind(&self, wanted: u32) -> impl Iterator<Item = Range> {
        self.entries.iter().filter(move |entry| entry.kind == wanted).map(|entry| entry.range)
    }

    /// Main memory in whole pages.
    pub fn ram(&self) -> impl Iterator<Item = Range> {
        self.of_kind(kind::RAM).map(inward).filter(|range| range.bytes != 0)
    }
}

/// The whole pages within a range.
fn inward(range: Range) -> Range {
    let end = range.base.saturating_add(range.bytes) / PAGE * PAGE;
    let base = range.base.checked_next_multiple_of(PAGE).unwrap_or(end);
    Range { base, bytes: end.saturating_sub(base) }
}

/// What is left of disjoint ranges when others are taken out.
#[must_use]
pub fn subtract(from: &[Range], others: &[Range]) -> Vec<Range> {
    let mut left = from.to_vec();
    for other in others.iter().filter(|other| other.bytes != 0) {
        let other_end = other.base.saturating_add(other.bytes);
        left = left
            .iter()
            .flat_map(|range| {
                let end = range.base.saturating_add(range.bytes);
                let below = Range { base: range.base, bytes: end.min(other.base).saturating_sub(range.base) };
                let above_base = range.base.max(other_end);
                [below, Range { base: above_base, bytes: end.saturating_sub(above_base) }]
            })
            .filter(|range| range.bytes != 0)
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(base: u64, end: u64, kind: u32) -> Entry {
        Entry { range: Range { base, bytes: end.wrapping_sub(base) }, kind }
    }

    fn map(raw: &[Entry]) -> Vec<Entry> {
        Map::new(raw).unwrap().entries
    }

    #[test]
    fn a_sound_map_stays_as_it_is() {
        let sound = [
            entry(0, 0x9_fc00, kind::RAM),
            entry(0x9_fc00, 0xa_0000, kind::RESERVED),
            entry(0x10_0000, 0x3ffd_f000, kind::RAM),
            entry(0x3ffd_f000, 0x4000_0000, kind::ACPI_TABLES),
        ];
        assert_eq!(map(&sound), sound);
        let ram: Vec<Range> = Map::new(&sound).unwrap().ram().collect();
        assert_eq!(ram, [Range { base: 0, bytes: 0x9_f000 }, Range { base: 0x10_0000, bytes: 0x3fed_f000 }]);
    }

    #[test]
    fn an_unsorted_map_is_sorted_and_neighbours_of_one_kind_become_one() {
        let raw = [entry(0x20_0000, 0x30_0000, 1), entry(0, 0x1000, 1), entry(0x10_0000, 0x20_0000, 1)];
        assert_eq!(map(&raw), [entry(0, 0x1000, 1), entry(0x10_0000, 0x30_0000, 1)]);
    }

    #[test]
    fn where_entries_overlap_the_one_that_allows_less_holds() {
        let raw =
            [entry(0, 0x10_0000, 1), entry(0x4000, 0x5000, 2), entry(0x4800, 0x6000, 3), entry(0x5000, 0x5800, 12)];
        assert_eq!(
            map(&raw),
            [entry(0, 0x4000, 1), entry(0x4000, 0x5800, 2), entry(0x5800, 0x6000, 3), entry(0x6000, 0x10_0000, 1)]
        );
    }

    #[test]
    fn an_entry_that_wraps_is_cut_and_memory_out_of_reach_is_left_out() {
        let wraps = Entry { range: Range { base: 0x10_0000, bytes: u64::MAX }, kind: kind::RAM };
        assert_eq!(map(&[wraps]), [entry(0x10_0000, LIMIT, 1)]);
        assert_eq!(Map::new(&[wraps, Entry { kind: 9, ..wraps }]), Err(MapError::NoMemory));
    }

    #[test]
    fn a_map_without_memory_or_with_too_many_entries_is_refused() {
        assert_eq!(Map::new(&[]), Err(MapError::NoMemory));
        assert_eq!(Map::new(&[entry(0, 0x1000, 2)]), Err(MapError::NoMemory));
        assert_eq!(Map::new(&[entry(0x1000, 0x1000, 1)]), Err(MapError::NoMemory));
        let many: Vec<Entry> = (0..129).map(|at| entry(at * 0x2000, at * 0x2000 + 0x1000, 1)).collect();
        assert_eq!(Map::new(&many), Err(MapError::TooMany(129)));
        assert!(Map::new(&many[..128]).is_ok());
        let same = vec![many[0]; MAX_RAW];
        assert_eq!(map(&same), many[..1]);
        assert_eq!(Map::new(&[same, vec![many[0]]].concat()), Err(MapError::TooMany(MAX_RAW + 1)));
        // In order, a map may need more entries than it had: holes in one large range.
        let mut holes = many[..127].to_vec();
        holes.iter_mut().for_each(|hole| hole.kind = kind::RESERVED);
        holes.push(entry(0, 0x100_0000, 1));
        assert!(matches!(Map::new(&holes), Err(MapError::TooMany(count)) if count > 128));
    }

    #[test]
    fn what_is_taken_away_is_gone_and_nothing_else_is() {
        let range = |base, end| Range { base, bytes: end - base };
        let from = [range(0x1000, 0x5000), range(0x8000, 0x9000)];
        assert_eq!(subtract(&from, &[range(0x2000, 0x3000)]), [range(0x1000, 0x2000), range(0x3000, 0x5000), from[1]]);
        assert_eq!(subtract(&from, &[range(0, 0x8000), Range::default()]), [from[1]]);
        assert_eq!(subtract(&from, &[range(0x5000, 0x8000)]), from);
        let whole = Map::new(&[entry(0, 0x10_0000, 1)]).unwrap();
        let seen = whole.without(range(0x8000, 0x9000)).unwrap();
        assert_eq!(seen.of_kind(kind::RESERVED).collect::<Vec<_>>(), [range(0x8000, 0x9000)]);
    }
}
