//! Translation tables that map ranges to themselves by 2 MiB pages (SDM 3 §4.5, APM 2 §5.3): what the loader runs on once firmware's
//! own are given up.

use bulkhead_hypervisor_core::plan::Range;

/// A table.
pub type Table = [u64; 512];

/// There are fewer tables than are needed, or a range lies beyond 47 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoesNotFit;

const LARGE: u64 = 0x20_0000;
const PRESENT_WRITABLE: u64 = 3;
const IS_LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Fills tables that lie one after another from `base` on; the first becomes the root.
///
/// # Errors
/// [`DoesNotFit`]: the tables are of no use then.
pub fn map(tables: &mut [Table], base: u64, ranges: &[Range]) -> Result<(), DoesNotFit> {
    tables.iter_mut().for_each(|table| table.fill(0));
    let mut used = 1;
    for range in ranges.iter().filter(|range| range.bytes != 0) {
        let end = range.end().filter(|&end| end <= 1 << 47).ok_or(DoesNotFit)?;
        let mut page = range.base / LARGE * LARGE;
        while page < end {
            let directory = [39, 30].into_iter().try_fold(0, |table, shift| {
                let entry = tables.get_mut(table).and_then(|table| table.get_mut(index(page, shift)));
                let entry = entry.ok_or(DoesNotFit)?;
                if *entry == 0 {
                    *entry = (base + used * 4096) | PRESENT_WRITABLE;
                    used += 1;
                }
                usize::try_from(((*entry & ADDRESS) - base) / 4096).map_err(|_| DoesNotFit)
            })?;
            let entry = tables.get_mut(directory).and_then(|table| table.get_mut(index(page, 21)));
            *entry.ok_or(DoesNotFit)? = page | PRESENT_WRITABLE | IS_LARGE;
            page += LARGE;
        }
    }
    Ok(())
}

fn index(address: u64, shift: u32) -> usize {
    usize::try_from(address >> shift & 0x1ff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x1_4567_8000;

    fn range(base: u64, bytes: u64) -> Range {
        Range { base, bytes }
    }

    fn built(count: usize, ranges: &[Range]) -> Result<Vec<Table>, DoesNotFit> {
        let mut tables = vec![[0xee; 512]; count];
        map(&mut tables, BASE, ranges).map(|()| tables)
    }

    /// As the CPU walks.
    fn walk(tables: &[Table], address: u64) -> Option<u64> {
        let mut table = 0;
        for shift in [39, 30, 21] {
            let entry = tables[table][index(address, shift)];
            if entry & PRESENT_WRITABLE != PRESENT_WRITABLE {
                return None;
            }
            if shift == 21 {
                assert_eq!(entry & IS_LARGE, IS_LARGE);
                return Some((entry & ADDRESS) | address & (LARGE - 1));
            }
            table = usize::try_from(((entry & ADDRESS) - BASE) / 4096).unwrap();
        }
        None
    }

    #[test]
    fn what_is_mapped_is_mapped_to_itself_and_nothing_else_is_mapped() {
        let four_gib = range(0, 1 << 32);
        // An image over the end of a GiB, above 4 GiB.
        let image = range(0x1_7fff_f000, 0x2000);
        let tables = built(9, &[four_gib, image]).unwrap();
        for address in [0, 1, 0x1f_ffff, 0x20_0000, 0xfee0_0020, 0xffff_ffff, image.base, 0x1_8000_0fff] {
            assert_eq!(walk(&tables, address), Some(address), "{address:#x}");
        }
        for address in [1 << 32, 0x1_7fdf_ffff, 0x1_8020_0000, 1 << 39, 1 << 46] {
            assert_eq!(walk(&tables, address), None, "{address:#x}");
        }
        assert_eq!(built(7, &[four_gib, image]), Err(DoesNotFit), "one table too few");
    }

    #[test]
    fn ranges_that_meet_share_their_tables() {
        assert!(built(3, &[range(0x1000, 0x1000), range(0x1000, 0x3000_0000), range(0, 0)]).is_ok());
        assert!(built(0, &[range(0, 1)]).is_err());
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        for wrong in [range(1 << 47, 1), range((1 << 47) - 0x1000, 0x1001), range(u64::MAX, 2), range(0, u64::MAX)] {
            assert_eq!(built(8, &[wrong]), Err(DoesNotFit), "{wrong:?}");
        }
    }
}
