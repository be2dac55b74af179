//! Conditions on values of several words: texts, lists, optional values.

use super::{Scope, Typed};
use crate::automata;
use crate::check::Checker;
use crate::diagnostic::Span;
use crate::messages::{CHUNK, chunks};
use crate::policy::{Expression, Head, Kind, Presence, Values};
use crate::tree::{self, Name, Operator};

/// Whether a word counts a text's bytes or a list's elements.
pub(super) fn is_counted(scope: Scope<'_>, at: usize) -> bool {
    matches!(scope.fields.get(at).and_then(|field| field.head), Some(Head::Text(_) | Head::List(_)))
}

/// The place of a text, and whether it is bytes.
pub(super) fn text_at(scope: Scope<'_>, at: usize) -> Option<(usize, bool)> {
    match scope.fields.get(at)?.head {
        Some(Head::Text(is_bytes)) => Some((at, is_bytes)),
        _ => None,
    }
}

/// How many words a text takes after its length.
fn chunk_count(scope: Scope<'_>, at: usize) -> usize {
    let most = scope.fields.get(at).map_or(0, |field| field.range.1);
    usize::try_from(most).unwrap_or(0).div_ceil(CHUNK)
}

fn all_of(parts: impl IntoIterator<Item = Expression>) -> Expression {
    let all = parts.into_iter().reduce(|one, other| Expression::And(Box::new(one), Box::new(other)));
    all.unwrap_or(Expression::Number(1))
}

fn within(at: usize, range: Values) -> Expression {
    Expression::Within(Box::new(Expression::Argument(at)), vec![range])
}

/// Whether two texts are the same: as long, and in each word.
pub(super) fn same_text(scope: Scope<'_>, (one, _): (usize, bool), (other, _): (usize, bool)) -> Expression {
    let (first, second) = (chunk_count(scope, one), chunk_count(scope, other));
    let same = |at: usize| {
        // The words that only one of them has are zero if it is as long as the other.
        let sides = [(one, first), (other, second)]
            .map(|(text, count)| if at <= count { Expression::Argument(text + at) } else { Expression::Number(0) });
        let [left, right] = sides;
        Expression::Binary(Operator::Equal, Box::new(left), Box::new(right))
    };
    all_of((0..=first.max(second)).map(same))
}

impl Checker<'_> {
    /// A word of the message as a value: one that may be absent fails then, unless `for` has made sure of it.
    pub(super) fn value_of(&mut self, scope: Scope<'_>, at: usize, span: Span) -> Typed {
        let field = scope.fields.get(at)?;
        match field.head {
            Some(Head::Text(_)) => {
                let help = "compare it: `== \"…\"`, `starts with`, `ends with`, `matches`, `length of`";
                self.error(span, format!("`{}` is a text", field.name), help);
                return None;
            }
            Some(Head::List(_)) => {
                let help = "ask its elements: `for all x in LIST: x < 5`, `LIST[0]`, `length of LIST`";
                self.error(span, format!("`{}` is a list", field.name), help);
                return None;
            }
            Some(Head::Optional) | None => {}
        }
        let kind = Kind { values: field.range, ..field.kind.clone() };
        let is_sure =
            scope.element.is_some_and(|(_, path)| field.name == path || field.name.starts_with(&format!("{path}.")));
        Some(match field.presence {
            Presence::Above(guard, above) if !is_sure => (Expression::Present(at, guard, above), kind),
            _ => (Expression::Argument(at), kind),
        })
    }

    /// Whether a text is this one: range tests of its words.
    pub(super) fn is_text(
        &mut self,
        scope: Scope<'_>,
        (at, is_bytes): (usize, bool),
        text: &str,
        span: Span,
    ) -> Option<Expression> {
        let bytes = self.bytes(text, span, is_bytes)?;
        let length = bytes.len() as i128;
        let (name, most) = scope.fields.get(at).map(|field| (field.name.clone(), field.range.1))?;
        if length > most {
            self.error(span, format!("`{name}` is never this long"), format!("it has at most {most} bytes"));
            return None;
        }
        let words = chunks(&bytes, bytes.len().div_ceil(CHUNK)).into_iter().enumerate();
        let words = words.map(|(chunk, word)| within(at + 1 + chunk, (word.into(), word.into())));
        Some(all_of(std::iter::once(within(at, (length, length))).chain(words)))
    }

    pub(super) fn like(
        &mut self,
        scope: Scope<'_>,
        at: usize,
        is_bytes: bool,
        like: tree::Like,
        text: &str,
        span: Span,
    ) -> Option<Expression> {
        let count = chunk_count(scope, at);
        let pattern = match like {
            tree::Like::Starts => {
                // The first bytes are the highest bits of the words: a beginning is a range.
                let bytes = self.bytes(text, span, is_bytes)?;
                let most = scope.fields.get(at)?.range.1;
                if bytes.len() as i128 > most {
                    self.error(span, "the text is never this long", format!("it has at most {most} bytes"));
                    return None;
                }
                let words = chunks(&bytes, bytes.len().div_ceil(CHUNK)).into_iter().enumerate().map(|(chunk, word)| {
                    let given = (bytes.len() - chunk * CHUNK).min(CHUNK);
                    let rest = if given == CHUNK { 0 } else { u64::MAX >> (given * 8) };
                    within(at + 1 + chunk, (word.into(), (word | rest).into()))
                });
                return Some(all_of(std::iter::once(within(at, (bytes.len() as i128, most))).chain(words)));
            }
            tree::Like::Ends => {
                let bytes = self.bytes(text, span, is_bytes)?;
                let byte = |byte: &u8| format!("\\x{byte:02x}");
                format!("(?s:.*){}", bytes.iter().map(byte).collect::<String>())
            }
            tree::Like::Matches => text.to_string(),
        };
        if let Err(why) = automata::check(&pattern) {
            self.error(span, "this is no regular expression that can be had", why);
            return None;
        }
        Some(Expression::Matches(at, count, pattern))
    }

    /// `for all X in LIST: CONDITION`, for each element that the list may have.
    pub(super) fn each(
        &mut self,
        scope: Scope<'_>,
        is_all: bool,
        name: &Name,
        list: &tree::Expression,
        condition: &tree::Expression,
    ) -> Typed {
        let found = scope
            .at(list)
            .zip(scope.path(list))
            .filter(|(at, _)| matches!(scope.fields.get(*at).and_then(|field| field.head), Some(Head::List(_))));
        let Some((at, path)) = found else {
            self.error(list.span(), "this is no list", "name a field of type `list of …`");
            return None;
        };
        if scope.element.is_some() {
            self.error(
                name.span,
                "`for` stands in `for`",
                "a message has room for no list of lists: ask them one after the other",
            );
            return None;
        }
        let is_taken = scope.fields.iter().any(|field| field.name == name.text) || self.state(&name.text).is_some();
        if is_taken {
            self.twice(name);
            return None;
        }
        let mut parts = Vec::new();
        for element in 0..scope.fields.get(at)?.range.1 {
            let path = format!("{path}[{element}]");
            let inner = Scope { element: Some((&name.text, &path)), ..scope };
            let holds = Box::new(self.condition(inner, condition)?);
            let most = scope.fields.get(at)?.range.1;
            parts.push(if is_all {
                Expression::Or(Box::new(within(at, (0, element))), holds)
            } else {
                Expression::And(Box::new(within(at, (element + 1, most))), holds)
            });
        }
        let joined = if is_all {
            all_of(parts)
        } else {
            parts.into_iter().reduce(|one, other| Expression::Or(Box::new(one), Box::new(other)))?
        };
        Some((joined, Kind::truth()))
    }
}
