//! System calls: `svc #0` (x86-64: `int 0x80`, [`crate::wall::x86_64`] says which register is x0, x1, …), the number in x8,
//! arguments in x0-x7, results in x0-x7 and x9. All registers that carry no result keep their value.

/// Calls an object and blocks for the reply.
/// In: x0 = header ([`crate::Message::header`]), x1-x6 = words, x7 = flags ([`CALL_FOR_GUEST`]).
/// Out: x0 = status, x1-x6 = reply words, x7 = rule that refused (0xffff none) when status is `Denied`.
pub const CALL: u64 = 0;
/// Blocks until a request for the caller's own service or a notification arrives.
/// Out: x0 = [`RECEIVED_REQUEST`] or [`RECEIVED_NOTIFICATION`].
/// Request: x1 = header, x2-x7 = words, x9 = the caller's subject id. Notification: x1 = bits (cleared by this).
pub const RECEIVE: u64 = 1;
/// Answers the open request, does not block. In: x0 = status, x1-x6 = reply words, x7 = how many words. Out: x0 = status.
pub const REPLY: u64 = 2;
/// [`REPLY`], then [`RECEIVE`], in one trap: the way of a server's loop. In as REPLY, out as RECEIVE.
pub const REPLY_RECEIVE: u64 = 3;
/// Asks for [`NOTIFY_TIMER`] at a time. In: x0 = ticks, absolute; `u64::MAX` cancels. Out: x0 = status.
pub const SET_TIMER: u64 = 4;
/// Writes text to the secure side's console, where it stands behind the caller's name. In: x0 = length (at most
/// [`LOG_MAX`]), x1-x6 = the bytes, little-endian. A newline ends a line, and the line is written; after [`LINE_MAX`] bytes it
/// ends by itself. Other control characters become '.'. Out: x0 = status; `Busy` when the caller has written too much in this period.
pub const LOG: u64 = 5;
/// Raises an interrupt of a guest device that the manifest gives to the caller. In: x0 = INTID. Out: x0 = status.
pub const GUEST_IRQ: u64 = 6;
/// Sets bits in another task's notification word. In: x0 = object that the task serves, x1 = bits (1 << 8 and up only). Out: x0 = status.
pub const NOTIFY: u64 = 7;
/// Asks the monitor a question of the caller's own service, as the caller or, with [`CALL_FOR_GUEST`], as the guest. It is judged as
/// a request is, with all that rules remember and record. In as [`CALL`]. Out: x0 = status, `Ok` if it is allowed; x7 = the rule
/// that refuses (0xffff none).
pub const ASK: u64 = 8;
/// Gives the rest of the budget away until the next period. Out: x0 = status.
pub const YIELD: u64 = 9;
/// Ends the task on purpose (a panic); handled as a fault. In: x0 = code.
pub const EXIT: u64 = 10;
/// The device behind an interrupt was served. In: x0 = INTID. Out: x0 = status.
pub const IRQ_DONE: u64 = 11;

/// Tells the wall the time of day, as the policy's call `time.set`. In: x0 = seconds since 1970 (UTC). Out: x0 = status.
pub const SET_TIME: u64 = 12;

/// [`CALL`]/[`ASK`] flag: the subject is the guest, on whose behalf the caller acts (manifest: `speaks_for_guest`).
pub const CALL_FOR_GUEST: u64 = 1;

/// [`RECEIVE`] brought a request.
pub const RECEIVED_REQUEST: u64 = 0;
/// [`RECEIVE`] brought notification bits.
pub const RECEIVED_NOTIFICATION: u64 = 1;

/// Notification bit: the time given to [`SET_TIMER`] has come.
pub const NOTIFY_TIMER: u64 = 1 << 0;
/// Notification bit: the guest was restarted or stopped; whatever it had open is void.
pub const NOTIFY_GUEST_RESET: u64 = 1 << 1;
/// Notification bit: a device of the app's has raised its interrupt.
pub const NOTIFY_IRQ: u64 = 1 << 2;

/// The longest text that one [`LOG`] takes, in bytes.
pub const LOG_MAX: u64 = 48;
/// The longest line, in bytes.
pub const LINE_MAX: usize = 240;
