//! The attack catalogue's entries on policies and configuration, C01 to C13, by the command itself: each bad input is refused with
//! its place and the reason, status 1 or 2, and leaves nothing behind. What the machine alone knows (C03, C08) its loader and
//! its plan refuse (`firmware/loader`, `hypervisor/core` `plan::tests`); the manifest's part stands in `scripts/xtask`; mutations by
//! the hundred thousand in `tests/fuzz`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bulkhead_in(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead")).args(words).current_dir(folder).output().expect("the command runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A site's folder with these files, fresh.
fn site(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("catalogue").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    for (file, bytes) in files {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
    folder
}

/// Compiles; a refusal has status 1 and leaves no file, neither the table nor a piece of it. What was said, and whether it was
/// compiled.
fn compile(folder: &Path) -> (bool, String) {
    let before = names(folder);
    let output = bulkhead_in(folder, &["compile", "-o", "out.table"]);
    let said = text(&output);
    let status = output.status.code();
    assert!(matches!(status, Some(0 | 1)), "{status:?} {said}");
    if status == Some(1) {
        assert_eq!(names(folder), before, "something was left behind: {said}");
    }
    (status == Some(0), said)
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    all.sort();
    all
}

const HEAD: &str = "edition 1\npolicy p\ninterface I {\n    method set(rpm: u16 in 0..3000) -> ()\n}\napp x\napp y\nservice s: I by x\n";

/// A policy that ends in these lines is refused in so many words, at their line.
fn refused(name: &str, lines: &str, reason: &str) {
    let folder = site(name, &[("site.policy", format!("{HEAD}{lines}\n").as_bytes())]);
    let (is_compiled, said) = compile(&folder);
    assert!(!is_compiled && said.contains(reason) && said.contains("site.policy:"), "{lines}: {said}");
}

fn accepted(name: &str, lines: &str) {
    let folder = site(name, &[("site.policy", format!("{HEAD}{lines}\n").as_bytes())]);
    let (is_compiled, said) = compile(&folder);
    assert!(is_compiled, "{lines}: {said}");
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sites/demo")
}

/// C01.
#[test]
fn a_file_that_is_empty_missing_too_long_or_no_file_is_refused_by_name() {
    let folder = site("empty", &[("site.policy", b"")]);
    assert!(compile(&folder).1.contains("the edition is not stated"));
    let folder = site("missing", &[("other.policy", b"edition 1\n")]);
    let output = bulkhead_in(&folder, &["compile", "-o", "out.table"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("there is no site.policy"));
    let folder = site("included", &[("site.policy", b"edition 1\npolicy p\ninclude \"more.policy\"\n")]);
    assert!(compile(&folder).1.contains("site.policy:3:1"), "the include that names it");
    std::fs::create_dir(folder.join("more.policy")).expect("a folder");
    assert!(compile(&folder).1.contains("more.policy: it is no regular file"));
    // A gibibyte of zeros that the disk does not hold: no more than 4 MiB of it are read.
    let folder = site("long", &[("site.policy", b"")]);
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("site.policy")).expect("the file");
    file.set_len(1 << 30).expect("a long file");
    assert!(compile(&folder).1.contains("site.policy: it is longer than 4 MiB"));
    drop(file);
    std::fs::remove_file(folder.join("site.policy")).expect("it goes");
    let all: Vec<(String, String)> =
        (0..70).map(|n| (format!("f{n}.policy"), format!("include \"f{}.policy\"\n", n + 1))).collect();
    let mut files: Vec<(&str, &[u8])> = all.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    files.push(("site.policy", b"edition 1\npolicy p\ninclude \"f0.policy\"\n"));
    assert!(compile(&site("many", &files)).1.contains("at most 64 files"));
    let outside: &[(&str, &[u8])] = &[("site.policy", b"edition 1\npolicy p\ninclude \"../more.policy\"\n")];
    assert!(compile(&site("outside", outside)).1.contains("outside the site's folder"));
}

/// C01: a file that includes itself is one file.
#[test]
fn files_that_include_each_other_are_read_once() {
    let files: &[(&str, &[u8])] = &[
        ("site.policy", b"edition 1\npolicy p\ninclude \"a.policy\"\n"),
        ("a.policy", b"include \"site.policy\"\ninclude \"a.policy\"\napp a\n"),
    ];
    assert!(compile(&site("circle", files)).0);
}

/// C01.
#[test]
fn nesting_has_a_bound_and_a_flood_of_mistakes_is_cut() {
    let deep = format!("allow guest s.set when {}rpm == 1{}", "(".repeat(100_000), ")".repeat(100_000));
    refused("deep", &deep, "nests too deep");
    refused("deep-not", &format!("allow guest s.set when {}rpm == 1", "not ".repeat(100_000)), "");
    refused("deep-minus", &format!("allow guest s.set when rpm == {}1", "-".repeat(100_000)), "");
    refused("deep-record", &format!("let a = {}1", "{".repeat(100_000)), "");
    for (name, line) in [("lexed", "\u{e4} "), ("parsed", "nonsense\n"), ("brackets", "}\n")] {
        let folder = site(name, &[("site.policy", format!("{HEAD}{}", line.repeat(100_000)).as_bytes())]);
        let (is_compiled, said) = compile(&folder);
        assert!(!is_compiled && said.matches("error:").count() <= 210, "{name}: {}", said.len());
    }
}

/// C01.
#[test]
fn what_is_declared_twice_is_refused() {
    for twice in [
        "app x",
        "service s: I by y",
        "interface I {\n    method a() -> ()\n}",
        "let a = 1\nlet a = 2",
        "group g: x\ngroup g: y",
        "counter c in 0..1\ncounter c in 0..1",
        "resource r: mmio 0x1000 size 0x1000\nresource r: mmio 0x2000 size 0x1000",
        "interface J {\n    method a() -> ()\n    method a() -> ()\n}",
        "import \"a.policy\" as a\nimport \"a.policy\" as a",
    ] {
        refused("twice", twice, "twice");
    }
    accepted("once", "let a = 1\nlet b = 1\ncounter c in 0..1\ngroup g: x, y");
}

/// C01.
#[test]
fn a_text_that_is_not_what_its_reader_sees_is_refused_and_both_line_ends_are_not() {
    let hidden = [
        ("mark", "\u{feff}edition 1\npolicy p\n", "U+FEFF"),
        ("nul", "edition 1\npolicy p\0\n", "U+0000"),
        ("return", "edition 1\npolicy p\n// harmless\rallow guest psci.off\n", "U+000D"),
        ("turned", "edition 1\npolicy p\n// \u{202e}tseug wolla\n", "U+202E"),
        ("joined", "edition 1\npolicy p\napp pl\u{200b}ant\n", "U+200B"),
        ("cyrillic", "edition 1\npolicy p\napp pl\u{430}nt\n", "(U+0430) means nothing here"),
    ];
    for (name, policy, reason) in hidden {
        let (is_compiled, said) = compile(&site(name, &[("site.policy", policy.as_bytes())]));
        assert!(!is_compiled && said.contains(reason) && said.contains("site.policy:"), "{name}: {said}");
    }
    let (_, said) = compile(&site("latin", &[("site.policy", b"edition 1\npolicy p\n// caf\xe9\n")]));
    assert!(said.contains("site.policy: line 3 is not UTF-8"), "{said}");
    let other = b"edition 1\r\npolicy p\r\n// caf\xc3\xa9\r\nallow guest psci.off\r\n";
    assert!(compile(&site("windows", &[("site.policy", other)])).0);
}

/// A small policy with much of the language in it.
const SMALL: &[u8] = b"edition 1
policy p
interface I {
    enum Mode { off, on }
    method set(rpm: u16 in 0..3000, mode: Mode) -> ()
    // \xc3\xb6l
}
app x
service s: I by x
let fast = { 5, 200..2400 }
flow lock { open -> shut
 shut -> open }
allow guest s.set when rpm in fast and mode == on at most 5 per min then lock becomes shut
// accept L007: the bench
allow guest mmio.write when address == 0x10
deny guest s.set when rpm == 1000 as loud because \"{rpm} is loud\"
never guest s.set when rpm above 2400
test \"one\" {
    guest -> s.set(200, on) allowed
}
";

