//! The wall's timer on SVM, which has none of its own: what the machine's source is set to, so that it interrupts when the wall wants it. Times
//! are ticks of the TSC; a source counts at a rate of its own, and not far. Its registers are the shell's.

use core::sync::atomic::{AtomicU64, Ordering};

/// When it is due, and what the source is set to.
#[derive(Debug)]
pub struct Timer {
    /// `u64::MAX`: never.
    due: AtomicU64,
    /// When the source interrupts. Without a source nothing is earlier than 0.
    armed: AtomicU64,
    /// The source's ticks in a tick of the TSC, times 2^32.
    scale: AtomicU64,
    /// The longest that the source can wait.
    longest: AtomicU64,
}

impl Timer {
    /// Never due, and without a source.
    #[expect(clippy::new_without_default, reason = "a machine has one")]
    #[must_use]
    pub const fn new() -> Self {
        let [due, armed] = [AtomicU64::new(u64::MAX), AtomicU64::new(0)];
        Self { due, armed, scale: AtomicU64::new(0), longest: AtomicU64::new(0) }
    }

    /// Has a source of `rate` Hz, which is set to nothing and can count to `most`, beside a TSC of `counter` Hz.
    pub fn take_over(&self, rate: u64, most: u64, counter: u64) {
        let scaled =
            |value: u64, by: u64| u64::try_from((u128::from(value) << 32) / u128::from(by.max(1))).unwrap_or(u64::MAX);
        // Rounded up here, too.
        let scale = scaled(rate, counter).saturating_add(1);
        self.scale.store(scale, Ordering::Relaxed);
        self.longest.store(scaled(most - 1, scale), Ordering::Relaxed);
        self.spend();
    }

    /// Wants it at a time. True: the source has to be set. Else an earlier interrupt comes first, finds nothing due, and sets the next one.
    #[inline(always)]
    #[must_use]
    pub fn set(&self, at: u64) -> bool {
        self.due.store(at, Ordering::Relaxed);
        at < self.armed.load(Ordering::Relaxed)
    }

    /// Wants it at a time, or when it was wanted before, if that is sooner: what was wanted is not put off. True as for [`Timer::set`].
    #[must_use]
    pub fn set_no_later(&self, at: u64) -> bool {
        self.set(at.min(self.due()))
    }

    /// When it is due, whether the source has interrupted or not.
    #[inline(always)]
    #[must_use]
    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    /// The source has interrupted, or may have: nothing is awaited of it.
    pub fn spend(&self) {
        self.armed.store(u64::MAX, Ordering::Relaxed);
    }

    /// What the source has to count from now on, at least one; `None`: nothing is wanted. It is taken as set to that.
    #[must_use]
    pub fn arm(&self, now: u64) -> Option<u32> {
        let due = Some(self.due()).filter(|due| *due != u64::MAX)?;
        // A source that cannot wait so long interrupts earlier, and is set again then.
        let wait = due.saturating_sub(now).min(self.longest.load(Ordering::Relaxed));
        self.armed.store(now + wait, Ordering::Relaxed);
        // Rounded up: what comes before its time comes twice.
        let ticks = ((u128::from(wait) * u128::from(self.scale.load(Ordering::Relaxed))) >> 32) + 1;
        u32::try_from(ticks).ok()
    }
}

/// The fewest ticks that a comparator is asked for.
const LEAST: u32 = 192;
/// A comparator interrupts where the counter meets it, and nowhere else: one that was passed before it was in force waits for a turn of the counter.
/// Chipsets take some ticks until what is written is in force, and read back what is not yet: so many have to be left (Linux, hpet.c, knows them).
const SETTLED: u32 = 128;

/// Sets a comparator to interrupt when some ticks of its counter are over (IA-PC HPET 1.0a §2.3.9).
pub fn compare(ticks: u32, read_counter: impl Fn() -> u32, write_comparator: impl Fn(u32)) {
    // The tick that is read began before.
    let (mut ticks, mut start) = (ticks.max(LEAST) + 1, read_counter());
    loop {
        let at = start.wrapping_add(ticks);
        write_comparator(at);
        let now = read_counter();
        if (SETTLED..=ticks).contains(&at.wrapping_sub(now)) || ticks == u32::MAX {
            return;
        }
        // Twice as long as this try took, and twice as long as it waited, so that this ends, and soon where each touch takes long.
        (ticks, start) = (ticks.max(now.wrapping_sub(start)).saturating_mul(2), now);
    }
}

/// How long until the virtual interrupt is looked at again that found the kernel running, after some looks in vain: the kernel's paths are short. After
/// each it is eight times as long, up to a second or so, so that the kernel goes on even where a look takes longer than the time until the next.
#[must_use]
pub const fn next_look(looks: u32) -> u64 {
    2000 << if looks < 7 { 3 * looks } else { 21 }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "a count is cut to its register, and times fit")]
