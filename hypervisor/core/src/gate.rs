//! The gate: every crossing is put to the monitor here, and recorded. What the policy opens for good costs one bit test
//! (the cache of verdicts); the rest is decided by the one monitor each time.

use bulkhead_abi::Message;
use bulkhead_abi::audit::Kind;
use bulkhead_model::{NONE, Phase, Policy, Reason, subject};
use bulkhead_monitor::{Call, Verdict, decide, redacted};

use crate::audit::{Key, Trail};

/// Objects below this number have their open methods cached.
const CACHED: usize = 4;

/// The monitor with its policy and its trail.
#[derive(Debug)]
pub struct Gate<'a> {
    policy: Policy<'a>,
    trail: Trail<'a>,
    /// Bit m of entry o: method m of the built-in object o is always open to the guest, unrecorded.
    open: [u64; CACHED],
}

impl<'a> Gate<'a> {
    /// A gate with an empty trail.
    #[must_use]
    pub fn new(policy: Policy<'a>, trail: Trail<'a>) -> Self {
        let mut open = [0; CACHED];
        for (object, bits) in (0..).zip(&mut open) {
            let is_open = |&method: &u16| is_open(&policy, object, method);
            *bits = (0..64).filter(is_open).fold(0, |bits, method| bits | 1 << method);
        }
        Self { policy, trail, open }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Policy<'a> {
        &self.policy
    }

    /// Whether the guest may use a method of a built-in object whatever the arguments are. Nothing is recorded.
    #[must_use]
    #[inline(always)]
    pub fn is_open(&self, object: u16, method: u16) -> bool {
        self.open.get(usize::from(object)).is_some_and(|bits| bits >> (method & 63) & 1 != 0)
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
            self.is_served(object)
                && self.policy.object(object).is_some_and(|row| {
                    (0..row.method_count).any(|method| {
                        self.policy.method(row, method).is_some_and(|(place, _)| {
                            let mut rules = self.policy.references(subject::GUEST, place).iter();
                            rules.any(|&rule| self.policy.rule(rule).is_some_and(|rule| rule.deny == 0))
                        })
                    })
                })
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

    /// Decides and records: refusals always, allowed calls where the rule says so.
    #[inline(never)]
    pub fn judge(&mut self, call: &Call<'_>, pc: u64, now: u64) -> Verdict {
        let verdict = decide(&self.policy, call);
        if verdict.audit {
            self.record_call(call, verdict, pc, now);
        }
        verdict
    }

    fn record_call(&mut self, call: &Call<'_>, verdict: Verdict, pc: u64, now: u64) {
        let &Call { subject, object, method, phase, .. } = call;
        let key = Key { subject, object, method, rule: verdict.rule, kind: Kind::Call, phase, reason: verdict.reason };
        let policy = &self.policy;
        self.trail.add(&key, now, |record| {
            record.pc = pc;
            record.len = call.len;
            record.redacted = redacted(policy, call);
            for ((bit, &argument), slot) in (0..call.len).zip(call.args).zip(&mut record.args) {
                *slot = if record.redacted >> bit & 1 == 0 { argument } else { 0 };
            }
        });
    }

    /// Puts something on record that is no call.
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

/// Whether the first rule of the guest's cell (no denial comes after it) allows without a test or a record. The arguments of
/// built-in calls come from the wall's own decoder and fit by construction.
fn is_open(policy: &Policy<'_>, object: u16, method: u16) -> bool {
    let Some((place, _)) = policy.object(object).and_then(|object| policy.method(object, method)) else { return false };
    let first = policy.references(subject::GUEST, place).first().and_then(|&first| policy.rule(first));
    let Some(first) = first else { return false };
    first.deny == 0 && first.audit == 0 && first.condition_count == 0
}
