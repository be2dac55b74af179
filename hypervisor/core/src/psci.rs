//! PSCI as the guest sees it (Arm DEN 0022, version 1.1): one CPU, power calls end or restart the guest, never the machine.

/// What a call with an SMCCC function id leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value of x0.
    Value(i64),
    /// SYSTEM_OFF.
    GuestOff,
    /// SYSTEM_RESET.
    GuestReset,
}

const NOT_SUPPORTED: i64 = -1;
/// PSCI_VERSION.
pub const VERSION: u32 = 0x8400_0000;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const FEATURES: u32 = 0x8400_000a;
/// SMCCC_VERSION.
pub const SMCCC_VERSION: u32 = 0x8000_0000;

/// The answer to function `id` with first argument `argument`; every unknown id gets `NOT_SUPPORTED`.
#[must_use]
pub const fn answer(id: u32, argument: u64) -> Answer {
    match id {
        VERSION | SMCCC_VERSION => Answer::Value(0x1_0001),
        // No trusted OS that would have to migrate (DEN 0022 §5.10).
        MIGRATE_INFO_TYPE => Answer::Value(2),
        SYSTEM_OFF => Answer::GuestOff,
        SYSTEM_RESET => Answer::GuestReset,
        FEATURES => Answer::Value(if is_offered(argument) { 0 } else { NOT_SUPPORTED }),
        _ => Answer::Value(NOT_SUPPORTED),
    }
}

const fn is_offered(function: u64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the value is checked to be 32 bits wide")]
    let id = function as u32;
    function >> 32 == 0
        && matches!(id, VERSION | SMCCC_VERSION | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | FEATURES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debian_asks_at_boot_is_answered() {
        assert_eq!(answer(VERSION, 0), Answer::Value(0x1_0001));
        assert_eq!(answer(FEATURES, u64::from(SMCCC_VERSION)), Answer::Value(0));
        assert_eq!(answer(SYSTEM_OFF, 0), Answer::GuestOff);
        assert_eq!(answer(SYSTEM_RESET, 0), Answer::GuestReset);
    }

    #[test]
    fn starting_a_cpu_suspending_and_unknown_ids_are_not_supported() {
        for id in [0xc400_0003, 0xc400_0001, 0xc400_000e, 0xc400_0012, 0x8400_0050, 0, u32::MAX] {
            assert_eq!(answer(id, 0), Answer::Value(-1));
            assert_eq!(answer(FEATURES, u64::from(id)), Answer::Value(-1));
        }
        assert_eq!(answer(FEATURES, 1 << 32 | u64::from(VERSION)), Answer::Value(-1));
    }
}
