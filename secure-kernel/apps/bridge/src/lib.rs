//! From a line of a named port to a call of its service, and from the service's answer to a line. The names are those of
//! the compiled policy. What is sent is judged afterwards, as a call of the guest; nothing is decided here.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt::Write;

use bulkhead_abi::Status;
use bulkhead_model::{Method, NONE, Object, Policy, subject};
use bulkhead_wire::port::{ARGUMENTS, BadLine, LineWriter, Request, number};

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The method's number.
    pub method: u16,
    /// The arguments.
    pub arguments: [u64; ARGUMENTS],
    /// How many.
    pub count: usize,
}

/// The services that get a port: those of which the policy lets the guest call anything, but the ports' own device.
pub fn ports<'a>(policy: &'a Policy<'a>, own: u16) -> impl Iterator<Item = (u16, &'a str)> + use<'a> {
    let policy = *policy;
    let objects = (0..NONE).map_while(move |number| policy.object(number).map(|object| (number, object)));
    let served = objects.filter(move |(number, object)| object.server != NONE && *number != own);
    served
        .filter(move |(_, object)| policy.is_callable(subject::GUEST, object))
        .map(move |(number, object)| (number, policy.text(object.name)))
}

/// Reads a line for a service. What is no call is answered at once: the line to send, or `None` for none.
///
/// # Errors
/// The answer.
#[expect(clippy::result_large_err, reason = "there is no heap to box a line in, and it is sent at once")]
pub fn question(policy: &Policy<'_>, object: u16, line: &[u8]) -> Result<Question, Option<LineWriter>> {
    let service = policy.object(object).ok_or_else(|| Some(say(format_args!("gone"))))?;
    let request = Request::parse(line).map_err(|bad| match bad {
        BadLine::Empty => None,
        BadLine::NotText => Some(say(format_args!("malformed not-text"))),
        BadLine::TooManyArguments => Some(say(format_args!("malformed too-many-arguments"))),
    })?;
    if request.method == "?" {
        return Err(Some(methods(policy, service)));
    }
    let known = (0..service.method_count).find_map(|number| {
        let (_, method) = policy.method(service, number)?;
        (policy.text(method.name) == request.method).then_some((number, method))
    });
    let Some((number, method)) = known else { return Err(Some(say(format_args!("unknown {}", request.method)))) };
    let fields = policy.fields(method, false);
    if fields.len() != request.count {
        return Err(Some(say(format_args!("malformed {}-arguments-expected", fields.len()))));
    }
    let mut question = Question { method: number, arguments: [0; ARGUMENTS], count: request.count };
    for ((field, word), slot) in fields.iter().zip(request.arguments).zip(&mut question.arguments) {
        *slot = self::number(word, field.signed != 0)
            .ok_or_else(|| Some(say(format_args!("malformed {}-is-no-number", policy.text(field.name)))))?;
    }
    Ok(question)
}

/// The line that tells how a call went.
#[must_use]
pub fn answer(policy: &Policy<'_>, object: u16, method: u16, result: Result<[u64; 6], (Status, u16)>) -> LineWriter {
    let mut line = LineWriter::new();
    // A reply that is too long for a line is cut; names in the policy are short enough that it is not.
    let _ = match result {
        Ok(words) => {
            values(&mut line, policy, policy.object(object).and_then(|object| policy.method(object, method)), &words)
        }
        Err((Status::Denied, rule)) => match policy.rule_place(rule) {
            Some((file, number)) => write!(line, "denied {file}:{number}"),
            None => write!(line, "denied no-rule"),
        },
        // The number of arguments was checked before: a value is out of its field's range.
        Err((Status::Malformed, _)) => write!(line, "malformed out-of-range"),
        Err((Status::Failed, code)) => write!(line, "failed {code}"),
        Err((status, _)) => write!(line, "{}", status.word()),
    };
    line
}

fn values(
    line: &mut LineWriter,
    policy: &Policy<'_>,
    method: Option<(usize, &Method)>,
    words: &[u64; 6],
) -> core::fmt::Result {
    line.write_str("ok")?;
    let fields = method.map_or(&[][..], |(_, method)| policy.fields(method, true));
    for (field, &word) in fields.iter().zip(words) {
        let name = policy.text(field.name);
        if field.signed != 0 {
            write!(line, " {name}={}", word.cast_signed())?;
        } else {
            write!(line, " {name}={word}")?;
        }
    }
    Ok(())
}

