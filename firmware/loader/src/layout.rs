//! Where everything goes: one region at the top of memory is taken from the guest, the rest is the guest's.

use core::fmt;

use bulkhead_hypervisor_core::plan::{MachinePlan, PlanError, Range};

const PAGE: u64 = 0x1000;
const BLOCK: u64 = 0x20_0000;
/// Size of the audit ring.
const AUDIT_BYTES: u64 = 0x1_0000;

/// What has to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The secure partition's memory, a multiple of 2 MiB.
    pub secure: u64,
    /// The compiled policy.
    pub policy: u64,
    /// The hypervisor with its zeroed data and stacks.
    pub hypervisor: u64,
    /// The guest's kernel as stored, packed.
    pub stored_kernel: u64,
    /// The guest's kernel in memory, without its zeroed data.
    pub kernel: u64,
    /// The guest's kernel in memory with its own zeroed data (`image_size` of its header).
    pub kernel_memory: u64,
    /// `text_offset` of its header.
    pub kernel_offset: u64,
    /// The guest's initial RAM disk.
    pub initrd: u64,
    /// The guest's device tree, at most.
    pub tree: u64,
}

/// The places, page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Everything that is taken from the guest.
    pub taken: Range,
    /// The secure partition, 2 MiB-aligned.
    pub secure: Range,
    /// The hypervisor's image.
    pub hypervisor: Range,
    /// The compiled policy, whole pages.
    pub policy: Range,
    /// The machine plan's page.
    pub plan: Range,
    /// The audit ring.
    pub audit: Range,
    /// The store, which holds the next three.
    pub store: Range,
    /// The guest's kernel, stored.
    pub stored_kernel: Range,
    /// The guest's initial RAM disk, stored.
    pub stored_initrd: Range,
    /// The guest's device tree, stored.
    pub stored_tree: Range,
    /// The guest's memory.
    pub guest_ram: Range,
    /// Where the kernel goes in it, with its zeroed data.
    pub kernel: Range,
    /// Where the initial RAM disk goes.
    pub initrd: Range,
    /// Where the device tree goes.
    pub tree: Range,
}

/// The machine has too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLittle {
    /// How much it has, in bytes.
    pub found: u64,
    /// How much is needed at least.
    pub needed: u64,
}

impl fmt::Display for TooLittle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, needed) = (self.found >> 20, self.needed.div_ceil(1 << 20));
        write!(
            f,
            "too little memory: {found} MiB, and at least {needed} MiB are needed for the wall and the guest's start"
        )
    }
}

/// What of a plan does not fit, with the names of who quarrels.
#[derive(Clone, Copy, Debug)]
pub struct Misfit<'a> {
    /// The plan.
    pub plan: &'a MachinePlan,
    /// What is wrong with it.
    pub error: PlanError,
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |range: Range| (self.owner(range), range.base, range.bytes);
        let what = self.error.told().0;
        match self.error {
            PlanError::Overlap(one, other) => {
                let ((one, base, bytes), (other, start, length)) = (told(one), told(other));
                write!(
                    f,
                    "{one} ({base:#x}, {bytes:#x} bytes) and {other} ({start:#x}, {length:#x} bytes) share addresses"
                )
            }
            PlanError::Range(range) | PlanError::Outside(range) | PlanError::Start(range) => {
                let (name, base, bytes) = told(range);
                write!(f, "{what}: {name} ({base:#x}, {bytes:#x} bytes)")
            }
            PlanError::Interrupt(intid) => write!(f, "{what}, or that two have: {intid}"),
            PlanError::Version | PlanError::Times => f.write_str(what),
        }
    }
}

impl Misfit<'_> {
    fn owner(&self, range: Range) -> &'static str {
        let plan = self.plan;
        let served = plan.devices.map(|device| device.range);
        let all: [(&str, &[Range]); 6] = [
            ("what the guest keeps", &plan.guest_mmio),
            ("what an app drives", &plan.secure_mmio),
            ("what an app serves", &served),
            ("the guest's memory", &plan.guest_ram),
            ("the interrupt controller", &[plan.gicd, plan.gicr]),
            ("the wall's memory", &[plan.taken, plan.secure, plan.image, plan.policy, plan.audit, plan.store]),
        ];
        all.iter().find(|(_, ranges)| ranges.contains(&range)).map_or("the guest's start", |(name, _)| name)
    }
}

