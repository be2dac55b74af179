//! The guest's calls by `hvc` and `smc` (SMCCC, Arm DEN 0028): discovery of the wall, and PSCI. What is unknown costs the
//! same as what is known and has no effect.

use bulkhead_wire::call::{CALL_UID, FEATURES, REVISION, REVISION_MAJOR, REVISION_MINOR, UID};

use crate::psci;

/// What a call leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Values for x0 and on; registers after the last keep theirs.
    Values([u64; 4], usize),
    /// The guest is off.
    GuestOff,
    /// The guest is to be restarted.
    GuestReset,
}

/// Feature bits of what this hypervisor serves: no service calls and no ports yet.
const OFFERED: u64 = 0;

/// Answers function `id` with first argument `argument`.
#[must_use]
pub const fn answer(id: u32, argument: u64) -> Answer {
    match id {
        FEATURES => Answer::Values([OFFERED, 0, 0, 0], 1),
        CALL_UID => Answer::Values([UID[0] as u64, UID[1] as u64, UID[2] as u64, UID[3] as u64], 4),
        REVISION => Answer::Values([REVISION_MAJOR, REVISION_MINOR, 0, 0], 2),
        _ => match psci::answer(id, argument) {
            psci::Answer::Value(value) => Answer::Values([value.cast_unsigned(), 0, 0, 0], 1),
            psci::Answer::GuestOff => Answer::GuestOff,
            psci::Answer::GuestReset => Answer::GuestReset,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_is_discovered_by_its_uid_and_offers_nothing_that_it_does_not_serve() {
        let Answer::Values(uid, 4) = answer(CALL_UID, 0) else { panic!("no UID") };
        assert_eq!(uid[0], 0x6b6c_7562);
        assert_eq!(answer(REVISION, 0), Answer::Values([1, 0, 0, 0], 2));
        assert_eq!(answer(FEATURES, 0), Answer::Values([0; 4], 1));
    }

    #[test]
    fn neighbours_of_known_ids_and_service_calls_are_not_supported() {
        for id in [CALL_UID - 1, CALL_UID + 1, REVISION + 1, FEATURES + 1, FEATURES + 2, FEATURES & !(1 << 31)] {
            assert_eq!(answer(id, 0), Answer::Values([u64::MAX, 0, 0, 0], 1));
        }
    }

    #[test]
    fn power_calls_end_or_restart_the_guest() {
        assert_eq!(answer(psci::SYSTEM_OFF, 0), Answer::GuestOff);
        assert_eq!(answer(psci::SYSTEM_RESET, 0), Answer::GuestReset);
    }
}
