//! `bulkhead lint`: what is sound and yet probably not meant. A finding is accepted in the file, with a reason: a comment
//! `// accept L002: REASON` on the line above.

use std::process::ExitCode;

use bulkhead_lang::policy::{Effect, Expression, Field, Presence, Recording, Rule, StateKind};
use bulkhead_lang::regions::{Extent, Place, difference, extent, intersection, is_empty};
use bulkhead_lang::tree::{Decision, Event};
use bulkhead_lang::{Compiled, Span, danger};
use serde_json::json;

use crate::site::{Site, say};

/// A finding: its id, its place, what, the remedy.
struct Finding {
    id: &'static str,
    span: Span,
    what: String,
    remedy: &'static str,
}

/// The verb.
pub(crate) fn run(site: &Site<'_>, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let mut all = Vec::new();
    rules(&compiled, &mut all);
    flows(&compiled, &mut all);
    wide(&compiled, &mut all);
    // The compiler refuses the others.
    all.extend(danger::grants(&compiled.policy).into_iter().map(|(span, what)| Finding {
        id: danger::ID,
        span,
        what,
        remedy: "narrow it to what the guest needs, or accept it with the reason",
    }));
    let (accepted, open): (Vec<Finding>, Vec<Finding>) =
        all.into_iter().partition(|finding| danger::is_accepted(&compiled.sources, finding.span, finding.id));
    if as_json {
        let findings: Vec<_> = open
            .iter()
            .map(|finding| {
                let (file, line, ..) = compiled.sources.place(finding.span);
                json!({ "id": finding.id, "file": file, "line": line, "message": finding.what, "help": finding.remedy })
            })
            .collect();
        say(&compiled, json!({ "ok": open.is_empty(), "findings": findings, "accepted": accepted.len() }));
    } else {
        for finding in &open {
            let (file, line, _, text) = compiled.sources.place(finding.span);
            println!("{} {file}:{line}: {}\n  {}\n  help: {}", finding.id, finding.what, text.trim(), finding.remedy);
        }
        println!("{} findings, {} accepted", open.len(), accepted.len());
    }
    Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A number with more values than this is wide.
const WIDE: i128 = 0xffff;

/// Rules that grant nothing, grant what others grant, or deny what nobody grants.
fn rules(compiled: &Compiled, all: &mut Vec<Finding>) {
    let policy = &compiled.policy;
    for rule in policy.rules.iter().filter(|rule| rule.event == Event::Request) {
        let places = || {
            rule.subjects
                .iter()
                .flat_map(|&subject| rule.bodies.iter().map(move |body| (subject, body.object, body.method)))
        };
        let mut finding =
            |id, what: &str, remedy| all.push(Finding { id, span: rule.span, what: what.to_string(), remedy });
        if rule.bodies.is_empty() {
            continue;
        }
        if rule.decision == Decision::Allow {
            if places().all(|place| is_dead(compiled, rule, place) == Some(true)) {
                finding(
                    "L001",
                    "this rule grants nothing: what it allows is denied elsewhere",
                    "remove it, or narrow the denying rule",
                );
            } else if places().all(|place| is_repeated(compiled, rule, place) == Some(true)) {
                finding("L002", "other rules grant all that this one grants", "remove it");
            }
        } else if rule.decision == Decision::Deny && places().all(|place| is_idle(compiled, rule, place) == Some(true))
        {
            finding(
                "L003",
                "nothing that this rule denies is granted elsewhere",
                "remove it: what no rule allows is refused",
            );
        }
    }
}

/// Allowing rules of the guest that name no bound for a wide number.
fn wide(compiled: &Compiled, all: &mut Vec<Finding>) {
    let policy = &compiled.policy;
    for rule in policy.rules.iter().filter(|rule| rule.event == Event::Request && rule.decision == Decision::Allow) {
        let is_of_guest = rule.subjects.contains(&bulkhead_model::subject::GUEST);
        for body in rule.bodies.iter().filter(|_| is_of_guest) {
            let Some(object) = policy.objects.get(usize::from(body.object)) else { continue };
            let Some(method) = policy.method(body.object, body.method) else { continue };
            let is_device = policy.devices.iter().any(|device| device.object == body.object);
            if object.server.is_none() || is_device {
                continue;
            }
            let wide = method.arguments.iter().enumerate().find(|(at, field)| {
                let values = field.range.1 - field.range.0;
                let is_whole = field.range == field.kind.values && field.kind.words.is_empty() && field.head.is_none();
                let is_asked =
                    body.condition.as_ref().is_some_and(|condition| condition.has(|part| part.argument() == Some(*at)));
                is_whole && !is_asked && values > WIDE && matches!(field.presence, Presence::Always)
            });
            if let Some((_, field)) = wide {
                let what = format!(
                    "the guest may send any of {} values as `{}` of {}.{}",
                    field.range.1 - field.range.0 + 1,
                    field.name,
                    object.name,
                    method.name
                );
                let remedy = "say which: a range in the interface, or `when` in the rule";
                all.push(Finding { id: "L006", span: rule.span, what, remedy });
            }
        }
    }
}

/// The extents of the rules for a place, but one.
fn others<'a>(
    compiled: &'a Compiled,
    but: &'a Rule,
    (subject, object, method): Place,
) -> impl Iterator<Item = (&'a Rule, Extent)> {
    let policy = &compiled.policy;
    let rules = policy.rules.iter().filter(move |rule| !std::ptr::eq(*rule, but));
    rules.flat_map(move |rule| {
        let bodies = rule.bodies_for(subject, object, method, Event::Request);
        bodies.filter_map(move |body| Some((rule, extent(policy, body, Event::Request).ok()?)))
    })
}

