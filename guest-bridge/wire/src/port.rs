//! The line protocol of a named port (one port a service; the port's name is the service's):
//!
//! ```text
//! request:  METHOD [ARG ...] \n          arguments: numbers (decimal, negative where the field is signed, 0x hex), scaled ones in
//!                                        their unit (50.00, 50.00Hz), words (true, off), flags (local|remote), "text",
//!                                        bytes ("0aff"), lists ([1,2]), records ({1,2}), none for an optional value
//! reply:    ok [NAME=VALUE ...] \n
//!           denied RULE [REASON] \n      RULE: file:line of the rule, or "no-rule"; REASON: its text, where the policy tells it
//!           busy [REASON] \n
//!           malformed WHY \n  unknown WHAT \n  gone \n  timed-out \n
//!           failed ERROR \n              ERROR: its name in the interface, or its number
//! ```
//!
//! A request `?` is answered with one `ok` line that lists the methods with their arguments' names. A line longer than
//! [`LINE_MAX`] is answered `malformed line-too-long` and dropped to its end. An empty line is not answered.
//!
//! A serial port is one conversation with all services: a request names its service before the method, `SERVICE.METHOD [ARG ...]`; `?` lists
//! the services, `SERVICE.?` a service's methods; a name that is none is answered `unknown service NAME`. A carriage return ends a
//! line too. What begins as an answer does is not answered: a terminal that echoes would talk to itself for ever.

use core::fmt;

/// The longest line, either way, with its newline.
pub const LINE_MAX: usize = 256;
/// The longest port (service) name.
pub const NAME_MAX: usize = 24;
/// The most arguments.
pub const ARGUMENTS: usize = 6;

/// A request line, cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The first word; `?` asks for the methods.
    pub method: &'a str,
    /// The rest.
    pub arguments: [&'a str; ARGUMENTS],
    /// How many there are.
    pub count: usize,
}

/// Why a line is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// Nothing but spaces: no answer is due.
    Empty,
    /// Not plain ASCII.
    NotText,
    /// More than [`ARGUMENTS`] arguments.
    TooManyArguments,
}

impl<'a> Request<'a> {
    /// Cuts a line without its newline.
    ///
    /// # Errors
    /// [`BadLine`].
    pub fn parse(line: &'a [u8]) -> Result<Self, BadLine> {
        if !line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            return Err(BadLine::NotText);
        }
        let text = core::str::from_utf8(line).map_err(|_| BadLine::NotText)?;
        let mut words = words(text);
        let method = words.next().ok_or(BadLine::Empty)?;
        let mut request = Self { method, arguments: [""; ARGUMENTS], count: 0 };
        for word in words {
            *request.arguments.get_mut(request.count).ok_or(BadLine::TooManyArguments)? = word;
            request.count += 1;
        }
        Ok(request)
    }
}

/// The first words of all answers.
pub const ANSWERS: [&str; 8] = ["ok", "denied", "busy", "malformed", "unknown", "gone", "timed-out", "failed"];

/// What a line of a serial port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed<'a> {
    /// `?`: which services are there.
    Services,
    /// A service's name, and what a line of its named port would be.
    To(&'a [u8], &'a [u8]),
    /// Nothing, or the echo of an answer: no answer is due.
    Silence,
    /// It names no service.
    Nobody,
}

impl<'a> Addressed<'a> {
    /// Cuts a line without its newline. Nothing but the service's name is looked at.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Self {
        let line = line.trim_ascii();
        let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
        let word = line.get(..end).unwrap_or_default();
        let point = word.iter().position(|byte| *byte == b'.');
        match point.and_then(|at| Some((line.get(..at)?, line.get(at + 1..)?))) {
            Some((service, rest)) => Self::To(service, rest),
            None if word == b"?" => Self::Services,
            None if word.is_empty() || ANSWERS.iter().any(|answer| answer.as_bytes() == word) => Self::Silence,
            None => Self::Nobody,
        }
    }
}

/// The words of a line: spaces part them, but not those inside quotes or brackets.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    Words(line)
}

struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches([' ', '\t']);
        let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
        let end = text.bytes().position(|byte| {
            let is_plain = !core::mem::take(&mut is_escaped);
            match byte {
                b'\\' if is_quoted && is_plain => is_escaped = true,
                b'"' if is_plain => is_quoted = !is_quoted,
                b'[' | b'{' if !is_quoted => depth += 1,
                b']' | b'}' if !is_quoted => depth = depth.saturating_sub(1),
                b' ' | b'\t' => return depth == 0 && !is_quoted,
                _ => {}
            }
            false
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// A number as a call carries it: signed ones sign-extended. `None` for what is no number of 64 bits.
#[must_use]
pub fn number(word: &str, is_signed: bool) -> Option<u64> {
    match (word, word.strip_prefix("0x")) {
        ("true", _) => Some(1),
        ("false", _) => Some(0),
        (_, Some(digits)) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        _ if word.starts_with('+') => None,
        _ if is_signed => word.parse::<i64>().ok().map(i64::cast_unsigned),
        _ => word.parse().ok(),
    }
}

/// A reply line under construction. What does not fit is cut, and the line still ends with its newline.
#[derive(Clone, Copy, Debug)]
pub struct LineWriter {
    bytes: [u8; LINE_MAX],
    length: usize,
}

impl Default for LineWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl LineWriter {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; LINE_MAX], length: 0 }
    }

    /// The line with its newline.
    pub fn finish(&mut self) -> &[u8] {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = b'\n';
        }
        self.bytes.get(..=self.length).unwrap_or_default()
    }
}

impl fmt::Write for LineWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().filter(|byte| *byte != b'\n') {
            if self.length + 1 >= LINE_MAX {
                return Err(fmt::Error);
            }
            if let Some(slot) = self.bytes.get_mut(self.length) {
                *slot = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::fmt::Write;

    #[test]
    fn a_line_is_cut_into_words_and_bad_ones_are_told_apart() {
        let request = Request::parse(b" append 120 \t-5 ").unwrap();
        assert_eq!((request.method, request.count), ("append", 2));
        assert_eq!(&request.arguments[..2], ["120", "-5"]);
        assert_eq!(Request::parse(b"  "), Err(BadLine::Empty));
        assert_eq!(Request::parse("sé".as_bytes()), Err(BadLine::NotText));
        assert_eq!(Request::parse(b"m 1 2 3 4 5 6").map(|request| request.count), Ok(6));
        assert_eq!(Request::parse(b"m 1 2 3 4 5 6 7"), Err(BadLine::TooManyArguments));
    }

    #[test]
    fn spaces_inside_quotes_and_brackets_part_no_words() {
        let words = |line: &'static str| Request::parse(line.as_bytes()).map(|all| (all.count, all.arguments)).unwrap();
        assert_eq!(words(r#"m "a b" [1, 2] {3, "]"} x"#).1[..4], ["\"a b\"", "[1, 2]", "{3, \"]\"}", "x"]);
        assert_eq!(words(r#"m "a \" b" c"#).1[..2], [r#""a \" b""#, "c"]);
        assert_eq!(words("m ] 1").0, 2, "a bracket that closes nothing is a word");
        assert_eq!(words("m [1 2 3").0, 1, "one that is not closed takes the rest");
    }

    #[test]
    fn a_line_of_a_serial_port_names_its_service_first() {
        let is = |line: &'static str| Addressed::parse(line.as_bytes());
        assert_eq!(is(" plant.set_pump 1500 "), Addressed::To(b"plant", b"set_pump 1500"));
        assert_eq!(is("plant.?"), Addressed::To(b"plant", b"?"));
        assert_eq!((is("."), is("a..b c.d")), (Addressed::To(b"", b""), Addressed::To(b"a", b".b c.d")));
        assert_eq!((is("?"), is(""), is(" \t")), (Addressed::Services, Addressed::Silence, Addressed::Silence));
        assert_eq!((is("plant set.pump"), is("\u{e9}")), (Addressed::Nobody, Addressed::Nobody));
    }

    #[test]
    fn the_echo_of_an_answer_is_not_answered() {
        for answer in ANSWERS {
            assert_eq!(Addressed::parse(answer.as_bytes()), Addressed::Silence);
            let line = std::format!("{answer} site.policy:12");
            assert_eq!(Addressed::parse(line.as_bytes()), Addressed::Silence, "{line}");
        }
        assert_eq!(Addressed::parse(b"okay"), Addressed::Nobody);
    }

    #[test]
    fn numbers_are_read_as_their_field_says() {
        assert_eq!(number("-5", true), Some((-5_i64).cast_unsigned()));
        assert_eq!(number("-5", false), None);
        assert_eq!(number("0xff", false), Some(255));
        assert_eq!(number("true", false), Some(1));
        assert_eq!(number("18446744073709551615", false), Some(u64::MAX));
        for wrong in ["", "0x", "1.5", "18446744073709551616", "+1", "0x+1", "x"] {
            assert_eq!(number(wrong, false), None, "{wrong}");
        }
    }

    #[test]
    fn a_long_reply_is_cut_and_ends_with_its_newline() {
        let mut line = LineWriter::new();
        assert!(write!(line, "ok a=1").is_ok());
        assert_eq!(line.finish(), b"ok a=1\n");
        let mut line = LineWriter::new();
        assert!(write!(line, "{}", "x".repeat(300)).is_err());
        assert_eq!((line.finish().len(), line.finish().last()), (LINE_MAX, Some(&b'\n')));
    }
}
