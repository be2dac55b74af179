//! What ages, hours and counts say of one call. At the moment of a call each has one value, whoever asks for it: a `never` and an allowing
//! rule read the same one, before any effect. So they are words of the message as good as its arguments, of which nothing is known but
//! what the two conditions say; if no values meet both, no call does. What is dropped (parts that compute, what may fail) only adds
//! calls: "cannot be" is sure, "can be" is not.

use crate::compile::conjuncts;
use crate::normal;
use crate::policy::{Body, EVERY, Expression, Field, Kind, Policy, Presence};
use crate::regions::{self, Place, TooMany};
use crate::tree::{Decision, Event};

/// Whether no rule can allow a request of this subject while the condition of a `never` holds.
///
/// # Errors
/// [`TooMany`].
pub fn excludes(policy: &Policy, never: &Body, (subject, object, method): Place) -> Result<bool, TooMany> {
    let fields = policy.fields(object, method, Event::Request);
    for rule in policy.rules.iter().filter(|rule| rule.decision == Decision::Allow) {
        for body in rule.bodies_for(subject, object, method, Event::Request) {
            if can_both(never, body, fields)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn can_both(never: &Body, body: &Body, fields: &[Field]) -> Result<bool, TooMany> {
    let mut parts = Vec::new();
    never.condition.iter().chain(&body.condition).for_each(|condition| conjuncts(condition, &mut parts));
    let mut asked: Vec<&Expression> = Vec::new();
    let parts: Vec<Expression> = parts.into_iter().map(|part| as_words(part, fields.len(), &mut asked)).collect();
    let simple: Vec<&Expression> = parts.iter().filter(|part| normal::is_simple(part)).collect();
    let any = |_: &&Expression| Field {
        name: String::new(),
        range: EVERY,
        kind: Kind::plain(EVERY),
        is_secret: false,
        presence: Presence::Always,
        head: None,
    };
    let all: Vec<Field> = fields.iter().cloned().chain(asked.iter().map(any)).collect();
    regions::meet(&simple, &all)
}

/// An expression with a word of its own for each age, hour and count that it asks for.
fn as_words<'e>(expression: &'e Expression, first: usize, asked: &mut Vec<&'e Expression>) -> Expression {
    let mut inside = |inner: &'e Expression| Box::new(as_words(inner, first, asked));
    match expression {
        Expression::Age(_)
        | Expression::TimeOfDay
        | Expression::DayOfWeek
        | Expression::Count(_)
        | Expression::Holds(..) => {
            let at = asked.iter().position(|known| *known == expression).unwrap_or_else(|| {
                asked.push(expression);
                asked.len() - 1
            });
            Expression::Argument(first + at)
        }
        Expression::Not(inner) => Expression::Not(inside(inner)),
        Expression::And(left, right) => Expression::And(inside(left), inside(right)),
        Expression::Or(left, right) => Expression::Or(inside(left), inside(right)),
        Expression::Binary(operator, left, right) => Expression::Binary(*operator, inside(left), inside(right)),
        Expression::Within(inner, ranges) => Expression::Within(inside(inner), ranges.clone()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::excludes;
    use crate::interpret::{Message, Remembered, Times};
    use crate::policy::{Body, NeverWhat, Policy};
    use crate::tests::build;
    use crate::tree::Event;
    use bulkhead_model::Reason;

    const HEAD: &str = "edition 1\npolicy p\nzone UTC\ninterface I { method go(x: u8 in 0..3) -> ()\n method mark() -> () }\napp a\nservice s: I by a\n\
        timer t\ncounter c in 0..3\nallow guest s.mark then start t, count c\n";

    fn never(policy: &Policy) -> &Body {
        match &policy.nevers[0].what {
            NeverWhat::Call(rule, _) => &rule.bodies[0],
            NeverWhat::State(_) => unreachable!("the tests say `never` of calls"),
        }
    }

    fn is_excluded(rules: &str) -> bool {
        let compiled = build(&format!("{HEAD}{rules}\n")).unwrap();
        let object = compiled.object("s").unwrap();
        excludes(&compiled.policy, never(&compiled.policy), (0, object, 0)).unwrap()
    }

    #[test]
    fn what_the_rule_itself_keeps_out_is_out_at_any_time() {
        for (allow, never, wanted) in [
            ("age of t >= 10 s", "age of t below 10 s", true),
            ("age of t >= 10 s", "age of t <= 10 s", false),
            ("age of t >= 10 s and x < 2", "age of t below 20 s and x > 1", true),
            ("time of day between 8 h and 16 h", "time of day above 16 h", true),
            ("time of day between 8 h and 16 h", "time of day above 15 h", false),
            ("day of week in 1..5", "day of week in 6..7 or age of t > 1 s", false),
            ("day of week in 1..5 and not age of t > 1 s", "day of week in 6..7 or age of t > 1 s", true),
            ("c < 2", "c >= 2", true),
            ("c < 2 or x == 0", "c >= 2", false),
            ("x + 1 < 3 and c < 2", "c == 2", true),
        ] {
            assert_eq!(
                is_excluded(&format!("allow guest s.go when {allow}\nnever guest s.go when {never}")),
                wanted,
                "{allow}; {never}"
            );
        }
        assert!(
            !is_excluded("allow guest s.go when c < 2\nallow guest s.go when x == 1\nnever guest s.go when c >= 2"),
            "another rule"
        );
    }

    fn condition() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            (0_u8..6, prop::sample::select(vec!["<", "<=", ">", ">=", "=="]))
                .prop_map(|(s, op)| format!("age of t {op} {s} s")),
            (0_u8..6, 0_u8..6).prop_map(|(a, b)| format!("time of day between {} h and {} h", a.min(b), a.max(b))),
            (1_u8..8).prop_map(|day| format!("day of week == {day}")),
            (0_u8..4, prop::sample::select(vec!["<", ">", "==", "!="])).prop_map(|(n, op)| format!("c {op} {n}")),
            (0_u8..4).prop_map(|n| format!("x <= {n}")),
            (1_u8..4).prop_map(|n| format!("x + c < {n}")),
        ];
        leaf.prop_recursive(2, 6, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|one| format!("not ({one})")),
                (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) and ({other})")),
                (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) or ({other})")),
                (inner.clone(), inner).prop_map(|(one, other)| format!("(({one}) implies ({other}))")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// What is said to be out is not allowed at any age, hour, day, count and argument.
        #[test]
        fn what_is_excluded_no_moment_allows(allows in prop::collection::vec(condition(), 1..3), wanted in condition()) {
            let rules: String = allows.iter().map(|when| format!("allow guest s.go when {when}\n")).collect();
            let compiled = build(&format!("{HEAD}{rules}never guest s.go when {wanted}\n")).unwrap();
            let (policy, object) = (&compiled.policy, compiled.object("s").unwrap());
            if excludes(policy, never(policy), (0, object, 0)) != Ok(true) {
                return Ok(());
            }
            for marks in 0..4_u64 {
                for age in 0..7_u64 {
                    let mut remembered = Remembered::default();
                    let at = |seconds: u64, local_seconds| Times { microseconds: Some(seconds * 1_000_000), local_seconds };
                    for _ in 0..marks {
                        let mark = Message { subject: 0, object, method: 1, event: Event::Request, words: &[] };
                        prop_assert_eq!(remembered.decide(policy, at(1, None), &mark).reason, Reason::Allowed);
                    }
                    for local in (0..7 * 24).filter(|hour| hour % 24 < 7).map(|hour| Some(hour * 3600)).chain([None]) {
                        for x in 0..4 {
                            let message = Message { subject: 0, object, method: 0, event: Event::Request, words: &[x] };
                            let times = at(1 + age, local);
                            let is_meant = remembered.matches(policy, times, &message, never(policy)) == Ok(true);
                            let is_allowed = remembered.clone().decide(policy, times, &message).reason == Reason::Allowed;
                            prop_assert!(!(is_meant && is_allowed), "{rules} {wanted}: {marks} {age} {local:?} {x}");
                        }
                    }
                }
            }
        }
    }
}
