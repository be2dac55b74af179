//! The time service: `now() -> (seconds, ticks)` since the machine was started.
#![no_std]
#![forbid(unsafe_code)]

/// Methods of the interface `Clock`.
pub mod method {
    /// `now() -> (seconds: u64, ticks: u64)`.
    pub const NOW: u16 = 0;
}

/// The reply to `now`.
#[must_use]
pub fn now(ticks: u64, ticks_per_second: u64) -> [u64; 2] {
    [ticks / ticks_per_second.max(1), ticks]
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn seconds_are_whole_and_a_counter_without_a_rate_does_not_divide_by_zero() {
        assert_eq!(now(124, 62), [2, 124]);
        assert_eq!(now(123, 62), [1, 123]);
        assert_eq!(now(7, 0), [7, 7]);
    }
}
