//! `bulkhead report`: one HTML page for a reviewer or an auditor, without scripts and without the network: who may call what
//! and how far, what of the machine is given away, what is remembered, what is proved and tested, and which requirements of IEC 62443-3-3 and
//! NIST SP 800-53 each part answers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use bulkhead_lang::policy::{Group, Resource, Rule, State, StateKind};
use bulkhead_lang::show;
use bulkhead_lang::tree::{Decision, Event};
use bulkhead_lang::{Compiled, danger};
use serde_json::json;

use crate::picture;
use crate::prove::{self, Outcome};
use crate::site::{Site, say};
use crate::test::{self, Least, Part};

const STYLE: &str = "body{font:15px/1.45 sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #bbb;padding:.3em .6em;text-align:left;vertical-align:top}\
th{background:#f2f2f2}code{font:13px monospace}.yes{background:#d9f2d9}.some{background:#fdf3cf}.no{color:#999}.bad{background:#f7d0d0}\
small{color:#555}.graph svg{max-width:100%;height:auto}";

/// The verb.
pub(crate) fn run(site: &Site<'_>, output: &Path, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let (html, is_well) = page(&compiled)?;
    crate::write_whole(output, html)?;
    if as_json {
        say(&compiled, json!({ "ok": is_well, "page": output.display().to_string() }));
    } else {
        let word = if is_well {
            "every test passes, every `never` is proved"
        } else {
            "tests fail, or a `never` is not proved: see the page"
        };
        println!("{}: {word}", output.display());
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn page(compiled: &Compiled) -> Result<(String, bool), String> {
    let policy = &compiled.policy;
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Policy {0}</title><style>{STYLE}</style><h1>Policy {0}</h1>\
         <p>Revision {4}; {1} rules; table of {2} bytes, SHA-256 <code>{3}</code>. What no rule names is refused and recorded.</p>",
        escaped(&policy.name),
        policy.rules.len(),
        compiled.table.len(),
        crate::digest(&compiled.table),
        policy.revision,
    );
    matrix(compiled, &mut html);
    drawn(compiled, &mut html);
    roles(compiled, &mut html);
    labels(compiled, &mut html);
    machine(compiled, &mut html);
    dangers(compiled, &mut html);
    conditions(compiled, &mut html);
    quiet(compiled, &mut html);
    memory(compiled, &mut html);
    let (nevers, are_proved) = nevers(compiled)?;
    let (tests, do_pass) = tests(compiled)?;
    html.push_str(&nevers);
    html.push_str(&tests);
    html.push_str(REQUIREMENTS);
    html.push_str("</html>\n");
    Ok((html, are_proved && do_pass))
}

/// Callers by methods.
fn matrix(compiled: &Compiled, html: &mut String) {
    let policy = &compiled.policy;
    html.push_str(
        "<h2>Who may call what</h2><p>IEC 62443-3-3 SR 2.1, SR 5.2; NIST SP 800-53 AC-4, SC-7. \
         <span class=yes>always</span>, <span class=some>under a condition</span>, <span class=no>never</span>.</p><table><tr><th>method</th>",
    );
    policy.subjects.iter().for_each(|subject| {
        let _ = write!(html, "<th>{}</th>", escaped(subject));
    });
    html.push_str("</tr>");
    for (number, object) in (0_u16..).zip(&policy.objects) {
        for (method_number, method) in (0_u16..).zip(&object.methods) {
            let cell = |subject: u16| {
                let allows = || {
                    let rules = policy.rules.iter().filter(|rule| rule.decision == Decision::Allow);
                    rules.flat_map(move |rule| rule.bodies_for(subject, number, method_number, Event::Request))
                };
                let denies = policy.rules.iter().filter(|rule| rule.decision == Decision::Deny);
                let is_denied = denies
                    .flat_map(|rule| rule.bodies_for(subject, number, method_number, Event::Request))
                    .next()
                    .is_some();
                let is_free = allows().any(|body| body.condition.is_none() && body.rates.is_empty());
                match (allows().next().is_some(), is_free && !is_denied) {
                    (false, _) => "<td class=no>&ndash;</td>",
                    (true, true) => "<td class=yes>always</td>",
                    (true, false) => "<td class=some>condition</td>",
                }
            };
            let cells: Vec<&str> = (0_u16..).zip(&policy.subjects).map(|(subject, _)| cell(subject)).collect();
            if cells.iter().any(|cell| !cell.contains("class=no")) {
                let _ = write!(
                    html,
                    "<tr><td><code>{}.{}</code></td>{}</tr>",
                    escaped(&object.name),
                    escaped(&method.name),
                    cells.concat()
                );
            }
        }
    }
    html.push_str("</table>");
}

/// The same as a graph, and the flows' steps.
fn drawn(compiled: &Compiled, html: &mut String) {
    html.push_str("<h2>Graph</h2><p>Dashed: under a condition (?), which stands with its rule below. A flow begins in the state with corners; dotted steps come by themselves.</p>");
    html.push_str("<div class=graph>");
    html.push_str(&picture::svg(&compiled.policy));
    html.push_str("</div>");
}

/// What is given away that can undo the wall, with the reason that the file gives.
fn dangers(compiled: &Compiled, html: &mut String) {
    html.push_str("<h2>Dangerous grants</h2><p>IEC 62443-3-3 SR 7.7; NIST SP 800-53 CM-7. What can undo the wall compiles only with a reason, and is a record of the audit trail at each start.</p>");
    let granted = danger::grants(&compiled.policy);
    if granted.is_empty() {
        html.push_str("<p>There are none.</p>");
        return;
    }
    html.push_str("<table><tr><th>where</th><th>what is given</th><th>why that is safe</th></tr>");
    for (span, what) in granted {
        let why = danger::accepted(&compiled.sources, span, danger::ID).unwrap_or_default();
        let (file, line, ..) = compiled.sources.place(span);
        let _ = write!(
            html,
            "<tr><td>{}:{line}</td><td class=some>{}</td><td>{}</td></tr>",
            escaped(file),
            escaped(&what),
            escaped(why)
        );
    }
    html.push_str("</table>");
}

/// Refusals that leave no record at times. What no rule allows, and what is malformed, always leaves one.
fn quiet(compiled: &Compiled, html: &mut String) {
    html.push_str("<h2>Quiet refusals</h2><p>What no rule allows, what is malformed and what fails is always recorded. Rules that deny are, but for:</p><table><tr><th>where</th><th>rule</th><th>recorded</th></tr>");
    let mut is_any = false;
    for rule in compiled.policy.rules.iter().filter(|rule| rule.decision == Decision::Deny) {
        let recordings = rule.bodies.iter().filter_map(|body| body.recording.as_ref());
        let Some(recording) = recordings.into_iter().find(|recording| recording.holds().is_some()) else { continue };
        is_any = true;
        let (file, line, ..) = compiled.sources.place(rule.span);
        let condition = recording.condition.as_ref().map(|condition| show::text(&compiled.policy, &[], condition));
        let sample = recording.sample.as_ref().map(|(_, many)| format!("one in {many}"));
        let words: Vec<String> = sample.into_iter().chain(condition.map(|text| format!("while {text}"))).collect();
        let _ = write!(
            html,
            "<tr><td>{}:{line}</td><td><code>{}</code></td><td class=some>{}</td></tr>",
            escaped(file),
            escaped(compiled.sources.text(rule.span)),
            escaped(&words.join(", "))
        );
    }
    html.push_str(if is_any {
        "</table>"
    } else {
        "<tr><td colspan=3>None: every refusal is recorded.</td></tr></table>"
    });
}

/// Who and what rules name together, and while which condition.
fn roles(compiled: &Compiled, html: &mut String) {
    if compiled.policy.groups.is_empty() {
        return;
    }
    html.push_str("<h2>Roles and attributes</h2><table><tr><th>group</th><th>members</th><th>as written</th></tr>");
    for Group { name, members, span, .. } in &compiled.policy.groups {
        let members: Vec<&str> = members.iter().map(|member| member.text.as_str()).collect();
        let (name, members, text) =
            (escaped(name), escaped(&members.join(", ")), escaped(compiled.sources.text(*span)));
        let _ = write!(html, "<tr><td>{name}</td><td>{members}</td><td><code>{text}</code></td></tr>");
    }
    html.push_str("</table>");
}

/// Who and what has which label of a lattice.
fn labels(compiled: &Compiled, html: &mut String) {
    let policy = &compiled.policy;
    for lattice in &policy.lattices {
        let _ = write!(
            html,
            "<h2>Lattice {}</h2><p>Levels, the lowest first: {}. Nothing flows upwards: a subject reads what is as high as itself or \
             higher, and writes what is as high or lower.</p><table><tr><th>who or what</th><th>label</th><th>rises to</th></tr>",
            escaped(&lattice.name),
            escaped(&lattice.levels.join(", "))
        );
        let subjects = (0_u16..).zip(&policy.subjects).map(|(at, name)| (name.clone(), Some(lattice.subject(at))));
        let objects = (0_u16..).zip(&policy.objects);
        let objects =
            objects.map(|(at, object)| (format!("{} (object)", object.name), lattice.object(at, object.server)));
        for (name, labelled) in subjects.chain(objects) {
            let Some(labelled) = labelled else { continue };
            let risen = labelled.rise.as_ref().map_or("&ndash;".to_string(), |(label, condition)| {
                let condition = show::text(policy, &[], condition);
                escaped(&format!("{} when {condition}", lattice.show(*label)))
            });
            let (name, label) = (escaped(&name), escaped(&lattice.show(labelled.label)));
            let _ = write!(html, "<tr><td>{name}</td><td>{label}</td><td>{risen}</td></tr>");
        }
        html.push_str("</table>");
    }
}

/// What of the machine is given away for good.
fn machine(compiled: &Compiled, html: &mut String) {
    let policy = &compiled.policy;
    html.push_str("<h2>The machine</h2><p>IEC 62443-3-3 SR 7.7; NIST SP 800-53 CM-7. Given for good: no rule is asked again.</p><table><tr><th>who</th><th>what</th><th>addresses, ports, registers</th><th>interrupt</th></tr>");
    let guests = policy.resources.iter().map(|resource| ("guest", resource));
    let apps = policy
        .driven
        .iter()
        .map(|(subject, resource)| (policy.subjects.get(usize::from(*subject)).map_or("?", String::as_str), resource));
    for (who, resource) in guests.chain(apps) {
        let Resource { name, interrupt, .. } = resource;
        let interrupt = interrupt.map_or("&ndash;".to_string(), |intid| intid.to_string());
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td><code>{resource}</code></td><td>{interrupt}</td></tr>",
            escaped(who),
            escaped(name)
        );
    }
    html.push_str("</table>");
    for channel in &policy.channels {
        let text = escaped(compiled.sources.text(channel.span));
        let _ =
            write!(html, "<p>One way: <code>{text}</code>. No values, no errors, no calls and no state come back.</p>");
    }
    for required in &policy.requirements {
        let (file, line, ..) = compiled.sources.place(required.span);
        let (what, file) = (escaped(&required.show()), escaped(file));
        let _ = write!(html, "<p>Boots only on a machine with <code>{what}</code> ({file}:{line}).</p>");
    }
}

