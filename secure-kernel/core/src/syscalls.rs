//! System calls: decoded from the running task's registers, each ends with a status.

use bulkhead_abi::syscall as number;
use bulkhead_abi::syscall::{LOG_MAX, NOTIFY_IRQ, NOTIFY_TIMER};
use bulkhead_abi::{Message, Status};

use bulkhead_model::{Phase, Reason, method, object, subject};

use crate::calls::Answered;
use crate::task::{LOG_CREDIT, State};
use crate::{Kernel, Platform};

/// The period of [`LOG_CREDIT`].
const LOG_PERIOD_US: u64 = 100_000;

impl Kernel {
    /// The running task made a system call; `clock` tells the time. Call [`Kernel::next`] afterwards.
    #[inline(always)]
    pub fn syscall(&mut self, platform: &mut impl Platform, clock: impl FnOnce() -> u64) {
        match self.registers().x[8] {
            // A reply that the server got wrong is its own affair; the next request is delivered all the same.
            number::REPLY_RECEIVE => match self.reply(platform) {
                Answered::Open => self.receive(),
                Answered::Done(_) => self.listen(),
            },
            number => self.other_syscall(platform, clock(), number),
        }
    }

    /// All but the one that a server's loop makes.
    #[inline(never)]
    fn other_syscall(&mut self, platform: &mut impl Platform, now: u64, number: u64) {
        match number {
            number::CALL => self.call(platform),
            number::RECEIVE => self.receive(),
            number::REPLY => {
                let status = match self.reply(platform) {
                    Answered::Open => Status::Malformed,
                    Answered::Done(status) => status,
                };
                self.done(status);
            }
            number::SET_TIMER => self.set_timer(),
            number::LOG => self.log(platform, now),
            number::GUEST_IRQ => self.guest_irq(platform),
            number::IRQ_DONE => self.irq_done(platform),
            number::NOTIFY => self.notify_object(),
            number::ASK => self.ask(platform),
            number::SET_TIME => self.set_time(platform),
            number::YIELD => self.give_budget_away(),
            number::EXIT => {
                let code = self.registers().x[0];
                self.fault(platform, [code, 0]);
            }
            _ => self.done(Status::NotSupported),
        }
    }

    fn done(&mut self, status: Status) {
        self.registers().x[0] = status.raw().cast_unsigned();
    }

    fn set_timer(&mut self) {
        let current = self.current;
        let deadline = self.registers().x[0];
        self.task(current).deadline = deadline;
        self.earliest = self.earliest.min(deadline);
        self.done(Status::Ok);
    }

    /// The wall takes the time from the call when the monitor allows it.
    fn set_time(&mut self, platform: &mut impl Platform) {
        let words = [self.registers().x[0], 0, 0, 0, 0, 0];
        let message = Message { object: object::TIME, method: method::SET_TIME, len: 1, words };
        let subject = self.app(self.current).map_or(subject::KERNEL, |app| app.subject);
        let verdict = platform.judge(subject, Phase::Request, &message);
        self.done(if verdict.reason == Reason::Allowed { Status::Ok } else { Status::refusal(verdict.reason) });
    }

    fn log(&mut self, platform: &mut impl Platform, now: u64) {
        let period = LOG_PERIOD_US * self.ticks_per_us;
        let current = self.current;
        let task = self.task(current);
        if now.wrapping_sub(task.log_period_start) >= period {
            task.log_period_start = now;
            task.log_credit = LOG_CREDIT;
        }
        let (len, words) = (task.registers.x[0], task.registers.words());
        let status = match task.log_credit.checked_sub(1) {
            _ if len > LOG_MAX => Status::Malformed,
            None => Status::Busy,
            Some(rest) => {
                task.log_credit = rest;
                let subject = self.app(current).map_or(0, |app| app.subject);
                if let Some(line) = self.lines.get_mut(current) {
                    line.add(len, words, |len, words| platform.print(subject, len, words));
                }
                Status::Ok
            }
        };
        self.done(status);
    }

    fn guest_irq(&mut self, platform: &mut impl Platform) {
        let intid = self.registers().x[0];
        let app = self.app(self.current);
        let is_given =
            app.is_some_and(|app| app.irqs.iter().take(app.irq_count.into()).any(|&irq| u64::from(irq) == intid));
        let status = match u32::try_from(intid) {
            Ok(intid) if is_given => platform.raise(intid),
            _ => Status::Denied,
        };
        self.done(status);
    }

    fn irq_done(&mut self, platform: &mut impl Platform) {
        let intid = self.registers().x[0];
        let app = self.app(self.current);
        let is_own = app.is_some_and(|app| app.device_irqs.iter().any(|irq| *irq != 0 && u64::from(*irq) == intid));
        let status = match u32::try_from(intid) {
            Ok(intid) if is_own => platform.irq_done(intid),
            _ => Status::Denied,
        };
        self.done(status);
    }

    /// A device raised its interrupt: who drives it is notified.
    #[cold]
    pub fn interrupt(&mut self, intid: u32) {
        let owner =
            self.info.apps.iter().take(self.info.app_count as usize).position(|app| app.device_irqs.contains(&intid));
        if let Some(owner) = owner.filter(|_| intid != 0) {
            self.notify(owner, NOTIFY_IRQ);
        }
    }

    /// Whoever may call an object may also notify its server.
    fn notify_object(&mut self) {
        let (object, bits) = (self.registers().x[0], self.registers().x[1]);
        let app = self.app(self.current);
        let may = app
            .is_some_and(|app| app.caps.iter().take(app.cap_count.into()).any(|cap| u64::from(cap.object) == object));
        let server = u16::try_from(object).ok().and_then(|object| self.server(object));
        let status = match server {
            Some(server) if may && bits & 0xff == 0 => {
                if self.task(server.into()).state == State::Down {
                    Status::Gone
                } else {
                    self.notify(server.into(), bits);
                    Status::Ok
                }
            }
            _ => Status::Denied,
        };
        self.done(status);
    }

    /// Sets bits; a receiving task gets them at once.
    pub(crate) fn notify(&mut self, index: usize, bits: u64) {
        let task = self.task(index);
        task.notifications |= bits;
        if task.state == State::Receiving && task.notifications != 0 {
            self.deliver_next(index);
        }
    }

    /// Timers that are due become notifications.
    #[cold]
    #[inline(never)]
    pub(crate) fn fire_timers(&mut self, now: u64) {
        let mut earliest = u64::MAX;
        for index in 0..self.tasks.len() {
            let task = self.task(index);
            if task.deadline <= now {
                task.deadline = u64::MAX;
                self.notify(index, NOTIFY_TIMER);
            } else {
                earliest = earliest.min(task.deadline);
            }
        }
        self.earliest = earliest;
    }
}
