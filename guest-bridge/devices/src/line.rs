//! A request line as it comes in, byte by byte.

/// The longest line, with its newline.
pub const LINE_MAX: usize = 256;

/// A request line, without its newline.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    bytes: [u8; LINE_MAX],
    length: usize,
    /// It was longer than [`LINE_MAX`]; the rest was dropped.
    pub is_too_long: bool,
}

impl Line {
    pub(crate) const EMPTY: Self = Self { bytes: [0; LINE_MAX], length: 0, is_too_long: false };

    /// The line's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn put(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(slot) => {
                *slot = byte;
                self.length += 1;
            }
            None => self.is_too_long = true,
        }
    }

    /// Without a carriage return at its end.
    pub(crate) fn drop_return(&mut self) {
        if self.bytes().last() == Some(&b'\r') {
            self.length -= 1;
        }
    }

    /// Whether nothing has come yet.
    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }
}
