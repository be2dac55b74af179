//! A PC's real-time clock (Motorola MC146818A data sheet) as the loader and the clock app read it: pure, over whatever reads its registers.
#![no_std]
#![forbid(unsafe_code)]

/// The port that a register is chosen by, without its highest bit: that one shuts NMIs off.
pub const INDEX: u16 = 0x70;
/// The port that the register is at.
pub const DATA: u16 = 0x71;

/// Seconds since 1970; `None` if the clock shows no time, or does not settle in so many tries. It changes its registers once a second; they
/// hold when read alike twice outside of a change.
#[must_use]
pub fn seconds(tries: u32, mut read: impl FnMut(u8) -> u8) -> Option<u64> {
    let mut once = || {
        let is_changing = read(0x0a) & 0x80 != 0;
        (!is_changing).then(|| Clock { fields: [0, 2, 4, 7, 8, 9].map(&mut read), mode: read(0x0b) })
    };
    let settled = (0..tries).find_map(|_| {
        let first = once()?;
        (once()? == first).then_some(first)
    });
    settled.and_then(Clock::seconds)
}

/// What its registers hold: seconds, minutes, hours, day, month, year, and register B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// Seconds, minutes, hours, day of the month, month, year of the century.
    fields: [u8; 6],
    /// Register B: bit 2 binary numbers, bit 1 hours to 24.
    mode: u8,
}

impl Clock {
    /// Seconds since 1970, of a clock that is set to UTC; `None` if the fields are no time. Years are those of this century.
    fn seconds(self) -> Option<u64> {
        const AFTERNOON: u8 = 0x80;
        let is_24_hours = self.mode & 2 != 0;
        let number = |value: u8| {
            let (tens, ones) = (value >> 4, value & 0xf);
            if self.mode & 4 != 0 { Some(value) } else { (tens < 10 && ones < 10).then_some(tens * 10 + ones) }
        };
        let [second, minute, hour, day, month, year] = self.fields;
        let afternoon = if !is_24_hours && hour & AFTERNOON != 0 { 12 } else { 0 };
        let hour = number(if is_24_hours { hour } else { hour & !AFTERNOON })?;
        let hour = if is_24_hours { hour } else { hour % 12 + afternoon };
        let [second, minute, hour, day, month, year] =
            [number(second)?, number(minute)?, hour, number(day)?, number(month)?, number(year)?].map(u64::from);
        let is_time = second < 60 && minute < 60 && hour < 24 && (1..=12).contains(&month) && year < 100;
        let is_leap = year.is_multiple_of(4);
        let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let before = usize::try_from(month).ok()?.checked_sub(1)?;
        if !is_time || !(1..=*lengths.get(before)?).contains(&day) {
            return None;
        }
        // 10,957 days from 1970 to 2000; every fourth year of this century is a leap year.
        let days = 10_957 + year * 365 + year.div_ceil(4) + lengths.iter().take(before).sum::<u64>() + day - 1;
        Some(((days * 24 + hour) * 60 + minute) * 60 + second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_in_both_notations_and_what_is_no_time_is_refused() {
        let clock = |fields, mode| Clock { fields, mode }.seconds();
        assert_eq!(clock([0x00, 0x00, 0x00, 0x01, 0x01, 0x26], 2), Some(1_767_225_600));
        assert_eq!(clock([59, 58, 23, 29, 2, 24], 6), Some(1_709_251_139));
        assert_eq!(clock([0, 0, 0x81, 1, 1, 0], 4), Some(946_731_600), "1 in the afternoon");
        assert_eq!(clock([0, 0, 12, 1, 1, 0], 4), Some(946_684_800), "12 at night");
        for wrong in
            [[60, 0, 0, 1, 1, 0], [0, 60, 0, 1, 1, 0], [0, 0, 24, 1, 1, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 30, 2, 24]]
        {
            assert_eq!(clock(wrong, 6), None, "{wrong:?}");
        }
        assert_eq!((clock([0, 0, 0, 1, 13, 0], 6), clock([0, 0, 0, 1, 0, 0], 6)), (None, None));
        assert_eq!((clock([0xff; 6], 6), clock([0xff; 6], 2), clock([0x1a, 0, 0, 1, 1, 0], 2)), (None, None, None));
    }

    #[test]
    fn a_clock_that_changes_is_read_again_and_one_that_always_does_is_given_up() {
        const REGISTERS: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 1, 1, 0x26, 0x26, 2];
        let mut reads = 0_u32;
        // It changes while it is read first; then it says so for a while.
        let told = seconds(20, |register| {
            reads += 1;
            match (register, reads) {
                (0, 2) => 0x59,
                (0x0a, 9..=12) => 0x80,
                _ => REGISTERS.get(usize::from(register)).copied().unwrap_or(0),
            }
        });
        assert_eq!(told, Some(1_767_225_600));
        assert_eq!(seconds(1000, |_| 0xff), None, "there is none");
        let mut next = 0_u8;
        let restless = |_| {
            next = next.wrapping_add(1) & 0x7f;
            next
        };
        assert_eq!(seconds(1000, restless), None);
        assert_eq!(seconds(0, |register| REGISTERS.get(usize::from(register)).copied().unwrap_or(0)), None);
    }
}
