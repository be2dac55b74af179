//! Messages whose fields are more than one number: texts, lists, records, optional values. They travel as words, one after the
//! other: a text as its length and then eight bytes a word, a list as its length and then its elements, an optional value as
//! 1 or 0 and then itself. What is not there is zero.

use std::fmt::Write;

use bulkhead_model::build::word;

use crate::check::Checker;
use crate::policy::{Field, Head, Kind, Presence, Shape};
use crate::tree::{self, Constant, Interface, Literal};

/// The most words of a message, one way.
const WORDS: usize = bulkhead_model::MAX_ARGS;
/// The bytes of a word of text.
pub(crate) const CHUNK: usize = 8;
/// How deep records may stand in records.
const DEPTH: usize = 4;

impl Shape {
    /// How many words it takes.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Optional(inner) => 1 + inner.width(),
            Self::List(inner, most) => 1 + inner.width() * most,
            Self::Text(most) => 1 + most.div_ceil(CHUNK),
            Self::Record(fields) => fields.iter().map(|(_, shape)| shape.width()).sum(),
        }
    }
}

impl Checker<'_> {
    /// The words of a message and the shapes that they make up.
    pub(crate) fn message(
        &mut self,
        interface: &Interface,
        owner: &tree::Name,
        fields: &[tree::Field],
    ) -> (Vec<Field>, Vec<(String, Shape)>) {
        let (mut words, mut shapes): (Vec<Field>, Vec<(String, Shape)>) = (Vec::new(), Vec::new());
        for field in fields.iter().take(WORDS + 1) {
            if shapes.iter().any(|(known, _)| *known == field.name.text) {
                self.twice(&field.name);
            }
            if let Some(shape) = self.words(interface, field, &field.name.text, Presence::Always, 0, &mut words) {
                shapes.push((field.name.text.clone(), shape));
            }
        }
        if words.len() > WORDS {
            let help = "a text takes a word and one for each eight bytes, a list a word and its elements, an optional value a word \
                more; split the method in two";
            let message = format!("a message has at most {WORDS} words, and this one {}", words.len());
            self.error(owner.span, message, help);
            words.truncate(WORDS);
        }
        (words, shapes)
    }

    fn words(
        &mut self,
        interface: &Interface,
        field: &tree::Field,
        name: &str,
        presence: Presence,
        depth: usize,
        all: &mut Vec<Field>,
    ) -> Option<Shape> {
        let most =
            |count: i128, highest: usize| usize::try_from(count).ok().filter(|count| (1..=highest).contains(count));
        if presence != Presence::Always && !matches!(field.shape, tree::Shape::One) {
            let help = "lists and optional values hold numbers, words, flags, and records of these";
            self.error(field.name.span, "this cannot stand inside a list or an optional value", help);
            return None;
        }
        let head = |name: &str, most: usize, head| Field {
            name: name.to_string(),
            range: (0, most as i128),
            kind: Kind::plain((0, most as i128)),
            is_secret: field.is_secret,
            presence: Presence::Always,
            head,
        };
        let guard = all.len();
        match &field.shape {
            tree::Shape::One => self.one(interface, field, name, presence, depth, all),
            tree::Shape::Optional => {
                all.push(head(&format!("{name} is present"), 1, Some(Head::Optional)));
                let inner = self.one(interface, field, name, Presence::Above(guard, 0), depth, all)?;
                Some(Shape::Optional(Box::new(inner)))
            }
            tree::Shape::List(count) => {
                let Some(count) = most(*count, WORDS - 1) else {
                    self.error(field.kind.span, "a list has 1 to 5 elements at the most", "write `max 4`");
                    return None;
                };
                all.push(head(name, count, None));
                let mut shape = None;
                for at in 0..count {
                    let above = Presence::Above(guard, u8::try_from(at).ok()?);
                    shape = Some(self.one(interface, field, &format!("{name}[{at}]"), above, depth, all)?);
                }
                let inner = Box::new(shape?);
                all.get_mut(guard)?.head = Some(Head::List(inner.width()));
                Some(Shape::List(inner, count))
            }
            tree::Shape::Text(count) => {
                let Some(count) = most(*count, (WORDS - 1) * CHUNK) else {
                    self.error(field.kind.span, "a text has 1 to 40 bytes at the most", "write `text max 16`");
                    return None;
                };
                if field.range.is_some() || field.step.is_some() || field.unit.is_some() {
                    self.error(field.name.span, "a text has no range", "write `when NAME matches \"…\"` in the rules");
                }
                all.push(head(name, count, Some(Head::Text(field.kind.text == "bytes"))));
                for chunk in 0..count.div_ceil(CHUNK) {
                    let presence = Presence::Bytes(guard, u8::try_from(chunk * CHUNK).ok()?);
                    let (range, name) = ((0, u64::MAX.into()), format!("{name}'{chunk}"));
                    all.push(Field { name, range, kind: Kind::plain(range), presence, ..head("", 0, None) });
                }
                Some(Shape::Text(count))
            }
        }
    }

    /// A field that has one value of its type: a number, or a record's fields.
    fn one(
        &mut self,
        interface: &Interface,
        field: &tree::Field,
        name: &str,
        presence: Presence,
        depth: usize,
        all: &mut Vec<Field>,
    ) -> Option<Shape> {
        let record = interface.records.iter().find(|(record, _)| record.text == field.kind.text);
        let Some((record, inner)) = record else {
            let words = self.field(interface, field);
            all.push(Field { name: name.to_string(), presence, ..words });
            return Some(Shape::One);
        };
        if depth >= DEPTH || inner.is_empty() || all.len() > WORDS {
            self.error(
                record.span,
                "this record is empty, nests too deep or is too long",
                "name its fields beside each other",
            );
            return None;
        }
        let mut shapes = Vec::new();
        for part in inner {
            let is_secret = field.is_secret || part.is_secret;
            let part = tree::Field { is_secret, ..part.clone() };
            let path = format!("{name}.{}", part.name.text);
            shapes.push((part.name.text.clone(), self.words(interface, &part, &path, presence, depth + 1, all)?));
        }
        Some(Shape::Record(shapes))
    }

    /// The words of a value that a person wrote. `None` after an error was reported.
    pub(crate) fn literal(
        &mut self,
        literal: &Literal,
        shape: &Shape,
        fields: &[Field],
        all: &mut Vec<u64>,
    ) -> Option<()> {
        let field = fields.get(all.len());
        match (shape, literal) {
            (Shape::One, Literal::One(constant)) => {
                let kind = field.map_or(Kind::plain(crate::policy::EVERY), |field| field.kind.clone());
                let value = match constant {
                    Constant::Number(number) => self.number(number, &kind)?,
                    Constant::Word(_) => self.constant(constant, &kind, field.map_or("this", |field| &field.name))?,
                };
                all.push(word(value));
            }
            (Shape::One, Literal::Flags(names)) => {
                let kind = field?.kind.clone();
                let mut bits = 0;
                for name in names {
                    bits |= self.flag(&kind, name)?;
                }
                all.push(word(bits));
            }
            (Shape::Optional(inner), Literal::None(_)) => all.extend(vec![0; 1 + inner.width()]),
            (Shape::Optional(inner), value) => {
                all.push(1);
                self.literal(value, inner, fields, all)?;
            }
            (Shape::List(inner, most), Literal::List(values, span)) => {
                if values.len() > *most {
                    self.error(*span, format!("this list has at most {most} elements"), "leave some away");
                    return None;
                }
                all.push(values.len() as u64);
                for value in values {
                    self.literal(value, inner, fields, all)?;
                }
                all.extend(vec![0; (most - values.len()) * inner.width()]);
            }
            (Shape::Text(most), Literal::Text(text, span)) => {
                let is_bytes = matches!(field?.head, Some(Head::Text(true)));
                let bytes = self.bytes(text, *span, is_bytes)?;
                if bytes.len() > *most {
                    self.error(*span, format!("this text has at most {most} bytes"), "shorten it");
                    return None;
                }
                all.push(bytes.len() as u64);
                all.extend(chunks(&bytes, most.div_ceil(CHUNK)));
            }
            (Shape::Record(parts), Literal::Record(values, span)) => {
                if values.len() != parts.len() {
                    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
                    self.error(*span, format!("this record has {} fields", parts.len()), names.join(", "));
                    return None;
                }
                for (value, (_, shape)) in values.iter().zip(parts) {
                    self.literal(value, shape, fields, all)?;
                }
            }
            (shape, literal) => {
                let help = match shape {
                    Shape::One => "a number or a word",
                    Shape::Optional(_) => "a value or `none`",
                    Shape::List(..) => "a list: [1, 2]",
                    Shape::Text(_) => "a text: \"…\"; bytes as hexadecimal digits: \"0aff\"",
                    Shape::Record(_) => "a record's fields in their order: {1, 2}",
                };
                self.error(literal.span(), "this value is not of the field's type", format!("write {help}"));
                return None;
            }
        }
        Some(())
    }

    /// A text's bytes; those of a `bytes` field are written as hexadecimal digits.
    pub(crate) fn bytes(&mut self, text: &str, span: crate::Span, is_bytes: bool) -> Option<Vec<u8>> {
        if !is_bytes {
            return Some(text.as_bytes().to_vec());
        }
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        if digits.is_none() {
            self.error(span, "these are no bytes", "write two hexadecimal digits for each: \"0aff\"");
        }
        Some(digits?.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
    }

    /// A flag's bit.
    pub(crate) fn flag(&mut self, kind: &Kind, name: &tree::Name) -> Option<i128> {
        let at = kind.words.iter().position(|word| kind.is_flags && *word == name.text);
        if at.is_none() {
            let words = if kind.is_flags { kind.words.clone() } else { Vec::new() };
            self.unknown(name, "flag", words.iter().map(String::as_str));
        }
        Some(1 << at?)
    }
}

