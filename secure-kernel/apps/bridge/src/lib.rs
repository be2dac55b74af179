//! From a line of a named port or of a serial port to a call of a service, and from the service's answer to a line. The names are those
//! of the compiled policy. What is sent is judged afterwards, as a call of the guest; nothing is decided here.
#![no_std]
#![forbid(unsafe_code)]

mod values;

use core::fmt::{self, Write};

use bulkhead_abi::Status;
use bulkhead_model::{Method, NONE, Object, Policy, Told, Values, subject};
use bulkhead_wire::port::{ARGUMENTS, Addressed, BadLine, LineWriter, Request};

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

/// All services but what the guest has as a device.
fn services<'a>(policy: &'a Policy<'a>, is_device: impl Fn(u16) -> bool) -> impl Iterator<Item = (u16, &'a Object)> {
    let objects = (0..NONE).map_while(|number| policy.object(number).map(|object| (number, object)));
    objects.filter(move |(number, object)| object.server != NONE && !is_device(*number))
}

/// The services that get a port: those of which the policy lets the guest call anything.
pub fn ports<'a>(policy: &'a Policy<'a>, is_device: impl Fn(u16) -> bool) -> impl Iterator<Item = (u16, &'a str)> {
    let callable = services(policy, is_device).filter(|(_, object)| policy.is_callable(subject::GUEST, object));
    callable.map(|(number, object)| (number, policy.text(object.name)))
}

/// The service that a line of a serial port names, and the rest, as it would be a line of the service's named port. A service of which the
/// guest may call nothing is found too: its call is refused, and on record.
///
/// # Errors
/// The answer, as of [`question`].
#[expect(clippy::result_large_err, reason = "there is no heap to box a line in, and it is sent at once")]
pub fn addressed<'a>(
    policy: &Policy<'_>,
    line: &'a [u8],
    is_device: impl Fn(u16) -> bool,
) -> Result<(u16, &'a [u8]), Option<LineWriter>> {
    let (name, rest) = match Addressed::parse(line) {
        Addressed::To(name, rest) => (name, rest),
        Addressed::Silence => return Err(None),
        Addressed::Nobody => return Err(Some(say(format_args!("malformed no-service")))),
        Addressed::Services => {
            let mut names = say(format_args!("ok"));
            // As in `methods`: a list that is too long is cut.
            for (_, name) in ports(policy, is_device) {
                let _ = write!(names, " {name}");
            }
            return Err(Some(names));
        }
    };
    // Who may call nothing of a service is not told what there would be.
    let is_told = |object: &Object| rest != b"?" || policy.is_callable(subject::GUEST, object);
    let is_meant = |object: &Object| policy.text(object.name).as_bytes() == name && is_told(object);
    let known = services(policy, is_device).find(|(_, object)| is_meant(object));
    // Of a name that is none only what is text is told back.
    let told = core::str::from_utf8(name).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
    known.map(|(number, _)| (number, rest)).ok_or_else(|| {
        Some(told.map_or_else(
            || say(format_args!("malformed not-text")),
            |name| say(format_args!("unknown service {name}")),
        ))
    })
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
        let (_, method) = policy.method(service, number).filter(|(_, method)| is_called(method))?;
        (policy.text(method.name) == request.method).then_some((number, method))
    });
    let Some((number, method)) = known else { return Err(Some(say(format_args!("unknown {}", request.method)))) };
    let fields = policy.fields(method, false);
    let expected = values::names(policy, fields).count();
    if expected != request.count {
        return Err(Some(say(format_args!("malformed {expected}-arguments-expected"))));
    }
    let mut question = Question { method: number, arguments: [0; ARGUMENTS], count: fields.len() };
    for (value, text) in values::names(policy, fields).zip(request.arguments) {
        values::read(policy, fields, value, text, &mut question.arguments)
            .map_err(|what| Some(say(format_args!("malformed {}-is-no-{what}", value.1))))?;
    }
    Ok(question)
}

