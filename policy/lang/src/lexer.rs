//! Text to tokens. Every byte sequence gives tokens or an error; nothing here nests or loops on its own output.

use crate::diagnostic::{Diagnostic, Span};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A name or a keyword.
    Word(String),
    /// A number: its digits, and how many of them stand after the point.
    Number(i128, u8),
    /// Text in quotes.
    Text(String),
    /// `{ } ( ) [ ] , : . .. -> == != < <= > >= = * ; + - / % & | ^ << >>`
    Mark(&'static str),
    /// The end of the file.
    End,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) span: Span,
    /// The first token of its line: where a parser that lost its way may find it again.
    pub(crate) starts_line: bool,
}

const MARKS: [&str; 29] = [
    "..", "->", "==", "!=", "<=", ">=", "<<", ">>", "{", "}", "(", ")", "[", "]", ",", ":", ".", "<", ">", "=", "*",
    ";", "+", "-", "/", "%", "&", "|", "^",
];
/// The longest name.
pub(crate) const NAME_MAX: usize = 48;

/// Cuts a file into tokens; the last is [`Token::End`].
pub(crate) fn tokens(file: usize, text: &str, errors: &mut Vec<Diagnostic>) -> Vec<Placed> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut starts_line = true;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let space = rest.len() - rest.trim_start().len();
        starts_line |= rest.get(..space).is_some_and(|space| space.contains('\n'));
        at += space;
        let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) else { break };
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (length, token) = one(rest);
        let span = Span { file, start: at, end: at + length };
        match token {
            Ok(token) => all.push(Placed { token, span, starts_line }),
            Err((message, help)) => errors.push(Diagnostic::error(span, message, help)),
        }
        starts_line = false;
        at += length;
    }
    let end = Span { file, start: text.len(), end: text.len() };
    all.push(Placed { token: Token::End, span: end, starts_line: true });
    all
}

type Lexed = (usize, Result<Token, (&'static str, &'static str)>);

fn one(rest: &str) -> Lexed {
    let first = rest.chars().next().unwrap_or('\0');
    if first.is_ascii_alphabetic() || first == '_' || first == '$' {
        let length = 1 + rest.get(1..).map_or(0, |rest| span_of(rest, |c| c.is_ascii_alphanumeric() || c == '_'));
        let word = rest.get(..length).unwrap_or_default();
        let long = Err(("this name is too long", "names have at most 48 letters, digits and underscores"));
        return (length, if length <= NAME_MAX { Ok(Token::Word(word.to_string())) } else { long });
    }
    if first.is_ascii_digit() {
        return number(rest);
    }
    if first == '"' {
        return text(rest);
    }
    match MARKS.iter().find(|mark| rest.starts_with(**mark)) {
        Some(mark) => (mark.len(), Ok(Token::Mark(mark))),
        None => (first.len_utf8(), Err(("this character means nothing here", "remove it"))),
    }
}

fn span_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The most digits after the point.
const DECIMALS: usize = 9;

/// Decimal, also with a point; `0x`, `0b`; `_` between digits.
fn number(rest: &str) -> Lexed {
    let mut length = span_of(rest, |c| c.is_ascii_alphanumeric() || c == '_');
    let after = rest.get(length..).unwrap_or_default();
    let has_point = after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit());
    let whole: String = rest.get(..length).unwrap_or_default().chars().filter(|c| *c != '_').collect();
    let mut decimals = 0;
    let digits = if has_point {
        decimals = span_of(&after[1..], |c| c.is_ascii_digit());
        length += 1 + decimals;
        format!("{whole}{}", after.get(1..=decimals).unwrap_or_default())
    } else {
        whole
    };
    let parsed = match (digits.strip_prefix("0x"), digits.strip_prefix("0b"), has_point) {
        (Some(hex), _, false) => i128::from_str_radix(hex, 16),
        (_, Some(binary), false) => i128::from_str_radix(binary, 2),
        _ => digits.parse(),
    };
    let help = "write a decimal, 0x or 0b number of at most 64 bits, with at most nine digits after a point";
    let value = parsed.ok().filter(|value| *value <= i128::from(u64::MAX) && decimals <= DECIMALS);
    let token = value.and_then(|value| Some(Token::Number(value, u8::try_from(decimals).ok()?)));
    (length, token.ok_or(("this is no number that fits", help)))
}

/// A text ends on its line; there are no escapes.
fn text(rest: &str) -> Lexed {
    let inner = rest.get(1..).unwrap_or_default();
    let end = inner.find(['"', '\n']).unwrap_or(inner.len());
    if inner.get(end..).is_some_and(|rest| rest.starts_with('"')) {
        (end + 2, Ok(Token::Text(inner.get(..end).unwrap_or_default().to_string())))
    } else {
        (end + 1, Err(("this text has no end", "close it with \" on the same line")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> (Vec<Token>, usize) {
        let mut errors = Vec::new();
        let all = tokens(0, text, &mut errors).into_iter().map(|placed| placed.token).collect();
        (all, errors.len())
    }

    #[test]
    fn numbers_ranges_and_names_are_told_apart() {
        let (all, errors) = lex("x in -5..0x1_0 // rest\n0b11 52.50");
        let word = |text: &str| Token::Word(text.to_string());
        let number = |value| Token::Number(value, 0);
        let rest =
            [Token::Mark("-"), number(5), Token::Mark(".."), number(16), number(3), Token::Number(5250, 2), Token::End];
        assert_eq!(all, [[word("x"), word("in")].to_vec(), rest.to_vec()].concat());
        assert_eq!(errors, 0);
    }

    #[test]
    fn what_is_no_token_is_an_error_and_the_rest_is_still_read() {
        assert_eq!(lex("ä a \"open\nb 99999999999999999999").1, 3);
        assert_eq!(lex("ä b").0, [Token::Word("b".to_string()), Token::End]);
    }
}
