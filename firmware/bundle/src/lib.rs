//! The bundle: the one file that the loader takes. A header, a table of parts, the parts; every length is checked and
//! every byte is hashed before it is used. A field for the signature exists and is zero: bundles are not signed yet.
//!
//! The reader is pure and needs no memory of its own; the writer (feature `build`) runs on the host.
#![cfg_attr(not(any(test, feature = "build")), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "build")]
pub mod build;
pub mod flat;
pub mod kernel;
mod resource;
#[cfg(feature = "build")]
pub mod secure;
mod settings;

pub use resource::{Resource, ResourceKind};
pub use settings::Settings;

use core::fmt;

use sha2::{Digest, Sha256};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHBU", little-endian.
pub const MAGIC: u32 = 0x5542_4842;
/// Layout version.
pub const VERSION: u32 = 1;
/// Parts start at multiples of this.
pub const ALIGNMENT: usize = 4096;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The hypervisor's image, see [`flat`].
    Hypervisor = 1,
    /// The guest's kernel: a Linux-style AArch64 Image, packed (see [`kernel`]), or a bzImage as it is.
    GuestKernel = 2,
    /// The guest's initial RAM disk.
    GuestInitrd = 3,
    /// The guest's command line, UTF-8.
    GuestCommandLine = 4,
    /// What of the machine the guest may use: an array of [`Resource`].
    GuestResources = 5,
    /// The secure partition's memory, laid out: boot information, kernel, apps, translation tables.
    Secure = 6,
    /// The compiled policy.
    Policy = 7,
    /// Numbers of the site: [`Settings`].
    Settings = 8,
    /// What the policy requires of the machine, UTF-8: a line `FACT LEAST FILE:LINE` for each; and a line `granted 0 FILE:LINE WHAT` for
    /// each grant that can undo the wall. Empty without any.
    Requirements = 9,
}

impl Kind {
    /// The part's name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hypervisor => "hypervisor",
            Self::GuestKernel => "guest kernel",
            Self::GuestInitrd => "guest initrd",
            Self::GuestCommandLine => "guest command line",
            Self::GuestResources => "guest resources",
            Self::Secure => "secure partition",
            Self::Policy => "policy",
            Self::Settings => "settings",
            Self::Requirements => "requirements",
        }
    }
}

/// The first 128 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: u32,
    pub(crate) version: u32,
    pub(crate) part_count: u32,
    pub(crate) reserved: u32,
    pub(crate) total_bytes: u64,
    pub(crate) key_id: [u8; 8],
    pub(crate) signature: [u8; 64],
    /// Of the header up to here without the signature, and the part table.
    pub(crate) sha256: [u8; 32],
}

/// One row of the table that follows the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Row {
    pub(crate) kind: u32,
    pub(crate) reserved: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) reserved_tail: u64,
    pub(crate) sha256: [u8; 32],
}

const _: () = assert!(size_of::<Header>() == 128 && size_of::<Row>() == 64);

/// Why a bundle, or one of its parts, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Shorter than its header or than its header says.
    Cut {
        /// How many bytes there should be at least.
        needed: u64,
        /// How many there are.
        found: u64,
    },
    /// Does not start with the magic number.
    NotABundle,
    /// Of a version that this loader does not know.
    Version(u32),
    /// Longer than its header says.
    Trailing(u64),
    /// The header or the table does not match its hash.
    TableAltered,
    /// A part lies outside the bundle, or is not aligned.
    PartOutside(u32),
    /// A part is not there.
    Missing(Kind),
    /// A part does not match its hash.
    PartAltered(Kind),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { needed, found } => write!(f, "the bundle is cut: {found} of {needed} bytes"),
            Self::NotABundle => write!(f, "this is not a bundle (no BHBU at its start)"),
            Self::Version(version) => write!(f, "the bundle has version {version}, this loader knows {VERSION}"),
            Self::Trailing(bytes) => write!(f, "the bundle has {bytes} bytes after its end"),
            Self::TableAltered => write!(f, "the bundle's part table is altered"),
            Self::PartOutside(kind) => write!(f, "the bundle's part of kind {kind} does not lie within it"),
            Self::Missing(kind) => write!(f, "the bundle has no part '{}'", kind.name()),
            Self::PartAltered(kind) => write!(f, "the bundle's part '{}' is altered", kind.name()),
        }
    }
}

/// A bundle whose header and table were checked; each part is checked when it is taken.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    rows: &'a [Row],
}

impl<'a> Bundle<'a> {
    /// Checks the header, the table and their hash, and that every part lies within.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the header or the table.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let cut = |needed: u64| Error::Cut { needed, found: bytes.len() as u64 };
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| cut(size_of::<Header>() as u64))?;
        if header.magic != MAGIC {
            return Err(Error::NotABundle);
        }
        if header.version != VERSION {
            return Err(Error::Version(header.version));
        }
        let found = bytes.len() as u64;
        if found < header.total_bytes {
            return Err(cut(header.total_bytes));
        }
        if found > header.total_bytes {
            return Err(Error::Trailing(found - header.total_bytes));
        }
        let count = usize::try_from(header.part_count).map_err(|_| Error::TableAltered)?;
        let (rows, _) = <[Row]>::ref_from_prefix_with_elems(rest, count).map_err(|_| Error::TableAltered)?;
        if table_hash(header, rows) != header.sha256 {
            return Err(Error::TableAltered);
        }
        for row in rows {
            let end = row.offset.checked_add(row.bytes);
            if end.is_none_or(|end| end > found) || !row.offset.is_multiple_of(ALIGNMENT as u64) {
                return Err(Error::PartOutside(row.kind));
            }
        }
        Ok(Self { bytes, rows })
    }

    /// A part's bytes, after their hash was checked.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::PartAltered`].
    pub fn part(&self, kind: Kind) -> Result<&'a [u8], Error> {
        let row = self.rows.iter().find(|row| row.kind == kind as u32).ok_or(Error::Missing(kind))?;
        let start = usize::try_from(row.offset).map_err(|_| Error::PartOutside(row.kind))?;
        let bytes = usize::try_from(row.bytes).map_err(|_| Error::PartOutside(row.kind))?;
        let part = self.bytes.get(start..).and_then(|rest| rest.get(..bytes)).ok_or(Error::PartOutside(row.kind))?;
        if Sha256::digest(part).as_slice() == row.sha256 { Ok(part) } else { Err(Error::PartAltered(kind)) }
    }

    /// A part's SHA-256, as the table has it; [`Bundle::part`] holds the part to it.
    #[must_use]
    pub fn digest(&self, kind: Kind) -> Option<&'a [u8; 32]> {
        self.rows.iter().find(|row| row.kind == kind as u32).map(|row| &row.sha256)
    }
}

pub(crate) fn table_hash(header: &Header, rows: &[Row]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(header.magic.to_le_bytes());
    hash.update(header.version.to_le_bytes());
    hash.update(header.part_count.to_le_bytes());
    hash.update(header.reserved.to_le_bytes());
    hash.update(header.total_bytes.to_le_bytes());
    hash.update(header.key_id);
    hash.update(rows.as_bytes());
    hash.finalize().into()
}