/// The line that tells how a call went; of a refusal with the rule's reason, if the policy tells it to callers.
#[must_use]
pub fn answer(
    policy: &Policy<'_>,
    object: u16,
    question: &Question,
    result: Result<[u64; 6], (Status, u16)>,
) -> LineWriter {
    let mut line = LineWriter::new();
    let method =
        policy.object(object).and_then(|object| policy.method(object, question.method)).map(|(_, method)| method);
    let reason = |rule: u16| {
        let fields = method.map_or(&[][..], |method| policy.fields(method, false));
        Reason(Told { policy, rule, subject: subject::GUEST, fields, words: &question.arguments, left_out: 0 })
    };
    // A reply that is too long for a line is cut; names in the policy are short enough that it is not.
    let _ = match result {
        Ok(words) => {
            let fields = method.map_or(&[][..], |method| policy.fields(method, true));
            let words = words.get(..fields.len()).unwrap_or(&words);
            write!(line, "ok{}", Values { policy, fields, words, redacted: 0, is_plain: true })
        }
        Err((Status::Denied, rule)) => match policy.rule_place(rule) {
            Some((file, number)) => write!(line, "denied {file}:{number}{}", reason(rule)),
            None => write!(line, "denied no-rule"),
        },
        // The number of arguments was checked before: a value is out of its field's range.
        Err((Status::Malformed, _)) => write!(line, "malformed out-of-range"),
        Err((Status::Failed, code)) => match method.and_then(|method| policy.error_name(method, code.into())) {
            Some(name) => write!(line, "failed {name}"),
            None => write!(line, "failed {code}"),
        },
        Err((Status::Busy, rule)) => write!(line, "busy{}", reason(rule)),
        Err((status, _)) => write!(line, "{}", status.word()),
    };
    line
}

/// A reason behind a space; nothing if callers are not told.
struct Reason<'a>(Told<'a>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.policy.tells_caller(self.0.rule) { write!(f, " {}", self.0) } else { Ok(()) }
    }
}

/// A question is the service's own: nobody calls it.
const fn is_called(method: &Method) -> bool {
    method.flags & Method::QUESTION == 0
}

fn methods(policy: &Policy<'_>, service: &Object) -> LineWriter {
    let mut line = LineWriter::new();
    // As in `answer`: a list that is too long is cut.
    let _ = write!(line, "ok");
    for number in 0..service.method_count {
        let Some((_, method)) = policy.method(service, number).filter(|(_, method)| is_called(method)) else {
            continue;
        };
        let _ = write!(line, " {}(", policy.text(method.name));
        for (index, (_, name)) in values::names(policy, policy.fields(method, false)).enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let _ = write!(line, "{separator}{name}");
        }
        let _ = line.write_str(")");
    }
    line
}

