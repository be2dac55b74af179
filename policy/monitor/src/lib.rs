//! The monitor: it decides on calls by a compiled policy. Default deny; a denying rule wins over every allowing one; order
//! never matters. Its neighbours are `policy/model` (the table) and whoever enforces the verdict.
#![no_std]
#![forbid(unsafe_code)]

use bulkhead_model::{Field, MAX_ARGS, NONE, Phase, Policy, Reason, Rule};

/// What is decided on. Subject and object come from the wall or the kernel, never from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Who.
    pub subject: u16,
    /// To what.
    pub object: u16,
    /// Which method.
    pub method: u16,
    /// Request or reply.
    pub phase: Phase,
    /// How many arguments.
    pub len: u8,
    /// The arguments; signed ones are sign-extended.
    pub args: &'a [u64; MAX_ARGS],
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allow or refuse, and why.
    pub reason: Reason,
    /// The rule that decided, as users number them; [`NONE`] without one.
    pub rule: u16,
    /// Whether a record is made. Refusals always are.
    pub audit: bool,
}

impl Verdict {
    /// Whether the call may go on.
    #[must_use]
    #[inline]
    pub const fn is_allowed(&self) -> bool {
        matches!(self.reason, Reason::Allowed)
    }

    const fn refuse(reason: Reason, rule: u16) -> Self {
        Self { reason, rule, audit: true }
    }
}

/// Decides. A message that does not fit its interface is refused before any rule is looked at; a reply belongs to a request
/// that was allowed and needs no rule of its own.
#[must_use]
#[inline(always)]
pub fn decide(policy: &Policy<'_>, call: &Call<'_>) -> Verdict {
    const ALLOWED: Verdict = Verdict { reason: Reason::Allowed, rule: NONE, audit: false };
    if usize::from(call.subject) >= policy.subject_count() {
        return Verdict::refuse(Reason::UnknownObject, NONE);
    }
    let Some(object) = policy.object(call.object).filter(|object| object.name.bytes != 0) else {
        return Verdict::refuse(Reason::UnknownObject, NONE);
    };
    let Some((place, method)) = policy.method(object, call.method) else {
        return Verdict::refuse(Reason::UnknownMethod, NONE);
    };
    if call.phase == Phase::Error {
        return ALLOWED;
    }
    let fields = policy.fields(method, call.phase == Phase::Reply);
    if fields.len() != usize::from(call.len) {
        return Verdict::refuse(Reason::Malformed, NONE);
    }
    for (field, &value) in fields.iter().zip(call.args) {
        if !fits(field, value) {
            return Verdict::refuse(Reason::Malformed, NONE);
        }
    }
    if call.phase == Phase::Reply {
        return ALLOWED;
    }
    for &reference in policy.references(call.subject, place) {
        let Some(rule) = policy.rule(reference).filter(|rule| matches(policy, rule, call.args)) else { continue };
        let number = u16::try_from(rule.source).unwrap_or(NONE);
        // Denying rules stand first in their cell, so the first match is a denial if there is one.
        return match rule.deny {
            0 => Verdict { reason: Reason::Allowed, rule: number, audit: rule.audit != 0 },
            _ => Verdict::refuse(Reason::DeniedByRule, number),
        };
    }
    Verdict::refuse(Reason::NoRule, NONE)
}

/// Which arguments are never recorded, bit i for argument i; all of a call that names no method.
#[must_use]
pub fn redacted(policy: &Policy<'_>, call: &Call<'_>) -> u8 {
    let method = policy.object(call.object).and_then(|object| policy.method(object, call.method));
    let Some((_, method)) = method else { return 0xff };
    let fields = policy.fields(method, call.phase == Phase::Reply);
    fields.iter().zip(0..8).fold(0, |bits, (field, bit)| bits | u8::from(field.secret != 0) << bit)
}

#[inline(always)]
fn matches(policy: &Policy<'_>, rule: &Rule, args: &[u64; MAX_ARGS]) -> bool {
    for condition in policy.conditions(rule) {
        let value = args.get(usize::from(condition.argument)).copied().unwrap_or(0);
        if is_within(value, condition.min, condition.max, condition.signed != 0) == (condition.outside != 0) {
            return false;
        }
    }
    true
}

/// Whether a value is one of its field's.
#[must_use]
#[inline(always)]
pub const fn fits(field: &Field, value: u64) -> bool {
    is_within(value, field.min, field.max, field.signed != 0)
}

