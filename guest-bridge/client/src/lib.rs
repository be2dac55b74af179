//! The guest's library: services are named ports of a virtio console, found in sysfs, and carry lines (`bulkhead-wire`).
//! It needs no udev and no daemon; any Linux since 2.6.36 with the virtio console driver will do. Where there is none, all
//! services are behind one serial port.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_wire::port::LINE_MAX;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};

/// Where the guest's kernel shows ports and devices; another root is for tests.
#[derive(Clone, Debug)]
pub struct System {
    /// `/sys/class/virtio-ports`
    pub ports: PathBuf,
    /// `/dev`
    pub devices: PathBuf,
    /// The serial port that leads to all services, in the place of the named ports.
    pub serial: Option<PathBuf>,
}

impl Default for System {
    fn default() -> Self {
        Self { ports: "/sys/class/virtio-ports".into(), devices: "/dev".into(), serial: None }
    }
}

/// Why a call gave no values.
#[derive(Debug)]
pub enum Error {
    /// There is no port of this name: the policy declares no such service for this guest.
    NoService(String),
    /// Another program has the port open.
    InUse,
    /// The policy refuses; the rule, or "no-rule", and the reason if the policy tells it.
    Denied(String),
    /// The line does not fit the service's interface.
    Malformed(String),
    /// The service has no such method.
    Unknown(String),
    /// Not now; the reason if the policy tells it.
    Busy(String),
    /// The service is dead.
    Gone,
    /// Not finished in time: by the wall, or by this side's own limit.
    TimedOut,
    /// The service's own error code.
    Failed(String),
    /// The device, or an answer that is no line of the protocol.
    Io(io::Error),
}

impl Error {
    /// The exit status that tells it apart.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Denied(_) => 10,
            Self::Malformed(_) => 11,
            Self::Unknown(_) => 12,
            Self::Busy(_) => 13,
            Self::Gone => 14,
            Self::TimedOut => 15,
            Self::Failed(_) => 16,
            Self::NoService(_) => 17,
            Self::InUse => 18,
            Self::Io(_) => 19,
        }
    }

    /// The errno that a C program would return for it.
    #[must_use]
    pub const fn errno(&self) -> &'static str {
        match self {
            Self::Denied(_) => "EACCES",
            Self::Malformed(_) => "EINVAL",
            Self::Unknown(_) => "ENOSYS",
            Self::Busy(_) => "EAGAIN",
            Self::Gone => "ENXIO",
            Self::TimedOut => "ETIMEDOUT",
            Self::Failed(_) => "EREMOTEIO",
            Self::NoService(_) => "ENODEV",
            Self::InUse => "EBUSY",
            Self::Io(_) => "EIO",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoService(name) => write!(f, "no service `{name}`: the policy gives this guest none of this name"),
            Self::InUse => f.write_str("another program has the port open"),
            Self::Denied(told) => match told.split_once(' ') {
                Some((rule, reason)) => write!(f, "denied by the policy ({rule}): {reason}"),
                None => write!(f, "denied by the policy ({told})"),
            },
            Self::Malformed(why) => write!(f, "malformed: {why}"),
            Self::Unknown(what) => write!(f, "unknown method: {what}"),
            Self::Busy(reason) if reason.is_empty() => f.write_str("busy, try again"),
            Self::Busy(reason) => write!(f, "busy, try again: {reason}"),
            Self::Gone => f.write_str("the service is dead"),
            Self::TimedOut => f.write_str("not finished in time; its outcome is unknown"),
            Self::Failed(code) => write!(f, "the service failed with {code}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::ResourceBusy { Self::InUse } else { Self::Io(error) }
    }
}

impl System {
    /// The names of all services, sorted, each with its device file.
    ///
    /// # Errors
    /// [`Error::Io`] if sysfs shows no ports at all: the driver is not loaded, or there is no wall; what a serial port answers.
    pub fn services(&self, limit: Duration) -> Result<Vec<(String, PathBuf)>, Error> {
        let mut all = Vec::new();
        if let Some(device) = &self.serial {
            let names = Port::serial(device, "", limit)?.ask("?")?;
            all.extend(names.split_whitespace().map(|name| (name.to_string(), device.clone())));
            all.sort();
            return Ok(all);
        }
        for entry in fs::read_dir(&self.ports)? {
            let path = entry?.path();
            let Ok(name) = fs::read_to_string(path.join("name")) else { continue };
            let device = path.file_name().map(|file| self.devices.join(file)).unwrap_or_default();
            all.push((name.trim_end().to_string(), device));
        }
        all.sort();
        Ok(all)
    }

