//! Calls: from a task or the guest to a server, and the reply back.

use bulkhead_abi::boot::flags;
use bulkhead_abi::syscall::{CALL_FOR_GUEST, RECEIVED_NOTIFICATION, RECEIVED_REQUEST};
use bulkhead_abi::{Message, Status};
use bulkhead_model::{Phase, Reason, subject};

use crate::task::{Client, Open, State};
use crate::{GuestCall, Kernel, MAX_APPS, Platform, Reply, Verdict};

/// The rule number of "no rule".
const NO_RULE: u16 = 0xffff;

/// What became of a reply.
pub(crate) enum Answered {
    /// It names no status, or has too many words: whoever waits still does.
    Open,
    /// Nobody waits for an answer of the task any more: how its reply ended.
    Done(Status),
}

impl Kernel {
    /// The running task calls: refused, it goes on with the status; allowed, it blocks until the reply.
    pub(crate) fn call(&mut self, platform: &mut impl Platform) {
        let caller = self.current;
        let (message, as_subject) = match self.judged(platform, Phase::Request) {
            Ok(judged) => judged,
            Err((status, rule)) => return self.finish(caller, status, rule),
        };
        let Some(server) = self.server(message.object) else {
            return self.finish(caller, Status::Unknown, NO_RULE);
        };
        let state = self.task(server.into()).state;
        match state {
            State::Down => self.finish(caller, Status::Gone, NO_RULE),
            _ if self.waits_for(server, caller) => self.finish(caller, Status::Busy, NO_RULE),
            State::Receiving => {
                self.set_state(caller, State::Waiting(server));
                self.deliver(server, &message, as_subject, client(caller));
            }
            _ => {
                self.set_state(caller, State::Sending(server));
                self.task(caller).speaks_for_guest = as_subject == subject::GUEST;
            }
        }
    }

    /// The running task asks the monitor a question of its own service.
    pub(crate) fn ask(&mut self, platform: &mut impl Platform) {
        let (status, rule) = match self.judged(platform, Phase::Question) {
            Ok(_) => (Status::Ok, NO_RULE),
            Err(refusal) => refusal,
        };
        self.finish(self.current, status, rule);
    }

    /// The message in the running task's registers, and its subject, once the monitor or a capability that stands for its
    /// verdict allows it. Capabilities are for calls; a question is of the task's own service.
    fn judged(&mut self, platform: &mut impl Platform, phase: Phase) -> Result<(Message, u16), (Status, u16)> {
        let current = self.current;
        let registers = &self.task(current).registers;
        let (header, words, bits) = (registers.x[0], registers.words(), registers.x[7]);
        let app = self.app(current).ok_or((Status::Unknown, NO_RULE))?;
        let message = Message::from_header(header, words).ok_or((Status::Malformed, NO_RULE))?;
        if bits & !CALL_FOR_GUEST != 0 {
            return Err((Status::Malformed, NO_RULE));
        }
        let for_guest = bits & CALL_FOR_GUEST != 0;
        let capability =
            app.caps.iter().take(app.cap_count.into()).find(|capability| capability.object == message.object);
        let open = capability
            .is_some_and(|capability| message.method < 64 && capability.open_methods >> message.method & 1 != 0);
        let is_question = phase == Phase::Question;
        if !for_guest && open && !is_question {
            return Ok((message, app.subject));
        }
        // An app that may not speak for the guest is judged as itself, so that the attempt is on record under its name.
        let may_speak = app.flags & flags::SPEAKS_FOR_GUEST != 0;
        let as_subject = if for_guest && may_speak { subject::GUEST } else { app.subject };
        let Verdict { reason, rule } = platform.judge(as_subject, phase, &message);
        let may_name = if is_question { app.serves == message.object } else { for_guest || capability.is_some() };
        let is_entitled = may_name && (!for_guest || may_speak);
        match reason {
            Reason::Allowed if is_entitled => Ok((message, as_subject)),
            Reason::Allowed => Err((Status::Denied, NO_RULE)),
            refused => Err((Status::refusal(refused), rule)),
        }
    }

    /// Whether `server` cannot answer before `caller` does: it waits for it, directly or through others.
    fn waits_for(&mut self, server: u8, caller: usize) -> bool {
        let mut at = usize::from(server);
        for _ in 0..MAX_APPS {
            if at == caller {
                return true;
            }
            match self.task(at).state {
                State::Sending(next) | State::Waiting(next) => at = next.into(),
                _ => return false,
            }
        }
        true
    }

    /// A call of the guest, already judged by the gate.
    #[inline(always)]
    pub fn guest_call(&mut self, header: u64, words: [u64; 6], token: u64) {
        let refuse = |status| Reply { status, len: 0, words: [0; 6], token };
        let Some(message) = Message::from_header(header, words) else {
            return self.answer_guest(refuse(Status::Malformed));
        };
        let Some(server) = self.server(message.object) else {
            return self.answer_guest(refuse(Status::Unknown));
        };
        match self.task(server.into()).state {
            State::Down => self.answer_guest(refuse(Status::Gone)),
            State::Receiving => self.deliver(server, &message, subject::GUEST, Client::Guest(token)),
            // An older call that no server took has timed out for the guest: the new one takes its place.
            _ => self.guest = Some(GuestCall { message, server, token }),
        }
    }