fn own(compiled: &Compiled, rule: &Rule, (subject, object, method): Place) -> Option<Extent> {
    let body = rule.bodies_for(subject, object, method, Event::Request).next()?;
    extent(&compiled.policy, body, Event::Request).ok()
}

fn fields(compiled: &Compiled, (_, object, method): Place) -> &[Field] {
    compiled.policy.fields(object, method, Event::Request)
}

fn is_dead(compiled: &Compiled, rule: &Rule, place: Place) -> Option<bool> {
    let denied =
        others(compiled, rule, place).filter(|(rule, extent)| rule.decision == Decision::Deny && extent.is_exact);
    let denied = denied.flat_map(|(_, extent)| extent.region).collect();
    difference(&own(compiled, rule, place)?.region, &denied).ok().map(|rest| is_empty(&rest, fields(compiled, place)))
}

fn is_repeated(compiled: &Compiled, rule: &Rule, place: Place) -> Option<bool> {
    let mine = own(compiled, rule, place)?;
    let same = others(compiled, rule, place).filter(|(other, extent)| {
        other.decision == Decision::Allow && extent.is_exact && other.is_recorded() == rule.is_recorded()
    });
    let granted = same.flat_map(|(_, extent)| extent.region).collect();
    let is_covered = is_empty(&difference(&mine.region, &granted).ok()?, fields(compiled, place));
    Some(mine.is_exact && is_covered && rule.name.is_none() && rule.because.is_none())
}

fn is_idle(compiled: &Compiled, rule: &Rule, place: Place) -> Option<bool> {
    let granted = others(compiled, rule, place).filter(|(other, _)| other.decision == Decision::Allow);
    let granted = granted.flat_map(|(_, extent)| extent.region).collect();
    intersection(&own(compiled, rule, place)?.region, &granted)
        .ok()
        .map(|both| is_empty(&both, fields(compiled, place)))
}

/// Flows with states that nothing leads to, and objects that are remembered and never asked for.
fn flows(compiled: &Compiled, all: &mut Vec<Finding>) {
    let policy = &compiled.policy;
    let bodies = || policy.rules.iter().flat_map(|rule| &rule.bodies);
    for (number, state) in (0_u16..).zip(&policy.states) {
        if let StateKind::Flow { states, .. } = &state.kind {
            let entered = |at: u8| {
                let by_time = states.iter().any(|state| state.lasts.is_some_and(|(_, then)| then == at));
                let becomes = |effect: &Effect| matches!(effect, Effect::Become(place, next, _) if place.state == number && *next == at);
                at == 0 || by_time || bodies().any(|body| body.effects.iter().any(becomes))
            };
            let lost: Vec<&str> =
                (0_u8..).zip(states).filter(|(at, _)| !entered(*at)).map(|(_, state)| state.name.as_str()).collect();
            if !lost.is_empty() {
                let what = format!("no rule leads `{}` to {}", state.name, lost.join(", "));
                all.push(Finding {
                    id: "L004",
                    span: state.span,
                    what,
                    remedy: "add the rule with `then … becomes …`, or remove the state",
                });
            }
        }
        let asks =
            |condition: &Expression| condition.has(|part| part.place().is_some_and(|place| place.state == number));
        let is_asked = bodies().any(|body| {
            body.rates.iter().any(|rate| rate.state == number)
                || body.recording.as_ref().and_then(Recording::holds).is_some_and(|condition| asks(&condition))
                || body.condition.as_ref().is_some_and(asks)
                || body
                    .effects
                    .iter()
                    .any(|effect| matches!(effect, Effect::Become(place, ..) if place.state == number))
        });
        if !is_asked {
            let what = format!("`{}` is remembered, and no rule asks for it", state.name);
            all.push(Finding { id: "L005", span: state.span, what, remedy: "use it in a condition, or remove it" });
        }
    }
}
