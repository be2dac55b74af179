//! The command as its users meet it: output, exit status, JSON.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{BOUNDED, bulkhead, site, text};

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
    assert!(code == Some(1) && said.contains("wanted tag in 100..199; tag is 7"), "{said}");
    let (code, said) = explain("guest -> plant.set_pump(1005)");
    assert!(code == Some(1) && said.contains("because the tank's inlet pipe resonates"), "{said}");
    let (code, said) = explain("guest -> plant.set_pump(9999)");
    assert!(code == Some(1) && said.contains("it takes (rpm in 0..3000)"), "{said}");
    let (code, said) = explain("guest -> plant.drain(true)");
    assert!(code == Some(1) && said.contains("no rule allows this method to guest"), "{said}");
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
    for (arch, number) in [("aarch64", 1), ("x86_64", 2)] {
        let output = bulkhead(&["compile", "--arch", arch, "--output", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let table = std::fs::read(&path).expect("it was written");
        let table = bulkhead_model::Policy::verify(&table).expect("it is sound");
        assert!(table.is_for(number) && !table.is_for(3 - number), "{arch}");
    }
    let output = bulkhead(&["--json", "explain", "guest -> plant.level()"]);
    assert!(text(&output).contains("\"verdict\":\"allowed\""), "{}", text(&output));
}

#[test]
fn a_site_for_two_kinds_of_machine_is_looked_at_for_each_or_for_the_one_that_is_named() {
    let said = text(&bulkhead(&["check"]));
    assert!(said.starts_with("aarch64:\ndemo: ") && said.contains("\nx86_64:\ndemo: "), "{said}");
    let said = text(&bulkhead(&["test", "--arch", "x86_64", "--min-coverage", "100", "--min-branches", "100"]));
    assert!(!said.contains("aarch64") && said.contains("passed, 0 failed"), "{said}");
    let said = text(&bulkhead(&["lint", "--json"]));
    assert!(said.contains("\"arch\":\"aarch64\"") && said.contains("\"arch\":\"x86_64\""), "{said}");
    let (_, said) = explain("guest -> port.write(0xcf9, 1, 6)");
    assert_eq!(said.matches("refused").count(), 2, "{said}");
    let output = bulkhead(&["explain", "--arch", "x86_64", "guest -> msr.write(0x8b, 0)"]);
    assert!(text(&output).contains("by machine.x86_64.policy:"), "{}", text(&output));
    let output = bulkhead(&["compile", "--output", "/nowhere"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("say for which: --arch"), "{}", text(&output));
    assert_eq!(bulkhead(&["check", "--arch", "riscv"]).status.code(), Some(2));
    let wrong = "edition 1\npolicy p\ninclude \"machine.policy\"\n";
    let folder = site("machines", wrong);
    std::fs::write(folder.join("machine.x86_64.policy"), "resource r: ports 0xffff size 2\n").expect("a file");
    let folder = folder.display().to_string();
    let output = bulkhead(&["check", &folder]);
    assert!(
        output.status.code() == Some(1) && text(&output).contains("machine.x86_64.policy:1:13"),
        "{}",
        text(&output)
    );
    let output = bulkhead(&["check", "--arch", "aarch64", &folder]);
    assert!(text(&output).contains("cannot read machine.aarch64.policy"), "{}", text(&output));
}

#[test]
fn completions_and_the_manual_page_know_every_verb() {
    for words in [["completions", "bash"].as_slice(), &["man"]] {
        let said = text(&bulkhead(words));
        for verb in ["check", "compile", "explain", "test", "prove", "diff", "lint", "fmt", "types"] {
            assert!(said.contains(verb), "{words:?} {verb}");
        }
    }
}

#[test]
fn a_never_of_ages_and_hours_is_proved_where_the_rules_themselves_keep_it() {
    let text = "edition 1\npolicy p\nzone UTC\ninterface I { method go() -> ()\n method mark() -> () }\napp a\nservice s: I by a\ntimer t\n\
        allow guest s.mark then start t\nallow guest s.go when age of t >= 10 s and time of day between 8 h and 16 h\n";
    let folder = site(
        "moments",
        &format!("{text}never guest s.go when age of t below 5 s\nnever guest s.go when time of day above 16 h\n"),
    );
    let output = bulkhead(&["prove", &folder.to_string_lossy()]);
    assert_eq!((output.status.code(), text_count(&output, "proved ")), (Some(0), 2), "{}", crate::text(&output));
    let folder = site("moments_open", &format!("{text}never guest s.go when age of t below 15 s\n"));
    let output = bulkhead(&["prove", &folder.to_string_lossy()]);
    assert_eq!((output.status.code(), text_count(&output, "UNDECIDED")), (Some(1), 1), "{}", crate::text(&output));
}

fn text_count(output: &Output, word: &str) -> usize {
    text(output).matches(word).count()
}

#[test]
fn interfaces_are_printed_as_rust() {
    let output = bulkhead(&["types"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for wanted in
        ["pub mod plant {", "fn set_pump(&mut self, rpm: u16);", "pub mod historian {", "pub const PLANT: u16 = 13;"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let said = text(&bulkhead(&["types", "--interface", "Clock"]));
    assert!(said.starts_with("/// Interface `Clock`.") && !said.contains("pub mod plant"), "{said}");
    let output = bulkhead(&["types", "--interface", "Plan"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("did you mean `Plant`?"), "{}", text(&output));
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
        for verb in ["prove", "lint"] {
            let output = bulkhead(&[verb, &example.to_string_lossy()]);
            assert_eq!(output.status.code(), Some(0), "{verb} {}: {}", example.display(), text(&output));
        }
        count += 1;
    }
    assert!(count >= 20, "{count} examples");
}

#[test]
fn every_policy_of_the_project_is_in_the_one_form() {
    for site in policies() {
        let output = bulkhead(&["fmt", "--check", &site.to_string_lossy()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
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

#[test]
fn coverage_counts_rules_both_outcomes_of_conditions_and_states() {
    let policy = "edition 1\npolicy p\ninterface I {\n method go(a: u8) -> ()\n}\napp x\nservice s: I by x\nflow f { one -> two\n two -> one }\n\
        allow guest s.go when a < 5 and f is one then f becomes two\n";
    let once = "test \"t\" {\n guest -> s.go(1) allowed\n}\n";
    let more = "test \"u\" {\n guest -> s.go(5) refused\n guest -> s.go(4) allowed\n guest -> s.go(4) refused\n}\n";
    let folder = site("coverage", &format!("{policy}{once}")).display().to_string();
    let output = bulkhead(&["test", &folder, "--min-branches", "100"]);
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("50 % of 4 branches"), "{said}");
    assert!(said.contains("its condition 1 never fails to hold"), "{said}");
    assert_eq!(bulkhead(&["test", &folder, "--min-states", "100", "--min-coverage", "100"]).status.code(), Some(0));
    let folder = site("coverage", &format!("{policy}{once}{more}")).display().to_string();
    assert_eq!(bulkhead(&["test", &folder, "--min-branches", "100"]).status.code(), Some(0));
    let still = policy.replace(" then f becomes two", "");
    let folder = site("coverage", &format!("{still}{once}")).display().to_string();
    let output = bulkhead(&["test", &folder, "--min-states", "100"]);
    assert!(output.status.code() == Some(1) && text(&output).contains("never two"), "{}", text(&output));
}

#[test]
fn a_never_is_proved_broken_by_a_call_or_undecided_and_only_proved_is_well() {
    for (never, code, said) in [
        ("never guest s.set when rpm above 2400", 0, "proved"),
        ("never guest s.set when rpm == 1005", 0, "proved"),
        ("never x s.*", 0, "proved"),
        (
            "never guest s.set when mode == 3 and rpm in 990..1005",
            1,
            "guest -> s.set(rpm: 990, mode: 3) is allowed by site.policy:10",
        ),
        ("never guest s.go when a == 3", 1, "guest -> s.go(a: 3) is allowed by site.policy:12"),
        ("never guest s.go when a > 100", 0, "proved"),
        (
            "allow x s.set when rpm * 2 < 20\nnever x s.set when rpm > 100",
            1,
            "it hangs on what is remembered or computed at site.policy:13",
        ),
        ("never when c == 4", 0, "proved"),
        ("never when c == 2", 1, "so it is after guest -> s.go(a: 0)\n  then guest -> s.go(a: 0)"),
        ("never guest s.go when c == 2 and a < 3", 1, "\n  then guest -> s.go(a: 0) is allowed by site.policy:12"),
        (
            "never guest s.set unless s.go came before",
            1,
            "guest -> s.set(rpm: 0, mode: 0) is allowed by site.policy:10",
        ),
        ("never guest s.set unless s.goo came before", 1, "did you mean `go`?"),
        ("never guest s.go then count c", 1, "says which requests are never allowed"),
    ] {
        let folder = site("never", &format!("{BOUNDED}{never}\n"));
        let output = bulkhead(&["prove", &folder.to_string_lossy()]);
        assert!(output.status.code() == Some(code) && text(&output).contains(said), "{never}: {}", text(&output));
    }
}

#[test]
fn a_difference_is_shown_by_a_call_and_new_permissions_can_fail() {
    let old = site("old", BOUNDED).display().to_string();
    let same =
        site("same", &BOUNDED.replace("allow guest s.set when rpm in 0..2400", "allow guest s.set when rpm <= 2400"))
            .display()
            .to_string();
    let less = site("less", &BOUNDED.replace("1000..1010", "1000..1020")).display().to_string();
    let more = site("more", &BOUNDED.replace("0..2400", "0..2500")).display().to_string();
    let thin =
        "counter level in 0..3\nprofile thin for s.set {\n    record denied when level > 1\n    record only mode\n}\n";
    let quiet = site("quiet", &format!("{BOUNDED}{thin}")).display().to_string();
    let other = site("other", &BOUNDED.replace("a * 2", "a * 3")).display().to_string();
    for (new, code, said) in [
        (&same, 0, "the policies mean the same"),
        (&less, 0, "- no longer allowed: guest -> s.set(rpm: 1011, mode: 0)"),
        (&quiet, 0, "* recorded: guest -> s.set: now denied when level > 1, without rpm"),
        (&more, 1, "+ newly allowed: guest -> s.set(rpm: 2401, mode: 0)"),
        (&other, 1, "? perhaps: guest -> s.go: new: allow guest s.go when a * 3 < 20"),
    ] {
        let output = bulkhead(&["diff", &old, new, "--fail-on-new"]);
        assert!(output.status.code() == Some(code) && text(&output).contains(said), "{new}: {}", text(&output));
    }
}

#[test]
fn what_is_required_of_the_machine_is_printed_and_its_loss_is_a_difference() {
    let with = |name: &str, text: &str| site(name, &format!("{BOUNDED}{text}")).display().to_string();
    let (none, two, four) = (with("r0", ""), with("r2", "require cores >= 2\n"), with("r4", "require cores >= 4\n"));
    assert!(text(&bulkhead(&["check", &two])).contains("requires of the machine: cores >= 2 (site.policy:13)"));
    let said = text(&bulkhead(&["--json", "check", &two]));
    assert!(said.contains("\"requires\":[{\"fact\":\"cores\",\"file\":\"site.policy\",\"least\":2"), "{said}");
    for (old, new, code, line) in [
        (&two, &none, 1, "+ newly allowed: machines without cores >= 2"),
        (&four, &two, 1, "+ newly allowed: machines without cores >= 4"),
        (&none, &two, 0, "- no longer allowed: machines without cores >= 2"),
        (&two, &two, 0, "the policies mean the same"),
    ] {
        let output = bulkhead(&["diff", old, new, "--fail-on-new"]);
        assert!(output.status.code() == Some(code) && text(&output).contains(line), "{line}: {}", text(&output));
    }
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("required.html").display().to_string();
    bulkhead(&["report", &two, "-o", &page]);
    assert!(std::fs::read_to_string(page).expect("the page").contains("cores &gt;= 2"));
}

#[test]
fn a_role_that_holds_under_another_condition_is_a_difference() {
    let with = |name: &str, most: u8| {
        let text = format!("{BOUNDED}group few: guest when c < {most}\nallow few s.set when mode == 1\n");
        site(name, &text).display().to_string()
    };
    let (one, same, other) = (with("role-1", 1), with("role-2", 1), with("role-3", 2));
    assert!(text(&bulkhead(&["diff", &one, &same])).contains("the policies mean the same"));
    let said = text(&bulkhead(&["diff", &one, &other]));
    assert!(
        said.contains("? perhaps: guest -> s.set: new: allow few s.set when mode == 1 (meant: mode == 1 and c < 2)"),
        "{said}"
    );
}

#[test]
fn another_label_and_a_channel_that_is_gone_are_differences() {
    let example = |name: &str, from: &str, to: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        let policy = std::fs::read_to_string(path.join("site.policy")).expect("the example");
        assert!(policy.contains(from), "{from}");
        let changed =
            site(&format!("changed-{name}"), &policy.replace(from, to).replace("denied by uplink", "allowed"));
        (path.display().to_string(), changed.display().to_string())
    };
    for (name, from, to, line) in [
        (
            "one-way",
            "channel uplink one way from plc, guest to history\n",
            "",
            "? perhaps: gone: one way from plc to history",
        ),
        (
            "lattice",
            "protection at safety of",
            "protection at plant of",
            "? perhaps: new: integrity: trip (object) at plant of steam, power",
        ),
        (
            "lattice",
            "when shift is open\n",
            "when shift is open or caller == hmi\n",
            "new: integrity: hmi at office rises to plant of steam when",
        ),
    ] {
        let (old, new) = example(name, from, to);
        let output = bulkhead(&["diff", &old, &new, "--fail-on-new"]);
        assert!(output.status.code() == Some(1) && text(&output).contains(line), "{line}: {}", text(&output));
    }
}

#[test]
fn lint_finds_what_is_not_meant_and_a_reason_in_the_file_accepts_it() {
    for (rule, id) in [
        ("allow guest s.set when rpm in 1002..1005", "L001"),
        ("allow guest s.set when rpm in 5..10", "L002"),
        ("allow guest sysreg.write", "L007"),
        ("resource gic: mmio 0x08000000 size 0x10000\nallow guest use gic", "L007"),
        ("resource r: mmio 0xfee00000 size 0x1000\nallow guest use r", "L007"),
        ("resource r: mmio 0xfed90000 size 0x1000\nallow guest use r", "L007"),
        ("resource r: ports 0xcf8 size 8\nallow guest use r", "L007"),
        ("resource r: ports 0x91 size 2\nallow guest use r", "L007"),
        ("resource r: msr 0xc0000080 size 5\nallow guest use r", "L007"),
        ("allow guest port.write", "L007"),
        ("allow guest port.write when port == 0xb2 and size == 1 and value == 2", "L007"),
        ("allow guest port.write when port == 0xcf6 and size == 4", "L007"),
        ("allow guest msr.write when index in 0..0x1000", "L007"),
        ("allow guest msr.write when index == 0x1d9 and value * 2 == 2", "L007"),
        ("allow guest msr.read", "L007"),
        ("allow guest pci.write", "L007"),
        ("deny guest s.set when rpm above 2500", "L003"),
        ("flow f {\n    a -> b\n    b -> a\n}\nallow x s.go when f is a then f becomes a", "L004"),
        ("timer never_read", "L005"),
    ] {
        let folder = site("lint", &format!("{BOUNDED}{rule}\n"));
        let output = bulkhead(&["lint", &folder.to_string_lossy()]);
        assert!(output.status.code() == Some(1) && text(&output).contains(id), "{rule}: {}", text(&output));
        let folder = site("accepted", &format!("{BOUNDED}// accept {id}: it is a test\n{rule}\n"));
        let output = bulkhead(&["lint", &folder.to_string_lossy()]);
        assert!(output.status.code() == Some(0) && text(&output).contains("1 accepted"), "{rule}: {}", text(&output));
        let folder = site("no-reason", &format!("{BOUNDED}// accept {id}:\n{rule}\n"));
        assert_eq!(bulkhead(&["lint", &folder.to_string_lossy()]).status.code(), Some(1), "{rule}: no reason");
    }
    let wide = |rule: &str, accept: &str| {
        let interface = "interface J {\n    method w(v: u32) -> ()\n}\napp y\nservice j: J by y";
        let folder = site("wide", &format!("{BOUNDED}{interface}\n{accept}\n{rule}\n"));
        bulkhead(&["lint", &folder.to_string_lossy()])
    };
    assert!(text(&wide("allow guest j.w", "")).contains("L006"));
    for (rule, accept) in [
        ("allow guest j.w", "// accept L006: it is a test"),
        ("allow guest j.w when v <= 70000", ""),
        ("allow x j.w", ""),
        ("allow guest sysreg.write when encoding in software_interrupts", ""),
        ("resource r: ports 0x93 size 1\nallow guest use r", ""),
        ("resource r: msr 0x1b size 1 read only\nallow guest use r", ""),
        ("resource r: msr 0xc0000081 size 4\nallow guest use r", ""),
        ("allow guest port.write when port == 0xcf6 and size == 2", ""),
        ("allow guest port.write when port == 0xd00", ""),
        ("allow guest msr.write when index == 0x1da", ""),
        ("allow guest port.read when port == 0xb2", ""),
    ] {
        assert_eq!(wide(rule, accept).status.code(), Some(0), "{rule}");
    }
    for site in policies() {
        let output = bulkhead(&["lint", &site.to_string_lossy()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", site.display(), text(&output));
        let output = bulkhead(&["prove", &site.to_string_lossy()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", site.display(), text(&output));
    }
}

#[test]
fn the_starter_site_is_sound_and_nothing_is_written_over() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("starter");
    let _ = std::fs::remove_dir_all(&folder);
    let name = folder.display().to_string();
    assert_eq!(bulkhead(&["init", &name]).status.code(), Some(0));
    for verb in [
        ["test", &name, "--min-coverage", "100"].as_slice(),
        &["prove", &name],
        &["lint", &name],
        &["fmt", "--check", &name],
    ] {
        let output = bulkhead(verb);
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {}", text(&output));
    }
    let again = bulkhead(&["init", &name]);
    assert!(again.status.code() == Some(2) && text(&again).contains("is there already"), "{}", text(&again));
}

#[test]
fn a_log_is_replayed_and_calls_that_would_go_otherwise_are_shown() {
    let folder = site("replay", BOUNDED);
    let log = folder.join("log");
    std::fs::write(&log, "#1 allowed guest -> s.set(rpm: 2400, mode: 0) by site.policy:10\n#2 REFUSED guest -> s.set(rpm: 5, mode: 0): no rule\n\
        noise\n#3 REFUSED guest -> s.set(rpm: 1005, mode: 1) by site.policy:11\n#4 REFUSED guest -> gone.away(): no rule\n").expect("a log");
    let output = bulkhead(&["replay", &folder.to_string_lossy(), &log.to_string_lossy()]);
    let said = text(&output);
    assert!(
        output.status.code() == Some(1) && said.contains("line 2: guest -> s.set(rpm: 5, mode: 0) would be allowed"),
        "{said}"
    );
    assert!(said.contains("2 the same, 1 others, 1 not replayed"), "{said}");
}

/// Five hundred small policies: what is proved, no call breaks; what a call breaks is not proved, and is shown.
#[test]
fn the_prover_agrees_with_trying_every_call() {
    let mut state = 0x1234_5678_u64;
    let mut next = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let (mut proved, mut broken) = (0, 0);
    for _ in 0..500 {
        let mut rules = String::new();
        for _ in 0..1 + next(4) {
            let verb = if next(3) == 0 { "deny" } else { "allow" };
            let (low, high, negative) = (next(12), next(8), next(6));
            let condition = match next(5) {
                0 => format!("a in {low}..{}", (low + high).min(11)),
                1 => format!("a != {low} and b > -{negative}"),
                2 => format!("not (a < {low} or b == {})", next(6)),
                3 => format!("b in {{ -{negative}..0, 3 }}"),
                _ => format!("a == {low} or b <= {}", next(6)),
            };
            rules.push_str(&format!("{verb} guest s.m when {condition}\n"));
        }
        let (low, high) = (next(12), next(4));
        let never = format!("never guest s.m when a in {low}..{} and b >= {}\n", (low + high).min(11), next(6));
        let policy = format!(
            "edition 1\npolicy p\ninterface I {{\n    method m(a: u8 in 0..11, b: i8 in -5..5) -> ()\n}}\napp x\nservice s: I by x\n{rules}{never}"
        );
        let compiled = bulkhead_lang::compile(&mut |_| Ok(policy.clone()), "site.policy").unwrap();
        let breaks = |a: i128, b: i128| {
            let call = compiled.request((0, compiled.object("s").unwrap(), 0), &[a, b]);
            let message = bulkhead_lang::interpret::Message {
                subject: 0,
                object: call.object,
                method: 0,
                event: call.event,
                words: &call.words,
            };
            let mut empty = bulkhead_lang::interpret::Remembered::default();
            let times = bulkhead_lang::interpret::Times::default();
            let bulkhead_lang::policy::NeverWhat::Call(never, _) = &compiled.policy.nevers[0].what else {
                unreachable!()
            };
            let never = &never.bodies[0];
            empty.matches(&compiled.policy, times, &message, never).unwrap()
                && empty.decide(&compiled.policy, times, &message).reason == bulkhead_model::Reason::Allowed
        };
        let is_broken = (0..12).any(|a| (-5..6).any(|b| breaks(a, b)));
        let folder = site("prover", &policy);
        let output = bulkhead(&["prove", &folder.to_string_lossy()]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(i32::from(is_broken)), "{policy}{said}");
        assert!(said.contains(if is_broken { "BROKEN" } else { "proved" }), "{policy}{said}");
        if is_broken { broken += 1 } else { proved += 1 }
    }
    assert!(proved > 50 && broken > 50, "{proved} {broken}");
}
