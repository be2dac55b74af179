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
        ("guest historian.append(1)", "SUBJECT -> OBJECT.METHOD(VALUE, VALUE)"),
        ("gest -> historian.append(1)", "did you mean `guest`?"),
        ("guest -> historian.apend(1)", "did you mean `append`?"),
        ("guest -> plant.set_pump(fast)", "no value of `rpm` called `fast`"),
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

fn policies() -> Vec<PathBuf> {
    let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let inside =
        |name: &str| std::fs::read_dir(folder(name)).expect("a folder").map(|entry| entry.expect("an entry").path());
    inside("examples").chain(inside("sites")).collect()
}

#[test]
fn every_example_passes_its_tests_which_reach_every_rule() {
    let examples = policies().into_iter().filter(|path| path.to_string_lossy().contains("examples"));
    let mut count = 0;
    for example in examples {
        let output = bulkhead(&["test", &example.to_string_lossy(), "--min-coverage", "100"]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", example.display(), text(&output));
        count += 1;
    }
    assert!(count >= 7, "{count} examples");
}

#[test]
fn every_policy_of_the_project_is_in_the_one_form() {
    for site in policies() {
        let output = bulkhead(&["fmt", "--check", &site.to_string_lossy()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
}

/// A folder of its own with one file `site.policy`.
fn site(name: &str, policy: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    std::fs::write(folder.join("site.policy"), policy).expect("the file is written");
    folder
}

const LOOSE: &str = "edition 1\npolicy p\ninterface I {\nmethod m( a:u8 )->()\n}\napp x\nservice s:I by x\n\
    // why\nallow guest s.m when a in 1 .. 5\n      audit\ntest \"t\" {\nguest->s.m(5) allowed recorded\nguest -> s.m(6) allowed\n}\n";

#[test]
fn formatting_changes_no_byte_of_the_table_and_is_done_once() {
    let folder = site("loose", LOOSE);
    let compiled = |name: &str| {
        let path = folder.join(name);
        let output = bulkhead(&["compile", &folder.to_string_lossy(), "-o", &path.to_string_lossy()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        std::fs::read(path).unwrap()
    };
    let before = compiled("before");
    assert_eq!(bulkhead(&["fmt", "--check", &folder.to_string_lossy()]).status.code(), Some(1));
    assert_eq!(bulkhead(&["fmt", &folder.to_string_lossy()]).status.code(), Some(0));
    assert_eq!(bulkhead(&["fmt", "--check", &folder.to_string_lossy()]).status.code(), Some(0));
    assert_ne!(std::fs::read_to_string(folder.join("site.policy")).unwrap(), LOOSE);
    assert_eq!(compiled("after"), before);
}

#[test]
fn a_test_that_fails_names_its_line_and_what_was_said_instead() {
    let folder = site("failing", LOOSE);
    let output = bulkhead(&["test", &folder.to_string_lossy()]);
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("site.policy:13: it is refused: no rule"), "{said}");
    assert!(said.contains("0 passed, 1 failed"), "{said}");
    let output = bulkhead(&["--json", "test", &folder.to_string_lossy(), "--min-coverage", "100"]);
    let said = text(&output);
    assert!(said.contains("\"failed\":1") && said.contains("\"rules_covered_percent\":100"), "{said}");
}

/// Blocks that are set off by four spaces or fenced, and begin as a policy does, are whole policies.
#[test]
fn every_policy_in_the_documents_compiles() {
    let mut count = 0;
    for name in ["policy.md", "policy-semantics.md", "tutorial-policy.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        let document = std::fs::read_to_string(&path).unwrap();
        for (number, block) in document.split("```policy\n").skip(1).enumerate() {
            let block = block.split("```").next().unwrap();
            // What is no whole policy stands on the site that the document begins with.
            let first = document.split("```policy\n").nth(1).unwrap().split("```").next().unwrap();
            let whole = if block.starts_with("edition") { block.to_string() } else { format!("{first}\n{block}") };
            let folder = site(&format!("block-{name}-{number}"), &whole);
            let output = bulkhead(&["test", &folder.to_string_lossy()]);
            assert_eq!(output.status.code(), Some(0), "{name}: {block}\n{}", text(&output));
            count += 1;
        }
    }
    assert!(count >= 8, "{count} blocks");
}
