//! One task: its registers and what it waits for.

use crate::Registers;

/// Why a task does not run, or that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never started, or given up.
    Down,
    /// Runs when its turn comes.
    Ready,
    /// Waits for a request or a notification.
    Receiving,
    /// Its request, still in its registers, waits for a server that is busy.
    Sending(u8),
    /// Its request is with a server.
    Waiting(u8),
}

/// Who waits for a server's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    None,
    Task(u8),
    /// The guest, with the token of its call.
    Guest(u64),
}

/// What a client asked for: the reply is judged as one to this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) client: Client,
    pub(crate) object: u16,
    pub(crate) method: u16,
    pub(crate) subject: u16,
}

/// Pieces of text that a task may write in a log period.
pub(crate) const LOG_CREDIT: u32 = 64;

/// Its size is a power of two: the way from its number to its place is a shift.
#[repr(align(512))]
pub(crate) struct Task {
    pub(crate) registers: Registers,
    /// The translation table of its address space.
    pub(crate) root: u64,
    pub(crate) state: State,
    pub(crate) open: Open,
    /// Its request in flight is the guest's.
    pub(crate) speaks_for_guest: bool,
    pub(crate) notifications: u64,
    /// When its timer is due, in ticks; `u64::MAX`: never.
    pub(crate) deadline: u64,
    pub(crate) restarts: u32,
    /// Ticks it ran since `period_start`.
    pub(crate) used: u64,
    pub(crate) period_start: u64,
    /// Pieces of text it may still write in this log period.
    pub(crate) log_credit: u32,
    pub(crate) log_period_start: u64,
}

impl Task {
    pub(crate) const fn new() -> Self {
        Self {
            registers: Registers::start(0, 0, 0),
            root: 0,
            state: State::Down,
            open: Open { client: Client::None, object: 0, method: 0, subject: 0 },
            speaks_for_guest: false,
            notifications: 0,
            deadline: u64::MAX,
            restarts: 0,
            used: 0,
            period_start: 0,
            log_credit: LOG_CREDIT,
            log_period_start: 0,
        }
    }
}
