//! Where everything goes: one region at the top of memory is taken from the guest, the rest is the guest's.

use bulkhead_hypervisor_core::plan::Range;

use crate::wall::{BLOCK, PAGE, Sizes, TooLittle, Wall};

/// What the guest is started with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The kernel in memory, without its zeroed data.
    pub kernel: u64,
    /// The kernel in memory with its own zeroed data (`image_size` of its header).
    pub kernel_memory: u64,
    /// `text_offset` of its header.
    pub kernel_offset: u64,
    /// The initial RAM disk.
    pub initrd: u64,
    /// The device tree, at most.
    pub tree: u64,
}

/// The places, page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What is taken from the guest.
    pub wall: Wall,
    /// The guest's memory.
    pub guest_ram: Range,
    /// Where the kernel goes in it, without its zeroed data.
    pub kernel: Range,
    /// Where the initial RAM disk goes.
    pub initrd: Range,
    /// Where the device tree goes.
    pub tree: Range,
}

/// Plans the places in one range of memory.
///
/// # Errors
/// [`TooLittle`] if they do not fit.
pub fn plan(ram: Range, sizes: &Sizes, guest: &Start) -> Result<Layout, TooLittle> {
    let taken_bytes = sizes.taken();
    let start = ram.base.next_multiple_of(BLOCK);
    let end = ram.base.saturating_add(ram.bytes) / BLOCK * BLOCK;
    let kernel_base = start + guest.kernel_offset;
    let initrd_base = (kernel_base + guest.kernel_memory.max(guest.kernel)).next_multiple_of(BLOCK);
    let tree_base = (initrd_base + guest.initrd).next_multiple_of(BLOCK);
    let guest_needs = tree_base + BLOCK - start;
    let needed = guest_needs + taken_bytes + (start - ram.base);
    if end.saturating_sub(start) < guest_needs + taken_bytes {
        return Err(TooLittle { found: ram.bytes, needed });
    }
    let wall = Wall::at(end - taken_bytes, sizes);
    Ok(Layout {
        wall,
        guest_ram: Range { base: start, bytes: wall.taken.base - start },
        kernel: Range { base: kernel_base, bytes: guest.kernel },
        initrd: Range { base: initrd_base, bytes: guest.initrd },
        tree: Range { base: tree_base, bytes: guest.tree },
    })
}

/// The facts of a Linux-style AArch64 Image's header (Documentation/arch/arm64/booting): `text_offset`, `image_size`.
#[must_use]
pub fn image_header(image: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| image.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let is_image = image.get(56..60) == Some(b"ARM\x64");
    let (offset, size) = (word(8)?, word(16)?);
    (is_image && offset < BLOCK && size < 1 << 32 && offset.is_multiple_of(PAGE)).then_some((offset, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        secure: 2 << 20,
        policy: 9000,
        hypervisor: 0x2_d000,
        parts: [11_260_000, 1_200_001, 0x4000, 0, 0, 0, 0, 0],
    };
    const GUEST: Start =
        Start { kernel: 33_260_000, kernel_memory: 34_000_000, kernel_offset: 0, initrd: 1_200_001, tree: 0x4000 };

    #[test]
    fn places_are_disjoint_and_the_guest_gets_all_that_is_not_taken() {
        let ram = Range { base: 0x4000_0000, bytes: 0x4000_0000 };
        let layout = plan(ram, &SIZES, &GUEST).unwrap();
        let taken = layout.wall.taken;
        assert_eq!(layout.guest_ram.base + layout.guest_ram.bytes, taken.base);
        assert_eq!(layout.guest_ram.bytes + taken.bytes, ram.bytes);
        assert!(layout.kernel.base + GUEST.kernel_memory <= layout.initrd.base);
        assert!(layout.initrd.base + layout.initrd.bytes <= layout.tree.base);
        assert!(layout.tree.base + layout.tree.bytes <= taken.base);
    }

    #[test]
    fn memory_that_just_fits_is_taken_and_a_block_less_is_refused() {
        let fits = |bytes| plan(Range { base: 0x4000_0000, bytes }, &SIZES, &GUEST);
        let exact = fits(BLOCK).unwrap_err().needed.next_multiple_of(BLOCK);
        assert!(fits(exact).is_ok());
        assert!(fits(exact - BLOCK).is_err());
    }

    #[test]
    fn only_an_image_header_is_taken_for_one() {
        let mut image = [0_u8; 64];
        assert_eq!(image_header(&image), None);
        image[56..60].copy_from_slice(b"ARM\x64");
        image[18] = 2;
        assert_eq!(image_header(&image), Some((0, 0x2_0000)));
        image[8] = 1;
        assert_eq!(image_header(&image), None, "an offset that is not a page's");
        assert_eq!(image_header(&image[..40]), None);
    }
}
