//! What the policy says about one call: decided by the monitor itself on the compiled table, and told with the rule's text.

use std::path::Path;
use std::process::ExitCode;

use bulkhead_lang::policy::{Field, Method};
use bulkhead_lang::{Compiled, interpret, nearest};
use bulkhead_model::{MAX_ARGS, Phase, Policy, Reason};
use bulkhead_monitor::{Call, decide};
use serde_json::json;

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
    let (reason, rule) = decision(&compiled, (subject, object, method), &words)?;
    tell(&compiled, &asked, signature, (subject, object, method), (reason, rule), as_json);
    Ok(if reason == Reason::Allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
    if let Some(value) = field.words.iter().position(|known| known == word) {
        return u64::try_from(value).map_err(|_| "too many words".to_string());
    }
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse::<u64>().ok().or_else(|| word.parse::<i64>().ok().map(i64::cast_unsigned)),
    };
    parsed.ok_or_else(|| {
        let known = if field.words.is_empty() { String::new() } else { format!("; known: {}", field.words.join(", ")) };
        format!("`{word}` is no value of `{}`{known}", field.name)
    })
}

/// The monitor's decision; the interpreter's must be the same.
fn decision(
    compiled: &Compiled,
    (subject, object, method): (u16, u16, u16),
    words: &[u64],
) -> Result<(Reason, Option<usize>), String> {
    let table = Policy::verify(&compiled.table).map_err(|error| format!("the compiled table is wrong: {error:?}"))?;
    let mut args = [0; MAX_ARGS];
    args.iter_mut().zip(words).for_each(|(slot, &word)| *slot = word);
    let len = u8::try_from(words.len()).unwrap_or(u8::MAX);
    let verdict = decide(&table, &Call { subject, object, method, phase: Phase::Request, len, args: &args });
    let by_tree = interpret::decide(&compiled.policy, subject, object, method, words);
    if by_tree.0 != verdict.reason {
        return Err(format!(
            "the monitor says {:?}, the interpreter {:?}: please report this",
            verdict.reason, by_tree.0
        ));
    }
    Ok(by_tree)
}

fn tell(
    compiled: &Compiled,
    asked: &Asked<'_>,
    method: &Method,
    (subject, object, number): (u16, u16, u16),
    (reason, rule): (Reason, Option<usize>),
    as_json: bool,
) {
    let describe = |rule: &bulkhead_lang::policy::Rule| {
        let (file, line, _, text) = compiled.sources.place(rule.span);
        (format!("{file}:{line}"), text.trim().to_string())
    };
    let deciding = rule.and_then(|rule| compiled.policy.rules.get(rule));
    let names =
        |rule: &&bulkhead_lang::policy::Rule| rule.subject == subject && rule.targets.contains(&(object, number));
    let others: Vec<(String, String)> = compiled.policy.rules.iter().filter(names).map(describe).collect();
    let verdict = if reason == Reason::Allowed { "allowed" } else { "refused" };
    if as_json {
        let rule = deciding.map(describe);
        println!(
            "{}",
            json!({
                "verdict": verdict, "reason": reason.word(), "rule": rule.as_ref().map(|rule| &rule.0),
                "text": rule.as_ref().map(|rule| &rule.1), "because": deciding.and_then(|rule| rule.because.clone()),
                "audit": reason != Reason::Allowed || deciding.is_some_and(|rule| rule.audit),
                "rules_for_this_method": others.iter().map(|(place, _)| place).collect::<Vec<_>>(),
            })
        );
        return;
    }
    println!("{verdict}: {} -> {}.{}({})", asked.subject, asked.object, asked.method, named(method, &asked.arguments));
    match deciding {
        Some(rule) => {
            let (place, text) = describe(rule);
            println!("  by {place}: {text}");
            if let Some(because) = &rule.because {
                println!("  because {because}");
            }
        }
        None => println!("  {}", reason.word()),
    }
    if reason == Reason::Malformed {
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
    format!("{} in {}..{}", field.name, field.range.0, field.range.1)
}
