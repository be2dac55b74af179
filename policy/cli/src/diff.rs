//! `bulkhead diff`: what a change of a policy changes, by meaning, with a call for each difference that both monitors judged.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::process::ExitCode;

use bulkhead_lang::Compiled;
use bulkhead_lang::policy::{Labelled, Recording, Requirement, Rule};
use bulkhead_lang::regions::{self, Bounds, Place, bounds, difference, extent, places};
use bulkhead_lang::show;
use bulkhead_lang::tree::{Decision, Event};
use bulkhead_model::Reason;
use serde_json::json;

use crate::pair::Pair;
use crate::site::{Site, say};
use crate::test::message;

/// The differences, as lines for people.
#[derive(Default)]
struct Differences {
    /// Calls that only the new policy allows.
    newly: Vec<String>,
    /// Calls that only the old one allows.
    no_longer: Vec<String>,
    /// Rules that remember or compute, and differ: their calls may differ.
    perhaps: Vec<String>,
    /// What is recorded otherwise.
    recorded: Vec<String>,
}

/// The verb.
pub(crate) fn run(old: &Site<'_>, new: &Site<'_>, fail_on_new: bool, as_json: bool) -> Result<ExitCode, String> {
    let (old, new) = match (old.open(as_json)?, new.open(as_json)?) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return Ok(code),
    };
    let mut found = Differences::default();
    for names in names(&old).union(&names(&new)) {
        compare(&old, &new, names, &mut found)?;
    }
    given(&old, &new, &mut found);
    required(&old, &new, &mut found);
    mandatory(&old, &new, &mut found);
    remembered(&old, &new, &mut found);
    let is_new = !found.newly.is_empty() || !found.perhaps.is_empty();
    let Differences { newly, no_longer, perhaps, recorded } = found;
    let revisions = [old.policy.revision, new.policy.revision];
    if as_json {
        say(
            &new,
            json!({
                "revisions": revisions,
                "newly_allowed": newly, "no_longer_allowed": no_longer, "perhaps": perhaps, "recorded_otherwise": recorded,
            }),
        );
    } else {
        newly.iter().for_each(|line| println!("+ newly allowed: {line}"));
        no_longer.iter().for_each(|line| println!("- no longer allowed: {line}"));
        perhaps.iter().for_each(|line| println!("? perhaps: {line}"));
        recorded.iter().for_each(|line| println!("* recorded: {line}"));
        if newly.is_empty() && no_longer.is_empty() && perhaps.is_empty() && recorded.is_empty() {
            println!("the policies mean the same");
        }
        let [before, after] = revisions;
        if after < before {
            println!(
                "! revision {after} is older than {before}: a machine that remembers the last policy does not start with it"
            );
        }
    }
    Ok(if fail_on_new && is_new { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

type Names = (String, String, String);

/// Who may call what, by names: numbers differ between policies.
fn names(compiled: &Compiled) -> BTreeSet<Names> {
    let policy = &compiled.policy;
    let name = |(subject, object, method): Place| {
        let row = policy.objects.get(usize::from(object))?;
        let method = row.methods.get(usize::from(method))?;
        Some((policy.subjects.get(usize::from(subject))?.clone(), row.name.clone(), method.name.clone()))
    };
    places(policy).into_iter().filter_map(name).collect()
}

fn place(compiled: &Compiled, (subject, object, method): &Names) -> Option<Place> {
    let number = compiled.object(object)?;
    let methods = &compiled.policy.objects.get(usize::from(number))?.methods;
    let at = methods.iter().position(|known| known.name == *method)?;
    Some((compiled.subject(subject)?, number, u16::try_from(at).ok()?))
}

fn compare(old: &Compiled, new: &Compiled, names: &Names, found: &mut Differences) -> Result<(), String> {
    let told = format!("{} -> {}.{}", names.0, names.1, names.2);
    let (before, after) = (place(old, names), place(new, names));
    let fields = |compiled: &Compiled, place: Option<Place>| {
        place.map(|(_, object, method)| compiled.policy.fields(object, method, Event::Request).to_vec())
    };
    if before.is_some() && after.is_some() && fields(old, before) != fields(new, after) {
        found.perhaps.push(format!("{told}: its arguments are others"));
        return Ok(());
    }
    let limits = |compiled: &Compiled, place: Option<Place>| match place {
        Some(place) => bounds(&compiled.policy, place),
        None => Ok(Bounds::default()),
    };
    let (Ok(old_bounds), Ok(new_bounds)) = (limits(old, before), limits(new, after)) else {
        found.perhaps.push(format!("{told}: too many ranges to be compared"));
        return Ok(());
    };
    for (from, what, place, mine, other, list) in [
        (&new_bounds.surely, &old_bounds.perhaps, after, new, old, &mut found.newly),
        (&old_bounds.surely, &new_bounds.perhaps, before, old, new, &mut found.no_longer),
    ] {
        let only = difference(from, what).unwrap_or_default();
        let Some(place) = place else { continue };
        let fields = mine.policy.fields(place.1, place.2, Event::Request);
        let Some(values) = regions::example(&only, fields) else { continue };
        let call = mine.request(place, &values);
        let theirs = self::place(other, names).map(|place| other.request(place, &values));
        let is_allowed = |compiled: &Compiled, call: &bulkhead_lang::policy::Call| {
            Ok::<bool, String>(Pair::new(compiled)?.decide(&message(call))?.reason == Reason::Allowed)
        };
        let is_confirmed = is_allowed(mine, &call)? && !theirs.map_or(Ok(false), |call| is_allowed(other, &call))?;
        if is_confirmed {
            list.push(mine.show(&call));
        }
    }
    let records =
        |compiled: &Compiled, place: Option<Place>| place.map_or(BTreeSet::new(), |place| recordings(compiled, place));
    let (kept, keeps) = (records(old, before), records(new, after));
    found.recorded.extend(keeps.difference(&kept).map(|text| format!("{told}: now {text}")));
    found.recorded.extend(kept.difference(&keeps).map(|text| format!("{told}: no longer {text}")));
    let texts =
        |compiled: &Compiled, place: Option<Place>| place.map_or(BTreeSet::new(), |place| in_doubt(compiled, place));
    let (before, after) = (texts(old, before), texts(new, after));
    found.perhaps.extend(after.difference(&before).map(|text| format!("{told}: new: {text}")));
    found.perhaps.extend(before.difference(&after).map(|text| format!("{told}: gone: {text}")));
    Ok(())
}

/// What is recorded of the requests to a method beyond what always is.
fn recordings(compiled: &Compiled, (subject, object, method): Place) -> BTreeSet<String> {
    let policy = &compiled.policy;
    let fields = policy.fields(object, method, Event::Request);
    let of_rule = |rule: &Rule| {
        let word = if rule.decision == Decision::Deny { "denied" } else { "allowed" };
        let bodies = rule.bodies_for(subject, object, method, Event::Request);
        let is_plain = |recording: &Recording| rule.decision == Decision::Deny && *recording == Recording::default();
        let all = bodies.filter_map(|body| body.recording.as_ref()).filter(|recording| !is_plain(recording));
        let told = all.map(|Recording { condition, sample, left_out }| {
            let sample = sample.as_ref().map_or(String::new(), |(_, many)| format!("1 in {many} "));
            let when =
                condition.as_ref().map_or(String::new(), |when| format!(" when {}", show::text(policy, &[], when)));
            let without = fields.iter().enumerate().filter(|(at, _)| left_out >> at & 1 == 1);
            let without: Vec<String> = without.map(|(_, field)| field.label()).collect();
            let without = if without.is_empty() { String::new() } else { format!(", without {}", without.join(", ")) };
            format!("{sample}{word}{when}{without}")
        });
        told.collect::<Vec<_>>()
    };
    policy.rules.iter().flat_map(of_rule).collect()
}

/// The rules of a method that remember or compute, as text with single spaces; with what their conditions mean, where names in
/// the text stand for something that is written elsewhere: a role, a set.
fn in_doubt(compiled: &Compiled, (subject, object, method): Place) -> BTreeSet<String> {
    let policy = &compiled.policy;
    let rules = policy.rules.iter().filter(|rule| {
        let mut bodies = rule.bodies_for(subject, object, method, Event::Request);
        bodies.any(|body| extent(policy, body, Event::Request).map_or(true, |extent| !extent.is_exact))
    });
    let fields = policy.fields(object, method, Event::Request);
    let told = |rule: &Rule| {
        let text = compiled.sources.text(rule.span).split_whitespace().collect::<Vec<_>>().join(" ");
        let conditions =
            rule.bodies_for(subject, object, method, Event::Request).filter_map(|body| body.condition.as_ref());
        let meant: Vec<String> = conditions.map(|condition| show::text(policy, fields, condition)).collect();
        let meant = meant.join(" or ");
        if text.contains(&meant) { text } else { format!("{text} (meant: {meant})") }
    };
    rules.map(told).collect()
}

/// Resources that have another owner.
fn given(old: &Compiled, new: &Compiled, found: &mut Differences) {
    let all = |compiled: &Compiled| {
        let policy = &compiled.policy;
        let guests = policy.resources.iter().map(|resource| ("guest".to_string(), resource.clone()));
        let apps = policy.driven.iter().map(|(subject, resource)| {
            (policy.subjects.get(usize::from(*subject)).cloned().unwrap_or_default(), resource.clone())
        });
        let all = guests.chain(apps).map(|(who, what)| {
            let interrupt = what.interrupt.map_or(String::new(), |intid| format!(", interrupt {intid}"));
            format!("{who} uses {}: {what}{interrupt}", what.name)
        });
        all.collect::<BTreeSet<_>>()
    };
    let (before, after) = (all(old), all(new));
    found.newly.extend(after.difference(&before).cloned());
    found.no_longer.extend(before.difference(&after).cloned());
}

/// Machines that only one of them boots on.
fn required(old: &Compiled, new: &Compiled, found: &mut Differences) {
    let least = |compiled: &Compiled, fact: &str| {
        let of_fact = compiled.policy.requirements.iter().filter(|required| required.fact == fact);
        of_fact.max_by_key(|required| required.least).cloned()
    };
    for fact in bulkhead_lang::require::FACTS {
        let (before, after) = (least(old, fact.name), least(new, fact.name));
        let many = |required: &Option<Requirement>| required.as_ref().map_or(0, |required| required.least);
        match many(&before).cmp(&many(&after)) {
            Ordering::Greater => found.newly.extend(before.map(|was| format!("machines without {}", was.show()))),
            Ordering::Less => found.no_longer.extend(after.map(|is| format!("machines without {}", is.show()))),
            Ordering::Equal => {}
        }
    }
}

/// Channels and labels that are others: rules that are written next are held against them.
fn mandatory(old: &Compiled, new: &Compiled, found: &mut Differences) {
    let all = |compiled: &Compiled| {
        let policy = &compiled.policy;
        let subjects = || (0_u16..).zip(&policy.subjects);
        let subject = |number: u16| policy.subjects.get(usize::from(number)).map_or("?", String::as_str);
        let mut lines = BTreeSet::new();
        for channel in &policy.channels {
            for (sender, (receiver, _)) in channel
                .senders
                .iter()
                .flat_map(|sender| channel.receivers.iter().map(move |receiver| (sender, receiver)))
            {
                let receiver = policy.objects.get(usize::from(*receiver)).map_or("?", |object| object.name.as_str());
                lines.insert(format!("one way from {} to {receiver}", subject(*sender)));
            }
        }
        for lattice in &policy.lattices {
            let said = |name: &str, labelled: &Labelled| {
                let rise = labelled.rise.as_ref().map_or(String::new(), |(label, condition)| {
                    format!(" rises to {} when {}", lattice.show(*label), show::text(policy, &[], condition))
                });
                format!("{}: {name} at {}{rise}", lattice.name, lattice.show(labelled.label))
            };
            lines.extend(subjects().map(|(number, name)| said(name, &lattice.subject(number))));
            let objects = (0_u16..).zip(&policy.objects);
            let labelled = objects.filter_map(|(number, object)| {
                let labelled = lattice.object(number, object.server)?;
                Some(said(&format!("{} (object)", object.name), &labelled))
            });
            lines.extend(labelled);
        }
        lines
    };
    let (before, after) = (all(old), all(new));
    found.perhaps.extend(after.difference(&before).map(|line| format!("new: {line}")));
    found.perhaps.extend(before.difference(&after).map(|line| format!("gone: {line}")));
}

/// What is remembered differently: rules that ask for it may decide otherwise.
fn remembered(old: &Compiled, new: &Compiled, found: &mut Differences) {
    for state in &new.policy.states {
        let before = old.policy.states.iter().find(|known| known.name == state.name);
        if before.is_some_and(|before| before.kind != state.kind || before.keys != state.keys) {
            found.perhaps.push(format!("{} is remembered differently", state.name));
        }
    }
}
