//! What a policy remembers: how each kind of state is read, and which words an effect changes. Layouts are those of
//! `bulkhead_model::kind`. Nothing is written here: an effect leaves its words in [`Changes`].

use bulkhead_model::code::WRITES;
use bulkhead_model::{Policy, State, kind};

use crate::Clock;

/// The state before the call.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) policy: &'a Policy<'a>,
    pub(crate) words: &'a [u64],
    pub(crate) clock: &'a dyn Clock,
    /// Read once: a call has one time.
    pub(crate) now: Option<u64>,
}

/// Bits 0-7 of a flow's first word: its state; bit 8 + n: it holds value n.
const HOLDS: u32 = 8;

impl View<'_> {
    pub(crate) fn word(&self, at: usize) -> Option<u64> {
        self.words.get(at).copied()
    }

    pub(crate) fn counter(&self, state: &State, at: usize) -> Option<i128> {
        let value = self.word(at)?.wrapping_add(state.start.cast_unsigned()).cast_signed();
        (state.kind == kind::COUNTER).then_some(value.into())
    }

    /// The state that a flow is in, when it was entered (microseconds and 1; 0 for never), and which values it holds. A state
    /// that has lasted longer than it may is left at that time.
    pub(crate) fn flow(&self, state: &State, at: usize) -> Option<(u64, u64, u64)> {
        if state.kind != kind::FLOW {
            return None;
        }
        let (word, entered) = (self.word(at)?, self.word(at + 1)?);
        let now_in = word & 0xff;
        let row = self.policy.flow_state(state, now_in)?;
        if row.lasts == 0 || entered == 0 || self.now?.saturating_sub(entered - 1) <= row.lasts {
            return Some((now_in, entered, word >> HOLDS));
        }
        Some((row.then.into(), entered.checked_add(row.lasts)?, 0))
    }

    /// How long ago the flow's state was entered, or the timer was started.
    pub(crate) fn age(&self, state: &State, at: usize) -> Option<u64> {
        let since = if state.kind == kind::FLOW { self.flow(state, at)?.1 } else { self.word(at)? };
        self.now?.checked_sub(since.checked_sub(1)?)
    }

    pub(crate) fn held(&self, state: &State, at: usize, value: u8) -> Option<i128> {
        let (.., holds) = self.flow(state, at)?;
        let is_held = holds >> (value & 7) & 1 != 0;
        is_held.then(|| self.word(at + 2 + usize::from(value))).flatten().map(|word| word.cast_signed().into())
    }

    /// A flow goes to a state that may follow, with the values that the mask names.
    pub(crate) fn enter(
        &self,
        state: &State,
        at: usize,
        next: u8,
        mask: u8,
        values: &[u64],
        changes: &mut Changes,
    ) -> Option<()> {
        let (now_in, ..) = self.flow(state, at)?;
        let row = self.policy.flow_state(state, now_in)?;
        self.policy.flow_state(state, next.into())?;
        if row.successors >> (next & 31) & 1 == 0 || state.stride as usize != 2 + values.len() {
            return None;
        }
        changes.word(at, u64::from(next) | u64::from(mask) << HOLDS)?;
        changes.word(at + 1, self.now?.checked_add(1)?)?;
        values.iter().enumerate().try_for_each(|(n, &value)| changes.word(at + 2 + n, value))
    }

    /// Whether one more call fits: in a window, that fewer than so many came in the time before; in a bucket, that it is
    /// full enough.
    pub(crate) fn admits(&self, state: &State, at: usize) -> Option<bool> {
        let now = self.now?;
        let first = self.word(at)?;
        if state.kind != kind::RATE {
            return None;
        }
        let time = u64::try_from(state.high).ok()?;
        if state.start > 0 {
            let ahead = u64::try_from(state.start - 1).ok()?.checked_mul(time)?;
            return Some(first <= now.checked_add(ahead)?);
        }
        let oldest = self.word(at + 1 + usize::try_from(first).ok()?)?;
        Some(oldest == 0 || now.saturating_sub(oldest - 1) >= time)
    }

    /// Counts a call that a rate admits.
    pub(crate) fn take(&self, state: &State, at: usize, changes: &mut Changes) -> Option<()> {
        let (now, first) = (self.now?, self.word(at)?);
        if state.start > 0 {
            return changes.word(at, first.max(now).checked_add(u64::try_from(state.high).ok()?)?);
        }
        changes.word(at + 1 + usize::try_from(first).ok()?, now.checked_add(1)?)?;
        let next = first + 1;
        changes.word(at, if i64::try_from(next).ok()? == state.low { 0 } else { next })
    }

    /// Where a set has a value, or the half of a map that begins at `at` a key. Outer `None`: it can have no such value.
    #[expect(clippy::option_option, reason = "no answer, and the answer no")]
    pub(crate) fn find(&self, state: &State, at: usize, x: i128) -> Option<Option<usize>> {
        let step = match state.kind {
            kind::SET => 1,
            kind::MAP => 2,
            _ => return None,
        };
        let wanted = i64::try_from(x).ok()?.cast_unsigned();
        let count = usize::try_from(self.word(at)?).ok()?;
        let values = self.words.get(at + 1..at + 1 + count.checked_mul(step)?)?;
        let found = values.iter().step_by(step).position(|&value| value == wanted);
        Some(found.map(|place| at + 1 + place * step))
    }

    /// Adds to a set; what is there already stays.
    pub(crate) fn insert(&self, state: &State, at: usize, x: i128, changes: &mut Changes) -> Option<()> {
        if state.kind != kind::SET {
            return None;
        }
        if self.find(state, at, x)?.is_some() {
            return Some(());
        }
        let count = self.word(at)?;
        if i64::try_from(count).ok()? >= state.low {
            return None;
        }
        changes.word(at + 1 + usize::try_from(count).ok()?, i64::try_from(x).ok()?.cast_unsigned())?;
        changes.word(at, count + 1)
    }

    /// Takes out of a set, or out of a map's working half; the last one takes its place. It must be there.
    pub(crate) fn remove(&self, state: &State, at: usize, x: i128, changes: &mut Changes) -> Option<()> {
        let (at, step) = if state.kind == kind::MAP { (at + state.stride as usize / 2, 2) } else { (at, 1) };
        let found = self.find(state, at, x)??;
        let count = self.word(at)?;
        let last = at + 1 + (usize::try_from(count).ok()?.checked_sub(1)?) * step;
        for n in 0..step {
            changes.word(found + n, self.word(last + n)?)?;
        }
        changes.word(at, count - 1)
    }

    /// Sets a key's value in a map's working half.
    pub(crate) fn put(&self, state: &State, at: usize, x: i128, value: i128, changes: &mut Changes) -> Option<()> {
        if state.kind != kind::MAP {
            return None;
        }
        let at = at + state.stride as usize / 2;
        let value = i64::try_from(value).ok()?.cast_unsigned();
        if let Some(found) = self.find(state, at, x)? {
            return changes.word(found + 1, value);
        }
        let count = self.word(at)?;
        if i64::try_from(count).ok()? >= state.low {
            return None;
        }
        let new = at + 1 + usize::try_from(count).ok()? * 2;
        changes.word(new, i64::try_from(x).ok()?.cast_unsigned())?;
        changes.word(new + 1, value)?;
        changes.word(at, count + 1)
    }
}

