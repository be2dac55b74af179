//! `bulkhead test`: runs the tests that stand in the policy, and says which rules and states they did not reach.

use std::collections::BTreeSet;
use std::process::ExitCode;

use bulkhead_lang::Compiled;
use bulkhead_lang::interpret::{Message, Times, Verdict};
use bulkhead_lang::policy::{Call, StateKind, Step, Test};
use bulkhead_lang::tree::Expected;
use bulkhead_model::Reason;
use serde_json::json;

use crate::pair::Pair;
use crate::site::{Site, say};

/// What tests reached.
#[derive(Default)]
pub(crate) struct Reached {
    /// Rules that had a say.
    pub(crate) rules: BTreeSet<usize>,
    /// Parts of rules' conditions, and what came of them.
    branches: BTreeSet<(usize, usize, bool)>,
    /// Flows and the states in which calls left them.
    states: BTreeSet<(u16, u8)>,
}

/// How much of each must be reached, in per cent.
#[derive(Clone, Copy)]
pub(crate) struct Least {
    pub(crate) rules: Option<u8>,
    pub(crate) branches: Option<u8>,
    pub(crate) states: Option<u8>,
}

impl Least {
    /// Any coverage will do.
    pub(crate) const NOTHING: Self = Self { rules: None, branches: None, states: None };
}

/// So many of all, what is missing, and how it is called.
pub(crate) struct Part {
    pub(crate) what: &'static str,
    key: &'static str,
    pub(crate) all: usize,
    pub(crate) missed: Vec<String>,
    least: Option<u8>,
}

impl Part {
    fn percent(&self) -> usize {
        ((self.all - self.missed.len()) * 100).checked_div(self.all).unwrap_or(100)
    }

    fn is_enough(&self) -> bool {
        self.least.is_none_or(|least| self.percent() >= usize::from(least))
    }
}

/// Rules, branches and states, with what was not reached.
pub(crate) fn parts(compiled: &Compiled, reached: &Reached, least: Least) -> [Part; 3] {
    let policy = &compiled.policy;
    let at = |span| {
        let (file, line, _, text) = compiled.sources.place(span);
        format!("{file}:{line}: {}", text.trim())
    };
    let missed = policy.rules.iter().enumerate().filter(|(number, _)| !reached.rules.contains(number));
    let rules = missed.map(|(_, rule)| at(rule.span)).collect();
    let (mut branch_count, mut branches) = (0, Vec::new());
    for (number, rule) in policy.rules.iter().enumerate() {
        let parts = rule.bodies.iter().map(|body| bulkhead_lang::show::parts(body).len()).max().unwrap_or(0);
        for (part, held) in (0..parts).flat_map(|part| [(part, true), (part, false)]) {
            branch_count += 1;
            if !reached.branches.contains(&(number, part, held)) {
                let word = if held { "holds" } else { "fails to hold" };
                branches.push(format!("{}: its condition {} never {word}", at(rule.span), part + 1));
            }
        }
    }
    let (mut state_count, mut states) = (0, Vec::new());
    for (number, state) in (0_u16..).zip(&policy.states) {
        let StateKind::Flow { states: all, .. } = &state.kind else { continue };
        for (place, one) in (0_u8..).zip(all) {
            state_count += 1;
            if !reached.states.contains(&(number, place)) {
                states.push(format!("{}: never {}", at(state.span), one.name));
            }
        }
    }
    [
        Part {
            what: "rules decided something",
            key: "rules",
            all: policy.rules.len(),
            missed: rules,
            least: least.rules,
        },
        Part {
            what: "branches were taken",
            key: "branches",
            all: branch_count,
            missed: branches,
            least: least.branches,
        },
        Part {
            what: "states of flows were entered",
            key: "states",
            all: state_count,
            missed: states,
            least: least.states,
        },
    ]
}

/// How one test went.
pub(crate) struct Outcome<'a> {
    name: &'a str,
    /// Where it went wrong, and how.
    pub(crate) failure: Option<(String, String)>,
}

