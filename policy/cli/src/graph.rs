//! `bulkhead graph`: who may call what, and the steps of the flows, as a DOT graph.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use bulkhead_lang::policy::StateKind;
use bulkhead_lang::tree::{Decision, Event};
use serde_json::json;

use crate::site::{Site, say};

/// The verb.
pub(crate) fn run(site: &Site<'_>, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let policy = &compiled.policy;
    // For each subject and object: the methods, and whether each is allowed without a condition.
    let mut edges: BTreeMap<(u16, u16), BTreeMap<u16, bool>> = BTreeMap::new();
    for rule in policy.rules.iter().filter(|rule| rule.decision == Decision::Allow && rule.event == Event::Request) {
        for (subject, body) in
            rule.subjects.iter().flat_map(|&subject| rule.bodies.iter().map(move |body| (subject, body)))
        {
            let is_free = body.condition.is_none() && body.rates.is_empty();
            *edges.entry((subject, body.object)).or_default().entry(body.method).or_default() |= is_free;
        }
    }
    let subject = |number: u16| policy.subjects.get(usize::from(number)).map_or("?", String::as_str);
    let object = |number: u16| policy.objects.get(usize::from(number));
    let mut dot = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n", policy.name);
    for ((who, what), methods) in &edges {
        let Some(what) = object(*what) else { continue };
        let label = methods.iter().filter_map(|(method, is_free)| {
            let name = &what.methods.get(usize::from(*method))?.name;
            Some(if *is_free { name.clone() } else { format!("{name} ?") })
        });
        let label = label.collect::<Vec<_>>().join("\\n");
        let style = if methods.values().all(|is_free| *is_free) { "solid" } else { "dashed" };
        let _ = writeln!(dot, "  \"{}\" [shape=box];", subject(*who));
        let _ = writeln!(dot, "  \"{0}.\" [label=\"{0}\", shape=ellipse];", what.name);
        let _ = writeln!(dot, "  \"{}\" -> \"{}.\" [label=\"{label}\", style={style}];", subject(*who), what.name);
    }
    for (number, state) in policy.states.iter().enumerate() {
        let StateKind::Flow { states, .. } = &state.kind else { continue };
        let _ = writeln!(dot, "  subgraph cluster_{number} {{\n    label=\"flow {}\";", state.name);
        for (at, from) in states.iter().enumerate() {
            let shape = if at == 0 { "doublecircle" } else { "circle" };
            let _ = writeln!(dot, "    \"{}/{}\" [label=\"{}\", shape={shape}];", state.name, from.name, from.name);
            let steps = from.successors.iter().map(|next| (*next, String::new()));
            let over = from
                .lasts
                .map(|(time, next)| (next, format!(" [label=\"after {} s\", style=dotted]", time / 1_000_000)));
            for (next, style) in steps.chain(over) {
                let Some(next) = states.get(usize::from(next)) else { continue };
                let _ = writeln!(dot, "    \"{0}/{1}\" -> \"{0}/{2}\"{style};", state.name, from.name, next.name);
            }
        }
        dot.push_str("  }\n");
    }
    dot.push_str("}\n");
    if as_json {
        say(&compiled, json!({ "dot": dot }));
    } else {
        print!("{dot}");
    }
    Ok(ExitCode::SUCCESS)
}
