//! Which calls a policy allows, as sets of values: exact where rules test arguments against constants, and bounded from both
//! sides where they remember or compute. For `prove`, `diff` and `lint`.

use crate::compile::conjuncts;
use crate::normal;
use crate::policy::{Body, Expression, Field, Policy, Presence, Rule, Values};
use crate::tree::{Decision, Event};

/// For each field of a message the values that it has.
pub type Cube = Vec<Values>;

/// Messages of one method: a union of cubes.
pub type Region = Vec<Cube>;

/// The most cubes of a region.
const CUBES: usize = 4096;

/// A region takes more than [`CUBES`] cubes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Who may call what: subject, object, method.
pub type Place = (u16, u16, u16);

/// What a rule's condition covers.
#[derive(Clone, Debug)]
pub struct Extent {
    /// No message outside matches.
    pub region: Region,
    /// Every message inside matches, whatever is remembered.
    pub is_exact: bool,
    /// Outside, nothing of it is evaluated that may fail; empty if it is exact.
    pub may_fail: Region,
}

/// What the rules say of one subject and method.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Allowed for sure, whatever is remembered.
    pub surely: Region,
    /// Allowed at most.
    pub perhaps: Region,
}

/// The extent of a rule for a method.
///
/// # Errors
/// [`TooMany`].
pub fn extent(policy: &Policy, body: &Body, event: Event) -> Result<Extent, TooMany> {
    let fields = policy.fields(body.object, body.method, event);
    let mut parts = Vec::new();
    if let Some(condition) = &body.condition {
        conjuncts(condition, &mut parts);
    }
    let simple: Vec<&Expression> = parts.iter().copied().filter(|part| normal::is_simple(part)).collect();
    let is_exact = simple.len() == parts.len() && body.rates.is_empty() && body.effects.is_empty();
    // What is simple bounds the rule, wherever it stands in the condition.
    let rows = normal::rows(&simple, fields).map_err(|_| TooMany)?;
    let cubes = |rows: &[normal::Row]| {
        let cubes = rows.iter().filter_map(|row| cube(row, fields));
        cubes.filter(|cube| message(cube, fields).is_some()).collect()
    };
    let region = cubes(&rows);
    if is_exact {
        return Ok(Extent { region, is_exact, may_fail: Vec::new() });
    }
    let leading: Vec<&Expression> = parts.iter().copied().take_while(|part| normal::is_simple(part)).collect();
    let may_fail = cubes(&normal::rows(&leading, fields).map_err(|_| TooMany)?);
    Ok(Extent { region, is_exact, may_fail })
}

/// Whether a message can meet all of these simple parts of conditions.
pub(crate) fn meet(simple: &[&Expression], fields: &[Field]) -> Result<bool, TooMany> {
    let rows = normal::rows(simple, fields).map_err(|_| TooMany)?;
    Ok(rows.iter().filter_map(|row| cube(row, fields)).any(|cube| message(&cube, fields).is_some()))
}

fn cube(row: &normal::Row, fields: &[Field]) -> Option<Cube> {
    let range = |(at, field): (usize, &Field)| {
        // A word that may be absent is zero then.
        let range =
            if field.presence == Presence::Always { field.range } else { (field.range.0.min(0), field.range.1.max(0)) };
        let tested = row.iter().find(|(argument, _)| *argument == at).map_or(range, |(_, range)| *range);
        let (low, high) = (tested.0.max(range.0), tested.1.min(range.1));
        (low <= high).then_some((low, high))
    };
    fields.iter().enumerate().map(range).collect()
}

/// What is in both.
///
/// # Errors
/// [`TooMany`].
pub fn intersection(one: &Region, other: &Region) -> Result<Region, TooMany> {
    let meet = |a: &Cube, b: &Cube| -> Option<Cube> {
        let ranges = a.iter().zip(b).map(|(x, y)| (x.0.max(y.0), x.1.min(y.1)));
        ranges.map(|range| (range.0 <= range.1).then_some(range)).collect()
    };
    let met: Region = one.iter().flat_map(|a| other.iter().filter_map(move |b| meet(a, b))).collect();
    if met.len() > CUBES { Err(TooMany) } else { Ok(met) }
}

