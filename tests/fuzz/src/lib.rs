//! What the fuzz targets do with their bytes (`targets/`, which needs a nightly compiler); the tests do the same by the hundred
//! thousand, from a fixed seed. A text is compiled or refused, a table is refused or used, and the monitor and the interpreter
//! say and remember the same of a policy and calls that the bytes choose. Whatever the bytes: no panic, no end of memory.
#![forbid(unsafe_code)]

mod choose;

use bulkhead_lang::interpret::{Memory, Message, Remembered, Times};
use bulkhead_lang::policy::{Policy as Tree, StateKind};
use bulkhead_lang::tree::Event;
use bulkhead_lang::{Compiled, compile};
use bulkhead_model::code::STATE_WORDS;
use bulkhead_model::{MAX_ARGS, NO_RULE, Phase, Policy, Reason, object};
use bulkhead_monitor::{Call, Clock, decide, redacted};

pub use choose::Choices;

/// Compiles a policy of one file.
#[must_use]
pub fn build(text: &str) -> Option<Compiled> {
    let mut load = |name: &str| if name == "site.policy" { Ok(text.to_string()) } else { Err("not there".to_string()) };
    compile(&mut load, "site.policy").ok()
}

/// Bytes as a policy's text: refused, or compiled to a table that is sound. Whether it was compiled.
///
/// # Panics
/// If what was compiled is not sound, or the one form of the text has another meaning.
pub fn text(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let compiled = build(text);
    if let Some(compiled) = &compiled {
        assert!(Policy::verify(&compiled.table).is_ok(), "a table that the loader refuses");
    }
    compiled.is_some()
}

struct Clocks(Times);

impl Clock for Clocks {
    fn microseconds(&self) -> Option<u64> {
        self.0.microseconds
    }

    fn local_seconds(&self) -> Option<u64> {
        self.0.local_seconds
    }
}

/// Bytes as a table: refused by its check, or used. It is asked in either case, as what is resident only opens it. Whether the
/// check took it.
pub fn table(bytes: &[u8]) -> bool {
    let is_sound = Policy::verify(bytes).is_ok();
    let Ok(policy) = Policy::open(bytes) else { return false };
    let mut state = vec![0; policy.state_words().min(STATE_WORDS)];
    let seed = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let seeds: Vec<u8> = (1..32).flat_map(|n: u64| seed.wrapping_mul(n | 1).rotate_left(29).to_le_bytes()).collect();
    let mut choices = Choices::new(&seeds);
    for _ in 0..8 {
        let mut args = [0; MAX_ARGS];
        args.iter_mut().for_each(|slot| *slot = choices.word());
        let phase = choices.of(&[Phase::Request, Phase::Request, Phase::Reply, Phase::Error, Phase::Question]);
        let call = Call {
            subject: choices.small(3),
            object: choices.small(8),
            method: choices.small(6),
            phase,
            len: choices.of(&[2, 2, 5, 3, 1, 0, 6, 255]),
            args: &args,
        };
        let times = Times { microseconds: Some(choices.word()), local_seconds: Some(choices.word()) };
        let verdict = decide(&policy, &mut state, &Clocks(times), &call);
        let is_quiet = verdict.is_allowed() || verdict.reason == Reason::DeniedByRule;
        assert!(is_quiet || verdict.audit, "a refusal that is no rule's, without a record");
        let _ = (redacted(&policy, &call, verdict.rule), policy.rule_place(choices.small(9)));
    }
    is_sound
}

/// Bytes as choices: of a policy, and of calls that the monitor and the interpreter judge one after the other. How many calls; `None` if the
/// policy is refused.
///
/// # Panics
/// If they do not agree on a verdict, its rule, its record or what is remembered.
pub fn policy_and_calls(bytes: &[u8]) -> Option<usize> {
    let mut choices = Choices::new(bytes);
    let text = choices.policy();
    let compiled = build(&text)?;
    let policy = &compiled.policy;
    let Ok(table) = Policy::verify(&compiled.table) else { panic!("a table that the loader refuses:\n{text}") };
    let (mut state, mut remembered) = (vec![0; table.state_words()], Remembered::default());
    let local_seconds = choices.local_seconds();
    let mut times = Times { microseconds: Some(1_000_000), local_seconds };
    let service = compiled.object("s")?;
    for asked in 0..40 {
        if choices.is_empty() {
            return Some(asked);
        }
        let (mut object, mut method) = (service, choices.small(6));
        let subject = choices.of(&[0, 0, 2, 2, 1]);
        let mut event = choices.of(&[Event::Request, Event::Request, Event::Request, Event::Reply, Event::Error]);
        // Where there is no such method, now and then something of the guest's and the wall's life.
        if method == 5 && choices.small(2) == 1 {
            (object, method, event) = (object::LIFE, choices.small(2), Event::Reply);
        }
        let words: Vec<u64> = (0..choices.length(method, event)).map(|at| choices.argument(method, at)).collect();
        let mut args = [0; MAX_ARGS];
        args.iter_mut().zip(&words).for_each(|(slot, word)| *slot = *word);
        let phase = policy.phase(object, method, event);
        let len = u8::try_from(words.len()).unwrap_or(u8::MAX);
        let call = Call { subject, object, method, phase, len, args: &args };
        never_for_the_other(&table, &state, &Clocks(times), &call);
        let by_table = decide(&table, &mut state, &Clocks(times), &call);
        let message = Message { subject, object, method, event, words: &words };
        let by_tree = remembered.decide(policy, times, &message);
        let rule = by_tree.rule.map_or(NO_RULE, |rule| u32::try_from(rule).unwrap_or(NO_RULE));
        let (one, other) = ((by_table.reason, by_table.rule, by_table.audit), (by_tree.reason, rule, by_tree.audit));
        assert_eq!(one, other, "monitor and interpreter on {message:?} of\n{text}");
        let left_out = redacted(&table, &call, rule);
        assert_eq!(
            left_out,
            not_recorded(policy, &message, by_tree.rule),
            "what is recorded of {message:?} of\n{text}"
        );
        same_state(&compiled, &state, &remembered, &text);
        times.microseconds = times.microseconds.map(|now| now + u64::from(choices.small(4)) * 700_001);
    }
    Some(40)
}

