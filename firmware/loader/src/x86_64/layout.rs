//! Where everything goes on a PC: one region below 4 GiB is taken from the guest, all other memory is the guest's.

use alloc::vec::Vec;
use core::fmt;

use bulkhead_abi::boot::MAX_GUEST_RANGES;
use bulkhead_hypervisor_core::plan::Range;

use super::bzimage::{COMMAND_LINE, Kernel, ZERO_PAGE};
use super::map::{Map, kind, subtract};
use crate::wall::{BLOCK, PAGE, Sizes, TooLittle, Wall};

const GIB_4: u64 = 1 << 32;
const MIB_1: u64 = 0x10_0000;
/// The most ranges of firmware's tables.
pub const MAX_TABLES: usize = 4;
/// Below this lie the BIOS and the ROMs of cards, which are a resource of the policy.
const HIGH: u64 = 0x10_0000;
/// Where conventional memory ends.
const CONVENTIONAL_END: u64 = 0xa_0000;

/// The places, page-aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What is taken from the guest.
    pub wall: Wall,
    /// The guest's memory.
    pub guest_ram: Vec<Range>,
    /// Pieces that are nobody's: the smallest of more than the plan has room for.
    pub unused: Vec<Range>,
    /// Where the initial RAM disk goes.
    pub initrd: Range,
}

/// Why nothing fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// Not enough memory below 4 GiB.
    TooLittle(TooLittle),
    /// The memory map leaves no memory where the kernel must lie.
    KernelPlace(Range),
    /// Enough memory, and none of its free pieces is large enough: for what, how many bytes.
    Pieces(&'static str, u64),
    /// Conventional memory ends below the zero page and the command line.
    Conventional,
    /// More ranges of firmware's tables.
    Tables(usize),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLittle(error) => error.fmt(f),
            Self::KernelPlace(range) => write!(
                f,
                "the guest's kernel must lie at {:#x} ({} KiB), where this machine has no free memory",
                range.base,
                range.bytes >> 10
            ),
            Self::Conventional => {
                write!(f, "conventional memory ends below {:#x}: no room for the kernel's start", COMMAND_LINE + PAGE)
            }
            Self::Pieces(what, bytes) => write!(
                f,
                "too little memory in one piece: {what} needs {} MiB between the guest's kernel and 4 GiB, and what the boot chain uses lies between",
                bytes.div_ceil(1 << 20)
            ),
            Self::Tables(count) => {
                write!(f, "the firmware's tables lie in {count} pieces: at most {MAX_TABLES} are handled")
            }
        }
    }
}

/// What the layout depends on.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The firmware's memory map.
    pub map: &'a Map,
    /// What is in use until the jump: loader, bundle, the boot chain's list.
    pub busy: &'a [Range],
    /// Registers: never memory, whatever the map says.
    pub registers: &'a [Range],
    /// Firmware's tables may lie in what is reserved next to memory, as a BIOS has it; UEFI says where they lie.
    pub has_hidden_tables: bool,
}

/// Plans the places.
///
/// # Errors
/// [`LayoutError`]
pub fn plan(machine: &Machine<'_>, sizes: &Sizes, kernel: &Kernel<'_>, initrd: u64) -> Result<Layout, LayoutError> {
    let ram = memory(machine);
    let found = ram.iter().map(|range| range.bytes).sum();
    let needed = kernel.memory.base + kernel.memory.bytes + initrd + sizes.taken() + BLOCK;
    let or_too_little =
        |error| if found < needed { LayoutError::TooLittle(TooLittle { found, needed }) } else { error };
    let kernels = Range { base: 0, bytes: kernel.memory.base.saturating_add(kernel.memory.bytes) };
    let free = subtract(&subtract(&ram, machine.busy), &[kernels]);
    let base = free.iter().filter_map(|&range| top(range, sizes.taken())).max_by_key(|(_, room)| *room);
    let wall = Wall::at(base.ok_or_else(|| or_too_little(LayoutError::Pieces("the wall", sizes.taken())))?.0, sizes);
    let mut guest_ram = subtract(&ram, &[wall.taken]);
    let unused = drop_smallest(&mut guest_ram);
    let is_guests = |wanted: Range| guest_ram.iter().any(|range| range.holds(wanted));
    if !is_guests(Range { base: ZERO_PAGE, bytes: COMMAND_LINE + PAGE - ZERO_PAGE }) {
        return Err(LayoutError::Conventional);
    }
    if !is_guests(kernel.memory) {
        return Err(or_too_little(LayoutError::KernelPlace(kernel.memory)));
    }
    let limit = Range { base: MIB_1, bytes: kernel.initrd_max.saturating_add(1).min(GIB_4).saturating_sub(MIB_1) };
    let places = subtract(&guest_ram, &[kernel.memory]);
    let place = |range: Range| {
        let end = range.end()?.min(limit.end()?);
        let base = end.checked_sub(initrd)? / PAGE * PAGE;
        (base >= range.base.max(limit.base)).then_some(base)
    };
    let initrd_base = places.into_iter().filter_map(place).max();
    let initrd_base = initrd_base.ok_or_else(|| or_too_little(LayoutError::Pieces("the guest's initrd", initrd)))?;
    Ok(Layout { wall, guest_ram, unused, initrd: Range { base: initrd_base, bytes: initrd } })
}

