//! One page-table builder for every translation regime of the wall: 4 KiB granule, 39-bit addresses, start at level 1
//! (Arm ARM D8.2), with the formats of stage 2, of EL1 and EL0's stage 1 and of EL2's own. It only adds mappings; a range that is
//! already mapped is refused, so that no owner's memory can be given twice.

/// The smallest unit mapped.
pub const PAGE_BYTES: u64 = 0x1000;
/// Entries of one table.
pub const ENTRIES: usize = 512;
/// One past the highest address that can be mapped.
pub const ADDRESS_LIMIT: u64 = 1 << 39;

/// The tables' memory. Index 0 is the root; every table starts zeroed.
pub trait TableMemory {
    /// The entry; 0 (invalid) for an index that does not exist.
    fn read(&self, table: usize, entry: usize) -> u64;
    /// Writes an entry; one that does not exist is ignored.
    fn write(&mut self, table: usize, entry: usize, value: u64);
    /// Takes a fresh zeroed table; `None` when all are used.
    fn take(&mut self) -> Option<usize>;
    /// A table's physical address.
    fn address(&self, table: usize) -> u64;
    /// The table at a physical address that [`TableMemory::address`] gave.
    fn at(&self, address: u64) -> Option<usize>;
}

/// What a mapping allows, in the words of both regimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Guest or partition memory at stage 2: write-back, read, write, execute.
    Stage2Ram,
    /// Stage 2: write-back, read and write, never executed.
    Stage2Data,
    /// Stage 2: write-back, read only, never executed.
    Stage2ReadOnly,
    /// Stage 2: device-nGnRE, read and write, never executed.
    Stage2Device,
    /// EL1 stage 1: the secure kernel's code, read only.
    KernelCode,
    /// EL1 stage 1: the secure kernel reads.
    KernelReadOnly,
    /// EL1 stage 1: the secure kernel reads and writes.
    KernelData,
    /// EL1 stage 1: an app's code, read only.
    AppCode,
    /// EL1 stage 1: an app reads.
    AppReadOnly,
    /// EL1 stage 1: an app reads and writes.
    AppData,
    /// EL1 stage 1: device registers that an app drives.
    AppDevice,
    /// EL2 stage 1: executable, read only.
    El2Code,
    /// EL2 stage 1: read only.
    El2ReadOnly,
    /// EL2 stage 1: read and write.
    El2Data,
    /// EL2 stage 1: device-nGnRE, read and write.
    El2Device,
}

impl Access {
    /// Lower and upper attributes of a block or page descriptor.
    /// Stage 2: MemAttr bits 2-5, S2AP 6-7, SH 8-9, AF 10, XN 54 (Arm ARM D8.3.2, D8.5).
    /// EL1 stage 1: AttrIndx bits 2-4, AP 6-7 (1: EL0 too, 2: read only), SH, AF, nG 11, PXN 53, UXN 54.
    /// EL2 stage 1: AttrIndx bits 2-4 (0 device, 1 normal, see [`MAIR_EL2`]), AP 6-7, SH, AF, XN 54.
    const fn attributes(self) -> u64 {
        const AF: u64 = 1 << 10;
        const INNER: u64 = 3 << 8;
        const XN: u64 = 1 << 54;
        const PXN: u64 = 1 << 53;
        const NG: u64 = 1 << 11;
        match self {
            Self::KernelCode => AF | INNER | 2 << 6 | 1 << 2 | XN,
            Self::KernelReadOnly => AF | INNER | 2 << 6 | 1 << 2 | XN | PXN,
            Self::KernelData => AF | INNER | 1 << 2 | XN | PXN,
            Self::AppCode => AF | INNER | NG | 3 << 6 | 1 << 2 | PXN,
            Self::AppReadOnly => AF | INNER | NG | 3 << 6 | 1 << 2 | XN | PXN,
            Self::AppDevice => AF | NG | 1 << 6 | XN | PXN,
            Self::AppData => AF | INNER | NG | 1 << 6 | 1 << 2 | XN | PXN,
            Self::Stage2Ram => AF | INNER | 3 << 6 | 0xf << 2,
            Self::Stage2Data => AF | INNER | 3 << 6 | 0xf << 2 | XN,
            Self::Stage2ReadOnly => AF | INNER | 1 << 6 | 0xf << 2 | XN,
            Self::Stage2Device => AF | 3 << 6 | 1 << 2 | XN,
            // AP[1] (bit 6) is RES1 at EL2; AP[2] (bit 7) set means read only.
            Self::El2Code => AF | INNER | 3 << 6 | 1 << 2,
            Self::El2ReadOnly => AF | INNER | 3 << 6 | 1 << 2 | XN,
            Self::El2Data => AF | INNER | 1 << 6 | 1 << 2 | XN,
            Self::El2Device => AF | 1 << 6 | XN,
        }
    }
}

