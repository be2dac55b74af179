//! What is wrong, where, and what to do about it.

use std::fmt;

/// A piece of a source file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The file's place among the sources.
    pub file: usize,
    /// First byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

impl Span {
    /// From this piece's start to the other's end.
    #[must_use]
    pub const fn to(self, other: Self) -> Self {
        Self { file: self.file, start: self.start, end: other.end }
    }
}

/// A source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, relative to the site's folder.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// All files of a policy.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub Vec<Source>);

impl Sources {
    /// File name, line and column (from 1) of a place, and the line's text.
    #[must_use]
    pub fn place(&self, span: Span) -> (&str, u32, usize, &str) {
        let Some(source) = self.0.get(span.file) else { return ("", 0, 0, "") };
        let before = source.text.get(..span.start).unwrap_or(&source.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = source.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let number = u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (&source.name, number, column, line)
    }

    /// The text of a piece.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        self.0.get(span.file).and_then(|source| source.text.get(span.start..span.end)).unwrap_or_default()
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The policy is not compiled.
    Error,
    /// It is, but probably not as meant.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// The remedy.
    pub help: String,
    /// Other places that belong to it, and what is there.
    pub also: Vec<(Span, String)>,
}

impl Diagnostic {
    /// An error with its remedy.
    pub fn error(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (message, help) = (message.into(), help.into());
        Self { severity: Severity::Error, span, message, help, also: Vec::new() }
    }

    /// A warning with its remedy.
    pub fn warning(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message, help) }
    }

    /// The finding with another place that belongs to it.
    #[must_use]
    pub fn also(mut self, span: Span, what: impl Into<String>) -> Self {
        self.also.push((span, what.into()));
        self
    }

    /// The finding with its source line, for people.
    #[must_use]
    pub fn render<'a>(&'a self, sources: &'a Sources) -> Rendered<'a> {
        Rendered { diagnostic: self, sources }
    }
}

/// A finding as text.
#[derive(Clone, Copy, Debug)]
pub struct Rendered<'a> {
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { severity, span, message, help, also } = self.diagnostic;
        let word = if *severity == Severity::Error { "error" } else { "warning" };
        let (file, line, column, text) = self.sources.place(*span);
        writeln!(f, "{word}: {message}")?;
        if !file.is_empty() {
            let gutter = line.to_string().len();
            let length = self.sources.text(*span).lines().next().unwrap_or_default().chars().count().max(1);
            // Tabs stay tabs, so that the caret stands below its place.
            let lead: String = text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            writeln!(f, "{:gutter$}--> {file}:{line}:{column}", "")?;
            writeln!(f, "{line} | {text}")?;
            writeln!(f, "{:gutter$} | {lead}{}", "", "^".repeat(length))?;
        }
        for (span, what) in also {
            let (file, line, ..) = self.sources.place(*span);
            writeln!(f, "  see: {file}:{line}: {what}")?;
        }
        if !help.is_empty() {
            writeln!(f, "  help: {help}")?;
        }
        Ok(())
    }
}

/// What is said of a name that is declared twice.
pub(crate) fn twice(name: &str) -> String {
    format!("`{name}` is declared twice")
}

/// The name among `known` that is nearest to `wanted`, if it is near enough to be meant.
#[must_use]
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().take(COMPARED).map(|name| (distance(wanted, name), name)).min();
    near.filter(|&(distance, _)| distance <= 1 + wanted.len() / 4).map(|(_, name)| name)
}

/// The most names that a wrong one is compared with.
const COMPARED: usize = 1000;

/// Levenshtein's distance; names are short (the lexer bounds them).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(nearest("plnt", ["plant", "clock"]), Some("plant"));
        assert_eq!(nearest("set_pmup", ["set_pump", "level"]), Some("set_pump"));
        assert_eq!(nearest("xyz", ["plant", "clock"]), None);
    }

    #[test]
    fn a_finding_shows_its_line_and_a_caret() {
        let sources = Sources(vec![Source { name: "a.policy".into(), text: "one\n\tallow nobody\n".into() }]);
        let error = Diagnostic::error(Span { file: 0, start: 11, end: 17 }, "no such subject", "write guest");
        let text = error.render(&sources).to_string();
        assert_eq!(
            text,
            "error: no such subject\n --> a.policy:2:8\n2 | \tallow nobody\n  | \t      ^^^^^^\n  help: write guest\n"
        );
    }
}
