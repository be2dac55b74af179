//! The time service: `now() -> (seconds, ticks)`: seconds of the epoch where they are known, since the machine was started
//! where not; ticks since it was started.
#![no_std]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));

/// The reply to `now` that counts from the start: at tick 0 it was second `boot_seconds`.
#[must_use]
pub fn counted(ticks: u64, ticks_per_second: u64, boot_seconds: u64) -> clock::NowReply {
    clock::NowReply { seconds: boot_seconds.saturating_add(ticks / ticks_per_second.max(1)), ticks }
}

/// Whether a heartbeat, one a second, is said: each for half a minute, then one a minute. The console is for people.
#[must_use]
pub const fn is_said(beat: u64) -> bool {
    beat <= 30 || beat.is_multiple_of(60)
}

#[cfg(test)]
mod tests {
    use super::{clock::NowReply, counted, is_said};

    #[test]
    fn heartbeats_become_rare_after_half_a_minute() {
        assert_eq!((1..=240).filter(|&beat| is_said(beat)).count(), 34);
    }

    #[test]
    fn seconds_are_whole_and_a_counter_without_a_rate_does_not_divide_by_zero() {
        assert_eq!(counted(124, 62, 0), NowReply { seconds: 2, ticks: 124 });
        assert_eq!(counted(123, 62, 0), NowReply { seconds: 1, ticks: 123 });
        assert_eq!(counted(7, 0, 0), NowReply { seconds: 7, ticks: 7 });
    }

    #[test]
    fn seconds_are_those_of_the_epoch_where_the_boot_s_are_known() {
        assert_eq!(counted(124, 62, 1_700_000_000).seconds, 1_700_000_002);
        assert_eq!(counted(124, 62, u64::MAX).seconds, u64::MAX);
    }
}
