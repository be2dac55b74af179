//! The command against a port that a thread serves on a pseudo-terminal.
#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// A folder with one port called `plant`, whose lines `answer` answers.
fn system(name: &str, answer: fn(&str) -> String) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("ports/vport0p1")).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::write(root.join("ports/vport0p1/name"), "plant\n").unwrap();
    let pty: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&pty).unwrap();
    unlockpt(&pty).unwrap();
    let mut mode = tcgetattr(&pty).unwrap();
    mode.make_raw();
    tcsetattr(&pty, OptionalActions::Now, &mode).unwrap();
    symlink(ptsname(&pty, Vec::new()).unwrap().to_str().unwrap(), root.join("dev/vport0p1")).unwrap();
    // Kept open, so that the terminal lives on between two programs.
    let held = File::options().read(true).write(true).open(root.join("dev/vport0p1")).unwrap();
    thread::spawn(move || {
        let _held = held;
        let mut pty = File::from(pty);
        let (mut line, mut byte) = (Vec::new(), [0]);
        while pty.read(&mut byte).is_ok_and(|count| count == 1) {
            if byte[0] != b'\n' {
                line.push(byte[0]);
                continue;
            }
            let reply = answer(&String::from_utf8_lossy(&line));
            pty.write_all(reply.as_bytes()).unwrap();
            line.clear();
        }
    });
    root
}

/// As a serial port of the wall answers.
fn serial(line: &str) -> String {
    match line.split_once('.') {
        None if line == "?" => "ok plant clock\n".to_string(),
        Some(("plant", rest)) => plant(rest),
        Some((service, _)) => format!("unknown service {service}\n"),
        None => "malformed no-service\n".to_string(),
    }
}

#[test]
fn all_services_are_behind_one_serial_port() {
    let root = system("serial", serial);
    let device = root.join("dev/vport0p1");
    let device = device.to_str().unwrap();
    let said = |words: &[&str]| {
        let words = [&["--serial", device], words].concat();
        let output = guest(Path::new("/nowhere"), &words);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(said(&["call", "plant", "level"]), (Some(0), "millimetres=1000\n".to_string()));
    assert_eq!(
        said(&["list"]).1,
        "clock: (no service `clock`: the policy gives this guest none of this name)\nplant: level() set_pump(rpm)\n"
    );
    for (words, status) in [
        (&["call", "plant", "set_pump", "2900"][..], 10),
        (&["call", "plant", "explode"], 12),
        (&["call", "plant", "silence"], 15),
        (&["call", "nothing", "level"], 17),
    ] {
        assert_eq!(said(words).0, Some(status), "{words:?}");
    }
    let held = File::options().read(true).write(true).open(device).unwrap();
    held.lock().unwrap();
    assert_eq!(said(&["call", "plant", "level"]).0, Some(18), "another program has it");
    let output = guest(Path::new("/nowhere"), &["--serial", "/dev/null", "list"]);
    assert_eq!(output.status.code(), Some(19), "no terminal");
}

fn guest(root: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead-guest"));
    command.arg("--sysfs").arg(root.join("ports")).arg("--dev").arg(root.join("dev"));
    command.args(["--timeout-ms", "500"]).args(words).output().unwrap()
}

fn plant(line: &str) -> String {
    match line {
        "?" => "ok level() set_pump(rpm)\n".to_string(),
        "level" => "ok millimetres=1000\n".to_string(),
        "all" => "ok on=true speed=-47.11 mode=auto name=\"a \\\"b\\\" \\x0a\" l=[1,2] m=[auto] p={1,2} o=none big=18446744073709551615\n".to_string(),
        "set_pump -5" => "malformed rpm-is-no-number\n".to_string(),
        "set_pump 2900" => "denied site.policy:12\n".to_string(),
        "set_pump 1005" => "denied site.policy:13 the pipe resonates at 1005 rpm\n".to_string(),
        "set_pump 7" => "busy not so often\n".to_string(),
        "silence" => String::new(),
        "busy" | "gone" | "timed-out" => format!("{line}\n"),
        "failed" => "failed 7\n".to_string(),
        "noise" => "x".repeat(1000),
        _ => format!("unknown {line}\n"),
    }
}

#[test]
fn services_are_listed_and_called() {
    let root = system("called", plant);
    let said = guest(&root, &["list"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "plant: level() set_pump(rpm)\n");
    let said = guest(&root, &["call", "plant", "level"]);
    assert_eq!((said.status.code(), String::from_utf8_lossy(&said.stdout).as_ref()), (Some(0), "millimetres=1000\n"));
    let said = guest(&root, &["--json", "call", "plant", "level"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "{\"millimetres\": 1000}\n");
    let said = guest(&root, &["--json", "call", "plant", "all"]);
    let wanted = "{\"on\": true, \"speed\": -47.11, \"mode\": \"auto\", \"name\": \"a \\\"b\\\"  \", \"l\": [1, 2], \"m\": [\"auto\"], \
        \"p\": \"{1,2}\", \"o\": null, \"big\": 18446744073709551615}\n";
    assert_eq!(String::from_utf8_lossy(&said.stdout), wanted);
    let said = guest(&root, &["--count", "5", "bench", "plant", "level"]);
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("5 calls, "));
}

#[test]
fn the_exit_status_tells_refusals_apart() {
    let root = system("statuses", plant);
    for (words, status) in [
        (&["call", "plant", "set_pump", "2900"][..], 10),
        (&["call", "plant", "set_pump", "-5"], 11),
        (&["call", "plant", "explode"], 12),
        (&["call", "plant", "busy"], 13),
        (&["call", "plant", "gone"], 14),
        (&["call", "plant", "timed-out"], 15),
        (&["call", "plant", "silence"], 15),
        (&["call", "plant", "failed"], 16),
        (&["call", "nothing", "level"], 17),
        (&["call", "plant", "noise"], 19),
        (&["call", "plant"], 2),
        (&["--colour", "list"], 2),
    ] {
        let said = guest(&root, words);
        assert_eq!(said.status.code(), Some(status), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
    }
}

#[test]
fn a_reason_that_the_policy_tells_is_shown() {
    let root = system("reasons", plant);
    let said =
        |rpm: &str| String::from_utf8_lossy(&guest(&root, &["call", "plant", "set_pump", rpm]).stderr).into_owned();
    assert!(said("1005").contains("denied by the policy (site.policy:13): the pipe resonates at 1005 rpm (EACCES)"));
    assert!(said("2900").contains("denied by the policy (site.policy:12) (EACCES)"));
    assert!(said("7").contains("busy, try again: not so often (EAGAIN)"));
}

#[test]
fn without_the_driver_the_error_is_the_devices() {
    let said = guest(Path::new("/nowhere"), &["list"]);
    assert_eq!(said.status.code(), Some(19));
    assert!(String::from_utf8_lossy(&said.stderr).contains("No such file"));
}
