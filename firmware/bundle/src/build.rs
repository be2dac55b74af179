//! Making bundles on the host.

use std::fmt;
use std::vec::Vec;

use elf::ElfBytes;
use elf::abi::{EM_AARCH64, EM_X86_64, PF_W, PF_X, PT_LOAD, R_AARCH64_RELATIVE, R_X86_64_RELATIVE, SHT_RELA};
use elf::endian::LittleEndian;
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::flat::{self, Relocation};
use crate::{ALIGNMENT, Header, Kind, MAGIC, Row, VERSION, table_hash};

/// Puts parts into a bundle. The same parts give the same bytes.
#[must_use]
pub fn bundle(parts: &[(Kind, &[u8])]) -> Vec<u8> {
    let first = (size_of::<Header>() + parts.len() * size_of::<Row>()).next_multiple_of(ALIGNMENT);
    let mut offset = first;
    let mut rows = Vec::new();
    for (kind, bytes) in parts {
        let sha256 = Sha256::digest(bytes).into();
        let place = offset as u64;
        rows.push(Row {
            kind: *kind as u32,
            reserved: 0,
            offset: place,
            bytes: bytes.len() as u64,
            reserved_tail: 0,
            sha256,
        });
        offset = (offset + bytes.len()).next_multiple_of(ALIGNMENT);
    }
    let mut header = Header {
        magic: MAGIC,
        version: VERSION,
        part_count: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        reserved: 0,
        total_bytes: offset as u64,
        key_id: [0; 8],
        signature: [0; 64],
        sha256: [0; 32],
    };
    header.sha256 = table_hash(&header, &rows);
    let mut out = Vec::with_capacity(offset);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(rows.as_bytes());
    for (_, bytes) in parts {
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend_from_slice(bytes);
    }
    out.resize(offset, 0);
    out
}

/// Why an ELF file cannot become a flat image.
#[derive(Debug)]
pub struct FlattenError(pub(crate) &'static str);

impl fmt::Display for FlattenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Turns a static position-independent ELF file (three segments from address 0: code, read-only data, data) into a
/// [`flat`] image.
///
/// # Errors
/// The rule that the file breaks.
pub fn flatten(file: &[u8]) -> Result<Vec<u8>, FlattenError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| FlattenError("not an ELF file"))?;
    let segments = elf.segments().ok_or(FlattenError("no program headers"))?;
    let mut sizes = [0_u64; 3];
    let mut zero_bytes = 0;
    let mut image: Vec<u8> = Vec::new();
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        let which = match segment.p_flags & (PF_W | PF_X) {
            PF_X => 0,
            0 => 1,
            PF_W => 2,
            _ => return Err(FlattenError("a segment is both writable and executable")),
        };
        if segment.p_vaddr != image.len() as u64 {
            return Err(FlattenError("the segments do not follow each other from address 0"));
        }
        let bytes = elf.segment_data(&segment).map_err(|_| FlattenError("a segment lies outside the file"))?;
        image.extend_from_slice(bytes);
        image.resize(image.len().next_multiple_of(4096), 0);
        sizes[which] = (bytes.len() as u64).next_multiple_of(4096);
        zero_bytes = segment.p_memsz.next_multiple_of(4096).saturating_sub(sizes[which]);
    }
    let relocations = relocations(&elf)?;
    let header = flat::Header {
        magic: flat::MAGIC,
        text_bytes: sizes[0],
        rodata_bytes: sizes[1],
        data_bytes: sizes[2],
        zero_bytes,
        relocation_count: relocations.len() as u64,
    };
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(&image);
    out.extend_from_slice(relocations.as_bytes());
    flat::Flat::open(&out).is_some().then_some(()).ok_or(FlattenError("a relocation lies in zeroed data"))?;
    Ok(out)
}

fn relocations(elf: &ElfBytes<'_, LittleEndian>) -> Result<Vec<Relocation>, FlattenError> {
    let relative = match elf.ehdr.e_machine {
        EM_AARCH64 => R_AARCH64_RELATIVE,
        EM_X86_64 => R_X86_64_RELATIVE,
        _ => return Err(FlattenError("neither an AArch64 nor an x86-64 file")),
    };
    let mut all = Vec::new();
    let sections = elf.section_headers().ok_or(FlattenError("no section headers"))?;
    for section in sections.iter().filter(|section| section.sh_type == SHT_RELA) {
        let entries =
            elf.section_data_as_relas(&section).map_err(|_| FlattenError("the relocations lie outside the file"))?;
        for entry in entries {
            if entry.r_type != relative {
                return Err(FlattenError(
                    "a relocation is not relative to the image (R_AARCH64_RELATIVE, R_X86_64_RELATIVE)",
                ));
            }
            all.push(Relocation { offset: entry.r_offset, addend: entry.r_addend.cast_unsigned() });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bundle, Error};

    fn sample() -> Vec<u8> {
        bundle(&[(Kind::GuestKernel, b"kernel"), (Kind::GuestCommandLine, b"quiet")])
    }

    #[test]
    fn parts_come_out_as_they_went_in_and_absent_ones_are_missing() {
        let bytes = sample();
        let bundle = Bundle::open(&bytes).unwrap();
        assert_eq!(bundle.part(Kind::GuestKernel), Ok(b"kernel".as_slice()));
        assert_eq!(bundle.part(Kind::GuestInitrd), Err(Error::Missing(Kind::GuestInitrd)));
        let digest: [u8; 32] = Sha256::digest(b"kernel").into();
        assert_eq!(bundle.digest(Kind::GuestKernel), Some(&digest));
        assert_eq!(bundle.digest(Kind::Policy), None);
    }

    #[test]
    fn every_truncation_and_anything_after_the_end_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Bundle::open(&bytes[..length]).is_err(), "cut to {length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Bundle::open(&longer).map(|_| ()), Err(Error::Trailing(1)));
    }

    #[test]
    fn every_altered_byte_that_is_used_is_refused() {
        let bytes = sample();
        let used = (0..256).filter(|at| !(32..96).contains(at)).chain(4096..4102).chain(8192..8197);
        for at in used {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let refused = Bundle::open(&altered).and_then(|bundle| {
                bundle.part(Kind::GuestKernel)?;
                bundle.part(Kind::GuestCommandLine)
            });
            assert!(refused.is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_no_elf_file_is_not_flattened() {
        assert!(flatten(b"").is_err() && flatten(&[0x7f; 64]).is_err());
    }
}