/// A question that is called, or a call that is asked, is refused and changes nothing.
fn never_for_the_other(table: &Policy<'_>, state: &[u64], clocks: &Clocks, call: &Call<'_>) {
    let phase = match call.phase {
        Phase::Request => Phase::Question,
        Phase::Question => Phase::Request,
        Phase::Reply | Phase::Error => return,
    };
    let mut changed = state.to_vec();
    let verdict = decide(table, &mut changed, clocks, &Call { phase, ..*call });
    let is_unknown = matches!(verdict.reason, Reason::UnknownMethod | Reason::UnknownObject);
    assert!(is_unknown && verdict.audit && changed == state, "{call:?} as {phase:?}");
}

/// The words of a message that are left out of its record.
fn not_recorded(policy: &Tree, message: &Message<'_>, rule: Option<usize>) -> u8 {
    let &Message { subject, object, method, event, .. } = message;
    if policy.method(object, method).is_none() {
        return 0xff;
    }
    let secrets = policy.fields(object, method, event).iter().zip(0..);
    let secrets = secrets.fold(0, |bits, (field, bit)| bits | u8::from(field.is_secret) << bit);
    let rule = rule.and_then(|rule| policy.rules.get(rule));
    let mut bodies = rule.into_iter().flat_map(|rule| rule.bodies_for(subject, object, method, event));
    let recording = bodies.next().and_then(|body| body.recording.as_ref());
    secrets | recording.map_or(0, |recording| recording.left_out)
}

/// Every instance of every state object stands in the monitor's words as the interpreter remembers it.
fn same_state(compiled: &Compiled, state: &[u64], remembered: &Remembered, text: &str) {
    let mut rest = state;
    for (number, row) in (0_u16..).zip(&compiled.policy.states) {
        for instance in 0..i128::from(row.instances()) {
            let mut left = instance;
            let mut keys: Vec<i128> = Vec::new();
            for key in row.keys.iter().rev() {
                let count = key.values.1 - key.values.0 + 1;
                keys.insert(0, key.values.0 + left % count);
                left /= count;
            }
            let Some((words, others)) = rest.split_at_checked(row.words() as usize) else { panic!("too little state") };
            rest = others;
            let memory = remembered.memory(&compiled.policy, number, &keys).unwrap_or(Memory::Timer(None));
            let (one, other) = (in_order(&row.kind, words), in_order(&row.kind, &memory.words(row)));
            assert_eq!(one, other, "{} {keys:?} of\n{text}", row.name);
        }
    }
}

/// An instance's words with what has no order in one order, and without what is left over.
fn in_order(kind: &StateKind, words: &[u64]) -> Vec<u64> {
    let count = |words: &[u64]| words.first().map_or(0, |&count| usize::try_from(count).unwrap_or(usize::MAX));
    match kind {
        StateKind::Set(_) => {
            let mut values: Vec<u64> = words.iter().skip(1).take(count(words)).copied().collect();
            values.sort_unstable();
            values
        }
        StateKind::Map(_) => {
            let (committed, working) = words.split_at(words.len() / 2);
            let half = |words: &[u64]| {
                let entries = words.get(1..).unwrap_or_default().chunks_exact(2).take(count(words));
                let mut entries: Vec<Vec<u64>> = entries.map(<[u64]>::to_vec).collect();
                entries.sort_unstable();
                entries.concat()
            };
            [half(committed), vec![u64::MAX; 3], half(working)].concat()
        }
        StateKind::Rate { burst: 0, .. } => {
            let times = words.get(1..).unwrap_or_default();
            let first = count(words).min(times.len());
            let in_turn = times.iter().skip(first).chain(times.iter().take(first));
            in_turn.copied().filter(|&time| time != 0).collect()
        }
        _ => words.to_vec(),
    }
}

#[cfg(test)]
mod tests;