/// The verb.
pub(crate) fn run(site: &Site<'_>, least: Least, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let mut reached = Reached::default();
    let tests = &compiled.policy.tests;
    let outcomes: Vec<Outcome<'_>> =
        tests.iter().map(|test| one(&compiled, test, &mut reached)).collect::<Result<_, _>>()?;
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let parts = parts(&compiled, &reached, least);
    let is_covered = parts.iter().all(Part::is_enough);
    if as_json {
        let results: Vec<_> = outcomes
            .iter()
            .map(|outcome| {
                let failure = outcome.failure.as_ref().map(|(place, why)| json!({ "at": place, "why": why }));
                json!({ "test": outcome.name, "ok": outcome.failure.is_none(), "failure": failure })
            })
            .collect();
        let passed = outcomes.len() - failed;
        let mut all = json!({ "ok": failed == 0 && is_covered, "passed": passed, "failed": failed, "tests": results });
        for part in &parts {
            all[format!("{}_covered_percent", part.key)] = json!(part.percent());
            all[format!("{}_not_covered", part.key)] = json!(part.missed);
        }
        say(&compiled, all);
    } else {
        for outcome in &outcomes {
            match &outcome.failure {
                None => println!("ok      {}", outcome.name),
                Some((place, why)) => println!("FAILED  {}\n  {place}: {why}", outcome.name),
            }
        }
        let told = parts.iter().map(|part| format!("{} % of {} {}", part.percent(), part.all, part.what));
        println!("{} passed, {failed} failed; {}", outcomes.len() - failed, told.collect::<Vec<_>>().join(", "));
        for part in parts.iter().filter(|part| !part.is_enough()) {
            println!("less than the {} % asked for; not reached:", part.least.unwrap_or(0));
            part.missed.iter().for_each(|missed| println!("  {missed}"));
        }
    }
    Ok(if failed == 0 && is_covered { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Runs one test from an empty memory on; each rule that had a say is added to `reached`.
pub(crate) fn one<'a>(compiled: &Compiled, test: &'a Test, reached: &mut Reached) -> Result<Outcome<'a>, String> {
    let mut pair = Pair::new(compiled)?;
    for (step, span) in &test.steps {
        if let Err(why) = take(compiled, &mut pair, step, reached)? {
            let (file, line, ..) = compiled.sources.place(*span);
            return Ok(Outcome { name: &test.name, failure: Some((format!("{file}:{line}"), why)) });
        }
    }
    Ok(Outcome { name: &test.name, failure: None })
}

/// Takes one step. Outer error: monitor and interpreter differ.
fn take(
    compiled: &Compiled,
    pair: &mut Pair<'_>,
    step: &Step,
    reached: &mut Reached,
) -> Result<Result<(), String>, String> {
    let local = |times: Times| times.local_seconds.unwrap_or(0);
    Ok(match step {
        Step::Wait(time) => {
            pair.times.microseconds = pair.times.microseconds.map(|now| now.saturating_add(*time));
            pair.times.local_seconds = pair.times.local_seconds.map(|now| now.saturating_add(time / 1_000_000));
            Ok(())
        }
        Step::TimeOfDay(seconds) => {
            pair.times.local_seconds = Some(local(pair.times) / 86_400 * 86_400 + seconds);
            Ok(())
        }
        Step::DayOfWeek(day) => {
            // 1970 began on a Thursday: its fifth day was a Monday.
            pair.times.local_seconds = Some((day + 4) * 86_400 + local(pair.times) % 86_400);
            Ok(())
        }
        Step::Given(effect, subject) => pair.give(*subject, effect),
        Step::Expect(condition, subject) => match pair.holds(*subject, condition) {
            Ok(true) => Ok(()),
            Ok(false) => Err("this does not hold".to_string()),
            Err(why) => Err(format!("this has no value: {why}")),
        },
        Step::Call(call) => {
            let message = message(call);
            for (number, rule) in compiled.policy.rules.iter().enumerate() {
                for body in rule.bodies_for(call.subject, call.object, call.method, call.event) {
                    reached
                        .branches
                        .extend(pair.branches(&message, body).into_iter().map(|(part, held)| (number, part, held)));
                }
            }
            let verdict = pair.decide(&message)?;
            reached.rules.extend(verdict.rule);
            reached.rules.extend(verdict.against.iter().map(|(_, rule)| *rule));
            reached.rules.extend(verdict.observed.iter());
            reached.states.extend(pair.flow_states());
            is_expected(compiled, call, &verdict, pair.told(&message, &verdict))
        }
    })
}

/// A call as the evaluators take it.
pub(crate) fn message(call: &Call) -> Message<'_> {
    let Call { subject, object, method, event, ref words, .. } = *call;
    Message { subject, object, method, event, words }
}

fn is_expected(compiled: &Compiled, call: &Call, verdict: &Verdict, told: Option<String>) -> Result<(), String> {
    let rule = verdict.rule.and_then(|rule| compiled.policy.rules.get(rule));
    let place = rule.map_or(String::new(), |rule| {
        let (file, line, ..) = compiled.sources.place(rule.span);
        format!(" by {file}:{line}")
    });
    let is_met = match call.expected {
        Expected::Allowed => verdict.reason == Reason::Allowed,
        Expected::Refused => verdict.reason != Reason::Allowed,
        Expected::Denied => verdict.reason == Reason::DeniedByRule,
        Expected::NoRule => verdict.reason == Reason::NoRule,
        Expected::Failed => verdict.reason == Reason::Failed,
        Expected::TooOften => verdict.reason == Reason::Rate,
        Expected::Malformed => verdict.reason == Reason::Malformed,
    };
    let word = verdict.reason.word();
    let said = if verdict.reason == Reason::Allowed { word.to_string() } else { format!("refused: {word}") };
    if !is_met {
        return Err(format!("it is {said}{place}"));
    }
    if let Some(name) = &call.by
        && rule.and_then(|rule| rule.name.as_ref()) != Some(name)
    {
        return Err(format!("it is {said}{place}, not by `{name}`"));
    }
    if call.because.is_some() && call.because != told {
        return Err(told.map_or("no reason is told".to_string(), |told| format!("it is told because \"{told}\"")));
    }
    match call.recorded {
        Some(recorded) if recorded != verdict.audit => {
            Err(if recorded { "it is not recorded" } else { "it is recorded" }.to_string())
        }
        _ => Ok(()),
    }
}
