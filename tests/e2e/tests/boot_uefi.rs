//! End-to-end tests of the UEFI boot on x86-64: the disk that `cargo xtask build --arch x86_64` left, as CD and as stick, as it is and
//! altered, on q35 with OVMF. Each case starts one machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SVM: &str = "EPYC,+svm,+npt";
const Q35: &str = "q35";
const OVMF: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    root().join("target/run/x86_64")
}

fn disk() -> Vec<u8> {
    fs::read(folder().join("disk.iso")).expect("cargo xtask build --arch x86_64 was run")
}

fn bundle() -> Vec<u8> {
    fs::read(folder().join("bundle.img")).expect("cargo xtask build --arch x86_64 was run")
}

/// Every place where a file's bytes lie in the disk: files lie in one piece, the bundle twice.
fn places(disk: &[u8], of: &[u8]) -> Vec<usize> {
    let first = of[0];
    let starts = (0..=disk.len() - of.len()).filter(|&at| disk[at] == first);
    starts.filter(|&at| &disk[at..at + of.len()] == of).collect()
}

/// How the disk is put into the machine.
#[derive(Clone, Copy)]
enum Medium {
    Cd,
    Stick,
}

/// What the two consoles said: the wall's own, and COM1, which is the firmware's until the guest starts.
struct Said {
    wall: String,
    firmware: String,
}

/// Starts q35 with OVMF from a disk. A machine that does not end is a failure.
fn machine(name: &str, board: &str, cpu: &str, memory: &str, disk: &[u8], medium: Medium) -> Said {
    let file = |end: &str| folder().join(format!("uefi-{name}.{end}"));
    let [wall, firmware, image, variables] = ["wall.log", "com1.log", "iso", "fd"].map(file);
    fs::write(&image, disk).expect("target/run can be written");
    fs::copy(OVMF_VARIABLES, &variables).expect("OVMF is installed: cargo xtask setup --arch x86_64");
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=5",
        "120",
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-M",
        board,
        "-cpu",
        cpu,
        "-m",
        memory,
    ]);
    command.args(["-display", "none", "-nic", "none", "-no-reboot", "-serial"]);
    command.arg(format!("file:{}", firmware.display())).arg("-chardev");
    command.arg(format!("file,id=wall,path={}", wall.display()));
    command.args(["-device", "isa-debugcon,iobase=0xe9,chardev=wall", "-drive"]);
    command.arg(format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF}")).arg("-drive");
    command.arg(format!("if=pflash,format=raw,unit=1,file={}", variables.display()));
    match medium {
        Medium::Cd => command.arg("-cdrom").arg(&image),
        Medium::Stick => command
            .args(["-device", "qemu-xhci", "-device", "usb-storage,drive=stick", "-drive"])
            .arg(format!("if=none,id=stick,format=raw,file={}", image.display())),
    };
    let output = command.output().expect("the emulator is installed");
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let said = Said { wall: read(&wall), firmware: read(&firmware) };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the machine did not end by itself:\n{}{}{errors}", said.wall, said.firmware);
    for path in [image, variables] {
        fs::remove_file(path).expect("it was written above");
    }
    said
}

/// A refusal is told on both consoles, once, and nothing else is started.
fn expect(said: &Said, line: &str) {
    let Said { wall, firmware } = said;
    // The firmware's console breaks lines.
    let unbroken = firmware.replace(['\r', '\n'], "");
    assert!(wall.contains(line) && unbroken.contains(line), "expected '{line}' in both:\n{wall}\n---\n{firmware}");
    assert_eq!(wall.matches("loader: ").count(), 1, "{wall}");
}

fn from_cd(name: &str, cpu: &str, memory: &str, disk: &[u8]) -> Said {
    machine(name, Q35, cpu, memory, disk, Medium::Cd)
}

/// `cargo xtask run --batch --firmware uefi` with more words: what it printed, and whether it succeeded.
fn run(folder: &str, words: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["xtask", "run", "--batch", "--arch", "x86_64", "--firmware", "uefi", "--folder"]);
    command.arg(format!("target/run/uefi-{folder}")).args(words);
    let output = command.current_dir(root()).output().expect("cargo runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (said, output.status.success())
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn the_demonstration_runs_when_uefi_started_the_wall() {
    let (said, is_well) = run("demo", &[]);
    assert!(is_well, "{said}");
}

/// OVMF puts the application where its file wants to lie if there is memory, which is above 4 GiB: nothing of the loader or the
/// wall may depend on where that is.
#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_machine_with_memory_above_4_gib_runs_a_guest() {
    let (said, is_well) = run("large", &["--memory", "6G", "--kernel", "target/run/guests/pc-spinner.img"]);
    assert!(is_well && said.contains("spinner: done"), "{said}");
}

