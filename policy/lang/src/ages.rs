//! Ages that run together: what is known of several at once, as bounds of their differences. All comparisons of ages with constants
//! are of whole microseconds, so that `above C` is `C + 1 us or more`: a timed automaton with closed bounds and without comparisons of two
//! ages. For these it is known that sets of ages may be widened beyond the largest constant that an age is compared with, without that
//! a search reaches what it would not (Bouyer, "Forward analysis of updatable timed automata", 2004), and that what is reached at all is
//! reached at whole times (Henzinger, Manna, Pnueli, "What good are digital clocks?", 1992).

use std::collections::{BTreeMap, BTreeSet};

use crate::interpret::Instance;
use crate::policy::Expression;

/// No bound.
const NONE: i64 = i64::MAX;
/// Constants beyond this, some thousand years, are not followed.
const LONGEST: i128 = 1 << 55;

/// From one age to another, both included.
pub(crate) type Span = (i64, i64);

/// Sets of ages, one for each clock: all that meet the bounds, of which there are some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Clocks, and 1: number 0 is always zero.
    size: usize,
    /// `[i * size + j]`: the most that clock i is ahead of clock j.
    bounds: Vec<i64>,
}

impl Zone {
    /// No clocks.
    pub(crate) fn new() -> Self {
        Self { size: 1, bounds: vec![0] }
    }

    fn bound(&self, i: usize, j: usize) -> i64 {
        self.bounds.get(i * self.size + j).copied().unwrap_or(NONE)
    }

    fn set(&mut self, i: usize, j: usize, bound: i64) {
        self.bounds.get_mut(i * self.size + j).into_iter().for_each(|slot| *slot = bound);
    }

    /// The same, of other clocks: each is one of these, or starts now.
    pub(crate) fn of(&self, clocks: &[Option<usize>]) -> Self {
        // What is zero now is as far from the others as zero is.
        let places: Vec<usize> =
            std::iter::once(0).chain(clocks.iter().map(|clock| clock.map_or(0, |at| at + 1))).collect();
        let bounds = places.iter().flat_map(|&i| places.iter().map(move |&j| self.bound(i, j))).collect();
        Self { size: places.len(), bounds }
    }

    /// Any time passes.
    pub(crate) fn pass(&mut self) {
        (1..self.size).for_each(|clock| self.set(clock, 0, NONE));
    }

    /// Every bound as tight as the others make it; `false` if nothing meets them all.
    fn close(&mut self) -> bool {
        for k in 0..self.size {
            for i in 0..self.size {
                for j in 0..self.size {
                    let (one, other) = (self.bound(i, k), self.bound(k, j));
                    if one != NONE && other != NONE && one + other < self.bound(i, j) {
                        self.set(i, j, one + other);
                    }
                }
            }
        }
        (0..self.size).all(|clock| self.bound(clock, clock) >= 0)
    }

    /// Those in which a clock's age is in a span.
    fn within(&self, clock: usize, (low, high): Span) -> Option<Self> {
        let mut zone = self.clone();
        let at = clock + 1;
        zone.set(at, 0, zone.bound(at, 0).min(high));
        zone.set(0, at, zone.bound(0, at).min(-low));
        zone.close().then_some(zone)
    }

    /// Cut where some clocks' comparisons change their minds; each piece with the spans that these clocks are in.
    pub(crate) fn pieces(&self, clocks: &[(usize, Vec<i64>)]) -> Vec<(Self, Vec<(usize, Span)>)> {
        let mut all = vec![(self.clone(), Vec::new())];
        for (clock, cuts) in clocks {
            let lows = std::iter::once(0).chain(cuts.iter().copied());
            let highs = cuts.iter().map(|cut| cut - 1).chain([NONE]);
            let spans: Vec<Span> = lows.zip(highs).collect();
            let cut = |(zone, known): (Self, Vec<(usize, Span)>)| {
                let one =
                    |&span: &Span| Some((zone.within(*clock, span)?, [known.clone(), vec![(*clock, span)]].concat()));
                spans.iter().filter_map(one).collect::<Vec<_>>()
            };
            all = all.into_iter().flat_map(cut).collect();
        }
        all
    }

    /// One of them: each clock's age.
    pub(crate) fn example(&self) -> Vec<i64> {
        (1..self.size).map(|clock| -self.bound(0, clock)).collect()
    }