    /// Opens a service's port.
    ///
    /// # Errors
    /// [`Error::NoService`], [`Error::InUse`], [`Error::Io`].
    pub fn open(&self, service: &str, limit: Duration) -> Result<Port, Error> {
        if let Some(device) = &self.serial {
            return Port::serial(device, service, limit);
        }
        let found = self.services(limit)?.into_iter().find(|(name, _)| name == service);
        let (_, device) = found.ok_or_else(|| Error::NoService(service.to_string()))?;
        Port::open(&device, limit)
    }
}

/// An open port: one request at a time.
#[derive(Debug)]
pub struct Port {
    file: File,
    limit: Duration,
    rest: Vec<u8>,
    /// What stands before a method: on a serial port the service.
    prefix: String,
}

impl Port {
    /// Opens a device file; calls end after `limit`.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Io`].
    pub fn open(device: &Path, limit: Duration) -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(device)?;
        Ok(Self { file, limit, rest: Vec::new(), prefix: String::new() })
    }

    /// Opens a serial port for one service: without echo or anything else that a terminal does to lines. Other programs that do so
    /// at the same time find it in use.
    ///
    /// # Errors
    /// As [`Port::open`]; and of what is no terminal.
    pub fn serial(device: &Path, service: &str, limit: Duration) -> Result<Self, Error> {
        const NO_CONTROLLING_TERMINAL: i32 = 0o400;
        let file = OpenOptions::new().read(true).write(true).custom_flags(NO_CONTROLLING_TERMINAL).open(device)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut mode = tcgetattr(&file).map_err(io::Error::from)?;
        mode.make_raw();
        tcsetattr(&file, OptionalActions::Now, &mode).map_err(io::Error::from)?;
        // What an earlier program did not read is nobody's answer.
        tcflush(&file, QueueSelector::IFlush).map_err(io::Error::from)?;
        Ok(Self { file, limit, rest: Vec::new(), prefix: format!("{service}.") })
    }

    /// Calls a method; the values of the answer as they stand in its line: `NAME=VALUE …`.
    ///
    /// # Errors
    /// [`Error`] tells refused, unknown, dead and late apart.
    pub fn call(&mut self, method: &str, arguments: &[&str]) -> Result<String, Error> {
        let line = [&[method], arguments].concat().join(" ");
        self.ask(&format!("{}{line}", self.prefix))
    }

    /// Sends a line as it is.
    fn ask(&mut self, line: &str) -> Result<String, Error> {
        if line.contains(['\n', '\r']) {
            return Err(Error::Malformed("a request is one line".to_string()));
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        let answer = self.line()?;
        let (word, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
        let rest = rest.to_string();
        Err(match word {
            "ok" => return Ok(rest),
            "denied" => Error::Denied(rest),
            "malformed" => Error::Malformed(rest),
            "unknown" => match rest.strip_prefix("service ") {
                Some(name) => Error::NoService(name.to_string()),
                None => Error::Unknown(rest),
            },
            "busy" => Error::Busy(rest),
            "gone" => Error::Gone,
            "timed-out" => Error::TimedOut,
            "failed" => Error::Failed(rest),
            _ => Error::Io(io::Error::new(io::ErrorKind::InvalidData, format!("no answer of the protocol: {answer}"))),
        })
    }

    /// The next line; reads no more than a line may hold before it gives up.
    fn line(&mut self) -> Result<String, Error> {
        let end = Instant::now() + self.limit;
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_string());
            }
            if self.rest.len() > LINE_MAX {
                return Err(Error::Io(io::Error::new(io::ErrorKind::InvalidData, "an answer without an end")));
            }
            let left = end.saturating_duration_since(Instant::now());
            let wait = Timespec::try_from(left).map_err(|_| Error::TimedOut)?;
            let mut watched = [PollFd::new(&self.file, PollFlags::IN)];
            if left.is_zero() || poll(&mut watched, Some(&wait)).map_err(io::Error::from)? == 0 {
                return Err(Error::TimedOut);
            }
            let mut piece = [0; LINE_MAX];
            match self.file.read(&mut piece)? {
                0 => return Err(Error::Gone),
                count => self.rest.extend_from_slice(piece.get(..count).unwrap_or_default()),
            }
        }
    }
}