fn methods(policy: &Policy<'_>, service: &Object) -> LineWriter {
    let mut line = LineWriter::new();
    // As in `answer`: a list that is too long is cut.
    let _ = write!(line, "ok");
    for number in 0..service.method_count {
        let Some((_, method)) = policy.method(service, number) else { continue };
        let _ = write!(line, " {}(", policy.text(method.name));
        for (index, field) in policy.fields(method, false).iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(line, "{separator}{}", policy.text(field.name));
        }
        let _ = line.write_str(")");
    }
    line
}

/// One line.
#[must_use]
pub fn say(text: core::fmt::Arguments<'_>) -> LineWriter {
    let mut line = LineWriter::new();
    // What does not fit is cut.
    let _ = line.write_fmt(text);
    line
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    const SITE: &str = "edition 1\npolicy t\ninterface P { method set(rpm: u16, trim: i8) -> (level: i32)\n method go() -> () }\n\
        interface Q { method q() -> () }\napp a\napp b\napp c\nservice plant: P by a\nservice hidden: Q by b\n\
        device ports: at 0x1000 size 0x200 interrupt 48 by c\nallow guest plant.set when rpm < 5\nallow guest ports.read\n";

    /// The first and the third object after the wall's own.
    const PLANT: u16 = bulkhead_model::object::POWER + 1;
    const PORTS: u16 = PLANT + 2;

    fn with_policy<T>(act: impl FnOnce(&Policy<'_>) -> T) -> T {
        let compiled = bulkhead_lang::compile(&mut |_| Ok(SITE.to_string()), "site.policy").unwrap();
        act(&Policy::verify(&compiled.table).unwrap())
    }

    fn text(mut line: LineWriter) -> String {
        String::from_utf8(line.finish().to_vec()).unwrap()
    }

    #[test]
    fn only_services_that_the_guest_may_call_get_a_port() {
        with_policy(|policy| assert_eq!(ports(policy, PORTS).collect::<Vec<_>>(), [(PLANT, "plant")]));
    }

    #[test]
    fn a_line_becomes_a_call_with_its_arguments_by_type() {
        with_policy(|policy| {
            let question = question(policy, PLANT, b"set 0x10 -3").unwrap();
            assert_eq!((question.method, question.count), (0, 2));
            assert_eq!(question.arguments[..2], [16, (-3_i64).cast_unsigned()]);
        });
    }

    #[test]
    fn what_is_no_call_is_answered_with_the_reason() {
        with_policy(|policy| {
            let refused = |line: &[u8]| question(policy, PLANT, line).unwrap_err().map(text);
            assert_eq!(refused(b"set 1").unwrap(), "malformed 2-arguments-expected\n");
            assert_eq!(refused(b"set -1 1").unwrap(), "malformed rpm-is-no-number\n");
            assert_eq!(refused(b"sett 1 1").unwrap(), "unknown sett\n");
            assert_eq!(refused(b"set 1 2 3 4 5 6 7").unwrap(), "malformed too-many-arguments\n");
            assert_eq!(refused(b"\x01").unwrap(), "malformed not-text\n");
            assert_eq!(refused(b"?").unwrap(), "ok set(rpm,trim) go()\n");
            assert_eq!(refused(b" "), None);
        });
    }

    #[test]
    fn answers_name_values_rules_and_errors() {
        with_policy(|policy| {
            let minus = (-7_i64).cast_unsigned();
            assert_eq!(text(answer(policy, PLANT, 0, Ok([minus, 0, 0, 0, 0, 0]))), "ok level=-7\n");
            assert_eq!(text(answer(policy, PLANT, 1, Ok([0; 6]))), "ok\n");
            assert_eq!(text(answer(policy, PLANT, 0, Err((Status::Denied, 0)))), "denied site.policy:12\n");
            assert_eq!(text(answer(policy, PLANT, 0, Err((Status::Denied, 0xffff)))), "denied no-rule\n");
            assert_eq!(text(answer(policy, PLANT, 0, Err((Status::Malformed, 0xffff)))), "malformed out-of-range\n");
            assert_eq!(text(answer(policy, PLANT, 0, Err((Status::Gone, 0xffff)))), "gone\n");
            assert_eq!(text(answer(policy, PLANT, 0, Err((Status::TimedOut, 0xffff)))), "timed-out\n");
        });
    }
}
