//! When the secure partition runs on its own account, and for how long: a share of each period. A call of the guest runs on
//! the guest's account, up to the call limit.

/// The partition's account, in ticks of the system counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    period: u64,
    budget: u64,
    period_end: u64,
    used: u64,
    /// When it wants to run next; `u64::MAX`: when called only.
    wake: u64,
}

impl Share {
    /// A share of `budget` ticks in each `period`.
    #[must_use]
    pub const fn new(period: u64, budget: u64) -> Self {
        Self { period, budget, period_end: 0, used: 0, wake: 0 }
    }

    /// When the guest has to be interrupted for the partition: not before it wants to run and has time left.
    #[must_use]
    #[inline]
    pub const fn interrupt_at(&self) -> u64 {
        if self.used < self.budget || self.wake >= self.period_end { self.wake } else { self.period_end }
    }

    /// At time `now`: until when the partition may run by itself; `None` if it may not.
    #[must_use]
    pub fn enter(&mut self, now: u64) -> Option<u64> {
        if now >= self.period_end {
            self.period_end = now.saturating_add(self.period);
            self.used = 0;
        }
        (self.wake <= now && self.used < self.budget).then(|| now + (self.budget - self.used))
    }

    /// It wants to run at once: an interrupt came for it.
    pub fn want(&mut self, now: u64) {
        self.wake = self.wake.min(now);
    }

    /// The partition ran for `used` ticks on its own account.
    #[inline]
    pub const fn charge(&mut self, used: u64) {
        self.used = self.used.saturating_add(used);
    }

    /// It left, and wants to run again at `wake`.
    #[inline]
    pub const fn sleep(&mut self, wake: u64) {
        self.wake = wake;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_runs_when_it_wants_to_and_has_time_left() {
        let mut share = Share::new(1000, 100);
        assert_eq!(share.enter(5000), Some(5100));
        share.charge(40);
        share.sleep(5200);
        assert_eq!(share.interrupt_at(), 5200);
        assert_eq!(share.enter(5100), None, "not yet");
        assert_eq!(share.enter(5200), Some(5260), "the rest of the budget");
    }

    #[test]
    fn a_spent_budget_ends_its_turn_until_the_next_period() {
        let mut share = Share::new(1000, 100);
        assert!(share.enter(5000).is_some());
        share.charge(120);
        share.sleep(5100);
        assert_eq!(share.interrupt_at(), 6000);
        assert_eq!(share.enter(5999), None);
        assert_eq!(share.enter(6000), Some(6100));
    }

    #[test]
    fn one_that_wants_nothing_is_never_entered_by_itself() {
        let mut share = Share::new(1000, 100);
        assert!(share.enter(5000).is_some());
        share.charge(10);
        share.sleep(u64::MAX);
        assert_eq!(share.interrupt_at(), u64::MAX);
        assert_eq!(share.enter(1 << 40), None);
    }

    proptest! {
        /// Whatever it asks for, in any ten periods it gets at most eleven budgets.
        #[test]
        fn the_share_is_never_exceeded(runs in prop::collection::vec((1_u64..400, 0_u64..50), 1..200)) {
            let mut share = Share::new(1000, 100);
            let (mut now, mut total, start) = (10_000, 0, 10_000);
            for (wish, delay) in runs {
                now = now.max(share.interrupt_at());
                if let Some(until) = share.enter(now) {
                    let used = wish.min(until - now);
                    now += used;
                    total += used;
                    share.charge(used);
                    share.sleep(now + delay);
                }
            }
            let periods = (now - start) / 1000 + 2;
            prop_assert!(total <= periods * 100, "{total} ticks in {periods} periods");
        }
    }
}