/// C01, C10: a policy cut after each byte, through the binary; a longer one, and its mutations, in-process: `tests/fuzz`.
#[test]
fn a_policy_cut_at_any_byte_has_status_0_or_1_and_leaves_nothing_behind() {
    let mut refusals = 0;
    for length in 0..SMALL.len() {
        refusals += usize::from(!compile(&site("cut", &[("site.policy", &SMALL[..length])])).0);
    }
    assert!(refusals > SMALL.len() / 2, "{refusals}");
    assert!(compile(&site("cut", &[("site.policy", SMALL)])).0);
    // What stood there before stays.
    let folder = site("kept", &[("site.policy", b"edition 2\n"), ("out.table", b"before")]);
    assert!(!compile(&folder).0);
    assert_eq!(std::fs::read(folder.join("out.table")).expect("it"), b"before");
}

/// C02.
#[test]
fn numbers_that_do_not_fit_or_read_in_two_ways_are_refused() {
    for (lines, reason) in [
        ("let a = 18446744073709551616", "no number that fits"),
        ("let a = 0x1_0000_0000_0000_0000", "no number that fits"),
        ("let a = 017", "no number that fits"),
        ("let a = 0o17", "no number that fits"),
        ("let a = 1e3", "no number that fits"),
        ("let a = 0x", "no number that fits"),
        ("allow guest s.set when rpm == -1", "never -1"),
        ("allow guest s.set when rpm in 1..65536", "never 65536"),
        ("allow guest s.set when rpm == 1.5", ""),
        ("allow guest s.set when rpm below 10 Hz", "Hz"),
        ("allow guest s.set at most 3 per 5 parsec", ""),
        ("allow guest s.set at most 3 per 999999999999 day", ""),
        ("allow guest s.set at most 0 per 5 s", ""),
        ("counter c in 5..1", ""),
        ("interface J {\n    method a(v: u8 in 0..256) -> ()\n}", "256"),
        ("interface J {\n    method a(v: u8 in 0.00..9.99 step 0.01) -> ()\n}", "step"),
        ("resource r: mmio -0x1000 size 0x1000", ""),
        ("resource r: mmio 0.5 size 0x1000", ""),
        ("resource r: mmio 0x1000 size 0x1000 interrupt 31", "no interrupt of a device"),
        ("resource r: mmio 0x1000 size 0x1000 interrupt 1020", "no interrupt of a device"),
        ("resource r: mmio 0xffff_ffff_ffff_f000 size 0x2000", "ends above 512 GiB"),
        ("resource r: mmio 0x1000 size 0xffff_ffff_ffff_f000", "ends above 512 GiB"),
    ] {
        refused("numbers", lines, reason);
    }
    accepted("whole", "let a = 18446744073709551615\nallow guest s.set when rpm in 0x00..0b11");
}

