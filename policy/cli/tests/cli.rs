//! The command as its users meet it: output, exit status, JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sites/demo")
}

fn bulkhead(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead")).args(words).current_dir(demo()).output().expect("the command runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn explain(call: &str) -> (Option<i32>, String) {
    let output = bulkhead(&["explain", call]);
    (output.status.code(), text(&output))
}

#[test]
fn the_demonstrations_policy_is_sound() {
    let output = bulkhead(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("demo: "), "{}", text(&output));
}

#[test]
fn an_allowed_call_names_its_rule_and_a_refused_one_says_why() {
    let (code, said) = explain("guest -> historian.append(120, 5)");
    assert!(code == Some(0) && said.contains("allowed") && said.contains("site.policy:"), "{said}");
    let (code, said) = explain("guest -> historian.append(7, 5)");
    assert!(code == Some(1) && said.contains("no rule") && said.contains("tag in 100..199"), "{said}");
    let (code, said) = explain("guest -> plant.set_pump(1005)");
    assert!(code == Some(1) && said.contains("because the tank's inlet pipe resonates"), "{said}");
    let (code, said) = explain("guest -> plant.set_pump(9999)");
    assert!(code == Some(1) && said.contains("it takes (rpm in 0..3000)"), "{said}");
    let (code, said) = explain("guest -> plant.drain(true)");
    assert!(code == Some(1) && said.contains("no rule names this method for guest"), "{said}");
}

#[test]
fn what_is_no_call_gets_the_remedy_and_status_two() {
    for (call, remedy) in [
        ("guest historian.append(1)", "write it as"),
        ("gest -> historian.append(1)", "did you mean `guest`?"),
        ("guest -> historian.apend(1)", "did you mean `append`?"),
        ("guest -> plant.set_pump(fast)", "is no value of `rpm`"),
    ] {
        let (code, said) = explain(call);
        assert!(code == Some(2) && said.contains(remedy), "{call}: {said}");
    }
    let output = bulkhead(&["check", "/nowhere"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("there is no site.policy"), "{}", text(&output));
}

#[test]
fn errors_in_a_policy_are_shown_with_status_one_also_as_json() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("site.policy"), "edition 1\npolicy p\nallow gest psci.off\n").expect("a file");
    let site = folder.display().to_string();
    let output = bulkhead(&["check", &site]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("site.policy:3:7") && text(&output).contains("did you mean `guest`?"),
        "{}",
        text(&output)
    );
    let output = bulkhead(&["--json", "check", &site]);
    assert!(output.status.code() == Some(1) && text(&output).contains("\"line\":3"), "{}", text(&output));
}

#[test]
fn the_compiled_table_is_what_the_monitor_takes() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.table");
    let output = bulkhead(&["compile", "--output", &path.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let table = std::fs::read(path).expect("it was written");
    assert!(bulkhead_model::Policy::verify(&table).is_ok());
    let output = bulkhead(&["--json", "explain", "guest -> clock.now()"]);
    assert!(text(&output).contains("\"verdict\":\"allowed\""), "{}", text(&output));
}
