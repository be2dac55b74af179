//! `bulkhead prove`: each `never` of the policy is proved, or broken by a call that the monitor allows, or undecided, which is
//! an error as well.

use std::process::ExitCode;

use bulkhead_lang::interpret::Message;
use bulkhead_lang::policy::{Body, Call, Kind, Never, NeverWhat, Rule};
use bulkhead_lang::reach::{self, Found, Move};
use bulkhead_lang::regions::{self, Place, Region, TooMany, bounds, extent, intersection};
use bulkhead_lang::tree::Event;
use bulkhead_lang::{Compiled, moment};
use bulkhead_model::Reason;
use serde_json::json;

use crate::pair::Pair;
use crate::site::{Site, say};
use crate::test::message;

/// What became of a `never`.
pub(crate) enum Outcome {
    Proved,
    /// What happens, one thing after the other, until what must never be; and the rule that allows the last call, if it is one.
    Broken(Vec<String>, Option<String>),
    /// What stands in the way, and the remedy.
    Undecided(String),
}

/// The verb.
pub(crate) fn run(site: &Site<'_>, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let mut all = Vec::new();
    for never in &compiled.policy.nevers {
        let (file, line, _, text) = compiled.sources.place(never.span);
        all.push((format!("{file}:{line}"), text.trim().to_string(), outcome(&compiled, never)?));
    }
    let is_ok = all.iter().all(|(.., outcome)| matches!(outcome, Outcome::Proved));
    if as_json {
        let results = all.iter().map(|(place, text, outcome)| match outcome {
            Outcome::Proved => json!({ "at": place, "never": text, "outcome": "proved" }),
            Outcome::Broken(way, rule) => {
                json!({ "at": place, "never": text, "outcome": "broken", "call": way.last(), "way": way, "allowed_by": rule })
            }
            Outcome::Undecided(why) => json!({ "at": place, "never": text, "outcome": "undecided", "why": why }),
        });
        say(&compiled, json!({ "ok": is_ok, "nevers": results.collect::<Vec<_>>() }));
    } else {
        for (place, text, outcome) in &all {
            match outcome {
                Outcome::Proved => println!("proved     {place}: {text}"),
                Outcome::Broken(way, rule) => println!("BROKEN     {place}: {text}\n  {}", told(way, rule.as_deref())),
                Outcome::Undecided(why) => println!("UNDECIDED  {place}: {text}\n  {why}"),
            }
        }
        if all.is_empty() {
            println!("the policy has no `never`; write one: never guest plant.set_pump when rpm above 2400");
        }
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A way in words.
pub(crate) fn told(way: &[String], rule: Option<&str>) -> String {
    match (rule, way) {
        (_, []) => "so it is at the start".to_string(),
        (Some(rule), way) => format!("{} is allowed by {rule}", way.join("\n  then ")),
        (None, way) => format!("so it is after {}", way.join("\n  then ")),
    }
}

pub(crate) fn outcome(compiled: &Compiled, never: &Never) -> Result<Outcome, String> {
    let by_values = match &never.what {
        NeverWhat::Call(rule, before) if before.is_empty() => by_values(compiled, rule)?,
        _ => Outcome::Undecided(String::new()),
    };
    let Outcome::Undecided(why) = by_values else { return Ok(by_values) };
    let also = if why.is_empty() { why } else { format!("{why}; and ") };
    Ok(match reach::search(&compiled.policy, &never.what) {
        Found::Nowhere(_) => Outcome::Proved,
        Found::Unknown(why) => Outcome::Undecided(format!("{also}what can be remembered was not searched: {why}")),
        Found::Ways(ways) => {
            for way in &ways {
                if let Some(broken) = confirmed(compiled, never, way)? {
                    return Ok(broken);
                }
            }
            let way = ways.first().into_iter().flatten();
            let way: Vec<String> = way.map(|step| shown(compiled, step)).collect();
            let why = "only rates or hours stand against: the search leaves them out, and the monitor refused";
            Outcome::Undecided(format!("{also}{why}\n  {}", way.join("\n  then ")))
        }
    })
}

fn shown(compiled: &Compiled, step: &Move) -> String {
    match step {
        Move::Wait(time) => format!("wait {}", Kind::time().show((*time).into())),
        Move::Send { subject, object, method, event, words } => compiled.show(&Call {
            event: *event,
            words: words.clone(),
            ..compiled.request((*subject, *object, *method), &[])
        }),
    }
}

/// Puts a way to the monitor: whether it leads where it is said to.
fn confirmed(compiled: &Compiled, never: &Never, way: &[Move]) -> Result<Option<Outcome>, String> {
    let mut pair = Pair::new(compiled)?;
    let told: Vec<String> = way.iter().map(|step| shown(compiled, step)).collect();
    let mut last = None;
    for step in way {
        match step {
            Move::Wait(time) => pair.times.microseconds = pair.times.microseconds.map(|now| now.saturating_add(*time)),
            Move::Send { subject, object, method, event, words } => {
                let message = Message { subject: *subject, object: *object, method: *method, event: *event, words };
                let is_meant = match &never.what {
                    NeverWhat::Call(rule, _) => {
                        rule.bodies_for(*subject, *object, *method, *event).any(|body| pair.matches(&message, body))
                    }
                    NeverWhat::State(_) => false,
                };
                last = Some((is_meant, pair.decide(&message)?));
            }
        }
    }
    Ok(match (&never.what, last) {
        (NeverWhat::State(condition), _) => pair.is_so(condition).then_some(Outcome::Broken(told, None)),
        (NeverWhat::Call(..), Some((true, verdict))) if verdict.reason == Reason::Allowed => {
            let rule = verdict.rule.and_then(|rule| compiled.policy.rules.get(rule));
            let (file, line, ..) = compiled.sources.place(rule.map_or(never.span, |rule| rule.span));
            Some(Outcome::Broken(told, Some(format!("{file}:{line}"))))
        }
        _ => None,
    })
}

/// A `never` of requests alone, by the values that rules test.
fn by_values(compiled: &Compiled, never: &Rule) -> Result<Outcome, String> {
    for &subject in &never.subjects {
        for body in &never.bodies {
            match one(compiled, never, body, (subject, body.object, body.method))? {
                Outcome::Proved => {}
                other => return Ok(other),
            }
        }
    }
    Ok(Outcome::Proved)
}

fn one(compiled: &Compiled, never: &Rule, body: &Body, place: Place) -> Result<Outcome, String> {
    let policy = &compiled.policy;
    if moment::excludes(policy, body, place) == Ok(true) {
        return Ok(Outcome::Proved);
    }
    let regions = || -> Result<(Region, Region), TooMany> {
        let (never, bounds) = (extent(policy, body, Event::Request)?, bounds(policy, place)?);
        Ok((intersection(&bounds.perhaps, &never.region)?, intersection(&bounds.surely, &never.region)?))
    };
    let Ok((perhaps, surely)) = regions() else {
        let why = "its rules name too many ranges to be compared; say `never` of fewer methods or narrower ranges";
        return Ok(Outcome::Undecided(why.to_string()));
    };
    let fields = policy.fields(place.1, place.2, Event::Request);
    if regions::is_empty(&perhaps, fields) {
        return Ok(Outcome::Proved);
    }
    // Corners of what may be allowed; the monitor says whether it is.
    let corners = surely.iter().chain(&perhaps).take(64).flat_map(|cube| {
        let high: Vec<i128> = cube.iter().map(|range| range.1).collect();
        regions::example(&vec![cube.clone()], fields).into_iter().chain([high])
    });
    for values in corners {
        let call = compiled.request(place, &values);
        let mut pair = Pair::new(compiled)?;
        if !pair.matches(&message(&call), body) {
            continue;
        }
        let verdict = pair.decide(&message(&call))?;
        if verdict.reason == Reason::Allowed {
            let rule = verdict.rule.and_then(|rule| policy.rules.get(rule));
            let (file, line, ..) = compiled.sources.place(rule.map_or(never.span, |rule| rule.span));
            return Ok(Outcome::Broken(vec![compiled.show(&call)], Some(format!("{file}:{line}"))));
        }
    }
    let (subject, object, method) = place;
    let in_doubt = policy.rules.iter().filter(|rule| {
        let mut bodies = rule.bodies_for(subject, object, method, Event::Request);
        bodies.any(|body| extent(policy, body, Event::Request).is_ok_and(|extent| !extent.is_exact))
    });
    let places: Vec<String> = in_doubt
        .map(|rule| compiled.sources.place(rule.span))
        .map(|(file, line, ..)| format!("{file}:{line}"))
        .collect();
    let example = regions::example(&perhaps, fields).map(|values| compiled.show(&compiled.request(place, &values)));
    Ok(Outcome::Undecided(format!(
        "it hangs on what is remembered or computed at {}; bound the arguments there by a range, so that for example {} is out",
        places.join(", "),
        example.unwrap_or_default()
    )))
}
