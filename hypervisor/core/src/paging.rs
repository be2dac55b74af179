//! One page-table builder for every translation regime of the wall: tables of 512 entries, pages of 4 KiB, blocks of 2 MiB and
//! 1 GiB, in the [`Format`] of AArch64, of x86-64 or of EPT; partitions' memory, tasks' address spaces and the hypervisor's own.
//! It only adds mappings; a range that is already mapped is refused, so that no owner's memory can be given twice.

/// The smallest unit mapped.
pub const PAGE_BYTES: u64 = 0x1000;
/// Entries of one table.
pub const ENTRIES: usize = 512;
/// One past the highest address of a partition, and of a task: what every format can map.
pub const ADDRESS_LIMIT: u64 = 1 << 39;

/// The tables' memory. Index 0 is the root; every table starts zeroed.
pub trait TableMemory {
    /// How these tables are encoded.
    fn format(&self) -> Format;
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

/// How a set of tables is encoded. Levels are AArch64's: 3 holds pages, 2 blocks of 2 MiB, 1 blocks of 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// AArch64, 39-bit addresses, start at level 1 (Arm ARM D8.2): stage 2, stage 1 of EL1 and EL0, EL2's own.
    Aarch64,
    /// x86-64, 48-bit addresses, four levels (SDM 3 §4.5). SVM's nested tables are encoded alike (APM 2 §15.25.5). The CPU must
    /// have pages of 1 GiB (CPUID 0x8000_0001 EDX 26) and NX.
    LongMode,
    /// VMX's extended page tables, 48-bit addresses, four levels (SDM 3 §28.3). The CPU must have pages of 1 GiB
    /// (IA32_VMX_EPT_VPID_CAP 17).
    Ept,
}

/// What an entry is.
enum Entry {
    Free,
    Table,
    Leaf,
}

impl Format {
    const fn first_level(self) -> u32 {
        match self {
            Self::Aarch64 => 1,
            Self::LongMode | Self::Ept => 0,
        }
    }

    /// One past the highest input address.
    const fn limit(self) -> u64 {
        span(self.first_level()) * ENTRIES as u64
    }

    /// An entry that leads to the table at `address`. On x86-64 tables allow all, and leaves decide; they are marked accessed
    /// (5), so that no CPU writes to them.
    const fn table(self, address: u64) -> u64 {
        match self {
            Self::Aarch64 => address | 3,
            Self::LongMode => address | 1 << 5 | 7,
            Self::Ept => address | 7,
        }
    }

    /// An entry that maps `address`.
    const fn leaf(self, address: u64, level: u32, access: Access) -> u64 {
        let large = if level == 3 { 0 } else { LARGE };
        match self {
            Self::Aarch64 => address | access.attributes() | if level == 3 { 3 } else { 1 },
            Self::LongMode => address | large | access.long_mode(),
            Self::Ept => address | large | access.ept(),
        }
    }

    const fn kind(self, entry: u64, level: u32) -> Entry {
        let (is_free, is_leaf) = match self {
            Self::Aarch64 => (entry & 1 == 0, entry & 3 == 1),
            Self::LongMode => (entry & 1 == 0, entry & LARGE != 0),
            Self::Ept => (entry & 7 == 0, entry & LARGE != 0),
        };
        match (is_free, is_leaf || level == 3) {
            (true, _) => Entry::Free,
            (false, true) => Entry::Leaf,
            (false, false) => Entry::Table,
        }
    }
}

/// A block of 2 MiB or 1 GiB (x86-64 and EPT).
const LARGE: u64 = 1 << 7;

/// What a mapping allows. "Stage 2" is a partition's memory: AArch64's stage 2, EPT, SVM's nested tables; kernel and app are the
/// halves of the secure partition's stage 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Stage 2: guest or partition memory: write-back, read, write, execute.
    Stage2Ram,
    /// Stage 2: write-back, read and execute, never written.
    Stage2Rom,
    /// Stage 2: write-back, read and write, never executed.
    Stage2Data,
    /// Stage 2: write-back, read only, never executed.
    Stage2ReadOnly,
    /// Stage 2: device registers (AArch64: nGnRE; x86-64: uncached), read and write, never executed.
    Stage2Device,
    /// Stage 2: device registers whose writes the hypervisor looks at: read only, never executed.
    Stage2Watched,
    /// The secure kernel's code, read only.
    KernelCode,
    /// The secure kernel reads.
    KernelReadOnly,
    /// The secure kernel reads and writes.
    KernelData,
    /// An app's code, read only.
    AppCode,
    /// An app reads.
    AppReadOnly,
    /// An app reads and writes.
    AppData,
    /// Device registers that an app drives.
    AppDevice,
    /// The hypervisor's own: executable, read only.
    HypervisorCode,
    /// The hypervisor's own: read only.
    HypervisorReadOnly,
    /// The hypervisor's own: read and write.
    HypervisorData,
    /// The hypervisor's own: device registers, read and write.
    HypervisorDevice,
}

