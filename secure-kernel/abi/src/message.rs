//! The one message shape: a method and a bounded number of words, all of which fit in registers.

/// The most argument or reply words a message carries.
pub const MESSAGE_WORDS: usize = 6;

/// A typed, bounded message: whom it is for, which method, and its words.
///
/// Words are 64 bits each; signed values are sign-extended, enums and booleans are their number.
/// Words at and after `len` are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The object called (a service's number in the compiled policy).
    pub object: u16,
    /// The method's number within the object's interface.
    pub method: u16,
    /// How many of `words` are in use, at most [`MESSAGE_WORDS`].
    pub len: u8,
    /// The arguments, or the reply's values.
    pub words: [u64; MESSAGE_WORDS],
}

impl Message {
    /// Packs object, method and length into one register: bits 0-15, 16-31, 32-39.
    #[must_use]
    pub const fn header(&self) -> u64 {
        self.object as u64 | (self.method as u64) << 16 | (self.len as u64) << 32
    }

    /// Object, method and length of a header that the other side wrote. `None` if the length is too large or a reserved bit
    /// is set.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the fields are cut out by position")]
    pub const fn unpack(header: u64) -> Option<(u16, u16, u8)> {
        if header >> 40 != 0 || header >> 32 > MESSAGE_WORDS as u64 {
            return None;
        }
        Some((header as u16, (header >> 16) as u16, (header >> 32) as u8))
    }

    /// Reads a header and words that the other side wrote. `None` if the length is too large or
    /// a reserved bit of the header is set.
    #[must_use]
    #[inline(always)]
    pub const fn from_header(header: u64, words: [u64; MESSAGE_WORDS]) -> Option<Self> {
        match Self::unpack(header) {
            Some((object, method, len)) => Some(Self { object, method, len, words }),
            None => None,
        }
    }

    /// The words in use.
    #[must_use]
    pub fn args(&self) -> &[u64] {
        self.words.get(..usize::from(self.len)).unwrap_or(&self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_a_long_or_reserved_one_is_refused() {
        let message = Message { object: 9, method: 3, len: 6, words: [1, 2, 3, 4, 5, 6] };
        assert_eq!(Message::from_header(message.header(), message.words), Some(message));
        assert_eq!(Message::from_header(7 << 32, [0; 6]), None);
        assert_eq!(Message::from_header(1 << 40, [0; 6]), None);
    }
}
