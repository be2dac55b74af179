//! What the policy says about one call: decided by the monitor itself on the compiled table, and told with the rule's text.

use std::path::Path;
use std::process::ExitCode;

use bulkhead_lang::interpret::{Message, Verdict};
use bulkhead_lang::policy::{Field, Method};
use bulkhead_lang::tree::Event;
use bulkhead_lang::{Compiled, nearest};
use bulkhead_model::{MAX_ARGS, Reason};
use serde_json::json;

use crate::pair::Pair;

/// A call as the user wrote it.
struct Asked<'a> {
    subject: &'a str,
    object: &'a str,
    method: &'a str,
    arguments: Vec<&'a str>,
}

/// The verb.
pub(crate) fn explain(site: &Path, call: &str, as_json: bool) -> Result<ExitCode, String> {
    let asked = parse(call)?;
    let compiled = match crate::open(site, as_json)? {
        Ok(compiled) => compiled,
        Err(code) => return Ok(code),
    };
    let names = &compiled.policy.subjects;
    let subject = compiled.subject(asked.subject).ok_or_else(|| unknown("subject", asked.subject, names))?;
    let objects: Vec<String> = compiled.policy.objects.iter().map(|object| object.name.clone()).collect();
    let object = compiled.object(asked.object).ok_or_else(|| unknown("object", asked.object, &objects))?;
    let methods = compiled.policy.objects.get(usize::from(object)).map(|object| object.methods.as_slice());
    let methods = methods.unwrap_or_default();
    let known: Vec<String> = methods.iter().map(|method| method.name.clone()).collect();
    let place = methods.iter().position(|method| method.name == asked.method);
    let place = place.ok_or_else(|| unknown("method", asked.method, &known))?;
    let method = u16::try_from(place).map_err(|_| "too many methods".to_string())?;
    let signature = methods.get(place).ok_or("no such method")?;
    let words = arguments(signature, &asked.arguments)?;
    let message = Message { subject, object, method, event: Event::Request, words: &words };
    let mut pair = Pair::new(&compiled)?;
    let failure = pair.failure(&message);
    let verdict = pair.decide(&message)?;
    let failure = failure.filter(|_| verdict.reason == Reason::Failed);
    tell(&compiled, &asked, signature, (subject, object, method), (&verdict, failure), as_json);
    Ok(if verdict.reason == Reason::Allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn unknown(what: &str, name: &str, known: &[String]) -> String {
    let near = nearest(name, known.iter().map(String::as_str));
    let help = near.map_or(format!("known: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
    format!("the policy has no {what} `{name}`; {help}")
}

fn parse(call: &str) -> Result<Asked<'_>, String> {
    let form = || format!("`{call}` is no call; write it as \"guest -> historian.append(120, 5)\"");
    let (subject, rest) = call.split_once("->").ok_or_else(form)?;
    let (target, rest) = rest.split_once('(').ok_or_else(form)?;
    let (object, method) = target.trim().split_once('.').ok_or_else(form)?;
    let arguments = rest.trim_end().strip_suffix(')').ok_or_else(form)?;
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    Ok(Asked { subject: subject.trim(), object, method, arguments })
}

/// The arguments as a call carries them. Values that no field could hold stay as they are: the monitor refuses them.
fn arguments(method: &Method, words: &[&str]) -> Result<Vec<u64>, String> {
    if words.len() > MAX_ARGS {
        return Err(format!("a call has at most {MAX_ARGS} arguments"));
    }
    let value = |(index, word): (usize, &&str)| match method.arguments.get(index) {
        Some(field) => number(field, word),
        None => word.parse().map_err(|_| format!("`{word}` is no number")),
    };
    words.iter().enumerate().map(value).collect()
}

fn number(field: &Field, word: &str) -> Result<u64, String> {
    if let Some(value) = field.kind.words.iter().position(|known| known == word) {
        return u64::try_from(value).map_err(|_| "too many words".to_string());
    }
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse::<u64>().ok().or_else(|| word.parse::<i64>().ok().map(i64::cast_unsigned)),
    };
    parsed.ok_or_else(|| {
        let known = if field.kind.words.is_empty() {
            String::new()
        } else {
            format!("; known: {}", field.kind.words.join(", "))
        };
        format!("`{word}` is no value of `{}`{known}", field.name)
    })
}

fn tell(
    compiled: &Compiled,
    asked: &Asked<'_>,
    method: &Method,
    (subject, object, number): (u16, u16, u16),
    (verdict, failure): (&Verdict, Option<String>),
    as_json: bool,
) {
    let describe = |rule: &bulkhead_lang::policy::Rule| {
        let (file, line, _, text) = compiled.sources.place(rule.span);
        (format!("{file}:{line}"), text.trim().to_string())
    };
    let rules = &compiled.policy.rules;
    let deciding = verdict.rule.and_then(|rule| rules.get(rule));
    let names =
        |rule: &&bulkhead_lang::policy::Rule| rule.bodies_for(subject, object, number, Event::Request).next().is_some();
    let others: Vec<(String, String)> = rules.iter().filter(names).map(describe).collect();
    let word = if verdict.reason == Reason::Allowed { "allowed" } else { "refused" };
    let against = verdict.against.iter().filter_map(|(reason, rule)| Some((*reason, describe(rules.get(*rule)?))));
    let against: Vec<(Reason, (String, String))> = against.collect();
    if as_json {
        let rule = deciding.map(describe);
        println!(
            "{}",
            json!({
                "verdict": word, "reason": verdict.reason.word(), "rule": rule.as_ref().map(|rule| &rule.0),
                "name": deciding.and_then(|rule| rule.name.clone()),
                "text": rule.as_ref().map(|rule| &rule.1), "because": deciding.and_then(|rule| rule.because.clone()),
                "failure": failure, "audit": verdict.audit,
                "against": against.iter().map(|(reason, (place, _))| json!({ "rule": place, "reason": reason.word() })).collect::<Vec<_>>(),
                "rules_for_this_method": others.iter().map(|(place, _)| place).collect::<Vec<_>>(),
            })
        );
        return;
    }
    println!("{word}: {} -> {}.{}({})", asked.subject, asked.object, asked.method, named(method, &asked.arguments));
    match deciding {
        Some(rule) => {
            let (place, text) = describe(rule);
            let name = rule.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            println!("  by {place}{name}: {text}");
            if let Some(because) = &rule.because {
                println!("  because {because}");
            }
        }
        None => println!("  {}", verdict.reason.word()),
    }
    if let Some(failure) = failure {
        println!("  an expression failed: {failure}");
    }
    for (reason, (place, text)) in
        against.iter().filter(|(_, (place, _))| deciding.is_none_or(|rule| describe(rule).0 != *place))
    {
        println!("  also against it ({}): {place}: {text}", reason.word());
    }
    if verdict.reason == Reason::Malformed {
        let fields: Vec<String> = method.arguments.iter().map(signature).collect();
        println!("  it takes ({})", fields.join(", "));
    } else if deciding.is_none() && others.is_empty() {
        println!("  no rule names this method for {}", asked.subject);
    } else if deciding.is_none() {
        println!("  rules that name this method, none of which holds:");
        others.iter().for_each(|(place, text)| println!("    {place}: {text}"));
    }
}

fn named(method: &Method, words: &[&str]) -> String {
    let pairs = words.iter().enumerate().map(|(index, word)| match method.arguments.get(index) {
        Some(field) => format!("{}: {word}", field.name),
        None => (*word).to_string(),
    });
    pairs.collect::<Vec<_>>().join(", ")
}

fn signature(field: &Field) -> String {
    format!("{} in {}..{}", field.name, field.kind.show(field.range.0), field.kind.show(field.range.1))
}
