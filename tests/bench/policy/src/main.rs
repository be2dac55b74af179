//! What a decision of the monitor costs, warm, on the host: thread CPU time, the median of several runs. And what the
//! compiler takes for ten thousand rules in fifty files. Prints one JSON object.

use std::collections::BTreeMap;
use std::hint::black_box;

use bulkhead_bench_policy::{CALLS, RUNS, TURNS, files, median, per_turn, questions, rounded, seconds, without_rules};
use bulkhead_lang::{Compiled, compile};
use bulkhead_model::{MAX_ARGS, Phase, Policy, Reason, subject};
use bulkhead_monitor::{Call, Clock, NoClock, decide};
use serde_json::json;

fn main() {
    let sizes = [10, 10_000, 100_000];
    let policies: Vec<Compiled> = sizes.iter().map(|&rules| build(&files(rules))).collect();
    let [small, large, huge] = policies.as_slice() else { return };
    let allow = |compiled, rules| decision(compiled, rules, Reason::Allowed);
    let (allow_10, allow_10k, allow_100k) = (allow(small, 10), allow(large, 10_000), allow(huge, 100_000));
    let deny = decision(large, 10_000, Reason::NoRule);
    let texts = files(10_000);
    let compile_s = median((0..5).map(|_| seconds(|| black_box(build(&texts).table.len()))).collect());
    // What the language server does after one edit: the whole site is checked again.
    let mut edited = texts.clone();
    edited.values_mut().last().into_iter().for_each(|text| text.push_str("\n// edited\n"));
    let check_ms = median((0..5).map(|_| 1000.0 * seconds(|| black_box(build(&edited).table.len()))).collect());
    let stateful = build(&BTreeMap::from([("site.policy".to_string(), STATEFUL.to_string())]));
    let empty = build(&without_rules(10_000)).table.len();
    #[expect(clippy::cast_precision_loss, reason = "bytes of a table")]
    let bytes_per_rule = (large.table.len() - empty) as f64 / 10_000.0;
    let figures = json!({
        "decide_allow_10_ns": rounded(allow_10),
        "decide_allow_10k_ns": rounded(allow_10k),
        "decide_deny_10k_ns": rounded(deny),
        "decide_allow_100k_ns": rounded(allow_100k),
        "flatness_10_to_100k": rounded(allow_100k / allow_10),
        "decide_state_ns": rounded(stateful_decision(&stateful)),
        "decide_text_ns": rounded(text_decision()),
        "compile_10k_s": rounded(compile_s),
        "check_edit_10k_ms": rounded(check_ms),
        "bytes_per_rule": rounded(bytes_per_rule),
    });
    println!("{figures}");
}

fn build(files: &BTreeMap<String, String>) -> Compiled {
    let mut load = |name: &str| files.get(name).cloned().ok_or_else(|| "no such file".to_string());
    match compile(&mut load, "site.policy") {
        Ok(compiled) => compiled,
        Err(report) => {
            let first = report.findings.first().map(|finding| finding.render(&report.sources).to_string());
            eprintln!("the generated policy does not compile: {}", first.unwrap_or_default());
            std::process::exit(1);
        }
    }
}

/// Nanoseconds a decision that ends with `wanted`.
fn decision(compiled: &Compiled, rules: usize, wanted: Reason) -> f64 {
    let table = verified(compiled);
    let first = compiled.object("s0").unwrap_or(0);
    let calls: Vec<(u16, [u64; MAX_ARGS])> = questions(rules, wanted == Reason::Allowed)
        .into_iter()
        .map(|(service, register, value)| {
            let object = first + u16::try_from(service).unwrap_or(0);
            (object, [register.into(), value.into(), 0, 0, 0, 0])
        })
        .collect();
    let ask = |(object, args): &(u16, [u64; MAX_ARGS])| {
        let call = Call { subject: subject::GUEST, object: *object, method: 0, phase: Phase::Request, len: 2, args };
        decide(&table, &mut [], &NoClock, black_box(&call)).reason
    };
    assert!(calls.iter().all(|call| ask(call) == wanted), "the generated calls are not what they should be");
    per_turn(TURNS, |turn| {
        black_box(calls.get(turn % CALLS).map(ask));
    })
}

/// A rule with a state machine, a rate and a set in play.
const STATEFUL: &str = "edition 1
policy state
interface Bay { method operate(unit: u8 in 1..8, register: u16) -> () }
app bay
service bay: Bay by bay
flow breaker per unit in 1..8 { open -> closed  closed -> open }
set known max 16
rate often at most 1000000 per s burst 1000000
allow guest bay.operate when breaker(unit) is open and not (register in known) within often then breaker(unit) becomes closed
allow guest bay.operate when breaker(unit) is closed and not (register in known) within often then breaker(unit) becomes open
";

struct Running(std::cell::Cell<u64>);

impl Clock for Running {
    fn microseconds(&self) -> Option<u64> {
        self.0.set(self.0.get() + 1);
        Some(self.0.get())
    }
}

fn stateful_decision(compiled: &Compiled) -> f64 {
    let table = verified(compiled);
    let mut state = vec![0; table.state_words()];
    let object = compiled.object("bay").unwrap_or(0);
    let clock = Running(std::cell::Cell::new(1 << 40));
    let mut allowed = 0;
    let cost = per_turn(TURNS, |turn| {
        let args = [1 + turn as u64 % 8, turn as u64 % 1000, 0, 0, 0, 0];
        let call = Call { subject: subject::GUEST, object, method: 0, phase: Phase::Request, len: 2, args: &args };
        allowed += usize::from(decide(&table, &mut state, &clock, black_box(&call)).is_allowed());
    });
    assert_eq!(allowed, TURNS * RUNS, "every call is allowed");
    cost
}

/// A rule on a text: values whose presence depends on others.
const TEXT: &str = "edition 1
policy text
interface Tags { method get(tag: text max 16) -> () }
app tags
service tags: Tags by tags
allow guest tags.get when tag in { \"P01.speed\", \"P02.speed\", \"P03.speed\" }
";

fn text_decision() -> f64 {
    let compiled = build(&BTreeMap::from([("site.policy".to_string(), TEXT.to_string())]));
    let table = verified(&compiled);
    let object = compiled.object("tags").unwrap_or(0);
    let eight = |bytes: [u8; 8]| u64::from_be_bytes(bytes);
    let tags = [*b"P01.spee", *b"P02.spee", *b"P03.spee"];
    let calls = tags.map(|tag| [9, eight(tag), eight(*b"d\0\0\0\0\0\0\0"), 0, 0, 0]);
    let ask = |args| {
        let call = Call { subject: subject::GUEST, object, method: 0, phase: Phase::Request, len: 3, args };
        decide(&table, &mut [], &NoClock, black_box(&call)).is_allowed()
    };
    assert!(calls.iter().all(ask), "every call is allowed");
    per_turn(TURNS, |turn| {
        black_box(calls.get(turn % calls.len()).map(ask));
    })
}

fn verified(compiled: &Compiled) -> Policy<'_> {
    match Policy::verify(&compiled.table) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("the compiled table is wrong: {}", error.word());
            std::process::exit(1);
        }
    }
}