impl Access {
    const fn is_written(self) -> bool {
        match self {
            Self::Stage2Ram | Self::Stage2Data | Self::Stage2Device | Self::KernelData => true,
            Self::AppData | Self::AppDevice | Self::HypervisorData | Self::HypervisorDevice => true,
            Self::Stage2Rom | Self::Stage2ReadOnly | Self::Stage2Watched | Self::KernelCode | Self::KernelReadOnly => {
                false
            }
            Self::AppCode | Self::AppReadOnly | Self::HypervisorCode | Self::HypervisorReadOnly => false,
        }
    }

    const fn is_executed(self) -> bool {
        matches!(self, Self::Stage2Ram | Self::Stage2Rom | Self::KernelCode | Self::AppCode | Self::HypervisorCode)
    }

    const fn is_device(self) -> bool {
        matches!(self, Self::Stage2Device | Self::Stage2Watched | Self::AppDevice | Self::HypervisorDevice)
    }

    /// The kernel's half and the hypervisor's own are not reached from ring 3. Nested walks are those of a user (APM 2 §15.25.5).
    const fn is_privileged(self) -> bool {
        match self {
            Self::KernelCode | Self::KernelReadOnly | Self::KernelData => true,
            Self::HypervisorCode | Self::HypervisorReadOnly | Self::HypervisorData | Self::HypervisorDevice => true,
            Self::Stage2Ram | Self::Stage2Rom | Self::Stage2Data | Self::Stage2ReadOnly => false,
            Self::Stage2Device | Self::Stage2Watched => false,
            Self::AppCode | Self::AppReadOnly | Self::AppData | Self::AppDevice => false,
        }
    }

    /// P 0, RW 1, US 2, PWT 3 and PCD 4 (uncached, by the PAT's reset value), A 5, D 6, NX 63 (SDM 3 §4.5.4).
    const fn long_mode(self) -> u64 {
        let write = if self.is_written() { 1 << 1 } else { 0 };
        let user = if self.is_privileged() { 0 } else { 1 << 2 };
        let memory = if self.is_device() { 3 << 3 } else { 0 };
        let never = if self.is_executed() { 0 } else { 1 << 63 };
        1 | write | user | memory | 3 << 5 | never
    }

    /// R 0, W 1, X 2, memory type 3-5: write-back 6, uncached 0 (SDM 3 §28.3.2). The PAT of who runs is not ignored.
    const fn ept(self) -> u64 {
        let write = if self.is_written() { 1 << 1 } else { 0 };
        let execute = if self.is_executed() { 1 << 2 } else { 0 };
        let memory = if self.is_device() { 0 } else { 6 << 3 };
        1 | write | execute | memory
    }

