//! What people are told of rules: for the apps that print records and answers, and for the tools. What decides has no use for it.

use crate::NONE;
use crate::view::Policy;

impl<'a> Policy<'a> {
    /// Where the rule that users know by `source` was written: file and line.
    #[must_use]
    pub fn rule_place(&self, source: u16) -> Option<(&'a str, u32)> {
        let row = self.sources.get(usize::from(source)).filter(|_| source != NONE)?;
        let file = self.files.get((row.place >> 24) as usize)?;
        Some((self.text(*file), row.place & 0xff_ffff))
    }

    /// The name of a rule and the reason that its author gave; empty without one.
    #[must_use]
    pub fn rule_label(&self, source: u16) -> (&'a str, &'a str) {
        let row = self.sources.get(usize::from(source)).filter(|_| source != NONE);
        let label = row.and_then(|row| self.labels.get(row.label.checked_sub(1)? as usize));
        label.map_or(("", ""), |label| (self.text(label.name), self.text(label.because)))
    }
}
