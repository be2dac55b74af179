//! The line protocol of a named port (one port a service; the port's name is the service's):
//!
//! ```text
//! request:  METHOD [ARG ...] \n          arguments: decimal, 0x hex, true/false, or an enum's word
//! reply:    ok [NAME=VALUE ...] \n
//!           denied RULE \n               RULE: file:line of the rule, or "no-rule"
//!           malformed WHY \n  unknown WHAT \n  busy \n  gone \n  timed-out \n  failed CODE \n
//! ```
//!
//! A request `?` is answered with one `ok` line that lists the methods. A line longer than [`LINE_MAX`] is answered
//! `malformed line-too-long` and dropped to its end.

/// The longest line, either way, with its newline.
pub const LINE_MAX: usize = 256;
/// The longest port (service) name.
pub const NAME_MAX: usize = 24;
