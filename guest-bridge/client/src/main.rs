//! `bulkhead-guest`: lists the services that the wall offers to this guest, calls one, measures one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bulkhead_client::{Error, System};
use bulkhead_wire::port::words;
use lexopt::prelude::*;

const HELP: &str = "\
bulkhead-guest: the services that the wall offers to this guest

USAGE
  bulkhead-guest list                             services and their methods
  bulkhead-guest call SERVICE METHOD [ARGUMENT…]  calls one; prints NAME=VALUE …
  bulkhead-guest bench SERVICE METHOD [ARGUMENT…] calls it again and again; prints nanoseconds a call

OPTIONS
  --count N        calls of bench (1000)
  --timeout-ms N   longest wait for an answer (2000)
  --json           one JSON object on standard output
  --serial DEVICE  a serial port that leads to all services (/dev/ttyS1), in the place of the named ports
  --sysfs DIR      where the ports are shown (/sys/class/virtio-ports)
  --dev DIR        where the devices are (/dev)
  -h, --help       this text
  -V, --version    the version

EXIT STATUS (and the errno of the same meaning)
   0 done                     13 busy, try again (EAGAIN)      17 no such service (ENODEV)
   2 wrong usage              14 the service is dead (ENXIO)   18 port already open (EBUSY)
  10 denied (EACCES)          15 timed out (ETIMEDOUT)         19 the device (EIO)
  11 malformed (EINVAL)       16 the service failed (EREMOTEIO)
  12 unknown method (ENOSYS)
";

/// What the user asked for.
struct Asked {
    words: Vec<String>,
    count: u32,
    limit: Duration,
    json: bool,
    system: System,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args_os().skip(1).collect()) {
        Ok(Some(asked)) => asked,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bulkhead-guest: {why}; see bulkhead-guest --help");
            return ExitCode::from(2);
        }
    };
    let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => list(&asked),
        ["call", service, method, arguments @ ..] => call(&asked, service, method, arguments),
        ["bench", service, method, arguments @ ..] => bench(&asked, service, method, arguments),
        _ => {
            eprintln!("bulkhead-guest: list, call SERVICE METHOD or bench SERVICE METHOD; see bulkhead-guest --help");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if asked.json {
                println!("{{\"error\": {}, \"errno\": \"{}\"}}", quoted(&error.to_string()), error.errno());
            } else {
                eprintln!("bulkhead-guest: {error} ({})", error.errno());
            }
            ExitCode::from(error.exit_status())
        }
    }
}

/// `None` after the help or the version was printed.
fn parse(arguments: Vec<OsString>) -> Result<Option<Asked>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut asked =
        Asked { words: Vec::new(), count: 1000, limit: Duration::from_secs(2), json: false, system: System::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("count") => asked.count = parser.value()?.parse()?,
            Long("timeout-ms") => asked.limit = Duration::from_millis(parser.value()?.parse()?),
            Long("json") => asked.json = true,
            Long("serial") => asked.system.serial = Some(PathBuf::from(parser.value()?)),
            Long("sysfs") => asked.system.ports = PathBuf::from(parser.value()?),
            Long("dev") => asked.system.devices = PathBuf::from(parser.value()?),
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Short('V') | Long("version") => {
                println!("bulkhead-guest {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            // From the first word on, everything is the call's: arguments may be negative numbers.
            Value(word) => {
                asked.words.push(word.string()?);
                if asked.words.len() == 3 || asked.words.first().is_some_and(|verb| verb == "list") {
                    for word in parser.raw_args()? {
                        let word = word.string()?;
                        match word.as_str() {
                            "--json" => asked.json = true,
                            _ => asked.words.push(word),
                        }
                    }
                }
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(asked))
}

fn list(asked: &Asked) -> Result<(), Error> {
    let services = asked.system.services(asked.limit)?;
    let mut rows = Vec::new();
    for (name, _) in &services {
        let methods = asked.system.open(name, asked.limit).and_then(|mut port| port.call("?", &[]));
        rows.push((name, methods.unwrap_or_else(|error| format!("({error})"))));
    }
    if asked.json {
        let rows: Vec<String> =
            rows.iter().map(|(name, methods)| format!("{}: {}", quoted(name), quoted(methods))).collect();
        println!("{{{}}}", rows.join(", "));
    } else {
        rows.iter().for_each(|(name, methods)| println!("{name}: {methods}"));
    }
    Ok(())
}

fn call(asked: &Asked, service: &str, method: &str, arguments: &[&str]) -> Result<(), Error> {
    let values = asked.system.open(service, asked.limit)?.call(method, arguments)?;
    if asked.json {
        let pairs = words(&values).filter_map(|pair| pair.split_once('='));
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{}: {}", quoted(name), json(value))).collect();
        println!("{{{}}}", pairs.join(", "));
    } else {
        println!("{values}");
    }
    Ok(())
}

fn bench(asked: &Asked, service: &str, method: &str, arguments: &[&str]) -> Result<(), Error> {
    let mut port = asked.system.open(service, asked.limit)?;
    port.call(method, arguments)?;
    let mut fastest = Duration::MAX;
    let start = Instant::now();
    for _ in 0..asked.count {
        let turn = Instant::now();
        port.call(method, arguments)?;
        fastest = fastest.min(turn.elapsed());
    }
    let mean = start.elapsed().checked_div(asked.count).unwrap_or_default().as_nanos();
    let fastest = fastest.as_nanos();
    if asked.json {
        println!("{{\"calls\": {}, \"mean_ns\": {mean}, \"fastest_ns\": {fastest}}}", asked.count);
    } else {
        println!("{} calls, {mean} ns a call, the fastest {fastest} ns", asked.count);
    }
    Ok(())
}

/// A value of an answer: numbers and truth values as they are, lists as arrays, all else as a string.
fn json(value: &str) -> String {
    let is_whole = |text: &str| text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
    let is_fraction = |(whole, rest): (&str, &str)| {
        is_whole(whole) && !rest.is_empty() && rest.bytes().all(|digit| digit.is_ascii_digit())
    };
    let is_number = is_whole(value) || value.split_once('.').is_some_and(is_fraction);
    if is_number || matches!(value, "true" | "false") {
        return value.to_string();
    }
    if value == "none" {
        return "null".to_string();
    }
    let inside = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
    if let Some(inside) = inside.filter(|inside| !inside.contains(['{', '[', '"'])) {
        let elements = inside.split(',').filter(|element| !element.is_empty()).map(json);
        return format!("[{}]", elements.collect::<Vec<_>>().join(", "));
    }
    quoted(&unescaped(value))
}

/// A text without its quotes, and with the characters that stood as `\"`, `\\` and `\xff`.
fn unescaped(value: &str) -> String {
    let Some(inside) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_string();
    };
    let (mut bytes, mut rest) = (Vec::new(), inside);
    while let Some(first) = rest.chars().next() {
        let hex = rest.strip_prefix("\\x").and_then(|rest| rest.get(..2));
        if let Some(byte) = hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = rest.get(4..).unwrap_or_default();
            continue;
        }
        let escaped = if first == '\\' { rest.chars().nth(1) } else { None };
        let taken = escaped.map_or(first.len_utf8(), |next| 1 + next.len_utf8());
        bytes.extend(escaped.unwrap_or(first).to_string().bytes());
        rest = rest.get(taken..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A JSON string; the protocol's lines are plain ASCII.
fn quoted(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}
