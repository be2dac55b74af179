//! The site's time of day. The wall has no clock that knows it: an app that drives one tells the time (`time.set`), by the policy's
//! leave, and the system counter carries it on. Until then nobody knows the hour, and rules that ask for it refuse.

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_model::{Phase, method, object};
use bulkhead_monitor::{Call, Verdict};

const MICROSECONDS: u64 = 1_000_000;

/// The time of day, as far as it was told.
#[derive(Debug)]
pub struct SiteTime {
    /// What has to be added to the counter's microseconds for the site's local time since 1970; 0: not known.
    ahead: AtomicU64,
}

impl Default for SiteTime {
    fn default() -> Self {
        Self::new()
    }
}

impl SiteTime {
    /// Nobody has told it yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ahead: AtomicU64::new(0) }
    }

    /// Takes the time from a call that was judged: an allowed `time.set`, and no other. `zone` is how far the site's local time is
    /// ahead of UTC, in seconds; `now` the counter's microseconds.
    pub fn hear(&self, call: &Call<'_>, verdict: &Verdict, zone: i32, now: u64) {
        let is_told = call.object == object::TIME && call.method == method::SET_TIME && call.phase == Phase::Request;
        if is_told && verdict.is_allowed() {
            let [utc, ..] = *call.args;
            let local = utc.saturating_add_signed(zone.into()).saturating_mul(MICROSECONDS);
            self.ahead.store(local.saturating_sub(now), Ordering::Relaxed);
        }
    }

    /// Seconds since 1970 began in the site's zone.
    #[must_use]
    pub fn seconds(&self, now: u64) -> Option<u64> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        (ahead != 0).then(|| ahead.saturating_add(now) / MICROSECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_model::Reason;

    const NOON: u64 = 1_700_006_400 / 86_400 * 86_400 + 43_200;

    fn told(call: &Call<'_>, reason: Reason, zone: i32) -> SiteTime {
        let time = SiteTime::new();
        time.hear(call, &Verdict { reason, rule: 0, audit: false }, zone, 5 * MICROSECONDS);
        time
    }

    fn set(args: &[u64; 6]) -> Call<'_> {
        let (object, method, phase) = (object::TIME, method::SET_TIME, Phase::Request);
        Call { subject: 2, object, method, phase, len: 1, args }
    }

    #[test]
    fn the_hour_is_known_once_it_was_told_and_goes_on_with_the_counter() {
        let args = [NOON, 0, 0, 0, 0, 0];
        let time = told(&set(&args), Reason::Allowed, 3600);
        assert_eq!(time.seconds(5 * MICROSECONDS), Some(NOON + 3600));
        assert_eq!(time.seconds(65 * MICROSECONDS), Some(NOON + 3660));
        assert_eq!(told(&set(&args), Reason::Allowed, -12_600).seconds(5 * MICROSECONDS), Some(NOON - 12_600));
    }

    #[test]
    fn nothing_else_tells_the_hour() {
        let args = [NOON, 0, 0, 0, 0, 0];
        let call = set(&args);
        assert_eq!(SiteTime::new().seconds(7), None);
        assert_eq!(told(&call, Reason::NoRule, 0).seconds(7), None, "refused");
        assert_eq!(told(&Call { phase: Phase::Question, ..call }, Reason::Allowed, 0).seconds(7), None, "asked");
        assert_eq!(told(&Call { object: object::LIFE, ..call }, Reason::Allowed, 0).seconds(7), None);
    }

    #[test]
    fn no_number_makes_it_overflow() {
        let args = [u64::MAX, 0, 0, 0, 0, 0];
        assert!(told(&set(&args), Reason::Allowed, i32::MAX).seconds(u64::MAX).is_some());
        let args = [0; 6];
        assert_eq!(told(&set(&args), Reason::Allowed, i32::MIN).seconds(7), None);
    }
}
