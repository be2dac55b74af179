//! The monitor: it decides on calls by a compiled policy. Default deny; a denying rule wins over every allowing one; an
//! expression that fails refuses; order never matters. A refused call changes no state but what a denying rule counts. Its
//! neighbours are `policy/model` (the table) and whoever enforces the verdict. The meaning: docs/policy-semantics.md.
#![no_std]
#![forbid(unsafe_code)]

mod machine;
mod state;

use bulkhead_model::{Cell, Field, MAX_ARGS, Method, NO_RULE, Phase, Policy, Reason, Row, Test};

use machine::{Held, Machine};
use state::{Changes, View};

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

/// The times that conditions may ask for.
pub trait Clock {
    /// Microseconds that never go back; `None` without such a clock.
    fn microseconds(&self) -> Option<u64> {
        None
    }
    /// Seconds since 1970 began in the site's time zone; `None` if it is not known.
    fn local_seconds(&self) -> Option<u64> {
        None
    }
}

/// No clock: what asks for a time is refused.
#[derive(Clone, Copy, Debug)]
pub struct NoClock;

impl Clock for NoClock {}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allow or refuse, and why.
    pub reason: Reason,
    /// The rule that decided, as users number them; [`NO_RULE`] without one. Of several, the first in the text.
    pub rule: u32,
    /// Whether a record is made: of every refusal but a rule's whose profile says otherwise.
    pub audit: bool,
}

impl Verdict {
    /// Whether the call may go on.
    #[must_use]
    #[inline]
    pub const fn is_allowed(&self) -> bool {
        matches!(self.reason, Reason::Allowed)
    }

    const fn refuse(reason: Reason, rule: u32) -> Self {
        Self { reason, rule, audit: true }
    }
}

/// Decides, and changes the state as the rules that decide say. A message that does not fit its interface is refused before
/// any rule is looked at; a reply or an error belongs to a request that was allowed, and is allowed unless a rule refuses it.
/// `state` holds [`Policy::state_words`] words, all zero at the start.
#[must_use]
#[inline(always)]
pub fn decide(policy: &Policy<'_>, state: &mut [u64], clock: &dyn Clock, call: &Call<'_>) -> Verdict {
    match look(policy, call) {
        Look::Allowed(rule) => Verdict { reason: Reason::Allowed, rule, audit: false },
        Look::Decided(verdict) => verdict,
        Look::Left(cell) => decide_left(policy, state, clock, call, cell),
    }
}

/// What a first look at a call says.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// This rule allows it, and no record is made.
    Allowed(u32),
    /// Any other verdict.
    Decided(Verdict),
    /// State or clock may matter: [`decide_left`]. A request that was found in order has the cell of its rules, which have instructions.
    Left(Option<&'a Cell>),
}

/// As [`decide`], after a first look that left this to be done.
#[must_use]
#[inline(always)]
pub fn decide_left(
    policy: &Policy<'_>,
    state: &mut [u64],
    clock: &dyn Clock,
    call: &Call<'_>,
    cell: Option<&Cell>,
) -> Verdict {
    match cell {
        Some(cell) => weigh(policy, state, clock, call, cell, UNNAMED),
        None => decide_slowly(policy, state, clock, call),
    }
}

/// No rule names the request.
const UNNAMED: Verdict = Verdict::refuse(Reason::NoRule, NO_RULE);

/// As [`decide`], as far as neither state nor clock matters: a request whose values do not depend on each other, and whose rules
/// neither compute nor remember.
#[must_use]
#[inline(always)]
pub fn look<'a>(policy: &Policy<'a>, call: &Call<'_>) -> Look<'a> {
    if call.phase != Phase::Request {
        return Look::Left(None);
    }
    let (place, method) = match named(policy, call) {
        Ok(found) => found,
        Err(verdict) => return Look::Decided(verdict),
    };
    if method.flags != 0 {
        return Look::Left(None);
    }
    if !fit(policy.fields(method, false), call) {
        return Look::Decided(Verdict::refuse(Reason::Malformed, NO_RULE));
    }
    let Some(cell) = policy.cell(call.subject, place) else { return Look::Decided(UNNAMED) };
    if cell.has_code != 0 {
        return Look::Left(Some(cell));
    }
    for &reference in policy.candidates(cell, call.args) {
        let Some((row, _)) = policy.row(reference).filter(|(_, tests)| pass(policy, tests, call.args)) else {
            continue;
        };
        // Denying rows stand first in their cell, so the first match is a denial if there is one.
        if row.flags & (Row::DENY | Row::AUDIT) == 0 {
            return Look::Allowed(row.source);
        }
        let reason = if row.is_deny() { Reason::DeniedByRule } else { Reason::Allowed };
        return Look::Decided(Verdict { reason, rule: row.source, audit: row.flags & Row::AUDIT != 0 });
    }
    Look::Decided(UNNAMED)
}

