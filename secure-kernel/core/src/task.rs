//! One task: its registers and what it waits for.

/// A task's registers while it does not run, in the order in which the trap entry stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Registers {
    /// x0-x30.
    pub x: [u64; 31],
    /// `SP_EL0`.
    pub sp: u64,
    /// Where it goes on.
    pub pc: u64,
    /// `SPSR_EL1`.
    pub pstate: u64,
}

impl Registers {
    pub(crate) const fn new() -> Self {
        Self { x: [0; 31], sp: 0, pc: 0, pstate: 0 }
    }

    /// x1-x6 (a call's or a reply's words).
    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; 6] {
        let x = &self.x;
        [x[1], x[2], x[3], x[4], x[5], x[6]]
    }

    /// As [`Registers::words`], with zeros after the first `len`.
    #[inline(always)]
    pub(crate) fn words_up_to(&self, len: u8) -> [u64; 6] {
        let kept = |at: u8, word| if at < len { word } else { 0 };
        let [w0, w1, w2, w3, w4, w5] = self.words();
        [kept(0, w0), kept(1, w1), kept(2, w2), kept(3, w3), kept(4, w4), kept(5, w5)]
    }

    pub(crate) fn set_words(&mut self, words: [u64; 6]) {
        self.x[1..7].copy_from_slice(&words);
    }
}

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
            registers: Registers::new(),
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