    /// Lower and upper attributes of an AArch64 block or page descriptor.
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
            Self::Stage2Rom => AF | INNER | 1 << 6 | 0xf << 2,
            Self::Stage2Data => AF | INNER | 3 << 6 | 0xf << 2 | XN,
            Self::Stage2ReadOnly => AF | INNER | 1 << 6 | 0xf << 2 | XN,
            Self::Stage2Device => AF | 3 << 6 | 1 << 2 | XN,
            Self::Stage2Watched => AF | 1 << 6 | 1 << 2 | XN,
            // AP[1] (bit 6) is RES1 at EL2; AP[2] (bit 7) set means read only.
            Self::HypervisorCode => AF | INNER | 3 << 6 | 1 << 2,
            Self::HypervisorReadOnly => AF | INNER | 3 << 6 | 1 << 2 | XN,
            Self::HypervisorData => AF | INNER | 1 << 6 | 1 << 2 | XN,
            Self::HypervisorDevice => AF | 1 << 6 | XN,
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
    /// The range ends above what the format can map (AArch64: 512 GiB).
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
            Self::TooHigh => "a range ends too high",
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
    if end > memory.format().limit() || to.checked_add(bytes).is_none_or(|end| end > 1 << 48) {
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
    let format = memory.format();
    let mut table = 0;
    for level in format.first_level()..=3 {
        let entry = memory.read(table, index(from, level));
        match format.kind(entry, level) {
            Entry::Free => return None,
            Entry::Table => table = memory.at(entry & OUTPUT)?,
            Entry::Leaf => return Some(((entry & OUTPUT) + from % span(level), entry & !OUTPUT)),
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
    let format = memory.format();
    let mut table = 0;
    for level in format.first_level()..leaf {
        let entry = memory.read(table, index(from, level));
        table = match format.kind(entry, level) {
            Entry::Free => {
                let next = memory.take().ok_or(MapError::OutOfTables)?;
                memory.write(table, index(from, level), format.table(memory.address(next)));
                next
            }
            Entry::Table => memory.at(entry & OUTPUT).ok_or(MapError::Overlap(from))?,
            Entry::Leaf => return Err(MapError::Overlap(from)),
        };
    }
    if memory.read(table, index(from, leaf)) != 0 {
        return Err(MapError::Overlap(from));
    }
    memory.write(table, index(from, leaf), format.leaf(to, leaf, access));
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const FORMATS: [Format; 3] = [Format::Aarch64, Format::LongMode, Format::Ept];
    const ALL: [Access; 16] = [
        Access::Stage2Ram,
        Access::Stage2Rom,
        Access::Stage2Data,
        Access::Stage2ReadOnly,
        Access::Stage2Device,
        Access::KernelCode,
        Access::KernelReadOnly,
        Access::KernelData,
        Access::AppCode,
        Access::AppReadOnly,
        Access::AppData,
        Access::AppDevice,
        Access::HypervisorCode,
        Access::HypervisorReadOnly,
        Access::HypervisorData,
        Access::HypervisorDevice,
    ];

    struct Fake {
        tables: Vec<[u64; ENTRIES]>,
        limit: usize,
        format: Format,
    }

    impl Fake {
        /// `limit` counts from the table of level 1 on.
        fn new(format: Format, limit: usize) -> Self {
            Self { tables: vec![[0; ENTRIES]], limit: limit + usize::from(format != Format::Aarch64), format }
        }
    }

    impl TableMemory for Fake {
        fn format(&self) -> Format {
            self.format
        }
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

    /// The entry of one page that is mapped with `access`.
    fn page(format: Format, access: Access) -> u64 {
        let mut fake = Fake::new(format, 8);
        map(&mut fake, 0x4020_1000, 0x5020_1000, PAGE_BYTES, access).unwrap();
        let (address, attributes) = translate(&fake, 0x4020_1000).unwrap();
        address | attributes
    }

    #[test]
    fn a_range_translates_to_its_last_byte_and_not_beyond() {
        for format in FORMATS {
            let mut fake = Fake::new(format, 16);
            map(&mut fake, 0x4020_1000, 0x5020_1000, 0x40_0000, Access::Stage2Ram).unwrap();
            assert_eq!(translate(&fake, 0x4020_1000).map(|hit| hit.0), Some(0x5020_1000));
            assert_eq!(translate(&fake, 0x4060_0fff).map(|hit| hit.0), Some(0x5060_0fff));
            assert_eq!(translate(&fake, 0x4020_0fff), None);
            assert_eq!(translate(&fake, 0x4060_1000), None);
        }
    }

    #[test]
    fn large_aligned_ranges_use_blocks_of_2_mib_and_1_gib() {
        for format in FORMATS {
            let mut fake = Fake::new(format, 8);
            map(&mut fake, 0x4000_0000, 0x4000_0000, 0x4000_0000, Access::Stage2Ram).unwrap();
            let tables = fake.tables.len();
            assert_eq!(tables, if format == Format::Aarch64 { 1 } else { 2 });
            map(&mut fake, 0x8000_0000, 0x8000_0000, 0x60_0000, Access::Stage2Ram).unwrap();
            assert_eq!(fake.tables.len(), tables + 1);
        }
    }

    #[test]
    fn a_block_of_guest_memory_has_the_bits_of_its_format() {
        for (format, entry) in
            [(Format::Aarch64, 0x4000_07fd), (Format::LongMode, 0x4000_00e7), (Format::Ept, 0x4000_00b7)]
        {
            let mut fake = Fake::new(format, 8);
            map(&mut fake, 0x4000_0000, 0x4000_0000, 0x20_0000, Access::Stage2Ram).unwrap();
            assert_eq!(fake.tables.last().unwrap()[0], entry, "{format:?}");
        }
    }

    #[test]
    fn the_entries_of_x86_64_are_those_of_the_manuals() {
        for (access, long_mode, ept) in [
            (Access::Stage2Data, 0x8000_0000_5020_1067, 0x5020_1033),
            (Access::Stage2Rom, 0x5020_1065, 0x5020_1035),
            (Access::Stage2ReadOnly, 0x8000_0000_5020_1065, 0x5020_1031),
            (Access::Stage2Device, 0x8000_0000_5020_107f, 0x5020_1003),
        ] {
            assert_eq!(page(Format::LongMode, access), long_mode, "{access:?}");
            assert_eq!(page(Format::Ept, access), ept, "{access:?}");
        }
        for (access, entry) in [
            (Access::KernelCode, 0x5020_1061),
            (Access::KernelData, 0x8000_0000_5020_1063),
            (Access::AppCode, 0x5020_1065),
            (Access::AppData, 0x8000_0000_5020_1067),
            (Access::AppDevice, 0x8000_0000_5020_107f),
            (Access::HypervisorDevice, 0x8000_0000_5020_107b),
        ] {
            assert_eq!(page(Format::LongMode, access), entry, "{access:?}");
        }
    }

    #[test]
    fn what_is_mapped_is_not_mapped_again_whatever_the_size() {
        for format in FORMATS {
            let mut fake = Fake::new(format, 8);
            map(&mut fake, 0x4000_0000, 0x4000_0000, 0x20_0000, Access::Stage2Ram).unwrap();
            let small = map(&mut fake, 0x4000_1000, 0, 0x1000, Access::Stage2Data);
            assert_eq!(small, Err(MapError::Overlap(0x4000_1000)));
            let large = map(&mut fake, 0x4000_0000, 0, 0x4000_0000, Access::Stage2Ram);
            assert_eq!(large, Err(MapError::Overlap(0x4000_0000)));
            assert!(map(&mut fake, 0x4020_0000, 0x4020_0000, 0x1000, Access::Stage2Ram).is_ok());
            assert_eq!(map(&mut fake, 0x4020_0000, 0, 0x1000, Access::Stage2Data), Err(MapError::Overlap(0x4020_0000)));
        }
    }

    #[test]
    fn bad_ranges_and_a_lack_of_tables_are_refused() {
        for format in FORMATS {
            let mut fake = Fake::new(format, 2);
            assert_eq!(map(&mut fake, 0x800, 0, 0x1000, Access::Stage2Ram), Err(MapError::Unaligned));
            assert_eq!(map(&mut fake, 0, 0, 0, Access::Stage2Ram), Err(MapError::Unaligned));
            assert_eq!(map(&mut fake, format.limit(), 0, 0x1000, Access::Stage2Ram), Err(MapError::TooHigh));
            assert_eq!(map(&mut fake, u64::MAX - 0xfff, 0, 0x1000, Access::Stage2Ram), Err(MapError::TooHigh));
            assert_eq!(map(&mut fake, 0, 1 << 48, 0x1000, Access::Stage2Ram), Err(MapError::TooHigh));
            assert_eq!(map(&mut fake, 0, 0, 0x1000, Access::Stage2Ram), Err(MapError::OutOfTables));
        }
    }

    #[test]
    fn a_root_of_x86_64_reaches_both_halves() {
        for format in [Format::LongMode, Format::Ept] {
            let mut fake = Fake::new(format, 16);
            let high = 0xffff_ff80_4001_0000 % format.limit();
            map(&mut fake, 0x40_0000, 0x4000_0000, 0x1000, Access::AppCode).unwrap();
            map(&mut fake, high, 0x4001_0000, 0x1000, Access::KernelCode).unwrap();
            let used: Vec<usize> = (0..ENTRIES).filter(|&slot| fake.tables[0][slot] != 0).collect();
            assert_eq!(used, [0, 511]);
            assert_eq!(translate(&fake, high).map(|hit| hit.0), Some(0x4001_0000));
        }
    }

    #[test]
    fn data_and_devices_are_never_executable() {
        for format in FORMATS {
            for access in ALL.into_iter().filter(|access| !access.is_executed()) {
                let entry = page(format, access);
                let is_barred = match format {
                    // XN (UXN in stage 1 of two levels, where PXN is set too).
                    Format::Aarch64 => entry & 1 << 54 != 0,
                    Format::LongMode => entry & 1 << 63 != 0,
                    Format::Ept => entry & 1 << 2 == 0,
                };
                assert!(is_barred, "{format:?} {access:?}");
            }
        }
    }

    #[test]
    fn code_and_what_is_only_read_are_never_writable() {
        for access in ALL.into_iter().filter(|access| !access.is_written()) {
            assert_eq!(page(Format::LongMode, access) & 1 << 1, 0, "{access:?}");
            assert_eq!(page(Format::Ept, access) & 1 << 1, 0, "{access:?}");
            // S2AP bit 7 is "write"; AP bit 7 is "read only".
            let is_stage2 = matches!(access, Access::Stage2Rom | Access::Stage2ReadOnly);
            assert_eq!(page(Format::Aarch64, access) & 1 << 7 == 0, is_stage2, "{access:?}");
        }
        let both = ALL.into_iter().filter(|access| access.is_written() && access.is_executed());
        assert_eq!(both.collect::<Vec<_>>(), [Access::Stage2Ram], "a partition's memory alone is both");
    }

    #[test]
    fn ring_3_reaches_nothing_of_the_kernel_and_the_hypervisor() {
        for access in ALL {
            assert_eq!(page(Format::LongMode, access) & 1 << 2 == 0, access.is_privileged(), "{access:?}");
        }
    }
}
