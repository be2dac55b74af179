//! One way to write a policy: spaces and indentation. Lines and comments stay where they are, so that the compiled table, which
//! names lines, stays the same byte by byte.

use crate::diagnostic::Diagnostic;
use crate::lexer::{self, Placed, Token};
use crate::parser::STATEMENTS;

/// Words after which a parenthesis or a minus begins an operand, not a call or a difference.
const BEFORE_OPERAND: [&str; 20] = [
    "when", "except", "and", "or", "not", "implies", "in", "between", "above", "below", "to", "from", "at", "add",
    "remove", "put", "set", "start", "reply", "error",
];

/// The text in the one way.
///
/// # Errors
/// What in it is no token of the language.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut out = String::new();
    let (mut braces, mut parentheses) = (0_usize, 0_usize);
    for line in text.lines() {
        let tokens = lexer::tokens(0, line, &mut errors);
        let tokens: Vec<&Placed> = tokens.iter().filter(|placed| placed.token != Token::End).collect();
        let code_end = tokens.last().map_or(0, |placed| placed.span.end);
        let comment = line.get(code_end..).unwrap_or_default().trim();
        let closes = matches!(tokens.first(), Some(placed) if placed.token == Token::Mark("}"));
        let is_clause = braces == 0 && matches!(tokens.first(), Some(placed) if !closes && !begins_statement(placed));
        let depth = braces.saturating_sub(usize::from(closes))
            + parentheses.min(1)
            + usize::from(is_clause && parentheses == 0);
        let code = joined(line, &tokens);
        let space = if code.is_empty() || comment.is_empty() { "" } else { " " };
        let whole = format!("{code}{space}{comment}");
        if !whole.is_empty() {
            out.push_str(&"    ".repeat(depth));
            out.push_str(&whole);
        }
        out.push('\n');
        for placed in tokens {
            match placed.token {
                Token::Mark("{") => braces += 1,
                Token::Mark("}") => braces = braces.saturating_sub(1),
                Token::Mark("(") => parentheses += 1,
                Token::Mark(")") => parentheses = parentheses.saturating_sub(1),
                _ => {}
            }
        }
    }
    if errors.is_empty() { Ok(out) } else { Err(errors) }
}

fn begins_statement(placed: &Placed) -> bool {
    matches!(&placed.token, Token::Word(word) if STATEMENTS.contains(&word.as_str()))
}

/// The tokens of a line with the spaces that belong between them.
fn joined(line: &str, tokens: &[&Placed]) -> String {
    let mut out = String::new();
    for (at, placed) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at)).map(|placed| &placed.token);
        let earlier = at.checked_sub(2).and_then(|at| tokens.get(at)).map(|placed| &placed.token);
        if before.is_some_and(|before| has_space(earlier, before, &placed.token)) {
            out.push(' ');
        }
        out.push_str(line.get(placed.span.start..placed.span.end).unwrap_or_default());
    }
    out
}

fn has_space(earlier: Option<&Token>, before: &Token, now: &Token) -> bool {
    let is_operand_next = |token: Option<&Token>| match token {
        None => true,
        Some(Token::Word(word)) => BEFORE_OPERAND.contains(&word.as_str()),
        Some(Token::Mark(mark)) => !matches!(*mark, ")" | "}"),
        _ => false,
    };
    match (before, now) {
        (Token::Mark("." | ".." | "(" | "["), _) | (_, Token::Mark("." | ".." | "," | ")" | "]" | ":" | ";")) => false,
        // An element stands at its list; a list by itself apart.
        (Token::Word(word), Token::Mark("[")) => BEFORE_OPERAND.contains(&word.as_str()),
        (before, Token::Mark("(")) => {
            let is_name = match earlier {
                Some(Token::Mark(mark)) => *mark == ".",
                Some(Token::Word(word)) => word == "method" || word == "question",
                _ => false,
            };
            !is_name && is_operand_next(Some(before))
        }
        (Token::Mark("-"), _) => !is_operand_next(earlier),
        // The place of a PCI function.
        (Token::Mark(":"), Token::Number(..)) => !matches!(earlier, Some(Token::Number(..))),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn spaces_and_indentation_have_one_form_and_comments_stay() {
        let text = "allow   guest plant.set ( 1 )\nallow guest  a.*when x in -5 .. 7 and(y- 3)*-2>1 or v [ 0 ]==1//why\n  because \"a  b\"\n\n\
            interface P{ // here\nmethod m( a:u8,b :i8 )->()\n}\nflow f per u in 1..2 {\na->b\n}\n";
        let wanted = "allow guest plant.set(1)\nallow guest a.* when x in -5..7 and (y - 3) * -2 > 1 or v[0] == 1 //why\n    because \"a  b\"\n\n\
            interface P { // here\n    method m(a: u8, b: i8) -> ()\n}\nflow f per u in 1..2 {\n    a -> b\n}\n";
        assert_eq!(format(text).unwrap(), wanted);
        assert_eq!(format(wanted).unwrap(), wanted);
        assert_eq!(format("device d:pci 0 :30.0 ports 1").unwrap(), "device d: pci 0:30.0 ports 1\n");
        assert_eq!(format("allow ä").unwrap_err().len(), 1);
    }
}
