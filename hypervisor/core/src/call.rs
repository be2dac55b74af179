//! The guest's calls by `hvc` and `smc` (SMCCC, Arm DEN 0028), told apart by their id. What is unknown costs the same as
//! what is refused, and has no effect.

use bulkhead_wire::call::{
    CALL_UID, FEATURES, FEATURES_BITS, REVISION, REVISION_MAJOR, REVISION_MINOR, SERVICE_CALL, SERVICE_INFO, UID,
};

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Discovery: the feature bits, for x0.
    Features(u64),
    /// Discovery: the UID, for x0-x3.
    Identity([u64; 4]),
    /// Discovery: major and minor revision, for x0 and x1.
    Revision(u64, u64),
    /// A call of a service.
    Service,
    /// The n-th service's description.
    ServiceInfo,
    /// PSCI, or something that the policy calls `psci.other`.
    Psci(u32),
}

/// The calls that are told apart first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hot {
    /// [`FEATURES`], with its answer: the null call.
    Null(u64),
    /// [`SERVICE_CALL`].
    Service,
    /// Anything else: [`decode`] it.
    Other,
}

/// Looks at the value of x0 as the guest wrote it; its upper half means nothing.
#[must_use]
#[inline(always)]
pub const fn hot(id: u64) -> Hot {
    const NULL: u64 = FEATURES as u64;
    const SERVICE: u64 = SERVICE_CALL as u64;
    match id & 0xffff_ffff {
        NULL => Hot::Null(FEATURES_BITS),
        SERVICE => Hot::Service,
        _ => Hot::Other,
    }
}

/// Decodes an id.
#[must_use]
#[inline(always)]
pub const fn decode(id: u32) -> Function {
    match id {
        SERVICE_CALL => Function::Service,
        SERVICE_INFO => Function::ServiceInfo,
        FEATURES => Function::Features(FEATURES_BITS),
        CALL_UID => Function::Identity([UID[0] as u64, UID[1] as u64, UID[2] as u64, UID[3] as u64]),
        REVISION => Function::Revision(REVISION_MAJOR, REVISION_MINOR),
        _ => Function::Psci(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_is_discovered_by_its_uid_and_offers_what_it_serves() {
        let Function::Identity(uid) = decode(CALL_UID) else { panic!("no UID") };
        assert_eq!(uid[0], 0x6b6c_7562);
        assert_eq!(decode(REVISION), Function::Revision(1, 0));
        assert_eq!(decode(FEATURES), Function::Features(FEATURES_BITS));
    }

    #[test]
    fn neighbours_of_known_ids_are_left_to_the_policy() {
        for id in [CALL_UID - 1, CALL_UID + 1, REVISION + 1, SERVICE_INFO + 1, SERVICE_CALL & !(1 << 31)] {
            assert_eq!(decode(id), Function::Psci(id));
        }
    }
}
