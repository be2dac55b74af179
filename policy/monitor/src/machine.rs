//! The evaluator of conditions and effects: a stack of numbers, forward jumps only. It changes nothing: effects are
//! gathered in [`Changes`], and made only when the whole call is decided.

use bulkhead_model::code::{CLASS_WORDS, Instruction, Operation, STACK, VALUES};
use bulkhead_model::{State, kind};

use crate::Call;
use crate::state::{Changes, View};

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
    pub(crate) view: View<'a>,
    pub(crate) call: &'a Call<'a>,
    stack: [i128; STACK],
    depth: usize,
}

impl<'a> Machine<'a> {
    pub(crate) const fn new(view: View<'a>, call: &'a Call<'a>) -> Self {
        Self { view, call, stack: [0; STACK], depth: 0 }
    }

    /// Runs a condition, or the effects that begin after so many of its instructions, until the end; `None`: an expression has
    /// no value. Each turn moves on in a program of bounded length.
    pub(crate) fn run(&mut self, code: u32, from: usize, mut changes: Option<&mut Changes>) -> Option<Held> {
        let program = self.view.policy.code(code);
        let mut at = from;
        self.depth = 0;
        loop {
            let instruction = Instruction::from_raw(*program.get(at)?)?;
            at += 1;
            match instruction.operation {
                Operation::End => return Some(Held::Yes(at, instruction.a != 0 && self.take()? == 0)),
                Operation::JumpIfFalse | Operation::JumpIfTrue => {
                    let is_true = self.take()? != 0;
                    if is_true == (instruction.operation == Operation::JumpIfTrue) {
                        at += usize::from(instruction.b);
                        self.depth += 1;
                    }
                }
                Operation::Admits => {
                    let state = self.view.policy.state(instruction.b)?;
                    let place = self.place(state, instruction.a >> 5)?;
                    if !self.view.admits(state, place)? {
                        return Some(Held::TooOften);
                    }
                }
                _ => self.step(instruction, changes.as_deref_mut())?,
            }
            if instruction.then != 0 {
                let holds = (self.take()? != 0) != (instruction.then & Instruction::NOT != 0);
                if instruction.then & Instruction::MUST == 0 {
                    self.push(holds.into())?;
                } else if !holds {
                    return Some(Held::No);
                }
            }
        }
    }

    fn take(&mut self) -> Option<i128> {
        self.depth = self.depth.checked_sub(1)?;
        self.stack.get(self.depth).copied()
    }

    /// Puts a number on the stack.
    fn push(&mut self, value: i128) -> Option<()> {
        *self.stack.get_mut(self.depth)? = value;
        self.depth += 1;
        Some(())
    }

    #[inline(always)]
    fn step(&mut self, Instruction { operation, a, b, .. }: Instruction, changes: Option<&mut Changes>) -> Option<()> {
        let policy = self.view.policy;
        let number = || policy.number(usize::from(b) | usize::from(a) << 16);
        match operation {
            Operation::Small => self.push(b.into()),
            Operation::Number => self.push(number().into()),
            Operation::Negative => self.push(number().cast_signed().into()),
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
                const LOW: i128 = i64::MIN as i128;
                const HIGH: i128 = u64::MAX as i128;
                let (y, x) = (self.take()?, self.take()?);
                // What is too large or too small, the language does not have.
                let value = binary(operation, x, y).filter(|value| (LOW..=HIGH).contains(value))?;
                self.push(value)
            }
            Operation::ResetAll => changes?.reset_all(policy.state(b)?),
            _ => {
                let state = policy.state(b)?;
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
        let words = self.view.policy.code_from(automaton);
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
        let (mut at, mut step) = (u64::from(state.base), u64::from(state.stride));
        for (&low, &count) in state.key_low.iter().zip(&state.key_count).take(state.keys as usize).rev() {
            let key = match given.checked_sub(1) {
                None => self.take()?,
                Some(argument) => self.call.args.get(usize::from(argument))?.cast_signed().into(),
            };
            let distance = u64::try_from(key - i128::from(low)).ok().filter(|&distance| distance < count.into())?;
            at += distance * step;
            step *= u64::from(count);
        }
        usize::try_from(at).ok()
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
                let age = self.view.now?.checked_sub(since.checked_sub(1)?)?;
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
                let mut values = [0; VALUES];
                let count = (state.stride as usize).checked_sub(2)?;
                let mask = if count == 0 { 0 } else { u8::try_from(self.take()?).ok()? };
                for value in values.get_mut(..count)?.iter_mut().rev() {
                    *value = i64::try_from(self.take()?).ok()?.cast_unsigned();
                }
                self.view.enter(state, at, a, mask, values.get(..count)?, changes?)
            }
            Operation::StartTimer => changes?.word(at, self.view.now?.checked_add(1)?),
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
