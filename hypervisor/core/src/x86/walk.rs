//! A guest's own translation of a linear address, read from its page tables (SDM 3 §4): only to find the bytes of an instruction that
//! trapped. What is read is an allegation: nothing is decided on it but how the guest itself goes on.

use super::control::{cr0, cr4};

/// What says how the guest translates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regime {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

/// EFER.LMA.
pub(super) const LMA: u64 = 1 << 10;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// The address of an entry of 8 bytes.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The guest-physical address of a linear one. `read` gives `bytes` (4 or 8) of guest memory, if it is the guest's. `None`: the guest has
/// no translation, or its tables lie where it has no memory.
#[must_use]
pub fn translate(regime: &Regime, linear: u64, mut read: impl FnMut(u64, u8) -> Option<u64>) -> Option<u64> {
    if regime.cr0 & cr0::PG == 0 {
        return Some(linear & 0xffff_ffff);
    }
    if regime.cr4 & cr4::PAE == 0 {
        return two_levels(regime, linear & 0xffff_ffff, read);
    }
    let (mut level, mut table) =
        if regime.efer & LMA != 0 { (4, regime.cr3 & FRAME) } else { (3, regime.cr3 & 0xffff_ffe0) };
    let is_three = level == 3;
    loop {
        let shift = 12 + 9 * (level - 1);
        let index = linear >> shift & if is_three && level == 3 { 3 } else { 0x1ff };
        let entry = read(table + index * 8, 8)?;
        if entry & PRESENT == 0 {
            return None;
        }
        let is_leaf = level == 1 || entry & LARGE != 0 && level <= 3 && !(is_three && level == 3);
        if is_leaf {
            let offset = (1 << shift) - 1;
            return Some(entry & FRAME & !offset | linear & offset);
        }
        if level == 1 {
            return None;
        }
        table = entry & FRAME;
        level -= 1;
    }
}

fn two_levels(regime: &Regime, linear: u64, mut read: impl FnMut(u64, u8) -> Option<u64>) -> Option<u64> {
    let directory = read((regime.cr3 & 0xffff_f000) + (linear >> 22) * 4, 4)?;
    if directory & PRESENT == 0 {
        return None;
    }
    if directory & LARGE != 0 && regime.cr4 & cr4::PSE != 0 {
        // PSE-36: bits 32 to 39 of the address lie in bits 13 to 20.
        return Some(directory & 0xffc0_0000 | (directory >> 13 & 0xff) << 32 | linear & 0x3f_ffff);
    }
    let entry = read((directory & 0xffff_f000) + (linear >> 12 & 0x3ff) * 4, 4)?;
    (entry & PRESENT != 0).then_some(entry & 0xffff_f000 | linear & 0xfff)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn memory(words: &[(u64, u64)]) -> impl Fn(u64, u8) -> Option<u64> {
        let words: HashMap<u64, u64> = words.iter().copied().collect();
        move |address, _| words.get(&address).copied()
    }

    #[test]
    fn without_paging_addresses_are_themselves() {
        assert_eq!(translate(&Regime::default(), 0x1_0000_1234, |_, _| None), Some(0x1234));
    }

    #[test]
    fn four_levels_end_in_pages_of_each_size() {
        let regime = Regime { cr0: cr0::PG, cr3: 0x1000, cr4: cr4::PAE, efer: LMA };
        let tables = memory(&[
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x2008, 0x4000_0083),
            (0x3000, 0x4003),
            (0x3008, 0x60_0083),
            (0x4008, 0x8000_0000_0000_9003),
        ]);
        assert_eq!(translate(&regime, 0x1234, &tables), Some(0x9234));
        assert_eq!(translate(&regime, 0x20_1234, &tables), Some(0x60_1234));
        assert_eq!(translate(&regime, 0x4000_1234, &tables), Some(0x4000_1234));
        assert_eq!(translate(&regime, 0x2000, &tables), None, "a page that is not there");
        assert_eq!(translate(&regime, 0x8000_0000, &tables), None, "a table in no memory");
    }

    #[test]
    fn older_kernels_translate_by_three_and_two_levels() {
        let three = Regime { cr0: cr0::PG, cr3: 0x1020, cr4: cr4::PAE, efer: 0 };
        let tables = memory(&[(0x1038, 0x2001), (0x2000, 0x3003), (0x3010, 0x9003)]);
        assert_eq!(translate(&three, 0xc000_2345, &tables), Some(0x9345));
        let two = Regime { cr0: cr0::PG, cr3: 0x1000, cr4: cr4::PSE, efer: 0 };
        let tables = memory(&[(0x1c00, 0x0040_0083), (0x1c04, 0x2003), (0x2004, 0x9003)]);
        assert_eq!(translate(&two, 0xc000_2345, &tables), Some(0x40_2345));
        assert_eq!(translate(&two, 0xc040_1345, &tables), Some(0x9345));
        assert_eq!(
            translate(&Regime { cr4: 0, ..two }, 0xc000_2345, &tables),
            None,
            "no large pages: a table in no memory"
        );
    }

    proptest! {
        #[test]
        fn no_tables_make_a_walk_long(cr0 in any::<u64>(), cr3 in any::<u64>(), cr4 in any::<u64>(), efer in any::<u64>(), linear in any::<u64>(), entry in any::<u64>()) {
            let reads = core::cell::Cell::new(0);
            let regime = Regime { cr0, cr3, cr4, efer };
            let _ = translate(&regime, linear, |_, _| {
                reads.set(reads.get() + 1);
                Some(entry)
            });
            prop_assert!(reads.get() <= 4);
        }
    }
}
