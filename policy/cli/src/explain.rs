//! What the policy says about one call: decided by the monitor itself on the compiled table, and told with the rule's text.

use std::process::ExitCode;

use bulkhead_lang::Compiled;
use bulkhead_lang::interpret::Verdict;
use bulkhead_lang::policy::{Call, Field};
use bulkhead_lang::tree::Decision;
use bulkhead_model::Reason;
use serde_json::json;

use crate::pair::Pair;
use crate::site::{Site, say};
use crate::test::message;

/// The verb.
pub(crate) fn explain(site: &Site<'_>, call: &str, as_json: bool) -> Result<ExitCode, String> {
    let compiled = match site.open(as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let asked = compiled.call(call)?;
    let message = message(&asked);
    let mut pair = Pair::new(&compiled)?;
    let failure = pair.failure(&message);
    let near = nearest(&compiled, &pair, &asked);
    let verdict = pair.decide(&message)?;
    let failure = failure.filter(|_| verdict.reason == Reason::Failed);
    let told = pair.told(&message, &verdict);
    tell(&compiled, &asked, (&verdict, failure, told), &near, as_json);
    Ok(if verdict.reason == Reason::Allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn tell(
    compiled: &Compiled,
    asked: &Call,
    (verdict, failure, told): (&Verdict, Option<String>, Option<String>),
    near: &[Near],
    as_json: bool,
) {
    let &Call { subject, object, method: number, event, .. } = asked;
    let fields = compiled.policy.fields(object, number, event);
    let describe = |rule: &bulkhead_lang::policy::Rule| {
        let (file, line, _, text) = compiled.sources.place(rule.span);
        (format!("{file}:{line}"), text.trim().to_string())
    };
    let rules = &compiled.policy.rules;
    let deciding = verdict.rule.and_then(|rule| rules.get(rule));
    let word = if verdict.reason == Reason::Allowed { "allowed" } else { "refused" };
    let against = verdict.against.iter().filter_map(|(reason, rule)| Some((*reason, describe(rules.get(*rule)?))));
    let against: Vec<(Reason, (String, String))> = against.collect();
    if as_json {
        let rule = deciding.map(describe);
        say(
            compiled,
            json!({
                "verdict": word, "reason": verdict.reason.word(), "rule": rule.as_ref().map(|rule| &rule.0),
                "name": deciding.and_then(|rule| rule.name.clone()),
                "text": rule.as_ref().map(|rule| &rule.1), "because": told,
                "failure": failure, "audit": verdict.audit,
                "against": against.iter().map(|(reason, (place, _))| json!({ "rule": place, "reason": reason.word() })).collect::<Vec<_>>(),
                "nearest": near.iter().map(|near| json!({ "rule": near.place, "wanted": near.wanted })).collect::<Vec<_>>(),
            }),
        );
        return;
    }
    println!("{word}: {}", compiled.show(asked));
    match deciding {
        Some(rule) => {
            let (place, text) = describe(rule);
            let name = rule.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            println!("  by {place}{name}: {text}");
            if let Some(because) = told {
                let to_caller = rule.because.as_ref().is_some_and(|reason| reason.to_caller);
                println!("  because {because}{}", if to_caller { " (the caller is told)" } else { "" });
            }
        }
        None => println!("  {}", verdict.reason.word()),
    }
    println!("  {}", if verdict.audit { "recorded" } else { "not recorded" });
    if let Some(failure) = failure {
        println!("  an expression failed: {failure}");
    }
    for (reason, (place, text)) in
        against.iter().filter(|(_, (place, _))| deciding.is_none_or(|rule| describe(rule).0 != *place))
    {
        println!("  also against it ({}): {place}: {text}", reason.word());
    }
    if verdict.reason == Reason::Malformed {
        let fields: Vec<String> = fields.iter().map(signature).collect();
        println!("  it takes ({})", fields.join(", "));
    } else if deciding.is_none() && near.is_empty() {
        let name = compiled.policy.subjects.get(usize::from(subject)).map_or("it", String::as_str);
        println!("  no rule allows this method to {name}");
    } else if deciding.is_none() {
        println!("  the nearest rules, and what they wanted:");
        for Near { place, text, wanted } in near.iter().take(5) {
            println!("    {place}: {text}");
            wanted.iter().for_each(|wanted| println!("      wanted {wanted}"));
        }
    }
}

/// A rule that might have allowed the call.
struct Near {
    place: String,
    text: String,
    /// Its first condition that does not hold, and what the call brings.
    wanted: Option<String>,
}

/// The rules that allow the method under some condition, those first of which most holds.
fn nearest(compiled: &Compiled, pair: &Pair<'_>, asked: &Call) -> Vec<Near> {
    let &Call { subject, object, method, event, .. } = asked;
    let mut all = Vec::new();
    for rule in compiled.policy.rules.iter().filter(|rule| rule.decision == Decision::Allow) {
        let bodies = rule.bodies_for(subject, object, method, event);
        let wants = bodies.map(|body| pair.wanted(&message(asked), body));
        let Some(best) = wants.max_by_key(|wanted| wanted.as_ref().map(|(held, _)| *held)) else { continue };
        let (file, line, _, text) = compiled.sources.place(rule.span);
        let (held, wanted) = best.map_or((0, None), |(held, wanted)| (held, Some(wanted)));
        all.push((held, Near { place: format!("{file}:{line}"), text: text.trim().to_string(), wanted }));
    }
    all.sort_by_key(|(held, _)| std::cmp::Reverse(*held));
    all.into_iter().map(|(_, near)| near).collect()
}

fn signature(field: &Field) -> String {
    format!("{} in {}..{}", field.name, field.kind.show(field.range.0), field.kind.show(field.range.1))
}
