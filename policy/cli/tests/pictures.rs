//! `bulkhead graph --svg`, and the parts of the report that an auditor asks for first.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bulkhead(words: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_bulkhead")).args(words).current_dir(root).output().expect("the command runs")
}

fn svg(site: &str) -> String {
    let output = bulkhead(&["graph", "--svg", "--arch", "x86_64", site]);
    assert!(output.status.success(), "{site}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The values of an attribute, as numbers.
fn numbers(svg: &str, name: &str) -> Vec<usize> {
    let name = format!(" {name}=\"");
    let value = |rest: &str| rest.split('"').next().and_then(|number| number.parse().ok()).expect("a number");
    svg.split(&name).skip(1).map(value).collect()
}

#[test]
fn every_policy_has_a_picture_within_its_frame_and_always_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut count = 0;
    for folder in ["examples", "sites"] {
        for site in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let site: PathBuf = site.expect("an entry").path();
            let site = format!("{folder}/{}", site.file_name().expect("a name").to_string_lossy());
            let output = bulkhead(&["graph", "--svg", "--arch", "x86_64", &site]);
            if !output.status.success() {
                // One that is for the other kind of machine.
                assert!(String::from_utf8_lossy(&output.stderr).contains("sysreg"), "{site}");
                continue;
            }
            let picture = String::from_utf8(output.stdout).expect("text");
            assert_eq!(picture, svg(&site), "{site}");
            let (right, bottom) = (numbers(&picture, "width")[0], numbers(&picture, "height")[0]);
            assert!(numbers(&picture, "x").iter().all(|x| *x < right), "{site}: {picture}");
            assert!(numbers(&picture, "y").iter().all(|y| *y < bottom), "{site}: {picture}");
            assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn the_picture_names_callers_methods_and_states() {
    let picture = svg("examples/bay");
    for word in [">guest<", ">hmi<", ">bay<", ">operate ?<", ">flow breaker<", ">idle<", ">selected<", ">after 30 s<"] {
        assert!(picture.contains(word), "{word}: {picture}");
    }
    let output = bulkhead(&["--json", "graph", "--svg", "examples/bay"]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(facts["svg"], picture);
}

fn page(site: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.html", site.replace('/', "-")));
    let output = bulkhead(&["report", "--arch", "x86_64", site, "-o", &path.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(path).expect("a page")
}

#[test]
fn the_report_shows_the_graph_dangerous_grants_quiet_refusals_and_coverage() {
    let demo = page("sites/demo");
    let graph = svg("sites/demo").replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    assert!(demo.contains(&graph), "the graph");
    let dangers = demo.split("<h2>Dangerous grants</h2>").nth(1).expect("a part").split("<h2>").next().expect("it");
    assert_eq!(dangers.matches("which can undo the wall").count(), 7, "{dangers}");
    assert!(dangers.contains("<td>no bit of the wall's can be written</td>"), "{dangers}");
    assert!(demo.contains("None: every refusal is recorded."));
    assert!(demo.contains("rules decided something</td>") && demo.contains("branches were taken</td>"));
    let bay = page("examples/bay");
    assert!(bay.contains("<p>There are none.</p>") && bay.contains("states of flows were entered</td><td>2 of 2</td>"));
    // A refusal that is recorded at times only.
    let quiet = page("examples/audit").split("<h2>Quiet refusals</h2>").nth(1).expect("a part").to_string();
    let quiet = quiet.split("<h2>").next().expect("it");
    assert!(quiet.contains("<code>deny ") && !quiet.contains("None:"), "{quiet}");
}
