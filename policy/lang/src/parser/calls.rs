//! Tests, and the calls in them.

use super::{Parsed, Parser};
use crate::diagnostic::Span;
use crate::lexer::Token;
use crate::tree::{Call, Constant, Event, Expected, Literal, Name, Step, Test};

impl Parser<'_> {
    pub(super) fn test(&mut self, start: Span) -> Parsed<Test> {
        let name = self.text("what the test shows")?;
        self.expect("{", "test \"what it shows\" { guest -> plant.level() allowed }")?;
        let mut steps = Vec::new();
        while !self.skip("}") {
            if self.skip(";") {
                continue;
            }
            let start = self.span();
            self.terms = 0;
            let step = self.step()?;
            steps.push((step, start.to(self.last_span())));
        }
        Ok(Test { name, steps, span: start })
    }

    pub(super) fn step(&mut self) -> Parsed<Step> {
        if self.skip_word("wait") {
            return self.quantity().map(Step::Wait);
        }
        if self.skip_words(&["time", "of", "day"]) {
            return self.quantity().map(Step::TimeOfDay);
        }
        if self.skip_words(&["day", "of", "week"]) {
            return self.whole("a day: 1 is Monday").map(Step::DayOfWeek);
        }
        if self.skip_word("given") {
            let effect = Box::new(self.effect()?);
            return Ok(Step::Given(effect, self.for_whom()?));
        }
        if self.skip_word("expect") {
            let condition = Box::new(self.expression(0)?);
            return Ok(Step::Expect(condition, self.for_whom()?));
        }
        self.call().map(|call| Step::Call(Box::new(call)))
    }

    pub(super) fn for_whom(&mut self) -> Parsed<Option<Name>> {
        if self.skip_word("for") { self.name("a subject").map(Some) } else { Ok(None) }
    }

    /// A call without what is expected of it: `SUBJECT -> OBJECT.METHOD(ARGUMENTS)`, with `reply` or `error` before the values.
    pub(crate) fn bare_call(&mut self) -> Parsed<Call> {
        const FORM: &str = "SUBJECT -> OBJECT.METHOD(VALUE, VALUE)";
        let subject = self.name("who calls: guest or an app; or wait, given, expect")?;
        self.expect("->", FORM)?;
        let object = self.name("a service or an object")?;
        self.expect(".", FORM)?;
        let method = self.name("a method")?;
        let event = match (self.skip_word("reply"), self.skip_word("error")) {
            (true, _) => Event::Reply,
            (_, true) => Event::Error,
            _ => Event::Request,
        };
        self.expect("(", FORM)?;
        let mut arguments = Vec::new();
        while !self.skip(")") {
            if !arguments.is_empty() {
                self.expect(",", FORM)?;
            }
            arguments.push(self.literal(0)?);
        }
        let (expected, by, recorded, because) = (Expected::Refused, None, None, None);
        Ok(Call { subject, object, method, event, arguments, expected, by, recorded, because })
    }

    /// A value of a call.
    pub(super) fn literal(&mut self, depth: usize) -> Parsed<Literal> {
        let start = self.span();
        if let Token::Text(text) = self.peek() {
            let text = text.clone();
            self.at += 1;
            return Ok(Literal::Text(text, start));
        }
        for (open, close) in [("[", "]"), ("{", "}")] {
            if depth > 2 || !self.skip(open) {
                continue;
            }
            let mut all = Vec::new();
            while !self.skip(close) {
                if !all.is_empty() {
                    self.expect(",", "[1, 2]; {1, 2}")?;
                }
                all.push(self.literal(depth + 1)?);
            }
            let span = start.to(self.last_span());
            return Ok(if open == "[" { Literal::List(all, span) } else { Literal::Record(all, span) });
        }
        if self.skip_word("none") {
            return Ok(Literal::None(start));
        }
        match self.constant()? {
            Constant::Word(first) if self.peek() == &Token::Mark("|") => {
                let mut all = vec![first];
                while self.skip("|") {
                    all.push(self.name("a flag")?);
                }
                Ok(Literal::Flags(all))
            }
            constant => Ok(Literal::One(constant)),
        }
    }

    pub(super) fn call(&mut self) -> Parsed<Call> {
        const VERDICTS: &str = "allowed, refused, denied, refused no rule, failed, too often or malformed; then by NAME, recorded, because \"TEXT\"";
        let mut call = self.bare_call()?;
        let known: [(&[&str], Expected); 7] = [
            (&["allowed"], Expected::Allowed),
            (&["denied"], Expected::Denied),
            (&["failed"], Expected::Failed),
            (&["malformed"], Expected::Malformed),
            (&["too", "often"], Expected::TooOften),
            (&["refused", "no", "rule"], Expected::NoRule),
            (&["refused"], Expected::Refused),
        ];
        let Some((_, expected)) = known.into_iter().find(|(words, _)| self.skip_words(words)) else {
            return self.error("expected a verdict", VERDICTS);
        };
        call.expected = expected;
        if self.skip_word("by") {
            call.by = Some(self.name("a rule's name")?);
        }
        if self.skip_words(&["not", "recorded"]) {
            call.recorded = Some(false);
        } else if self.skip_word("recorded") {
            call.recorded = Some(true);
        }
        if self.skip_word("because") {
            call.because = Some(self.text("what people are told")?);
        }
        Ok(call)
    }
}