/// As [`decide`], for a reply or an error, where what no rule refuses is allowed; for questions; and for messages whose values
/// depend on each other.
#[inline(never)]
fn decide_slowly(policy: &Policy<'_>, state: &mut [u64], clock: &dyn Clock, call: &Call<'_>) -> Verdict {
    let (place, method) = match named(policy, call) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    if (method.flags & Method::QUESTION != 0) != (call.phase == Phase::Question) {
        return Verdict::refuse(Reason::UnknownMethod, NO_RULE);
    }
    let fields = policy.fields(method, call.phase == Phase::Reply);
    let fits = if method.flags & Method::GUARDS == 0 { fit(fields, call) } else { hold_together(fields, call) };
    if call.phase != Phase::Error && !fits {
        return Verdict::refuse(Reason::Malformed, NO_RULE);
    }
    let unnamed = match call.phase {
        Phase::Request | Phase::Question => UNNAMED,
        Phase::Reply | Phase::Error => Verdict { reason: Reason::Allowed, rule: NO_RULE, audit: false },
    };
    let cell = policy.answer_cell(call.subject, place, call.phase);
    cell.map_or(unnamed, |cell| weigh(policy, state, clock, call, cell, unnamed))
}

/// The method that a call names, with its place among all methods.
#[inline(always)]
fn named<'a>(policy: &Policy<'a>, call: &Call<'_>) -> Result<(usize, &'a Method), Verdict> {
    let unknown = Verdict::refuse(Reason::UnknownObject, NO_RULE);
    if usize::from(call.subject) >= policy.subject_count() {
        return Err(unknown);
    }
    let object = policy.object(call.object).filter(|object| object.name.bytes != 0).ok_or(unknown)?;
    policy.method(object, call.method).ok_or(Verdict::refuse(Reason::UnknownMethod, NO_RULE))
}

/// Whether a message has as many values as its interface says, each in its range.
#[inline(always)]
fn fit(fields: &[Field], call: &Call<'_>) -> bool {
    fields.len() == usize::from(call.len) && fields.iter().zip(call.args).all(|(field, &value)| fits(field, value))
}

/// As [`fit`], where values depend on others: what is not there is zero.
fn hold_together(fields: &[Field], call: &Call<'_>) -> bool {
    let holds = |(field, &value): (&Field, &u64)| {
        let guard = call.args.get(usize::from(field.guard)).copied().unwrap_or(0);
        let beyond = guard.saturating_sub(field.above.into());
        match field.presence {
            Field::BYTES => beyond >= 8 || value << (beyond * 8) == 0,
            Field::ABOVE if beyond == 0 => value == 0,
            _ => fits(field, value),
        }
    };
    fields.len() == usize::from(call.len) && fields.iter().zip(call.args).all(holds)
}