/// C03: what the text shows. The machine's memory and the wall's own devices: `hypervisor/core` `plan::tests`.
#[test]
fn regions_that_are_empty_off_page_too_high_or_shared_are_refused_and_both_owners_named() {
    let rtc = "resource rtc: mmio 0x09010000 size 0x1000 interrupt 34\n";
    for (lines, reason) in [
        ("resource r: mmio 0x1000 size 0", "empty"),
        ("resource r: mmio 0x1800 size 0x1000", "shares a page"),
        ("resource r: mmio 0x1000 size 0x800", "shares a page"),
        ("resource r: mmio 0x7ffffff000 size 0x2000", "ends above 512 GiB"),
        (
            &format!("{rtc}resource uart: mmio 0x09000000 size 0x11000\nallow x use rtc\nallow guest use uart"),
            "`rtc` (x) and `uart` (guest) both have mmio 0x9010000",
        ),
        (
            &format!("{rtc}device d: at 0x09010800 size 0x200 interrupt 79 by y\nallow guest use rtc"),
            "`rtc` (guest) and `d` (served by y) both have mmio 0x9010800",
        ),
    ] {
        refused("regions", lines, reason);
    }
    accepted(
        "apart",
        &format!("{rtc}resource uart: mmio 0x09000000 size 0x10000\nallow x use rtc\nallow guest use uart"),
    );
}

