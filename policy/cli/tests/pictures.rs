//! `bulkhead graph` and `bulkhead report`: what an auditor looks at first.

mod common;

use std::path::{Path, PathBuf};

use common::{BOUNDED, bulkhead, site, text};

/// A site of the project's own, as the command is started in the demonstration's folder.
fn own(site: &str) -> String {
    format!("../../{site}")
}

fn svg(site: &str) -> String {
    let output = bulkhead(&["graph", "--svg", "--arch", "x86_64", &own(site)]);
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
            let output = bulkhead(&["graph", "--svg", "--arch", "x86_64", &own(&site)]);
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
    let output = bulkhead(&["--json", "graph", "--svg", &own("examples/bay")]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(facts["svg"], picture);
}

fn page(site: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.html", site.replace('/', "-")));
    let output = bulkhead(&["report", "--arch", "x86_64", &own(site), "-o", &path.display().to_string()]);
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

#[test]
fn the_report_is_one_page_without_the_network_and_says_when_something_is_not_well() {
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    let name = page.display().to_string();
    assert_eq!(bulkhead(&["report", "--arch", "aarch64", "-o", &name]).status.code(), Some(0));
    let html = std::fs::read_to_string(&page).expect("the page");
    for piece in [
        "SR 7.7",
        "CM-7",
        "plant.set_pump",
        "class=some>condition",
        "0x9000000..0x9000fff",
        "resonates",
        "class=yes>proved",
    ] {
        assert!(html.contains(piece), "{piece}");
    }
    assert!(!html.contains("http") && !html.contains("<script"));
    let folder = site("unwell", &format!("{BOUNDED}never guest s.set when rpm == 5 and mode > 2\n"));
    let output = bulkhead(&["report", &folder.to_string_lossy(), "-o", &name]);
    assert!(
        output.status.code() == Some(1) && std::fs::read_to_string(&page).expect("the page").contains("mode &gt; 2")
    );
}

#[test]
fn the_report_shows_roles_and_labels() {
    let page = |name: &str| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.html")).display().to_string();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        bulkhead(&["report", &example.to_string_lossy(), "-o", &path]);
        std::fs::read_to_string(path).expect("the page")
    };
    let roles = page("roles");
    for piece in ["<td>rotating</td><td>north, south</td>", "group operator: guest, hmi when duty is operating"] {
        assert!(roles.contains(piece), "{piece}: {roles}");
    }
    let lattice = page("lattice");
    for piece in [
        "<td>hmi</td><td>office</td><td>plant of steam when shift is open</td>",
        "<td>trip (object)</td><td>safety of steam, power</td>",
        "<td>guest</td><td>office</td><td>&ndash;</td>",
    ] {
        assert!(lattice.contains(piece), "{piece}: {lattice}");
    }
}

#[test]
fn the_graph_names_callers_methods_and_steps() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/lights");
    let said = text(&bulkhead(&["graph", &example.to_string_lossy()]));
    for line in ["\"controller\" -> \"lamps.\" [label=\"show ?\", style=dashed];", "\"light/yellow\" -> \"light/red\";"]
    {
        assert!(said.contains(line), "{said}");
    }
}
