//! Running other programs: what ran, and what to say when it fails.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

/// Why a verb ended early, in one line for the user.
#[derive(Debug)]
pub(crate) struct Error(pub(crate) String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A verb's result.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// The project's root folder.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}

/// Tells the user what happens now.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// A program that runs in the project's root.
pub(crate) fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).current_dir(root());
    command
}

/// Runs a program to its end; an error names it and its status.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().map_err(|error| Error(format!("cannot start {line}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Error(format!("{line} ended with {status}"))) }
}

/// Runs a program and returns what it printed on standard output.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let line = format!("{command:?}");
    let output = command.output().map_err(|error| Error(format!("cannot start {line}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error(format!("{line} ended with {}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is on the path.
pub(crate) fn has(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}
