//! The values of messages as people write them, `speed: 50.00 Hz, tag: "P01"`: for the apps that print records and answers. What
//! decides sees words only.

use core::fmt::{self, Write};

use crate::table::{Field, Label, Method};
use crate::view::Policy;

/// What kind of value a field is (the name of its [`Label`]). Words stand in the label's other text.
pub mod form {
    /// A text's length; the words behind it hold it.
    pub const TEXT: &str = "text";
    /// As [`TEXT`], of bytes.
    pub const BYTES: &str = "bytes";
    /// A list's length. Text: how many words an element has.
    pub const LIST: &str = "list";
    /// Whether the value behind it is there.
    pub const OPTIONAL: &str = "optional";
    /// A number for each of these words, from 0 on.
    pub const WORDS: &str = "words";
    /// A bit for each of these words, the lowest first.
    pub const FLAGS: &str = "flags";
    /// A number that is worth so much: a number, how many of its digits stand after the point, a unit.
    pub const SCALED: &str = "scaled";
}

/// How deep records stand in records at the most.
const DEPTH: usize = 6;

/// What one of a scaled field's is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// So much, in the last of the digits.
    pub digits: i128,
    /// How many digits stand after the point.
    pub decimals: u32,
    /// The unit; empty without one.
    pub unit: &'a str,
}

impl<'a> Step<'a> {
    /// Reads the text of a field's label. `None` for what is none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        let (digits, decimals) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        (decimals <= 18).then_some(Self { digits, decimals, unit: words.next().unwrap_or_default() })
    }
}

impl<'a> Policy<'a> {
    /// How people write a field's values: one of [`form`], or empty for a plain number; and its words.
    #[must_use]
    pub fn form(&self, field: &Field) -> (&'a str, &'a str) {
        let label = usize::from(field.label).checked_sub(1).and_then(|at| self.labels.get(at));
        label.map_or(("", ""), |Label { name, because, .. }| (self.text(*name), self.text(*because)))
    }

    /// The fields of an error: one if the interface declares errors.
    #[must_use]
    pub fn error_fields(&self, method: &Method) -> &'a [Field] {
        let first = method.first_field as usize + usize::from(method.arguments) + usize::from(method.replies);
        self.fields.get(first..first + usize::from(method.errors)).unwrap_or(&[])
    }

    /// The name that an interface gives to an error's number.
    #[must_use]
    pub fn error_name(&self, method: &Method, code: u64) -> Option<&'a str> {
        let field = self.error_fields(method).first().filter(|_| code != 0)?;
        self.form(field).1.split(' ').nth(usize::try_from(code).ok()?).filter(|name| !name.is_empty())
    }

    /// How many of the words behind a field's are there because of it.
    #[must_use]
    pub fn followers(&self, fields: &[Field], at: usize) -> usize {
        let of_it = |field: &&Field| field.presence != Field::ALWAYS && usize::from(field.guard) == at;
        fields.iter().skip(at + 1).take_while(of_it).count()
    }

    /// The name of the value that begins with a field: `target` for `target.x`, `values` for `values[0]`.
    #[must_use]
    pub fn value_name(&self, field: &Field) -> &'a str {
        self.text(field.name).split(['.', '[', '\'', ' ']).next().unwrap_or_default()
    }
}

/// The values of a message.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The policy, for the names.
    pub policy: &'a Policy<'a>,
    /// The message's fields.
    pub fields: &'a [Field],
    /// Its words.
    pub words: &'a [u64],
    /// Bit i: word i is secret or left out, and not there.
    pub redacted: u8,
    /// For programs: ` speed=50.00 tag="P01"`, without units and spaces within a value, and no hexadecimal numbers.
    pub is_plain: bool,
}

impl fmt::Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        while at < self.fields.len().min(self.words.len()) {
            let Some(field) = self.fields.get(at) else { break };
            let name = self.policy.value_name(field);
            match (self.is_plain, at) {
                (true, _) => write!(f, " {name}=")?,
                (false, 0) => write!(f, "{name}: ")?,
                (false, _) => write!(f, ", {name}: ")?,
            }
            self.value(f, name, &mut at, DEPTH)?;
        }
        // A message that does not fit its interface may have more words than fields.
        for (word, at) in self.words.iter().zip(0..).skip(self.fields.len()) {
            f.write_str(if at == 0 { "?: " } else { ", ?: " })?;
            self.number(f, *word, false)?;
        }
        Ok(())
    }
}

impl<'a> Values<'a> {
    /// The value that has this path and begins at a word; moves on to the next one.
    fn value(&self, f: &mut fmt::Formatter<'_>, path: &'a str, at: &mut usize, depth: usize) -> fmt::Result {
        let is_part = |at: usize| {
            let name = self.fields.get(at).map(|field| self.policy.text(field.name))?;
            let rest = name.strip_prefix(path)?.strip_prefix('.')?;
            let end = rest.find(['.', '[', '\'', ' ']).unwrap_or(rest.len());
            name.get(..path.len() + 1 + end)
        };
        if depth == 0 || is_part(*at).is_none() {
            return self.one(f, path, at, depth);
        }
        f.write_char('{')?;
        let mut is_first = true;
        while let Some(part) = is_part(*at) {
            self.comma(f, is_first)?;
            is_first = false;
            self.value(f, part, at, depth - 1)?;
        }
        f.write_char('}')
    }

