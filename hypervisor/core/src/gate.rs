//! The gate: every crossing is put to the monitor here, and recorded. What the policy opens for good costs one bit test
//! (the cache of verdicts); the rest is decided by the one monitor each time.

use bulkhead_abi::Message;
use bulkhead_abi::audit::Kind;
use bulkhead_model::{Cell, MAX_ARGS, NONE, Phase, Policy, Reason, Row, object, subject};
use bulkhead_monitor::{Call, Clock, Look, Verdict, decide, decide_left, look, redacted};

use crate::audit::{Key, Trail};
use crate::sysreg;

/// Objects below this number have their open methods cached.
const CACHED: usize = 32;

/// The monitor with its policy and its trail.
pub struct Gate<'a> {
    policy: Policy<'a>,
    /// What the policy remembers.
    state: &'a mut [u64],
    clock: &'a (dyn Clock + Sync),
    trail: Trail<'a>,
    /// Bit m of entry o: method m of object o is always open to the guest, unrecorded.
    open: [u64; CACHED],
    /// The guest may send software interrupts, whatever it writes.
    sends_sgi: bool,
}

impl<'a> Gate<'a> {
    /// A gate with an empty trail. `state` holds at least [`Policy::state_words`] zeros.
    #[must_use]
    pub fn new(policy: Policy<'a>, state: &'a mut [u64], clock: &'a (dyn Clock + Sync), trail: Trail<'a>) -> Self {
        let mut open = [0; CACHED];
        for (object, bits) in (0..).zip(&mut open) {
            let is_open = |&method: &u16| is_open(&policy, object, method);
            *bits = (0..64).filter(is_open).fold(0, |bits, method| bits | 1 << method);
        }
        let sends_sgi = is_write_open(&policy, sysreg::ICC_SGI1R_EL1);
        Self { policy, state, clock, trail, open, sends_sgi }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Policy<'a> {
        &self.policy
    }

    /// Whether the guest may use a method whatever the arguments are. Nothing is recorded. It is for calls that the wall itself
    /// puts together (of its own objects, and of served devices): their arguments fit by construction.
    #[must_use]
    #[inline(always)]
    pub fn is_open(&self, object: u16, method: u16) -> bool {
        self.open.get(usize::from(object)).is_some_and(|bits| bits >> (method & 63) & 1 != 0)
    }

    /// Whether the guest may send itself software interrupts. Nothing is recorded.
    #[must_use]
    #[inline(always)]
    pub const fn sends_sgi(&self) -> bool {
        self.sends_sgi
    }

    /// Whether an app serves the object.
    #[must_use]
    #[inline]
    pub fn is_served(&self, object: u16) -> bool {
        self.policy.object(object).is_some_and(|object| object.server != NONE)
    }

    /// The n-th service that the guest may call at all: object | method count << 16, and the name in three words.
    #[must_use]
    pub fn service_info(&self, n: u64) -> Option<[u64; 4]> {
        let is_callable = |&object: &u16| {
            let row = self.policy.object(object).filter(|row| row.server != NONE);
            row.is_some_and(|row| self.policy.is_callable(subject::GUEST, row))
        };
        let object = (0..NONE)
            .take_while(|&object| self.policy.object(object).is_some())
            .filter(is_callable)
            .nth(usize::try_from(n).ok()?)?;
        let row = self.policy.object(object)?;
        let mut name = [0_u8; 24];
        name.iter_mut().zip(self.policy.text(row.name).bytes()).for_each(|(slot, byte)| *slot = byte);
        let word = |at: usize| name.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        Some([u64::from(object) | u64::from(row.method_count) << 16, word(0)?, word(8)?, word(16)?])
    }

