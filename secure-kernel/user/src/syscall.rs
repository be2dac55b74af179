//! Each system call.

use core::panic::PanicInfo;

use bulkhead_abi::syscall as number;
use bulkhead_abi::{Message, Status};
use bulkhead_types::{Transport, WORDS};

use crate::arch::svc;
use crate::{Event, Reply, Request};

/// A call to another app's service.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The service's number.
    pub object: u16,
    /// The method's number.
    pub method: u16,
    /// At most six arguments; more make the call malformed.
    pub arguments: &'a [u64],
}

impl Call<'_> {
    /// Calls in the app's own name, and blocks until the reply.
    ///
    /// # Errors
    /// The status; for `Denied` the rule (0xffff: none), for `Failed` the service's code.
    pub fn send(&self) -> Result<[u64; 6], (Status, u16)> {
        self.go(number::CALL, 0)
    }

    /// Calls with the guest as subject.
    ///
    /// # Errors
    /// As [`Call::send`].
    pub fn send_for_guest(&self) -> Result<[u64; 6], (Status, u16)> {
        self.go(number::CALL, number::CALL_FOR_GUEST)
    }

    /// Asks whether the policy allows it: a question of the app's own service, as itself.
    ///
    /// # Errors
    /// The status, and the rule that refuses (0xffff: none).
    pub fn ask(&self) -> Result<(), (Status, u16)> {
        self.go(number::ASK, 0).map(|_| ())
    }

    /// As [`Call::ask`], with the guest as subject.
    ///
    /// # Errors
    /// As [`Call::ask`].
    pub fn ask_for_guest(&self) -> Result<(), (Status, u16)> {
        self.go(number::ASK, number::CALL_FOR_GUEST).map(|_| ())
    }

    fn go(&self, call: u64, flags: u64) -> Result<[u64; 6], (Status, u16)> {
        let mut words = [0; 6];
        words.iter_mut().zip(self.arguments).for_each(|(slot, &argument)| *slot = argument);
        let len = u8::try_from(self.arguments.len()).unwrap_or(u8::MAX);
        let message = Message { object: self.object, method: self.method, len, words };
        let [w0, w1, w2, w3, w4, w5] = words;
        let ([status, r0, r1, r2, r3, r4, r5, rule], _) = svc(call, [message.header(), w0, w1, w2, w3, w4, w5, flags]);
        match Status::from_raw(status.cast_signed()) {
            Some(Status::Ok) => Ok([r0, r1, r2, r3, r4, r5]),
            Some(Status::Failed) => Err((Status::Failed, u16::try_from(r0).unwrap_or(0xffff))),
            other => Err((other.unwrap_or(Status::Failed), u16::try_from(rule).unwrap_or(0xffff))),
        }
    }
}

/// A service, for the client that its interface becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service(
    /// Its number.
    pub u16,
);

/// A call that did not get to its service, or not back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub status: Status,
    /// For `Denied` the rule; 0xffff: none.
    pub rule: u16,
}

impl Transport for Service {
    type Refusal = Refusal;

    fn call(&mut self, method: u16, count: u8, words: &[u64; WORDS]) -> Result<[u64; WORDS], Result<u64, Refusal>> {
        let arguments = words.get(..count.into()).unwrap_or(words);
        let answer = Call { object: self.0, method, arguments }.send();
        answer.map_err(|(status, number)| match status {
            Status::Failed => Ok(number.into()),
            status => Err(Refusal { status, rule: number }),
        })
    }
}

pub(crate) fn receive() -> Event {
    event(svc(number::RECEIVE, [0; 8]))
}

pub(crate) fn reply_receive(reply: &Reply) -> Event {
    let [w0, w1, w2, w3, w4, w5] = reply.words;
    let status = reply.status.raw().cast_unsigned();
    event(svc(number::REPLY_RECEIVE, [status, w0, w1, w2, w3, w4, w5, reply.len.into()]))
}

#[inline(always)]
fn event(([kind, header, w0, w1, w2, w3, w4, w5], subject): ([u64; 8], u64)) -> Event {
    match (kind, Message::from_header(header, [w0, w1, w2, w3, w4, w5])) {
        (number::RECEIVED_REQUEST, Some(message)) => {
            Event::Request(Request { message, subject: u16::try_from(subject).unwrap_or(0xffff) })
        }
        (number::RECEIVED_NOTIFICATION, _) => Event::Notification(header),
        // The kernel refuses to receive while a request is open: the app's own bug.
        _ => exit(2),
    }
}

/// Asks for [`crate::NOTIFY_TIMER`] at a time, in ticks of [`crate::now`].
pub fn set_timer(at: u64) {
    svc(number::SET_TIMER, [at, 0, 0, 0, 0, 0, 0, 0]);
}

/// Tells the wall the time of day: seconds since 1970 (UTC). False if the policy does not allow it.
pub fn set_time(seconds: u64) -> bool {
    svc(number::SET_TIME, [seconds, 0, 0, 0, 0, 0, 0, 0]).0[0] == 0
}

/// Raises an interrupt of a device that the manifest gives to this app. False if it gives no such.
pub fn raise_guest_interrupt(intid: u32) -> bool {
    svc(number::GUEST_IRQ, [intid.into(), 0, 0, 0, 0, 0, 0, 0]).0[0] == 0
}

/// Says that the device behind an interrupt was served: it may come again.
pub fn interrupt_done(intid: u32) {
    svc(number::IRQ_DONE, [intid.into(), 0, 0, 0, 0, 0, 0, 0]);
}

/// A piece of text, at most 48 bytes.
pub(crate) fn log(length: u64, [w0, w1, w2, w3, w4, w5]: [u64; 6]) {
    svc(number::LOG, [length, w0, w1, w2, w3, w4, w5, 0]);
}

/// Ends the app; the kernel treats it as a fault.
pub fn exit(code: u64) -> ! {
    svc(number::EXIT, [code, 0, 0, 0, 0, 0, 0, 0]);
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(place) = info.location() {
        crate::log!("panic at {}:{}", place.file(), place.line());
    }
    exit(1)
}
