//! Expressions and effects to the monitor's instructions.

use bulkhead_model::MAX_ARGS;
use bulkhead_model::build::{Tables, word};
use bulkhead_model::code::{Instruction, LENGTH, Operation, STACK};

use crate::automata;
use crate::messages::CHUNK;
use crate::policy::{Body, Effect, Expression, Field, Place, Recording};
use crate::tree::Operator;

/// A program that is longer, or needs a deeper stack, than the monitor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Writes one program: the rest of a condition, then effects.
pub(crate) struct Writer<'a> {
    tables: &'a mut Tables,
    fields: &'a [Field],
    all: Vec<u32>,
    depth: usize,
    deepest: usize,
    /// Texts that are held against automata.
    texts: usize,
    /// Where a jump came down last.
    landed: usize,
}

/// The instructions of a body whose leading simple conditions are said by rows, and the most steps that they take; `None` if
/// nothing is left to say.
pub(crate) fn program(
    body: &Body,
    rest: &[&Expression],
    fields: &[Field],
    tables: &mut Tables,
) -> Result<Option<(Vec<u32>, usize)>, TooLong> {
    let recording = body.recording.as_ref();
    let (is_recorded, counting) = (recording.and_then(Recording::holds), recording.and_then(Recording::counting));
    if rest.is_empty() && !body.remembers() && is_recorded.is_none() && counting.is_none() {
        return Ok(None);
    }
    let mut writer = Writer { tables, fields, all: Vec::new(), depth: 0, deepest: 0, texts: 0, landed: 0 };
    rest.iter().for_each(|part| writer.must(part));
    body.rates.iter().for_each(|rate| writer.at(Operation::Admits, 0, rate, 0));
    is_recorded.iter().for_each(|part| writer.expression(part));
    writer.emit(Operation::End, is_recorded.is_some().into(), 0);
    writer.depth = 0;
    if body.remembers() || counting.is_some() {
        body.effects.iter().chain(&counting).for_each(|effect| writer.effect(effect));
        body.rates.iter().for_each(|rate| writer.at(Operation::Take, 0, rate, 0));
        writer.plain(Operation::End, 0);
    }
    let steps = writer.all.len() + writer.texts * (MAX_ARGS - 1) * CHUNK;
    if writer.all.len() > LENGTH || writer.deepest > STACK { Err(TooLong) } else { Ok(Some((writer.all, steps))) }
}