/// Bytes as they travel: eight in a word, the first in its highest bits.
pub(crate) fn chunks(bytes: &[u8], count: usize) -> Vec<u64> {
    let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
    (0..count).map(|chunk| (0..CHUNK).fold(0, |word, at| word << 8 | byte(chunk * CHUNK + at))).collect()
}

/// The bytes of a text, from its length and its words.
pub(crate) fn text_of(words: &[u64]) -> Vec<u8> {
    let Some((&length, chunks)) = words.split_first() else { return Vec::new() };
    chunks.iter().flat_map(|chunk| chunk.to_be_bytes()).take(usize::try_from(length).unwrap_or(0)).collect()
}

/// A value as a person writes it, and how many words it took.
fn shown(shape: &Shape, fields: &[Field], words: &[u64], text: &mut String) -> Option<()> {
    let (field, &word) = (fields.first()?, words.first()?);
    let after = |count: usize| Some((fields.get(count..)?, words.get(count..)?));
    match shape {
        Shape::One => text.push_str(&field.kind.show(field.value(word))),
        Shape::Optional(_) if word == 0 => text.push_str("none"),
        Shape::Optional(inner) => {
            let (fields, words) = after(1)?;
            shown(inner, fields, words, text)?;
        }
        Shape::List(inner, most) => {
            text.push('[');
            for at in 0..(*most).min(usize::try_from(word).unwrap_or(*most)) {
                text.push_str(if at == 0 { "" } else { ", " });
                let (fields, words) = after(1 + at * inner.width())?;
                shown(inner, fields, words, text)?;
            }
            text.push(']');
        }
        Shape::Text(_) => {
            let bytes = text_of(words.get(..shape.width())?);
            text.push('"');
            for byte in bytes {
                if matches!(field.head, Some(Head::Text(true))) {
                    let _ = write!(text, "{byte:02x}");
                } else {
                    let _ = write!(text, "{}", byte.escape_ascii());
                }
            }
            text.push('"');
        }
        Shape::Record(parts) => {
            let mut at = 0;
            text.push('{');
            for (_, shape) in parts {
                text.push_str(if at == 0 { "" } else { ", " });
                let (fields, words) = after(at)?;
                shown(shape, fields, words, text)?;
                at += shape.width();
            }
            text.push('}');
        }
    }
    Some(())
}