/// What is in the first and not in the second.
///
/// # Errors
/// [`TooMany`].
pub fn difference(from: &Region, what: &Region) -> Result<Region, TooMany> {
    let mut rest = from.clone();
    for cut in what {
        rest = rest.iter().flat_map(|cube| without(cube, cut)).collect();
        if rest.len() > CUBES {
            return Err(TooMany);
        }
    }
    Ok(rest)
}

/// A cube without another: for each field the pieces below and above it, with the fields before it cut to it.
fn without(cube: &Cube, cut: &Cube) -> Region {
    if cube.iter().zip(cut).any(|(x, y)| x.1 < y.0 || y.1 < x.0) {
        return vec![cube.clone()];
    }
    let mut all = Vec::new();
    let mut inner = cube.clone();
    for (at, &(low, high)) in cut.iter().enumerate() {
        let Some(&(start, end)) = inner.get(at) else { continue };
        let mut piece = |range: Values| {
            let mut cube = inner.clone();
            if let Some(slot) = cube.get_mut(at) {
                *slot = range;
            }
            all.push(cube);
        };
        if start < low {
            piece((start, low - 1));
        }
        if high < end {
            piece((high + 1, end));
        }
        if let Some(slot) = inner.get_mut(at) {
            *slot = (start.max(low), end.min(high));
        }
    }
    all
}

/// The same messages as disjoint cubes, in one form whatever cubes they were given as: sliced field by field, and slices that
/// say the same joined.
///
/// # Errors
/// [`TooMany`].
pub fn merged(region: &Region) -> Result<Region, TooMany> {
    let cubes: Vec<&[Values]> = region.iter().map(Vec::as_slice).collect();
    slices(&cubes, &mut (CUBES * CUBES)).ok_or(TooMany)
}

