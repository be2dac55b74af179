//! What is taken from the guest: one region that holds the whole wall, laid out alike on every machine.

use core::fmt;

use bulkhead_hypervisor_core::plan::{MAX_PARTS, Range};

/// A page.
pub const PAGE: u64 = 0x1000;
/// The region that is taken is a multiple of this.
pub const BLOCK: u64 = 0x20_0000;
/// Size of the audit ring.
const AUDIT_BYTES: u64 = 0x1_0000;

/// What has to be placed, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The secure partition's memory, a multiple of 2 MiB.
    pub secure: u64,
    /// The compiled policy.
    pub policy: u64,
    /// The hypervisor with its zeroed data and stacks.
    pub hypervisor: u64,
    /// The parts of the guest's start image as stored; 0 where there is none.
    pub parts: [u64; MAX_PARTS],
}

/// The places, page-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
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
    /// The store, which holds `parts`.
    pub store: Range,
    /// The parts of the guest's start image.
    pub parts: [Range; MAX_PARTS],
}

const fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

impl Sizes {
    fn store(&self) -> u64 {
        self.parts.iter().map(|&bytes| pages(bytes)).sum()
    }

    /// How much is taken from the guest: a multiple of [`BLOCK`].
    #[must_use]
    pub fn taken(&self) -> u64 {
        let own = self.secure + pages(self.hypervisor) + pages(self.policy) + PAGE + AUDIT_BYTES;
        (own + self.store()).next_multiple_of(BLOCK)
    }
}

impl Wall {
    /// Lays the region out that starts at `base`, a multiple of [`BLOCK`].
    #[must_use]
    pub fn at(base: u64, sizes: &Sizes) -> Self {
        let mut next = base;
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
        let parts = sizes.parts.map(&mut place);
        let store = Range { base: parts[0].base, bytes: sizes.store() };
        Self { taken: Range { base, bytes: sizes.taken() }, secure, hypervisor, policy, plan, audit, store, parts }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walls_parts_are_disjoint_and_lie_within_what_is_taken() {
        let sizes = Sizes {
            secure: BLOCK,
            policy: 9000,
            hypervisor: 0x2_d000,
            parts: [11_260_000, 1_200_001, 0, 5, 0, 0, 0, 0],
        };
        let wall = Wall::at(0x4000_0000, &sizes);
        let own = [wall.secure, wall.hypervisor, wall.policy, wall.plan, wall.audit, wall.store];
        for (index, range) in own.iter().enumerate() {
            assert!(wall.taken.holds(*range) && range.base.is_multiple_of(PAGE));
            assert!(own.iter().skip(index + 1).all(|other| range.is_disjoint(*other)));
        }
        for (index, part) in wall.parts.iter().enumerate() {
            assert!(wall.store.holds(*part));
            assert!(wall.parts.iter().skip(index + 1).all(|other| part.is_disjoint(*other)));
        }
        assert!(wall.taken.bytes.is_multiple_of(BLOCK) && wall.taken.bytes < 24 << 20);
    }
}