/// Takes out the smallest of more pieces than the plan has room for; never conventional memory, where the guest starts.
fn drop_smallest(pieces: &mut Vec<Range>) -> Vec<Range> {
    let excess = pieces.len().saturating_sub(MAX_GUEST_RANGES);
    let mut smallest: Vec<Range> = pieces.iter().copied().filter(|piece| piece.base >= CONVENTIONAL_END).collect();
    smallest.sort_by_key(|piece| piece.bytes);
    smallest.truncate(excess);
    pieces.retain(|piece| !smallest.contains(piece));
    smallest
}

/// The machine's memory in whole pages. The firmware's data at the end of conventional memory count: they are nobody's but
/// the guest's firmware's.
fn memory(machine: &Machine<'_>) -> Vec<Range> {
    let mut ram = subtract(&machine.map.ram().collect::<Vec<_>>(), machine.registers);
    for range in ram.iter_mut().filter(|range| range.base < CONVENTIONAL_END) {
        let rest = range.end().unwrap_or(CONVENTIONAL_END);
        let is_reserved =
            |other: Range| other.base < rest + PAGE && other.base >= rest && other.end() == Some(CONVENTIONAL_END);
        if machine.map.of_kind(kind::RESERVED).any(is_reserved) {
            range.bytes = CONVENTIONAL_END - range.base;
        }
    }
    ram
}

/// The highest place for that many bytes in a range, between 1 MiB and 4 GiB; with how much room the range has there.
fn top(range: Range, bytes: u64) -> Option<(u64, u64)> {
    let start = range.base.max(MIB_1);
    let end = range.end()?.min(GIB_4) / BLOCK * BLOCK;
    let room = end.checked_sub(start)?;
    let base = end.checked_sub(bytes)?;
    (base >= start).then_some((base, room))
}

/// Firmware's tables, which the guest reads and of which it writes a lock (ACPI's FACS): ACPI's own ranges, and what is reserved next to memory below 4 GiB (a
/// BIOS may keep its tables there); whole pages, neighbours joined.
///
/// # Errors
/// [`LayoutError::Tables`]
pub fn tables(machine: &Machine<'_>) -> Result<Vec<Range>, LayoutError> {
    let map = machine.map;
    let ram: Vec<Range> = map.of_kind(kind::RAM).collect();
    let touches = |range: Range| {
        ram.iter().any(|ram| ram.end() == Some(range.base) || range.end().is_some_and(|end| ram.base == end))
    };
    let is_low = |range: &Range| range.base >= HIGH && range.end().is_some_and(|end| end <= GIB_4);
    let reserved = map
        .of_kind(kind::RESERVED)
        .filter(|range| machine.has_hidden_tables && touches(*range))
        .filter(|range| machine.registers.iter().all(|registers| registers.is_disjoint(*range)));
    let tables = map.of_kind(kind::ACPI_TABLES).chain(map.of_kind(kind::ACPI_STORAGE));
    let mut all: Vec<Range> = reserved.chain(tables).filter(is_low).map(outward).collect();
    all = subtract_memory(&all, machine);
    all.sort_by_key(|range| range.base);
    let mut joined: Vec<Range> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if last.end().is_some_and(|end| end >= range.base) => {
                last.bytes = last.end().max(range.end()).unwrap_or(last.base).saturating_sub(last.base);
            }
            _ => joined.push(range),
        }
    }
    if joined.len() > MAX_TABLES { Err(LayoutError::Tables(joined.len())) } else { Ok(joined) }
}

