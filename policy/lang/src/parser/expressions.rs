//! Expressions: operators bind as in most languages, comparisons do not chain, `not` binds less than they do.

use super::{DEPTH, Parsed, Parser, TERMS};
use crate::diagnostic::Span;
use crate::lexer::{Placed, Token};
use crate::tree::{Expression, Like, Operator, Set};

impl Parser<'_> {
    pub(super) fn expression(&mut self, depth: usize) -> Parsed<Expression> {
        const FORM: &str = "for all NAME in LIST: CONDITION, or for any";
        if self.skip_word("for") {
            self.count(depth)?;
            let is_all = self.skip_word("all");
            if !is_all {
                self.expect_word("any", FORM)?;
            }
            let name = self.name("a name for each element")?;
            self.expect_word("in", FORM)?;
            let list = self.dotted(depth)?;
            self.expect(":", FORM)?;
            let condition = self.expression(depth + 1)?;
            return Ok(Expression::For(is_all, name, Box::new(list), Box::new(condition)));
        }
        let left = self.disjunction(depth)?;
        if self.skip_word("implies") {
            return Ok(binary(Operator::Implies, left, self.disjunction(depth)?));
        }
        Ok(left)
    }

    pub(super) fn disjunction(&mut self, depth: usize) -> Parsed<Expression> {
        let mut left = self.conjunction(depth)?;
        while self.skip_word("or") {
            left = binary(Operator::Or, left, self.conjunction(depth)?);
        }
        Ok(left)
    }

    pub(super) fn conjunction(&mut self, depth: usize) -> Parsed<Expression> {
        let mut left = self.negation(depth)?;
        while self.skip_word("and") {
            left = binary(Operator::And, left, self.negation(depth)?);
        }
        Ok(left)
    }

    pub(super) fn negation(&mut self, depth: usize) -> Parsed<Expression> {
        self.count(depth)?;
        if self.skip_word("not") {
            return Ok(Expression::Not(Box::new(self.negation(depth + 1)?)));
        }
        self.comparison(depth)
    }

    /// Each expression is counted, so that neither its depth nor its size is without bound.
    pub(super) fn count(&mut self, depth: usize) -> Parsed<()> {
        self.terms += 1;
        if depth > DEPTH || self.terms > TERMS {
            return self.error("this expression is too long or nests too deep", "split it into several rules");
        }
        Ok(())
    }

    /// A set of numbers: by its name, or written out.
    fn set(&mut self) -> Parsed<Set> {
        Ok(match self.peek() {
            Token::Word(_) if !matches!(self.tokens.get(self.at + 1), Some(next) if next.token == Token::Mark("..")) => {
                Set::Named(Box::new(self.reference()?))
            }
            _ => Set::Ranges(self.ranges()?),
        })
    }

    pub(super) fn comparison(&mut self, depth: usize) -> Parsed<Expression> {
        let left = self.sum(depth)?;
        for (words, like) in [
            (["starts", "with"].as_slice(), Like::Starts),
            (&["ends", "with"], Like::Ends),
            (&["matches"], Like::Matches),
        ] {
            if self.skip_words(words) {
                let span = self.span();
                return Ok(Expression::Like(Box::new(left), like, self.text("a text")?, span));
            }
        }
        if self.skip_word("has") {
            return Ok(Expression::Has(Box::new(left), self.name("a flag")?));
        }
        if self.skip_word("for") {
            let count = self.sum(depth)?;
            self.expect_word("in", "ADDRESS for COUNT in SET")?;
            return Ok(Expression::Several(Box::new(left), Box::new(count), self.set()?));
        }
        if self.skip_word("in") {
            let texts = usize::from(self.peek() == &Token::Mark("{"));
            if let Some(Placed { token: Token::Text(_), .. }) = self.tokens.get(self.at + texts) {
                self.at += texts;
                let one = |parser: &mut Self| {
                    let span = parser.span();
                    Ok((parser.text("a text")?, span))
                };
                let all = if texts == 1 { self.list(one)? } else { vec![one(self)?] };
                if texts == 1 {
                    self.expect("}", "a set is { \"a\", \"b\" }")?;
                }
                return Ok(Expression::In(Box::new(left), Set::Texts(all)));
            }
            return Ok(Expression::In(Box::new(left), self.set()?));
        }
        if self.skip_word("between") {
            let low = self.constant()?;
            self.expect_word("and", "between A and B")?;
            return Ok(Expression::In(Box::new(left), Set::Ranges(vec![(low, self.constant()?)])));
        }
        if self.skip_word("is") {
            let is_not = self.skip_word("not");
            let is = Expression::Is(Box::new(left), self.name("a state of the flow")?);
            return Ok(if is_not { Expression::Not(Box::new(is)) } else { is });
        }
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let words = [("above", Operator::Greater), ("below", Operator::Less)];
        let found = operators.into_iter().find(|(mark, _)| self.skip(mark));
        match found.or_else(|| words.into_iter().find(|(word, _)| self.skip_word(word))) {
            Some((_, operator)) => Ok(binary(operator, left, self.sum(depth)?)),
            None => Ok(left),
        }
    }

    pub(super) fn sum(&mut self, depth: usize) -> Parsed<Expression> {
        let operators =
            [("+", Operator::Add), ("-", Operator::Subtract), ("|", Operator::BitOr), ("^", Operator::BitXor)];
        let mut left = self.product(depth)?;
        while let Some((_, operator)) = operators.into_iter().find(|(mark, _)| self.skip(mark)) {
            left = binary(operator, left, self.product(depth)?);
        }
        Ok(left)
    }

    pub(super) fn product(&mut self, depth: usize) -> Parsed<Expression> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Remainder),
            ("&", Operator::BitAnd),
            ("<<", Operator::ShiftLeft),
            (">>", Operator::ShiftRight),
        ];
        let mut left = self.primary(depth)?;
        while let Some((_, operator)) = operators.into_iter().find(|(mark, _)| self.skip(mark)) {
            left = binary(operator, left, self.primary(depth)?);
        }
        Ok(left)
    }

    pub(super) fn primary(&mut self, depth: usize) -> Parsed<Expression> {
        let found = self.operand(depth)?;
        if self.skip_word("of") {
            return Ok(Expression::Of(Box::new(found), Box::new(self.reference()?)));
        }
        Ok(found)
    }

    pub(super) fn operand(&mut self, depth: usize) -> Parsed<Expression> {
        self.count(depth)?;
        let start = self.span();
        if self.skip("(") {
            let inner = self.expression(depth + 1)?;
            self.expect(")", "close the parenthesis")?;
            return Ok(inner);
        }
        if self.skip("-") {
            if let Token::Number(..) = self.peek() {
                let mut number = self.quantity()?;
                (number.digits, number.span) = (-number.digits, start.to(number.span));
                return Ok(Expression::Number(number));
            }
            return Ok(Expression::Negative(Box::new(self.primary(depth + 1)?), start));
        }
        if let Token::Number(..) = self.peek() {
            return self.quantity().map(Expression::Number);
        }
        if let Token::Text(text) = self.peek() {
            let text = text.clone();
            self.at += 1;
            return Ok(Expression::Text(text, start));
        }
        if self.skip_words(&["length", "of"]) {
            return Ok(Expression::Length(Box::new(self.dotted(depth)?), start));
        }
        if self.skip_word("caller") {
            return Ok(Expression::Caller(start));
        }
        for (words, expression) in [
            (["age", "of"].as_slice(), None),
            (&["time", "of", "day"], Some(Expression::TimeOfDay as fn(Span) -> Expression)),
            (&["day", "of", "week"], Some(Expression::DayOfWeek as fn(Span) -> Expression)),
        ] {
            if self.skip_words(words) {
                return match expression {
                    Some(make) => Ok(make(start.to(self.last_span()))),
                    None => Ok(Expression::Age(Box::new(self.reference()?))),
                };
            }
        }
        self.dotted(depth)
    }

    /// `NAME`, `NAME(KEYS)`, `NAME.FIELD`, `NAME[0]`, `NAME[0].FIELD`
    pub(super) fn dotted(&mut self, depth: usize) -> Parsed<Expression> {
        let mut found = self.reference()?;
        loop {
            self.count(depth)?;
            if self.skip(".") {
                found =
                    Expression::Value(Box::new(found), self.name("a field, or a value that the flow's state holds")?);
            } else if self.skip("[") {
                let place = self.whole("an element's number, from 0 on")?;
                self.expect("]", "LIST[0]")?;
                found = Expression::Element(Box::new(found), place, self.last_span());
            } else {
                return Ok(found);
            }
        }
    }
}

pub(super) fn binary(operator: Operator, left: Expression, right: Expression) -> Expression {
    Expression::Binary(operator, Box::new(left), Box::new(right))
}
