//! The generated policies and calls that the monitor and its peers are measured with, and how time is taken: thread CPU time,
//! the median of several runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use rustix::time::{ClockId, clock_gettime};

/// Rules of one service, and the most services.
const RULES: usize = 100;
const SERVICES: usize = 100;
/// Highest less lowest value of a rule.
pub const SPAN: usize = 100;
/// Files that they stand in.
const FILES: usize = 50;
/// Decisions of a run.
pub const TURNS: usize = 400_000;
/// Runs.
pub const RUNS: usize = 9;
/// Different calls, asked in turn: a busy system's few hundred, spread over the whole table.
pub const CALLS: usize = 256;

/// A policy of so many rules, each with two conditions on arguments, spread over the services.
#[must_use]
pub fn files(rules: usize) -> BTreeMap<String, String> {
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
            let low = lowest(rule);
            let _ = writeln!(
                text,
                "allow guest s{service}.write when register == {register} and value in {low}..{}",
                low + SPAN
            );
        }
        all.insert(format!("part{file}.policy"), text);
    }
    all.insert("site.policy".to_string(), main);
    all
}

/// The same services without a rule.
#[must_use]
pub fn without_rules(rules: usize) -> BTreeMap<String, String> {
    let mut all = files(rules);
    all.iter_mut().filter(|(name, _)| *name != "site.policy").for_each(|(_, text)| text.clear());
    all
}

/// How many services so many rules are spread over.
#[must_use]
pub fn services(rules: usize) -> usize {
    (rules / RULES).clamp(1, SERVICES)
}

/// The lowest value that a rule allows.
#[must_use]
pub fn lowest(rule: usize) -> usize {
    rule % 1000
}

/// The service and the register of a rule.
#[must_use]
pub fn place(rule: usize, rules: usize) -> (usize, usize) {
    (rule % services(rules), rule / services(rules))
}

/// A call of the generated policies: its service, its register, its value.
pub type Question = (usize, u16, u16);

/// Calls that touch rules all over the table: each is allowed by one, or its value is just out of the range of one.
#[must_use]
pub fn questions(rules: usize, allowed: bool) -> Vec<Question> {
    let small = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
    let question = |turn: usize| {
        // A large prime.
        let rule = turn * 7919 % rules;
        let (service, register) = place(rule, rules);
        let value = lowest(rule) + turn % (SPAN + 1) + if allowed { 0 } else { SPAN + 1 };
        (service, small(register), small(value))
    };
    (0..CALLS).map(question).collect()
}

/// Nanoseconds a turn of so many: the median of the runs.
pub fn per_turn(turns: usize, mut act: impl FnMut(usize)) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of turns")]
    let count = turns as f64;
    median((0..RUNS).map(|_| seconds(|| (0..turns).for_each(&mut act)) * 1e9 / count).collect())
}

/// CPU seconds of this thread.
pub fn seconds<T>(act: impl FnOnce() -> T) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a short run")]
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    };
    let start = now();
    black_box(act());
    now() - start
}

/// The one in the middle.
#[must_use]
pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// To two places.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