    /// Whether an answer to an allowed request fits its interface; one that does not is put on record. Where rules are about replies,
    /// or values depend on each other, the monitor is asked.
    #[inline(always)]
    pub fn judge_reply(&mut self, object: u16, method: u16, len: u8, words: &[u64; MAX_ARGS], now: u64) -> bool {
        let named = self.policy.object(object).filter(|_| !self.policy.judges_replies());
        let found = named.and_then(|object| self.policy.method(object, method));
        if let Some((_, method)) = found.filter(|(_, method)| method.flags == 0) {
            let fields = self.policy.fields(method, true);
            let mut fits = fields.len() == usize::from(len);
            for (field, &value) in fields.iter().zip(words) {
                fits &= bulkhead_monitor::fits(field, value);
            }
            if fits {
                return true;
            }
        }
        self.judge_answer(Phase::Reply, object, method, len, words, now)
    }

    /// Puts an answer to an allowed request of the guest to the monitor.
    #[inline(never)]
    pub fn judge_answer(
        &mut self,
        phase: Phase,
        object: u16,
        method: u16,
        len: u8,
        words: &[u64; MAX_ARGS],
        now: u64,
    ) -> bool {
        let call = Call { subject: subject::GUEST, object, method, phase, len, args: words };
        self.judge(&call, 0, now).is_allowed()
    }

    /// Decides and records, where the verdict says so.
    #[inline(never)]
    pub fn judge(&mut self, call: &Call<'_>, pc: u64, now: u64) -> Verdict {
        let verdict = match self.look(call) {
            Look::Allowed(rule) => return Verdict { reason: Reason::Allowed, rule, audit: false },
            Look::Decided(verdict) => verdict,
            Look::Left(cell) => self.decide_left(call, cell),
        };
        if verdict.audit { self.recorded(call, verdict, pc, now) } else { verdict }
    }

    /// The first look at a call; a verdict that says so must be [`Gate::recorded`].
    #[must_use]
    #[inline(always)]
    pub fn look(&self, call: &Call<'_>) -> Look<'a> {
        look(&self.policy, call)
    }

    /// The verdict where a first look left something.
    #[must_use]
    #[inline(never)]
    pub fn decide_left(&mut self, call: &Call<'_>, cell: Option<&Cell>) -> Verdict {
        decide_left(&self.policy, self.state, self.clock, call, cell)
    }

    /// Lets the policy remember what happens to a subject: a method of [`object::LIFE`].
    pub fn happens(&mut self, subject: u16, method: u16, now: u64) {
        if self.policy.judges_replies() {
            let (phase, args) = (Phase::Reply, &[0; MAX_ARGS]);
            self.judge(&Call { subject, object: object::LIFE, method, phase, len: 0, args }, 0, now);
        }
    }

    /// Puts a decided call on record; returns the verdict.
    #[inline(never)]
    pub fn recorded(&mut self, call: &Call<'_>, verdict: Verdict, pc: u64, now: u64) -> Verdict {
        let key = key(call, &verdict);
        if self.trail.merge(&key, now) { verdict } else { self.record_call(call, verdict, pc, now) }
    }

    #[cold]
    #[inline(never)]
    fn record_call(&mut self, call: &Call<'_>, verdict: Verdict, pc: u64, now: u64) -> Verdict {
        let key = key(call, &verdict);
        let policy = &self.policy;
        self.trail.begin(&key, now, |record| {
            record.pc = pc;
            record.len = call.len;
            record.redacted = redacted(policy, call, verdict.rule);
            for ((bit, &argument), slot) in (0..call.len).zip(call.args).zip(&mut record.args) {
                *slot = if record.redacted >> bit & 1 == 0 { argument } else { 0 };
            }
        });
        verdict
    }

    /// Puts something on record that is no call.
    #[inline(never)]
    pub fn record(&mut self, kind: Kind, subject: u16, args: [u64; 3], now: u64) {
        let (phase, reason) = (Phase::Request, Reason::Allowed);
        let key = Key { subject, object: NONE, method: 0, rule: NONE, kind, phase, reason };
        self.trail.add(&key, now, |record| {
            record.len = 3;
            record.args[..3].copy_from_slice(&args);
        });
    }
}

/// A call of the guest with a message's contents.
#[must_use]
#[inline]
pub fn guest_call(message: &Message) -> Call<'_> {
    call(subject::GUEST, Phase::Request, message)
}