/// C04.
#[test]
fn what_is_granted_twice_or_to_both_sides_is_refused_and_both_owners_named() {
    let one = "resource rtc: mmio 0x09010000 size 0x1000 interrupt 34\nallow guest use rtc\n";
    for (lines, reason) in [
        ("allow x use rtc", "`rtc` is given twice: to guest and to x"),
        ("allow guest use rtc", "`rtc` is given twice: to guest and to guest"),
        (
            "resource b: mmio 0x09020000 size 0x1000 interrupt 34\nallow x use b",
            "`rtc` (guest) and `b` (x) both have interrupt 34",
        ),
        (
            "device d: at 0x0a000000 size 0x200 interrupt 34 by y",
            "`rtc` (guest) and `d` (served by y) both have interrupt 34",
        ),
        ("service t: I by x", "this app serves something already"),
        ("group both: guest, x\nresource b: mmio 0x09020000 size 0x1000\nallow both use b", "a resource has one owner"),
    ] {
        refused("granted", &format!("{one}{lines}"), reason);
    }
    accepted("granted", &format!("{one}resource b: mmio 0x09020000 size 0x1000 interrupt 35\nallow x use b"));
}

/// C05: there is no IOMMU yet, so no device that masters the bus may be declared by more than its registers: nothing in the language
/// names a PCI function.
#[test]
fn a_pci_function_cannot_be_granted() {
    refused("pci", "resource nic: pci 0000:00:01.0\nallow guest use nic", "");
    refused("dma", "resource nic: mmio 0x1000 size 0x1000 dma\nallow guest use nic", "");
}

/// C06; each object: `policy/lang` `danger::tests`.
#[test]
fn a_dangerous_grant_needs_a_reason_in_the_file_and_no_switch_replaces_it() {
    refused("danger", "allow guest mmio.write", "L007: the guest is given mmio.write");
    accepted("reason", "// accept L007: the bench measures this path\nallow guest mmio.write");
    let folder = site("switch", &[("site.policy", format!("{HEAD}allow guest mmio.write\n").as_bytes())]);
    for verb in ["check", "lint", "test", "prove"] {
        assert_eq!(bulkhead_in(&folder, &[verb]).status.code(), Some(1), "{verb}");
    }
}

fn table(lines: &str) -> Vec<String> {
    let folder = site("table", &[("site.policy", format!("{HEAD}{lines}\n").as_bytes())]);
    let output = bulkhead_in(&folder, &["check", "--table"]);
    let lines = text(&output).lines().filter(|line| line.contains("->")).map(str::to_string).collect();
    assert_eq!(output.status.code(), Some(0), "{lines:?}");
    lines
}

