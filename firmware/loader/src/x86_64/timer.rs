//! Time: how fast the time stamp counter runs, when it was 0, and which pin of the I/O APIC a timer may use.

/// The PIT's clock, in hertz.
pub const PIT_HZ: u64 = 1_193_182;

/// The counter's rate from what it advanced while the PIT counted.
#[must_use]
pub fn rate(advanced: u64, pit_ticks: u64) -> u64 {
    let rate = u128::from(advanced) * u128::from(PIT_HZ) / u128::from(pit_ticks.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The rate that CPUID.15H tells: EBX / EAX of a crystal of ECX hertz; `None` if one of them is not told.
#[must_use]
pub fn told_rate(eax: u32, ebx: u32, ecx: u32) -> Option<u64> {
    let rate = (u64::from(ecx) * u64::from(ebx)).checked_div(u64::from(eax))?;
    (rate != 0).then_some(rate)
}

/// The highest pin that a comparator of the HPET can be routed to, that the I/O APIC has, and that no ISA interrupt uses.
/// PCI's interrupts share pins from 16 on: the highest is the least used.
#[must_use]
pub fn hpet_pin(routes: u32, pins: u32, isa: &[u32]) -> Option<u32> {
    (16..pins.min(32)).rev().find(|pin| routes & 1 << pin != 0 && !isa.contains(pin))
}

/// What the real-time clock's registers hold (MC146818A): seconds, minutes, hours, day, month, year, and register B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Seconds, minutes, hours, day of the month, month, year of the century.
    pub fields: [u8; 6],
    /// Register B: bit 2 binary numbers, bit 1 hours to 24.
    pub mode: u8,
}

impl Clock {
    /// Seconds since 1970, of a clock that is set to UTC; `None` if the fields are no time. Years are those of this century.
    #[must_use]
    pub fn seconds(self) -> Option<u64> {
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
    fn rates_are_exact_and_strange_numbers_do_not_panic() {
        assert_eq!(rate(20_000_000, PIT_HZ / 50), 1_000_026_819);
        assert_eq!(rate(u64::MAX, 0), u64::MAX);
        assert_eq!(told_rate(2, 200, 24_000_000), Some(2_400_000_000));
        assert_eq!(
            (told_rate(0, 200, 24_000_000), told_rate(2, 0, 24_000_000), told_rate(2, 200, 0)),
            (None, None, None)
        );
        assert!(told_rate(1, u32::MAX, u32::MAX).is_some());
    }

    #[test]
    fn the_pin_is_one_that_exists_and_that_nothing_else_uses() {
        assert_eq!(hpet_pin(0xff_0104, 24, &[2]), Some(23));
        assert_eq!(hpet_pin(0xff_0104, 24, &[23]), Some(22));
        assert_eq!(hpet_pin(0xff_0104, 16, &[]), None);
        assert_eq!(hpet_pin(0x0000_0104, 24, &[]), None);
        assert_eq!(hpet_pin(u32::MAX, u32::MAX, &[]), Some(31));
    }
}
