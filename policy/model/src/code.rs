//! Instructions of conditions and effects: a stack of numbers, forward jumps only, so that a program ends after at most as
//! many steps as it has instructions. One u32 each: operation in bits 0-5, what becomes of the truth that it leaves in bits 6
//! ([`Instruction::NOT`]) and 7 ([`Instruction::MUST`]), `a` in bits 8-15, `b` in bits 16-31. A condition that comes to its end
//! holds.
//!
//! An operation that has no value (an overflow, a division by zero, a key that is not there, an unknown time) fails, and
//! with it the call. Numbers are whole, from -2^63 to 2^64-1. Truth is 1, its absence 0.

use zerocopy::TryFromBytes;

/// One operation. In comments: what it takes from the stack (the top last) -> what it leaves. Operations on a state object take
/// its keys last; where `a >> 5` is not 0, its only key is argument `(a >> 5) - 1` as a signed number, and none is taken. So it
/// is with `a & 31` and the number, called x here, that stands before the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, TryFromBytes)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table in the comments says it")]
pub enum Operation {
    // The end of a condition, and of effects. a = 1: x -> ; where it is 0, this time nothing is recorded
    End = 0,
    // -> b
    Small = 1,
    // -> number b | a << 16 of the table; Negative: as a signed number
    Number = 2,
    Negative = 3,
    // -> argument a; b = 1: signed
    Argument = 4,
    // -> the subject
    Caller = 5,
    // x y -> x op y
    Add = 6,
    Subtract = 7,
    Multiply = 8,
    Divide = 9,
    Remainder = 10,
    And = 11,
    Or = 12,
    Xor = 13,
    ShiftLeft = 14,
    ShiftRight = 15,
    Equal = 16,
    Less = 17,
    LessOrEqual = 18,
    // x -> not x
    Not = 19,
    // x low high -> low <= x <= high
    Within = 20,
    // x -> ; or jumps b forward and leaves it
    JumpIfFalse = 21,
    JumpIfTrue = 22,
    // -> seconds since midnight; -> days since Monday
    TimeOfDay = 23,
    Weekday = 24,
    // Messages whose values depend on each other.
    // -> argument a; fails unless argument b & 7 is above b >> 4; b & 8: signed
    Guarded = 25,
    // place -> whether the text whose length is argument a is one of the automaton's that begins there in the code
    Matches = 26,
    // -> : an effect: all instances of b to the start
    ResetAll = 27,
    // From here on: of state b.
    // keys -> the counter's value
    Count = 28,
    // keys -> whether the flow is in state a
    IsIn = 29,
    // keys -> microseconds since the flow's state was entered, or the timer was started
    Age = 30,
    // keys -> value a that the flow's state holds
    Holds = 31,
    // x keys -> whether x is in the set, or a key of the map
    Contains = 32,
    // x keys -> the map's value at x
    Lookup = 33,
    // keys -> ; if the rate admits no more, the condition ends there: the rule's refusal is one of rate
    Admits = 34,
    // Effects. All read what was before the call.
    // x keys -> : the counter is x; it is x more
    SetTo = 35,
    Increase = 36,
    // keys -> : counter, flow and timer to their start; set and map emptied
    Reset = 37,
    // values mask keys -> : the flow goes to state a & 31, with a value for each that the flow may hold; no mask if it holds none
    Become = 38,
    // keys ->
    StartTimer = 39,
    // x keys ->
    Insert = 40,
    Remove = 41,
    // value x keys ->
    Put = 42,
    // keys ->
    Commit = 43,
    RollBack = 44,
    // keys ->
    Take = 45,
}

/// An instruction, as it stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction(pub u32);

impl Instruction {
    /// What the operation leaves is turned: 1 for 0, and 0 for all else.
    pub const NOT: u32 = 1 << 6;
    /// What it leaves is taken, and where that is 0 the condition ends: it does not hold.
    pub const MUST: u32 = 1 << 7;

    /// Puts one together.
    #[must_use]
    pub const fn new(operation: Operation, a: u8, b: u16) -> Self {
        let [low, high] = b.to_le_bytes();
        Self(u32::from_le_bytes([operation as u8, a, low, high]))
    }

    /// What it does; `None` for an unknown operation.
    #[must_use]
    #[inline(always)]
    pub fn operation(self) -> Option<Operation> {
        Operation::try_read_from_bytes(&[self.0.to_le_bytes()[0] & 0x3f]).ok()
    }

    /// Whether [`Instruction::NOT`] or [`Instruction::MUST`] is said.
    #[must_use]
    #[inline(always)]
    pub const fn says(self, what: u32) -> bool {
        self.0 & what != 0
    }

    /// Its small operand.
    #[must_use]
    #[inline(always)]
    pub const fn a(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    /// Its operand.
    #[must_use]
    #[inline(always)]
    pub const fn b(self) -> u16 {
        let [.., low, high] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

/// The words of an automaton before its steps: 256 bytes' classes, four in a word.
pub const CLASS_WORDS: usize = 64;

/// The most numbers on the stack.
pub const STACK: usize = 16;
/// The most instructions of one rule's condition and effects together.
pub const LENGTH: usize = 1024;
/// The most words of state that one call changes, a map's copy counting as one.
pub const WRITES: usize = 16;
/// The most rules with effects that one call may match.
pub const EFFECTS: usize = 8;
/// The most keys of a state object.
pub const KEYS: usize = 2;
/// The most values that a flow's state holds.
pub const VALUES: usize = 3;
/// The most words of state of a policy.
pub const STATE_WORDS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_read_as_it_was_written() {
        let one = Instruction::new(Operation::Take, 0xa5, 0x1234);
        assert_eq!((one.0, one.operation(), one.a(), one.b()), (0x1234_a52d, Some(Operation::Take), 0xa5, 0x1234));
        for what in [Instruction::NOT, Instruction::MUST] {
            let other = Instruction(one.0 | what);
            assert_eq!((other.operation(), other.says(what), one.says(what)), (Some(Operation::Take), true, false));
            assert!(!other.says(what ^ (Instruction::NOT | Instruction::MUST)));
        }
        assert_eq!([46, 63].map(|unknown| Instruction(unknown).operation()), [None; 2]);
        assert_eq!(
            (Instruction(0).operation(), Instruction(45).operation()),
            (Some(Operation::End), Some(Operation::Take))
        );
    }
}