    fn comma(&self, f: &mut fmt::Formatter<'_>, is_first: bool) -> fmt::Result {
        match (is_first, self.is_plain) {
            (true, _) => Ok(()),
            (false, true) => f.write_char(','),
            (false, false) => f.write_str(", "),
        }
    }

    fn one(&self, f: &mut fmt::Formatter<'_>, path: &'a str, at: &mut usize, depth: usize) -> fmt::Result {
        let first = *at;
        *at += 1 + self.policy.followers(self.fields, first);
        let Some(field) = self.fields.get(first) else { return Ok(()) };
        self.formed(f, path, first, depth, self.policy.form(field))
    }

    /// The value that begins at a word, in a form that is not the field's own.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, at: usize, form: (&str, &str)) -> fmt::Result {
        let name = self.fields.get(at).map_or("", |field| self.policy.value_name(field));
        self.formed(f, name, at, DEPTH, form)
    }

    fn formed(
        &self,
        f: &mut fmt::Formatter<'_>,
        path: &'a str,
        first: usize,
        depth: usize,
        (form, words): (&str, &str),
    ) -> fmt::Result {
        let behind = self.policy.followers(self.fields, first);
        let Some(field) = self.fields.get(first) else { return Ok(()) };
        if self.redacted.checked_shr(u32::try_from(first).unwrap_or(u32::MAX)).unwrap_or(0) & 1 != 0 {
            return f.write_str(if field.secret == 0 { "(not recorded)" } else { "(secret)" });
        }
        let word = self.word(first);
        let is_head = matches!(form, form::TEXT | form::BYTES | form::LIST | form::OPTIONAL);
        match form {
            _ if is_head && word > field.max => self.number(f, word, false),
            form::TEXT | form::BYTES => self.text(f, first, behind, form == form::BYTES),
            form::LIST => {
                let width = words.parse::<usize>().unwrap_or(1).max(1);
                f.write_char('[')?;
                for element in 0..usize::try_from(word).unwrap_or(0).min(behind / width) {
                    self.comma(f, element == 0)?;
                    let mut at = first + 1 + element * width;
                    let name = self.fields.get(at).map(|field| self.policy.text(field.name)).unwrap_or_default();
                    let path = name.find(']').and_then(|end| name.get(..=end)).unwrap_or(name);
                    self.value(f, path, &mut at, depth.saturating_sub(1))?;
                }
                f.write_char(']')
            }
            form::OPTIONAL if word == 0 => f.write_str("none"),
            form::OPTIONAL if depth > 0 => self.value(f, path, &mut (first + 1), depth - 1),
            form::WORDS => match usize::try_from(word).ok().and_then(|at| words.split(' ').nth(at)) {
                Some(name) if !name.is_empty() => f.write_str(name),
                _ => self.number(f, word, false),
            },
            form::FLAGS => self.flags(f, word, words),
            form::SCALED => self.scaled(f, field, word, words),
            _ => self.number(f, word, field.signed != 0),
        }
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    fn number(&self, f: &mut fmt::Formatter<'_>, word: u64, is_signed: bool) -> fmt::Result {
        match word {
            _ if is_signed => write!(f, "{}", word.cast_signed()),
            0x1_0000.. if !self.is_plain => write!(f, "{word:#x}"),
            _ => write!(f, "{word}"),
        }
    }

    fn text(&self, f: &mut fmt::Formatter<'_>, first: usize, chunks: usize, is_bytes: bool) -> fmt::Result {
        let length = usize::try_from(self.word(first)).unwrap_or(0);
        let bytes = (first + 1..=first + chunks).flat_map(|at| self.word(at).to_be_bytes()).take(length);
        f.write_char('"')?;
        for byte in bytes {
            match byte {
                _ if is_bytes => write!(f, "{byte:02x}")?,
                b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_char('"')
    }

    fn flags(&self, f: &mut fmt::Formatter<'_>, word: u64, words: &str) -> fmt::Result {
        let known = words.split(' ').count();
        if word == 0 || word.checked_shr(u32::try_from(known).unwrap_or(u32::MAX)).unwrap_or(0) != 0 {
            return self.number(f, word, false);
        }
        let set = words.split(' ').zip(0..64_u32).filter(|(_, bit)| word >> bit & 1 != 0);
        for (at, (name, _)) in set.enumerate() {
            let bar = if self.is_plain { "|" } else { " | " };
            write!(f, "{}{name}", if at == 0 { "" } else { bar })?;
        }
        Ok(())
    }

    fn scaled(&self, f: &mut fmt::Formatter<'_>, field: &Field, word: u64, step: &str) -> fmt::Result {
        let value: i128 = if field.signed != 0 { word.cast_signed().into() } else { word.into() };
        let step = Step::parse(step);
        let Some((step, all)) = step.and_then(|step| Some((step, value.checked_mul(step.digits)?))) else {
            return self.number(f, word, field.signed != 0);
        };
        let power = 10_u128.pow(step.decimals);
        let (sign, all) = (if all < 0 { "-" } else { "" }, all.unsigned_abs());
        write!(f, "{sign}{}", all / power)?;
        if step.decimals > 0 {
            write!(f, ".{:0width$}", all % power, width = step.decimals as usize)?;
        }
        if self.is_plain || step.unit.is_empty() { Ok(()) } else { write!(f, " {}", step.unit) }
    }
}
