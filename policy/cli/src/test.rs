//! `bulkhead test`: runs the tests that stand in the policy, and says which rules and states they did not reach.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use bulkhead_lang::Compiled;
use bulkhead_lang::interpret::{Message, Times, Verdict};
use bulkhead_lang::policy::{Call, Step, Test};
use bulkhead_lang::tree::Expected;
use bulkhead_model::Reason;
use serde_json::json;

use crate::pair::Pair;

/// How one test went.
pub(crate) struct Outcome<'a> {
    name: &'a str,
    /// Where it went wrong, and how.
    pub(crate) failure: Option<(String, String)>,
}

/// The verb.
pub(crate) fn run(site: &Path, least: Option<u8>, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match crate::open(site, as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let mut reached = BTreeSet::new();
    let tests = &compiled.policy.tests;
    let outcomes: Vec<Outcome<'_>> =
        tests.iter().map(|test| one(&compiled, test, &mut reached)).collect::<Result<_, _>>()?;
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let rules = &compiled.policy.rules;
    let missed: Vec<String> = rules
        .iter()
        .enumerate()
        .filter(|(number, _)| !reached.contains(number))
        .map(|(_, rule)| compiled.sources.place(rule.span))
        .map(|(file, line, _, text)| format!("{file}:{line}: {}", text.trim()))
        .collect();
    let coverage = if rules.is_empty() { 100 } else { (rules.len() - missed.len()) * 100 / rules.len() };
    let is_covered = least.is_none_or(|least| coverage >= usize::from(least));
    if as_json {
        let results: Vec<_> = outcomes
            .iter()
            .map(|outcome| {
                let failure = outcome.failure.as_ref().map(|(place, why)| json!({ "at": place, "why": why }));
                json!({ "test": outcome.name, "ok": outcome.failure.is_none(), "failure": failure })
            })
            .collect();
        let passed = outcomes.len() - failed;
        println!(
            "{}",
            json!({ "ok": failed == 0 && is_covered, "passed": passed, "failed": failed,
            "rules_covered_percent": coverage, "rules_not_covered": missed, "tests": results })
        );
    } else {
        for outcome in &outcomes {
            match &outcome.failure {
                None => println!("ok      {}", outcome.name),
                Some((place, why)) => println!("FAILED  {}\n  {place}: {why}", outcome.name),
            }
        }
        println!(
            "{} passed, {failed} failed; {coverage} % of {} rules decided something",
            outcomes.len() - failed,
            rules.len()
        );
        if !is_covered {
            println!("less than the {} % asked for; not reached:", least.unwrap_or(0));
            missed.iter().for_each(|rule| println!("  {rule}"));
        }
    }
    Ok(if failed == 0 && is_covered { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Runs one test from an empty memory on; each rule that had a say is added to `reached`.
pub(crate) fn one<'a>(
    compiled: &Compiled,
    test: &'a Test,
    reached: &mut BTreeSet<usize>,
) -> Result<Outcome<'a>, String> {
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
    reached: &mut BTreeSet<usize>,
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
            let verdict = pair.decide(&message(call))?;
            reached.extend(verdict.rule);
            reached.extend(verdict.against.iter().map(|(_, rule)| *rule));
            reached.extend(verdict.observed.iter());
            is_expected(compiled, call, &verdict)
        }
    })
}

/// A call as the evaluators take it.
pub(crate) fn message(call: &Call) -> Message<'_> {
    let Call { subject, object, method, event, ref words, .. } = *call;
    Message { subject, object, method, event, words }
}

fn is_expected(compiled: &Compiled, call: &Call, verdict: &Verdict) -> Result<(), String> {
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
    match call.recorded {
        Some(recorded) if recorded != verdict.audit => {
            Err(if recorded { "it is not recorded" } else { "it is recorded" }.to_string())
        }
        _ => Ok(()),
    }
}