/// Every rule as it is written, with what people are told.
fn conditions(compiled: &Compiled, html: &mut String) {
    html.push_str("<h2>The rules</h2><table><tr><th>where</th><th>rule</th><th>recorded</th><th>reason</th></tr>");
    for rule in &compiled.policy.rules {
        let Rule { decision, because, span, .. } = rule;
        let (file, line, ..) = compiled.sources.place(*span);
        let recorded = match decision {
            _ if rule
                .bodies
                .iter()
                .any(|body| body.recording.as_ref().is_some_and(|recording| recording.holds().is_some())) =>
            {
                "as its profile says"
            }
            Decision::Allow | Decision::Observe if rule.is_recorded() => "always",
            Decision::Allow => "refusals",
            Decision::Observe => "never",
            Decision::Deny => "when it refuses",
        };
        let text = compiled.sources.text(*span);
        let because = escaped(because.as_ref().map_or("", |reason| &reason.written));
        let _ = write!(
            html,
            "<tr><td>{}:{line}</td><td><code>{}</code></td><td>{recorded}</td><td>{because}</td></tr>",
            escaped(file),
            escaped(text)
        );
    }
    html.push_str("</table>");
}

fn memory(compiled: &Compiled, html: &mut String) {
    let states = &compiled.policy.states;
    if states.is_empty() {
        return;
    }
    html.push_str("<h2>What is remembered</h2><table><tr><th>object</th><th>kind</th><th>one for each</th></tr>");
    for State { name, keys, kind, .. } in states {
        let kind = match kind {
            StateKind::Counter { range, .. } => format!("counter {}..{}", range.0, range.1),
            StateKind::Flow { states, .. } => {
                let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
                format!("flow: {}", names.join(", "))
            }
            StateKind::Timer => "timer".to_string(),
            StateKind::Rate { many, period, burst: 0 } => format!("at most {many} per {} s", period / 1_000_000),
            StateKind::Rate { many, period, burst } => format!("{many} per {} s, {burst} at once", period / 1_000_000),
            StateKind::Set(most) => format!("set of at most {most}"),
            StateKind::Map(most) => format!("map of at most {most}"),
        };
        let keys: Vec<String> = keys
            .iter()
            .map(|key| match key.name.as_str() {
                "caller" => "caller".to_string(),
                name => format!("{name} {}..{}", key.values.0, key.values.1),
            })
            .collect();
        let name = if name.contains('#') { "(a rule's own)" } else { name };
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            escaped(&kind),
            escaped(&keys.join(", "))
        );
    }
    html.push_str("</table>");
}

