//! How a call ended, as the guest, the apps and the wall tell each other.

use bulkhead_model::Reason;

/// The outcome of a call. Its number travels in a register; negative values are errors.
///
/// -1 is SMCCC's `NOT_SUPPORTED` (SMCCC §7), so that a guest's generic code understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Status {
    /// Done; the reply's words hold the answer.
    Ok = 0,
    /// No such call id.
    NotSupported = -1,
    /// The policy refuses the call: no rule, or a rule that denies.
    Denied = -2,
    /// The call does not fit its interface (argument count, type or range).
    Malformed = -3,
    /// No such service or method.
    Unknown = -4,
    /// Not accepted now, nothing happened; try again later.
    Busy = -5,
    /// The service is dead.
    Gone = -6,
    /// Accepted, but not finished within the partition's limit; its outcome is unknown.
    TimedOut = -7,
    /// The service answered with an error of its own; word 0 of the reply is its code.
    Failed = -8,
}

impl Status {
    /// The number that travels in a register.
    #[must_use]
    pub const fn raw(self) -> i64 {
        self as i64
    }

    /// Reads a number the other side wrote; `None` for one that names no status.
    #[must_use]
    pub const fn from_raw(raw: i64) -> Option<Self> {
        Some(match raw {
            0 => Self::Ok,
            -1 => Self::NotSupported,
            -2 => Self::Denied,
            -3 => Self::Malformed,
            -4 => Self::Unknown,
            -5 => Self::Busy,
            -6 => Self::Gone,
            -7 => Self::TimedOut,
            -8 => Self::Failed,
            _ => return None,
        })
    }

    /// What a refusal by the monitor is to the caller.
    #[must_use]
    pub const fn refusal(reason: Reason) -> Self {
        match reason {
            Reason::Malformed => Self::Malformed,
            Reason::UnknownObject | Reason::UnknownMethod => Self::Unknown,
            Reason::Allowed | Reason::NoRule | Reason::DeniedByRule | Reason::Failed => Self::Denied,
            Reason::Rate => Self::Busy,
        }
    }

    /// The word that users see in logs and on ports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotSupported => "not-supported",
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::TimedOut => "timed-out",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn every_status_survives_the_register_and_nothing_else_does() {
        let known = (-8..=0).filter_map(Status::from_raw).count();
        assert_eq!(known, 9);
        for raw in -8..=0 {
            assert_eq!(Status::from_raw(raw).map(Status::raw), Some(raw));
        }
        assert_eq!(Status::from_raw(1), None);
        assert_eq!(Status::from_raw(-9), None);
        assert_eq!(Status::from_raw(i64::MIN), None);
    }
}
