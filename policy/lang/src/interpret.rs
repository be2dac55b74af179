//! The plain reference: decides by the syntax tree, as slow and as obvious as can be. The monitor is tested against it.

use bulkhead_model::Reason;

use crate::policy::{Field, Policy};
use crate::tree::{Condition, Operator};

/// The decision on a request, and the place of the deciding rule among [`Policy::rules`].
#[must_use]
pub fn decide(policy: &Policy, subject: u16, object: u16, method: u16, arguments: &[u64]) -> (Reason, Option<usize>) {
    if usize::from(subject) >= policy.subjects.len() || usize::from(object) >= policy.objects.len() {
        return (Reason::UnknownObject, None);
    }
    let Some(signature) = policy.method(object, method) else { return (Reason::UnknownMethod, None) };
    let fields = &signature.arguments;
    if fields.len() != arguments.len() {
        return (Reason::Malformed, None);
    }
    let values: Vec<i128> = fields.iter().zip(arguments).map(|(field, &word)| value(field, word)).collect();
    if !fields.iter().zip(&values).all(|(field, value)| (field.range.0..=field.range.1).contains(value)) {
        return (Reason::Malformed, None);
    }
    let matching = |is_allow: bool| {
        policy.rules.iter().position(|rule| {
            rule.is_allow == is_allow
                && rule.subject == subject
                && rule.targets.contains(&(object, method))
                && rule.condition.as_ref().is_none_or(|condition| holds(policy, condition, fields, &values))
        })
    };
    match (matching(false), matching(true)) {
        (Some(rule), _) => (Reason::DeniedByRule, Some(rule)),
        (None, Some(rule)) => (Reason::Allowed, Some(rule)),
        (None, None) => (Reason::NoRule, None),
    }
}

fn value(field: &Field, word: u64) -> i128 {
    if field.is_signed() { i128::from(word.cast_signed()) } else { i128::from(word) }
}

/// A condition that cannot be evaluated does not hold.
fn holds(policy: &Policy, condition: &Condition, fields: &[Field], values: &[i128]) -> bool {
    let find = |name: &str| {
        let at = fields.iter().position(|field| field.name == name)?;
        Some((fields.get(at)?, *values.get(at)?))
    };
    match condition {
        Condition::Or(left, right) => holds(policy, left, fields, values) || holds(policy, right, fields, values),
        Condition::And(left, right) => holds(policy, left, fields, values) && holds(policy, right, fields, values),
        Condition::Not(inner) => !holds(policy, inner, fields, values),
        Condition::In(name, set) => find(&name.text).is_some_and(|(field, value)| {
            policy.set(set).unwrap_or_default().iter().any(|(low, high)| {
                let range = field.constant(low).zip(field.constant(high));
                range.is_some_and(|(low, high)| (low..=high).contains(&value))
            })
        }),
        Condition::Compare(name, operator, constant) => find(&name.text).is_some_and(|(field, value)| {
            field.constant(constant).is_some_and(|constant| match operator {
                Operator::Equal => value == constant,
                Operator::Unequal => value != constant,
                Operator::Less => value < constant,
                Operator::LessOrEqual => value <= constant,
                Operator::Greater => value > constant,
                Operator::GreaterOrEqual => value >= constant,
            })
        }),
    }
}
