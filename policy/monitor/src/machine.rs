//! The evaluator of conditions and effects: a stack of numbers, forward jumps only. It changes nothing: effects are
//! gathered in [`Changes`], and made only when the whole call is decided.

use bulkhead_model::State;
use bulkhead_model::code::{CLASS_WORDS, Instruction, Operation, STACK, VALUES};

use crate::Call;
use crate::state::{Changes, View};

/// How a condition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It holds; `true`: this time nothing is recorded.
    Yes(bool),
    /// It does not.
    No,
    /// It would, but a rate admits no more.
    TooOften,
}

pub(crate) struct Machine<'a> {
    pub(crate) view: View<'a>,
    pub(crate) call: &'a Call<'a>,
    /// The condition of the last run holds.
    pub(crate) holds: bool,
    /// Made when it is needed first: most programs leave nothing on it.
    stack: Option<[i128; STACK]>,
    depth: usize,
}

impl<'a> Machine<'a> {
    pub(crate) const fn new(view: View<'a>, call: &'a Call<'a>) -> Self {
        Self { view, call, holds: false, stack: None, depth: 0 }
    }

    /// Runs a condition and, if it holds, gathers what its effects change where that is asked for. `None`: an expression has no
    /// value; one of an effect if [`Machine::holds`]. Each turn moves on in a program of bounded length.
    #[inline(never)]
    pub(crate) fn run(&mut self, code: u32, mut changes: Option<&mut Changes>) -> Option<Held> {
        let policy = self.view.policy;
        let program = policy.code(code);
        let (mut at, mut is_quiet) = (0, false);
        (self.depth, self.holds) = (0, false);
        loop {
            let instruction = Instruction(*program.get(at)?);
            let (operation, a, b) = (instruction.operation()?, instruction.a(), instruction.b());
            at += 1;
            let number = || policy.number(usize::from(b) | usize::from(a) << 16);
            let left: i128 = if operation >= Operation::Count {
                let state = policy.state(b)?;
                let place = self.place(state, a >> 5)?;
                match operation {
                    Operation::Count => self.view.counter(state, place)?.into(),
                    Operation::IsIn => (self.view.flow(state, place)?.now_in == u64::from(a & 31)).into(),
                    Operation::Age => self.view.age(state, place)?.into(),
                    Operation::Holds => self.view.held(state, place, a & 31)?,
                    Operation::Contains => {
                        let x = self.given(a & 31)?;
                        self.view.find(state, place, x)?.is_some().into()
                    }
                    Operation::Lookup => {
                        let x = self.given(a & 31)?;
                        let found = self.view.find(state, place, x)??;
                        self.view.word(found + 1)?.cast_signed().into()
                    }
                    Operation::Admits if self.view.admits(state, place)? => continue,
                    Operation::Admits => return Some(Held::TooOften),
                    _ => {
                        self.effect(operation, a & 31, state, place, changes.as_deref_mut()?)?;
                        continue;
                    }
                }
            } else {
                match operation {
                    Operation::End => {
                        is_quiet |= a != 0 && self.take()? == 0;
                        if self.holds || changes.is_none() {
                            return Some(Held::Yes(is_quiet));
                        }
                        self.holds = true;
                        continue;
                    }
                    Operation::JumpIfFalse | Operation::JumpIfTrue => {
                        let is_true = self.take()? != 0;
                        if is_true == (operation == Operation::JumpIfTrue) {
                            at += usize::from(b);
                            self.depth += 1;
                        }
                        continue;
                    }
                    Operation::Small => b.into(),
                    Operation::Number => number().into(),
                    Operation::Negative => number().cast_signed().into(),
                    Operation::Argument => self.argument(a, b != 0)?,
                    Operation::Guarded => {
                        let guard = *self.call.args.get(usize::from(b & 7))?;
                        if guard <= u64::from(b >> 4) {
                            return None;
                        }
                        self.argument(a, b & 8 != 0)?
                    }
                    Operation::Matches => {
                        let automaton = u32::try_from(self.take()?).ok()?;
                        self.matches(automaton, a)?.into()
                    }
                    Operation::Caller => self.call.subject.into(),
                    Operation::TimeOfDay => (self.view.clock.local_seconds()? % 86_400).into(),
                    // 1970 began on a Thursday.
                    Operation::Weekday => ((self.view.clock.local_seconds()? / 86_400 + 3) % 7).into(),
                    Operation::Not => (self.take()? == 0).into(),
                    Operation::Within => {
                        let (high, low, x) = (self.take()?, self.take()?, self.take()?);
                        (low <= x && x <= high).into()
                    }
                    Operation::Equal => (self.take()? == self.take()?).into(),
                    Operation::Less => (self.take()? > self.take()?).into(),
                    Operation::LessOrEqual => (self.take()? >= self.take()?).into(),
                    Operation::ResetAll => {
                        changes.as_deref_mut()?.reset_all(policy.state(b)?)?;
                        continue;
                    }
                    _ => {
                        let (y, x) = (self.take()?, self.take()?);
                        binary(operation, x, y)?
                    }
                }
            };
            let is_true = (left != 0) != instruction.says(Instruction::NOT);
            if instruction.says(Instruction::MUST) {
                if !is_true {
                    return Some(Held::No);
                }
            } else {
                let left = if instruction.says(Instruction::NOT) { is_true.into() } else { left };
                *self.stack.get_or_insert([0; STACK]).get_mut(self.depth)? = left;
                self.depth += 1;
            }
        }
    }