/// C07.
#[test]
fn the_effective_table_shows_what_wildcards_and_ranges_cover_whatever_the_order_of_rules() {
    let rules = [
        "allow guest s.*",
        "deny guest s.set when rpm in 1000..1010",
        "deny guest s.set when rpm above 2400",
        "allow guest s.set when rpm in 5..3000",
        "allow x s.set when rpm below 7 at most 3 per min",
    ];
    let wanted = [
        "guest -> s.set(rpm: 0..999) always",
        "guest -> s.set(rpm: 1011..2400) always",
        "x -> s.set(rpm: 0..6) under a condition",
    ];
    for turn in 0..rules.len() {
        let mut turned = rules;
        turned.rotate_left(turn);
        assert_eq!(table(&turned.join("\n")), wanted);
        turned.reverse();
        assert_eq!(table(&turned.join("\n")), wanted);
    }
    let output = bulkhead_in(&demo(), &["--json", "check", "--table"]);
    assert!(text(&output).contains("\"guest uses uart: 0x9000000..0x9000fff interrupt 33\""), "{}", text(&output));
}

/// C08: what the text can know; the plan refuses what is beyond the machine.
#[test]
fn what_is_more_than_the_monitor_holds_is_refused() {
    refused("state", "counter c per a in 0..65535 in 0..1", "");
    refused("window", "rate r at most 65 per s", "at most 64 calls");
    refused("set", "set known max 65", "");
    let message: Vec<String> = (0..7).map(|n| format!("a{n}: u8")).collect();
    refused("words", &format!("interface J {{\n    method m({}) -> ()\n}}", message.join(", ")), "at most 6 words");
}

/// C09: a newer language, by its number and with nothing guessed of the rest; a table of another version or machine word order.
#[test]
fn a_newer_edition_and_a_table_of_another_version_are_refused_by_name() {
    let folder =
        site("newer", &[("site.policy", b"edition 2\npolicy p\nfrobnicate all \xc3\xa4\nallow gest nobody.no\n")]);
    let (_, said) = compile(&folder);
    assert!(said.contains("edition 2 is newer than this tool, which knows 1"), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    let folder = site("versions", &[("site.policy", HEAD.as_bytes())]);
    assert!(compile(&folder).0);
    let table = std::fs::read(folder.join("out.table")).expect("it was compiled");
    let verdict = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut table = table.clone();
        change(&mut table);
        bulkhead_model::Policy::verify(&table).map(|_| ()).map_err(bulkhead_model::FormatError::word)
    };
    assert_eq!(verdict(&|_| {}), Ok(()));
    assert_eq!(verdict(&|table| table[4] += 1), Err("it is of another version"));
    assert_eq!(verdict(&|table| table[0..4].reverse()), Err("it is of another version"), "the other order of bytes");
    assert_eq!(verdict(&|table| table.push(0)), Err("it is cut"));
}

/// C09: what would take the place of a later revision. A machine's own memory of the last one: `firmware/loader` `last`, and `e2e` `boot_uefi`.
#[test]
fn an_older_revision_does_not_take_the_place_of_a_later_one() {
    let policy = |revision: u64| HEAD.replacen("policy p\n", &format!("policy p\nrevision {revision}\n"), 1);
    let folder = site("revisions", &[("site.policy", policy(7).as_bytes())]);
    let compile_as = |revision: u64, words: &[&str]| {
        std::fs::write(folder.join("site.policy"), policy(revision)).expect("a change");
        let output = bulkhead_in(&folder, &[&["compile", "-o", "out.table"], words].concat());
        let table = std::fs::read(folder.join("out.table")).expect("a table");
        let there = bulkhead_model::Policy::verify(&table).expect("a sound one").revision;
        (output.status.code(), there, text(&output))
    };
    let (status, there, said) = compile_as(7, &[]);
    assert!((status, there) == (Some(0), 7) && said.contains("revision 7, SHA-256 "), "{said}");
    assert_eq!(compile_as(7, &[]).1, 7, "the same again");
    let (status, there, said) = compile_as(6, &[]);
    assert!((status, there) == (Some(2), 7) && said.contains("holds revision 7, and this policy is 6"), "{said}");
    let (status, there, _) = compile_as(6, &["--allow-older"]);
    assert_eq!((status, there), (Some(0), 6));
    assert_eq!(compile_as(u64::MAX, &[]).1, u64::MAX);
    // What is no table of this version says nothing of its revision.
    std::fs::write(folder.join("out.table"), "no table").expect("a file");
    assert_eq!(compile_as(1, &[]).1, 1);
    // The change is told by meaning, too.
    let older = site("revisions_older", &[("site.policy", policy(0).as_bytes())]);
    let folders = [folder.to_str().expect("a name"), older.to_str().expect("a name")];
    let said = text(&bulkhead_in(&folder, &["diff", folders[0], folders[1]]));
    assert!(said.contains("the policies mean the same") && said.contains("revision 0 is older than 1"), "{said}");
    let said = text(&bulkhead_in(&folder, &["--json", "diff", folders[1], folders[0]]));
    assert!(said.contains("\"revisions\":[0,1]") && !said.contains("older"), "{said}");
}

