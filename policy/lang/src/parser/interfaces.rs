//! Interfaces: types, errors, methods, fields.

use super::{Parsed, Parser};
use crate::tree::{Field, Interface, Method, Name, Shape, Way};

impl Parser<'_> {
    pub(super) fn interface(&mut self) -> Parsed<Interface> {
        let name = self.name("the interface's name")?;
        self.expect("{", "interface NAME { method … }")?;
        let (enums, flags, records) = (Vec::new(), Vec::new(), Vec::new());
        let mut interface = Interface { name, enums, flags, records, errors: Vec::new(), methods: Vec::new() };
        loop {
            if self.skip("}") {
                return Ok(interface);
            }
            if self.skip(";") {
            } else if self.skip_word("enum") {
                interface.enums.push(self.enumeration()?);
            } else if self.skip_word("flags") {
                interface.flags.push(self.enumeration()?);
            } else if self.skip_word("record") {
                let name = self.name("the record's name")?;
                interface.records.push((name, self.fields("{", "}")?));
            } else if self.skip_word("errors") {
                interface.errors.extend(self.words("errors { first, second }")?);
            } else if self.skip_word("method") {
                interface.methods.push(self.method()?);
            } else if self.skip_word("question") {
                let (name, arguments) = (self.name("the question's name")?, self.fields("(", ")")?);
                let (replies, errors, is_question, way) = (Vec::new(), None, true, Way::Calls);
                interface.methods.push(Method { name, arguments, replies, errors, is_question, way });
            } else {
                let help = "method NAME(FIELD: TYPE, …) -> (FIELD: TYPE, …)";
                return self.error("expected `method`, `question`, `enum`, `flags`, `record`, `errors` or `}`", help);
            }
        }
    }

    pub(super) fn enumeration(&mut self) -> Parsed<(Name, Vec<Name>)> {
        let name = self.name("the enumeration's name")?;
        Ok((name, self.words("enum NAME { first, second }")?))
    }

    pub(super) fn words(&mut self, help: &str) -> Parsed<Vec<Name>> {
        self.expect("{", help)?;
        let mut words = vec![self.name("a word")?];
        while self.skip(",") {
            words.push(self.name("a word")?);
        }
        self.expect("}", help)?;
        Ok(words)
    }

    pub(super) fn method(&mut self) -> Parsed<Method> {
        let name = self.name("the method's name")?;
        let arguments = self.fields("(", ")")?;
        self.expect("->", "say what it answers, () for nothing: method NAME(…) -> ()")?;
        let replies = self.fields("(", ")")?;
        let ways = [("reads", Way::Reads), ("writes", Way::Writes), ("executes", Way::Executes)];
        let way = ways.into_iter().find(|(word, _)| self.skip_word(word)).map_or(Way::Calls, |(_, way)| way);
        let errors = self.method_errors()?;
        Ok(Method { name, arguments, replies, errors, is_question: false, way })
    }

    pub(super) fn method_errors(&mut self) -> Parsed<Option<Vec<Name>>> {
        if self.skip_words(&["never", "fails"]) {
            return Ok(Some(Vec::new()));
        }
        if !self.skip_words(&["fails", "with"]) {
            return Ok(None);
        }
        let mut errors = vec![self.name("one of the interface's errors")?];
        while self.skip(",") {
            errors.push(self.name("one of the interface's errors")?);
        }
        Ok(Some(errors))
    }

    pub(super) fn fields(&mut self, open: &str, close: &str) -> Parsed<Vec<Field>> {
        self.expect(open, "fields are (NAME: TYPE, …), those of a record { NAME: TYPE, … }")?;
        let mut all = Vec::new();
        while !self.skip(close) {
            if !all.is_empty() {
                self.expect(",", "fields are separated by commas")?;
            }
            let is_secret = self.skip_word("secret");
            let name = self.name("a field's name")?;
            self.expect(":", "a field is NAME: TYPE")?;
            let (mut shape, mut kind) = (Shape::One, self.name("a type")?);
            match kind.text.as_str() {
                "optional" => (shape, kind) = (Shape::Optional, self.name("a type")?),
                "list" => {
                    self.expect_word("of", "list of TYPE max 4")?;
                    kind = self.name("a type")?;
                    shape = Shape::List(1);
                }
                "text" | "bytes" => {
                    self.expect_word("max", "text max 16")?;
                    shape = Shape::Text(self.whole("how many bytes at the most")?);
                }
                _ => {}
            }
            let range = if self.skip_word("in") { Some(self.constant_range()?) } else { None };
            let step = if self.skip_word("step") { Some(self.quantity()?) } else { None };
            let unit = if self.skip_word("unit") { Some(self.name("a unit's name")?) } else { None };
            if let Shape::List(most) = &mut shape {
                self.expect_word("max", "list of TYPE max 4")?;
                *most = self.whole("how many elements at the most")?;
            }
            all.push(Field { name, shape, kind, range, step, unit, is_secret });
        }
        Ok(all)
    }
}
