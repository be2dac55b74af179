//! Starts, faults, restarts, and giving up.

use bulkhead_abi::audit::Kind;
use bulkhead_abi::boot::flags;
use bulkhead_abi::syscall::NOTIFY_GUEST_RESET;
use bulkhead_abi::wall::APP_STACK_TOP;
use bulkhead_abi::{Message, Status};
use bulkhead_model::{Phase, Reason, object, subject};

use crate::calls::number;
use crate::log::Line;
use crate::task::{Client, State, Task};
use crate::{Kernel, MAX_APPS, Platform, Registers, Reply};

impl Kernel {
    /// Starts every app that the monitor lets start.
    pub fn start(&mut self, platform: &mut impl Platform) {
        (0..self.info.app_count as usize).for_each(|index| self.start_task(platform, index, 0));
    }

    fn start_task(&mut self, platform: &mut impl Platform, index: usize, restarts: u32) {
        let Some(app) = self.app(index) else { return };
        let start = Message { object: object::TASK, method: 0, len: 1, words: [app.subject.into(), 0, 0, 0, 0, 0] };
        if platform.judge(subject::KERNEL, Phase::Request, &start).reason != Reason::Allowed {
            return self.give_up(platform, index, restarts);
        }
        let kept = self.task(index).notifications & NOTIFY_GUEST_RESET;
        *self.task(index) = Task::new();
        if let Some(line) = self.lines.get_mut(index) {
            *line = Line::new();
        }
        self.set_state(index, State::Ready);
        let task = self.task(index);
        task.restarts = restarts;
        task.notifications = kept;
        task.registers = Registers::start(app.entry, APP_STACK_TOP, index as u64);
        task.root = app.root;
        // The bundle brings every app's memory ready for its first start.
        if restarts > 0 {
            self.loads |= 1 << index;
        }
        platform.record(Kind::TaskStart, app.subject, [restarts.into(), 0]);
    }

    /// The running task faulted: whoever waits for its answer gets `Gone`; it is started again, or given up.
    #[cold]
    #[inline(never)]
    pub fn fault(&mut self, platform: &mut impl Platform, details: [u64; 2]) {
        let index = self.current;
        let Some(app) = self.app(index) else { return };
        platform.record(Kind::TaskFault, app.subject, details);
        match self.task(index).open.client {
            Client::None => {}
            Client::Guest(token) => self.answer_guest(gone(token)),
            Client::Task(caller) => self.finish(caller.into(), Status::Gone, 0xffff),
        }
        let restarts = self.task(index).restarts + 1;
        if restarts > app.restart_limit {
            self.give_up(platform, index, restarts - 1);
        } else {
            self.start_task(platform, index, restarts);
        }
    }

    fn give_up(&mut self, platform: &mut impl Platform, index: usize, restarts: u32) {
        *self.task(index) = Task::new();
        self.set_state(index, State::Down);
        let server = number(index);
        for caller in 0..MAX_APPS {
            if self.task(caller).state == State::Sending(server) {
                self.finish(caller, Status::Gone, 0xffff);
            }
        }
        if let Some(call) = self.guest.take_if(|call| call.server == server) {
            self.answer_guest(gone(call.token));
        }
        platform.record(Kind::TaskGivenUp, self.app(index).map_or(0, |app| app.subject), [restarts.into(), 0]);
    }

    /// The guest was started anew: what it had open is void, and who speaks for it is told.
    #[cold]
    #[inline(never)]
    pub fn guest_reset(&mut self) {
        self.guest = None;
        for index in 0..self.info.app_count as usize {
            let speaks = self.app(index).is_some_and(|app| app.flags & flags::SPEAKS_FOR_GUEST != 0);
            if speaks && self.task(index).state != State::Down {
                self.notify(index, NOTIFY_GUEST_RESET);
            }
        }
    }
}

fn gone(token: u64) -> Reply {
    Reply { status: Status::Gone, len: 0, words: [0; 6], token }
}
