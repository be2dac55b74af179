//! Findings, for people and for programs.

use std::io::IsTerminal;

use bulkhead_lang::{Diagnostic, Severity, Sources};
use serde_json::{Value, json};

/// Prints findings: text on standard error (in colour on a terminal), or one JSON object with `facts` on standard output.
pub(crate) fn print(findings: &[Diagnostic], sources: &Sources, as_json: bool, facts: &Value) {
    if as_json {
        let findings: Vec<Value> = findings.iter().map(|finding| as_value(finding, sources)).collect();
        let is_ok = findings.iter().all(|finding| finding["severity"] != "error");
        let mut all = json!({ "ok": is_ok, "findings": findings });
        if let (Some(all), Some(facts)) = (all.as_object_mut(), facts.as_object()) {
            all.extend(facts.clone());
        }
        println!("{all}");
        return;
    }
    let has_colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for finding in findings {
        let text = finding.render(sources).to_string();
        let (colour, word) = if finding.severity == Severity::Error { ("31", "error") } else { ("33", "warning") };
        match text.strip_prefix(word).filter(|_| has_colour) {
            Some(rest) => eprintln!("\x1b[1;{colour}m{word}\x1b[0m{rest}"),
            None => eprintln!("{text}"),
        }
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 {
        eprintln!("{errors} {}", if errors == 1 { "error" } else { "errors" });
    }
}

fn as_value(finding: &Diagnostic, sources: &Sources) -> Value {
    let (file, line, column, _) = sources.place(finding.span);
    json!({
        "severity": if finding.severity == Severity::Error { "error" } else { "warning" },
        "file": file, "line": line, "column": column, "message": finding.message, "help": finding.help,
        "also": finding.also.iter().map(|(span, what)| {
            let (file, line, ..) = sources.place(*span);
            json!({ "file": file, "line": line, "message": what })
        }).collect::<Vec<_>>(),
    })
}