/// C01, C10: the same with each byte altered, in three ways, and by the verbs that only look.
#[test]
fn a_policy_with_any_byte_altered_has_status_0_or_1_by_every_verb() {
    let verbs: [&[&str]; 4] = [&["compile", "-o", "out.table"], &["test"], &["prove"], &["--json", "lint"]];
    for at in 0..SMALL.len() {
        let mut bytes = SMALL.to_vec();
        bytes[at] = [bytes[at] ^ 1, b'{', 0xff][at % 3];
        let folder = site("altered", &[("site.policy", &bytes)]);
        let before = names(&folder);
        let output = bulkhead_in(&folder, verbs[at / 3 % verbs.len()]);
        // No status at all is a signal.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{at}: {}", text(&output));
        let is_written = output.status.success() && at / 3 % verbs.len() == 0;
        assert_eq!(names(&folder).len(), before.len() + usize::from(is_written), "{at}");
    }
}

/// C11: a digest that a running wall told, and the site that may have changed since.
#[test]
fn a_site_that_differs_from_what_runs_is_told_by_the_digest() {
    let folder = site("drift", &[("site.policy", HEAD.as_bytes())]);
    let own = compile(&folder).1.split("SHA-256 ").nth(1).expect("a digest").trim().to_string();
    let check = |words: &[&str]| {
        let output = bulkhead_in(&folder, &[&["check", "--expect"], words].concat());
        (output.status.code(), text(&output))
    };
    assert_eq!(check(&[&own]).0, Some(0));
    assert_eq!(check(&[&own.to_uppercase()]).0, Some(0));
    let (status, said) = check(&[&own, "--json"]);
    assert!(
        status == Some(0) && said.contains("\"ok\":true") && said.contains(&format!("\"expected\":\"{own}\"")),
        "{said}"
    );
    std::fs::write(folder.join("site.policy"), format!("{HEAD}allow guest s.set\n")).expect("a change");
    let (status, said) = check(&[&own]);
    assert!(status == Some(1) && said.contains(&format!("not the policy with the SHA-256 {own}")), "{said}");
    assert!(said.contains("help: ") && said.contains("bulkhead diff"), "{said}");
    let (status, said) = check(&[&own, "--json"]);
    assert!(status == Some(1) && said.contains("\"ok\":false") && said.contains("\"sha256\":"), "{said}");
    for wrong in ["", "12", &own[1..], &format!("{own}0"), &format!("g{}", &own[1..])] {
        let (status, said) = check(&[wrong]);
        assert!(status == Some(2) && said.contains("64 hexadecimal digits"), "{wrong}: {said}");
    }
    // Each kind of machine has a table, and a digest, of its own.
    let output = bulkhead_in(&demo(), &["check", "--expect", &own]);
    assert!(output.status.code() == Some(2) && text(&output).contains("say for which: --arch"), "{}", text(&output));
}