/// One line.
#[must_use]
pub fn say(text: fmt::Arguments<'_>) -> LineWriter {
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

    const SITE: &str = "edition 1\npolicy t\ninterface P { method set(rpm: u16 unit rpm, trim: i8) -> (level: i32)\n method go() -> () }\n\
        interface Q { method q() -> () }\napp a\napp b\napp c\nservice plant: P by a\nservice hidden: Q by b\n\
        device ports: at 0x1000 size 0x200 interrupt 48 by c\nallow guest plant.set when rpm < 5\nallow guest ports.read\n\
        deny guest plant.set when rpm == 9 because \"{rpm} with trim {trim} is too fast for {caller}\" to caller\n\
        deny guest plant.set when rpm == 8 because \"the operator knows\"\n";

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
        with_policy(|policy| {
            assert_eq!(ports(policy, |object| object == PORTS).collect::<Vec<_>>(), [(PLANT, "plant")]);
        });
    }

    fn heard(policy: &Policy<'_>, line: &str) -> Result<(u16, String), Option<String>> {
        let heard = addressed(policy, line.as_bytes(), |object| object == PORTS);
        heard.map(|(object, rest)| (object, String::from_utf8(rest.to_vec()).unwrap())).map_err(|line| line.map(text))
    }

    #[test]
    fn a_serial_line_reaches_the_service_that_it_names() {
        with_policy(|policy| {
            assert_eq!(heard(policy, "plant.set 1 2"), Ok((PLANT, "set 1 2".to_string())));
            assert_eq!(heard(policy, "hidden.q"), Ok((PLANT + 1, "q".to_string())), "its call is refused on record");
            assert_eq!(
                heard(policy, "?"),
                Err(Some("ok plant\n".to_string())),
                "what the guest may not call is not listed"
            );
            for (line, answer) in [
                ("ports.read 0 1", "unknown service ports"),
                ("nothing.level", "unknown service nothing"),
                ("hidden.?", "unknown service hidden"),
                ("port.write 0 1 2", "unknown service port"),
                (".set", "unknown service "),
                ("plant", "malformed no-service"),
                ("plant set 1 2", "malformed no-service"),
                ("\u{1}.set", "malformed not-text"),
                ("\u{e9}.set", "malformed not-text"),
            ] {
                assert_eq!(heard(policy, line), Err(Some(std::format!("{answer}\n"))), "{line}");
            }
        });
    }

    #[test]
    fn a_terminal_that_echoes_does_not_talk_to_itself() {
        with_policy(|policy| {
            for line in ["plant.set 1", "plant.no", "hidden.?", "no.thing", "what", "?", "\u{1}.x"] {
                let answer = match heard(policy, line) {
                    Ok((object, rest)) => {
                        question(policy, object, rest.as_bytes()).map_err(|line| line.map(text)).unwrap_err()
                    }
                    Err(answer) => answer,
                };
                assert_eq!(heard(policy, answer.unwrap().trim_end()), Err(None), "the echo of the answer to {line}");
            }
            assert_eq!((heard(policy, ""), heard(policy, "denied site.policy:12")), (Err(None), Err(None)));
        });
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

    /// Every shape that a field can have.
    fn with_shapes<T>(act: impl FnOnce(&bulkhead_lang::Compiled, &Policy<'_>, u16) -> T) -> T {
        let site = include_str!("../../../../tests/types/shapes.policy");
        let compiled = bulkhead_lang::compile(&mut |_| Ok(site.to_string()), "site.policy").unwrap();
        act(&compiled, &Policy::verify(&compiled.table).unwrap(), compiled.object("shapes").unwrap())
    }

    #[test]
    fn values_are_read_as_the_policy_writes_them() {
        with_shapes(|compiled, policy, object| {
            for (line, call) in [
                ("numbers 1 -5 0xff -9 47.11Hz 9", "numbers(1, -5, 255, -9, 47.11 Hz, 9)"),
                ("numbers 1 -5 0xff -9 6 9", "numbers(1, -5, 255, -9, 6 Hz, 9)"),
                ("words auto manual true local|service", "words(auto, manual, true, local | service)"),
                ("words 2 1 1 5", "words(auto, manual, true, local | service)"),
                ("maybe none manual", "maybe(none, manual)"),
                ("maybe 4000 none", "maybe(4000, none)"),
                ("maybe_point {-1000, -1}", "maybe_point({-1000, -1})"),
                ("maybe_point none", "maybe_point(none)"),
                ("numbers_of []", "numbers_of([])"),
                ("numbers_of [-9,9, 3]", "numbers_of([-9, 9, 3])"),
                ("points [{1,2}, {3,-4}]", "points([{1, 2}, {3, -4}])"),
                (r#"named "a b" c.d"#, r#"named("a b", "c.d")"#),
                (r#"named "" "\x61]""#, r#"named("", "a]")"#),
                ("raw 0103fF", "raw(\"0103ff\")"),
                ("raw \"\"", "raw(\"\")"),
                ("nested {{-1,2},auto}", "nested({{-1, 2}, auto})"),
                ("nothing", "nothing()"),
            ] {
                let words = compiled.call(&std::format!("guest -> shapes.{call}")).unwrap().words;
                let question = question(policy, object, line.as_bytes()).map_err(|line| line.map(text));
                let question = question.unwrap();
                assert_eq!(question.arguments[..question.count], words, "{line}");
            }
        });
    }

    #[test]
    fn what_is_no_value_is_named() {
        with_shapes(|_, policy, object| {
            for (line, answer) in [
                ("numbers 1 -5 255 -9 47.111 9", "e-is-no-number"),
                ("numbers 1 -5 255 -9 47.11rpm 9", "e-is-no-number"),
                ("numbers 1 -5 255 -9 . 9", "e-is-no-number"),
                ("numbers 1 -5 255 -9 0x10 9", "e-is-no-number"),
                ("words automatic manual true local", "mode-is-no-word"),
                ("words auto manual true local|x", "access-is-no-flags"),
                ("maybe_point {1}", "value-is-no-record"),
                ("maybe_point {1,2,3}", "value-is-no-record"),
                ("numbers_of [1,2,3,4,5,6]", "values-is-no-list"),
                ("numbers_of [1,", "values-is-no-number"),
                ("numbers_of 1", "values-is-no-list"),
                ("numbers_of [1]2", "values-is-no-value"),
                ("named 1234567890123456789 x", "tag-is-no-text"),
                ("named \"a x", "2-arguments-expected"),
                (r#"named "\q" x"#, "tag-is-no-text"),
                ("raw 010", "frame-is-no-bytes"),
                ("raw zz", "frame-is-no-bytes"),
                ("named a", "2-arguments-expected"),
            ] {
                let said = question(policy, object, line.as_bytes()).map_err(|line| line.map(text));
                assert_eq!(said, Err(Some(std::format!("malformed {answer}\n"))), "{line}");
            }
        });
    }

    proptest::proptest! {
        #[test]
        fn no_serial_line_is_too_odd(line in proptest::collection::vec(proptest::num::u8::ANY, 0..256), rest in "[ -~]{0,40}") {
            with_policy(|policy| {
                for line in [line.clone(), std::format!("plant.{rest}").into_bytes()] {
                    let answer = match addressed(policy, &line, |object| object == PORTS) {
                        Ok((object, rest)) => question(policy, object, rest).err().flatten(),
                        Err(answer) => answer,
                    };
                    if let Some(mut answer) = answer {
                        assert!(answer.finish().iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
                    }
                }
            });
        }

        #[test]
        fn no_line_is_too_odd(method in 0_u16..12, line in "[ -~]{0,60}") {
            with_shapes(|_, policy, object| {
                let name = policy.text(policy.method(policy.object(object).unwrap(), method).unwrap().1.name);
                let _ = question(policy, object, std::format!("{name} {line}").as_bytes());
            });
        }

        #[test]
        fn what_is_answered_can_be_asked(tag in "[ -~]{0,12}", other in "[a-z]{0,8}", x in -1000_i16..=1000, y in proptest::num::i8::ANY, mode in 0_u64..3) {
            with_shapes(|_, policy, object| {
                let row = policy.object(object).unwrap();
                let shown = |method: u16, words: &[u64]| {
                    let fields = policy.fields(policy.method(row, method).unwrap().1, false);
                    let values = Values { policy, fields, words, redacted: 0, is_plain: true }.to_string();
                    // NAME=VALUE without the names is what is asked.
                    let names: Vec<&str> = values::names(policy, fields).map(|(_, name)| name).collect();
                    let line = names.iter().fold(values, |line, name| line.replacen(&std::format!(" {name}="), " ", 1));
                    let name = policy.text(policy.method(row, method).unwrap().1.name);
                    let question = question(policy, object, std::format!("{name}{line}").as_bytes());
                    assert_eq!(question.map(|question| question.arguments[..question.count].to_vec()).ok().as_deref(), Some(words), "{line}");
                };
                let chunk = |text: &str, at: usize| (at..at + 8).fold(0, |word, at| word << 8 | u64::from(text.as_bytes().get(at).copied().unwrap_or(0)));
                shown(6, &[tag.len() as u64, chunk(&tag, 0), chunk(&tag, 8), other.len() as u64, chunk(&other, 0)]);
                let (x, y) = (i64::from(x).cast_unsigned(), i64::from(y).cast_unsigned());
                shown(8, &[x, y, mode]);
                shown(3, &[1, x, y]);
                shown(5, &[1, x, y, 0, 0]);
            });
        }
    }

    #[test]
    fn answers_are_written_as_the_policy_writes_them() {
        with_shapes(|_, policy, object| {
            let of = |method| Question { method, arguments: [0; ARGUMENTS], count: 0 };
            let said = |method, words| text(answer(policy, object, &of(method), Ok(words)));
            assert_eq!(said(1, [5, 0, 0, 0, 0, 0]), "ok access=local|service\n");
            assert_eq!(said(2, [0, 0, 0, 0, 0, 0]), "ok value=none\n");
            assert_eq!(said(4, [2, 1, 2, 0, 0, 0]), "ok values=[1,2]\n");
            assert_eq!(said(5, [2, 1, 2, 0, 0, 0]), "ok values=[manual,auto]\n");
            assert_eq!(said(6, [3, 0x6122_0a00 << 32, 0, 0, 0, 0]), "ok tag=\"a\\\"\\x0a\"\n");
            assert_eq!(said(8, [1, 2, 2, 0, 0, 0]), "ok pair={{1,2},auto}\n");
            let failed = |code| text(answer(policy, object, &of(0), Err((Status::Failed, code))));
            assert_eq!((failed(1), failed(2)), ("failed not_found\n".to_string(), "failed full\n".to_string()));
            assert_eq!((failed(0), failed(3)), ("failed 0\n".to_string(), "failed 3\n".to_string()));
        });
    }

    #[test]
    fn answers_name_values_rules_and_errors() {
        with_policy(|policy| {
            let minus = (-7_i64).cast_unsigned();
            let of = |method, arguments: [u64; 2]| Question {
                method,
                arguments: [arguments[0], arguments[1], 0, 0, 0, 0],
                count: 2,
            };
            let told = |method, result| text(answer(policy, PLANT, &of(method, [7, minus]), result));
            assert_eq!(told(0, Ok([minus, 0, 0, 0, 0, 0])), "ok level=-7\n");
            assert_eq!(told(1, Ok([0; 6])), "ok\n");
            assert_eq!(told(0, Err((Status::Denied, 0))), "denied site.policy:12\n");
            assert_eq!(told(0, Err((Status::Denied, 0xffff))), "denied no-rule\n");
            assert_eq!(told(0, Err((Status::Malformed, 0xffff))), "malformed out-of-range\n");
            assert_eq!(told(0, Err((Status::Gone, 0xffff))), "gone\n");
            assert_eq!(told(0, Err((Status::TimedOut, 0xffff))), "timed-out\n");
            assert_eq!(told(0, Err((Status::Busy, 0xffff))), "busy\n");
        });
    }

    #[test]
    fn a_reason_reaches_the_caller_only_if_its_rule_says_so() {
        with_policy(|policy| {
            let question = Question { method: 0, arguments: [9, (-3_i64).cast_unsigned(), 0, 0, 0, 0], count: 2 };
            let told = |status, rule| text(answer(policy, PLANT, &question, Err((status, rule))));
            assert_eq!(told(Status::Denied, 2), "denied site.policy:14 9 rpm with trim -3 is too fast for guest\n");
            assert_eq!(told(Status::Busy, 2), "busy 9 rpm with trim -3 is too fast for guest\n");
            assert_eq!(told(Status::Denied, 3), "denied site.policy:15\n", "for records only");
        });
    }
}
