//! What a decision of the monitor costs, warm, on the host: thread CPU time, the median of several runs. And what the
//! compiler takes for ten thousand rules in fifty files. Prints one JSON object.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use bulkhead_lang::{Compiled, compile};
use bulkhead_model::{MAX_ARGS, Phase, Policy, Reason, subject};
use bulkhead_monitor::{Call, Clock, NoClock, decide};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Rules of one service, and the most services.
const RULES: usize = 100;
const SERVICES: usize = 100;
/// Files that they stand in.
const FILES: usize = 50;
/// Decisions of a run, and runs.
const TURNS: usize = 400_000;
const RUNS: usize = 9;
/// Different calls, asked in turn: a busy system's few hundred, spread over the whole table.
const CALLS: usize = 256;

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
        "compile_10k_s": rounded(compile_s),
        "check_edit_10k_ms": rounded(check_ms),
        "bytes_per_rule": rounded(bytes_per_rule),
    });
    println!("{figures}");
}

/// A policy of so many rules, each with two conditions on arguments, spread over the services.
fn files(rules: usize) -> BTreeMap<String, String> {
    let mut main =
        "edition 1\npolicy bench\ninterface Plc { method write(register: u16, value: u16) -> () }\n".to_string();
    for service in 0..services(rules) {
        let _ = writeln!(main, "app a{service}\nservice s{service}: Plc by a{service}");
    }
    let mut all = BTreeMap::new();
    for file in 0..FILES {
        let _ = writeln!(main, "include \"part{file}.policy\"");
        let mut text = String::new();
        for rule in (file..rules).step_by(FILES) {
            let (service, register) = place(rule, rules);
            let low = rule % 1000;
            let _ = writeln!(
                text,
                "allow guest s{service}.write when register == {register} and value in {low}..{}",
                low + 100
            );
        }
        all.insert(format!("part{file}.policy"), text);
    }
    all.insert("site.policy".to_string(), main);
    all
}

/// The same services without a rule.
fn without_rules(rules: usize) -> BTreeMap<String, String> {
    let mut all = files(rules);
    all.iter_mut().filter(|(name, _)| *name != "site.policy").for_each(|(_, text)| text.clear());
    all
}

fn services(rules: usize) -> usize {
    (rules / RULES).clamp(1, SERVICES)
}

/// The service and the register of a rule.
fn place(rule: usize, rules: usize) -> (usize, usize) {
    (rule % services(rules), rule / services(rules))
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
    let calls: Vec<(u16, [u64; MAX_ARGS])> = (0..CALLS)
        .map(|turn| {
            // A large prime: the calls touch rules all over the table.
            let rule = turn * 7919 % rules;
            let (service, register) = place(rule, rules);
            let low = rule % 1000;
            let value = if wanted == Reason::Allowed { low + turn % 100 } else { low + 101 + turn % 100 };
            let object = first + u16::try_from(service).unwrap_or(0);
            (object, [register as u64, value as u64, 0, 0, 0, 0])
        })
        .collect();
    let ask = |(object, args): &(u16, [u64; MAX_ARGS])| {
        let call = Call { subject: subject::GUEST, object: *object, method: 0, phase: Phase::Request, len: 2, args };
        decide(&table, &mut [], &NoClock, black_box(&call)).reason
    };
    assert!(calls.iter().all(|call| ask(call) == wanted), "the generated calls are not what they should be");
    per_turn(|turn| {
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
    let cost = per_turn(|turn| {
        let args = [1 + turn as u64 % 8, turn as u64 % 1000, 0, 0, 0, 0];
        let call = Call { subject: subject::GUEST, object, method: 0, phase: Phase::Request, len: 2, args: &args };
        allowed += usize::from(decide(&table, &mut state, &clock, black_box(&call)).is_allowed());
    });
    assert_eq!(allowed, TURNS * RUNS, "every call is allowed");
    cost
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

/// Nanoseconds a turn: the median of the runs.
fn per_turn(mut act: impl FnMut(usize)) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of turns")]
    let turns = TURNS as f64;
    median((0..RUNS).map(|_| seconds(|| (0..TURNS).for_each(&mut act)) * 1e9 / turns).collect())
}

/// CPU seconds of this thread.
fn seconds<T>(act: impl FnOnce() -> T) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a short run")]
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    };
    let start = now();
    black_box(act());
    now() - start
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