#[inline(always)]
const fn is_within(value: u64, min: u64, max: u64, signed: bool) -> bool {
    // Adding 2^63 orders signed numbers as unsigned ones.
    let shift = if signed { 1 << 63 } else { 0 };
    let (value, min, max) = (value ^ shift, min ^ shift, max ^ shift);
    min <= value && value <= max
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use bulkhead_model::build::Tables;
    use bulkhead_model::{Condition, Method, Object};
    use proptest::prelude::*;
    use std::vec::Vec;

    const GUEST: u16 = 0;

    /// One object with two methods: `set(speed in 0..3000)` and `open()`. The guest may set 200..2400, but not 1000..1010.
    fn sample() -> Vec<u8> {
        let mut tables = Tables::default();
        let speed = tables.add_text("speed");
        tables.fields.push(Field { min: 0, max: 3000, name: speed, signed: 0, secret: 1 });
        let (plant, set, open, guest, app) = (
            tables.add_text("plant"),
            tables.add_text("set"),
            tables.add_text("open"),
            tables.add_text("guest"),
            tables.add_text("app"),
        );
        tables.methods.push(Method { name: set, first_field: 0, arguments: 1, replies: 0 });
        tables.methods.push(Method { name: open, first_field: 1, arguments: 0, replies: 0 });
        tables.objects.push(Object { name: plant, first_method: 0, method_count: 2, server: 1 });
        tables.subjects = std::vec![guest, app];
        let range = |min, max| Condition { min, max, argument: 0, signed: 0, outside: 0 };
        tables.conditions = std::vec![range(200, 2400), range(1000, 1010)];
        let rule = |first_condition, deny, source| Rule {
            first_condition,
            condition_count: 1,
            deny,
            audit: 1,
            source,
            ..Rule::default()
        };
        tables.rules = std::vec![rule(0, 0, 7), rule(1, 1, 9)];
        tables.fill_cells(|subject, method, _| subject == 0 && method == 0);
        tables.to_bytes()
    }

    fn ask(bytes: &[u8], subject: u16, method: u16, args: &[u64]) -> (Reason, u16) {
        let policy = Policy::verify(bytes).unwrap();
        let mut all = [0; MAX_ARGS];
        all[..args.len()].copy_from_slice(args);
        let len = u8::try_from(args.len()).unwrap();
        let call = Call { subject, object: 0, method, phase: Phase::Request, len, args: &all };
        let verdict = decide(&policy, &call);
        assert_eq!(verdict.is_allowed(), verdict.reason == Reason::Allowed);
        assert!(verdict.is_allowed() || verdict.audit, "refusals are always recorded");
        (verdict.reason, verdict.rule)
    }

    #[test]
    fn a_range_is_allowed_to_both_its_ends_and_not_beyond() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 0, &[200]), (Reason::Allowed, 7));
        assert_eq!(ask(&bytes, GUEST, 0, &[2400]), (Reason::Allowed, 7));
        assert_eq!(ask(&bytes, GUEST, 0, &[199]), (Reason::NoRule, NONE));
        assert_eq!(ask(&bytes, GUEST, 0, &[2401]), (Reason::NoRule, NONE));
    }

    #[test]
    fn a_denying_rule_wins_over_an_allowing_one() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 0, &[1000]), (Reason::DeniedByRule, 9));
        assert_eq!(ask(&bytes, GUEST, 0, &[999]), (Reason::Allowed, 7));
    }

    #[test]
    fn what_no_rule_names_is_refused() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 1, &[]), (Reason::NoRule, NONE));
        assert_eq!(ask(&bytes, 1, 0, &[300]), (Reason::NoRule, NONE), "another subject");
        assert_eq!(ask(&bytes, 2, 0, &[300]), (Reason::UnknownObject, NONE), "no such subject");
        assert_eq!(ask(&bytes, GUEST, 2, &[]), (Reason::UnknownMethod, NONE));
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_before_any_rule() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 0, &[3001]), (Reason::Malformed, NONE));
        assert_eq!(ask(&bytes, GUEST, 0, &[]), (Reason::Malformed, NONE));
        assert_eq!(ask(&bytes, GUEST, 0, &[300, 0]), (Reason::Malformed, NONE));
    }

    #[test]
    fn secret_arguments_are_named_and_unknown_methods_hide_all() {
        let bytes = sample();
        let policy = Policy::verify(&bytes).unwrap();
        let call = Call { subject: 0, object: 0, method: 0, phase: Phase::Request, len: 1, args: &[0; MAX_ARGS] };
        assert_eq!(redacted(&policy, &call), 1);
        assert_eq!(redacted(&policy, &Call { method: 1, ..call }), 0);
        assert_eq!(redacted(&policy, &Call { method: 9, ..call }), 0xff);
    }

    #[test]
    fn signed_ranges_compare_as_signed_numbers() {
        let minus = |value: i64| value.cast_unsigned();
        assert!(is_within(minus(-1), minus(-5), 5, true));
        assert!(!is_within(minus(-6), minus(-5), 5, true));
        assert!(!is_within(minus(-1), 0, 5, false));
    }

    #[test]
    fn a_table_in_which_a_denial_would_come_too_late_is_refused() {
        let mut bytes = sample();
        let references = bytes.windows(8).rposition(|window| window == [1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        bytes[references..references + 8].copy_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(Policy::verify(&bytes).map(|_| ()), Err(bulkhead_model::FormatError::Reference));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Policy::verify(&bytes[..length]).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_mutation_of_a_table_makes_the_monitor_panic(
            changes in prop::collection::vec((0_usize..1000, any::<u8>()), 1..6),
            subject in 0_u16..4, object in 0_u16..4, method in 0_u16..4, len in 0_u8..8, args in any::<[u64; MAX_ARGS]>(),
        ) {
            let mut bytes = sample();
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(policy) = Policy::verify(&bytes) {
                let _ = decide(&policy, &Call { subject, object, method, phase: Phase::Request, len, args: &args });
            }
        }
    }
}