fn slices(cubes: &[&[Values]], left: &mut usize) -> Option<Region> {
    *left = left.checked_sub(1 + cubes.len())?;
    let split: Vec<(Values, &[Values])> =
        cubes.iter().filter_map(|cube| cube.split_first().map(|(&first, rest)| (first, rest))).collect();
    if split.is_empty() {
        return Some(if cubes.is_empty() { Vec::new() } else { vec![Vec::new()] });
    }
    let mut cuts: Vec<i128> = split.iter().flat_map(|((low, high), _)| [*low, high + 1]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut all: Vec<(Values, Region)> = Vec::new();
    for (&start, &end) in cuts.iter().zip(cuts.iter().skip(1)) {
        *left = left.checked_sub(split.len())?;
        let within = split.iter().filter(|((low, high), _)| *low <= start && end <= high + 1);
        let rest = slices(&within.map(|(_, rest)| *rest).collect::<Vec<_>>(), left)?;
        match all.last_mut() {
            Some(((_, high), last)) if *high + 1 == start && *last == rest => *high = end - 1,
            _ if rest.is_empty() => {}
            _ => all.push(((start, end - 1), rest)),
        }
    }
    let whole = |(range, rest): (Values, Region)| {
        rest.into_iter().map(move |cube| [range].into_iter().chain(cube).collect::<Cube>())
    };
    Some(all.into_iter().flat_map(whole).collect())
}

/// A message of the region whose values fit together.
#[must_use]
pub fn example(region: &Region, fields: &[Field]) -> Option<Vec<i128>> {
    region.iter().find_map(|cube| message(cube, fields))
}

/// Whether no message lies in the region.
#[must_use]
pub fn is_empty(region: &Region, fields: &[Field]) -> bool {
    example(region, fields).is_none()
}

/// A message of a cube, if it has one: each length is the least that what must be there needs, as a greater one only asks for more.
fn message(cube: &Cube, fields: &[Field]) -> Option<Vec<i128>> {
    let mut values: Vec<i128> = cube.iter().map(|range| range.0).collect();
    for ((low, high), field) in cube.iter().zip(fields) {
        let (guard, needed) = match field.presence {
            Presence::Always => continue,
            Presence::Above(guard, above) => (guard, if *low > 0 || *high < 0 { i128::from(above) + 1 } else { 0 }),
            Presence::Bytes(guard, first) => {
                let bytes = (0..=8).find(|&bytes| multiple(*low, *high, bytes).is_some())?;
                (guard, if bytes == 0 { 0 } else { i128::from(first) + bytes })
            }
        };
        let value = values.get_mut(guard)?;
        *value = needed.max(*value);
    }
    for (at, ((low, high), field)) in cube.iter().zip(fields).enumerate() {
        let there = |guard: usize, above: u8| values.get(guard).map_or(0, |value| value - i128::from(above));
        let value = match field.presence {
            Presence::Always => *values.get(at)?,
            Presence::Above(guard, above) if there(guard, above) > 0 => field.range.0.max(*low),
            Presence::Above(..) => 0,
            Presence::Bytes(guard, first) => multiple(*low, *high, there(guard, first).clamp(0, 8))?,
        };
        if value < *low || value > *high {
            return None;
        }
        *values.get_mut(at)? = value;
    }
    Some(values)
}

/// The least number of a range of which only so many of eight bytes, the highest, are not zero.
fn multiple(low: i128, high: i128, bytes: i128) -> Option<i128> {
    let unit = 1_i128 << (8 * (8 - bytes));
    let value = (low + unit - 1) / unit * unit;
    (value <= high).then_some(value)
}

/// What the rules say of the requests of a subject to a method.
///
/// # Errors
/// [`TooMany`].
pub fn bounds(policy: &Policy, (subject, object, method): Place) -> Result<Bounds, TooMany> {
    let (mut exact, mut allows, mut exact_denies, mut doubts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for rule in &policy.rules {
        for body in rule.bodies_for(subject, object, method, Event::Request) {
            let Extent { region, is_exact, may_fail } = extent(policy, body, Event::Request)?;
            match (rule.decision, is_exact) {
                (Decision::Deny, true) => exact_denies.extend(region),
                (Decision::Deny, false) => doubts.extend(may_fail),
                (_, true) => {
                    exact.extend(region.clone());
                    allows.extend(region);
                }
                // A rule that computes or remembers may also fail, and then refuses.
                (_, false) => {
                    doubts.extend(may_fail);
                    allows.extend(region);
                }
            }
        }
    }
    let surely = difference(&difference(&exact, &exact_denies)?, &doubts)?;
    Ok(Bounds { surely, perhaps: difference(&allows, &exact_denies)? })
}

/// Every subject, object and method that a rule names.
#[must_use]
pub fn places(policy: &Policy) -> Vec<Place> {
    let of_rule = |rule: &Rule| {
        let bodies: Vec<(u16, u16)> = rule.bodies.iter().map(|body| (body.object, body.method)).collect();
        rule.subjects
            .iter()
            .flat_map(move |&subject| bodies.clone().into_iter().map(move |(o, m)| (subject, o, m)))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<Place> =
        policy.rules.iter().filter(|rule| rule.event == Event::Request).flat_map(of_rule).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region() -> impl Strategy<Value = Region> {
        let range = (0_i128..12, 0_i128..5).prop_map(|(low, size)| (low, low + size));
        prop::collection::vec(prop::collection::vec(range, 2), 0..5)
    }

    fn has(region: &Region, point: (i128, i128)) -> bool {
        let within = |range: &Values, value: i128| range.0 <= value && value <= range.1;
        region.iter().any(|cube| within(&cube[0], point.0) && within(&cube[1], point.1))
    }

    proptest! {
        #[test]
        fn regions_are_sets_of_messages(a in region(), b in region()) {
            let (both, rest) = (intersection(&a, &b).unwrap(), difference(&a, &b).unwrap());
            let one_form = merged(&a).unwrap();
            let backwards: Region = a.iter().rev().cloned().collect();
            prop_assert_eq!(&merged(&backwards).unwrap(), &one_form);
            prop_assert_eq!(&merged(&[both.clone(), rest.clone()].concat()).unwrap(), &one_form);
            for point in (0..18).flat_map(|x| (0..18).map(move |y| (x, y))) {
                prop_assert_eq!(has(&one_form, point), has(&a, point));
                prop_assert_eq!(has(&both, point), has(&a, point) && has(&b, point));
                prop_assert_eq!(has(&rest, point), has(&a, point) && !has(&b, point));
            }
        }
    }
}
