//! What people are told of rules: for the apps that print records and answers, and for the tools. What decides has no use for it.

use core::fmt::{self, Write};

use crate::NONE;
use crate::table::{Field, Label, Source};
use crate::values::Values;
use crate::view::Policy;

impl<'a> Policy<'a> {
    /// Where the rule that users know by `source` was written: file and line.
    #[must_use]
    pub fn rule_place(&self, source: u16) -> Option<(&'a str, u32)> {
        self.place(self.sources.get(usize::from(source)).filter(|_| source != NONE)?)
    }

    /// The n-th grant that can undo the wall: file and line, what it gives away and why.
    #[must_use]
    pub fn grant(&self, n: u64) -> Option<(&'a str, u32, &'a str)> {
        let count = self.grants as usize;
        let first = self.sources.len().checked_sub(count)?;
        let n = usize::try_from(n).ok().filter(|n| *n < count)?;
        let row = self.sources.get(first + n)?;
        let (file, line) = self.place(row)?;
        Some((file, line, self.text(self.label_of(row)?.because)))
    }

    fn place(&self, row: &Source) -> Option<(&'a str, u32)> {
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
        self.label_of(self.sources.get(usize::from(source)).filter(|_| source != NONE)?)
    }

    fn label_of(&self, row: &Source) -> Option<&'a Label> {
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
    /// `NAME=FORM WORDS`: a value, written in one of the forms of [`crate::form`]; `@`: who called.
    fn value(&self, f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
        if value == "@" {
            return f.write_str(self.policy.subject_name(self.subject).unwrap_or("?"));
        }
        let (name, form) = value.split_once('=').unwrap_or((value, ""));
        let at = self.fields.iter().position(|field| self.policy.text(field.name) == name);
        let found = at.and_then(|at| self.fields.get(at)).zip(at.filter(|at| *at < self.words.len()));
        let Some((field, at)) = found else { return f.write_char('?') };
        let guard = self.words.get(usize::from(field.guard)).copied().unwrap_or(0);
        if field.presence == Field::ABOVE && guard <= field.above.into() {
            return f.write_str("none");
        }
        let (policy, fields, words, redacted) = (self.policy, self.fields, self.words, self.left_out);
        let values = Values { policy, fields, words, redacted, is_plain: false };
        values.write(f, at, form.split_once(' ').unwrap_or((form, "")))
    }
}