/// The values of a message as a person writes them: `speed: 50.00 Hz, name: "P1"`. Words that fit no field stand as numbers.
pub(crate) fn show(shapes: &[(String, Shape)], fields: &[Field], words: &[u64]) -> String {
    let (mut all, mut at) = (Vec::new(), 0);
    for (name, shape) in shapes {
        let mut text = format!("{name}: ");
        let (Some(fields), Some(words)) = (fields.get(at..), words.get(at..)) else { break };
        if shown(shape, fields, words, &mut text).is_none() {
            break;
        }
        all.push(text);
        at += shape.width();
    }
    all.extend(words.iter().skip(at).map(u64::to_string));
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use bulkhead_model::Reason;
    use proptest::prelude::*;

    use crate::tests::{ask, build};
    use crate::{Compiled, regions};

    const HEAD: &str = "edition 1\npolicy p\ninterface I {\n record R { x: i8, y: u8 in 3..9 }\n flags F { one, two }\n enum K { a, b }\n \
        method t(name: text max 11, other: text max 3) -> ()\n method l(v: list of i8 in -5..9 max 3, k: K) -> ()\n \
        method o(p: optional u8 in 2..7, r: R, f: F) -> ()\n method q(r: list of R max 2) -> ()\n}\n\
        app x\nservice s: I by x\n";

    fn compiled(rules: &str) -> Compiled {
        build(&format!("{HEAD}{rules}")).unwrap()
    }

    fn verdict(compiled: &Compiled, call: &str) -> Reason {
        let call = compiled.call(call).unwrap();
        let words: Vec<i128> = call.words.iter().map(|&word| word.cast_signed().into()).collect();
        let method = &compiled.policy.objects[usize::from(call.object)].methods[usize::from(call.method)].name;
        ask(compiled, "guest", &format!("s.{method}"), &words).0
    }

    #[test]
    fn each_kind_of_field_is_asked_as_it_is_written() {
        let (yes, no, failed) = (Reason::Allowed, Reason::NoRule, Reason::Failed);
        for (condition, call, wanted) in [
            ("t when name == \"\"", "t(\"\", \"\")", yes),
            ("t when name == \"abcdefghi\"", "t(\"abcdefghi\", \"\")", yes),
            ("t when name == \"abcdefghi\"", "t(\"abcdefghj\", \"\")", no),
            ("t when name != \"ab\"", "t(\"ab\", \"\")", no),
            ("t when name == other", "t(\"ab\", \"ab\")", yes),
            ("t when name == other", "t(\"abc\", \"ab\")", no),
            ("t when name in { \"a\", \"b\" }", "t(\"b\", \"\")", yes),
            ("t when name in { \"a\", \"b\" }", "t(\"c\", \"\")", no),
            ("t when name starts with \"abcdefghi\"", "t(\"abcdefghij\", \"\")", yes),
            ("t when name starts with \"abcdefghi\"", "t(\"abcdefgh\", \"\")", no),
            ("t when name ends with \"yz\"", "t(\"xyz\", \"\")", yes),
            ("t when name ends with \"yz\"", "t(\"yzx\", \"\")", no),
            ("t when name matches \"a*\"", "t(\"\", \"\")", yes),
            ("t when name matches \"a|b\"", "t(\"ab\", \"\")", no),
            ("t when name matches \"[^.]+\"", "t(\"a.b\", \"\")", no),
            ("t when length of name between 2 and 3", "t(\"abc\", \"\")", yes),
            ("t when length of name between 2 and 3", "t(\"abcd\", \"\")", no),
            ("l when for all i in v: i < 3", "l([2, -5], a)", yes),
            ("l when for all i in v: i < 3", "l([2, 3], a)", no),
            ("l when for all i in v: i < 3", "l([], a)", yes),
            ("l when for any i in v: i < 3", "l([], a)", no),
            ("l when for any i in v: i < 3", "l([9, 9, 2], a)", yes),
            ("l when v[1] > v[0]", "l([1, 2], b)", yes),
            ("l when v[1] > v[0]", "l([1], b)", failed),
            ("l when k == a or v[1] == 2", "l([1], a)", yes),
            ("o when p is present and p > 3", "o(4, {-1, 5}, one)", yes),
            ("o when p is present and p > 3", "o(none, {-1, 5}, one)", no),
            ("o when p > 3", "o(none, {-1, 5}, one)", failed),
            ("o when p is not present", "o(none, {-1, 5}, 0)", yes),
            ("o when r.x < 0 and r.y == 5", "o(none, {-1, 5}, one | two)", yes),
            ("o when r.x < 0 and r.y == 5", "o(none, {-1, 6}, one | two)", no),
            ("o when f has two", "o(none, {-1, 5}, one | two)", yes),
            ("o when f has two", "o(none, {-1, 5}, one)", no),
            ("q when for all e in r: e.x < 3 and e.y > 3", "q([{1, 4}, {2, 5}])", yes),
            ("q when for all e in r: e.x < 3 and e.y > 3", "q([{1, 4}, {2, 3}])", no),
            ("q when r[0].x == 1", "q([{1, 4}])", yes),
        ] {
            let compiled = compiled(&format!("allow guest s.{condition}\n"));
            assert_eq!(verdict(&compiled, &format!("guest -> s.{call}")), wanted, "{condition}: {call}");
        }
    }

    #[test]
    fn what_is_not_there_must_be_zero_and_what_is_there_in_its_range() {
        let compiled = compiled("allow guest s.*\n");
        for (method, words, wanted) in [
            ("s.t", &[3, 0x6162_6300_0000_0000, 0, 0, 0][..], Reason::Allowed),
            ("s.t", &[2, 0x6162_6300_0000_0000, 0, 0, 0], Reason::Malformed),
            ("s.t", &[3, 0x6162_6300_0000_0000, 1, 0, 0], Reason::Malformed),
            ("s.t", &[12, 0x6162_6300_0000_0000, 0, 0, 0], Reason::Malformed),
            ("s.l", &[2, -5, 9, 0, 1], Reason::Allowed),
            ("s.l", &[2, -6, 9, 0, 1], Reason::Malformed),
            ("s.l", &[1, -5, 9, 0, 1], Reason::Malformed),
            ("s.l", &[4, 1, 1, 1, 1], Reason::Malformed),
            ("s.o", &[0, 0, 0, 3, 3], Reason::Allowed),
            ("s.o", &[1, 0, 0, 3, 3], Reason::Malformed),
            ("s.o", &[0, 2, 0, 3, 3], Reason::Malformed),
            ("s.o", &[2, 2, 0, 3, 3], Reason::Malformed),
            ("s.o", &[1, 2, 0, 3, 4], Reason::Malformed),
        ] {
            assert_eq!(ask(&compiled, "guest", method, words).0, wanted, "{method} {words:?}");
        }
    }

    #[test]
    fn mistakes_name_what_is_wanted() {
        for (rules, message) in [
            ("allow guest s.t when name > 3", "`name` is a text"),
            ("allow guest s.t when name == \"abcdefghijkl\"", "never this long"),
            ("allow guest s.t when name matches \"(\"", "no regular expression"),
            ("allow guest s.t when name matches \"ü\"", "not ASCII"),
            ("allow guest s.t when name matches \"(a|b)*a(a|b){200}\"", "no regular expression"),
            ("allow guest s.l when v == 3", "`v` is a list"),
            ("allow guest s.l when for all k in v: k > 1", "declared twice"),
            ("allow guest s.l when for all i in k: i > 1", "no list"),
            ("allow guest s.l when v[3] == 1", "no such element"),
            ("allow guest s.l when length of k == 1", "only a text or a list"),
            ("allow guest s.o when f has three", "there is no flag `three`"),
            ("allow guest s.o when r.z == 1", "there is no"),
            ("allow guest s.o when r is present", "only an optional"),
            ("test \"t\" { guest -> s.l([1, 2, 3, 4], a) allowed }", "at most 3 elements"),
            ("test \"t\" { guest -> s.o(1, {1}, one) allowed }", "has 2 fields"),
            ("test \"t\" { guest -> s.t(1, 2) allowed }", "not of the field's type"),
            ("interface J { method m(a: text max 41) -> () }", "40 bytes"),
            ("interface J { method m(a: text max 20, b: text max 20) -> () }", "at most 6 words, and this one 8"),
            ("interface J { record R { r: R } method m(a: R) -> () }", "nests too deep"),
            ("interface J { record R { t: text max 3 } method m(a: list of R max 1) -> () }", "cannot stand inside"),
        ] {
            let findings = build(&format!("{HEAD}{rules}\n")).err().unwrap_or_default();
            assert!(findings.contains(message), "{rules}: {findings}");
        }
    }

    fn condition() -> impl Strategy<Value = String> {
        let text = prop::sample::select(vec![
            "name == \"ab\"",
            "name starts with \"a\"",
            "name ends with \"b\"",
            "name matches \"(ab|c)*\"",
            "name matches \"[a-c]{2,9}\"",
            "name == other",
            "name in { \"\", \"abc\", \"c\" }",
            "length of name > 8",
            "length of other == 2",
            "other starts with \"c\"",
        ]);
        let leaf = text.prop_map(str::to_string);
        leaf.prop_recursive(3, 8, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|one| format!("not ({one})")),
                (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) and ({other})")),
                (inner.clone(), inner).prop_map(|(one, other)| format!("({one}) or ({other})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn monitor_and_interpreter_agree_on_texts(
            rules in prop::collection::vec((any::<bool>(), condition()), 1..4),
            calls in prop::collection::vec(("[abc]{0,11}", "[abc]{0,3}"), 1..30),
        ) {
            let rules = rules.iter().map(|(is_allow, when)| format!("{} guest s.t when {when}\n", if *is_allow { "allow" } else { "deny" }));
            let compiled = compiled(&rules.collect::<String>());
            for (name, other) in calls {
                let _ = verdict(&compiled, &format!("guest -> s.t(\"{name}\", \"{other}\")"));
            }
        }

        /// A region that is said to be empty has no message, and an example is one.
        #[test]
        fn examples_of_regions_are_messages(condition in condition(), calls in prop::collection::vec(("[abc]{0,11}", "[abc]{0,3}"), 1..30)) {
            let compiled = compiled(&format!("allow guest s.t when {condition}\n"));
            let policy = &compiled.policy;
            let (subject, object, method) = (0, compiled.object("s").unwrap(), 0);
            let fields = policy.fields(object, method, crate::tree::Event::Request);
            let bounds = regions::bounds(policy, (subject, object, method));
            // A few conditions have too many regions to be told; were it most of them, this would fail.
            prop_assume!(bounds.is_ok());
            let bounds = bounds.unwrap();
            if let Some(example) = regions::example(&bounds.surely, fields) {
                prop_assert_eq!(ask(&compiled, "guest", "s.t", &example).0, Reason::Allowed, "{}", condition);
            }
            if regions::is_empty(&bounds.perhaps, fields) {
                for (name, other) in calls {
                    let call = format!("guest -> s.t(\"{name}\", \"{other}\")");
                    prop_assert_ne!(verdict(&compiled, &call), Reason::Allowed, "{}", condition);
                }
            }
        }

        /// Any words at all: both judge them alike.
        #[test]
        fn monitor_and_interpreter_agree_on_any_words(method in 0_usize..4, words in prop::collection::vec(prop_oneof![-6_i128..12, any::<i64>().prop_map(i128::from)], 5)) {
            let compiled = compiled("allow guest s.*\n");
            let (name, count) = [("s.t", 5), ("s.l", 5), ("s.o", 5), ("s.q", 5)][method];
            let _ = ask(&compiled, "guest", name, &words[..count]);
        }
    }
}
