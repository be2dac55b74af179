//! Conditions on single arguments to disjunctive normal form: a list of rows, each a conjunction of at most one range test
//! an argument.

use std::collections::BTreeMap;

use crate::policy::{Expression, Field, Values};
use crate::tree::Operator;

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

/// Whether an expression only tests single arguments against constants: it cannot fail, and rows can say it.
pub(crate) fn is_simple(expression: &Expression) -> bool {
    match expression {
        Expression::Not(inner) => is_simple(inner),
        Expression::And(left, right) | Expression::Or(left, right) => is_simple(left) && is_simple(right),
        _ => atom(expression, &[]).is_some(),
    }
}

/// The rows of a conjunction of simple expressions; none if it never holds.
pub(crate) fn rows(simple: &[&Expression], arguments: &[Field]) -> Result<Vec<Row>, TooMany> {
    let mut all = vec![Term::new()];
    for expression in simple {
        let next = terms(expression, arguments, false)?;
        all = all.iter().flat_map(|a| next.iter().filter_map(|b| both(a, b))).collect();
        if all.len() > ROWS {
            return Err(TooMany);
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for term in all {
        let mut expanded: Vec<Row> = vec![Vec::new()];
        for (argument, ranges) in term {
            let whole = arguments.get(argument).map_or((0, 0), |field| field.kind.values);
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

fn terms(expression: &Expression, arguments: &[Field], negated: bool) -> Result<Vec<Term>, TooMany> {
    match (expression, negated) {
        (Expression::Not(inner), _) => terms(inner, arguments, !negated),
        (Expression::Or(left, right), false) | (Expression::And(left, right), true) => {
            let mut all = terms(left, arguments, negated)?;
            all.extend(terms(right, arguments, negated)?);
            if all.len() > ROWS { Err(TooMany) } else { Ok(all) }
        }
        (Expression::And(left, right), false) | (Expression::Or(left, right), true) => {
            let right = terms(right, arguments, negated)?;
            let left = terms(left, arguments, negated)?;
            let all: Vec<Term> = left.iter().flat_map(|a| right.iter().filter_map(|b| both(a, b))).collect();
            if all.len() > ROWS { Err(TooMany) } else { Ok(all) }
        }
        _ => {
            let (argument, ranges) = atom(expression, arguments).unwrap_or((0, Vec::new()));
            let whole = arguments.get(argument).map_or((0, 0), |field| field.kind.values);
            let ranges = intersection(&ranges, &[whole]);
            let ranges = if negated { complement(&ranges, whole) } else { ranges };
            Ok(if ranges.is_empty() { Vec::new() } else { vec![Term::from([(argument, ranges)])] })
        }
    }
}

/// One test: the argument and where it must lie. A `bool` argument by itself is a test too.
fn atom(expression: &Expression, arguments: &[Field]) -> Option<(usize, Ranges)> {
    match expression {
        Expression::Within(inner, ranges) => match inner.as_ref() {
            Expression::Argument(at) => Some((*at, ranges.clone())),
            _ => None,
        },
        Expression::Argument(at) => Some((*at, vec![(1, 1)])),
        Expression::Binary(operator, left, right) => {
            let (at, value, operator) = match (left.as_ref(), right.as_ref()) {
                (Expression::Argument(at), Expression::Number(value)) => (*at, *value, *operator),
                (Expression::Number(value), Expression::Argument(at)) => (*at, *value, turned(*operator)),
                _ => return None,
            };
            let (low, high) = arguments.get(at).map_or((0, 0), |field| field.kind.values);
            let ranges = match operator {
                Operator::Equal => vec![(value, value)],
                Operator::Unequal => vec![(low, value - 1), (value + 1, high)],
                Operator::Less => vec![(low, value - 1)],
                Operator::LessOrEqual => vec![(low, value)],
                Operator::Greater => vec![(value + 1, high)],
                Operator::GreaterOrEqual => vec![(value, high)],
                _ => return None,
            };
            Some((at, ranges.into_iter().filter(|(low, high)| low <= high).collect()))
        }
        _ => None,
    }
}

/// The operator with its sides exchanged.
const fn turned(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        other => other,
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

/// Sorted, disjoint ranges of the same values.
pub(crate) fn union(mut ranges: Ranges) -> Ranges {
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

/// A call that both rows match, as argument and value; `None` if no call does.
pub(crate) fn meeting(a: &Row, b: &Row) -> Option<Vec<(usize, i128)>> {
    let mut values: BTreeMap<usize, Values> = BTreeMap::new();
    for &(argument, (low, high)) in a.iter().chain(b) {
        let range = values.entry(argument).or_insert((low, high));
        *range = (range.0.max(low), range.1.min(high));
        if range.0 > range.1 {
            return None;
        }
    }
    Some(values.into_iter().map(|(argument, (low, _))| (argument, low)).collect())
}