    /// With all that no comparison tells from one of them: ages beyond the largest constants, which are given for each clock.
    pub(crate) fn widen(&mut self, largest: &[i64]) {
        let most = |clock: usize| clock.checked_sub(1).and_then(|at| largest.get(at)).copied().unwrap_or(0);
        for i in 0..self.size {
            for j in (0..self.size).filter(|&j| j != i) {
                let bound = self.bound(i, j);
                if i != 0 && bound > most(i) {
                    self.set(i, j, NONE);
                } else if j != 0 && bound < -most(j) {
                    self.set(i, j, -most(j) - 1);
                }
            }
        }
        self.close();
    }

    /// Whether all of another's are among these.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.size == other.size && self.bounds.iter().zip(&other.bounds).all(|(mine, its)| mine >= its)
    }
}

/// Where comparisons of ages with constants change their minds, for each state object. `false`: a time is asked for in another way.
pub(crate) fn cuts(expression: &Expression, all: &mut BTreeMap<u16, BTreeSet<i64>>) -> bool {
    let mut compared = |age: &Expression, values: &[i128]| {
        let Expression::Age(place) = age else { return false };
        let known = all.entry(place.state).or_default();
        known.extend(values.iter().filter(|value| **value > 0).filter_map(|value| i64::try_from(*value).ok()));
        values.iter().all(|value| value.abs() < LONGEST) && place.keys.iter().all(is_timeless)
    };
    match expression {
        Expression::Binary(operator, left, right) if operator.is_comparison() => {
            match (left.as_ref(), right.as_ref()) {
                (age @ Expression::Age(_), Expression::Number(value))
                | (Expression::Number(value), age @ Expression::Age(_)) => {
                    compared(age, &[*value, value.saturating_add(1)])
                }
                (left, right) => {
                    let left = cuts(left, all);
                    cuts(right, all) && left
                }
            }
        }
        Expression::Within(inner, ranges) if matches!(inner.as_ref(), Expression::Age(_)) => {
            let ends: Vec<i128> = ranges.iter().flat_map(|(low, high)| [*low, high.saturating_add(1)]).collect();
            compared(inner, &ends)
        }
        Expression::Age(_) | Expression::TimeOfDay | Expression::DayOfWeek => false,
        Expression::Not(inner) | Expression::Within(inner, _) => cuts(inner, all),
        Expression::Contains(place, inner) | Expression::Lookup(place, inner) => {
            place.keys.iter().all(is_timeless) && cuts(inner, all)
        }
        Expression::And(left, right) | Expression::Or(left, right) | Expression::Binary(_, left, right) => {
            let left = cuts(left, all);
            cuts(right, all) && left
        }
        other => other.place().is_none_or(|place| place.keys.iter().all(is_timeless)),
    }
}

fn is_timeless(expression: &Expression) -> bool {
    !expression.has(|part| matches!(part, Expression::Age(_) | Expression::TimeOfDay | Expression::DayOfWeek))
}

/// What was seen at a moment: the spans that some instances' ages were in, and the instances that were changed then.
pub(crate) type Moment<'a> = (&'a [(Instance, Span)], &'a [Instance]);

/// The earliest times of some moments, in their order and at least so far apart; `None` if there are none.
pub(crate) fn times(moments: &[Moment<'_>], apart: i64) -> Option<Vec<i64>> {
    // (from, to, at least, at most)
    let mut bounds: Vec<(usize, usize, Span)> = Vec::new();
    let mut since: BTreeMap<&Instance, usize> = BTreeMap::new();
    for (at, (spans, changed)) in (1..).zip(moments) {
        bounds.push((at - 1, at, (apart, NONE)));
        bounds.extend(spans.iter().filter_map(|(instance, span)| Some((*since.get(instance)?, at, *span))));
        since.extend(changed.iter().map(|instance| (instance, at)));
    }
    let mut times = vec![0_i64; moments.len() + 1];
    for _ in 0..=times.len() {
        let before = times.clone();
        for &(from, to, (least, most)) in &bounds {
            let (first, second) = (*times.get(from)?, *times.get(to)?);
            times.get_mut(to).into_iter().for_each(|time| *time = second.max(first.saturating_add(least)));
            let earliest = times.get(to)?.saturating_sub(most);
            times.get_mut(from).into_iter().for_each(|time| *time = first.max(earliest));
        }
        if times == before {
            return Some(times.split_off(1));
        }
    }
    None
}
