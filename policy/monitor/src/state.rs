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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use bulkhead_model::FlowState;
    use bulkhead_model::build::{Aligned, Tables};
    use std::vec::Vec;

    /// One step on and back, of which the second state is over after 50 us.
    fn table() -> Aligned {
        let mut tables = Tables::default();
        let state = FlowState { successors: 0b10, ..FlowState::default() };
        tables.flow_states = std::vec![state, FlowState { successors: 0b101, lasts: 50, then: 2, ..state }, state];
        Aligned::new(&tables.to_bytes())
    }

    const ONE: State = State {
        key_low: [0; 2],
        key_count: [1; 2],
        low: 0,
        high: 0,
        start: 0,
        name: bulkhead_model::Text { start: 0, bytes: 0 },
        base: 0,
        stride: 1,
        kind: kind::COUNTER,
        keys: 0,
    };
    const FLOW: State = State { kind: kind::FLOW, high: 3, stride: 3, ..ONE };

    /// What is said of these words at a time, or what they become.
    fn at<T>(words: &[u64], now: Option<u64>, say: impl FnOnce(&View<'_>) -> T) -> T {
        let bytes = table();
        let policy = Policy::verify(&bytes).unwrap();
        say(&View { policy: &policy, words, clock: &crate::NoClock, now })
    }

    fn change(
        words: &[u64],
        now: Option<u64>,
        make: impl FnOnce(&View<'_>, &mut Changes) -> Option<()>,
    ) -> Option<Vec<u64>> {
        let mut changes = Changes::new();
        at(words, now, |view| make(view, &mut changes))?;
        let mut words = words.to_vec();
        changes.make(&mut words);
        Some(words)
    }

    #[test]
    fn a_counter_begins_at_its_start_and_stays_in_its_range() {
        let counter = State { low: -3, high: 9, start: 5, ..ONE };
        assert_eq!(at(&[0], None, |view| view.counter(&counter, 0)), Some(5));
        let set = |value| change(&[7], None, |_, changes| changes.set_counter(&counter, 0, value));
        assert_eq!([set(-4), set(10), set(i64::MAX)], [None, None, None]);
        for value in [-3, 0, 5, 9] {
            let words = set(value).unwrap();
            assert_eq!(at(&words, None, |view| view.counter(&counter, 0)), Some(value));
        }
        let other = State { kind: kind::TIMER, ..counter };
        assert_eq!(at(&[0], None, |view| view.counter(&other, 0)), None);
        assert_eq!(change(&[0], None, |_, changes| changes.set_counter(&other, 0, 5)), None);
        assert_eq!(at(&[0], None, |view| view.counter(&counter, 1)), None, "beyond the state");
    }

    #[test]
    fn a_state_is_over_when_it_has_lasted_longer_than_it_may() {
        let flow = |words: [u64; 3], now| {
            at(&words, now, |view| view.flow(&FLOW, 0).map(|flow| (flow.now_in, flow.entered, flow.holds)))
        };
        // Entered at 100, held one value.
        let words = [1 | 1 << HOLDS, 101, 7];
        assert_eq!(flow(words, Some(150)), Some((1, 101, 1)));
        assert_eq!(flow(words, Some(151)), Some((2, 151, 0)), "what follows began then");
        assert_eq!(flow(words, Some(10)), Some((1, 101, 1)), "a clock that went back");
        assert_eq!(flow(words, None), None);
        assert_eq!(flow([1, 0, 0], None), Some((1, 0, 0)), "never entered");
        assert_eq!(flow([0, 101, 0], None), Some((0, 101, 0)), "it may last for ever");
        assert_eq!(flow([3, 101, 0], Some(150)), None, "no such state");
        assert!(at(&words, Some(150), |view| view.flow(&ONE, 0).is_none()), "no flow");
    }

    #[test]
    fn ages_count_from_when_something_began() {
        let timer = State { kind: kind::TIMER, ..ONE };
        let age = |words: &[u64], now, state: &State| at(words, now, |view| view.age(state, 0));
        assert_eq!(age(&[101], Some(130), &timer), Some(30));
        assert_eq!(age(&[101], Some(99), &timer), None, "the clock went back");
        assert_eq!([age(&[0], Some(130), &timer), age(&[101], None, &timer)], [None; 2]);
        assert_eq!(age(&[1, 101, 0], Some(140), &FLOW), Some(40));
        assert_eq!(age(&[1, 101, 0], Some(160), &FLOW), Some(10), "of the state that followed");
        assert_eq!(age(&[0, 0, 0], Some(160), &FLOW), None);
    }

    #[test]
    fn a_flow_takes_its_steps_and_holds_what_it_is_given() {
        let two = State { stride: 4, ..FLOW };
        let enter = |words: &[u64], next, now| {
            change(words, now, |view, changes| view.enter(&two, 0, next, 0b10, &[0, 9], changes))
        };
        assert_eq!(enter(&[0, 0, 0, 0], 1, Some(60)), Some(std::vec![1 | 0b10 << HOLDS, 61, 0, 9]));
        assert_eq!(
            [enter(&[0, 0, 0, 0], 2, Some(60)), enter(&[0, 0, 0, 0], 0, Some(60)), enter(&[0, 0, 0, 0], 1, None)],
            [None, None, None]
        );
        let short = change(&[0, 0, 0, 0], Some(60), |view, changes| view.enter(&two, 0, 1, 0, &[9], changes));
        assert_eq!(short, None, "a value that the flow may hold is missing");
        let held = |words: &[u64], value| at(words, Some(60), |view| view.held(&two, 0, value));
        let words = [1 | 0b10 << HOLDS, 61, 5, u64::MAX];
        assert_eq!([held(&words, 0), held(&words, 1)], [None, Some(-1)]);
        assert_eq!(held(&[1 | 0b01 << HOLDS, 61, 5, 9], 0), Some(5));
    }

    #[test]
    fn a_window_admits_so_many_calls_in_any_such_time() {
        let rate = State { kind: kind::RATE, low: 2, high: 100, stride: 3, ..ONE };
        let admits = |words: &[u64], now| at(words, Some(now), |view| view.admits(&rate, 0));
        let take = |words: &[u64], now| change(words, Some(now), |view, changes| view.take(&rate, 0, changes)).unwrap();
        let first = take(&[0, 0, 0], 0);
        assert_eq!(first, [1, 1, 0]);
        assert_eq!(admits(&first, 0), Some(true));
        let second = take(&first, 40);
        assert_eq!(second, [0, 1, 41]);
        assert_eq!([admits(&second, 99), admits(&second, 100)], [Some(false), Some(true)]);
        let third = take(&second, 100);
        assert_eq!(third, [1, 101, 41]);
        assert_eq!([admits(&third, 139), admits(&third, 140)], [Some(false), Some(true)]);
        assert_eq!(at(&first, None, |view| view.admits(&rate, 0)), None);
        assert_eq!(at(&first, Some(0), |view| view.admits(&ONE, 0)), None, "no rate");
    }

    #[test]
    fn a_bucket_admits_its_burst_and_then_as_it_fills() {
        let rate = State { kind: kind::RATE, high: 10, start: 3, ..ONE };
        let admits = |full_at, now| at(&[full_at], Some(now), |view| view.admits(&rate, 0));
        let take = |full_at, now| change(&[full_at], Some(now), |view, changes| view.take(&rate, 0, changes)).unwrap();
        assert_eq!(take(0, 100), [110]);
        assert_eq!(take(115, 100), [125]);
        assert_eq!([admits(120, 100), admits(121, 100), admits(121, 101)], [Some(true), Some(false), Some(true)]);
        assert_eq!(admits(0, u64::MAX), None);
        let single = State { start: 1, ..rate };
        assert_eq!(at(&[100], Some(100), |view| view.admits(&single, 0)), Some(true));
        assert_eq!(at(&[101], Some(100), |view| view.admits(&single, 0)), Some(false));
    }

    #[test]
    fn a_set_has_each_value_once_and_as_many_as_it_may() {
        let set = State { kind: kind::SET, low: 2, stride: 3, ..ONE };
        let insert = |words: &[u64], x| change(words, None, |view, changes| view.insert(&set, 0, x, changes));
        let remove = |words: &[u64], x| change(words, None, |view, changes| view.remove(&set, 0, x, changes));
        assert_eq!(insert(&[0, 9, 9], 9), Some(std::vec![1, 9, 9]), "what is left over is not in it");
        assert_eq!(insert(&[1, 9, 0], 9), Some(std::vec![1, 9, 0]));
        assert_eq!(insert(&[1, 9, 0], u64::MAX), Some(std::vec![2, 9, u64::MAX]));
        assert_eq!([insert(&[2, 9, 8], 8), insert(&[2, 9, 8], 7)], [Some(std::vec![2, 9, 8]), None]);
        assert_eq!(remove(&[2, 9, 8], 9), Some(std::vec![1, 8, 8]), "the last one takes its place");
        assert_eq!(remove(&[2, 9, 8], 8), Some(std::vec![1, 9, 8]));
        assert_eq!(remove(&[1, 9, 8], 8), None);
        assert_eq!(change(&[0, 0, 0], None, |view, changes| view.insert(&ONE, 0, 1, changes)), None, "no set");
        assert_eq!(at(&[0], None, |view| view.find(&ONE, 0, 1)), None, "no set");
        assert_eq!(at(&[3, 1, 2], None, |view| view.find(&set, 0, 1)), None, "a count beyond the state");
    }

    #[test]
    fn a_map_changes_its_working_half_alone() {
        let map = State { kind: kind::MAP, low: 2, stride: 10, ..ONE };
        // Committed: 1 is 10. Worked on: 2 is 20, 3 is 30.
        let words = [1, 1, 10, 0, 0, 2, 2, 20, 3, 30];
        let put =
            |words: &[u64], key, value| change(words, None, |view, changes| view.put(&map, 0, key, value, changes));
        assert_eq!(put(&words, 3, u64::MAX), Some(std::vec![1, 1, 10, 0, 0, 2, 2, 20, 3, u64::MAX]));
        assert_eq!(put(&words, 1, 5), None, "a third key");
        let empty = [1, 1, 10, 0, 0, 0, 0, 0, 0, 0];
        let first = put(&empty, 4, 40).unwrap();
        assert_eq!(first, [1, 1, 10, 0, 0, 1, 4, 40, 0, 0]);
        assert_eq!(put(&first, 5, 50), Some(std::vec![1, 1, 10, 0, 0, 2, 4, 40, 5, 50]));
        let remove = |x| change(&words, None, |view, changes| view.remove(&map, 0, x, changes));
        assert_eq!(remove(2), Some(std::vec![1, 1, 10, 0, 0, 1, 3, 30, 3, 30]));
        assert_eq!(remove(3), Some(std::vec![1, 1, 10, 0, 0, 1, 2, 20, 3, 30]));
        assert_eq!(remove(1), None, "committed, and not worked on");
        assert_eq!(at(&words, None, |view| view.find(&map, 0, 1)), Some(Some(1)));
        assert_eq!(at(&words, None, |view| view.find(&map, 5, 3)), Some(Some(8)));
        assert_eq!(at(&words, None, |view| view.find(&map, 5, 20)), Some(None), "a value is no key");
        assert_eq!(change(&words, None, |view, changes| view.put(&ONE, 0, 1, 1, changes)), None, "no map");
    }

    #[test]
    fn what_is_reset_is_as_at_the_start_and_a_map_keeps_what_was_committed() {
        let reset = |words: &[u64], state: &State| change(words, None, |_, changes| changes.reset(state, 0));
        assert_eq!(reset(&[7, 7, 7, 7], &FLOW), Some(std::vec![0, 0, 0, 7]));
        assert_eq!(
            reset(&[1, 1, 10, 1, 2, 20], &State { kind: kind::MAP, stride: 6, ..ONE }),
            Some(std::vec![1, 1, 10, 0, 2, 20])
        );
        assert_eq!(reset(&[7, 7], &State { kind: kind::RATE, stride: 2, ..ONE }), None);
        let all = |state: &State| change(&[7; 14], None, |_, changes| changes.reset_all(state));
        let of_six = State { base: 1, stride: 2, key_count: [2, 3], ..ONE };
        assert_eq!(all(&of_six), Some([&[7][..], &[0; 12], &[7]].concat()));
        assert_eq!(all(&State { key_count: [u32::MAX; 2], ..of_six }), None);
    }

    #[test]
    fn changes_are_made_in_order_and_no_more_than_there_is_room_for() {
        let mut changes = Changes::new();
        for n in 0..WRITES {
            assert_eq!(changes.word(1, n as u64), Some(()));
        }
        assert_eq!(changes.word(1, 99), None);
        let mut words = [0, 0, 5, 6];
        changes.make(&mut words);
        assert_eq!(words, [0, WRITES as u64 - 1, 5, 6]);
        let copied = change(&words, None, |_, changes| changes.copy(0, 2, 2).and_then(|()| changes.word(3, 1)));
        assert_eq!(copied, Some(std::vec![5, 6, 5, 1]));
        assert_eq!(
            change(&words, None, |_, changes| changes.copy(0, 3, 2)),
            Some(std::vec![6, 0, 5, 6]),
            "beyond is zero"
        );
        assert_eq!(change(&words, None, |_, changes| changes.word(4, 1)), Some(words.to_vec()), "beyond is nothing");
    }
}