/// As [`decide`], where rules have instructions: all that match are looked at, as any of them may fail.
#[inline(never)]
fn weigh(
    policy: &Policy<'_>,
    state: &mut [u64],
    clock: &dyn Clock,
    call: &Call<'_>,
    cell: &Cell,
    unnamed: Verdict,
) -> Verdict {
    let (mut allowed, mut denied, mut too_often) = (None, None, None);
    let view = View { policy, words: state, clock, now: clock.microseconds() };
    let mut machine = Machine::new(view, call);
    let (mut changes, mut gathered, mut broken) = (Changes::new(), Row::PLAIN, None);
    for &reference in policy.candidates(cell, call.args) {
        let Some((row, _)) = policy.row(reference).filter(|(_, tests)| pass(policy, tests, call.args)) else {
            continue;
        };
        // Denying rows stand first: once one holds, only they change something. Several rows of one rule, which stand
        // together, may match: its effects are one.
        let changes_some = row.flags & Row::EFFECTS != 0 && row.code != gathered && (row.is_deny() || denied.is_none());
        let gather = changes_some.then_some(&mut changes);
        let held = if row.code == Row::PLAIN { Some(Held::Yes(false)) } else { machine.run(row.code, gather) };
        match held {
            None if machine.holds => broken = broken.or(Some(row.source)),
            None => return Verdict::refuse(Reason::Failed, row.source),
            Some(Held::No) => {}
            Some(Held::TooOften) => too_often = too_often.or(Some(row.source)),
            Some(Held::Yes(is_quiet)) => {
                let decider = if row.is_deny() { &mut denied } else { &mut allowed };
                let (_, audit) = decider.get_or_insert((row.source, false));
                *audit |= !is_quiet && row.flags & Row::AUDIT != 0;
                if changes_some {
                    gathered = row.code;
                }
            }
        }
    }
    if let Some(rule) = broken {
        return Verdict::refuse(Reason::Failed, rule);
    }
    changes.make(state);
    match (denied, allowed, too_often) {
        (Some((rule, audit)), ..) => Verdict { reason: Reason::DeniedByRule, rule, audit },
        (None, Some((rule, audit)), _) => Verdict { reason: Reason::Allowed, rule, audit },
        (None, None, Some(rule)) if unnamed.reason != Reason::Allowed => Verdict::refuse(Reason::Rate, rule),
        (None, None, _) => unnamed,
    }
}

/// Which arguments are not recorded, bit i for argument i: secrets, and what the deciding rule leaves out; all of a call that names
/// no method.
#[must_use]
pub fn redacted(policy: &Policy<'_>, call: &Call<'_>, rule: u32) -> u8 {
    let method = policy.object(call.object).and_then(|object| policy.method(object, call.method));
    let Some((place, method)) = method else { return 0xff };
    let cell = policy.answer_cell(call.subject, place, call.phase);
    let rows = cell.into_iter().flat_map(|cell| policy.candidates(cell, call.args));
    let row = rows.filter_map(|&place| policy.row(place)).find(|(row, _)| row.source == rule);
    let left_out = row.map_or(0, |(row, _)| (row.flags >> Row::LEFT_OUT).to_le_bytes()[0]);
    let fields = policy.fields(method, call.phase == Phase::Reply);
    // An error's number is no value of the request's.
    let is_secret = |field: &Field| field.secret != 0 && call.phase != Phase::Error;
    fields.iter().zip(0..8).fold(left_out, |bits, (field, bit)| bits | u8::from(is_secret(field)) << bit)
}

/// Whether all tests of a row hold.
#[inline(always)]
fn pass(policy: &Policy<'_>, tests: &[Test], args: &[u64; MAX_ARGS]) -> bool {
    tests.iter().all(|test| {
        let value = args.get(usize::from(test.argument)).copied().unwrap_or(0);
        let (low, span) = policy.range(test);
        value.wrapping_sub(low) <= span
    })
}

