//! What the guest starts with. A bzImage and its zero page (Linux Documentation/arch/x86/boot and zero-page): entered at its 64-bit entry point where it
//! has one, else at its 32-bit one. Or a boot sector, with what follows it in its file: entered in real mode as a BIOS enters it.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bulkhead_hypervisor_core::plan::{Range, start};

use super::map::Map;
use super::number;
use crate::wall::PAGE;

/// Where the zero page goes. Decompressors of old kernels use what lies below as scratch.
pub const ZERO_PAGE: u64 = 0x9_0000;
/// Where the command line goes.
pub const COMMAND_LINE: u64 = 0x9_8000;
/// The zero page, a page with the descriptor table that the protocol demands, and six of translation tables; all below the command line.
pub const START_BYTES: u64 = 8 * PAGE;
/// What a kernel takes that says nothing (protocol 1.x to 2.05).
const SHORT_LINE: u64 = 255;

/// Where the translation tables lie behind the zero page.
const TABLES: u64 = 2 * PAGE;
const SETUP: usize = 0x1f1;
/// Where the zero page has other fields again.
const SETUP_END: usize = 0x290;
const ENTRY_COUNT: usize = 0x1e8;
const ENTRIES: usize = 0x2d0;
/// `xloadflags`: there is a 64-bit entry point, so far behind the first byte.
const HAS_64: u64 = 1;
const ENTRY_64: u64 = 0x200;

/// A boot sector's place (BIOS Boot Specification 1.01 §6.5.1), and where all that comes with it must end: below the zero page's place, as old loaders keep it.
const SECTOR: u64 = 512;
const SECTOR_PLACE: u64 = 0x7c00;
const SECTOR_END: u64 = ZERO_PAGE;

/// Why a kernel cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// Neither a setup header nor a boot sector's signature.
    Unknown,
    /// A boot sector that is cut, or followed by more than fits below it: the bytes of its file.
    Sectors(u64),
    /// The protocol's version.
    Old(u16),
    /// A zImage: loaded low.
    LoadedLow,
    /// A length or an address in the header cannot be true: which field.
    Lies(&'static str),
    /// The command line is longer than the kernel, or its place, takes: how long it may be.
    Line(u64),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the guest's kernel is neither a bzImage (no HdrS at byte 0x202) nor a boot sector (no 0x55 0xaa at byte 510)"),
            Self::Sectors(bytes) => write!(
                f,
                "the guest's boot sector comes with {bytes} bytes: whole sectors of 512 are taken, and {} at the most",
                SECTOR_END - SECTOR_PLACE
            ),
            Self::Old(version) => {
                let (major, minor) = (version >> 8, version & 0xff);
                write!(f, "the guest's kernel speaks boot protocol {major}.{minor:02}: 2.02 or newer is needed")
            }
            Self::LoadedLow => f.write_str("the guest's kernel is a zImage: a bzImage is needed"),
            Self::Lies(field) => write!(f, "the guest's kernel is damaged: its {field} cannot be true"),
            Self::Line(most) => write!(f, "the guest's command line is longer than its kernel takes ({most} bytes)"),
        }
    }
}

/// A kernel whose header was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    header: &'a [u8],
    /// The part that runs in protected mode.
    pub code: &'a [u8],
    /// Where it goes.
    pub load: u64,
    /// Where it is entered, and as what (`start::*`).
    pub entry: (u64, u32),
    /// All memory that it uses before it looks at the memory map.
    pub memory: Range,
    /// The highest address that its initial RAM disk may have.
    pub initrd_max: u64,
    line_max: u64,
}