/// Whole pages that are memory stay memory.
fn subtract_memory(ranges: &[Range], machine: &Machine<'_>) -> Vec<Range> {
    ranges.iter().flat_map(|range| subtract(&[*range], &memory(machine))).collect()
}

/// The whole pages that hold a range.
fn outward(range: Range) -> Range {
    let base = range.base / PAGE * PAGE;
    let end = range.base.saturating_add(range.bytes);
    Range { base, bytes: end.checked_next_multiple_of(PAGE).unwrap_or(end / PAGE * PAGE) - base }
}

#[cfg(test)]
mod tests {
    use super::super::map::Entry;
    use super::*;

    const SIZES: Sizes = Sizes {
        secure: BLOCK,
        policy: 9000,
        hypervisor: 0x5_0000,
        parts: [7 << 20, 1_200_001, 0x2000, 60, 0, 0, 0, 0],
    };
    const REGISTERS: [Range; 2] =
        [Range { base: 0xfec0_0000, bytes: 0x1000 }, Range { base: 0xb000_0000, bytes: 0x1000_0000 }];

    fn entry(base: u64, end: u64, kind: u32) -> Entry {
        Entry { range: Range { base, bytes: end - base }, kind }
    }

    /// The map of QEMU's q35 with so much memory below 4 GiB.
    fn q35(end: u64) -> Map {
        Map::new(&[
            entry(0, 0x9_fc00, 1),
            entry(0x9_fc00, 0xa_0000, 2),
            entry(0xf_0000, 0x10_0000, 2),
            entry(0x10_0000, end - 0x2_1000, 1),
            entry(end - 0x2_1000, end, 2),
            entry(0xb000_0000, 0xc000_0000, 2),
            entry(0x1_0000_0000, 0x1_4000_0000, 1),
            entry(0xfd_0000_0000, 0x100_0000_0000, 2),
        ])
        .unwrap()
    }

