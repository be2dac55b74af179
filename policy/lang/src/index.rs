//! An index for a cell with many rows: the value of one argument finds the few rows that may match.

use bulkhead_model::build::Tables;
use bulkhead_model::{Cell, Index, Interval};

use crate::normal::Row;
use crate::policy::{Field, Values};

/// Cells with fewer rows are read from one end to the other.
const FEW: usize = 8;

/// One interval: its first value, and the places of the rows that may match in it.
type Piece = (i128, Vec<usize>);

/// Writes the index of a cell's rows, if one helps; returns its number and the most rows that a decision then looks at.
pub(crate) fn build(tables: &mut Tables, rows: &[(u32, &Row)], fields: &[Field]) -> (u32, usize) {
    if rows.len() <= FEW {
        return (Cell::PLAIN, rows.len());
    }
    let found =
        (0..fields.len()).filter_map(|argument| Some((argument, pieces(rows, fields.get(argument)?, argument)?)));
    // The one with the best worst case.
    let lengths = |pieces: &[Piece]| pieces.iter().map(|(_, rows)| rows.len()).collect::<Vec<_>>();
    let best = found.min_by_key(|(_, pieces)| {
        let lengths = lengths(pieces);
        (lengths.iter().max().copied(), lengths.iter().sum::<usize>())
    });
    let Some((argument, pieces)) = best else { return (Cell::PLAIN, rows.len()) };
    let most = pieces.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
    let (Some((base, _)), Some((last, _))) = (pieces.first(), pieces.last()) else { return (Cell::PLAIN, rows.len()) };
    let (base, span) = (*base, *last - *base);
    let first_interval = tables.intervals.len();
    for (start, places) in &pieces {
        let found: Vec<u32> = places.iter().filter_map(|place| rows.get(*place).map(|(row, _)| *row)).collect();
        let rows = if let [one] = found.as_slice() {
            *one
        } else {
            let list = Interval::LIST | number(tables.references.len());
            tables.references.push(number(found.len()));
            tables.references.extend(found);
            list
        };
        tables.intervals.push(Interval { start: number(start - base), rows });
    }
    let limit = i128::try_from(2 * pieces.len()).unwrap_or(i128::MAX);
    let shift = (0..32_u16).find(|shift| span >> shift < limit).unwrap_or(32);
    let first_bucket = number(tables.buckets.len());
    let bucket_count = number(span >> shift) + 1;
    for bucket in 0..=bucket_count {
        let start = base + (i128::from(bucket) << shift);
        let at = pieces.partition_point(|(first, _)| *first <= start).saturating_sub(1);
        tables.buckets.push(number(first_interval + at));
    }
    let signed = fields.get(argument).is_some_and(Field::is_signed);
    // Signed values are moved by 2^63, so that they are in order as unsigned ones.
    let moved = if signed { base + (1 << 63) } else { base };
    let base = u64::try_from(moved).unwrap_or(0);
    let argument = u16::try_from(argument).unwrap_or(u16::MAX);
    tables.indexes.push(Index { base, argument, shift, first_bucket, bucket_count, signed: signed.into() });
    (number(tables.indexes.len() - 1), most)
}

/// The intervals of one argument, the last of them empty; `None` if they are no help.
fn pieces(rows: &[(u32, &Row)], field: &Field, argument: usize) -> Option<Vec<Piece>> {
    let range = |row: &Row| row.iter().find(|(at, _)| *at == argument).map_or(field.range, |(_, range)| *range);
    let ranges: Vec<Values> = rows.iter().map(|(_, row)| range(row)).collect();
    let low = ranges.iter().map(|range| range.0).min()?;
    let high = ranges.iter().map(|range| range.1).max()?;
    if high - low >= i128::from(u32::MAX) {
        return None;
    }
    let mut edges: Vec<(i128, bool, usize)> = Vec::new();
    for (place, range) in ranges.iter().enumerate() {
        edges.push((range.0, true, place));
        edges.push((range.1 + 1, false, place));
    }
    edges.sort_unstable();
    let most = 8 * rows.len() + 64;
    let mut active: std::collections::BTreeSet<usize> = std::collections::BTreeSet::new();
    let (mut all, mut total): (Vec<Piece>, usize) = (Vec::new(), 0);
    for (at, (value, starts, place)) in edges.iter().enumerate() {
        if *starts {
            active.insert(*place);
        } else {
            active.remove(place);
        }
        if edges.get(at + 1).is_none_or(|next| next.0 != *value) {
            total += active.len();
            if total > most {
                return None;
            }
            all.push((*value, active.iter().copied().collect()));
        }
    }
    Some(all)
}

fn number<T: TryInto<u32>>(value: T) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}