impl<'a> Kernel<'a> {
    /// Checks the header.
    ///
    /// # Errors
    /// [`KernelError`]
    pub fn open(image: &'a [u8]) -> Result<Self, KernelError> {
        let byte = |at: usize| image.get(at).copied().ok_or(KernelError::Unknown);
        if number(image, 0x1fe, 2) != Some(0xaa55) {
            return Err(KernelError::Unknown);
        }
        if image.get(0x202..0x206) != Some(b"HdrS") {
            return Self::sectors(image);
        }
        let version = number(image, 0x206, 2).and_then(|version| u16::try_from(version).ok()).unwrap_or(0);
        if version < 0x202 {
            return Err(KernelError::Old(version));
        }
        if byte(0x211)? & 1 == 0 {
            return Err(KernelError::LoadedLow);
        }
        let end = 0x202 + usize::from(byte(0x201)?);
        let setup = (usize::from(match byte(SETUP)? {
            0 => 4,
            sectors => sectors,
        }) + 1)
            * 512;
        let header = image.get(SETUP..end).filter(|_| end <= SETUP_END && end <= setup);
        let header = header.ok_or(KernelError::Lies("header length"))?;
        let code = image.get(setup..).filter(|code| !code.is_empty()).ok_or(KernelError::Lies("setup_sects"))?;
        // A field that the header is too short for, or the protocol too old, is not there.
        let field = |since: u16, at: usize, bytes: usize| {
            if version < since || at + bytes > end { None } else { number(image, at, bytes) }
        };
        let stated = field(0x204, 0x1f4, 4).unwrap_or(0) * 16;
        if stated > (code.len() as u64).next_multiple_of(16) {
            return Err(KernelError::Lies("syssize"));
        }
        let (load, memory) = place(code.len() as u64, &field)?;
        let line_max = field(0x206, 0x238, 4).unwrap_or(SHORT_LINE).min(PAGE - 1);
        let initrd_max = field(0x203, 0x22c, 4).unwrap_or(0x37ff_ffff);
        let has_64 = field(0x20c, 0x236, 2).unwrap_or(0) & HAS_64 != 0 && code.len() as u64 > ENTRY_64;
        let entry = if has_64 { (load + ENTRY_64, start::LONG) } else { (load, start::PROTECTED) };
        Ok(Self { header, code, load, entry, memory, initrd_max, line_max })
    }

    /// A boot sector and what follows it in its file.
    fn sectors(image: &'a [u8]) -> Result<Self, KernelError> {
        let bytes = image.len() as u64;
        if !bytes.is_multiple_of(SECTOR) || bytes > SECTOR_END - SECTOR_PLACE {
            return Err(KernelError::Sectors(bytes));
        }
        let base = SECTOR_PLACE / PAGE * PAGE;
        let memory = Range { base, bytes: (SECTOR_PLACE + bytes).next_multiple_of(PAGE) - base };
        let entry = (SECTOR_PLACE, start::REAL);
        Ok(Self {
            header: &[],
            code: image,
            load: SECTOR_PLACE,
            entry,
            memory,
            initrd_max: u64::MAX,
            line_max: PAGE - 1,
        })
    }

    #[cfg(test)]
    pub(super) const fn sample(code: &'a [u8], memory: Range) -> Self {
        let entry = (memory.base, start::PROTECTED);
        Self { header: &[], code, load: memory.base, entry, memory, initrd_max: 0x7fff_ffff, line_max: SHORT_LINE }
    }

