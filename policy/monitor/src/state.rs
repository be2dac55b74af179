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

/// What a flow is in.
pub(crate) struct Flow {
    pub(crate) now_in: u64,
    /// When it was entered, in microseconds and 1; 0 for never.
    entered: u64,
    /// Which values it holds.
    holds: u64,
    successors: u32,
}

/// Bits 0-7 of a flow's first word: its state; bit 8 + n: it holds value n.
const HOLDS: u32 = 8;

impl View<'_> {
    pub(crate) fn word(&self, at: usize) -> Option<u64> {
        self.words.get(at).copied()
    }

    pub(crate) fn counter(&self, state: &State, at: usize) -> Option<i64> {
        let value = self.word(at)?.wrapping_add(state.start.cast_unsigned()).cast_signed();
        (state.kind == kind::COUNTER).then_some(value)
    }

    /// What a flow is in. A state that has lasted longer than it may is left at that time.
    #[inline(always)]
    pub(crate) fn flow(&self, state: &State, at: usize) -> Option<Flow> {
        if state.kind != kind::FLOW {
            return None;
        }
        let (word, entered) = (self.word(at)?, self.word(at + 1)?);
        let now_in = word & 0xff;
        let row = self.policy.flow_state(state, now_in)?;
        if row.lasts == 0 || entered == 0 || self.now?.saturating_sub(entered - 1) <= row.lasts {
            return Some(Flow { now_in, entered, holds: word >> HOLDS, successors: row.successors });
        }
        let next = self.policy.flow_state(state, row.then.into())?;
        Some(Flow {
            now_in: row.then.into(),
            entered: entered.checked_add(row.lasts)?,
            holds: 0,
            successors: next.successors,
        })
    }

    /// How long ago the flow's state was entered, or the timer was started.
    pub(crate) fn age(&self, state: &State, at: usize) -> Option<u64> {
        let since = if state.kind == kind::FLOW { self.flow(state, at)?.entered } else { self.word(at)? };
        self.now?.checked_sub(since.checked_sub(1)?)
    }

    pub(crate) fn held(&self, state: &State, at: usize, value: u8) -> Option<i128> {
        let is_held = self.flow(state, at)?.holds >> (value & 7) & 1 != 0;
        is_held.then(|| self.word(at + 2 + usize::from(value))).flatten().map(|word| word.cast_signed().into())
    }

    /// A flow goes to a state that may follow, with the values that the mask names.
    #[inline(always)]
    pub(crate) fn enter(
        &self,
        state: &State,
        at: usize,
        next: u8,
        mask: u8,
        values: &[u64],
        changes: &mut Changes,
    ) -> Option<()> {
        if self.flow(state, at)?.successors >> (next & 31) & 1 == 0 || state.stride as usize != 2 + values.len() {
            return None;
        }
        changes.word(at, u64::from(next) | u64::from(mask) << HOLDS)?;
        changes.word(at + 1, self.now?.checked_add(1)?)?;
        for (place, &value) in (at + 2..).zip(values) {
            changes.word(place, value)?;
        }
        Some(())
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
    pub(crate) fn find(&self, state: &State, at: usize, x: u64) -> Option<Option<usize>> {
        let step = match state.kind {
            kind::SET => 1,
            kind::MAP => 2,
            _ => return None,
        };
        let count = usize::try_from(self.word(at)?).ok()?;
        let values = self.words.get(at + 1..at + 1 + count.checked_mul(step)?)?;
        let found = values.iter().step_by(step).position(|&value| value == x);
        Some(found.map(|place| at + 1 + place * step))
    }

    /// Adds to a set; what is there already stays.
    pub(crate) fn insert(&self, state: &State, at: usize, x: u64, changes: &mut Changes) -> Option<()> {
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
        changes.word(at + 1 + usize::try_from(count).ok()?, x)?;
        changes.word(at, count + 1)
    }

    /// Takes out of a set, or out of a map's working half; the last one takes its place. It must be there.
    pub(crate) fn remove(&self, state: &State, at: usize, x: u64, changes: &mut Changes) -> Option<()> {
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
    pub(crate) fn put(&self, state: &State, at: usize, x: u64, value: u64, changes: &mut Changes) -> Option<()> {
        if state.kind != kind::MAP {
            return None;
        }
        let at = at + state.stride as usize / 2;
        if let Some(found) = self.find(state, at, x)? {
            return changes.word(found + 1, value);
        }
        let count = self.word(at)?;
        if i64::try_from(count).ok()? >= state.low {
            return None;
        }
        let new = at + 1 + usize::try_from(count).ok()? * 2;
        changes.word(new, x)?;
        changes.word(new + 1, value)?;
        changes.word(at, count + 1)
    }
}

/// What the effects of one call change: all of it is made, or nothing.
pub(crate) struct Changes {
    /// Word and how many from it on: none, then that word becomes the value; else those become the ones from word `value` on.
    places: [(u16, u16); WRITES],
    values: [u64; WRITES],
    count: usize,
}

/// What stands beyond the state is zero.
const BEYOND: u64 = u32::MAX as u64;

impl Changes {
    pub(crate) const fn new() -> Self {
        Self { places: [(0, 0); WRITES], values: [0; WRITES], count: 0 }
    }

    fn add(&mut self, at: usize, words: u32, value: u64) -> Option<()> {
        let next = self.count;
        let (place, slot) = self.places.get_mut(next).zip(self.values.get_mut(next))?;
        *place = (u16::try_from(at).ok()?, u16::try_from(words).ok()?);
        *slot = value;
        self.count = next + 1;
        Some(())
    }

    pub(crate) fn word(&mut self, at: usize, value: u64) -> Option<()> {
        self.add(at, 0, value)
    }

    pub(crate) fn copy(&mut self, to: usize, from: usize, words: u32) -> Option<()> {
        self.add(to, words, from as u64)
    }

    pub(crate) fn set_counter(&mut self, state: &State, at: usize, value: i64) -> Option<()> {
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
        for (&(at, words), &value) in self.places.iter().zip(&self.values).take(self.count) {
            if words == 0 {
                state.get_mut(usize::from(at)).into_iter().for_each(|slot| *slot = value);
            }
            for n in 0..usize::from(words) {
                let from = usize::try_from(value).ok().and_then(|from| state.get(from + n).copied());
                state.get_mut(usize::from(at) + n).into_iter().for_each(|slot| *slot = from.unwrap_or(0));
            }
        }
    }
}
