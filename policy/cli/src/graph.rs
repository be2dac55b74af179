//! `bulkhead graph`: who may call what, and the steps of the flows, as a graph in DOT or SVG.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use bulkhead_lang::policy::{Policy, StateKind};
use bulkhead_lang::tree::{Decision, Event};
use serde_json::json;

use crate::picture;
use crate::site::{Site, say};

/// The verb.
pub(crate) fn run(site: &Site<'_>, as_svg: bool, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let (kind, text) = if as_svg { ("svg", picture::file(&compiled.policy)) } else { ("dot", dot(&compiled.policy)) };
    if as_json {
        say(&compiled, json!({ kind: text }));
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What one subject may call of one object.
pub(crate) struct Calls<'p> {
    pub(crate) subject: &'p str,
    pub(crate) object: &'p str,
    /// The methods; with `?` where a condition is asked.
    pub(crate) methods: Vec<String>,
    /// None of them asks a condition.
    pub(crate) is_free: bool,
}

/// For each subject and object that rules join, by subject.
pub(crate) fn calls(policy: &Policy) -> Vec<Calls<'_>> {
    let mut all: BTreeMap<(u16, u16), BTreeMap<u16, bool>> = BTreeMap::new();
    for rule in policy.rules.iter().filter(|rule| rule.decision == Decision::Allow && rule.event == Event::Request) {
        for (subject, body) in
            rule.subjects.iter().flat_map(|&subject| rule.bodies.iter().map(move |body| (subject, body)))
        {
            let is_free = body.condition.is_none() && body.rates.is_empty();
            *all.entry((subject, body.object)).or_default().entry(body.method).or_default() |= is_free;
        }
    }
    let calls = all.into_iter().filter_map(|((subject, object), methods)| {
        let object = policy.objects.get(usize::from(object))?;
        let shown = methods.iter().filter_map(|(method, is_free)| {
            let name = &object.methods.get(usize::from(*method))?.name;
            Some(if *is_free { name.clone() } else { format!("{name} ?") })
        });
        Some(Calls {
            subject: policy.subjects.get(usize::from(subject))?,
            object: &object.name,
            methods: shown.collect(),
            is_free: methods.values().all(|is_free| *is_free),
        })
    });
    calls.collect()
}

/// A flow: its states by name, and its steps: from, to, and after how many seconds by itself.
pub(crate) struct Chart<'p> {
    pub(crate) name: &'p str,
    pub(crate) states: Vec<&'p str>,
    pub(crate) steps: Vec<(usize, usize, Option<u64>)>,
}

/// Of each flow.
pub(crate) fn charts(policy: &Policy) -> impl Iterator<Item = Chart<'_>> {
    policy.states.iter().filter_map(|state| {
        let StateKind::Flow { states, .. } = &state.kind else { return None };
        let steps = states.iter().enumerate().flat_map(|(at, from)| {
            let by_rules = from.successors.iter().map(move |next| (at, usize::from(*next), None));
            let by_itself = from.lasts.map(|(time, next)| (at, usize::from(next), Some(time / 1_000_000)));
            by_rules.chain(by_itself)
        });
        let names = states.iter().map(|state| state.name.as_str());
        Some(Chart { name: &state.name, states: names.collect(), steps: steps.collect() })
    })
}

/// For Graphviz.
fn dot(policy: &Policy) -> String {
    let mut dot = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n", policy.name);
    for Calls { subject, object, methods, is_free } in calls(policy) {
        let (label, style) = (methods.join("\\n"), if is_free { "solid" } else { "dashed" });
        let _ = writeln!(dot, "  \"{subject}\" [shape=box];");
        let _ = writeln!(dot, "  \"{object}.\" [label=\"{object}\", shape=ellipse];");
        let _ = writeln!(dot, "  \"{subject}\" -> \"{object}.\" [label=\"{label}\", style={style}];");
    }
    for (number, Chart { name, states, steps }) in charts(policy).enumerate() {
        let _ = writeln!(dot, "  subgraph cluster_{number} {{\n    label=\"flow {name}\";");
        for (at, state) in states.iter().enumerate() {
            let shape = if at == 0 { "doublecircle" } else { "circle" };
            let _ = writeln!(dot, "    \"{name}/{state}\" [label=\"{state}\", shape={shape}];");
        }
        for (from, next, after) in steps {
            let style = after.map_or(String::new(), |seconds| format!(" [label=\"after {seconds} s\", style=dotted]"));
            let state = |at: usize| states.get(at).copied().unwrap_or("?");
            let _ = writeln!(dot, "    \"{name}/{}\" -> \"{name}/{}\"{style};", state(from), state(next));
        }
        dot.push_str("  }\n");
    }
    dot.push_str("}\n");
    dot
}
