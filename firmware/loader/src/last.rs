//! The policy that this machine ran last, where it can remember one: an older one is refused, and a policy hears whether it is
//! another (`on policy swap`).

use core::fmt;

/// A policy, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its revision.
    pub revision: u64,
    /// The SHA-256 of its table.
    pub digest: [u8; 32],
}

/// How many bytes it is remembered by: the revision, little-endian, and the digest.
pub const RAN_BYTES: usize = 40;

impl Ran {
    /// What is remembered.
    #[must_use]
    pub fn bytes(&self) -> [u8; RAN_BYTES] {
        let mut bytes = [0; RAN_BYTES];
        let (revision, digest) = bytes.split_at_mut(8);
        revision.copy_from_slice(&self.revision.to_le_bytes());
        digest.copy_from_slice(&self.digest);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (revision, digest) = bytes.split_first_chunk()?;
        Some(Self { revision: u64::from_le_bytes(*revision), digest: digest.try_into().ok()? })
    }
}

/// What the machine remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It has no memory that is out of the guest's reach.
    NoMemory,
    /// Nothing yet.
    Nothing,
    /// Something that no loader wrote.
    Damaged,
    /// The policy of the last start.
    Policy(Ran),
}

/// The policy is older than the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    last: u64,
    now: u64,
}

impl fmt::Display for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, now } = self;
        write!(
            f,
            "the policy is older than the last one here: revision {now} after {last}; write a later `revision` into it"
        )
    }
}

impl Last {
    /// Of the bytes that were remembered. `is_own`: only a loader can have written them.
    #[must_use]
    pub fn read(bytes: &[u8], is_own: bool) -> Self {
        Ran::read(bytes).filter(|_| is_own).map_or(Self::Damaged, Self::Policy)
    }

    /// Whether the policy that starts now is known to be the last one.
    ///
    /// # Errors
    /// [`Older`]: it has an earlier revision.
    pub fn is(&self, now: &Ran) -> Result<bool, Older> {
        match self {
            Self::Policy(last) if now.revision < last.revision => Err(Older { last: last.revision, now: now.revision }),
            Self::Policy(last) => Ok(last == now),
            Self::NoMemory | Self::Nothing | Self::Damaged => Ok(false),
        }
    }
}

/// As it is told beside the policy that starts now.
impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("nothing here remembers the last one"),
            Self::Nothing => f.write_str("the first that the firmware remembers"),
            Self::Damaged => f.write_str("what the firmware remembered is damaged"),
            Self::Policy(last) => write!(f, "revision {} ran last", last.revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAN: Ran = Ran { revision: 0x0102_0304_0506_0708, digest: [7; 32] };

    #[test]
    fn what_was_written_is_read_again_and_everything_else_is_damaged() {
        let bytes = RAN.bytes();
        assert_eq!((bytes[0], bytes[7], bytes[8], bytes[39]), (8, 1, 7, 7));
        assert_eq!(Last::read(&bytes, true), Last::Policy(RAN));
        assert_eq!(Last::read(&bytes, false), Last::Damaged, "the guest could have written it");
        for length in (0..RAN_BYTES).chain([RAN_BYTES + 1, 4096]) {
            assert_eq!(Last::read(&vec![0; length], true), Last::Damaged, "{length}");
        }
    }

    /// C09.
    #[test]
    fn an_older_revision_is_refused_and_a_later_or_equal_one_is_not() {
        let last = Last::Policy(RAN);
        assert_eq!(last.is(&RAN), Ok(true));
        assert_eq!(last.is(&Ran { digest: [8; 32], ..RAN }), Ok(false), "the same revision, and not the same policy");
        assert_eq!(last.is(&Ran { revision: RAN.revision + 1, ..RAN }), Ok(false));
        assert_eq!(last.is(&Ran { revision: u64::MAX, ..RAN }), Ok(false));
        let older = last.is(&Ran { revision: RAN.revision - 1, ..RAN }).unwrap_err();
        assert!(older.to_string().contains("revision 72623859790382855 after 72623859790382856"), "{older}");
        assert!(last.is(&Ran { revision: 0, ..RAN }).is_err());
        for last in [Last::NoMemory, Last::Nothing, Last::Damaged] {
            assert_eq!(last.is(&Ran { revision: 0, ..RAN }), Ok(false), "{last}");
        }
    }
}
