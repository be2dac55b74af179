//! Who runs next: the ready task of the highest priority that has budget left.

use crate::Kernel;
use crate::task::State;

/// What the shell does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Runs the task whose registers [`Kernel::registers`] gives.
    Run,
    /// Gives the CPU back.
    Leave {
        /// [`Kernel::reply_to_guest`] answers the guest's call.
        has_reply: bool,
        /// Tasks are ready.
        has_more: bool,
        /// When a timer or a fresh budget makes a task ready, in ticks.
        wake: u64,
    },
}

impl Kernel {
    /// Whether the guest's call is answered, nothing else is ready and nobody counts time: the CPU is given back at once, until
    /// the time that is told. Else ask [`Kernel::next`].
    #[inline(always)]
    pub fn answered(&mut self) -> Option<u64> {
        let is_answered = self.has_reply && self.ready == 0 && self.limited == 0;
        is_answered.then(|| {
            self.has_reply = false;
            self.earliest
        })
    }

    /// Decides at time `now`. `is_time_up`: the partition has to leave whatever is ready.
    #[inline(always)]
    pub fn next(&mut self, now: u64, is_time_up: bool) -> Next {
        if self.limited != 0 || now >= self.earliest {
            return self.next_by_the_clock(now, is_time_up);
        }
        // All that are ready may run.
        let first = (self.ready != 0).then(|| self.ready.trailing_zeros() as usize);
        self.choose(first, first.map_or(self.earliest, |_| now), is_time_up)
    }

    /// As [`Kernel::next`], where a timer is due, or budgets count.
    #[inline(never)]
    fn next_by_the_clock(&mut self, now: u64, is_time_up: bool) -> Next {
        self.charge(now);
        if now >= self.earliest {
            self.fire_timers(now);
        }
        let chosen = self.pick(now);
        let wake = match chosen {
            Some(_) => now,
            None if self.ready == 0 => self.earliest,
            None => self.earliest.min(self.next_budget()),
        };
        let next = self.choose(chosen, wake, is_time_up);
        // When nobody runs until the next entry, time away is charged to none.
        self.entered = if next == Next::Run { now } else { u64::MAX };
        next
    }

    #[inline(always)]
    fn choose(&mut self, chosen: Option<usize>, wake: u64, is_time_up: bool) -> Next {
        if let Some(index) = chosen.filter(|_| !self.has_reply && !is_time_up) {
            self.current = index;
            return Next::Run;
        }
        Next::Leave { has_reply: core::mem::take(&mut self.has_reply), has_more: chosen.is_some(), wake }
    }

    /// Adds what the running task used to its account.
    #[inline(always)]
    fn charge(&mut self, now: u64) {
        let used = now.saturating_sub(self.entered);
        let current = self.current;
        self.task(current).used += used;
    }

    /// The ready task of the highest priority that has time left.
    #[inline(always)]
    fn pick(&mut self, now: u64) -> Option<usize> {
        let mut left = self.ready;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            if self.limited >> index & 1 == 0 || self.has_budget(index, now) {
                return Some(index);
            }
            left &= left - 1;
        }
        None
    }

    #[inline(never)]
    fn has_budget(&mut self, index: usize, now: u64) -> bool {
        let (budget_us, period_us) = self.app(index).map_or((0, 0), |app| (app.budget_us, app.period_us));
        let (budget, period) = (u64::from(budget_us) * self.ticks_per_us, u64::from(period_us) * self.ticks_per_us);
        let task = self.task(index);
        if now.wrapping_sub(task.period_start) >= period {
            task.period_start = now;
            task.used = 0;
        }
        task.used < budget
    }

    /// When the first ready task without budget gets its next one.
    #[cold]
    #[inline(never)]
    fn next_budget(&mut self) -> u64 {
        let ticks_per_us = self.ticks_per_us;
        let apps = self.info.apps.iter().enumerate().take(self.info.app_count as usize);
        let ends = apps.map(|(index, app)| {
            let task = self.task(index);
            let end = task.period_start.saturating_add(u64::from(app.period_us) * ticks_per_us);
            if task.state == State::Ready { end } else { u64::MAX }
        });
        ends.min().unwrap_or(u64::MAX)
    }

    /// The running task gives the rest of its budget away; one without a budget goes on at its next turn.
    pub(crate) fn give_budget_away(&mut self) {
        let current = self.current;
        let budget = self.app(current).map_or(0, |app| u64::from(app.budget_us) * self.ticks_per_us);
        let task = self.task(current);
        task.used = task.used.max(budget);
        task.registers.x[0] = 0;
    }
}
