//! Values and the words that they travel as.

use crate::WORDS;

/// A value that does not fit its interface: outside its range, or words that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Malformed {
    /// Well, if `fits`.
    ///
    /// # Errors
    /// [`Malformed`] if not.
    #[inline(always)]
    pub const fn unless(fits: bool) -> Result<(), Self> {
        if fits { Ok(()) } else { Err(Self) }
    }
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("it does not fit its interface")
    }
}

impl core::error::Error for Malformed {}

/// The words of a message, as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    words: [u64; WORDS],
    at: usize,
}

impl Writer {
    /// The next word. What is beyond the last one is dropped: the compiler of the policy lets no message be that long.
    #[inline(always)]
    pub fn put(&mut self, word: u64) {
        if let Some(slot) = self.words.get_mut(self.at) {
            *slot = word;
        }
        self.at += 1;
    }

    /// So many words that are not there.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }
}

/// The words of a message, as they are read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    words: &'a [u64; WORDS],
    at: usize,
}

impl Reader<'_> {
    /// The next word; zero beyond the last one.
    #[inline(always)]
    pub fn take(&mut self) -> u64 {
        let word = self.words.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        word
    }

    /// So many words that are not there.
    ///
    /// # Errors
    /// [`Malformed`] if one of them is not zero.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        let mut all = 0;
        for _ in 0..count {
            all |= self.take();
        }
        Malformed::unless(all == 0)
    }
}

/// A value of a type that an interface knows.
pub trait Value: Copy + Default {
    /// How many words it takes.
    const WIDTH: usize;

    /// Writes its words.
    ///
    /// # Errors
    /// [`Malformed`] if a part of it is outside its range.
    fn put(&self, words: &mut Writer) -> Result<(), Malformed>;

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] if its words are none of its values.
    fn take(words: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// A message of this value alone.
    ///
    /// # Errors
    /// As [`Value::put`].
    #[inline(always)]
    fn encode(&self) -> Result<[u64; WORDS], Malformed> {
        let mut words = Writer::default();
        self.put(&mut words)?;
        Ok(words.words)
    }

    /// The value that a message is. Words behind it are not looked at: who carries messages counts their words.
    ///
    /// # Errors
    /// As [`Value::take`].
    #[inline(always)]
    fn decode(words: &[u64; WORDS]) -> Result<Self, Malformed> {
        Self::take(&mut Reader { words, at: 0 })
    }
}

/// Nothing: an empty message.
impl Value for () {
    const WIDTH: usize = 0;

    #[inline(always)]
    fn put(&self, _: &mut Writer) -> Result<(), Malformed> {
        Ok(())
    }

    #[inline(always)]
    fn take(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

impl Value for bool {
    const WIDTH: usize = 1;

    #[inline(always)]
    fn put(&self, words: &mut Writer) -> Result<(), Malformed> {
        words.put((*self).into());
        Ok(())
    }

    #[inline(always)]
    fn take(words: &mut Reader<'_>) -> Result<Self, Malformed> {
        match words.take() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

/// Numbers; signed ones are extended to the whole word.
macro_rules! numbers {
    ($($number:ty: $to_word:expr, $from_word:expr;)*) => { $(
        impl Value for $number {
            const WIDTH: usize = 1;

            #[inline(always)]
            fn put(&self, words: &mut Writer) -> Result<(), Malformed> {
                words.put($to_word(*self));
                Ok(())
            }

            #[inline(always)]
            fn take(words: &mut Reader<'_>) -> Result<Self, Malformed> {
                Self::try_from($from_word(words.take())).map_err(|_| Malformed)
            }
        }
    )* };
}

numbers! {
    u8: u64::from, core::convert::identity;
    u16: u64::from, core::convert::identity;
    u32: u64::from, core::convert::identity;
    u64: u64::from, core::convert::identity;
    i8: |value| i64::from(value).cast_unsigned(), u64::cast_signed;
    i16: |value| i64::from(value).cast_unsigned(), u64::cast_signed;
    i32: |value| i64::from(value).cast_unsigned(), u64::cast_signed;
    i64: i64::cast_unsigned, u64::cast_signed;
}

/// One or none: a word that says which, and the value.
impl<T: Value> Value for Option<T> {
    const WIDTH: usize = 1 + T::WIDTH;

    #[inline(always)]
    fn put(&self, words: &mut Writer) -> Result<(), Malformed> {
        words.put(self.is_some().into());
        match self {
            Some(value) => value.put(words)?,
            None => words.skip(T::WIDTH),
        }
        Ok(())
    }

    #[inline(always)]
    fn take(words: &mut Reader<'_>) -> Result<Self, Malformed> {
        if bool::take(words)? {
            return T::take(words).map(Some);
        }
        words.skip(T::WIDTH)?;
        Ok(None)
    }
}
