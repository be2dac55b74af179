//! The secure partition as the wall runs it: entered by a call of the guest, by its own timer, or when the guest was reset;
//! left by its kernel, or by force when its time is long up. Nothing of it is kept between two entries.

use bulkhead_abi::audit::Kind;
use bulkhead_abi::{Status, wall};
use bulkhead_hypervisor_core::gate::Gate;
use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::share::Share;
use bulkhead_model::{Phase, subject};

use crate::arch::{self, Frame, GUEST, Load, Next, Sides};

/// What the guest waits for while the secure partition runs. Its layout keeps what answers have in common in one place.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Waiting {
    /// Nothing: the partition runs on its own account.
    Nothing,
    /// The reply to a register call of an object's method.
    Call(u16, u16),
    /// The value of a load from a served device, read by its method.
    Load(u16, u16, Load),
    /// The end of a store to a served device.
    Store,
}

/// How a wait ended, where that is the guest's matter.
pub(crate) enum Outcome {
    /// Registers are set, the guest goes on.
    Done,
    /// The device's server is dead: a store cannot be acknowledged.
    DeadDevice,
}

/// No words.
const NOTHING: &[u64; 6] = &[0; 6];

pub(crate) struct Partition {
    /// Its kernel has not failed.
    is_alive: bool,
    /// The registers of both partitions.
    pub(crate) sides: Sides,
    share: Share,
    waiting: Waiting,
    /// Of the call in progress; a reply with another one is late.
    token: u64,
    entered: u64,
    /// When it has to leave, in ticks.
    limit: u64,
    /// Its time is up and it was told so.
    is_overdue: bool,
    /// When its kernel wants the virtual interrupt.
    alarm: u64,
    /// Bit i: the i-th interrupt of the apps' devices came and its kernel has not taken it.
    interrupts: u32,
    call_limit: u64,
    grace: u64,
}

impl Partition {
    pub(crate) fn new(plan: &MachinePlan, sides: Sides) -> Self {
        let ticks = |us: u64| us * plan.ticks_per_second / 1_000_000;
        Self {
            is_alive: plan.secure.bytes != 0,
            sides,
            share: Share::new(ticks(plan.period_us), ticks(plan.budget_us)),
            waiting: Waiting::Nothing,
            token: 0,
            entered: 0,
            limit: 0,
            is_overdue: false,
            alarm: u64::MAX,
            interrupts: 0,
            call_limit: ticks(plan.call_limit_us),
            // Only a kernel that hangs takes this long: its paths are bounded, and a host that stalls the emulator is forgiven.
            grace: ticks(3_000_000),
        }
    }

    pub(crate) const fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// Sets the wall's timer for the next time that the partition wants to run by itself.
    #[inline(always)]
    pub(crate) fn arm(&self) {
        let at = if self.is_alive { self.share.interrupt_at() } else { u64::MAX };
        arch::set_timer(at);
    }

    /// The timer fired in the guest: enters the partition if its share allows.
    #[inline(never)]
    pub(crate) fn tick(&mut self) -> Next {
        let now = arch::now();
        match self.share.enter(now).filter(|_| self.is_alive) {
            Some(until) => self.enter_itself(wall::UPCALL_RUN, until, now),
            None => {
                self.arm();
                GUEST
            }
        }
    }

    /// A device that an app drives raised its interrupt: the partition runs as soon as its share allows.
    #[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "no device interrupts the secure side there yet"))]
    #[inline(never)]
    pub(crate) fn interrupt(&mut self, place: usize) -> Next {
        self.interrupts |= 1 << (place & 31);
        self.share.want(arch::now());
        self.tick()
    }

    /// As [`Partition::interrupt`], while it runs: its kernel gets the virtual interrupt. It goes on.
    #[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "no device interrupts the secure side there yet"))]
    #[inline(never)]
    pub(crate) fn interrupt_inside(&mut self, place: usize) -> bool {
        self.interrupts |= 1 << (place & 31);
        self.sides.signal(true);
        true
    }

    /// The place of an interrupt that came.
    pub(crate) const fn take_interrupt(&mut self) -> Option<usize> {
        if self.interrupts == 0 {
            return None;
        }
        let place = self.interrupts.trailing_zeros();
        self.interrupts &= self.interrupts - 1;
        Some(place as usize)
    }

    /// The guest was reset: the partition hears of it before the guest runs again.
    pub(crate) fn guest_was_reset(&mut self) -> Next {
        let now = arch::now();
        if !self.is_alive {
            return GUEST;
        }
        self.enter_itself(wall::UPCALL_GUEST_RESET, now + self.call_limit, now)
    }

    /// On its own account.
    #[inline(never)]
    fn enter_itself(&mut self, reason: u64, until: u64, now: u64) -> Next {
        self.enter(Waiting::Nothing, [reason, 0, 0, 0, 0, 0, 0, 0, 0], until, now)
    }

