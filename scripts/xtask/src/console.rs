//! The emulator's two streams, told apart for a person: the guest's console, and the console of wall and secure side.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::command::{Error, Result, step};

/// What was said.
pub(crate) struct Output {
    /// By the guest.
    pub(crate) guest: String,
    /// By loader, wall and secure side (and the emulator, if it has something to say).
    pub(crate) wall: String,
}

/// What is printed while the emulator runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Show {
    /// Everything, behind prefixes.
    #[default]
    All,
    /// The guest's lines as they are.
    Guest,
    /// Nothing: the caller reads the output.
    Nothing,
}

/// Runs the emulator to its end. Each line is printed as it comes, behind a prefix that says whose it is; on a terminal in
/// colour. Without `batch` the guest's console is the user's own terminal.
pub(crate) fn run(mut command: Command, batch: bool, what: Show) -> Result<Output> {
    let failed = |error| Error(format!("cannot start the emulator: {error}"));
    let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    command.stderr(Stdio::piped());
    if batch {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
    } else if std::io::stdin().is_terminal() {
        step("the terminal is the guest's; 'poweroff -f' in its shell ends it, ctrl-a x ends the emulator");
    }
    let mut child = command.spawn().map_err(failed)?;
    let lost = || Error("the emulator's output was lost".to_string());
    let errors = child.stderr.take().ok_or_else(lost)?;
    // A person's terminal is in raw mode while the guest uses it.
    let end = if batch { "\n" } else { "\r\n" };
    let wall = thread::spawn(move || {
        gather(errors, |line| {
            if what == Show::All || line.starts_with("qemu") {
                show(line, has_colour, end);
            }
        })
    });
    let each = move |line: &str| match what {
        Show::All => show(&format!("guest: {line}"), has_colour, end),
        Show::Guest => println!("{line}"),
        Show::Nothing => {}
    };
    let guest = child.stdout.take().map(|output| thread::spawn(move || gather(output, each)));
    let status = child.wait().map_err(|error| Error(format!("the emulator was lost: {error}")))?;
    let wall = wall.join().map_err(|_| lost())?;
    let guest = guest.map_or(Ok(String::new()), |reader| reader.join().map_err(|_| lost()))?;
    if status.success() {
        return Ok(Output { guest, wall });
    }
    Err(Error(format!("the emulator ended with {status} (124: time limit)")))
}

/// Reads lines to the end; what is no UTF-8 is replaced.
fn gather(stream: impl Read, mut each: impl FnMut(&str)) -> String {
    let mut all = String::new();
    for line in BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        each(line);
        all.push_str(line);
        all.push('\n');
    }
    all
}

/// Whose lines, with the colours of ECMA-48.
const SPEAKERS: [(&str, &str); 4] = [("loader", "35"), ("wall", "36"), ("secure", "32"), ("guest", "33")];

fn show(line: &str, has_colour: bool, end: &str) {
    let found = SPEAKERS.iter().find_map(|(name, colour)| {
        let rest = line.strip_prefix(name)?.strip_prefix(": ").or(line.strip_prefix(name)?.strip_prefix(':'))?;
        Some((*name, *colour, rest))
    });
    let (name, colour, rest) = found.unwrap_or(("qemu", "31", line));
    let mut out = std::io::stdout().lock();
    // Nobody to tell if standard output is gone.
    let _ = if has_colour {
        write!(out, "\x1b[{colour}m{name:>6} |\x1b[0m {rest}{end}")
    } else {
        write!(out, "{name:>6} | {rest}{end}")
    };
    let _ = out.flush();
}