/// The monitor's question about a message.
#[must_use]
#[inline]
pub fn call(subject: u16, phase: Phase, message: &Message) -> Call<'_> {
    let &Message { object, method, len, ref words } = message;
    Call { subject, object, method, phase, len, args: words }
}

/// What makes records of decided calls alike.
#[inline(always)]
fn key(call: &Call<'_>, verdict: &Verdict) -> Key {
    let &Call { subject, object, method, phase, .. } = call;
    let (rule, kind, reason) = (rule_number(verdict), Kind::Call, verdict.reason);
    Key { subject, object, method, rule, kind, phase, reason }
}

/// The deciding rule as records and callers are told it; [`NONE`] without one.
#[must_use]
#[inline]
pub fn rule_number(verdict: &Verdict) -> u16 {
    u16::try_from(verdict.rule).unwrap_or(NONE)
}

/// Whether the first row of the guest's cell (no denial comes after it) allows without a test or a record, and nothing is
/// computed or remembered. The arguments of built-in calls come from the wall's own decoder and fit by construction.
fn is_open(policy: &Policy<'_>, object: u16, method: u16) -> bool {
    let Some((place, _)) = policy.object(object).and_then(|object| policy.method(object, method)) else { return false };
    let Some(cell) = policy.cell(subject::GUEST, place) else { return false };
    let is_plain = |(row, _): (&Row, _)| row.flags == 0 && row.test_count == 0;
    cell.has_code == 0 && policy.rows_of(cell).next().is_some_and(is_plain)
}