    fn kernel(code: &[u8]) -> Kernel<'_> {
        Kernel::sample(code, Range { base: 0x100_0000, bytes: 0x300_0000 })
    }

    fn planned(map: &Map, busy: &[Range], initrd: u64) -> Result<Layout, LayoutError> {
        plan(&Machine { map, busy, registers: &REGISTERS, has_hidden_tables: true }, &SIZES, &kernel(&[0; 64]), initrd)
    }

    #[test]
    fn the_wall_is_at_the_top_below_4_gib_and_the_guest_gets_all_other_memory() {
        let layout = planned(&q35(0x8000_0000), &[], 1_200_001).unwrap();
        let taken = layout.wall.taken;
        assert_eq!(taken.end(), Some(0x7fe0_0000));
        assert_eq!(
            layout.guest_ram,
            [
                Range { base: 0, bytes: 0xa_0000 },
                Range { base: 0x10_0000, bytes: taken.base - 0x10_0000 },
                Range { base: 0x7fe0_0000, bytes: 0x1d_f000 },
                Range { base: 0x1_0000_0000, bytes: 0x4000_0000 },
            ]
        );
        let map = q35(0x8000_0000);
        let machine = Machine { map: &map, busy: &[], registers: &REGISTERS, has_hidden_tables: true };
        assert_eq!(tables(&machine).unwrap(), [Range { base: 0x7ffd_f000, bytes: 0x2_1000 }]);
        assert!(layout.initrd.base + layout.initrd.bytes <= 0x7ffd_f000 && layout.initrd.is_disjoint(taken));
    }

    #[test]
    fn registers_are_neither_memory_nor_tables_even_where_the_map_says_so() {
        let map = Map::new(&[
            entry(0, 0xa_0000, 1),
            entry(0x10_0000, 0xb000_0000, 1),
            entry(0xb000_0000, 0xc000_0000, 2),
            entry(0xfec0_0000, 0xfec0_2000, 1),
        ])
        .unwrap();
        let layout = planned(&map, &[], 1).unwrap();
        let machine = Machine { map: &map, busy: &[], registers: &REGISTERS, has_hidden_tables: true };
        assert_eq!(tables(&machine).unwrap(), [], "configuration space next to memory");
        let io_apic = REGISTERS[0];
        assert!(layout.guest_ram.iter().all(|range| range.is_disjoint(io_apic)), "{layout:?}");
    }

    #[test]
    fn what_is_still_in_use_is_not_taken() {
        let map = q35(0x8000_0000);
        let busy = Range { base: 0x7000_0000, bytes: 0xfe0_0000 };
        let layout = planned(&map, &[busy], 1).unwrap();
        assert_eq!(layout.wall.taken.end(), Some(0x7000_0000));
        let all = Range { base: 0x10_0000, bytes: 0x7ff0_0000 };
        let said = planned(&map, &[all], 1).unwrap_err().to_string();
        assert!(said.starts_with("too little memory in one piece: the wall needs 12 MiB"), "{said}");
    }

    #[test]
    fn the_initial_ram_disk_keeps_out_of_the_kernel_and_below_its_limit() {
        let map = q35(0x8000_0000);
        let mut low = kernel(&[0; 64]);
        low.initrd_max = 0x37ff_ffff;
        let machine = Machine { map: &map, busy: &[], registers: &[], has_hidden_tables: true };
        let layout = plan(&machine, &SIZES, &low, 0x1001).unwrap();
        assert_eq!(layout.initrd, Range { base: 0x37ff_e000, bytes: 0x1001 });
        low.initrd_max = 0x2ff_ffff;
        let layout = plan(&machine, &SIZES, &low, 0x1001).unwrap();
        assert_eq!(layout.initrd, Range { base: 0xff_e000, bytes: 0x1001 });
        let pieces = LayoutError::Pieces("the guest's initrd", 0x100_0000);
        assert_eq!(plan(&machine, &SIZES, &low, 0x100_0000), Err(pieces));
    }

    #[test]
    fn memory_that_just_fits_is_taken_and_less_is_refused_with_what_is_needed() {
        let small = |end| Map::new(&[entry(0, 0xa_0000, 1), entry(0x10_0000, end, 1)]).unwrap();
        let Err(LayoutError::TooLittle(TooLittle { needed, .. })) = planned(&small(0x200_0000), &[], 1_200_001) else {
            panic!("it is refused");
        };
        assert!(planned(&small(needed.next_multiple_of(BLOCK)), &[], 1_200_001).is_ok());
        assert!(planned(&small(needed - 2 * BLOCK), &[], 1_200_001).is_err());
    }

    #[test]
    fn maps_without_room_for_the_kernel_are_refused() {
        let hole = q35(0x8000_0000).without(Range { base: 0x200_0000, bytes: 0x1000 }).unwrap();
        assert!(matches!(planned(&hole, &[], 1), Err(LayoutError::KernelPlace(_))));
        let low = q35(0x8000_0000).without(Range { base: 0x9_8000, bytes: 0x1000 }).unwrap();
        assert_eq!(planned(&low, &[], 1), Err(LayoutError::Conventional));
    }

    #[test]
    fn the_wall_keeps_out_of_the_kernels_place() {
        // What is in use lies at the top: the largest free piece ends within the kernel.
        let map = q35(0x1000_0000);
        let busy = Range { base: 0x300_0000, bytes: 0x600_0000 };
        let layout = planned(&map, &[busy], 1).unwrap();
        assert!(layout.wall.taken.is_disjoint(kernel(&[0; 64]).memory), "{:?}", layout.wall.taken);
        assert!(layout.wall.taken.is_disjoint(busy));
    }

    #[test]
    fn of_too_many_pieces_the_smallest_are_nobodys() {
        let mut map = q35(0x8000_0000);
        // Pieces of 2, 3, 4 ... MiB, as firmware's own memory cuts them.
        let mut at = 0x2000_0000;
        for index in 2..10 {
            map = map.without(Range { base: at, bytes: 0x1000 }).unwrap();
            at += index << 20;
        }
        let layout = planned(&map, &[], 1).unwrap();
        assert_eq!(layout.guest_ram.len(), MAX_GUEST_RANGES);
        assert_eq!(layout.guest_ram[0], Range { base: 0, bytes: 0xa_0000 }, "the smallest but one, and kept");
        let least = layout.guest_ram.iter().skip(1).map(|range| range.bytes).min().unwrap();
        assert!(!layout.unused.is_empty() && layout.unused.iter().all(|range| range.bytes <= least));
        for unused in &layout.unused {
            assert!(
                layout.guest_ram.iter().all(|range| range.is_disjoint(*unused))
                    && unused.is_disjoint(layout.wall.taken)
            );
        }
        assert!(planned(&q35(0x8000_0000), &[], 1).unwrap().unused.is_empty());
    }
}
