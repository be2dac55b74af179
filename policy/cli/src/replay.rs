//! `bulkhead replay`: what a policy says of calls that were recorded, as the audit app prints them. Calls are put to it in
//! their order, so that rates and flows go on from one to the next. Rules that allowed none of them are named: does the guest
//! need what they grant?

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use bulkhead_lang::Compiled;
use bulkhead_lang::policy::{Call, Rule};
use bulkhead_lang::regions::Place;
use bulkhead_lang::tree::{Decision, Event};
use bulkhead_model::Reason;
use serde_json::json;

use crate::pair::Pair;
use crate::site::{Site, say};
use crate::test::message;

/// A record's line.
#[derive(Debug, PartialEq, Eq)]
struct Recorded<'a> {
    was_allowed: bool,
    subject: &'a str,
    object: &'a str,
    method: &'a str,
    /// As they were printed.
    values: Vec<&'a str>,
}

/// The longest log in bytes.
const LOG_BYTES: u64 = 1 << 30;

/// The verb.
pub(crate) fn run(site: &Site<'_>, log: &Path, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", log.display());
    if fs::metadata(log).map_err(failed)?.len() > LOG_BYTES {
        return Err(format!("{} is longer than 1 GiB", log.display()));
    }
    let text = String::from_utf8_lossy(&fs::read(log).map_err(failed)?).into_owned();
    let mut pair = Pair::new(&compiled)?;
    let (mut same, mut skipped, mut changed) = (0_u64, 0_u64, Vec::new());
    let mut used = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let Some(record) = recorded(line) else { continue };
        let Some(record) = record else {
            skipped += 1;
            continue;
        };
        let Some(call) = call(&compiled, &record) else {
            skipped += 1;
            continue;
        };
        let verdict = pair.decide(&message(&call))?;
        let is_allowed = verdict.reason == Reason::Allowed;
        if is_allowed {
            used.extend(verdict.observed.iter().copied());
        }
        if is_allowed == record.was_allowed {
            same += 1;
        } else {
            let told = pair.told(&message(&call), &verdict).map_or(String::new(), |told| format!(": {told}"));
            changed.push((number + 1, compiled.show(&call), is_allowed, format!("{}{told}", verdict.reason.word())));
        }
    }
    let unused = unused(&compiled, &used);
    if as_json {
        let changes = changed.iter().map(|(line, call, is_allowed, why)| {
            json!({ "line": line, "call": call, "now": if *is_allowed { "allowed" } else { "refused" }, "reason": why })
        });
        let changes = changes.collect::<Vec<_>>();
        say(&compiled, json!({ "same": same, "not_replayed": skipped, "changed": changes, "unused": unused }));
    } else {
        for (line, call, is_allowed, why) in &changed {
            let now = if *is_allowed { "would be allowed".to_string() } else { format!("would be refused: {why}") };
            println!("line {line}: {call} {now}");
        }
        unused.iter().for_each(|rule| println!("granted, and not used in this log: {rule}"));
        println!(
            "{same} the same, {} others, {skipped} not replayed (secrets, or what the policy does not know)",
            changed.len()
        );
    }
    Ok(if changed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Rules for requests that allowed none of the recorded calls. A log says what happened in its time, and holds only what was to
/// be recorded: what is not in it may still be needed.
fn unused(compiled: &Compiled, used: &BTreeSet<usize>) -> Vec<String> {
    let is_grant = |rule: &Rule| rule.decision == Decision::Allow && rule.event == Event::Request;
    let rules = compiled.policy.rules.iter().enumerate();
    let unused = rules.filter(|(at, rule)| is_grant(rule) && !used.contains(at));
    unused
        .map(|(_, rule)| {
            let (file, line, ..) = compiled.sources.place(rule.span);
            let text = compiled.sources.text(rule.span).split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{file}:{line}: {text}")
        })
        .collect()
}

/// The call of a line such as `#12 REFUSED guest -> plant.set_pump(rpm: 2900): no rule`. `None`: no such line; inner `None`: its
/// values were not recorded.
#[expect(clippy::option_option, reason = "no record, and a record without its values")]
fn recorded(line: &str) -> Option<Option<Recorded<'_>>> {
    let (was_allowed, rest) = match (line.split_once(" REFUSED "), line.split_once(" allowed ")) {
        (Some((_, rest)), _) => (false, rest),
        (None, Some((_, rest))) => (true, rest),
        (None, None) => return None,
    };
    let (subject, rest) = rest.split_once(" -> ")?;
    let (target, rest) = rest.split_once('(')?;
    let (object, method) = target.split_once('.')?;
    let values = values(rest)?;
    let is_known = values.iter().all(|value| *value != "(secret)");
    Some(is_known.then_some(Recorded { was_allowed, subject, object, method, values }))
}