    /// The zero page and, after it, the descriptor table that the protocol demands: code at selector 0x10, data at 0x18.
    /// `map` is the memory that the guest is told of.
    ///
    /// # Errors
    /// [`KernelError::Line`]
    pub fn start(&self, map: &Map, initrd: Range, line: &str) -> Result<Vec<u8>, KernelError> {
        if line.len() as u64 > self.line_max {
            return Err(KernelError::Line(self.line_max));
        }
        let mut page = vec![0; usize::try_from(START_BYTES).unwrap_or(0)];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = page.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        put(SETUP, self.header);
        // Nobody's number in the list of loaders (type_of_loader).
        put(0x210, &[0xff]);
        put(0x218, &low(initrd.base).to_le_bytes());
        put(0x21c, &low(initrd.bytes).to_le_bytes());
        put(0x228, &low(COMMAND_LINE).to_le_bytes());
        put(ENTRY_COUNT, &[u8::try_from(map.entries().len()).unwrap_or(u8::MAX)]);
        for (index, entry) in map.entries().iter().enumerate() {
            put(ENTRIES + index * 20, &entry.range.base.to_le_bytes());
            put(ENTRIES + index * 20 + 8, &entry.range.bytes.to_le_bytes());
            put(ENTRIES + index * 20 + 16, &entry.kind.to_le_bytes());
        }
        // Flat code of 64 or 32 bits, and data, 4 GiB (SDM 3 §3.4.5).
        let code: u64 = if self.entry.1 == start::LONG { 0x00af_9b00_0000_ffff } else { 0x00cf_9b00_0000_ffff };
        put(0x1010, &code.to_le_bytes());
        put(0x1018, &0x00cf_9300_0000_ffff_u64.to_le_bytes());
        // The first 4 GiB at their own addresses: four directories of blocks of 2 MiB (SDM 3 §4.5).
        let mut link = |at: u64, entry: u64| put(usize::try_from(at).unwrap_or(0), &entry.to_le_bytes());
        link(TABLES, (ZERO_PAGE + TABLES + PAGE) | 3);
        for directory in 0..4 {
            link(TABLES + PAGE + directory * 8, (ZERO_PAGE + TABLES + (2 + directory) * PAGE) | 3);
        }
        for block in 0..4 * 512 {
            link(TABLES + 2 * PAGE + block * 8, block << 21 | 0x83);
        }
        Ok(page)
    }
}

/// Tells the kernel, by its zero page, where ACPI's root pointer lies (acpi_rsdp_addr, protocol 2.14; older kernels do not look): where
/// it is in none of the places that a BIOS has it in.
pub fn tell_root(zero_page: &mut [u8], address: u64) {
    if let Some(field) = zero_page.get_mut(0x70..0x78) {
        field.copy_from_slice(&address.to_le_bytes());
    }
}

/// Where the code goes, and the memory that it needs.
fn place(code_bytes: u64, field: &impl Fn(u16, usize, usize) -> Option<u64>) -> Result<(u64, Range), KernelError> {
    const HIGH: u64 = 0x10_0000;
    let is_relocatable = field(0x205, 0x234, 1).unwrap_or(0) != 0;
    let alignment = field(0x205, 0x230, 4).unwrap_or(0).max(1);
    let preferred = field(0x20a, 0x258, 8).filter(|&preferred| preferred != 0).unwrap_or(HIGH);
    // Kernels before 2.10 do not say what they need: eight times their packed size is more than any packer reaches.
    let needs = field(0x20a, 0x260, 4).unwrap_or(code_bytes * 8).max(code_bytes);
    if !alignment.is_power_of_two() || alignment > 1 << 30 {
        return Err(KernelError::Lies("kernel_alignment"));
    }
    if !(HIGH..=1 << 31).contains(&preferred) || is_relocatable && !preferred.is_multiple_of(alignment) {
        return Err(KernelError::Lies("pref_address"));
    }
    if needs > 1 << 31 {
        return Err(KernelError::Lies("init_size"));
    }
    // One that cannot be placed elsewhere is loaded at 1 MiB and moves itself.
    let load = if is_relocatable { preferred } else { HIGH };
    let end = (load + code_bytes).max(preferred + needs);
    Ok((load, Range { base: load, bytes: (end - load).next_multiple_of(PAGE) }))
}

fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::map::{Entry, kind};
    use super::super::u32_at;
    use super::*;

    /// Four sectors of setup and 5000 bytes of code, as Debian's 6.1 describes itself.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 5 * 512 + 5000];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x1f1, &[4]);
        put(0x1f4, &(5000_u32.div_ceil(16)).to_le_bytes());
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
        put(0x202, b"HdrS\x0f\x02");
        put(0x211, &[1]);
        put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
        put(0x230, &0x20_0000_u32.to_le_bytes());
        put(0x234, &[1]);
        put(0x238, &2047_u32.to_le_bytes());
        put(0x258, &0x100_0000_u64.to_le_bytes());
        put(0x260, &0x200_0000_u32.to_le_bytes());
        image
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = image();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    #[test]
    fn a_relocatable_kernel_goes_where_it_prefers_and_an_old_one_to_one_mebibyte() {
        let image = image();
        let kernel = Kernel::open(&image).unwrap();
        assert_eq!((kernel.load, kernel.code.len(), kernel.initrd_max), (0x100_0000, 5000, 0x7fff_ffff));
        assert_eq!(kernel.memory, Range { base: 0x100_0000, bytes: 0x200_0000 });
        let fixed = with(0x234, &[0]);
        let kernel = Kernel::open(&fixed).unwrap();
        assert_eq!(kernel.load, 0x10_0000);
        assert_eq!(kernel.memory, Range { base: 0x10_0000, bytes: 0x2f0_0000 });
        let old = with(0x206, &[2, 2]);
        let kernel = Kernel::open(&old).unwrap();
        assert_eq!((kernel.load, kernel.line_max, kernel.initrd_max), (0x10_0000, 255, 0x37ff_ffff));
        assert_eq!(kernel.memory.bytes, 40_960);
    }

    #[test]
    fn headers_that_lie_are_refused_by_the_fields_name() {
        let lies = |at, bytes: &[u8]| Kernel::open(&with(at, bytes)).unwrap_err();
        assert_eq!(lies(0x202, b"hdrS"), KernelError::Sectors(7560), "a boot sector that is followed by parts of one");
        assert_eq!(lies(0x1fe, &[0, 0]), KernelError::Unknown);
        assert_eq!(lies(0x206, &[1, 2]), KernelError::Old(0x201));
        assert_eq!(lies(0x211, &[0]), KernelError::LoadedLow);
        assert_eq!(lies(0x1f1, &[200]), KernelError::Lies("setup_sects"));
        assert_eq!(lies(0x1f1, &[14]), KernelError::Lies("setup_sects"), "no code is left");
        assert_eq!(lies(0x1f4, &[0xff; 4]), KernelError::Lies("syssize"));
        assert_eq!(lies(0x201, &[0xff]), KernelError::Lies("header length"));
        assert_eq!(lies(0x230, &3_u32.to_le_bytes()), KernelError::Lies("kernel_alignment"));
        assert_eq!(lies(0x258, &[0xff; 8]), KernelError::Lies("pref_address"));
        assert_eq!(lies(0x258, &0x1000_u64.to_le_bytes()), KernelError::Lies("pref_address"));
        assert_eq!(lies(0x258, &0x101_0000_u64.to_le_bytes()), KernelError::Lies("pref_address"), "not aligned");
        assert_eq!(lies(0x260, &[0xff; 4]), KernelError::Lies("init_size"));
        assert_eq!(
            KernelError::Old(0x201).to_string(),
            "the guest's kernel speaks boot protocol 2.01: 2.02 or newer is needed"
        );
    }

    #[test]
    fn a_kernel_with_a_64_bit_entry_is_entered_there_and_others_where_they_are_loaded() {
        let (plain, long) = (image(), with(0x236, &[0x7f]));
        assert_eq!(Kernel::open(&plain).unwrap().entry, (0x100_0000, start::PROTECTED));
        let kernel = Kernel::open(&long).unwrap();
        assert_eq!(kernel.entry, (0x100_0200, start::LONG));
        let map = Map::new(&[Entry { range: Range { base: 0, bytes: 0x9_f000 }, kind: kind::RAM }]).unwrap();
        let page = kernel.start(&map, Range::default(), "").unwrap();
        let entry = |at: usize| number(&page, at, 8).unwrap();
        assert_eq!((entry(0x1010), entry(0x1018)), (0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff));
        assert_eq!((entry(0x2000), entry(0x3000), entry(0x3018)), (0x9_3003, 0x9_4003, 0x9_7003));
        assert_eq!((entry(0x4000), entry(0x7ff8)), (0x83, 0xffe0_0083), "the last block below 4 GiB");
        let mut old = long.clone();
        old[0x206] = 0xb;
        assert_eq!(Kernel::open(&old).unwrap().entry.1, start::PROTECTED, "before 2.12 the field is not there");
    }

    #[test]
    fn a_boot_sector_is_entered_in_real_mode_and_comes_with_what_fits() {
        let mut sector = vec![0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let kernel = Kernel::open(&sector).unwrap();
        assert_eq!((kernel.load, kernel.entry, kernel.code.len()), (0x7c00, (0x7c00, start::REAL), 512));
        assert_eq!(kernel.memory, Range { base: 0x7000, bytes: 0x1000 });
        sector.resize(0x8_8400, 0);
        assert_eq!(Kernel::open(&sector).unwrap().memory.end(), Some(ZERO_PAGE));
        sector.resize(0x8_8600, 0);
        assert_eq!(Kernel::open(&sector), Err(KernelError::Sectors(0x8_8600)));
        sector.resize(513, 0);
        assert_eq!(Kernel::open(&sector), Err(KernelError::Sectors(513)));
        sector.resize(511, 0);
        assert_eq!(Kernel::open(&sector), Err(KernelError::Unknown));
    }

    #[test]
    fn no_truncation_panics_and_none_without_code_is_taken() {
        let image = image();
        for length in 0..=5 * 512 {
            // A whole number of sectors, short of the header, is a boot sector.
            let is_sector = length == 512;
            assert_eq!(Kernel::open(&image[..length]).is_ok(), is_sector, "cut to {length}");
        }
    }

    #[test]
    fn the_zero_page_tells_the_kernel_what_it_gets() {
        let image = image();
        let kernel = Kernel::open(&image).unwrap();
        let entry = |base, bytes, kind| Entry { range: Range { base, bytes }, kind };
        let map = Map::new(&[entry(0, 0x9_fc00, kind::RAM), entry(0x10_0000, 0x1000_0000, kind::RAM)]).unwrap();
        let page = kernel.start(&map, Range { base: 0x800_0000, bytes: 77 }, "quiet").unwrap();
        assert_eq!(page.len() as u64, START_BYTES);
        assert_eq!(page[0x1f1..0x210], image[0x1f1..0x210]);
        assert_eq!(page[0x258..0x26c], image[0x258..0x26c]);
        assert_eq!((page[0x210], page[0x1ef]), (0xff, 0));
        let word = |at| u32_at(&page, at).unwrap();
        assert_eq!((word(0x218), word(0x21c), word(0x228)), (0x800_0000, 77, 0x9_8000));
        assert_eq!(page[0x1e8], 2);
        assert_eq!((word(0x2d0), word(0x2d8), word(0x2e0)), (0, 0x9_fc00, 1));
        assert_eq!((word(0x2e4), word(0x2ec), word(0x2f4)), (0x10_0000, 0x1000_0000, 1));
    }

    #[test]
    fn a_command_line_that_is_too_long_is_refused_and_one_that_just_fits_is_not() {
        let image = image();
        let kernel = Kernel::open(&image).unwrap();
        let map = Map::new(&[Entry { range: Range { base: 0, bytes: 0x9_f000 }, kind: kind::RAM }]).unwrap();
        let line = |length| kernel.start(&map, Range::default(), &"x".repeat(length)).map(|_| ());
        assert_eq!((line(2047), line(2048)), (Ok(()), Err(KernelError::Line(2047))));
        let boastful = with(0x238, &[0xff; 4]);
        assert_eq!(Kernel::open(&boastful).unwrap().line_max, 4095, "its place is one page");
    }
}
