//! Both ends of a call: what a server answers, and a client's way to a service.

use core::fmt;

use crate::{Malformed, Value, WORDS};

/// What a server answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply: how many words, and these.
    Reply(u8, [u64; WORDS]),
    /// An error that the interface declares, by its number; 0 for a reply that does not fit the interface, which is none.
    Failed(u64),
    /// The request does not fit the interface.
    Malformed,
    /// There is no such method.
    Unknown,
}

impl Answer {
    /// The answer with this reply.
    #[must_use]
    #[inline(always)]
    pub fn reply<T: Value>(value: &T) -> Self {
        const { assert!(T::WIDTH <= WORDS) };
        #[expect(clippy::cast_possible_truncation, reason = "at most six")]
        let count = T::WIDTH as u8;
        value.encode().map_or(Self::Failed(0), |words| Self::Reply(count, words))
    }
}

/// A client's way to one service.
pub trait Transport {
    /// How a call is refused, or lost.
    type Refusal;

    /// Calls a method.
    ///
    /// # Errors
    /// The number of the service's own error, or that the call did not get there.
    fn call(
        &mut self,
        method: u16,
        count: u8,
        words: &[u64; WORDS],
    ) -> Result<[u64; WORDS], Result<u64, Self::Refusal>>;
}

/// Why a call gave no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError<E, R> {
    /// An argument is outside its range: nothing was sent.
    Argument,
    /// The service's own error.
    Failed(E),
    /// An error or a reply that the interface does not know.
    Reply,
    /// The call was refused, or lost.
    Refused(R),
}

impl<E, R> From<Malformed> for ClientError<E, R> {
    fn from(_: Malformed) -> Self {
        Self::Argument
    }
}

impl<E, R> ClientError<E, R> {
    /// Calls a method with a request, for a reply. `error` knows the interface's errors by their numbers.
    ///
    /// # Errors
    /// [`ClientError`].
    #[inline]
    pub fn call<Q: Value, A: Value>(
        transport: &mut impl Transport<Refusal = R>,
        method: u16,
        request: &Q,
        error: impl FnOnce(u64) -> Option<E>,
    ) -> Result<A, Self> {
        const { assert!(Q::WIDTH <= WORDS && A::WIDTH <= WORDS) };
        #[expect(clippy::cast_possible_truncation, reason = "at most six")]
        let count = Q::WIDTH as u8;
        match transport.call(method, count, &request.encode()?) {
            Ok(words) => A::decode(&words).map_err(|_| Self::Reply),
            Err(Ok(code)) => Err(error(code).map_or(Self::Reply, Self::Failed)),
            Err(Err(refusal)) => Err(Self::Refused(refusal)),
        }
    }
}

impl<E: fmt::Display, R: fmt::Display> fmt::Display for ClientError<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument => f.write_str("an argument is outside its range"),
            Self::Failed(error) => write!(f, "the service failed: {error}"),
            Self::Reply => f.write_str("an answer that the interface does not know"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
        }
    }
}
