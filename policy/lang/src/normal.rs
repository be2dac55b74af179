//! Conditions to disjunctive normal form: a list of rows, each a conjunction of at most one range test an argument.

use std::collections::BTreeMap;

use crate::policy::{Field, Policy, Values};
use crate::tree::{Condition, Operator};

/// The most rows of one rule and method.
pub(crate) const ROWS: usize = 64;

/// A condition needs more than [`ROWS`] rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Sorted, disjoint, not touching.
type Ranges = Vec<Values>;
/// For each argument that is tested: where it must lie.
type Term = BTreeMap<usize, Ranges>;
/// One argument's number and its range.
pub(crate) type Row = Vec<(usize, Values)>;

/// The rows of a checked condition; none if it never holds.
pub(crate) fn rows(policy: &Policy, condition: &Condition, arguments: &[Field]) -> Result<Vec<Row>, TooMany> {
    let terms = terms(policy, condition, arguments, false)?;
    let mut rows: Vec<Row> = Vec::new();
    for term in terms {
        let mut expanded: Vec<Row> = vec![Vec::new()];
        for (argument, ranges) in term {
            let whole = arguments.get(argument).map_or((0, 0), |field| field.kind);
            if ranges == [whole] {
                continue;
            }
            expanded = expanded
                .iter()
                .flat_map(|row| ranges.iter().map(move |&range| [row.clone(), vec![(argument, range)]].concat()))
                .collect();
            if expanded.len() > ROWS {
                return Err(TooMany);
            }
        }
        rows.extend(expanded);
    }
    rows.sort();
    rows.dedup();
    if rows.len() > ROWS { Err(TooMany) } else { Ok(rows) }
}

fn terms(policy: &Policy, condition: &Condition, arguments: &[Field], negated: bool) -> Result<Vec<Term>, TooMany> {
    match (condition, negated) {
        (Condition::Not(inner), _) => terms(policy, inner, arguments, !negated),
        (Condition::Or(left, right), false) | (Condition::And(left, right), true) => {
            let mut all = terms(policy, left, arguments, negated)?;
            all.extend(terms(policy, right, arguments, negated)?);
            if all.len() > ROWS { Err(TooMany) } else { Ok(all) }
        }
        (Condition::And(left, right), false) | (Condition::Or(left, right), true) => {
            let right = terms(policy, right, arguments, negated)?;
            let left = terms(policy, left, arguments, negated)?;
            let all: Vec<Term> = left.iter().flat_map(|a| right.iter().filter_map(|b| both(a, b))).collect();
            if all.len() > ROWS { Err(TooMany) } else { Ok(all) }
        }
        (Condition::Compare(..) | Condition::In(..), _) => {
            let (argument, ranges) = atom(policy, condition, arguments);
            let whole = arguments.get(argument).map_or((0, 0), |field| field.kind);
            let ranges = if negated { complement(&ranges, whole) } else { ranges };
            Ok(if ranges.is_empty() { Vec::new() } else { vec![Term::from([(argument, ranges)])] })
        }
    }
}

/// One test: the argument and where it must lie.
fn atom(policy: &Policy, condition: &Condition, arguments: &[Field]) -> (usize, Ranges) {
    let find = |name: &str| arguments.iter().position(|field| field.name == name);
    match condition {
        Condition::Compare(name, operator, constant) => {
            let Some((at, field)) = find(&name.text).and_then(|at| Some((at, arguments.get(at)?))) else {
                return (0, Vec::new());
            };
            let (low, high) = field.kind;
            let Some(value) = field.constant(constant) else { return (at, Vec::new()) };
            let ranges = match operator {
                Operator::Equal => vec![(value, value)],
                Operator::Unequal => vec![(low, value - 1), (value + 1, high)],
                Operator::Less => vec![(low, value - 1)],
                Operator::LessOrEqual => vec![(low, value)],
                Operator::Greater => vec![(value + 1, high)],
                Operator::GreaterOrEqual => vec![(value, high)],
            };
            (at, ranges.into_iter().filter(|(low, high)| low <= high).collect())
        }
        Condition::In(name, set) => {
            let Some((at, field)) = find(&name.text).and_then(|at| Some((at, arguments.get(at)?))) else {
                return (0, Vec::new());
            };
            let ranges = policy.set(set).unwrap_or_default().iter();
            let values = ranges.filter_map(|(low, high)| Some((field.constant(low)?, field.constant(high)?)));
            (at, union(values.collect()))
        }
        _ => (0, Vec::new()),
    }
}

fn both(a: &Term, b: &Term) -> Option<Term> {
    let mut term = a.clone();
    for (argument, ranges) in b {
        let met = match term.get(argument) {
            Some(known) => intersection(known, ranges),
            None => ranges.clone(),
        };
        if met.is_empty() {
            return None;
        }
        term.insert(*argument, met);
    }
    Some(term)
}

fn union(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut all: Ranges = Vec::new();
    for (low, high) in ranges {
        match all.last_mut() {
            Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
            _ => all.push((low, high)),
        }
    }
    all
}

fn intersection(a: &[Values], b: &[Values]) -> Ranges {
    let meet = |x: &Values, y: &Values| (x.0.max(y.0), x.1.min(y.1));
    let met = a.iter().flat_map(|x| b.iter().map(move |y| meet(x, y))).filter(|(low, high)| low <= high);
    union(met.collect())
}

fn complement(ranges: &[Values], (low, high): Values) -> Ranges {
    let mut all = Vec::new();
    let mut next = low;
    for &(start, end) in ranges {
        if next < start {
            all.push((next, start - 1));
        }
        next = end + 1;
    }
    if next <= high {
        all.push((next, high));
    }
    all
}