/// MAIR_EL2 that [`Access`] counts on: attribute 0 device-nGnRE, attribute 1 normal write-back (Arm ARM D17.2.97).
pub const MAIR_EL2: u64 = 0xff04;

/// Why a mapping was not made. The tables may hold a part of it: the boot stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the length is no multiple of 4 KiB, or the length is 0.
    Unaligned,
    /// The range ends above 512 GiB.
    TooHigh,
    /// Something in the range is mapped already; the address where.
    Overlap(u64),
    /// No table left.
    OutOfTables,
}

impl MapError {
    /// What is wrong.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unaligned => "an address is no multiple of a page",
            Self::TooHigh => "a range ends above 512 GiB",
            Self::Overlap(_) => "two ranges overlap",
            Self::OutOfTables => "there are too few tables",
        }
    }
}

/// Maps `bytes` from input address `from` to output address `to`, with the largest blocks that fit.
///
/// # Errors
/// [`MapError`] says which rule the range breaks.
pub fn map(memory: &mut impl TableMemory, from: u64, to: u64, bytes: u64, access: Access) -> Result<(), MapError> {
    if !(from | to | bytes).is_multiple_of(PAGE_BYTES) || bytes == 0 {
        return Err(MapError::Unaligned);
    }
    let end = from.checked_add(bytes).ok_or(MapError::TooHigh)?;
    if end > ADDRESS_LIMIT || to.checked_add(bytes).is_none_or(|end| end > 1 << 48) {
        return Err(MapError::TooHigh);
    }
    let mut at = from;
    while at < end {
        let output = to + (at - from);
        let level = (1..=3).find(|&level| fits(at, output, end, level)).unwrap_or(3);
        map_one(memory, at, output, level, access)?;
        at += span(level);
    }
    Ok(())
}

/// What an input address translates to, with its descriptor's attributes; `None` where nothing is mapped.
#[must_use]
pub fn translate(memory: &impl TableMemory, from: u64) -> Option<(u64, u64)> {
    let mut table = 0;
    for level in 1..=3 {
        let entry = memory.read(table, index(from, level));
        match (entry & 3, level) {
            (3, 1 | 2) => table = memory.at(entry & OUTPUT)?,
            (1, 1 | 2) | (3, 3) => {
                let offset = from % span(level);
                return Some(((entry & OUTPUT) + offset, entry & !OUTPUT));
            }
            _ => return None,
        }
    }
    None
}

/// Output address bits of a descriptor, 48-bit addresses.
const OUTPUT: u64 = 0x0000_ffff_ffff_f000;

const fn span(level: u32) -> u64 {
    PAGE_BYTES << (9 * (3 - level))
}

const fn fits(from: u64, to: u64, end: u64, level: u32) -> bool {
    (from | to).is_multiple_of(span(level)) && end - from >= span(level)
}

const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (3 - level)) & 0x1ff) as usize
}