    /// The running task waits for a request or a notification; what is there already is delivered at once.
    #[inline(always)]
    pub(crate) fn receive(&mut self) {
        let current = self.current;
        if self.task(current).open.client != Client::None {
            // A request may not be left unanswered.
            return self.finish(current, Status::Busy, NO_RULE);
        }
        self.listen();
    }

    /// As [`Kernel::receive`], of a task that owes no answer.
    #[inline(always)]
    pub(crate) fn listen(&mut self) {
        let current = self.current;
        self.set_state(current, State::Receiving);
        self.deliver_next(current);
    }

    /// Gives a receiving task what waits for it: notifications first, then the guest's call, then the first task's.
    #[inline(always)]
    pub(crate) fn deliver_next(&mut self, index: usize) {
        if self.task(index).notifications != 0 || self.guest.is_some() || self.senders != 0 {
            self.deliver_waiting(index);
        }
    }

    #[inline(never)]
    fn deliver_waiting(&mut self, index: usize) {
        let bits = core::mem::take(&mut self.task(index).notifications);
        if bits != 0 {
            self.set_state(index, State::Ready);
            let x = &mut self.task(index).registers.x;
            x[0] = RECEIVED_NOTIFICATION;
            x[1] = bits;
            return;
        }
        let server = number(index);
        if let Some(call) = self.guest.take_if(|call| call.server == server) {
            return self.deliver(server, &call.message, subject::GUEST, Client::Guest(call.token));
        }
        let Some(sender) = (0..MAX_APPS).find(|&sender| self.task(sender).state == State::Sending(server)) else {
            return;
        };
        self.set_state(sender, State::Waiting(server));
        let task = self.task(sender);
        let (header, words) = (task.registers.x[0], task.registers.words());
        let own_subject = self.app(sender).map_or(subject::KERNEL, |app| app.subject);
        let as_subject = if self.task(sender).speaks_for_guest { subject::GUEST } else { own_subject };
        if let Some(message) = Message::from_header(header, words) {
            self.deliver(server, &message, as_subject, client(sender));
        }
    }

    #[inline(always)]
    fn deliver(&mut self, server: u8, message: &Message, from: u16, client: Client) {
        self.set_state(server.into(), State::Ready);
        let task = self.task(server.into());
        task.open = Open { client, object: message.object, method: message.method, subject: from };
        let x = &mut task.registers.x;
        x[0] = RECEIVED_REQUEST;
        x[1] = message.header();
        x[2..8].copy_from_slice(&message.words);
        x[9] = from.into();
    }

    /// The running task answers. A reply to a task is judged here, one to the guest at the gate: once each.
    #[inline(always)]
    pub(crate) fn reply(&mut self, platform: &mut impl Platform) -> Answered {
        let current = self.current;
        let task = self.task(current);
        let (status, len) = (task.registers.x[0], task.registers.x[7]);
        let Some(status) = Status::from_raw(status.cast_signed()).filter(|_| len <= 6) else {
            return if task.open.client == Client::None { Answered::Done(Status::Malformed) } else { Answered::Open };
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most six")]
        let len = len as u8;
        let kept = task.registers.words_up_to(len);
        Answered::Done(match core::mem::replace(&mut task.open.client, Client::None) {
            Client::None => Status::Malformed,
            Client::Guest(token) => {
                self.answer_guest(Reply { status, len, words: kept, token });
                Status::Ok
            }
            Client::Task(caller) => {
                let Open { object, method, subject, .. } = task.open;
                let message = Message { object, method, len, words: kept };
                self.reply_to_task(platform, caller.into(), status, subject, &message)
            }
        })
    }

    #[inline(never)]
    fn reply_to_task(
        &mut self,
        platform: &mut impl Platform,
        caller: usize,
        status: Status,
        as_subject: u16,
        message: &Message,
    ) -> Status {
        let phase = if status == Status::Ok { Phase::Reply } else { Phase::Error };
        let verdict = platform.judge(as_subject, phase, message);
        let fits = verdict.reason == Reason::Allowed;
        let (status, words) = if fits { (status, message.words) } else { (Status::Failed, [0; 6]) };
        self.task(caller).registers.set_words(words);
        self.finish(caller, status, NO_RULE);
        if fits { Status::Ok } else { Status::refusal(verdict.reason) }
    }

    /// A call is over: its caller goes on.
    pub(crate) fn finish(&mut self, index: usize, status: Status, rule: u16) {
        self.set_state(index, State::Ready);
        let task = self.task(index);
        task.registers.x[0] = status.raw().cast_unsigned();
        task.registers.x[7] = rule.into();
    }
}

fn client(index: usize) -> Client {
    Client::Task(number(index))
}

/// Task indices are below [`MAX_APPS`].
pub(crate) fn number(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(crate::NOBODY)
}