/// What the effects of one call change: all of it is made, or nothing.
pub(crate) struct Changes {
    all: [Change; WRITES],
    count: usize,
}

/// One change, from word `at` on: one word becomes `value`, or so many become those from word `value` on.
#[derive(Clone, Copy)]
struct Change {
    at: u32,
    words: u32,
    value: u64,
}

/// What stands beyond the state is zero.
const BEYOND: u64 = u32::MAX as u64;

impl Changes {
    pub(crate) const fn new() -> Self {
        Self { all: [Change { at: 0, words: 0, value: 0 }; WRITES], count: 0 }
    }

    fn add(&mut self, at: usize, words: u32, value: u64) -> Option<()> {
        *self.all.get_mut(self.count)? = Change { at: u32::try_from(at).ok()?, words, value };
        self.count += 1;
        Some(())
    }

    pub(crate) fn word(&mut self, at: usize, value: u64) -> Option<()> {
        self.add(at, 0, value)
    }

    pub(crate) fn copy(&mut self, to: usize, from: usize, words: u32) -> Option<()> {
        self.add(to, words, from as u64)
    }

    pub(crate) fn set_counter(&mut self, state: &State, at: usize, value: i128) -> Option<()> {
        let value = i64::try_from(value).ok()?;
        if state.kind != kind::COUNTER || !(state.low..=state.high).contains(&value) {
            return None;
        }
        self.word(at, value.cast_unsigned().wrapping_sub(state.start.cast_unsigned()))
    }

    /// To the start; a map's working half is emptied.
    pub(crate) fn reset(&mut self, state: &State, at: usize) -> Option<()> {
        match state.kind {
            kind::MAP => self.word(at + state.stride as usize / 2, 0),
            kind::RATE => None,
            _ => self.add(at, state.stride, BEYOND),
        }
    }

    /// All instances to the start.
    pub(crate) fn reset_all(&mut self, state: &State) -> Option<()> {
        let [first, second] = state.key_count;
        self.add(state.base as usize, first.checked_mul(second)?.checked_mul(state.stride)?, BEYOND)
    }

    /// Makes them, in order.
    pub(crate) fn make(&self, state: &mut [u64]) {
        for change in self.all.iter().take(self.count) {
            for n in 0..change.words.max(1) as usize {
                let word = match change.words {
                    0 => change.value,
                    _ => usize::try_from(change.value).ok().and_then(|from| state.get(from + n).copied()).unwrap_or(0),
                };
                state.get_mut(change.at as usize + n).into_iter().for_each(|slot| *slot = word);
            }
        }
    }
}