/// Whether the guest may write a register whatever the value: some value is allowed without a record, and no rule asks for it.
fn is_write_open(policy: &Policy<'_>, encoding: u16) -> bool {
    let message = sysreg::message(encoding, false, 0);
    let method = policy.object(message.object).and_then(|object| policy.method(object, message.method));
    let cell = method.and_then(|(place, _)| policy.cell(subject::GUEST, place));
    let Some(cell) = cell.filter(|cell| cell.has_code == 0) else { return false };
    let asks_for_value = policy.rows_of(cell).any(|(_, tests)| tests.iter().any(|test| test.argument != 0));
    let verdict = decide(policy, &mut [], &bulkhead_monitor::NoClock, &guest_call(&message));
    verdict.is_allowed() && !verdict.audit && !asks_for_value
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use bulkhead_abi::audit::{RING_RECORDS, Record, RingHeader};
    use bulkhead_model::method;
    use zerocopy::FromZeros;

    /// The policy of the text, and what the gate does with it.
    fn with_gate(rules: &str, act: impl FnOnce(&mut Gate<'_>)) -> (RingHeader, std::vec::Vec<Record>) {
        let text = std::format!(
            "edition 1\npolicy t\ninterface P {{ method m(a: u8, secret b: u8) -> () }}\napp x\nservice s: P by x\n{rules}\n"
        );
        let mut load = |_: &str| Ok(text.clone());
        let compiled = bulkhead_lang::compile(&mut load, "site.policy").expect("the policy compiles");
        let policy = Policy::verify(&compiled.table).expect("the table verifies");
        let mut header = RingHeader::new_zeroed();
        let mut records = std::vec![Record::default(); RING_RECORDS];
        let (mut state, clock) = (std::vec![0; policy.state_words()], bulkhead_monitor::NoClock);
        act(&mut Gate::new(policy, &mut state, &clock, Trail::new(&mut header, &mut records, 1000)));
        (header, records)
    }

    /// The first object after the wall's own.
    const SERVICE: u16 = object::POWER + 1;
    const CALL: Message = Message { object: SERVICE, method: 0, len: 2, words: [7, 9, 0, 0, 0, 0] };

    #[test]
    fn what_is_open_for_good_needs_no_record_and_what_has_a_condition_is_never_open() {
        with_gate("allow guest psci.version, psci.off audit\nallow guest psci.features", |gate| {
            assert!(gate.is_open(object::PSCI, method::psci::FEATURES));
            assert!(!gate.is_open(object::PSCI, method::psci::VERSION), "audited");
            assert!(!gate.is_open(object::PSCI, method::psci::RESET), "no rule");
        });
        with_gate("allow guest s.m when a == 1\nallow guest psci.version\ndeny guest psci.version", |gate| {
            assert!(!gate.is_open(object::PSCI, method::psci::VERSION), "denied");
        });
    }

    #[test]
    fn software_interrupts_are_open_only_if_no_rule_asks_for_the_value() {
        with_gate("allow guest sysreg.write when encoding in software_interrupts", |gate| assert!(gate.sends_sgi()));
        with_gate("allow guest sysreg.write when encoding in software_interrupts and value == 0", |gate| {
            assert!(!gate.sends_sgi());
        });
        with_gate("allow guest sysreg.write when encoding == 1", |gate| assert!(!gate.sends_sgi()));
        with_gate(
            "// accept L007: a test\nallow guest sysreg.write\ndeny guest sysreg.write when value == 5",
            |gate| assert!(!gate.sends_sgi()),
        );
    }

    #[test]
    fn a_refusal_is_recorded_without_its_secrets_and_an_allowed_call_is_not() {
        let (header, records) = with_gate("allow guest s.m when a == 1", |gate| {
            assert!(!gate.judge(&guest_call(&CALL), 0x1000, 5).is_allowed());
            assert!(gate.judge(&guest_call(&Message { words: [1, 9, 0, 0, 0, 0], ..CALL }), 0x1000, 6).is_allowed());
        });
        assert_eq!((header.next_seq, header.events), (1, 1));
        assert_eq!((records[0].pc, records[0].len, records[0].redacted), (0x1000, 2, 2));
        assert_eq!(records[0].args, [7, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_the_policy_remembers_lives_as_long_as_the_gate_and_hears_of_the_guests_start() {
        let rules = "counter calls in 0..2\nallow guest s.m then count calls\non guest start then reset calls";
        with_gate(rules, |gate| {
            let ask = |gate: &mut Gate<'_>| gate.judge(&guest_call(&CALL), 0, 5).is_allowed();
            assert_eq!([ask(gate), ask(gate), ask(gate)], [true, true, false]);
            gate.happens(subject::GUEST, method::GUEST_START, 6);
            assert_eq!([ask(gate), ask(gate), ask(gate)], [true, true, false]);
        });
    }

    #[test]
    fn an_answer_that_holds_more_than_its_length_says_is_none_and_is_put_on_record() {
        let rules = "interface Q { method n() -> (t: text max 8) }\napp y\nservice t: Q by y\nallow guest t.n";
        let (header, _) = with_gate(rules, |gate| {
            let mut fits =
                |object, len, words: [u64; 2]| gate.judge_reply(object, 0, len, &[words[0], words[1], 0, 0, 0, 0], 5);
            assert!(fits(SERVICE + 1, 2, [3, 0x6162_6300_0000_0000]));
            assert!(!fits(SERVICE + 1, 2, [3, 0x6162_6364_0000_0000]), "a fourth byte");
            assert!(!fits(SERVICE + 1, 2, [9, 0]), "too long");
            assert!(!fits(SERVICE + 1, 1, [3, 0]), "a word too few");
            assert!(fits(SERVICE, 0, [0, 0]));
            assert!(!fits(SERVICE, 1, [0, 0]), "a word too many");
        });
        assert_eq!(header.events, 4);
    }

    #[test]
    fn a_first_look_allows_only_what_needs_neither_record_nor_state() {
        let rules = "counter calls in 0..2\nallow guest s.m when a == 1\nallow guest s.m when a == 2 audit\n\
            allow guest psci.version then count calls";
        with_gate(rules, |gate| {
            let look = |message: &Message| gate.look(&guest_call(message));
            let with = |a| Message { words: [a, 9, 0, 0, 0, 0], ..CALL };
            assert!(matches!(look(&with(1)), Look::Allowed(_)));
            assert!(matches!(look(&with(2)), Look::Decided(Verdict { reason: Reason::Allowed, audit: true, .. })));
            assert!(matches!(look(&with(3)), Look::Decided(Verdict { reason: Reason::NoRule, audit: true, .. })));
            assert!(matches!(look(&Message { len: 1, ..CALL }), Look::Decided(Verdict { audit: true, .. })));
            let version = Message { object: object::PSCI, method: method::psci::VERSION, ..Message::default() };
            assert!(matches!(look(&version), Look::Left(_)));
            let reply = call(subject::GUEST, Phase::Reply, &CALL);
            assert!(matches!(gate.look(&reply), Look::Left(_)));
        });
    }

    #[test]
    fn an_audited_rule_records_what_it_allows() {
        let (header, records) = with_gate("allow guest s.m audit", |gate| {
            assert!(gate.judge(&guest_call(&CALL), 0, 5).is_allowed());
        });
        assert_eq!((header.next_seq, records[0].allowed), (1, 1));
    }

    #[test]
    fn the_guest_cannot_ask_a_services_question_and_what_it_tries_changes_nothing() {
        let rules = "interface Q {\n question q(a: u8)\n method n() -> ()\n}\napp y\nservice t: Q by y\ncounter asked in 0..1\n\
            allow guest t.q when a == 7 then count asked";
        let (header, _) = with_gate(rules, |gate| {
            let message = Message { object: SERVICE + 1, method: 0, len: 1, words: [7, 0, 0, 0, 0, 0] };
            let judge = |gate: &mut Gate<'_>, phase| gate.judge(&call(subject::GUEST, phase, &message), 0, 5).reason;
            assert_eq!(judge(gate, Phase::Request), Reason::UnknownMethod);
            assert_eq!(judge(gate, Phase::Question), Reason::Allowed, "the attempt did not count");
            assert_eq!(judge(gate, Phase::Question), Reason::Failed, "the counter is full");
            assert!(!gate.policy().is_callable(subject::GUEST, gate.policy().object(SERVICE + 1).unwrap()));
        });
        assert_eq!(header.events, 2, "both refusals");
    }

    #[test]
    fn a_profile_thins_out_denials_and_leaves_arguments_out() {
        let rules = "counter level in 0..3\nprofile p { record denied when level >= 2; record only b }\n\
            allow guest s.m audit by p\ndeny guest s.m when a == 7 audit by p";
        let (header, records) = with_gate(rules, |gate| {
            assert_eq!(gate.judge(&guest_call(&CALL), 0, 5).reason, Reason::DeniedByRule);
            assert!(gate.judge(&guest_call(&Message { words: [1, 9, 0, 0, 0, 0], ..CALL }), 0, 6).is_allowed());
            assert!(!gate.judge(&guest_call(&Message { len: 1, ..CALL }), 0, 7).is_allowed());
        });
        assert_eq!(header.events, 2, "not the denial");
        assert_eq!((records[0].allowed, records[0].redacted, records[0].args), (1, 3, [0; 6]), "b is secret");
        assert_eq!((records[1].reason, records[1].args[0]), (Reason::Malformed as u8, 7), "no profile has a say");
    }

    #[test]
    fn only_services_that_the_guest_may_call_are_described() {
        with_gate("allow guest s.m", |gate| {
            let info = gate.service_info(0).expect("one service");
            assert_eq!((info[0], info[1]), (u64::from(SERVICE) | 1 << 16, u64::from(b's')));
            assert_eq!(gate.service_info(1), None);
            assert!(gate.is_served(SERVICE) && !gate.is_served(object::PSCI) && !gate.is_served(99));
        });
        with_gate("deny guest s.m", |gate| assert_eq!(gate.service_info(0), None));
    }
}
