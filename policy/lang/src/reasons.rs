//! Reasons: a rule's text for people, with values in it. `{speed}` stands for an argument as it is written, `{limit}` for what `let`
//! names, `{caller}` for who calls. What is known beforehand is put in here; the rest is told by `bulkhead_model::Told`.

use crate::check::Checker;
use crate::policy::Field;
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
        // A text's words and the mark of an optional value have no name of their own.
        let own = fields.iter().filter(|field| !field.name.contains(['\'', ' ']));
        if let Some(field) = own.clone().find(|field| field.name == name.text) {
            if field.is_secret {
                let help = "leave it out: a reason reaches records and callers";
                self.error(name.span, format!("`{}` is secret", name.text), help);
                return None;
            }
            let form = field.form().map_or(String::new(), |(form, words)| format!("={form} {words}"));
            return Some(format!("{{{}{form}}}", field.name));
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

/// A constant as it is written.
pub(crate) fn constant(constant: &Constant) -> String {
    let Number { digits, decimals, unit, .. } = match constant {
        Constant::Number(number) => number,
        Constant::Word(name) => return name.text.clone(),
    };
    let kind =
        crate::policy::Kind { step: (1, (*decimals).into()), ..crate::policy::Kind::plain(crate::policy::EVERY) };
    let unit = unit.as_ref().map_or(String::new(), |unit| format!(" {}", unit.text));
    format!("{}{unit}", kind.show(*digits))
}

#[cfg(test)]
pub(crate) mod tests {
    use bulkhead_model::Told;
    use proptest::prelude::*;

    use crate::messages::chunks;
    use crate::tests::{Both, build};

    pub(crate) const SITE: &str = "edition 1\npolicy p\ninterface I {\n enum Mode { off, on }\n flags Access { read, write }\n\
        method m(speed: i16 step 0.05 unit Hz, count: u8, mode: Mode, access: Access, tag: text max 8) -> ()\n\
        method o(secret code: u8, last: optional u8, values: list of u8 max 2) -> ()\n}\n\
        app x\nservice s: I by x\nlet limit = 50.5 Hz\nlet good = { 1, 3..5 }\ncounter c in 0..3\n\
        deny guest s.m because \"{speed} {count} {mode} {access} {tag} {caller} {limit} {good}\"\n\
        deny guest s.o because \"{last} {values[1]} {values}\"\n";

    fn told(site: &str, method: u16, words: &[u64]) -> String {
        let compiled = build(site).unwrap();
        let both = Both::new(&compiled);
        let object = both.table.object(compiled.object("s").unwrap()).unwrap();
        let (_, found) = both.table.method(object, method).unwrap();
        let fields = both.table.fields(found, false);
        Told { policy: &both.table, rule: method, subject: 0, fields, words, left_out: 0 }.to_string()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// What an app tells by the table alone is what the tools show by the text.
        #[test]
        fn values_are_told_as_they_are_written(speed: i16, count: u8, is_on: bool, access in 0_usize..4, tag in "[ -~]{0,8}") {
            let compiled = build(SITE).unwrap();
            let fields = &compiled.policy.objects.last().unwrap().methods[0].arguments;
            let speed = i64::from(speed);
            let access = u64::try_from(access).unwrap();
            let mut words = vec![speed.cast_unsigned(), count.into(), is_on.into(), access, tag.len() as u64];
            words.extend(chunks(tag.as_bytes(), 1));
            let shown: Vec<String> = [speed.into(), i128::from(count), is_on.into(), access.into()]
                .iter().zip(fields).map(|(&value, field)| field.kind.show(value)).collect();
            let tag = tag.replace('\\', "\\\\").replace('"', "\\\"");
            let wanted = format!("{} \"{tag}\" guest 50.5 Hz 1, 3..5", shown.join(" "));
            prop_assert_eq!(told(SITE, 0, &words), wanted);
        }
    }

    #[test]
    fn what_is_absent_or_not_recorded_is_told_as_that() {
        assert_eq!(told(SITE, 1, &[9, 0, 0, 1, 7, 0]), "none none [7]");
        assert_eq!(told(SITE, 1, &[9, 1, 5, 2, 7, 8]), "5 8 [7, 8]");
        assert_eq!(told(SITE, 1, &[]), "? ? ?", "a record without its values");
    }

    #[test]
    fn mistakes_in_a_reason_are_told_at_their_place() {
        for (wrong, message, place) in [
            ("{sped}", "did you mean `speed`?", "site.policy:14:25"),
            ("at {c}", "`c` is remembered, and not told", "site.policy:14:28"),
            ("{speed", "this brace has no other", "site.policy:14:25"),
            ("speed}", "this brace has no other", "site.policy:14:30"),
            ("{tag'0}", "no value called", "site.policy:14:25"),
        ] {
            let start = SITE.find("{speed}").unwrap();
            let end = SITE.find("{good}").unwrap() + 6;
            let text = build(&format!("{}{wrong}{}", &SITE[..start], &SITE[end..])).err().unwrap();
            assert!(text.contains(message) && text.contains(place), "{wrong}: {text}");
            assert_eq!(text.matches("error:").count(), 1, "{text}");
        }
        let other = |wrong: &str| build(&SITE.replace("{last} {values[1]} {values}", wrong)).err().unwrap();
        assert!(other("{code}").contains("`code` is secret"));
        assert!(other(&"x".repeat(121)).contains("too long for a line"));
        let both = SITE.replace("deny guest s.o because", "deny guest s.m, s.o because");
        assert!(build(&both).err().unwrap().contains("no value called `last`"), "not in every method");
        let table = format!(
            "{SITE}registers d via s.m(count, speed) {{\n a 1 unit Hz\n b 2 unit rpm\n}}\ndeny x d.* because \"{{speed}}\"\n"
        );
        assert!(build(&table).err().unwrap().contains("not the same for all methods"));
    }
}
