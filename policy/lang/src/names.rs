//! Names in the text of a policy, for editors: what a name at a place is, and where it is declared. It reads tokens, so that it works
//! while the text is being written and does not compile.

use crate::diagnostic::Span;
use crate::lexer::{Placed, Token, tokens};
use crate::parser::STATEMENTS;

/// Words after which a name is declared.
pub(crate) const DECLARING: [&str; 25] = [
    "interface",
    "app",
    "group",
    "lattice",
    "channel",
    "service",
    "device",
    "resource",
    "let",
    "counter",
    "flow",
    "timer",
    "rate",
    "set",
    "map",
    "grant",
    "registers",
    "method",
    "question",
    "enum",
    "flags",
    "record",
    "as",
    "policy",
    "profile",
];

/// Words of clauses and expressions, which an editor may offer besides the statements' and the policy's own.
const WORDS: [&str; 70] = [
    "method",
    "errors",
    "fails with",
    "never fails",
    "question",
    "enum",
    "flags",
    "record",
    "optional",
    "list",
    "text",
    "bytes",
    "has",
    "present",
    "starts with",
    "ends with",
    "matches",
    "for all",
    "when",
    "except",
    "at most",
    "within",
    "using",
    "then",
    "audit",
    "audit by",
    "allowed",
    "denied",
    "only",
    "to caller",
    "because",
    "as",
    "reply",
    "error",
    "use",
    "in",
    "between",
    "above",
    "below",
    "is",
    "not",
    "and",
    "or",
    "implies",
    "caller",
    "age of",
    "time of day",
    "day of week",
    "becomes",
    "count",
    "add",
    "remove",
    "put",
    "start",
    "reset",
    "give",
    "commit",
    "roll back",
    "per",
    "lasts",
    "one way",
    "levels",
    "categories",
    "rises to",
    "reads",
    "writes",
    "executes",
    "holds",
    "step",
    "unit",
];

/// A declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// How it is declared: its line, or a field's name, type, range, step and unit.
    pub how: String,
}

/// The word at a place of a file's text, and where it stands.
#[must_use]
pub fn word_at(file: usize, text: &str, offset: usize) -> Option<(String, Span)> {
    let all = tokens(file, text, &mut Vec::new());
    let found =
        all.iter().find(|placed| placed.span.start <= offset && offset <= placed.span.end && is_word(placed))?;
    match &found.token {
        Token::Word(word) => Some((word.clone(), found.span)),
        _ => None,
    }
}

/// Where a word stands in a text.
#[must_use]
pub fn occurrences(file: usize, text: &str, word: &str) -> Vec<Span> {
    let all = tokens(file, text, &mut Vec::new()).into_iter();
    all.filter(|placed| placed.token == Token::Word(word.to_string())).map(|placed| placed.span).collect()
}

/// Whether a word can be a name: letters, digits and underscores, and not a word of the language.
#[must_use]
pub fn can_be_a_name(word: &str) -> bool {
    let all = tokens(0, word, &mut Vec::new());
    let is_one = matches!(all.first().map(|placed| &placed.token), Some(Token::Word(found)) if found == word && !word.starts_with('$'));
    is_one && !keywords().contains(&word)
}

fn is_word(placed: &Placed) -> bool {
    matches!(placed.token, Token::Word(_))
}

/// What a file declares.
#[must_use]
pub fn declared(file: usize, text: &str) -> Vec<Declared> {
    let all = tokens(file, text, &mut Vec::new());
    let mut found = Vec::new();
    for (at, placed) in all.iter().enumerate() {
        let Token::Word(name) = &placed.token else { continue };
        let token = |at: usize| all.get(at).map(|placed| &placed.token);
        let before = at.checked_sub(1).and_then(token);
        let is_declared = matches!(before, Some(Token::Word(word)) if DECLARING.contains(&word.as_str()));
        // NAME: TYPE, after a parenthesis, a comma or `secret`.
        let opens = matches!(before, Some(Token::Mark("(" | ",")))
            || matches!(before, Some(Token::Word(word)) if word == "secret");
        let is_field =
            opens && token(at + 1) == Some(&Token::Mark(":")) && matches!(token(at + 2), Some(Token::Word(_)));
        if !is_declared && !is_field {
            continue;
        }
        let end = if is_field { field_end(&all, at) } else { placed.span.end };
        let line = text.get(..placed.span.start).map_or(0, |before| before.rfind('\n').map_or(0, |at| at + 1));
        let how = if is_field {
            text.get(placed.span.start..end).unwrap_or_default().to_string()
        } else {
            text.get(line..).unwrap_or_default().lines().next().unwrap_or_default().trim().to_string()
        };
        found.push(Declared { name: name.clone(), span: placed.span, how });
    }
    found
}

/// The end of a field's declaration: before the comma or the parenthesis that follows.
fn field_end(all: &[Placed], at: usize) -> usize {
    let rest = all.iter().skip(at);
    let last = rest.take_while(|placed| !matches!(placed.token, Token::Mark("," | ")") | Token::End)).last();
    last.map_or(0, |placed| placed.span.end)
}

/// The language's own words.
#[must_use]
pub fn keywords() -> Vec<&'static str> {
    STATEMENTS.iter().chain(&WORDS).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::{declared, word_at};

    const TEXT: &str = "interface I {\n  method m(speed: u16 in 0..5 unit Hz, b: u8) -> ()\n}\nflow f { a -> b }\nallow guest s.m when speed > 1 as fast\n";

    #[test]
    fn declarations_are_found_in_text_that_may_not_compile() {
        let all = declared(0, TEXT);
        let names: Vec<&str> = all.iter().map(|declared| declared.name.as_str()).collect();
        assert_eq!(names, ["I", "m", "speed", "b", "f", "fast"]);
        assert_eq!(all[2].how, "speed: u16 in 0..5 unit Hz");
        assert_eq!(all[4].how, "flow f { a -> b }");
        let at = TEXT.find("speed > 1").unwrap();
        assert_eq!(word_at(0, TEXT, at + 2).map(|(word, _)| word).as_deref(), Some("speed"));
        assert_eq!(word_at(0, "5 + 5", 2), None);
    }
}
