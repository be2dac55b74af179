//! The evaluator of conditions and effects: a stack of numbers, forward jumps only. It changes nothing: effects are
//! gathered in [`Changes`], and made only when the whole call is decided.

use bulkhead_model::code::{CLASS_WORDS, Instruction, KEYS, Operation, STACK, VALUES};
use bulkhead_model::{Policy, State, kind};

use crate::state::{Changes, View};
use crate::{Call, Clock};

/// An expression has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// How a condition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It holds; its effects begin after so many instructions; `true`: this time nothing is recorded.
    Yes(usize, bool),
    /// It does not.
    No,
    /// It would, but a rate admits no more.
    TooOften,
}

pub(crate) struct Machine<'a> {
    pub(crate) policy: &'a Policy<'a>,
    pub(crate) call: &'a Call<'a>,
    pub(crate) view: View<'a>,
    stack: [i128; STACK],
    depth: usize,
    is_too_often: bool,
}

impl<'a> Machine<'a> {
    pub(crate) const fn new(
        policy: &'a Policy<'a>,
        state: &'a [u64],
        clock: &'a dyn Clock,
        call: &'a Call<'a>,
    ) -> Self {
        let view = View { policy, words: state, clock };
        Self { policy, call, view, stack: [0; STACK], depth: 0, is_too_often: false }
    }

    /// Whether a condition holds.
    pub(crate) fn condition(&mut self, code: u32) -> Result<Held, Failed> {
        (self.depth, self.is_too_often) = (0, false);
        let end = self.run(code, 0, None)?;
        let value = self.pop()?;
        Ok(match (value, self.is_too_often) {
            (0, true) => Held::TooOften,
            (0, false) => Held::No,
            (value, _) => Held::Yes(end, value == 2),
        })
    }

    /// Gathers what effects change.
    pub(crate) fn effects(&mut self, code: u32, from: usize, changes: &mut Changes) -> Result<(), Failed> {
        self.depth = 0;
        self.run(code, from, Some(changes)).map(|_| ())
    }

    /// Runs until the end; returns the place after it. Each turn moves on in a program of bounded length.
    fn run(&mut self, code: u32, from: usize, mut changes: Option<&mut Changes>) -> Result<usize, Failed> {
        let program = self.policy.code(code);
        let mut at = from;
        loop {
            let &word = program.get(at).ok_or(Failed)?;
            let instruction = Instruction::from_raw(word).ok_or(Failed)?;
            at += 1;
            match instruction.operation {
                Operation::End => return Ok(at),
                Operation::JumpIfFalse | Operation::JumpIfTrue => {
                    let is_true = self.peek()? != 0;
                    if is_true == (instruction.operation == Operation::JumpIfTrue) {
                        at += usize::from(instruction.b);
                    } else {
                        self.depth -= 1;
                    }
                }
                _ => self.step(instruction, changes.as_deref_mut()).ok_or(Failed)?,
            }
        }
    }

    fn peek(&self) -> Result<i128, Failed> {
        self.depth.checked_sub(1).and_then(|top| self.stack.get(top).copied()).ok_or(Failed)
    }

    fn pop(&mut self) -> Result<i128, Failed> {
        let value = self.peek()?;
        self.depth -= 1;
        Ok(value)
    }

    fn take(&mut self) -> Option<i128> {
        self.pop().ok()
    }

    /// Puts a number on the stack, if it is one that the language has.
    fn push(&mut self, value: i128) -> Option<()> {
        const LOW: i128 = i64::MIN as i128;
        const HIGH: i128 = u64::MAX as i128;
        if !(LOW..=HIGH).contains(&value) {
            return None;
        }
        *self.stack.get_mut(self.depth)? = value;
        self.depth += 1;
        Some(())
    }