/// C11.
#[test]
fn the_digest_is_told_alike_by_compile_check_and_report() {
    let folder = site("digest", &[("site.policy", HEAD.as_bytes())]);
    let (_, said) = compile(&folder);
    let digest = said.split("SHA-256 ").nth(1).expect("a digest").trim().to_string();
    assert_eq!(digest.len(), 64);
    let words: [&[&str]; 2] = [&["check"], &["--json", "check"]];
    for words in words {
        assert!(text(&bulkhead_in(&folder, words)).contains(&digest));
    }
    assert_eq!(bulkhead_in(&folder, &["report", "-o", "page.html"]).status.code(), Some(0));
    assert!(std::fs::read_to_string(folder.join("page.html")).expect("a page").contains(&digest));
    std::fs::write(folder.join("site.policy"), format!("{HEAD}allow guest s.set\n")).expect("a change");
    assert!(!text(&bulkhead_in(&folder, &["check"])).contains(&digest));
}

/// C12.
#[test]
fn the_same_text_gives_the_same_bytes_wherever_and_in_whatever_order_it_is_read() {
    let build = |folder: &Path, site: &str, locale: &str| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("catalogue/same.table");
        let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .args(["compile", site, "--arch", "aarch64", "--allow-older", "-o", &path.display().to_string()])
            .current_dir(folder)
            .env("LC_ALL", locale)
            .env("TZ", if locale == "C" { "UTC" } else { "Asia/Kathmandu" })
            .output()
            .expect("the command runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        std::fs::read(path).expect("the table")
    };
    let once = build(&demo(), ".", "C");
    assert_eq!(build(&demo().join(".."), "demo", "tr_TR.UTF-8"), once);
    assert_eq!(build(Path::new("/"), &demo().canonicalize().expect("it").display().to_string(), "C"), once);
    let part: &[u8] = b"part one(n: u8 in 0..9)\ncounter made in 0..9\nallow guest s.set when rpm == $n and made < 3 then count made\n";
    let files = |includes: &str| {
        let main = format!("edition 1\npolicy p\n{includes}\napp x\n");
        let b: &[u8] = b"interface I {\n    method set(rpm: u16 in 0..3000) -> ()\n}\nlet low = 5\n";
        let c: &[u8] = b"service s: I by x\napp y\ncounter c in 0..9\nallow y s.set when c < low then count c\n";
        let files = [("site.policy", main.as_bytes()), ("b.policy", b), ("c.policy", c), ("part.policy", part)];
        build(&site("order", &files), ".", "C")
    };
    let imports = ["import \"part.policy\" as a with n = 1", "import \"part.policy\" as z with n = 2"];
    let [a, z] = imports;
    let forwards = files(&format!("include \"b.policy\"\ninclude \"c.policy\"\n{a}\n{z}"));
    assert_eq!(files(&format!("include \"c.policy\"\ninclude \"b.policy\"\n{z}\n{a}")), forwards);
    assert_ne!(files(&format!("include \"c.policy\"\ninclude \"b.policy\"\n{a}")), forwards);
}

/// C13.
#[test]
fn grants_that_a_log_never_used_are_named() {
    let rules = "allow guest s.set when rpm below 10\nallow guest s.set when rpm in 10..20\nallow x s.set\n";
    let log = b"#1 allowed guest -> s.set(rpm: 5) by site.policy:9\n#2 REFUSED guest -> s.set(rpm: 30): no rule\n";
    let folder = site("learned", &[("site.policy", format!("{HEAD}{rules}").as_bytes()), ("log", log)]);
    let said = text(&bulkhead_in(&folder, &["replay", ".", "log"]));
    assert!(said.contains("not used in this log: site.policy:10: allow guest s.set when rpm in 10..20"), "{said}");
    assert!(said.contains("site.policy:11: allow x s.set") && !said.contains("site.policy:9:"), "{said}");
    let said = text(&bulkhead_in(&folder, &["--json", "replay", ".", "log"]));
    assert!(said.contains("\"unused\":[\"site.policy:10:"), "{said}");
}