    /// A call of the guest that the gate allows. Ask [`Partition::is_alive`] first.
    #[inline(always)]
    pub(crate) fn call(&mut self, header: u64, words: &[u64; 6], waiting: Waiting) -> Next {
        let now = arch::now();
        self.token += 1;
        let &[w0, w1, w2, w3, w4, w5] = words;
        let arguments = [wall::UPCALL_CALL, header, w0, w1, w2, w3, w4, w5, self.token];
        self.enter(waiting, arguments, now + self.call_limit, now)
    }

    #[inline(always)]
    fn enter(&mut self, waiting: Waiting, arguments: [u64; 9], until: u64, now: u64) -> Next {
        self.waiting = waiting;
        self.entered = now;
        self.limit = until;
        self.is_overdue = false;
        self.alarm = u64::MAX;
        let next = self.sides.enter_secure(arguments);
        arch::set_timer(until);
        next
    }

    /// The kernel has left ([`wall::SWITCH`]).
    #[inline(always)]
    pub(crate) fn leave(&mut self, registers: &[u64; 12], gate: &mut Gate<'_>, guest: &mut Frame) -> Outcome {
        let &[_, flags, status, .., token, wake, _] = registers;
        let now = arch::now();
        if matches!(self.waiting, Waiting::Nothing) {
            self.share.charge(now.saturating_sub(self.entered));
        }
        let has_more = flags & wall::SWITCH_MORE != 0 || self.interrupts != 0;
        self.share.sleep(if has_more { now } else { wake });
        self.arm();
        if flags & wall::SWITCH_REPLY == 0 || token != self.token {
            return self.late(gate, guest, now);
        }
        let [_, len, ..] = flags.to_le_bytes();
        let status = Status::from_raw(status.cast_signed()).unwrap_or(Status::Failed);
        let words = registers.split_at(3).1.first_chunk().unwrap_or(NOTHING);
        self.finish(status, len, words, gate, guest, now)
    }

    /// The kernel left without the answer that the guest waits for.
    #[cold]
    #[inline(never)]
    fn late(&mut self, gate: &mut Gate<'_>, guest: &mut Frame, now: u64) -> Outcome {
        if !matches!(self.waiting, Waiting::Nothing) {
            gate.record(Kind::CallTimedOut, subject::GUEST, [self.token, 0, 0], now);
        }
        self.finish_without(Status::TimedOut, gate, guest, now)
    }

    /// There is no answer.
    #[cold]
    #[inline(never)]
    fn finish_without(&mut self, status: Status, gate: &mut Gate<'_>, guest: &mut Frame, now: u64) -> Outcome {
        self.finish(status, 0, NOTHING, gate, guest, now)
    }

    /// The partition is not entered again: its kernel failed, or did not leave in time.
    #[cold]
    #[inline(never)]
    pub(crate) fn kill(&mut self, cause: [u64; 3], gate: &mut Gate<'_>, guest: &mut Frame) -> Outcome {
        self.is_alive = false;
        let now = arch::now();
        gate.record(Kind::KernelFatal, subject::KERNEL, cause, now);
        self.sides.leave_secure();
        self.arm();
        self.finish_without(Status::Gone, gate, guest, now)
    }

    /// Gives the guest what it waits for, after the gate has judged it. A reply that does not fit its interface is none.
    #[inline(always)]
    fn finish(
        &mut self,
        status: Status,
        len: u8,
        words: &[u64; 6],
        gate: &mut Gate<'_>,
        guest: &mut Frame,
        now: u64,
    ) -> Outcome {
        let waiting = core::mem::replace(&mut self.waiting, Waiting::Nothing);
        let (Waiting::Call(object, method) | Waiting::Load(object, method, _)) = waiting else {
            let is_store = matches!(waiting, Waiting::Store);
            return if is_store && status == Status::Gone { Outcome::DeadDevice } else { Outcome::Done };
        };
        let fits = match status {
            Status::Ok => gate.judge_reply(object, method, len, words, now),
            _ => gate.judge_answer(Phase::Error, object, method, len, words, now),
        };
        if let Waiting::Load(_, _, load) = waiting {
            load.deliver(guest, if fits && status == Status::Ok { words[0] } else { u64::MAX });
            return Outcome::Done;
        }
        let (status, words) = if fits { (status, words) } else { (Status::Failed, NOTHING) };
        guest.set(0, status.raw().cast_unsigned());
        (1..).zip(words).for_each(|(register, &word)| guest.set(register, word));
        Outcome::Done
    }

    /// An interrupt of the wall's timer while the partition runs. False: it must go, by force.
    pub(crate) fn time_passes(&mut self) -> bool {
        let now = arch::now();
        if now >= self.limit {
            if self.is_overdue {
                return false;
            }
            self.is_overdue = true;
            self.limit = now + self.grace;
        }
        if now >= self.alarm {
            self.alarm = u64::MAX;
        }
        self.sides.signal(true);
        arch::set_timer(self.limit.min(self.alarm));
        true
    }

    /// [`wall::SET_TIMER`]: takes the virtual interrupt back. True if the partition's time is up.
    pub(crate) fn set_alarm(&mut self, at: u64) -> bool {
        self.alarm = at;
        self.sides.signal(false);
        arch::set_timer(self.limit.min(at));
        self.is_overdue
    }
}
