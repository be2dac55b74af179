//! Reasons: a rule's text for people, with values in it. `{speed}` stands for an argument as it is written, `{limit}` for what `let`
//! names, `{caller}` for who calls. What is known beforehand is put in here; the rest is told by `bulkhead_model::Told`.

use std::fmt::Write;

use crate::check::Checker;
use crate::expressions::Scope;
use crate::messages::CHUNK;
use crate::policy::{Field, Head};
use crate::tree::{self, Constant, Name, Number};

/// The longest reason, so that a line for people holds it.
const LONGEST: usize = 120;

impl Checker<'_> {
    /// A reason for the messages of one method, in the form that the table has: text, and values in braces.
    pub(crate) fn reason(&mut self, reason: &tree::Reason, fields: &[Field]) -> Option<String> {
        let text = &reason.text;
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            self.error(reason.span, "this reason is too long for a line", format!("it has at most {LONGEST} bytes"));
            return None;
        }
        let mut all = String::new();
        let mut rest = text.as_str();
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            let start = reason.span.start + 1 + (text.len() - from.len());
            let span = |length: usize| crate::Span { start, end: start + length, ..reason.span };
            all.push_str(before);
            let Some((name, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                self.error(span(1), "this brace has no other", "values stand in braces: {speed}");
                return None;
            };
            let name = Name { text: name.trim().to_string(), span: span(name.len() + 2) };
            all.push_str(&self.told(&name, fields)?);
            rest = after;
        }
        all.push_str(rest);
        Some(all)
    }

    /// What stands for a value.
    fn told(&mut self, name: &Name, fields: &[Field]) -> Option<String> {
        let scope = Scope { fields, element: None };
        if let Some(field) = scope.fields.iter().find(|field| field.name == name.text) {
            if field.is_secret {
                let help = "leave it out: a reason reaches records and callers";
                self.error(name.span, format!("`{}` is secret", name.text), help);
                return None;
            }
            let form = form(field);
            if form.is_none() {
                let help = "name a number, a word, flags, a text, or one element: {values[0]}";
                self.error(name.span, format!("`{}` is no single value", name.text), help);
            }
            return form;
        }
        if name.text == "caller" {
            return Some("{@}".to_string());
        }
        let Some(ranges) = self.named_set(&name.text) else {
            if self.state(&name.text).is_some() {
                let help = "a record holds the message alone: name its arguments, what `let` names, or caller";
                self.error(name.span, format!("`{}` is remembered, and not told", name.text), help);
                return None;
            }
            let sets: Vec<String> = self.sets.iter().map(|(name, _)| name.clone()).collect();
            let own = fields.iter().filter(|field| !field.name.contains(['\'', ' ']));
            let known: Vec<&str> =
                own.map(|field| field.name.as_str()).chain(sets.iter().map(String::as_str)).collect();
            self.unknown(name, "value called", known);
            return None;
        };
        let ranges: Vec<String> = ranges
            .iter()
            .map(
                |(low, high)| {
                    if low == high { constant(low) } else { format!("{}..{}", constant(low), constant(high)) }
                },
            )
            .collect();
        Some(ranges.join(", "))
    }
}

/// A field's value in braces, with what it takes to write it: a word and a sign after its name, and the unit after the brace.
fn form(field: &Field) -> Option<String> {
    let (name, kind) = (&field.name, &field.kind);
    Some(match field.head {
        Some(Head::Text(false)) => format!("{{{name}\"{}}}", field.range.1.unsigned_abs().div_ceil(CHUNK as u128)),
        Some(Head::Text(true) | Head::List(_)) => return None,
        _ if kind.is_flags => format!("{{{name}&{}}}", kind.words.join(",")),
        _ if !kind.words.is_empty() => format!("{{{name}:{}}}", kind.words.join(",")),
        _ => {
            let (step, decimals) = kind.step;
            let mut text = format!("{{{name}");
            if kind.step != (1, 0) {
                let _ = write!(text, "*{step}/{decimals}");
            }
            text.push('}');
            if !kind.unit.is_empty() {
                let _ = write!(text, " {}", kind.unit);
            }
            text
        }
    })
}

/// A constant as it is written.
fn constant(constant: &Constant) -> String {
    let Number { digits, decimals, unit, .. } = match constant {
        Constant::Number(number) => number,
        Constant::Word(name) => return name.text.clone(),
    };
    let kind =
        crate::policy::Kind { step: (1, (*decimals).into()), ..crate::policy::Kind::plain(crate::policy::EVERY) };
    let unit = unit.as_ref().map_or(String::new(), |unit| format!(" {}", unit.text));
    format!("{}{unit}", kind.show(*digits))
}
