//! `bulkhead check` with what it prints besides the findings.

mod common;

use std::io::Read;
use std::process::{Command, Stdio};

use common::{bulkhead, demo};

#[test]
fn each_decisions_cost_is_printed_the_dearest_first() {
    let output = bulkhead(&["check", "--cost", "--arch", "x86_64"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let mut lines = said.lines().skip_while(|line| !line.ends_with("decision"));
    assert_eq!(lines.next().map(|head| head.split_whitespace().count()), Some(5), "{said}");
    let numbers = |line: &str| -> Vec<usize> { line.split_whitespace().map_while(|word| word.parse().ok()).collect() };
    let all: Vec<(Vec<usize>, &str)> = lines.map(|line| (numbers(line), line)).collect();
    assert!(all.len() > 10, "{said}");
    for (numbers, line) in &all {
        let [steps, rows, tests, instructions] = numbers[..] else { panic!("{line}") };
        assert!(steps == rows + tests + instructions && rows > 0, "{line}");
    }
    assert!(all.is_sorted_by(|(one, _), (next, _)| one[0] >= next[0]), "{said}");
    assert!(all.iter().any(|(_, line)| line.ends_with("guest -> plant.set_pump")), "{said}");
    // The same as JSON.
    let output = bulkhead(&["--json", "check", "--cost", "--arch", "x86_64"]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let costs = facts["cost"].as_array().expect("a list");
    assert_eq!(costs.len(), all.len());
    for (cost, (numbers, line)) in costs.iter().zip(&all) {
        assert_eq!(cost["steps"], numbers[0], "{line}");
        assert!(line.ends_with(cost["decision"].as_str().expect("text")), "{line}");
    }
    let output = bulkhead(&["--json", "check", "--arch", "x86_64"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("\"cost\""), "only where it is asked for");
}

#[test]
fn a_reader_that_has_had_enough_is_no_fault() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["check", "--table", "--cost"])
        .current_dir(demo())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command runs");
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut told).expect("text");
    let status = child.wait().expect("it ends");
    assert!(told.is_empty() && status.code() == Some(141), "{told}{status}");
}