    fn take(&mut self) -> Option<i128> {
        self.depth = self.depth.checked_sub(1)?;
        self.stack.as_ref()?.get(self.depth).copied()
    }

    fn argument(&self, at: u8, signed: bool) -> Option<i128> {
        let word = *self.call.args.get(usize::from(at))?;
        Some(if signed { word.cast_signed().into() } else { word.into() })
    }

    /// What is on the stack, as the bits of a signed number.
    #[inline(never)]
    fn small(&mut self) -> Option<u64> {
        Some(i64::try_from(self.take()?).ok()?.cast_unsigned())
    }

    /// Argument `given - 1`, or, where that is none, what is on the stack.
    #[inline(always)]
    fn given(&mut self, given: u8) -> Option<u64> {
        match given.checked_sub(1) {
            Some(at) => self.call.args.get(usize::from(at)).copied(),
            None => self.small(),
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

    /// The first word of the instance that the argument `given - 1` names, or, where that is none, the keys on the stack.
    #[inline(always)]
    fn place(&mut self, state: &State, given: u8) -> Option<usize> {
        let base = u64::from(state.base);
        let at = match given.checked_sub(1) {
            Some(at) => {
                let (&key, [low, _], [count, _]) =
                    (self.call.args.get(usize::from(at))?, state.key_low, state.key_count);
                base + distance(key, low, count)? * u64::from(state.stride)
            }
            None if state.keys == 0 => base,
            None => base + self.stacked(state)?,
        };
        usize::try_from(at).ok()
    }

    /// How far the instance that the keys on the stack name lies behind the first.
    #[inline(never)]
    fn stacked(&mut self, state: &State) -> Option<u64> {
        let ([low, last_low], [count, last_count]) = (state.key_low, state.key_count);
        let last = if state.keys > 1 { distance(self.small()?, last_low, last_count)? } else { 0 };
        let number = distance(self.small()?, low, count)? * u64::from(last_count) + last;
        Some(number * u64::from(state.stride))
    }

    #[inline(always)]
    fn effect(&mut self, operation: Operation, a: u8, state: &State, at: usize, changes: &mut Changes) -> Option<()> {
        match operation {
            Operation::SetTo => {
                let value = self.given(a)?.cast_signed();
                changes.set_counter(state, at, value)
            }
            Operation::Increase => {
                let value = self.view.counter(state, at)?.checked_add(self.given(a)?.cast_signed())?;
                changes.set_counter(state, at, value)
            }
            Operation::Reset => changes.reset(state, at),
            Operation::Become => {
                let mut values = [0; VALUES];
                let count = (state.stride as usize).checked_sub(2)?;
                let mask = if count == 0 { 0 } else { u8::try_from(self.take()?).ok()? };
                for value in values.get_mut(..count)?.iter_mut().rev() {
                    *value = self.small()?;
                }
                self.view.enter(state, at, a, mask, values.get(..count)?, changes)
            }
            Operation::StartTimer => changes.word(at, self.view.now?.checked_add(1)?),
            Operation::Insert => {
                let x = self.given(a)?;
                self.view.insert(state, at, x, changes)
            }
            Operation::Remove => {
                let x = self.given(a)?;
                self.view.remove(state, at, x, changes)
            }
            Operation::Put => {
                let (x, value) = (self.given(a)?, self.small()?);
                self.view.put(state, at, x, value, changes)
            }
            Operation::Commit => changes.copy(at, at + state.stride as usize / 2, state.stride / 2),
            Operation::RollBack => changes.copy(at + state.stride as usize / 2, at, state.stride / 2),
            Operation::Take => self.view.take(state, at, changes),
            _ => None,
        }
    }
}

/// How far a key is from its lowest value. Modulo 2^64 this is exact: no key's values go beyond those of a signed number.
#[inline(always)]
fn distance(key: u64, low: i64, count: u32) -> Option<u64> {
    Some(key.wrapping_sub(low.cast_unsigned())).filter(|distance| *distance < count.into())
}

/// Operands are of 65 bits at the most, so that sums and differences fit; what is too large or too small, the language does not
/// have.
#[inline(never)]
fn binary(operation: Operation, x: i128, y: i128) -> Option<i128> {
    let plain = || Some((u64::try_from(x).ok()?, u64::try_from(y).ok()?));
    let shift = || Some((u64::try_from(x).ok()?, u32::try_from(y).ok().filter(|&y| y < 64)?));
    // Magnitudes have 64 bits: their product has 128, their quotient 64.
    let (left, right) = (u64::try_from(x.unsigned_abs()).ok()?, u64::try_from(y.unsigned_abs()).ok()?);
    let signed = |magnitude: u128, is_negative: bool| {
        let value = i128::try_from(magnitude).ok()?;
        Some(if is_negative { -value } else { value })
    };
    let value = match operation {
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
        _ => return None,
    };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}
