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

#[cfg(test)]
mod tests {
    use super::*;

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
