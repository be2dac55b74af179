//! Checked expressions in the words of the language, and what a rule wanted that a message did not bring.

use std::collections::BTreeSet;

use crate::compile::conjuncts;
use crate::interpret::{Message, Remembered, Times};
use crate::policy::{Body, Expression, Field, Place, Policy, StateKind, Values};
use crate::tree::Operator;

/// What a rule wanted of a message: how many of its conditions held before the first that did not, and that one in words.
#[must_use]
pub fn wanted(
    policy: &Policy,
    remembered: &Remembered,
    times: Times,
    message: &Message<'_>,
    body: &Body,
) -> Option<(usize, String)> {
    let (held, _) = branches(policy, remembered, times, message, body).into_iter().find(|(_, holds)| !holds)?;
    let part = *parts(body).get(held)?;
    let fields = policy.fields(message.object, message.method, message.event);
    let brought = arguments(part).into_iter().filter_map(|at| {
        let (field, &word) = (fields.get(at)?, message.words.get(at)?);
        Some(format!("{} is {}", field.label(), field.show(field.value(word))))
    });
    let brought = brought.collect::<Vec<_>>().join(", ");
    let but = if brought.is_empty() { String::new() } else { format!("; {brought}") };
    Some((held, format!("{}{but}", text(policy, fields, part))))
}

/// The parts of a rule's condition, in order: all must hold.
#[must_use]
pub fn parts(body: &Body) -> Vec<&Expression> {
    let mut parts = Vec::new();
    body.condition.iter().for_each(|condition| conjuncts(condition, &mut parts));
    parts
}

/// The parts of a rule's condition that are asked for a message, each with what came of it: all until one does not hold.
#[must_use]
pub fn branches(
    policy: &Policy,
    remembered: &Remembered,
    times: Times,
    message: &Message<'_>,
    body: &Body,
) -> Vec<(usize, bool)> {
    let mut all = Vec::new();
    for (at, part) in parts(body).into_iter().enumerate() {
        let alone = Body { condition: Some(part.clone()), rates: Vec::new(), effects: Vec::new(), ..body.clone() };
        let holds = remembered.matches(policy, times, message, &alone) == Ok(true);
        all.push((at, holds));
        if !holds {
            break;
        }
    }
    all
}

/// The arguments that an expression reads.
fn arguments(expression: &Expression) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    expression.walk(&mut |part| all.extend(part.argument()));
    all
}

/// An expression as a person writes it.
#[must_use]
pub fn text(policy: &Policy, fields: &[Field], expression: &Expression) -> String {
    let show = |expression: &Expression| text(policy, fields, expression);
    // A constant is written as the argument beside it is.
    let beside = |constant: &Expression, other: &Expression| match (constant, other) {
        (Expression::Number(value), Expression::Argument(at)) => {
            fields.get(*at).map_or_else(|| value.to_string(), |field| field.show(*value))
        }
        (constant, _) => show(constant),
    };
    match expression {
        Expression::Number(value) => value.to_string(),
        Expression::Argument(at) => fields.get(*at).map_or_else(String::new, Field::label),
        Expression::Present(at, ..) => fields.get(*at).map_or_else(String::new, |field| field.name.clone()),
        Expression::Matches(at, _, pattern) => {
            format!("{} matches \"{pattern}\"", fields.get(*at).map_or("?", |field| &field.name))
        }
        Expression::Caller => "caller".to_string(),
        Expression::TimeOfDay => "time of day".to_string(),
        Expression::DayOfWeek => "day of week".to_string(),
        Expression::Not(inner) => format!("not ({})", show(inner)),
        Expression::And(left, right) => format!("{} and {}", show(left), show(right)),
        Expression::Or(left, right) => format!("({} or {})", show(left), show(right)),
        Expression::Binary(operator, left, right) => {
            format!("{} {} {}", beside(left, right), word(*operator), beside(right, left))
        }
        Expression::Within(inner, ranges) => {
            let end = |value: i128| beside(&Expression::Number(value), inner);
            let one = |range: &Values| {
                if range.0 == range.1 { end(range.0) } else { format!("{}..{}", end(range.0), end(range.1)) }
            };
            match ranges.as_slice() {
                [range] if range.0 == range.1 => format!("{} == {}", show(inner), one(range)),
                [range] if end(range.0) == end(range.1) => format!("{} starts with {}", show(inner), end(range.0)),
                [range] => format!("{} in {}", show(inner), one(range)),
                many => format!("{} in {{ {} }}", show(inner), many.iter().map(one).collect::<Vec<_>>().join(", ")),
            }
        }
        Expression::Count(place) => at(policy, fields, place),
        Expression::Age(place) => format!("age of {}", at(policy, fields, place)),
        Expression::Contains(place, inner) => format!("{} in {}", show(inner), at(policy, fields, place)),
        Expression::Lookup(place, inner) => format!("{} of {}", show(inner), at(policy, fields, place)),
        Expression::IsIn(place, state) => {
            let flow = policy.states.get(usize::from(place.state)).map(|state| &state.kind);
            let name = match flow {
                Some(StateKind::Flow { states, .. }) => {
                    states.get(usize::from(*state)).map(|state| state.name.as_str())
                }
                _ => None,
            };
            format!("{} is {}", at(policy, fields, place), name.unwrap_or("?"))
        }
        Expression::Holds(place, value) => {
            let flow = policy.states.get(usize::from(place.state)).map(|state| &state.kind);
            let name = match flow {
                Some(StateKind::Flow { values, .. }) => values.get(usize::from(*value)).map(String::as_str),
                _ => None,
            };
            format!("{}.{}", at(policy, fields, place), name.unwrap_or("?"))
        }
    }
}

fn at(policy: &Policy, fields: &[Field], place: &Place) -> String {
    let name = policy.states.get(usize::from(place.state)).map_or("?", |state| state.name.as_str());
    let keys = place.keys.iter().filter(|key| !matches!(key, Expression::Caller));
    let keys: Vec<String> = keys.map(|key| text(policy, fields, key)).collect();
    if keys.is_empty() { name.to_string() } else { format!("{name}({})", keys.join(", ")) }
}

const fn word(operator: Operator) -> &'static str {
    match operator {
        Operator::Or => "or",
        Operator::And => "and",
        Operator::Implies => "implies",
        Operator::Equal => "==",
        Operator::Unequal => "!=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Remainder => "%",
        Operator::BitAnd => "&",
        Operator::BitOr => "|",
        Operator::BitXor => "^",
        Operator::ShiftLeft => "<<",
        Operator::ShiftRight => ">>",
    }
}
