//! The guest's kernel, a bzImage, and the zero page that it is started with (Linux Documentation/arch/x86/boot and
//! zero-page): entered at its 32-bit entry point.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bulkhead_hypervisor_core::plan::Range;

use super::map::Map;
use super::number;
use crate::wall::PAGE;

/// Where the zero page goes. Decompressors of old kernels use what lies below as scratch.
pub const ZERO_PAGE: u64 = 0x9_0000;
/// Where the command line goes.
pub const COMMAND_LINE: u64 = 0x9_8000;
/// The zero page, and after it a page with the descriptor table that the protocol demands.
pub const START_BYTES: u64 = 2 * PAGE;
/// What a kernel takes that says nothing (protocol 1.x to 2.05).
const SHORT_LINE: u64 = 255;

const SETUP: usize = 0x1f1;
/// Where the zero page has other fields again.
const SETUP_END: usize = 0x290;
const ENTRY_COUNT: usize = 0x1e8;
const ENTRIES: usize = 0x2d0;

/// Why a kernel cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No setup header.
    NotLinux,
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
            Self::NotLinux => f.write_str("the guest's kernel is no bzImage (no HdrS at byte 0x202)"),
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
    /// Where it goes, and is entered.
    pub load: u64,
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
        let byte = |at: usize| image.get(at).copied().ok_or(KernelError::NotLinux);
        if image.get(0x202..0x206) != Some(b"HdrS") || number(image, 0x1fe, 2) != Some(0xaa55) {
            return Err(KernelError::NotLinux);
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
        Ok(Self { header, code, load, memory, initrd_max, line_max })
    }

    #[cfg(test)]
    pub(super) const fn sample(code: &'a [u8], memory: Range) -> Self {
        Self { header: &[], code, load: memory.base, memory, initrd_max: 0x7fff_ffff, line_max: SHORT_LINE }
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
        // Flat code and data, 4 GiB, 32 bits (SDM 3 §3.4.5).
        put(0x1010, &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
        put(0x1018, &0x00cf_9300_0000_ffff_u64.to_le_bytes());
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
        assert_eq!(lies(0x202, b"hdrS"), KernelError::NotLinux);
        assert_eq!(lies(0x1fe, &[0, 0]), KernelError::NotLinux);
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
    fn no_truncation_panics_and_none_without_code_is_taken() {
        let image = image();
        for length in 0..=5 * 512 {
            assert!(Kernel::open(&image[..length]).is_err(), "cut to {length}");
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
