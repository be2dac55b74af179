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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::Clock;
    use bulkhead_model::build::{Aligned, Tables};
    use bulkhead_model::{MAX_ARGS, Phase, Policy, kind};
    use std::vec::Vec;

    /// Sunday, 26 July 2026, 13:30:05, and a second since the start.
    struct Sunday;

    impl Clock for Sunday {
        fn microseconds(&self) -> Option<u64> {
            Some(1_000_000)
        }
        fn local_seconds(&self) -> Option<u64> {
            Some(20_660 * 86_400 + 48_605)
        }
    }

    const ARGS: [u64; MAX_ARGS] = [7, u64::MAX - 1, 3, 0x6162_6300_0000_0000, 0, 9];

    fn with(operation: Operation, a: u8, b: u16) -> Instruction {
        Instruction::new(operation, a, b)
    }

    fn plain(operation: Operation) -> Instruction {
        with(operation, 0, 0)
    }

    fn small(b: u16) -> Instruction {
        with(Operation::Small, 0, b)
    }

    fn and(instruction: Instruction, what: u32) -> Instruction {
        Instruction(instruction.0 | what)
    }

    /// Three counters of which each has two keys, and one of each other kind; their words.
    fn states() -> (Vec<State>, Vec<u64>) {
        let state = State { key_count: [1; 2], stride: 1, ..State::default() };
        let counter = State { key_low: [-1, 5], key_count: [2, 3], high: 100, keys: 2, base: 1, ..state };
        let set = State { base: 7, stride: 3, low: 2, kind: kind::SET, ..state };
        let map = State { base: 10, stride: 6, low: 1, kind: kind::MAP, ..state };
        let rate = State { base: 16, stride: 2, low: 1, high: 100, kind: kind::RATE, ..state };
        let words = std::vec![99, 10, 11, 12, 13, 14, 15, 1, 8, 0, 1, 7, 70, 1, 7, 71, 0, 999_901, 0];
        (std::vec![counter, set, map, rate, State { base: 18, kind: kind::TIMER, ..state }], words)
    }

    /// Runs a program, with effects or without; how it ended, what it left on the stack, and the words after it.
    fn run(program: &[Instruction], has_effects: bool) -> (Option<Held>, Option<i128>, Vec<u64>) {
        let mut tables = Tables::default();
        tables.numbers = std::vec![0; 70_000];
        (tables.numbers[1], tables.numbers[69_999]) = (u64::MAX, 42);
        let (states, words) = states();
        (tables.states, tables.state_words) = (states, 19);
        tables.code = program.iter().map(|instruction| instruction.0).collect();
        let bytes = Aligned::new(&tables.to_bytes());
        let policy = Policy::verify(&bytes).unwrap();
        let call = Call { subject: 2, object: 0, method: 0, phase: Phase::Request, len: 6, args: &ARGS };
        let view = View { policy: &policy, words: &words, clock: &Sunday, now: Sunday.microseconds() };
        let mut machine = Machine::new(view, &call);
        let mut changes = Changes::new();
        let held = machine.run(0, has_effects.then_some(&mut changes));
        let mut after = words.clone();
        changes.make(&mut after);
        (held, machine.take(), after)
    }

    /// What a condition leaves on the stack; `None` if it fails.
    fn value(program: &[Instruction]) -> Option<i128> {
        let program = [program, &[plain(Operation::End)]].concat();
        let (held, left, _) = run(&program, false);
        held.map(|_| left.unwrap())
    }

    #[test]
    fn numbers_stand_in_instructions_in_the_table_and_in_the_call() {
        assert_eq!(value(&[small(0xffff)]), Some(0xffff));
        assert_eq!(value(&[with(Operation::Number, 0, 1)]), Some(u64::MAX.into()));
        assert_eq!(value(&[with(Operation::Negative, 0, 1)]), Some(-1));
        assert_eq!(value(&[with(Operation::Number, 1, 4463)]), Some(42), "beyond 65,535");
        assert_eq!(value(&[with(Operation::Argument, 1, 0)]), Some(i128::from(u64::MAX) - 1));
        assert_eq!(value(&[with(Operation::Argument, 1, 1)]), Some(-2));
        assert_eq!(value(&[with(Operation::Argument, 6, 0)]), None);
        assert_eq!(value(&[plain(Operation::Caller)]), Some(2));
        assert_eq!(value(&[plain(Operation::TimeOfDay)]), Some(48_605));
        assert_eq!(value(&[plain(Operation::Weekday)]), Some(6), "days since Monday");
    }

    #[test]
    fn what_is_compared_is_compared_in_the_order_of_the_text() {
        let compare = |operation, x, y| value(&[small(x), small(y), plain(operation)]).unwrap() == 1;
        for (x, y) in [(1, 2), (2, 2), (3, 2)] {
            assert_eq!(compare(Operation::Equal, x, y), x == y);
            assert_eq!(compare(Operation::Less, x, y), x < y);
            assert_eq!(compare(Operation::LessOrEqual, x, y), x <= y);
        }
        let within = |x| value(&[small(x), small(3), small(5), plain(Operation::Within)]);
        assert_eq!([2, 3, 5, 6].map(within), [Some(0), Some(1), Some(1), Some(0)]);
        assert_eq!([0, 1, 9].map(|x| value(&[small(x), plain(Operation::Not)])), [Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn what_has_no_value_fails() {
        let (least, most) = (i128::from(i64::MIN), i128::from(u64::MAX));
        let cases = [
            (Operation::Add, most, 0, Some(most)),
            (Operation::Add, most, 1, None),
            (Operation::Add, least, -1, None),
            (Operation::Subtract, least, 0, Some(least)),
            (Operation::Subtract, 3, 5, Some(-2)),
            (Operation::Multiply, 3, -5, Some(-15)),
            (Operation::Multiply, -3, -5, Some(15)),
            (Operation::Multiply, 1 << 32, 1 << 32, None),
            (Operation::Multiply, 1 << 32, -(1 << 31), Some(least)),
            (Operation::Multiply, most, most, None),
            (Operation::Divide, 17, 5, Some(3)),
            (Operation::Divide, -17, 5, Some(-3)),
            (Operation::Divide, -17, -5, Some(3)),
            (Operation::Divide, 17, -5, Some(-3)),
            (Operation::Divide, 17, 0, None),
            (Operation::Remainder, 17, 5, Some(2)),
            (Operation::Remainder, -17, 5, Some(-2)),
            (Operation::Remainder, 17, -5, Some(2)),
            (Operation::Remainder, 17, 0, None),
            (Operation::And, 0b1100, 0b1010, Some(0b1000)),
            (Operation::Or, 0b1100, 0b1010, Some(0b1110)),
            (Operation::Xor, 0b1100, 0b1010, Some(0b0110)),
            (Operation::And, -1, 1, None),
            (Operation::Or, 1, -1, None),
            (Operation::Xor, -1, 1, None),
            (Operation::ShiftLeft, 1, 63, Some(1 << 63)),
            (Operation::ShiftLeft, 3, 63, None),
            (Operation::ShiftLeft, 1, 64, None),
            (Operation::ShiftLeft, -1, 1, None),
            (Operation::ShiftRight, most, 63, Some(1)),
            (Operation::ShiftRight, 1, 64, None),
            (Operation::ShiftRight, 8, -1, None),
            (Operation::Small, 1, 1, None),
        ];
        for (operation, x, y, expected) in cases {
            assert_eq!(binary(operation, x, y), expected, "{x} {operation:?} {y}");
        }
        let program = |operation| value(&[small(17), small(5), plain(operation)]);
        assert_eq!([program(Operation::Subtract), program(Operation::ShiftRight)], [Some(12), Some(0)]);
    }

    #[test]
    fn what_must_hold_ends_the_condition_and_what_is_turned_is_truth() {
        assert_eq!(value(&[and(small(5), Instruction::NOT)]), Some(0));
        assert_eq!(value(&[and(small(0), Instruction::NOT)]), Some(1));
        let must = |b, what| run(&[and(small(b), Instruction::MUST | what), plain(Operation::End)], false).0;
        assert_eq!([must(5, 0), must(0, 0)], [Some(Held::Yes(false)), Some(Held::No)]);
        assert_eq!([must(5, Instruction::NOT), must(0, Instruction::NOT)], [Some(Held::No), Some(Held::Yes(false))]);
        assert_eq!(value(&[small(8), and(small(5), Instruction::MUST)]), Some(8), "nothing is left of it");
    }

    #[test]
    fn a_jump_leaves_the_truth_that_it_is_taken_for() {
        let jump = |operation, x| value(&[small(x), with(operation, 0, 1), small(8)]);
        assert_eq!([jump(Operation::JumpIfFalse, 0), jump(Operation::JumpIfFalse, 3)], [Some(0), Some(8)]);
        assert_eq!([jump(Operation::JumpIfTrue, 0), jump(Operation::JumpIfTrue, 3)], [Some(8), Some(3)]);
        assert_eq!(
            run(&[small(1), with(Operation::JumpIfTrue, 0, 9), plain(Operation::End)], false).0,
            None,
            "beyond its end"
        );
    }

    #[test]
    fn the_stack_has_its_depth_and_no_more() {
        assert_eq!(value(&[small(1); STACK]), Some(1));
        assert_eq!(value(&[small(1); STACK + 1]), None);
        assert_eq!(run(&[plain(Operation::Not), plain(Operation::End)], false).0, None);
        assert_eq!(run(&[Instruction(0x3f), plain(Operation::End)], false).0, None, "no such operation");
    }

    #[test]
    fn a_value_that_is_not_there_fails() {
        // Argument 2 is 3: above 2, and not above 3.
        let guarded = |above: u16, flags: u16| value(&[with(Operation::Guarded, 1, 2 | flags | above << 4)]);
        assert_eq!([guarded(2, 0), guarded(2, 8)], [Some(i128::from(u64::MAX) - 1), Some(-2)]);
        assert_eq!([guarded(3, 0), guarded(4, 8), guarded(259, 0)], [None; 3]);
        assert_eq!(value(&[with(Operation::Guarded, 1, 6)]), None);
    }

    #[test]
    fn an_automaton_takes_one_step_a_byte() {
        // One class for `a`..`c`, one for all else. State 0: nothing yet; state 1: letters, and it may end; state 2: never.
        const ENDS: u32 = 1 << 31;
        let mut automaton = std::vec![2; 1 + CLASS_WORDS];
        automaton[1..].fill(0x0101_0101);
        automaton[1 + usize::from(b'a' >> 2)] = 0x0000_0001;
        automaton.extend([1 | ENDS, 2, 1 | ENDS, 2, 2, 2]);
        // The text's length is argument 2, and it is "abc".
        let matches = |automaton: &[u32], text| {
            let mut program = std::vec![small(3), with(Operation::Matches, text, 0), plain(Operation::End)];
            program.extend(automaton.iter().map(|word| Instruction(*word)));
            let (held, left, _) = run(&program, false);
            held.map(|_| left.unwrap())
        };
        assert_eq!(matches(&automaton, 2), Some(1));
        let mut others = automaton.clone();
        others[1 + usize::from(b'a' >> 2)] = 0x0100_0001;
        assert_eq!(matches(&others, 2), Some(0), "`c` is of the other class");
        assert_eq!(matches(&automaton, 4), Some(0), "an empty text, in state 0");
        automaton[0] |= ENDS;
        assert_eq!([matches(&automaton, 4), matches(&automaton, 2)], [Some(1), Some(1)]);
        assert_eq!(matches(&automaton[..66], 2), None, "it is cut");
        assert_eq!(matches(&automaton, 6), None);
    }

    #[test]
    fn an_instance_is_found_by_its_keys() {
        let count = |first: Instruction, second: u16| value(&[first, small(second), plain(Operation::Count)]);
        let minus = with(Operation::Negative, 0, 1);
        assert_eq!([count(minus, 5), count(minus, 6), count(minus, 7)], [Some(10), Some(11), Some(12)]);
        assert_eq!([count(small(0), 5), count(small(0), 7)], [Some(13), Some(15)]);
        assert_eq!([count(minus, 4), count(minus, 8), count(small(1), 5)], [None; 3]);
        assert_eq!(count(with(Operation::Number, 0, 1), 5), None, "2^64 - 1 is not -1");
        assert_eq!(value(&[with(Operation::Count, 0, 9)]), None, "no such state");
    }

    #[test]
    fn keys_and_values_may_be_arguments() {
        // State 1, a set: 8. State 2, a map: 7 is 70.
        assert_eq!(value(&[small(8), with(Operation::Contains, 0, 1)]), Some(1));
        assert_eq!(value(&[with(Operation::Contains, 1, 1)]), Some(0), "argument 0 is 7");
        assert_eq!(value(&[with(Operation::Contains, 1, 2)]), Some(1));
        assert_eq!(
            [value(&[with(Operation::Lookup, 1, 2)]), value(&[small(7), with(Operation::Lookup, 0, 2)])],
            [Some(70); 2]
        );
        assert_eq!(value(&[with(Operation::Lookup, 3, 2)]), None, "3 is no key");
    }

    #[test]
    fn a_rate_that_admits_no_more_ends_the_condition() {
        let (admits, end) = (with(Operation::Admits, 0, 3), plain(Operation::End));
        // Counted at 999,900; now it is 1,000,000.
        assert_eq!(run(&[admits, end], false).0, Some(Held::Yes(false)));
        let (held, _, after) = run(&[admits, end, with(Operation::Take, 0, 3), end], true);
        assert_eq!((held, &after[16..18]), (Some(Held::Yes(false)), &[0, 1_000_001][..]));
        assert_eq!(run(&[with(Operation::Admits, 0, 1), end], false).0, None, "no rate");
    }

    #[test]
    fn a_condition_says_whether_this_time_nothing_is_recorded() {
        let end = |x| run(&[small(x), with(Operation::End, 1, 0)], false).0;
        assert_eq!([end(0), end(1)], [Some(Held::Yes(true)), Some(Held::Yes(false))]);
        let program = [small(0), with(Operation::End, 1, 0), with(Operation::StartTimer, 0, 4), plain(Operation::End)];
        let (held, _, after) = run(&program, true);
        assert_eq!((held, after[18]), (Some(Held::Yes(true)), 1_000_001));
    }

    #[test]
    fn effects_come_after_the_condition_and_change_what_they_name() {
        let end = plain(Operation::End);
        let keys = [with(Operation::Negative, 0, 1), small(6)];
        let effect = |effect: &[Instruction]| run(&[&[end], effect, &[end]].concat(), true);
        let changed = |at: usize, new: &[u64]| {
            let mut words = states().1;
            words[at..at + new.len()].copy_from_slice(new);
            words
        };
        let of_counter = |x, operation| effect(&[small(x), keys[0], keys[1], plain(operation)]);
        assert_eq!(of_counter(50, Operation::SetTo).2, changed(2, &[50]));
        assert_eq!(of_counter(50, Operation::Increase).2, changed(2, &[61]));
        assert_eq!([of_counter(90, Operation::Increase).0, of_counter(101, Operation::SetTo).0], [None; 2]);
        assert_eq!(of_counter(89, Operation::Increase).2, changed(2, &[100]));
        assert_eq!(effect(&[keys[0], keys[1], plain(Operation::Reset)]).2, changed(2, &[0]));
        assert_eq!(effect(&[plain(Operation::ResetAll)]).2, changed(1, &[0; 6]));
        assert_eq!(effect(&[with(Operation::Insert, 1, 1)]).2, changed(7, &[2, 8, 7]));
        assert_eq!(effect(&[small(8), with(Operation::Remove, 0, 1)]).2, changed(7, &[0]));
        assert_eq!(effect(&[small(5), with(Operation::Put, 1, 2)]).2, changed(13, &[1, 7, 5]));
        assert_eq!(effect(&[with(Operation::Commit, 0, 2)]).2, changed(10, &[1, 7, 71]));
        assert_eq!(effect(&[with(Operation::RollBack, 0, 2)]).2, changed(13, &[1, 7, 70]));
        assert_eq!(effect(&[with(Operation::StartTimer, 0, 4)]).2, changed(18, &[1_000_001]));
        // Above all signed numbers: nothing remembers it, neither as value nor as key.
        let large = with(Operation::Number, 0, 1);
        assert_eq!(effect(&[large, with(Operation::Insert, 0, 1)]).0, None);
        assert_eq!(effect(&[large, with(Operation::Put, 1, 2)]).0, None);
        assert_eq!(effect(&[small(5), large, with(Operation::Put, 0, 2)]).0, None);
        assert_eq!(effect(&[large, keys[0], keys[1], plain(Operation::SetTo)]).0, None);
        assert_eq!(effect(&[small(50), keys[0], large, plain(Operation::SetTo)]).0, None);
        let refused = [with(Operation::Become, 0, 1), with(Operation::Put, 1, 1), with(Operation::Take, 0, 9)];
        assert_eq!(refused.map(|instruction| effect(&[small(1), instruction]).0), [None; 3]);
        let without = run(&[small(5), keys[0], keys[1], plain(Operation::SetTo), end], false);
        assert_eq!((without.0, without.2), (None, states().1), "an effect in a condition");
    }
}
