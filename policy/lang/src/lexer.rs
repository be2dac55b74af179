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

/// The most mistakes of one file that are told.
pub(crate) const MISTAKES: usize = 100;

/// What shows nothing, ends a line for some readers only, or turns the order in which text is read: with one of these, in a
/// comment too, a policy is not what its reader sees.
const fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

fn hidden(file: usize, text: &str, errors: &mut Vec<Diagnostic>) {
    let all = text.char_indices().filter(|(at, c)| is_hidden(*c) && !text[*at..].starts_with("\r\n"));
    errors.extend(all.take(MISTAKES).map(|(start, c)| {
        let span = Span { file, start, end: start + c.len_utf8() };
        let what = format!("a character that nobody sees: U+{:04X}", u32::from(c));
        Diagnostic::error(span, what, "remove it; lines end with a line feed, which a carriage return may precede")
    }));
}

/// Cuts a file into tokens; the last is [`Token::End`].
pub(crate) fn tokens(file: usize, text: &str, errors: &mut Vec<Diagnostic>) -> Vec<Placed> {
    hidden(file, text, errors);
    let most = errors.len() + MISTAKES;
    let mut all = Vec::new();
    let mut at = 0;
    let mut starts_line = true;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let space = rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || is_hidden(c)).len();
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
            Err(_) if errors.len() >= most => break,
            Err((message, help)) => errors.push(Diagnostic::error(span, message, help)),
        }
        starts_line = false;
        at += length;
    }
    let end = Span { file, start: text.len(), end: text.len() };
    all.push(Placed { token: Token::End, span: end, starts_line: true });
    all
}

type Lexed = (usize, Result<Token, (String, &'static str)>);

fn one(rest: &str) -> Lexed {
    let first = rest.chars().next().unwrap_or('\0');
    if first.is_ascii_alphabetic() || first == '_' || first == '$' {
        let length = 1 + rest.get(1..).map_or(0, |rest| span_of(rest, |c| c.is_ascii_alphanumeric() || c == '_'));
        let word = rest.get(..length).unwrap_or_default();
        let long = Err(("this name is too long".to_string(), "names have at most 48 letters, digits and underscores"));
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
        None => {
            // A run of foreign letters is one mistake.
            let length = span_of(rest, |c| !c.is_ascii() && !c.is_whitespace()).max(first.len_utf8());
            let what = format!("`{first}` (U+{:04X}) means nothing here", u32::from(first));
            (length, Err((what, "remove it; names are of ASCII letters, digits and underscores")))
        }
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
        (Some(hex), _, false) => i128::from_str_radix(hex, 16).ok(),
        (_, Some(binary), false) => i128::from_str_radix(binary, 2).ok(),
        // Elsewhere 017 is 15.
        _ if digits.len() > decimals + 1 && digits.starts_with('0') => None,
        _ => digits.parse().ok(),
    };
    let help =
        "write a decimal without zeros before it, 0x or 0b, of at most 64 bits, with at most nine digits after a point";
    let value = parsed.filter(|value| *value <= i128::from(u64::MAX) && decimals <= DECIMALS);
    let token = value.and_then(|value| Some(Token::Number(value, u8::try_from(decimals).ok()?)));
    (length, token.ok_or(("this is no number that fits".to_string(), help)))
}

/// A text ends on its line; there are no escapes.
fn text(rest: &str) -> Lexed {
    let inner = rest.get(1..).unwrap_or_default();
    let end = inner.find(['"', '\n']).unwrap_or(inner.len());
    if inner.get(end..).is_some_and(|rest| rest.starts_with('"')) {
        (end + 2, Ok(Token::Text(inner.get(..end).unwrap_or_default().to_string())))
    } else {
        (end + 1, Err(("this text has no end".to_string(), "close it with \" on the same line")))
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

    #[test]
    fn what_nobody_sees_is_an_error_in_comments_too_and_line_ends_of_both_kinds_are_not() {
        assert_eq!(lex("a // c\r\nb\t\"t\"\r\n").1, 0);
        for hidden in ["a // c\rb", "a // \u{202e}c", "a \"t\u{200b}\"", "\u{feff}a", "a\0", "a // \u{2028}b"] {
            assert_eq!(lex(hidden).1, 1, "{hidden:?}");
        }
    }

    #[test]
    fn a_number_has_one_reading_and_a_flood_of_mistakes_is_cut() {
        assert_eq!(lex("0 0.5 0x0f 10").1, 0);
        for wrong in ["017", "00", "00.5", "1e3", "0o17", "0x", "5s", "18446744073709551616", "0.1234567890"] {
            assert_eq!(lex(wrong).1, 1, "{wrong}");
        }
        assert_eq!(lex(&"ä ".repeat(5000)).1, MISTAKES);
        assert_eq!(lex(&"ä".repeat(5000)).1, 1);
    }
}
