//! The secure kernel's logic: tasks, calls between them, capabilities, scheduling, faults. It takes `&mut` state and a
//! [`Platform`] (the monitor and the console beneath it), touches no hardware and runs on the host. Its neighbours are
//! `secure-kernel/kernel` (the image: traps, address spaces) and `secure-kernel/abi` (the numbers).
//!
//! Principles: everything is fixed when the bundle is built; every loop is bounded by [`MAX_APPS`]; no call is delivered
//! and no task started without the monitor's verdict; a caller never waits for a task that cannot answer.
#![no_std]
#![forbid(unsafe_code)]

mod calls;
mod faults;
mod log;
mod registers;
mod schedule;
mod syscalls;
mod task;
#[cfg(test)]
mod tests;

pub use registers::Registers;
pub use schedule::Next;

use bulkhead_abi::Message;
use bulkhead_abi::audit;
use bulkhead_abi::boot::{AppInfo, BootInfo, MAX_APPS, NO_OBJECT};
use bulkhead_abi::status::Status;
use bulkhead_model::{Phase, Reason};
use log::Line;
use task::{State, Task};

/// The monitor's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why allowed or refused.
    pub reason: Reason,
    /// The rule that decided; 0xffff for none.
    pub rule: u16,
}

/// What the kernel stands on.
pub trait Platform {
    /// The monitor's verdict on a message of a subject. Refusals are recorded beneath.
    fn judge(&mut self, subject: u16, phase: Phase, message: &Message) -> Verdict;
    /// A record in the audit trail.
    fn record(&mut self, kind: audit::Kind, subject: u16, details: [u64; 2]);
    /// Raises an interrupt of a device that the guest sees.
    fn raise(&mut self, intid: u32) -> Status;
    /// The device behind an interrupt was served.
    fn irq_done(&mut self, intid: u32) -> Status;
    /// Console output of a task: `len` bytes, little-endian in the words.
    fn print(&mut self, subject: u16, len: u64, words: [u64; 6]);
}

/// Objects have numbers below this.
const MAX_OBJECTS: usize = 64;

/// All the kernel's state.
pub struct Kernel {
    info: &'static BootInfo,
    tasks: [Task; MAX_APPS],
    /// What each task has written of a line.
    lines: [Line; MAX_APPS],
    /// The task whose registers were loaded last.
    current: usize,
    /// When the current task was entered, in ticks.
    entered: u64,
    /// Which task serves an object; `NOBODY` for none.
    servers: [u8; MAX_OBJECTS],
    /// A call of the guest that no server took yet.
    guest: Option<GuestCall>,
    /// The answer to the guest's call, if `has_reply`.
    reply: Reply,
    has_reply: bool,
    /// Bit i: task i is ready. Lower bits have higher priority: the bundle lists the apps in that order.
    ready: u16,
    /// Bit i: task i has a budget of its own.
    limited: u16,
    /// Bit i: task i waits for a server that is busy.
    senders: u16,
    /// Bit i: task i's memory must be loaded before it runs.
    loads: u16,
    ticks_per_us: u64,
    /// No task's timer is due before.
    earliest: u64,
}

const NOBODY: u8 = 0xff;

/// A call of the guest on its way.
#[derive(Clone, Copy, Debug)]
struct GuestCall {
    message: Message,
    server: u8,
    token: u64,
}

/// An answer to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub status: Status,
    /// How many words.
    pub len: u8,
    /// The words.
    pub words: [u64; 6],
    /// The token of the call.
    pub token: u64,
}

impl Kernel {
    /// A kernel in which nothing runs yet; [`Kernel::start`] starts the tasks.
    #[must_use]
    pub fn new(info: &'static BootInfo, ticks_per_us: u64) -> Self {
        let mut servers = [NOBODY; MAX_OBJECTS];
        let mut limited = 0;
        for (app, index) in info.apps.iter().take(info.app_count as usize).zip(0..) {
            if let Some(slot) = servers.get_mut(usize::from(app.serves)).filter(|_| app.serves != NO_OBJECT) {
                *slot = index;
            }
            limited |= u16::from(app.budget_us != 0) << index;
        }
        Self {
            info,
            tasks: [const { Task::new() }; MAX_APPS],
            lines: [const { Line::new() }; MAX_APPS],
            current: 0,
            entered: u64::MAX,
            servers,
            guest: None,
            reply: Reply { status: Status::Ok, len: 0, words: [0; 6], token: 0 },
            has_reply: false,
            ready: 0,
            limited,
            senders: 0,
            loads: 0,
            ticks_per_us,
            earliest: u64::MAX,
        }
    }

    /// The app in slot `index`.
    #[must_use]
    pub fn app(&self, index: usize) -> Option<&'static AppInfo> {
        self.info.apps.get(index).filter(|_| index < self.info.app_count as usize)
    }

    /// The app of the task that runs.
    #[must_use]
    pub fn running(&self) -> Option<&'static AppInfo> {
        self.app(self.current)
    }

    /// The registers of the task that runs.
    pub fn registers(&mut self) -> &mut Registers {
        let current = self.current;
        &mut self.task(current).registers
    }

    /// The answer to the guest that [`Kernel::answered`] or [`Next::Leave`] announces.
    #[must_use]
    pub const fn reply_to_guest(&self) -> &Reply {
        &self.reply
    }

    /// The translation table of the task that runs.
    #[must_use]
    pub fn root(&mut self) -> u64 {
        self.task(self.current).root
    }

    /// Whether [`Kernel::take_load`] has any.
    #[must_use]
    #[inline(always)]
    pub const fn has_loads(&self) -> bool {
        self.loads != 0
    }

    /// A task whose memory must be put back to its start before it runs.
    pub fn take_load(&mut self) -> Option<usize> {
        let index = self.loads.trailing_zeros();
        self.loads &= self.loads.wrapping_sub(1);
        (index < 16).then_some(index as usize)
    }

    /// Indices are below [`MAX_APPS`] by construction; one that is not reaches the last slot, which harms nobody else.
    #[inline(always)]
    fn task(&mut self, index: usize) -> &mut Task {
        &mut self.tasks[index & (MAX_APPS - 1)]
    }

    /// Changes what a task waits for.
    #[inline(always)]
    fn set_state(&mut self, index: usize, state: State) {
        let bit = 1 << (index & (MAX_APPS - 1));
        self.ready = if state == State::Ready { self.ready | bit } else { self.ready & !bit };
        // A task that sends, or did so until now, is a rare sight.
        if matches!(state, State::Sending(_)) {
            self.senders |= bit;
        } else if self.senders != 0 {
            self.senders &= !bit;
        }
        self.task(index).state = state;
    }

    #[inline(always)]
    fn answer_guest(&mut self, reply: Reply) {
        self.reply = reply;
        self.has_reply = true;
    }

    fn server(&self, object: u16) -> Option<u8> {
        self.servers.get(usize::from(object)).copied().filter(|&server| server != NOBODY)
    }
}

const _: () = assert!(MAX_APPS.is_power_of_two());
