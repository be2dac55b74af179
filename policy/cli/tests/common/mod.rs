//! What the tests of the command have in common.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) const BOUNDED: &str = "edition 1\npolicy p\ninterface I {\n    method set(rpm: u16 in 0..3000, mode: u8 in 0..3) -> ()\n\
    method go(a: u8) -> ()\n}\napp x\nservice s: I by x\ncounter c in 0..5\nallow guest s.set when rpm in 0..2400\n\
    deny guest s.set when rpm in 1000..1010\nallow guest s.go when a * 2 < 20 and c < 3 then count c\n";

pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sites/demo")
}

pub(crate) fn bulkhead(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead")).args(words).current_dir(demo()).output().expect("the command runs")
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder of its own with one file `site.policy`.
pub(crate) fn site(name: &str, policy: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    std::fs::write(folder.join("site.policy"), policy).expect("the file is written");
    folder
}
