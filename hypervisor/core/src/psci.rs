//! PSCI as the guest sees it (Arm DEN 0022, version 1.1): one CPU, power calls end or restart the guest, never the machine.

use bulkhead_abi::Message;
use bulkhead_model::method::psci;
use bulkhead_model::object;

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

/// SMCCC's answer to what is unknown or refused.
pub const NOT_SUPPORTED: i64 = -1;
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
/// CPU_ON, 64-bit.
pub const CPU_ON: u32 = 0xc400_0003;
/// SMCCC_VERSION.
pub const SMCCC_VERSION: u32 = 0x8000_0000;

/// The policy's name of a function: method and arguments of `object::PSCI`.
#[must_use]
#[inline(always)]
pub const fn method(id: u32) -> u16 {
    match id {
        VERSION => psci::VERSION,
        FEATURES => psci::FEATURES,
        MIGRATE_INFO_TYPE => psci::MIGRATE_INFO_TYPE,
        SYSTEM_OFF => psci::OFF,
        SYSTEM_RESET => psci::RESET,
        CPU_ON => psci::CPU_ON,
        SMCCC_VERSION => psci::SMCCC_VERSION,
        _ => psci::OTHER,
    }
}

/// The call that the policy decides on: `id` with its arguments x1-x3.
#[must_use]
pub const fn message(id: u32, [first, second, third]: [u64; 3]) -> Message {
    let method = method(id);
    let (len, words) = match method {
        psci::FEATURES => (1, [first & 0xffff_ffff, 0, 0, 0, 0, 0]),
        psci::CPU_ON => (3, [first, second, third, 0, 0, 0]),
        psci::OTHER => (1, [id as u64, 0, 0, 0, 0, 0]),
        _ => (0, [0; 6]),
    };
    Message { object: object::PSCI, method, len, words }
}

/// The answer to a function that the policy allows. `is_open` tells which functions PSCI_FEATURES may name.
#[must_use]
#[inline(always)]
pub fn answer(id: u32, argument: u64, is_open: impl Fn(u16) -> bool) -> Answer {
    match id {
        VERSION | SMCCC_VERSION => Answer::Value(0x1_0001),
        // No trusted OS that would have to migrate (DEN 0022 §5.10).
        MIGRATE_INFO_TYPE => Answer::Value(2),
        SYSTEM_OFF => Answer::GuestOff,
        SYSTEM_RESET => Answer::GuestReset,
        FEATURES => {
            let method = u32::try_from(argument).map_or(psci::OTHER, method);
            let is_offered = !matches!(method, psci::OTHER | psci::CPU_ON) && is_open(method);
            Answer::Value(if is_offered { 0 } else { NOT_SUPPORTED })
        }
        // One CPU: there is none to start, whatever the policy says.
        _ => Answer::Value(NOT_SUPPORTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debian_asks_at_boot_is_answered() {
        assert_eq!(answer(VERSION, 0, |_| true), Answer::Value(0x1_0001));
        assert_eq!(answer(FEATURES, u64::from(SMCCC_VERSION), |_| true), Answer::Value(0));
        assert_eq!(answer(SYSTEM_OFF, 0, |_| true), Answer::GuestOff);
        assert_eq!(answer(SYSTEM_RESET, 0, |_| true), Answer::GuestReset);
    }

    #[test]
    fn features_name_only_what_the_policy_opens() {
        let only_off = |method| method == psci::OFF;
        assert_eq!(answer(FEATURES, u64::from(SYSTEM_OFF), only_off), Answer::Value(0));
        assert_eq!(answer(FEATURES, u64::from(SYSTEM_RESET), only_off), Answer::Value(-1));
    }

    #[test]
    fn starting_a_cpu_suspending_and_unknown_ids_are_not_supported() {
        for id in [CPU_ON, 0xc400_0001, 0xc400_000e, 0xc400_0012, 0x8400_0050, 0, u32::MAX] {
            assert_eq!(answer(id, 0, |_| true), Answer::Value(-1));
            assert_eq!(answer(FEATURES, u64::from(id), |_| true), Answer::Value(-1));
        }
        assert_eq!(answer(FEATURES, 1 << 32 | u64::from(VERSION), |_| true), Answer::Value(-1));
    }

    #[test]
    fn an_unknown_function_is_a_call_that_carries_its_id() {
        let call = message(0x8400_0050, [7, 8, 9]);
        assert_eq!((call.object, call.method, call.args()), (object::PSCI, psci::OTHER, [0x8400_0050].as_slice()));
        assert_eq!(message(CPU_ON, [1, 2, 3]).args(), [1, 2, 3]);
        assert_eq!(message(VERSION, [1, 2, 3]).args(), []);
    }
}
