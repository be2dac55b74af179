//! Statements about models and the machine: groups, channels, lattices, requirements.

use super::{Parsed, Parser};
use crate::diagnostic::Span;
use crate::lexer::Token;
use crate::tree::{Channel, Group, Item, Label, Lattice, LatticeLine, Name, Requirement};

impl Parser<'_> {
    pub(super) fn group(&mut self, start: Span) -> Parsed<Group> {
        let name = self.name("the group's name")?;
        let mut members = Vec::new();
        if self.skip(":") {
            members = self.list(|parser| parser.name("a subject or an object"))?;
        }
        self.terms = 0;
        let condition = if self.skip_word("when") { Some(self.expression(0)?) } else { None };
        Ok(Group { name, members, condition, span: start.to(self.last_span()) })
    }

    /// `NAME one way from SENDER, … to RECEIVER, …`
    pub(super) fn channel(&mut self, start: Span) -> Parsed<Channel> {
        const FORM: &str = "channel NAME one way from SENDER to SERVICE";
        let name = self.name("the channel's name")?;
        if !self.skip_words(&["one", "way"]) {
            return self.error("expected `one way`", FORM);
        }
        self.expect_word("from", FORM)?;
        let from = self.list(|parser| parser.name("who sends"))?;
        self.expect_word("to", FORM)?;
        let to = self.list(|parser| parser.name("a service or a device"))?;
        Ok(Channel { name, from, to, span: start.to(self.last_span()) })
    }

    /// `{ levels public, plant  categories boiler  hmi at public rises to plant of boiler when CONDITION }`
    pub(super) fn lattice(&mut self, start: Span) -> Parsed<Lattice> {
        const FORM: &str =
            "levels LOWEST, HIGHEST; categories NAME; NAME at LEVEL of CATEGORY rises to LEVEL when CONDITION";
        let name = self.name("the lattice's name")?;
        let span = start.to(self.last_span());
        let mut lattice = Lattice { name, levels: Vec::new(), categories: Vec::new(), lines: Vec::new(), span };
        self.expect("{", "lattice NAME { levels …  categories …  NAME at LEVEL of CATEGORY }")?;
        while !self.skip("}") {
            if self.skip(";") {
                continue;
            }
            let start = self.span();
            let mut names = self.list(|parser| parser.name("who or what has a label, or }"))?;
            if self.skip_word("at") {
                let label = self.label()?;
                let mut rise = None;
                if self.skip_words(&["rises", "to"]) {
                    let label = self.label()?;
                    self.expect_word("when", FORM)?;
                    self.terms = 0;
                    rise = Some((label, self.expression(0)?));
                }
                lattice.lines.push(LatticeLine { names, label, rise, span: start.to(self.last_span()) });
                continue;
            }
            // `levels public` is two names.
            let word = names.pop().filter(|_| names.is_empty()).map(|name| name.text).unwrap_or_default();
            let list = match word.as_str() {
                "levels" => &mut lattice.levels,
                "categories" => &mut lattice.categories,
                _ => return self.error("expected `at` and a label", FORM),
            };
            list.extend(self.list(|parser| parser.name("a name"))?);
        }
        Ok(lattice)
    }

    fn label(&mut self) -> Parsed<Label> {
        let level = self.name("a level")?;
        let categories = if self.skip_word("of") { self.list(|parser| parser.name("a category"))? } else { Vec::new() };
        Ok(Label { level, categories })
    }

    /// `is GROUP, …`: what a declaration joins.
    pub(super) fn joined(&mut self) -> Parsed<Vec<Name>> {
        if self.skip_word("is") { self.list(|parser| parser.name("a group's name")) } else { Ok(Vec::new()) }
    }

    pub(super) fn exclusive(&mut self) -> Parsed<Item> {
        let names = self.list(|parser| parser.name("a group's name"))?;
        if names.len() < 2 {
            return self.error("expected `,` and another group", "exclusive GROUP, GROUP");
        }
        Ok(Item::Exclusive(names))
    }

    /// `require iommu`, `require cores >= 2`
    pub(super) fn requirement(&mut self, start: Span) -> Parsed<Requirement> {
        const FORM: &str = "require iommu, require tpm, require cores >= 2, require memory >= 512 MiB";
        let Token::Word(_) = self.peek() else { return self.error("expected a fact of the machine", FORM) };
        let fact = self.name("a fact of the machine")?;
        let is_counted = matches!(self.peek(), Token::Mark(">=" | ">" | "<=" | "<" | "==" | "=") | Token::Number(..));
        let least = if is_counted {
            self.expect(">=", FORM)?;
            Some(self.quantity()?)
        } else {
            None
        };
        Ok(Requirement { fact, least, span: start.to(self.last_span()) })
    }
}
