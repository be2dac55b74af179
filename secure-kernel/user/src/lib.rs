//! What every app of the secure side is built on: its entry, system calls as safe functions, a server's loop, text on the
//! console. The numbers are those of `bulkhead-abi`; this crate adds no meaning to them.
#![no_std]

mod arch;
mod syscall;
mod text;

pub use arch::{now, ticks_per_second};
#[cfg(target_arch = "x86_64")]
pub use arch::{read_port, write_port};
pub use bulkhead_abi::syscall::{NOTIFY_GUEST_RESET, NOTIFY_IRQ, NOTIFY_TIMER};
pub use bulkhead_abi::{Message, Status};
pub use syscall::{Call, Refusal, Service, exit, interrupt_done, raise_guest_interrupt, set_time, set_timer};
pub use text::print;

use bulkhead_types::Answer;

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request, which must be answered before the next one.
    Request(Request),
    /// Notification bits ([`NOTIFY_TIMER`], [`NOTIFY_GUEST_RESET`]).
    Notification(u64),
}

/// A request as the kernel vouches for it: judged by the monitor, from this subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub message: Message,
    /// Who asks.
    pub subject: u16,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it went.
    pub status: Status,
    /// How many words.
    pub len: u8,
    /// The values.
    pub words: [u64; 6],
}

impl Reply {
    /// Success with up to six values; more are dropped.
    #[must_use]
    pub fn ok(values: &[u64]) -> Self {
        let mut words = [0; 6];
        words.iter_mut().zip(values).for_each(|(slot, &value)| *slot = value);
        Self { status: Status::Ok, len: u8::try_from(values.len().min(6)).unwrap_or(6), words }
    }

    /// The service's own error, with its code.
    #[must_use]
    pub fn failed(code: u64) -> Self {
        Self { status: Status::Failed, ..Self::ok(&[code]) }
    }

    /// An error without a value.
    #[must_use]
    pub fn error(status: Status) -> Self {
        Self { status, ..Self::ok(&[]) }
    }
}

impl From<Answer> for Reply {
    #[inline(always)]
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Reply(len, words) => Self { status: Status::Ok, len, words },
            Answer::Failed(code) => Self::failed(code),
            Answer::Malformed => Self::error(Status::Malformed),
            Answer::Unknown => Self::error(Status::Unknown),
        }
    }
}

/// A server's loop: `handle` answers each request; for a notification its answer is not used.
pub fn serve(mut handle: impl FnMut(Event) -> Reply) -> ! {
    let mut event = syscall::receive();
    loop {
        let reply = handle(event);
        event = match event {
            Event::Request(_) => syscall::reply_receive(&reply),
            Event::Notification(_) => syscall::receive(),
        };
    }
}

/// Writes one line to the secure side's console, behind the app's name.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::print(format_args!($($argument)*)) };
}