mod tests {
    extern crate std;

    use core::cell::Cell;

    use super::*;
    use proptest::prelude::*;

    /// A source beside the TSC. What the wall does to it takes time, now little, now much.
    #[derive(Debug)]
    struct Source {
        is_hpet: bool,
        /// Of the source and of the TSC, in Hz.
        rates: [u64; 2],
        /// How far the source's tick had come when the TSC was 0, in its own ticks' parts.
        phase: u64,
        now: Cell<u64>,
        /// The count, not cut to its width, at which it interrupts; an HPET again a turn later.
        meets: Cell<Option<u64>>,
        is_pending: Cell<bool>,
        /// How long the next accesses take.
        delays: std::vec::Vec<u64>,
        accesses: Cell<usize>,
        writes: Cell<u32>,
    }

    const TURN: u64 = 1 << 32;

    impl Source {
        fn count(&self) -> u64 {
            let [rate, counter] = self.rates.map(u128::from);
            ((u128::from(self.now.get()) * rate + u128::from(self.phase)) / counter) as u64
        }

        /// When it counts so far.
        fn time_of(&self, count: u64) -> u64 {
            let [rate, counter] = self.rates.map(u128::from);
            (u128::from(count) * counter).saturating_sub(self.phase.into()).div_ceil(rate) as u64
        }

        /// Ticks of the TSC, rounded up.
        fn ticks(&self, count: u64) -> u64 {
            (count * self.rates[1]).div_ceil(self.rates[0])
        }

        fn pass(&self, ticks: u64) {
            self.now.set(self.now.get() + ticks);
            while let Some(at) = self.meets.get().filter(|at| *at <= self.count()) {
                self.is_pending.set(true);
                self.meets.set(self.is_hpet.then_some(at + TURN));
            }
        }

        fn access(&self) {
            let turn = self.accesses.replace(self.accesses.get() + 1);
            self.pass(self.delays[turn % self.delays.len()]);
        }

        /// As the shell's.
        fn arm(&self, timer: &Timer) {
            let now = self.now.get();
            self.access();
            let Some(ticks) = timer.arm(now) else { return };
            self.writes.set(0);
            if !self.is_hpet {
                assert!((1..=0xffff).contains(&ticks), "{ticks}");
                // Counted from the next tick on, which loads it.
                self.meets.set(Some(self.count() + 1 + u64::from(ticks)));
                return;
            }
            let read = || {
                self.access();
                self.count() as u32
            };
            compare(ticks, read, |at| {
                self.access();
                let count = self.count();
                let ahead = u64::from(at.wrapping_sub(count as u32));
                // Met only after it was written, and that takes its time.
                self.meets.set(Some(count + ahead + if ahead <= self.lag() { TURN } else { 0 }));
                self.writes.set(self.writes.get() + 1);
            });
        }

        const fn lag(&self) -> u64 {
            self.phase % SETTLED as u64
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Wants it so far from now.
        Set(i64),
        Never,
        Wait(u64),
        Again,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Near, past, as far as an 8254 and an HPET count, and farther.
        let far = prop_oneof![0..3000_i64, -1_000_000..10_000_000_i64, 0..300_000_000_i64, 0..20_000_000_000_i64];
        prop_oneof![
            8 => far.clone().prop_map(Step::Set),
            1 => Just(Step::Set(i64::MAX)),
            1 => Just(Step::Never),
            8 => far.prop_map(|ticks| Step::Wait(ticks.unsigned_abs())),
            1 => Just(Step::Again),
        ]
    }

    fn source() -> impl Strategy<Value = Source> {
        let rates = prop_oneof![
            (Just(true), prop_oneof![Just(14_318_179_u64), Just(100_000_000), 10_000_000..200_000_000_u64]),
            (Just(false), Just(1_193_182)),
        ];
        let delay = prop_oneof![20 => 0..2_u64, 20 => 0..5000_u64, 1 => 0..100_000_000_u64];
        let delays = prop::collection::vec(delay, 1..20);
        (rates, 500_000_000..5_000_000_000_u64, any::<u64>(), 0..1_u64 << 40, delays).prop_map(
            |((is_hpet, rate), counter, phase, now, delays)| Source {
                is_hpet,
                rates: [rate, counter],
                phase: phase % counter,
                now: Cell::new(now),
                meets: Cell::new(None),
                is_pending: Cell::new(false),
                delays,
                accesses: Cell::new(0),
                writes: Cell::new(0),
            },
        )
    }