    fn step(&mut self, Instruction { operation, a, b }: Instruction, changes: Option<&mut Changes>) -> Option<()> {
        let number = |policy: &Policy<'_>| policy.number(usize::from(b) | usize::from(a) << 16);
        match operation {
            Operation::Small => self.push(b.into()),
            Operation::Number => self.push(number(self.policy).into()),
            Operation::Negative => self.push(number(self.policy).cast_signed().into()),
            Operation::Argument => {
                let word = *self.call.args.get(usize::from(a))?;
                self.push(if b == 0 { word.into() } else { word.cast_signed().into() })
            }
            Operation::Guarded => {
                let argument = |at: u16| self.call.args.get(usize::from(at)).copied();
                let word =
                    argument(a.into()).filter(|_| argument(b & 7).is_some_and(|guard| guard > u64::from(b >> 4)))?;
                self.push(if b & 8 == 0 { word.into() } else { word.cast_signed().into() })
            }
            Operation::Matches => {
                let automaton = u32::try_from(self.take()?).ok()?;
                let matches = self.matches(automaton, a)?;
                self.push(matches.into())
            }
            Operation::Caller => self.push(self.call.subject.into()),
            Operation::TimeOfDay => self.push((self.view.clock.local_seconds()? % 86_400).into()),
            // 1970 began on a Thursday.
            Operation::Weekday => self.push(((self.view.clock.local_seconds()? / 86_400 + 3) % 7).into()),
            Operation::Not => {
                let x = self.take()?;
                self.push((x == 0).into())
            }
            Operation::Within => {
                let (high, low, x) = (self.take()?, self.take()?, self.take()?);
                self.push((low <= x && x <= high).into())
            }
            _ if (Operation::Add..=Operation::LessOrEqual).contains(&operation) => {
                let (y, x) = (self.take()?, self.take()?);
                let value = binary(operation, x, y)?;
                self.push(value)
            }
            Operation::ResetAll => changes?.reset_all(self.policy.state(b)?),
            _ => {
                let state = self.policy.state(b)?;
                let place = self.place(state, a >> 5)?;
                self.stateful(operation, a & 31, state, place, changes)
            }
        }
    }

    /// Whether an automaton accepts a text: one step a byte. Its words: how many classes there are, the classes of all
    /// bytes, then for each state a step for each class: the next state, and bit 31 if the text may end there. State 0 is the
    /// first; its own bit stands with the number of classes.
    fn matches(&self, automaton: u32, text: u8) -> Option<bool> {
        const ENDS: u32 = 1 << 31;
        let words = self.policy.code_from(automaton);
        let values = self.call.args.get(text.into()..)?;
        let (&length, chunks) = values.split_first()?;
        let bytes = chunks.iter().flat_map(|chunk| chunk.to_be_bytes()).take(usize::try_from(length).ok()?);
        let &head = words.first()?;
        let mut last = head;
        let mut state: u32 = 0;
        for byte in bytes {
            let class = words.get(1 + usize::from(byte >> 2))? >> (8 * (byte & 3)) & 0xff;
            last = *words.get(1 + CLASS_WORDS + state.wrapping_mul(head & !ENDS).wrapping_add(class) as usize)?;
            state = last & !ENDS;
        }
        Some(last & ENDS != 0)
    }

    /// The first word of the instance that the keys on the stack name, or the argument `given - 1`.
    fn place(&mut self, state: &State, given: u8) -> Option<usize> {
        let mut keys = [0; KEYS];
        if given == 0 {
            for slot in keys.get_mut(..state.keys as usize)?.iter_mut().rev() {
                *slot = self.take()?;
            }
        } else {
            keys[0] = self.call.args.get(usize::from(given - 1))?.cast_signed().into();
        }
        let mut at: u64 = 0;
        for ((key, low), count) in keys.iter().zip(state.key_low).zip(state.key_count).take(state.keys as usize) {
            let distance = u64::try_from(key - i128::from(low)).ok().filter(|&distance| distance < count.into())?;
            at = at * u64::from(count) + distance;
        }
        usize::try_from(u64::from(state.base) + at * u64::from(state.stride)).ok()
    }

