//! What is remembered: counters, flows, timers, rates, sets, maps, grants.

use super::{Parsed, Parser};
use crate::diagnostic::Span;
use crate::tree::{FlowLine, Key, State, StateKind};

impl Parser<'_> {
    /// What is remembered: `KIND NAME`, `per` what, and what is particular to the kind, in any order.
    pub(super) fn state(&mut self, kind: &str, start: Span) -> Parsed<State> {
        let name = self.name("its name")?;
        let mut keys = if self.skip_word("per") { self.list(Self::key)? } else { Vec::new() };
        let kind = match kind {
            "flow" => StateKind::Flow(self.flow()?),
            "timer" => StateKind::Timer,
            "counter" => {
                self.expect_word("in", "counter NAME in 0..5")?;
                let range = self.constant_range()?;
                let start = if self.skip_word("start") { Some(self.signed()?) } else { None };
                StateKind::Counter { range, start }
            }
            "rate" => {
                let start = self.span();
                self.expect_word("at", "rate NAME at most 10 per min")?;
                StateKind::Rate(self.limit(start)?)
            }
            "grant" => {
                self.expect_word("lasts", "grant NAME lasts 10 min")?;
                StateKind::Grant(self.quantity()?)
            }
            _ => {
                self.expect_word("max", "say how many it holds at the most: max 16")?;
                let most = self.whole("how many it holds at the most")?;
                if kind == "set" { StateKind::Set(most) } else { StateKind::Map(most) }
            }
        };
        if self.skip_word("per") {
            keys.extend(self.list(Self::key)?);
        }
        Ok(State { name, kind, keys, span: start.to(self.last_span()) })
    }

    pub(super) fn key(&mut self) -> Parsed<Key> {
        let span = self.span();
        if self.skip_word("caller") {
            return Ok(Key::Caller(span));
        }
        let name = self.name("what there is one for: caller, or NAME in A..B")?;
        self.expect_word("in", "say which: per unit in 1..8")?;
        Ok(Key::Values(name, Box::new(self.constant_range()?)))
    }

    pub(super) fn flow(&mut self) -> Parsed<Vec<FlowLine>> {
        const FORM: &str = "a flow's lines are: STATE -> STATE, STATE; STATE holds VALUE; STATE lasts 30 s -> STATE";
        self.expect("{", "flow NAME { idle -> busy  busy -> idle }")?;
        let mut lines = Vec::new();
        loop {
            if self.skip("}") {
                return Ok(lines);
            }
            if self.skip(";") {
                continue;
            }
            let state = self.name("a state's name, or }")?;
            lines.push(if self.skip("->") {
                FlowLine::Steps(state, self.list(|parser| parser.name("a state"))?)
            } else if self.skip_word("holds") {
                FlowLine::Holds(state, self.list(|parser| parser.name("a value's name"))?)
            } else if self.skip_word("lasts") {
                let time = self.quantity()?;
                self.expect("->", FORM)?;
                FlowLine::Lasts(state, time, self.name("the state that follows")?)
            } else {
                return self.error("expected `->`, `holds` or `lasts`", FORM);
            });
        }
    }
}
