//! The guest's kernel as a part: its own Image header, its length, and the whole Image as a raw deflate stream (RFC 1951),
//! so that the pristine copy which the wall keeps for restarts takes a third of the memory.

/// Length of an AArch64 Image's header.
const HEADER_BYTES: usize = 64;

/// A checked view of the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredKernel<'a> {
    /// The Image's header, as it will also come out of the stream.
    pub header: &'a [u8],
    /// Length of the Image.
    pub image_bytes: u64,
    /// The deflate stream.
    pub stream: &'a [u8],
}

impl<'a> StoredKernel<'a> {
    /// Splits the part; `None` if it is too short.
    #[must_use]
    pub fn open(part: &'a [u8]) -> Option<Self> {
        let (header, rest) = part.split_at_checked(HEADER_BYTES)?;
        let (length, stream) = rest.split_first_chunk()?;
        Some(Self { header, image_bytes: u64::from_le_bytes(*length), stream })
    }
}

/// Packs an Image; `None` if it is shorter than its header. The same Image gives the same bytes.
#[cfg(feature = "build")]
#[must_use]
pub fn pack(image: &[u8]) -> Option<Vec<u8>> {
    let mut part = image.get(..HEADER_BYTES)?.to_vec();
    part.extend_from_slice(&(image.len() as u64).to_le_bytes());
    part.extend_from_slice(&miniz_oxide::deflate::compress_to_vec(image, 9));
    Some(part)
}

#[cfg(all(test, feature = "build"))]
mod tests {
    use super::*;

    #[test]
    fn a_packed_image_comes_out_whole_and_a_short_part_is_refused() {
        let image: Vec<u8> = (0..5000_u32).flat_map(|word| (word / 3).to_le_bytes()).collect();
        let part = pack(&image).unwrap();
        let stored = StoredKernel::open(&part).unwrap();
        assert_eq!((stored.header, stored.image_bytes), (&image[..64], 20_000));
        assert_eq!(miniz_oxide::inflate::decompress_to_vec(stored.stream).unwrap(), image);
        assert_eq!(StoredKernel::open(&part[..71]), None);
        assert_eq!(pack(&image[..63]), None);
    }
}
