//! The emulator's two streams, told apart for a person: the guest's console, and the console of wall and secure side.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

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

/// Where the wall speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Alone, on the emulator's standard error; the guest has its standard output.
    Alone,
    /// On the emulator's standard output, among the emulator's own words: only lines with a speaker's name count.
    InNoise,
}

/// Where an emulator's two sides speak, and how it ends.
pub(crate) struct Streams {
    /// Loader, wall and secure side.
    pub(crate) wall: Speaks,
    /// The file that the guest's console is written to, if it is one.
    pub(crate) guest: Option<PathBuf>,
    /// The statuses of a machine that was powered off.
    pub(crate) good_ends: &'static [i32],
}

impl Streams {
    /// QEMU's.
    pub(crate) const QEMU: Self = Self { wall: Speaks::Alone, guest: None, good_ends: &[0] };
}

/// Runs the emulator to its end. Each line is printed as it comes, behind a prefix that says whose it is; on a terminal in
/// colour. Without `batch` the guest's console is the user's own terminal. A line of the wall's side with the words of `until` ends it, and well.
pub(crate) fn run(
    mut command: Command,
    streams: Streams,
    batch: bool,
    what: Show,
    until: Option<&str>,
) -> Result<Output> {
    let failed = |error| Error(format!("cannot start the emulator: {error}"));
    let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let is_noisy = streams.wall == Speaks::InNoise;
    if batch || is_noisy {
        command.stdin(Stdio::null());
    } else if std::io::stdin().is_terminal() {
        step("the terminal is the guest's; 'poweroff -f' in its shell ends it, ctrl-a x ends the emulator");
    }
    if batch || is_noisy {
        command.stdout(Stdio::piped());
    }
    command.stderr(if is_noisy { Stdio::null() } else { Stdio::piped() });
    let mut child = command.spawn().map_err(failed)?;
    let lost = || Error("the emulator's output was lost".to_string());
    // A person's terminal is in raw mode while the guest uses it.
    let end = if batch { "\n" } else { "\r\n" };
    let has_come = Arc::new(AtomicBool::new(false));
    let (emulator, until, comes) = (child.id().to_string(), until.map(str::to_string), Arc::clone(&has_come));
    let told = move |line: &str| {
        let is_last = until.as_ref().is_some_and(|words| line.contains(words));
        if is_last && !comes.swap(true, Ordering::AcqRel) {
            // A program that limits the emulator's time passes the signal on.
            let _ = Command::new("kill").arg(&emulator).status();
        }
        if what == Show::All {
            show(line, has_colour, end);
        } else if line.starts_with("qemu") {
            // Standard output is the guest's, or a figure's reader's.
            eprint!("{line}{end}");
        }
    };
    let each = move |line: &str| match what {
        Show::All => show(&format!("guest: {line}"), has_colour, end),
        Show::Guest => println!("{line}"),
        Show::Nothing => {}
    };
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let wall = thread::spawn(move || match (output, errors, is_noisy) {
        (Some(output), _, true) => (gather(output, is_speech, told), String::new()),
        (output, Some(errors), _) => thread::scope(|scope| {
            let guest = output.map(|output| scope.spawn(|| gather(output, |_| true, each)));
            let wall = gather(errors, |_| true, told);
            (wall, guest.map_or(Ok(String::new()), thread::ScopedJoinHandle::join).unwrap_or_default())
        }),
        _ => (String::new(), String::new()),
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let file = streams.guest.map(|path| {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || File::open(path).map(|file| gather(Growing { file, is_over }, |_| true, each)))
    });
    let status = child.wait().map_err(|error| Error(format!("the emulator was lost: {error}")))?;
    is_over.store(true, Ordering::Release);
    let (wall, piped) = wall.join().map_err(|_| lost())?;
    let guest = match file {
        Some(reader) => reader.join().map_err(|_| lost())?.map_err(|_| lost())?,
        None => piped,
    };
    let is_good = status.code().is_some_and(|code| streams.good_ends.contains(&code));
    if is_good || has_come.load(Ordering::Acquire) {
        return Ok(Output { guest, wall });
    }
    Err(Error(format!("the emulator ended with {status} (124: time limit)")))
}

/// A file that somebody else writes to: read until it grows no more and its writer is gone.
struct Growing {
    file: File,
    is_over: Arc<AtomicBool>,
}

impl Read for Growing {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let is_over = self.is_over.load(Ordering::Acquire);
            let count = self.file.read(into)?;
            if count > 0 || is_over {
                return Ok(count);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a line is the loader's, the wall's or the secure side's.
fn is_speech(line: &str) -> bool {
    SPEAKERS.iter().any(|(name, _)| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
}

/// Reads lines to the end and keeps those that are wanted; what is no UTF-8 is replaced.
fn gather(stream: impl Read, is_wanted: impl Fn(&str) -> bool, mut each: impl FnMut(&str)) -> String {
    let mut all = String::new();
    for line in BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if !is_wanted(line) {
            continue;
        }
        let line = plain(line);
        each(&line);
        all.push_str(&line);
        all.push('\n');
    }
    all
}

/// A line without control sequences (ECMA-48 §5.4: CSI, parameters, one final letter) and other control characters: a firmware clears
/// the screen, and a guest could do anything to the reader's terminal.
fn plain(line: &str) -> String {
    let mut letters = line.chars().peekable();
    let mut plain = String::with_capacity(line.len());
    while let Some(letter) = letters.next() {
        if letter == '\x1b' && letters.next_if_eq(&'[').is_some() {
            while letters.next_if(|letter| (' '..='?').contains(letter)).is_some() {}
            letters.next();
        } else if letter == '\t' || !letter.is_control() {
            plain.push(letter);
        }
    }
    plain
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_emulators_noise_only_the_walls_lines_are_kept() {
        let said = "Next at t=0\n(0) [0x0000fffffff0] f000:fff0\nloader: up\r\nwallpaper\nwall: up\nsecure:clock: x\n";
        assert_eq!(gather(said.as_bytes(), is_speech, |_| {}), "loader: up\nwall: up\nsecure:clock: x\n");
    }

    #[test]
    fn a_line_cannot_reach_the_readers_terminal() {
        let said = "\x1b[2J\x1b[01;01H\x1b[=3hBds\tDxe\x07: \x1b]0;title\x1b[0mé\x1b\u{9b}\n\x1b[31";
        assert_eq!(gather(said.as_bytes(), |_| true, |_| {}), "Bds\tDxe: ]0;titleé\n\n");
    }

    #[test]
    fn a_file_is_read_to_the_end_of_its_writer() {
        let path = std::env::temp_dir().join(format!("growing-{}", std::process::id()));
        std::fs::write(&path, "one\n").unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let growing = Growing { file: File::open(&path).unwrap(), is_over: Arc::clone(&is_over) };
        let reader = thread::spawn(move || gather(growing, |_| true, |_| {}));
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"two\n").unwrap();
        is_over.store(true, Ordering::Release);
        assert_eq!(reader.join().unwrap(), "one\ntwo\n");
        let _ = std::fs::remove_file(&path);
    }
}
