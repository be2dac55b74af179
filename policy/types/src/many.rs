//! Values of several parts, with a most: lists, texts, bytes.

use core::fmt;
use core::ops::Deref;

use crate::{Malformed, Reader, Value, Writer};

/// The bytes of a word of text, the first of them in the word's highest bits.
const CHUNK: usize = 8;

/// More parts than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is too long")
    }
}

impl core::error::Error for TooLong {}

/// At most `N` values.
#[derive(Clone, Copy)]
pub struct List<T, const N: usize> {
    all: [T; N],
    length: usize,
}

impl<T: Value, const N: usize> List<T, N> {
    /// A list of these.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(values: &[T]) -> Result<Self, TooLong> {
        let mut list = Self::default();
        list.all.get_mut(..values.len()).ok_or(TooLong)?.copy_from_slice(values);
        list.length = values.len();
        Ok(list)
    }
}

impl<T: Value, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self { all: [T::default(); N], length: 0 }
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.all.get(..self.length).unwrap_or(&self.all)
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Its length, and its elements.
impl<T: Value, const N: usize> Value for List<T, N> {
    const WIDTH: usize = 1 + N * T::WIDTH;

    #[inline(always)]
    fn put(&self, words: &mut Writer) -> Result<(), Malformed> {
        words.put(self.length as u64);
        self.iter().try_for_each(|value| value.put(words))?;
        words.skip((N - self.length.min(N)) * T::WIDTH);
        Ok(())
    }

    #[inline(always)]
    fn take(words: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = usize::try_from(words.take()).ok().filter(|length| *length <= N).ok_or(Malformed)?;
        let mut list = Self { length, ..Self::default() };
        for slot in list.all.iter_mut().take(length) {
            *slot = T::take(words)?;
        }
        words.skip((N - length) * T::WIDTH)?;
        Ok(list)
    }
}

/// At most `N` bytes.
#[derive(Clone, Copy)]
pub struct Bytes<const N: usize> {
    all: [u8; N],
    length: usize,
}

impl<const N: usize> Bytes<N> {
    /// These bytes.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(bytes: &[u8]) -> Result<Self, TooLong> {
        let mut new = Self::default();
        new.all.get_mut(..bytes.len()).ok_or(TooLong)?.copy_from_slice(bytes);
        new.length = bytes.len();
        Ok(new)
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self { all: [0; N], length: 0 }
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.all.get(..self.length).unwrap_or(&self.all)
    }
}

impl<const N: usize> PartialEq for Bytes<N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for Bytes<N> {}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Its length, and eight bytes a word.
impl<const N: usize> Value for Bytes<N> {
    const WIDTH: usize = 1 + N.div_ceil(CHUNK);

    #[inline(always)]
    fn put(&self, words: &mut Writer) -> Result<(), Malformed> {
        words.put(self.length as u64);
        for chunk in self.all.chunks(CHUNK) {
            let bytes = chunk.iter().chain(&[0; CHUNK]).take(CHUNK);
            words.put(bytes.fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
        Ok(())
    }

    #[inline(always)]
    fn take(words: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = usize::try_from(words.take()).ok().filter(|length| *length <= N).ok_or(Malformed)?;
        let mut new = Self { length, ..Self::default() };
        let mut beyond = 0;
        for (chunk, slots) in new.all.chunks_mut(CHUNK).enumerate() {
            for (at, byte) in words.take().to_be_bytes().into_iter().enumerate() {
                match slots.get_mut(at) {
                    Some(slot) if chunk * CHUNK + at < length => *slot = byte,
                    _ => beyond |= byte,
                }
            }
        }
        Malformed::unless(beyond == 0)?;
        Ok(new)
    }
}

/// At most `N` bytes of UTF-8.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Text<const N: usize>(Bytes<N>);

impl<const N: usize> Text<N> {
    /// This text.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: &str) -> Result<Self, TooLong> {
        Bytes::new(text.as_bytes()).map(Self)
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // It was checked when it was made.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// As [`Bytes`]; what is no UTF-8 is no text.
impl<const N: usize> Value for Text<N> {
    const WIDTH: usize = Bytes::<N>::WIDTH;

    #[inline(always)]
    fn put(&self, words: &mut Writer) -> Result<(), Malformed> {
        self.0.put(words)
    }

    #[inline(always)]
    fn take(words: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = Bytes::take(words)?;
        Malformed::unless(core::str::from_utf8(&bytes).is_ok())?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_its_most_is_refused() {
        assert_eq!(List::<u8, 2>::new(&[1, 2]).map(|list| list.len()), Ok(2));
        assert_eq!(List::<u8, 2>::new(&[1, 2, 3]), Err(TooLong));
        assert_eq!(Text::<3>::new("abc").as_deref(), Ok("abc"));
        assert_eq!(Text::<3>::new("abcd"), Err(TooLong));
    }

    #[test]
    fn a_text_is_utf_8_and_bytes_are_anything() {
        let words = [1, 0xff << 56, 0, 0, 0, 0];
        assert_eq!(Bytes::<8>::decode(&words).as_deref(), Ok(&[0xff][..]));
        assert_eq!(Text::<8>::decode(&words), Err(Malformed));
    }

    #[test]
    fn bytes_that_share_a_word_with_none_must_leave_it_zero() {
        assert_eq!(Bytes::<3>::decode(&[3, 0x0102_0300_0000_0000, 0, 0, 0, 0]).as_deref(), Ok(&[1, 2, 3][..]));
        assert_eq!(Bytes::<3>::decode(&[3, 0x0102_0304_0000_0000, 0, 0, 0, 0]), Err(Malformed));
        assert_eq!(Bytes::<3>::decode(&[2, 0x0102_0300_0000_0000, 0, 0, 0, 0]), Err(Malformed));
        assert_eq!(Bytes::<3>::decode(&[4, 0x0102_0300_0000_0000, 0, 0, 0, 0]), Err(Malformed));
    }
}