impl Writer<'_> {
    fn emit(&mut self, operation: Operation, a: u8, b: u16) {
        self.all.push(Instruction::new(operation, a, b).0);
    }

    /// Says what becomes of the truth that was left last: by the instruction that left it, if all ways come through that one.
    fn then(&mut self, what: u32) {
        if self.landed == self.all.len() {
            self.plain(Operation::Not, 0);
            self.then(Instruction::NOT);
        }
        self.all.last_mut().into_iter().for_each(|last| *last ^= what);
    }

    /// A part without which the condition does not hold.
    fn must(&mut self, part: &Expression) {
        self.expression(part);
        self.then(Instruction::MUST);
        self.depth = self.depth.saturating_sub(1);
    }

    /// An instruction that takes so many more numbers than it leaves, less one that it always leaves.
    fn plain(&mut self, operation: Operation, taken: usize) {
        self.emit(operation, 0, 0);
        self.depth = self.depth.saturating_sub(taken);
    }

    fn grow(&mut self) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
    }

    fn push(&mut self, value: i128) {
        match u16::try_from(value) {
            Ok(small) => self.emit(Operation::Small, 0, small),
            Err(_) => {
                let at = self.tables.numbers.len();
                self.tables.numbers.push(word(value));
                let operation = if value < 0 { Operation::Negative } else { Operation::Number };
                // More numbers than 24 bits count would be a table of 128 MiB.
                let [low, middle, high, ..] = u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes();
                self.emit(operation, high, u16::from_le_bytes([low, middle]));
            }
        }
        self.grow();
    }

    /// An operation on a state object: its keys, then the operation, which leaves so many numbers.
    fn at(&mut self, operation: Operation, a: u8, place: &Place, left: usize) {
        let given = self.given(place);
        if given.is_none() {
            place.keys.iter().for_each(|key| self.expression(key));
        }
        let taken = if given.is_none() { place.keys.len() } else { 0 };
        self.emit(operation, a | given.unwrap_or(0) << 5, place.state);
        self.depth = (self.depth + left).saturating_sub(taken);
        self.deepest = self.deepest.max(self.depth);
    }

    /// The only key's argument, and 1, if the operation itself can name it.
    fn given(&self, place: &Place) -> Option<u8> {
        let [key] = place.keys.as_slice() else { return None };
        self.argument(key)
    }

    /// An argument's number, and 1, if an operation can name it in the place of a number on the stack: one whose values fit a
    /// signed number.
    fn argument(&self, expression: &Expression) -> Option<u8> {
        let Expression::Argument(at) = expression else { return None };
        let fits = self.fields.get(*at).is_some_and(|field| field.range.1 <= i64::MAX.into());
        u8::try_from(at + 1).ok().filter(|given| fits && *given < 8)
    }

    fn jump(&mut self, operation: Operation) -> usize {
        self.emit(operation, 0, 0);
        self.depth = self.depth.saturating_sub(1);
        self.all.len() - 1
    }

    /// A jump goes to the next instruction.
    fn land(&mut self, jump: usize) {
        let distance = u16::try_from(self.all.len() - jump - 1).unwrap_or(u16::MAX);
        if let Some(slot) = self.all.get_mut(jump) {
            *slot |= u32::from(distance) << 16;
        }
        self.landed = self.all.len();
    }

    fn two(&mut self, left: &Expression, right: &Expression) {
        self.expression(left);
        self.expression(right);
    }

    fn expression(&mut self, expression: &Expression) {
        match expression {
            Expression::Number(value) => self.push(*value),
            Expression::Argument(at) => {
                let signed = self.fields.get(*at).is_some_and(Field::is_signed);
                self.emit(Operation::Argument, u8::try_from(*at).unwrap_or(u8::MAX), signed.into());
                self.grow();
            }
            Expression::Present(at, guard, above) => {
                let signed = u16::from(self.fields.get(*at).is_some_and(Field::is_signed)) << 3;
                let guard = u16::try_from(*guard).unwrap_or(7) | signed | u16::from(*above) << 4;
                self.emit(Operation::Guarded, u8::try_from(*at).unwrap_or(u8::MAX), guard);
                self.grow();
            }
            Expression::Matches(at, _, pattern) => {
                // What has no automaton was refused when it was checked.
                let words = automata::words(pattern).unwrap_or_default();
                let place = self.tables.add_code(&words);
                self.texts += 1;
                self.push(place.into());
                self.emit(Operation::Matches, u8::try_from(*at).unwrap_or(u8::MAX), 0);
            }
            Expression::Caller => {
                self.emit(Operation::Caller, 0, 0);
                self.grow();
            }
            Expression::TimeOfDay => {
                self.emit(Operation::TimeOfDay, 0, 0);
                self.grow();
                self.push(1_000_000);
                self.plain(Operation::Multiply, 1);
            }
            Expression::DayOfWeek => {
                self.emit(Operation::Weekday, 0, 0);
                self.grow();
                self.push(1);
                self.plain(Operation::Add, 1);
            }
            Expression::Not(inner) => {
                self.expression(inner);
                self.then(Instruction::NOT);
            }
            Expression::And(left, right) | Expression::Or(left, right) => {
                let is_and = matches!(expression, Expression::And(..));
                self.expression(left);
                let jump = self.jump(if is_and { Operation::JumpIfFalse } else { Operation::JumpIfTrue });
                self.expression(right);
                self.land(jump);
            }
            Expression::Binary(operator, left, right) => self.binary(*operator, left, right),
            Expression::Within(inner, ranges) => self.within(inner, ranges),
            Expression::Count(place) => self.at(Operation::Count, 0, place, 1),
            Expression::IsIn(place, state) => self.at(Operation::IsIn, *state, place, 1),
            Expression::Age(place) => self.at(Operation::Age, 0, place, 1),
            Expression::Holds(place, value) => self.at(Operation::Holds, *value, place, 1),
            Expression::Contains(place, value) => self.with(value, Operation::Contains, place, 1),
            Expression::Lookup(place, key) => self.with(key, Operation::Lookup, place, 1),
        }
    }

    /// In one of several ranges: the value is computed for each, which is the same each time.
    fn within(&mut self, inner: &Expression, ranges: &[(i128, i128)]) {
        let mut jumps = Vec::new();
        for (at, (low, high)) in ranges.iter().enumerate() {
            self.expression(inner);
            self.push(*low);
            self.push(*high);
            self.plain(Operation::Within, 2);
            jumps.extend((at + 1 < ranges.len()).then(|| self.jump(Operation::JumpIfTrue)));
        }
        if ranges.is_empty() {
            self.push(0);
        }
        jumps.into_iter().for_each(|jump| self.land(jump));
    }

    fn binary(&mut self, operator: Operator, left: &Expression, right: &Expression) {
        let (operation, is_turned, is_negated) = match operator {
            Operator::Equal => (Operation::Equal, false, false),
            Operator::Unequal => (Operation::Equal, false, true),
            Operator::Less => (Operation::Less, false, false),
            Operator::LessOrEqual => (Operation::LessOrEqual, false, false),
            Operator::Greater => (Operation::Less, true, false),
            Operator::GreaterOrEqual => (Operation::LessOrEqual, true, false),
            Operator::Add => (Operation::Add, false, false),
            Operator::Subtract => (Operation::Subtract, false, false),
            Operator::Multiply => (Operation::Multiply, false, false),
            Operator::Divide => (Operation::Divide, false, false),
            Operator::Remainder => (Operation::Remainder, false, false),
            Operator::BitAnd | Operator::And => (Operation::And, false, false),
            Operator::BitOr | Operator::Or | Operator::Implies => (Operation::Or, false, false),
            Operator::BitXor => (Operation::Xor, false, false),
            Operator::ShiftLeft => (Operation::ShiftLeft, false, false),
            Operator::ShiftRight => (Operation::ShiftRight, false, false),
        };
        if is_turned {
            self.two(right, left);
        } else {
            self.two(left, right);
        }
        self.plain(operation, 1);
        if is_negated {
            self.then(Instruction::NOT);
        }
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Set(place, value) => self.with(value, Operation::SetTo, place, 0),
            Effect::Increase(place, value) => self.with(value, Operation::Increase, place, 0),
            Effect::Insert(place, value) => self.with(value, Operation::Insert, place, 0),
            Effect::Remove(place, value) => self.with(value, Operation::Remove, place, 0),
            Effect::Reset(place) => self.at(Operation::Reset, 0, place, 0),
            Effect::Start(place) => self.at(Operation::StartTimer, 0, place, 0),
            Effect::Commit(place) => self.at(Operation::Commit, 0, place, 0),
            Effect::RollBack(place) => self.at(Operation::RollBack, 0, place, 0),
            Effect::ResetAll(state) => self.emit(Operation::ResetAll, 0, *state),
            Effect::Put(place, key, value) => {
                self.expression(value);
                self.with(key, Operation::Put, place, 0);
                self.depth = self.depth.saturating_sub(1);
            }
            Effect::Become(place, next, values) => {
                let mut mask = 0;
                for (at, value) in values.iter().enumerate() {
                    match value {
                        Some(value) => {
                            self.expression(value);
                            mask |= 1 << at;
                        }
                        None => self.push(0),
                    }
                }
                let taken = if values.is_empty() { 0 } else { values.len() + 1 };
                if taken > 0 {
                    self.push(mask);
                }
                self.at(Operation::Become, next & 31, place, 0);
                self.depth = self.depth.saturating_sub(taken);
            }
        }
    }

    /// An operation on a state object with a number, which leaves so many.
    fn with(&mut self, value: &Expression, operation: Operation, place: &Place, left: usize) {
        let given = self.argument(value);
        if given.is_none() {
            self.expression(value);
        }
        let taken = usize::from(given.is_none());
        self.at(operation, given.unwrap_or(0), place, left.saturating_sub(taken));
        self.depth = self.depth.saturating_sub(taken.saturating_sub(left));
    }
}