/// Plans the places in one range of memory.
///
/// # Errors
/// [`TooLittle`] if they do not fit.
pub fn plan(ram: Range, sizes: &Sizes) -> Result<Layout, TooLittle> {
    let pages = |bytes: u64| bytes.next_multiple_of(PAGE);
    let store_bytes = pages(sizes.stored_kernel) + pages(sizes.initrd) + pages(sizes.tree);
    let own_bytes = sizes.secure + pages(sizes.hypervisor) + pages(sizes.policy) + PAGE + AUDIT_BYTES;
    let taken_bytes = (own_bytes + store_bytes).next_multiple_of(BLOCK);
    let start = ram.base.next_multiple_of(BLOCK);
    let end = ram.base.saturating_add(ram.bytes) / BLOCK * BLOCK;
    let kernel_base = start + sizes.kernel_offset;
    let initrd_base = (kernel_base + sizes.kernel_memory.max(sizes.kernel)).next_multiple_of(BLOCK);
    let tree_base = (initrd_base + sizes.initrd).next_multiple_of(BLOCK);
    let guest_needs = tree_base + BLOCK - start;
    let needed = guest_needs + taken_bytes + (start - ram.base);
    if end.saturating_sub(start) < guest_needs + taken_bytes {
        return Err(TooLittle { found: ram.bytes, needed });
    }
    let mut next = end - taken_bytes;
    let mut place = |bytes: u64| {
        let range = Range { base: next, bytes };
        next += pages(bytes);
        range
    };
    let secure = place(sizes.secure);
    let hypervisor = place(pages(sizes.hypervisor));
    let policy = place(pages(sizes.policy));
    let plan = place(PAGE);
    let audit = place(AUDIT_BYTES);
    let (stored_kernel, stored_initrd, stored_tree) =
        (place(sizes.stored_kernel), place(sizes.initrd), place(sizes.tree));
    Ok(Layout {
        taken: Range { base: end - taken_bytes, bytes: taken_bytes },
        secure,
        hypervisor,
        policy,
        plan,
        audit,
        store: Range { base: stored_kernel.base, bytes: store_bytes },
        stored_kernel,
        stored_initrd,
        stored_tree,
        guest_ram: Range { base: start, bytes: end - taken_bytes - start },
        kernel: Range { base: kernel_base, bytes: sizes.kernel },
        initrd: Range { base: initrd_base, bytes: sizes.initrd },
        tree: Range { base: tree_base, bytes: sizes.tree },
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
    use bulkhead_hypervisor_core::plan::{PLAN_MAGIC, PLAN_VERSION};
    use zerocopy::FromZeros;

    const SIZES: Sizes = Sizes {
        secure: 2 << 20,
        policy: 9000,
        hypervisor: 0x2_d000,
        stored_kernel: 11_260_000,
        kernel: 33_260_000,
        kernel_memory: 34_000_000,
        kernel_offset: 0,
        initrd: 1_200_001,
        tree: 0x4000,
    };

    #[test]
    fn places_are_disjoint_and_the_guest_gets_all_that_is_not_taken() {
        let ram = Range { base: 0x4000_0000, bytes: 0x4000_0000 };
        let layout = plan(ram, &SIZES).unwrap();
        let inside = [
            layout.hypervisor,
            layout.plan,
            layout.audit,
            layout.stored_kernel,
            layout.stored_initrd,
            layout.stored_tree,
        ];
        for pair in inside.windows(2) {
            assert!(pair[0].base + pair[0].bytes <= pair[1].base);
        }
        assert!(layout.stored_tree.base + layout.stored_tree.bytes <= layout.taken.base + layout.taken.bytes);
        assert_eq!(layout.guest_ram.base + layout.guest_ram.bytes, layout.taken.base);
        assert_eq!(layout.guest_ram.bytes + layout.taken.bytes, ram.bytes);
        assert!(layout.kernel.base + SIZES.kernel_memory <= layout.initrd.base);
        assert!(layout.initrd.base + layout.initrd.bytes <= layout.tree.base);
        assert!(layout.tree.base + layout.tree.bytes <= layout.taken.base);
    }

    #[test]
    fn memory_that_just_fits_is_taken_and_a_block_less_is_refused() {
        let refused = plan(Range { base: 0x4000_0000, bytes: BLOCK }, &SIZES).unwrap_err();
        let exact = refused.needed.next_multiple_of(BLOCK);
        assert!(plan(Range { base: 0x4000_0000, bytes: exact }, &SIZES).is_ok());
        assert!(plan(Range { base: 0x4000_0000, bytes: exact - BLOCK }, &SIZES).is_err());
    }

    /// C03 of the attack catalogue: what the machine alone knows.
    #[test]
    fn a_grant_over_memory_the_wall_or_the_interrupt_controller_names_both_owners() {
        let layout = plan(Range { base: 0x4000_0000, bytes: 0x4000_0000 }, &SIZES).unwrap();
        let mut plan = MachinePlan::new_zeroed();
        (plan.magic, plan.version) = (PLAN_MAGIC, PLAN_VERSION);
        (plan.taken, plan.secure, plan.image) = (layout.taken, layout.secure, layout.hypervisor);
        (plan.policy, plan.audit, plan.store) = (layout.policy, layout.audit, layout.store);
        plan.guest_ram[0] = layout.guest_ram;
        (plan.guest_entry, plan.guest_dtb) = (layout.kernel.base, layout.tree.base);
        plan.gicd = Range { base: 0x0800_0000, bytes: 0x1_0000 };
        plan.gicr = Range { base: 0x080a_0000, bytes: 0x2_0000 };
        (plan.period_us, plan.budget_us, plan.call_limit_us) = (1000, 100, 2000);
        assert_eq!(plan.validate(), Ok(()));
        let with = |change: &dyn Fn(&mut MachinePlan)| {
            let mut plan = plan;
            change(&mut plan);
            Misfit { plan: &plan, error: plan.validate().unwrap_err() }.to_string()
        };
        let page = |base| Range { base, bytes: 0x1000 };
        for (base, owner) in [
            (0x4000_0000, "the guest's memory"),
            (plan.taken.base, "the wall's memory"),
            (0x0800_0000, "the interrupt controller"),
        ] {
            let said = with(&|plan| plan.guest_mmio[1] = page(base));
            assert!(said.contains("what the guest keeps (0x") && said.contains(owner), "{said}");
            let said = with(&|plan| plan.secure_mmio[0] = page(base));
            assert!(said.contains("what an app drives (0x") && said.contains(owner), "{said}");
        }
        assert!(with(&|plan| plan.guest_mmio[0] = page(0x900_0800)).contains("what the guest keeps (0x9000800"));
        assert!(with(&|plan| plan.guest_interrupts[0] = 26).contains("26"));
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