/// Whether a value is one of its field's.
#[must_use]
#[inline(always)]
pub const fn fits(field: &Field, value: u64) -> bool {
    // Modulo 2^64, signed ranges are ranges like all others.
    value.wrapping_sub(field.min) <= field.max.wrapping_sub(field.min)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use bulkhead_model::build::{Aligned, Tables};
    use bulkhead_model::code::{Instruction, Operation};
    use bulkhead_model::{Method, Object, State};
    use proptest::prelude::*;

    const GUEST: u16 = 0;

    /// One object with two methods: `set(speed in 0..3000)` and `open()`. The guest may set 200..2400, but not 1000..1010.
    fn sample() -> Aligned {
        let mut tables = Tables::default();
        let speed = tables.add_text("speed");
        tables.fields.push(Field { min: 0, max: 3000, name: speed, secret: 1, ..Field::default() });
        let (plant, set, open, guest, app) = (
            tables.add_text("plant"),
            tables.add_text("set"),
            tables.add_text("open"),
            tables.add_text("guest"),
            tables.add_text("app"),
        );
        tables.methods.push(Method { name: set, first_field: 0, arguments: 1, ..Method::default() });
        tables.methods.push(Method { name: open, first_field: 1, ..Method::default() });
        tables.objects.push(Object { name: plant, first_method: 0, method_count: 2, server: 1 });
        tables.subjects = std::vec![guest, app];
        let row = |flags, source| Row { source, code: Row::PLAIN, test_count: 0, flags };
        let deny = tables.add_row(row(Row::DENY | Row::AUDIT, 9), &[(0, 1000, 1010)]);
        let allow = tables.add_row(row(Row::AUDIT, 7), &[(0, 200, 2400)]);
        tables.references = std::vec![deny, allow];
        let nothing = Cell { index: Cell::PLAIN, ..Cell::default() };
        tables.cells = std::vec![Cell { reference_count: 2, ..nothing }, nothing, nothing, nothing];
        Aligned::new(&tables.to_bytes())
    }

    fn ask(bytes: &[u8], subject: u16, method: u16, args: &[u64]) -> (Reason, u32) {
        let policy = Policy::verify(bytes).unwrap();
        let mut all = [0; MAX_ARGS];
        all[..args.len()].copy_from_slice(args);
        let len = u8::try_from(args.len()).unwrap();
        let call = Call { subject, object: 0, method, phase: Phase::Request, len, args: &all };
        let verdict = decide(&policy, &mut [], &NoClock, &call);
        assert_eq!(verdict.is_allowed(), verdict.reason == Reason::Allowed);
        assert!(verdict.is_allowed() || verdict.audit, "refusals are always recorded");
        (verdict.reason, verdict.rule)
    }

    #[test]
    fn a_range_is_allowed_to_both_its_ends_and_not_beyond() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 0, &[200]), (Reason::Allowed, 7));
        assert_eq!(ask(&bytes, GUEST, 0, &[2400]), (Reason::Allowed, 7));
        assert_eq!(ask(&bytes, GUEST, 0, &[199]), (Reason::NoRule, NO_RULE));
        assert_eq!(ask(&bytes, GUEST, 0, &[2401]), (Reason::NoRule, NO_RULE));
    }

    #[test]
    fn a_denying_rule_wins_over_an_allowing_one() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 0, &[1000]), (Reason::DeniedByRule, 9));
        assert_eq!(ask(&bytes, GUEST, 0, &[999]), (Reason::Allowed, 7));
    }

    #[test]
    fn a_row_says_whether_what_it_decides_is_recorded() {
        for (flags, expected) in [(0, (true, false)), (Row::AUDIT, (true, true)), (Row::DENY, (false, false))] {
            let mut tables = Tables::default();
            let name = tables.add_text("x");
            tables.methods.push(Method { name, ..Method::default() });
            tables.objects.push(Object { name, first_method: 0, method_count: 1, server: 1 });
            tables.subjects = std::vec![name];
            let row = tables.add_row(Row { source: 3, code: Row::PLAIN, test_count: 0, flags }, &[]);
            tables.references = std::vec![row];
            // The same without and with others that have instructions.
            for has_code in [0, 1] {
                tables.cells = std::vec![Cell { index: Cell::PLAIN, reference_count: 1, has_code, ..Cell::default() }];
                let bytes = Aligned::new(&tables.to_bytes());
                let policy = Policy::verify(&bytes).unwrap();
                let call =
                    Call { subject: GUEST, object: 0, method: 0, phase: Phase::Request, len: 0, args: &[0; MAX_ARGS] };
                let verdict = decide(&policy, &mut [], &NoClock, &call);
                assert_eq!((verdict.is_allowed(), verdict.audit), expected);
            }
        }
    }

    #[test]
    fn a_rate_refuses_requests_and_never_replies() {
        let mut tables = Tables::default();
        (tables.phases, tables.state_words) = (3, 2);
        let name = tables.add_text("x");
        tables.methods.push(Method { name, ..Method::default() });
        tables.objects.push(Object { name, first_method: 0, method_count: 1, server: 1 });
        tables.subjects = std::vec![name];
        let (kind, high) = (bulkhead_model::kind::RATE, i64::MAX);
        tables.states.push(State { key_count: [1; 2], stride: 2, low: 1, high, kind, ..State::default() });
        tables.code = std::vec![Instruction::new(Operation::Admits, 0, 0).0, Instruction::new(Operation::End, 0, 0).0];
        let row = tables.add_row(Row { source: 3, code: 0, test_count: 0, flags: 0 }, &[]);
        tables.references = std::vec![row];
        tables.cells = std::vec![Cell { index: Cell::PLAIN, reference_count: 1, has_code: 1, ..Cell::default() }; 3];
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::verify(&bytes).unwrap();
        let ask = |phase, words: &mut [u64]| {
            let call = Call { subject: GUEST, object: 0, method: 0, phase, len: 0, args: &[0; MAX_ARGS] };
            let verdict = decide(&policy, words, &Zero, &call);
            (verdict.reason, verdict.rule)
        };
        assert_eq!(ask(Phase::Request, &mut [0, 0]), (Reason::Allowed, 3));
        assert_eq!(ask(Phase::Request, &mut [0, 1]), (Reason::Rate, 3));
        assert_eq!(ask(Phase::Reply, &mut [0, 1]), (Reason::Allowed, NO_RULE));
        assert_eq!(ask(Phase::Error, &mut [0, 0]), (Reason::Allowed, 3));
    }

    struct Zero;

    impl Clock for Zero {
        fn microseconds(&self) -> Option<u64> {
            Some(0)
        }
    }

    #[test]
    fn what_no_rule_names_is_refused() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 1, &[]), (Reason::NoRule, NO_RULE));
        assert_eq!(ask(&bytes, 1, 0, &[300]), (Reason::NoRule, NO_RULE), "another subject");
        assert_eq!(ask(&bytes, 2, 0, &[300]), (Reason::UnknownObject, NO_RULE), "no such subject");
        assert_eq!(ask(&bytes, GUEST, 2, &[]), (Reason::UnknownMethod, NO_RULE));
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_before_any_rule() {
        let bytes = sample();
        assert_eq!(ask(&bytes, GUEST, 0, &[3001]), (Reason::Malformed, NO_RULE));
        assert_eq!(ask(&bytes, GUEST, 0, &[]), (Reason::Malformed, NO_RULE));
        assert_eq!(ask(&bytes, GUEST, 0, &[300, 0]), (Reason::Malformed, NO_RULE));
    }

    #[test]
    fn a_question_is_asked_and_never_called_and_a_call_is_never_asked() {
        let mut tables = Tables::default();
        let (name, guest) = (tables.add_text("q"), tables.add_text("guest"));
        tables.methods.push(Method { name, flags: Method::QUESTION, ..Method::default() });
        tables.methods.push(Method { name, ..Method::default() });
        tables.objects.push(Object { name, first_method: 0, method_count: 2, server: 1 });
        tables.subjects = std::vec![guest];
        let row = tables.add_row(Row { source: 3, code: Row::PLAIN, test_count: 0, flags: 0 }, &[]);
        tables.references = std::vec![row];
        tables.cells = std::vec![Cell { index: Cell::PLAIN, reference_count: 1, ..Cell::default() }; 2];
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::verify(&bytes).unwrap();
        let ask = |method, phase| {
            let call = Call { subject: GUEST, object: 0, method, phase, len: 0, args: &[0; MAX_ARGS] };
            decide(&policy, &mut [], &NoClock, &call).reason
        };
        assert_eq!([ask(0, Phase::Question), ask(1, Phase::Request)], [Reason::Allowed; 2]);
        for (method, phase) in [(0, Phase::Request), (0, Phase::Reply), (0, Phase::Error), (1, Phase::Question)] {
            assert_eq!(ask(method, phase), Reason::UnknownMethod);
        }
    }

    #[test]
    fn secret_arguments_are_named_and_unknown_methods_hide_all() {
        let bytes = sample();
        let policy = Policy::verify(&bytes).unwrap();
        let call = Call { subject: 0, object: 0, method: 0, phase: Phase::Request, len: 1, args: &[0; MAX_ARGS] };
        assert_eq!(redacted(&policy, &call, NO_RULE), 1);
        assert_eq!(redacted(&policy, &Call { phase: Phase::Error, ..call }, NO_RULE), 0, "an error's number is shown");
        assert_eq!(redacted(&policy, &Call { method: 1, ..call }, NO_RULE), 0);
        assert_eq!(redacted(&policy, &Call { method: 9, ..call }, NO_RULE), 0xff);
    }

    #[test]
    fn a_number_that_is_not_in_use_names_no_object_and_secrets_are_named_by_their_place() {
        let mut tables = Tables::default();
        let name = tables.add_text("x");
        tables.fields = [0, 0, 1, 0, 1].map(|secret| Field { max: 9, name, secret, ..Field::default() }).to_vec();
        tables.methods.push(Method { name, first_field: 0, arguments: 3, replies: 2, ..Method::default() });
        let object = Object { name, first_method: 0, method_count: 1, server: 0 };
        tables.objects = std::vec![object, Object { name: bulkhead_model::Text::default(), ..object }];
        tables.subjects = std::vec![name];
        tables.cells = std::vec![Cell { index: Cell::PLAIN, ..Cell::default() }];
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::verify(&bytes).unwrap();
        let call = Call { subject: 0, object: 0, method: 0, phase: Phase::Request, len: 3, args: &[0; MAX_ARGS] };
        assert_eq!(decide(&policy, &mut [], &NoClock, &call).reason, Reason::NoRule);
        assert_eq!(decide(&policy, &mut [], &NoClock, &Call { object: 1, ..call }).reason, Reason::UnknownObject);
        assert_eq!(redacted(&policy, &call, NO_RULE), 0b100);
        assert_eq!(redacted(&policy, &Call { phase: Phase::Reply, ..call }, NO_RULE), 0b10);
    }

    #[test]
    fn without_a_clock_no_time_is_known() {
        assert_eq!((NoClock.microseconds(), NoClock.local_seconds()), (None, None));
    }

    #[test]
    fn signed_ranges_compare_as_signed_numbers() {
        let minus = |value: i64| value.cast_unsigned();
        let field = |min, max| Field { min, max, ..Field::default() };
        assert!(fits(&field(minus(-5), 5), minus(-1)));
        assert!(!fits(&field(minus(-5), 5), minus(-6)));
        assert!(!fits(&field(0, 5), minus(-1)));
        assert!(fits(&field(0, u64::MAX), minus(-1)));
        assert!(fits(&field(minus(i64::MIN), minus(i64::MAX)), minus(i64::MIN)));
    }

    #[test]
    fn what_a_message_lacks_is_zero_and_what_it_has_is_in_its_range() {
        let length = Field { max: 2, ..Field::default() };
        let element = |above| Field { min: 5, max: 9, presence: Field::ABOVE, above, ..Field::default() };
        let list = [length, element(0), element(1)];
        let fit = |fields: &[Field], values: [u64; 3]| {
            let args = &[values[0], values[1], values[2], 0, 0, 0];
            let len = u8::try_from(fields.len()).unwrap();
            hold_together(fields, &Call { subject: 0, object: 0, method: 0, phase: Phase::Request, len, args })
        };
        assert!(fit(&list, [2, 5, 9]) && fit(&list, [1, 9, 0]) && fit(&list, [0, 0, 0]));
        assert!(!fit(&list, [2, 5, 0]) && !fit(&list, [1, 9, 5]) && !fit(&list, [1, 4, 0]));
        let bytes = |above| Field { max: u64::MAX, presence: Field::BYTES, above, ..Field::default() };
        let text = [Field { max: 16, ..Field::default() }, bytes(0), bytes(8)];
        let abc = u64::from_be_bytes(*b"abc\0\0\0\0\0");
        assert!(fit(&text, [3, abc, 0]) && fit(&text, [8, abc, 0]) && fit(&text, [9, abc, 0xff << 56]));
        assert!(!fit(&text, [2, abc, 0]) && !fit(&text, [8, abc, 1 << 63]) && !fit(&text, [9, abc, 1 << 55]));
    }

    #[test]
    fn a_table_in_which_a_denial_would_come_too_late_is_refused() {
        let mut bytes = sample();
        let references = bytes.windows(8).rposition(|window| window == [0, 0, 0, 0, 6, 0, 0, 0]).unwrap();
        bytes[references..references + 8].copy_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0]);
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
                let _ = decide(&policy, &mut [], &NoClock, &Call { subject, object, method, phase: Phase::Request, len, args: &args });
            }
        }
    }
}