/// A site of one policy, whose start with another policy than the last one is on record: its audit app comes before the app that the guest makes
/// compute for ever.
fn revised(name: &str, revision: u32, rules: &str) -> String {
    let site = root().join("target/run/uefi-revised").join(name);
    fs::create_dir_all(&site).expect("target/run can be written");
    let copy = |file: &str, change: &dyn Fn(String) -> String| {
        let text = fs::read_to_string(root().join("tests/sites/ports").join(file)).expect("a file of the site");
        fs::write(site.join(file), change(text)).expect("target/run can be written");
    };
    copy("site.toml", &|text| {
        text.replace(
            "[secure]",
            "[app.audit]\npriority = 0\nrestart_limit = 0\nrights = [\"audit\", \"policy\"]\n\n[secure]",
        )
    });
    copy("site.policy", &|text| {
        let head = format!("policy ports\nrevision {revision}\napp audit\n");
        text.replacen("policy ports\n", &head, 1) + rules
    });
    format!("target/run/uefi-revised/{name}")
}

/// C09: the firmware remembers the last policy, out of the guest's reach.
#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn an_older_policy_than_the_last_is_refused_and_a_new_one_is_an_event() {
    const VARIABLES: &str = "target/run/uefi-revised/variables.fd";
    let event = "on policy swap audit\n";
    let changed = format!("{event}deny guest clock.now\n");
    let [first, same, other, older] = [
        revised("first", 2, event),
        revised("same", 2, event),
        revised("other", 3, &changed),
        revised("older", 2, &changed),
    ];
    let _ = fs::remove_file(root().join(VARIABLES));
    let start = |site: &str, is_taken: bool| {
        let words = ["--site", site, "--kernel", "target/run/guests/pc-spinner.img", "--any", "--variables", VARIABLES];
        let (said, is_well) = run("revised/run", &words);
        assert_eq!(is_well, is_taken, "{said}");
        said
    };
    let swap = "kernel -> life.policy_swap";
    let said = start(&first, true);
    assert!(said.contains("policy revision 2; the first that the firmware remembers") && said.contains(swap), "{said}");
    let said = start(&same, true);
    assert!(said.contains("policy revision 2; as at the last start") && !said.contains(swap), "{said}");
    assert!(said.contains("audit: #"), "{said}");
    let said = start(&other, true);
    assert!(said.contains("policy revision 3; revision 2 ran last") && said.contains(swap), "{said}");
    let said = start(&older, false);
    let refusal =
        "the policy is older than the last one here: revision 2 after 3; write a later `revision` into it; stopped";
    assert!(said.contains(refusal) && !said.contains("wall | up"), "{said}");
    // The refused one is not remembered.
    assert!(start(&other, true).contains("policy revision 3; as at the last start"));
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_cpu_without_what_the_wall_needs_is_refused_on_the_firmwares_console() {
    expect(&from_cd("no-svm", "qemu64,-svm", "512M", &disk()), "already beneath a hypervisor that does not nest");
    expect(&from_cd("no-npt", "EPYC,+svm,-npt", "512M", &disk()), "the CPU's SVM has no nested paging");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn too_little_memory_is_refused_on_the_firmwares_console() {
    expect(&from_cd("small", SVM, "96M", &disk()), "loader: too little memory: ");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_machine_whose_firmware_names_no_acpi_tables_is_refused() {
    let said = machine("no-acpi", "q35,acpi=off", SVM, "512M", &disk(), Medium::Cd);
    expect(&said, "loader: no ACPI: its root pointer is missing or damaged; stopped");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_missing_bundle_is_refused_with_the_place_where_it_belongs() {
    let mut disk = disk();
    // The folder's entry gets another name in both of its forms (FAT: 8.3, and 16-bit letters before it).
    for (right, wrong) in [(&b"BUNDLE  IMG"[..], &b"BUNDLX  IMG"[..]), (b"b\0u\0n\0d\0l\0", b"b\0u\0n\0d\0x\0")] {
        for at in places(&disk, right) {
            disk[at..at + wrong.len()].copy_from_slice(wrong);
        }
    }
    expect(&from_cd("none", SVM, "512M", &disk), r"loader: no bundle: \EFI\bulkhead\bundle.img is missing");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_cut_bundle_and_an_altered_part_are_refused_by_name_from_cd_and_stick() {
    let (mut disk, bundle) = (disk(), bundle());
    let places = places(&disk, &bundle[..4096]);
    assert_eq!(places.len(), 2, "one copy for each boot path");
    for at in &places {
        disk[at + bundle.len() / 2] ^= 1;
    }
    let altered = "the bundle's part 'guest kernel' is altered";
    expect(&machine("altered", Q35, SVM, "512M", &disk, Medium::Stick), altered);
    // Its length, in the header: 16 MiB more than there is.
    for at in &places {
        disk[at + 19] += 1;
    }
    expect(&from_cd("cut", SVM, "512M", &disk), "the bundle is cut");
}