fn map_one(memory: &mut impl TableMemory, from: u64, to: u64, leaf: u32, access: Access) -> Result<(), MapError> {
    let mut table = 0;
    for level in 1..leaf {
        let entry = memory.read(table, index(from, level));
        table = match entry & 3 {
            0 => {
                let next = memory.take().ok_or(MapError::OutOfTables)?;
                memory.write(table, index(from, level), memory.address(next) | 3);
                next
            }
            3 => memory.at(entry & OUTPUT).ok_or(MapError::Overlap(from))?,
            _ => return Err(MapError::Overlap(from)),
        };
    }
    if memory.read(table, index(from, leaf)) != 0 {
        return Err(MapError::Overlap(from));
    }
    let kind = if leaf == 3 { 3 } else { 1 };
    memory.write(table, index(from, leaf), to | access.attributes() | kind);
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    struct Fake {
        tables: Vec<[u64; ENTRIES]>,
        limit: usize,
    }

    impl Fake {
        fn new(limit: usize) -> Self {
            Self { tables: vec![[0; ENTRIES]], limit }
        }
    }

    impl TableMemory for Fake {
        fn read(&self, table: usize, entry: usize) -> u64 {
            self.tables[table][entry]
        }
        fn write(&mut self, table: usize, entry: usize, value: u64) {
            self.tables[table][entry] = value;
        }
        fn take(&mut self) -> Option<usize> {
            (self.tables.len() < self.limit).then(|| {
                self.tables.push([0; ENTRIES]);
                self.tables.len() - 1
            })
        }
        fn address(&self, table: usize) -> u64 {
            0x8000_0000 + table as u64 * PAGE_BYTES
        }
        fn at(&self, address: u64) -> Option<usize> {
            let table = usize::try_from((address - 0x8000_0000) / PAGE_BYTES).unwrap();
            (table < self.tables.len()).then_some(table)
        }
    }

    #[test]
    fn a_range_translates_to_its_last_byte_and_not_beyond() {
        let mut fake = Fake::new(16);
        map(&mut fake, 0x4020_1000, 0x5020_1000, 0x40_0000, Access::Stage2Ram).unwrap();
        assert_eq!(translate(&fake, 0x4020_1000).map(|hit| hit.0), Some(0x5020_1000));
        assert_eq!(translate(&fake, 0x4060_0fff).map(|hit| hit.0), Some(0x5060_0fff));
        assert_eq!(translate(&fake, 0x4020_0fff), None);
        assert_eq!(translate(&fake, 0x4060_1000), None);
    }

    #[test]
    fn large_aligned_ranges_use_blocks_of_2_mib_and_1_gib() {
        let mut fake = Fake::new(8);
        map(&mut fake, 0x4000_0000, 0x4000_0000, 0x4000_0000, Access::Stage2Ram).unwrap();
        assert_eq!(fake.tables.len(), 1);
        map(&mut fake, 0x8000_0000, 0x8000_0000, 0x60_0000, Access::Stage2Ram).unwrap();
        assert_eq!(fake.tables.len(), 2);
    }

    #[test]
    fn the_stage_2_block_of_guest_memory_has_the_bits_that_ran_debian() {
        let mut fake = Fake::new(8);
        map(&mut fake, 0x4000_0000, 0x4000_0000, 0x20_0000, Access::Stage2Ram).unwrap();
        assert_eq!(fake.tables[1][0], 0x4000_07fd);
    }

    #[test]
    fn what_is_mapped_is_not_mapped_again_whatever_the_size() {
        let mut fake = Fake::new(8);
        map(&mut fake, 0x4000_0000, 0x4000_0000, 0x20_0000, Access::Stage2Ram).unwrap();
        assert_eq!(map(&mut fake, 0x4000_1000, 0, 0x1000, Access::Stage2Data), Err(MapError::Overlap(0x4000_1000)));
        assert_eq!(map(&mut fake, 0x4000_0000, 0, 0x4000_0000, Access::Stage2Ram), Err(MapError::Overlap(0x4000_0000)));
        assert!(map(&mut fake, 0x4020_0000, 0x4020_0000, 0x1000, Access::Stage2Ram).is_ok());
    }

    #[test]
    fn bad_ranges_and_a_lack_of_tables_are_refused() {
        let mut fake = Fake::new(2);
        assert_eq!(map(&mut fake, 0x800, 0, 0x1000, Access::Stage2Ram), Err(MapError::Unaligned));
        assert_eq!(map(&mut fake, 0, 0, 0, Access::Stage2Ram), Err(MapError::Unaligned));
        assert_eq!(map(&mut fake, ADDRESS_LIMIT, 0, 0x1000, Access::Stage2Ram), Err(MapError::TooHigh));
        assert_eq!(map(&mut fake, u64::MAX - 0xfff, 0, 0x1000, Access::Stage2Ram), Err(MapError::TooHigh));
        assert_eq!(map(&mut fake, 0, 0, 0x1000, Access::Stage2Ram), Err(MapError::OutOfTables));
    }

    #[test]
    fn data_and_devices_are_never_executable() {
        for access in [Access::Stage2Data, Access::Stage2ReadOnly, Access::Stage2Device, Access::El2ReadOnly] {
            assert_ne!(access.attributes() & 1 << 54, 0);
        }
        for access in [Access::El2Data, Access::El2Device] {
            assert_ne!(access.attributes() & 1 << 54, 0);
        }
        assert_eq!(Access::El2Code.attributes() & 1 << 54, 0);
        assert_ne!(Access::El2Code.attributes() & 1 << 7, 0, "code is read only");
    }
}