fn nevers(compiled: &Compiled) -> Result<(String, bool), String> {
    let mut html =
        String::from("<h2>What can never happen</h2><table><tr><th>where</th><th>never</th><th>outcome</th></tr>");
    let mut are_proved = true;
    for never in &compiled.policy.nevers {
        let (file, line, ..) = compiled.sources.place(never.span);
        let (class, outcome) = match prove::outcome(compiled, never)? {
            Outcome::Proved => ("yes", "proved".to_string()),
            Outcome::Broken(way, rule) => ("bad", format!("broken: {}", prove::told(&way, rule.as_deref()))),
            Outcome::Undecided(why) => ("bad", format!("undecided: {why}")),
        };
        are_proved &= class == "yes";
        let text = escaped(compiled.sources.text(never.span));
        let _ = write!(
            html,
            "<tr><td>{}:{line}</td><td><code>{text}</code></td><td class={class}>{}</td></tr>",
            escaped(file),
            escaped(&outcome)
        );
    }
    html.push_str("</table>");
    Ok((html, are_proved))
}

fn tests(compiled: &Compiled) -> Result<(String, bool), String> {
    let mut html = String::from("<h2>Tests</h2><table><tr><th>what it shows</th><th>outcome</th></tr>");
    let mut reached = test::Reached::default();
    let mut do_pass = true;
    for case in &compiled.policy.tests {
        let outcome = test::one(compiled, case, &mut reached)?;
        let (class, word) = match outcome.failure {
            None => ("yes", "passed".to_string()),
            Some((place, why)) => ("bad", format!("failed at {place}: {why}")),
        };
        do_pass &= class == "yes";
        let _ = write!(html, "<tr><td>{}</td><td class={class}>{}</td></tr>", escaped(&case.name), escaped(&word));
    }
    html.push_str("</table><p>Reached by them:</p><table><tr><th>part</th><th>reached</th><th>not reached</th></tr>");
    for Part { what, all, missed, .. } in test::parts(compiled, &reached, Least::NOTHING) {
        let reached = all.saturating_sub(missed.len());
        let missed: Vec<String> = missed.iter().map(|line| escaped(line)).collect();
        let _ = write!(html, "<tr><td>{what}</td><td>{reached} of {all}</td><td>{}</td></tr>", missed.join("<br>"));
    }
    html.push_str("</table>");
    Ok((html, do_pass))
}

const REQUIREMENTS: &str = "<h2>Requirements</h2><table><tr><th>requirement</th><th>answered by</th></tr>\
<tr><td>IEC 62443-3-3 SR 7.7 least functionality; NIST SP 800-53 CM-7</td><td>default deny; the two tables above are all that the guest can use</td></tr>\
<tr><td>IEC 62443-3-3 SR 2.1 authorization enforcement; NIST SP 800-53 AC-4</td><td>one monitor below both kernels judges every call before its effect</td></tr>\
<tr><td>IEC 62443-3-3 SR 5.2 zone boundary protection; NIST SP 800-53 SC-7</td><td>the gate is the only crossing between guest and secure side</td></tr>\
</table><p><small>Made by bulkhead report; the same policy gives the same page.</small></p>";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
