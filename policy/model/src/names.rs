//! What people are told of rules: for the apps that print records and answers, and for the tools. What decides has no use for it.

use core::fmt::{self, Write};

use crate::NONE;
use crate::table::{Field, Label};
use crate::view::Policy;

impl<'a> Policy<'a> {
    /// Where the rule that users know by `source` was written: file and line.
    #[must_use]
    pub fn rule_place(&self, source: u16) -> Option<(&'a str, u32)> {
        let row = self.sources.get(usize::from(source)).filter(|_| source != NONE)?;
        let file = self.files.get((row.place >> 24) as usize)?;
        Some((self.text(*file), row.place & 0xff_ffff))
    }

    /// The name of a rule and the reason that its author gave, as [`Told`] reads it; empty without one.
    #[must_use]
    pub fn rule_label(&self, source: u16) -> (&'a str, &'a str) {
        self.label(source).map_or(("", ""), |label| (self.text(label.name), self.text(label.because)))
    }

    /// Whether who is refused by a rule is told its reason.
    #[must_use]
    pub fn tells_caller(&self, source: u16) -> bool {
        self.label(source).is_some_and(|label| label.to_caller != 0)
    }

    fn label(&self, source: u16) -> Option<&'a Label> {
        let row = self.sources.get(usize::from(source)).filter(|_| source != NONE)?;
        self.labels.get(row.label.checked_sub(1)? as usize)
    }
}

/// A rule's reason for a message, with the message's values in it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The policy.
    pub policy: &'a Policy<'a>,
    /// The rule, as users number them.
    pub rule: u16,
    /// Who called.
    pub subject: u16,
    /// The message's fields.
    pub fields: &'a [Field],
    /// Its values.
    pub words: &'a [u64],
    /// Bit i: value i is not known.
    pub left_out: u8,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, because) = self.policy.rule_label(self.rule);
        let mut pieces = because.split('{');
        f.write_str(pieces.next().unwrap_or_default())?;
        for piece in pieces {
            let (value, text) = piece.split_once('}').unwrap_or((piece, ""));
            self.value(f, value)?;
            f.write_str(text)?;
        }
        Ok(())
    }
}

impl Told<'_> {
    /// `NAME`, a number; `NAME*5/2`, one that is worth 0.05; `NAME:off,on`, a word; `NAME&a,b`, flags; `NAME"2`, a text of two words
    /// of eight bytes; `@`, who called.
    fn value(&self, f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
        if value == "@" {
            return f.write_str(self.policy.subject_name(self.subject).unwrap_or("?"));
        }
        let (name, form) = value.split_at(value.find(['*', ':', '&', '"']).unwrap_or(value.len()));
        let at = self.fields.iter().position(|field| self.policy.text(field.name) == name);
        let found = at.and_then(|at| Some((at, self.fields.get(at)?, *self.words.get(at)?)));
        let Some((at, field, word)) = found else { return f.write_char('?') };
        let guard = self.words.get(usize::from(field.guard)).copied().unwrap_or(0);
        if self.left_out >> (at & 7) & 1 != 0 {
            return f.write_str("(not recorded)");
        }
        if field.presence == Field::ABOVE && guard <= field.above.into() {
            return f.write_str("none");
        }
        let number = if field.signed != 0 { i128::from(word.cast_signed()) } else { i128::from(word) };
        let mut words = form.get(1..).unwrap_or_default().split(',');
        match form.as_bytes().first() {
            Some(b'*') => scaled(f, number, form.get(1..).unwrap_or_default()),
            Some(b':') => match usize::try_from(word).ok().and_then(|word| words.nth(word)) {
                Some(word) => f.write_str(word),
                None => write!(f, "{number}"),
            },
            Some(b'&') if word == 0 => f.write_char('0'),
            Some(b'&') => {
                let mut is_first = true;
                for (flag, _) in words.zip(0..64).filter(|(_, bit)| word >> bit & 1 != 0) {
                    f.write_str(if is_first { "" } else { " | " })?;
                    f.write_str(flag)?;
                    is_first = false;
                }
                Ok(())
            }
            Some(b'"') => self.text(f, at, word),
            _ => write!(f, "{number}"),
        }
    }

    /// A text: its length is the value, eight bytes a word follow. What could disturb a line is a question mark.
    fn text(&self, f: &mut fmt::Formatter<'_>, at: usize, length: u64) -> fmt::Result {
        let bytes = self.words.iter().skip(at + 1).flat_map(|word| word.to_be_bytes());
        for byte in bytes.take(usize::try_from(length).unwrap_or(0)) {
            f.write_char(if matches!(byte, b' '..=b'~') { byte.into() } else { '?' })?;
        }
        Ok(())
    }
}

/// A number times its step, with so many digits after the point.
fn scaled(f: &mut fmt::Formatter<'_>, number: i128, form: &str) -> fmt::Result {
    let (step, decimals) = form.split_once('/').unwrap_or((form, ""));
    let (step, decimals) = (step.parse().unwrap_or(1_u32), decimals.parse().unwrap_or(0).min(18_u32));
    let (value, power) = ((number * i128::from(step)).unsigned_abs(), 10_u128.pow(decimals));
    let sign = if number < 0 { "-" } else { "" };
    match decimals {
        0 => write!(f, "{sign}{value}"),
        _ => write!(f, "{sign}{}.{:0>width$}", value / power, value % power, width = decimals as usize),
    }
}