    fn stateful(
        &mut self,
        operation: Operation,
        a: u8,
        state: &State,
        at: usize,
        changes: Option<&mut Changes>,
    ) -> Option<()> {
        match operation {
            Operation::Count => {
                let value = self.view.counter(state, at)?;
                self.push(value)
            }
            Operation::IsIn => {
                let (now_in, ..) = self.view.flow(state, at)?;
                self.push((now_in == u64::from(a)).into())
            }
            Operation::Age => {
                let since = if state.kind == kind::FLOW { self.view.flow(state, at)?.1 } else { self.view.word(at)? };
                let age = self.view.now()?.checked_sub(since.checked_sub(1)?)?;
                self.push(age.into())
            }
            Operation::Holds => {
                let value = self.view.held(state, at, a)?;
                self.push(value)
            }
            Operation::Contains => {
                let x = self.take()?;
                let found = self.view.find(state, at, x)?;
                self.push(found.is_some().into())
            }
            Operation::Lookup => {
                let x = self.take()?;
                let found = self.view.find(state, at, x)??;
                let value = self.view.word(found + 1)?.cast_signed();
                self.push(value.into())
            }
            Operation::Admits => {
                let admits = self.view.admits(state, at)?;
                self.is_too_often |= !admits;
                self.push(admits.into())
            }
            Operation::SetTo => {
                let value = self.take()?;
                changes?.set_counter(state, at, value)
            }
            Operation::Increase => {
                let value = self.view.counter(state, at)? + self.take()?;
                changes?.set_counter(state, at, value)
            }
            Operation::Reset => changes?.reset(state, at),
            Operation::Become => {
                let mask = u8::try_from(self.take()?).ok()?;
                let mut values = [0; VALUES];
                let count = (state.stride as usize).checked_sub(2)?;
                for value in values.get_mut(..count)?.iter_mut().rev() {
                    *value = i64::try_from(self.take()?).ok()?.cast_unsigned();
                }
                self.view.enter(state, at, a, mask, values.get(..count)?, changes?)
            }
            Operation::StartTimer => changes?.word(at, self.view.now()?.checked_add(1)?),
            Operation::Insert => {
                let x = self.take()?;
                self.view.insert(state, at, x, changes?)
            }
            Operation::Remove => {
                let x = self.take()?;
                self.view.remove(state, at, x, changes?)
            }
            Operation::Put => {
                let (x, value) = (self.take()?, self.take()?);
                self.view.put(state, at, x, value, changes?)
            }
            Operation::Commit => changes?.copy(at, at + state.stride as usize / 2, state.stride as usize / 2),
            Operation::RollBack => changes?.copy(at + state.stride as usize / 2, at, state.stride as usize / 2),
            Operation::Take => self.view.take(state, at, changes?),
            _ => None,
        }
    }
}

/// Operands are of 65 bits at the most, so that sums and differences fit; what is too large, `push` refuses.
fn binary(operation: Operation, x: i128, y: i128) -> Option<i128> {
    let plain = || Some((u64::try_from(x).ok()?, u64::try_from(y).ok()?));
    let shift = || Some((u64::try_from(x).ok()?, u32::try_from(y).ok().filter(|&y| y < 64)?));
    // Magnitudes have 64 bits: their product has 128, their quotient 64.
    let (left, right) = (u64::try_from(x.unsigned_abs()).ok()?, u64::try_from(y.unsigned_abs()).ok()?);
    let signed = |magnitude: u128, is_negative: bool| {
        let value = i128::try_from(magnitude).ok()?;
        Some(if is_negative { -value } else { value })
    };
    Some(match operation {
        Operation::Add => x + y,
        Operation::Subtract => x - y,
        Operation::Multiply => signed(u128::from(left) * u128::from(right), (x < 0) != (y < 0))?,
        Operation::Divide => signed(left.checked_div(right)?.into(), (x < 0) != (y < 0))?,
        Operation::Remainder => signed(left.checked_rem(right)?.into(), x < 0)?,
        Operation::And => plain().map(|(x, y)| x & y)?.into(),
        Operation::Or => plain().map(|(x, y)| x | y)?.into(),
        Operation::Xor => plain().map(|(x, y)| x ^ y)?.into(),
        Operation::ShiftLeft => shift().map(|(x, y)| u128::from(x) << y).and_then(|value| value.try_into().ok())?,
        Operation::ShiftRight => shift().map(|(x, y)| x >> y)?.into(),
        Operation::Equal => (x == y).into(),
        Operation::Less => (x < y).into(),
        Operation::LessOrEqual => (x <= y).into(),
        _ => return None,
    })
}