/// The values before the closing parenthesis, without their names. `None`: there is none.
fn values(text: &str) -> Option<Vec<&str>> {
    let (mut all, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        let is_plain = !std::mem::take(&mut is_escaped);
        match byte {
            b'\\' if is_quoted && is_plain => is_escaped = true,
            b'"' if is_plain => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b',' if depth == 0 => {
                let value = text.get(start..at)?.trim();
                if !value.is_empty() {
                    all.push(value.split_once(": ").map_or(value, |(_, value)| value));
                }
                start = at + 1;
                if byte == b')' {
                    return Some(all);
                }
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

fn call(compiled: &Compiled, record: &Recorded<'_>) -> Option<Call> {
    let object = compiled.object(record.object)?;
    let methods = &compiled.policy.objects.get(usize::from(object))?.methods;
    let method = methods.iter().position(|known| known.name == record.method)?;
    let place: Place = (compiled.subject(record.subject)?, object, u16::try_from(method).ok()?);
    let text = format!("{} -> {}.{}({})", record.subject, record.object, record.method, record.values.join(", "));
    if let Ok(call) = compiled.call(&text) {
        return Some(call);
    }
    // Values that are none of their type stand as numbers.
    let number = |value: &&str| {
        value.strip_prefix("0x").map_or_else(|| value.parse().ok(), |hex| i128::from_str_radix(hex, 16).ok())
    };
    let values: Option<Vec<i128>> = record.values.iter().map(number).collect();
    Some(compiled.request(place, &values?))
}

#[cfg(test)]
mod tests {
    use super::recorded;

    #[test]
    fn the_audit_apps_lines_are_read_and_others_are_passed_over() {
        let line = "secure: audit: #20 REFUSED guest -> plant.set(rpm: 2900, at: 0x10): no rule, 47 times";
        let record = recorded(line).flatten().expect("a record");
        assert_eq!(
            (record.was_allowed, record.subject, record.object, record.method),
            (false, "guest", "plant", "set")
        );
        assert_eq!(record.values, ["2900", "0x10"]);
        let line = "#7 allowed guest -> s.m(t: \"a, (b: \\\") c\", l: [1, 2], r: {1, {2, 3}}, f: a | b, n: none, hz: 50.00 Hz)";
        let values = recorded(line).flatten().map(|record| record.values);
        let wanted = ["\"a, (b: \\\") c\"", "[1, 2]", "{1, {2, 3}}", "a | b", "none", "50.00 Hz"];
        assert_eq!(values.as_deref(), Some(&wanted[..]));
        assert_eq!(recorded("#7 allowed guest -> s.m(t: \"a)"), None, "cut");
        assert!(
            recorded("#1 allowed guest -> plant.level() by site.policy:4")
                .flatten()
                .is_some_and(|record| record.was_allowed)
        );
        assert_eq!(recorded("#1 allowed guest -> plant.unlock(code: (secret)) by site.policy:4"), Some(None));
        assert_eq!(recorded("clock: heartbeat 1"), None);
    }
}
