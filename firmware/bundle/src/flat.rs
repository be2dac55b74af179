//! A flat image: a header, the three segments one after the other (code, read-only data, data), then the places
//! that hold an address relative to the image's start.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHFI", little-endian.
pub const MAGIC: u64 = 0x4946_4842;

/// The header. All sizes are multiples of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Executable bytes, from the image's start; entered at its first.
    pub text_bytes: u64,
    /// Read-only bytes after them.
    pub rodata_bytes: u64,
    /// Initialised data after them.
    pub data_bytes: u64,
    /// Zeroed data after that; not in the file.
    pub zero_bytes: u64,
    /// How many [`Relocation`]s follow the segments.
    pub relocation_count: u64,
}

/// A 64-bit place that shall hold the image's address plus `addend` (R_AARCH64_RELATIVE, R_X86_64_RELATIVE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Relocation {
    /// Offset in the image.
    pub offset: u64,
    /// What is added to the image's address.
    pub addend: u64,
}

/// A checked view of a flat image.
#[derive(Clone, Copy, Debug)]
pub struct Flat<'a> {
    /// The header.
    pub header: &'a Header,
    /// Code, read-only data and data.
    pub segments: &'a [u8],
    /// The relocations; every offset lies within `segments`.
    pub relocations: &'a [Relocation],
}

impl<'a> Flat<'a> {
    /// Checks every length; `None` if one does not fit.
    #[must_use]
    pub fn open(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = Header::ref_from_prefix(bytes).ok()?;
        let sizes = [header.text_bytes, header.rodata_bytes, header.data_bytes, header.zero_bytes];
        if header.magic != MAGIC || sizes.iter().any(|size| !size.is_multiple_of(4096) || *size > 1 << 24) {
            return None;
        }
        let file_bytes = header.text_bytes + header.rodata_bytes + header.data_bytes;
        let (segments, rest) = rest.split_at_checked(usize::try_from(file_bytes).ok()?)?;
        let relocations = <[Relocation]>::ref_from_bytes(rest).ok()?;
        let inside = |place: &Relocation| place.offset.checked_add(8).is_some_and(|end| end <= file_bytes);
        (relocations.len() as u64 == header.relocation_count && relocations.iter().all(inside)).then_some(Self {
            header,
            segments,
            relocations,
        })
    }

    /// How much memory the image takes.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.segments.len() as u64 + self.header.zero_bytes
    }
}