    #[test]
    fn a_comparator_is_set_in_few_touches_however_long_each_takes() {
        for [read_takes, write_takes] in
            [[0, 0], [1, 100], [100, 1], [10_000_000, 1], [1, 10_000_000], [900_000_000, 0]]
        {
            let (now, touches, at) = (Cell::new(u32::MAX - 70), Cell::new(0), Cell::new(0));
            let touch = |takes: u32| {
                now.set(now.get().wrapping_add(takes));
                touches.set(touches.get() + 1);
            };
            let read = || {
                touch(read_takes);
                now.get()
            };
            compare(0, read, |value| {
                touch(write_takes);
                at.set(value);
            });
            assert!(touches.get() <= 5, "{} touches", touches.get());
            assert!((SETTLED..1 << 31).contains(&at.get().wrapping_sub(now.get())), "it is ahead");
        }
    }

    #[test]
    fn a_look_does_not_put_off_the_end_of_a_partition() {
        let timer = Timer::new();
        timer.take_over(100_000_000, 0x7fff_ffff, 1_000_000_000);
        assert!(timer.set(3_000_000_000), "its end");
        assert!(timer.arm(0).is_some());
        assert!(timer.set_no_later(2_000_000_000) && timer.due() == 2_000_000_000, "a look before it");
        assert!(!timer.set(3_000_000_000), "the look comes first");
        assert!(!timer.set_no_later(4_000_000_000) && timer.due() == 3_000_000_000, "a look behind it");
    }

    #[test]
    fn the_kernel_is_looked_at_ever_more_rarely() {
        assert_eq!(
            [0, 1, 2, 6, 7, 8, u32::MAX].map(next_look),
            [2000, 16_000, 128_000, 2000 << 18, 2000 << 21, 2000 << 21, 2000 << 21]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever is wanted and when: an interrupt comes for it, late by the roundings and by what setting the source took; and before its time none
        /// but what the source was set to before, and where the time lies farther than it counts.
        #[test]
        fn it_interrupts_when_it_is_due(source in source(), steps in prop::collection::vec(step(), 1..60)) {
            let timer = Timer::new();
            let most = if source.is_hpet { 0x7fff_ffff } else { 0xffff };
            timer.take_over(source.rates[0], most, source.rates[1]);
            let longest = source.ticks(most - 2) - 1;
            // What is wanted and has not come, since when, and the interrupts since that came too early.
            let mut wanted: Option<(u64, u64, u64)> = None;
            // When the source was set last, and how late it may be for that.
            let (mut set_at, mut late) = (0, 0);
            let least = if source.is_hpet { source.ticks(LEAST.into()) } else { 0 };
            let arm = |set_at: &mut u64, late: &mut u64| {
                let (start, due) = (source.now.get(), timer.due());
                source.arm(&timer);
                let spent = source.now.get() - start;
                let tried = if source.writes.get() > 1 { source.ticks(2 * u64::from(SETTLED)) + 2 * spent } else { 0 };
                let rounding = source.ticks(3 + (due.saturating_sub(start).min(longest) >> 32));
                (*set_at, *late) = (start, spent + rounding + tried);
            };
            for step in steps {
                let end = source.now.get() + if let Step::Wait(ticks) = step { ticks } else { 0 };
                match step {
                    Step::Wait(_) => {}
                    Step::Never => {
                        wanted = None;
                        prop_assert!(!timer.set(u64::MAX));
                    }
                    Step::Set(ahead) => {
                        let now = source.now.get();
                        let at = now.saturating_add_signed(ahead);
                        wanted = Some((at, now, 0));
                        if timer.set(at) {
                            arm(&mut set_at, &mut late);
                        }
                    }
                    Step::Again => {
                        source.is_pending.set(false);
                        timer.spend();
                        arm(&mut set_at, &mut late);
                    }
                }
                loop {
                    let next = source.meets.get().map_or(u64::MAX, |at| source.time_of(at));
                    if let Some((due, ..)) = wanted.filter(|_| !source.is_pending.get()) {
                        let latest = set_at + due.saturating_sub(set_at).min(longest).max(least) + late;
                        prop_assert!(next <= latest, "at {next}, wanted at {due}, at the latest {latest}");
                    }
                    if !source.is_pending.replace(false) {
                        if next > end {
                            break;
                        }
                        source.pass(next.saturating_sub(source.now.get()));
                        continue;
                    }
                    let now = source.now.get();
                    timer.spend();
                    match wanted {
                        Some((due, ..)) if now >= due => wanted = None,
                        Some((due, since, early)) => {
                            let turns = (now - since) / (longest - longest / 1000);
                            prop_assert!(early <= turns, "{early} early in {turns} turns, wanted at {due}, now {now}");
                            wanted = Some((due, since, early + 1));
                            arm(&mut set_at, &mut late);
                        }
                        None => {}
                    }
                }
                source.pass(end.saturating_sub(source.now.get()));
            }
        }
    }
}
