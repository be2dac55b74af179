//! The real loader, hypervisor and Debian kernel in the emulator; each case starts one machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WALL: &str = "virt,virtualization=on,gic-version=3";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    root().join("target/run")
}

/// Starts a machine and returns what its UART and the wall's console said. A machine that does not end is a failure.
fn machine(name: &str, kind: &str, memory: &str, cpu: &str, bundle: Option<&[u8]>) -> String {
    let wall = folder().join(format!("{name}.wall.log"));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "90", "qemu-system-aarch64", "-M", kind, "-cpu", cpu, "-m", memory]);
    command.args(["-display", "none", "-nic", "none", "-no-reboot", "-serial", "stdio", "-kernel"]);
    command.arg(folder().join("loader.img"));
    if let Some(bytes) = bundle {
        let path = folder().join(format!("{name}.bundle.img"));
        fs::write(&path, bytes).expect("target/run can be written");
        command.arg("-initrd").arg(path);
    }
    command.args(["-device", "virtio-serial-device", "-device", "virtconsole,chardev=wall", "-chardev"]);
    command.arg(format!("file,id=wall,path={}", wall.display()));
    let output = command.output().expect("the emulator is installed");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), fs::read_to_string(&wall).unwrap_or_default());
    assert!(output.status.success(), "the machine did not end by itself:\n{said}");
    said
}

fn bundle() -> Vec<u8> {
    fs::read(folder().join("bundle.img")).expect("cargo xtask build was run")
}

/// A bundle of another site, with a guest that is never started.
fn bundle_of(site: &str) -> Vec<u8> {
    let name = format!("target/run/{}", site.replace('/', "-"));
    let mut command = Command::new(env!("CARGO"));
    command.args(["xtask", "build", "--site", site, "--kernel", "target/run/guests/spinner.img", "--folder", &name]);
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(root().join(name).join("bundle.img")).expect("the bundle was written")
}

fn expect(said: &str, line: &str) {
    assert!(said.contains(line), "expected '{line}' in:\n{said}");
}

/// `cargo xtask run --batch` with more words: what it printed, if it succeeded.
fn run(folder: &str, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(["xtask", "run", "--batch", "--folder", folder]).args(words);
    command.current_dir(root());
    let output = command.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn the_demonstration_shows_every_line_that_its_site_expects() {
    let said = run("target/run/demo", &[]);
    expect(&said, "guest | demo: done");
    expect(&said, "16384 KiB taken from the guest");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn it_runs_with_vhe_present_and_newer_features_hidden() {
    run("target/run/vhe", &["--cpu", "max,pauth-impdef=on"]);
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_hostile_guest_gets_a_defined_answer_to_everything_and_the_secure_side_lives_on() {
    let said = run("target/run/hostile", &["--kernel", "target/run/guests/hostile.img"]);
    expect(&said, "hostile: done, 0 failed");
    assert!(said.lines().count() < 300, "the console was flooded:\n{said}");
    assert!(!said.contains("the secure kernel failed") && !said.contains("faulted"), "{said}");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn apps_that_crash_hang_or_lie_give_defined_errors_and_the_rest_lives_on() {
    let words = ["--site", "tests/sites/faulty", "--kernel", "target/run/guests/broken.img"];
    let said = run("target/run/broken", &words);
    expect(&said, "broken: done, 0 failed");
    assert!(!said.contains("the secure kernel failed"), "{said}");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_secure_kernel_that_hangs_is_ended_and_the_guest_goes_on() {
    let words = ["--hanging-kernel", "--any", "--append", "bulkhead.boot"];
    let said = run("target/run/hangs", &words);
    let after = said.split_once("; the guest goes on without it").map_or("", |(_, after)| after);
    expect(after, "the guest is off (0 restarts)");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_guest_that_spins_with_interrupts_masked_does_not_stop_the_secure_side() {
    let said = run("target/run/spinner", &["--kernel", "target/run/guests/spinner.img"]);
    let masked = said.split("spinner: spins").nth(1).and_then(|rest| rest.split("spinner: done").next());
    let beats = masked.map_or(0, |said| said.matches("heartbeat").count());
    assert!(beats >= 3, "{beats} heartbeats in five masked seconds:\n{said}");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_guest_that_resets_is_started_anew_alone_until_its_limit() {
    let said = run("target/run/reset", &["--kernel", "target/run/guests/restless.img"]);
    assert_eq!(said.matches("restless: up").count(), 17, "{said}");
    expect(&said, "the guest restarted too often (16 restarts); stopping the machine");
    assert_eq!(said.matches("bundle checked").count(), 1, "the machine itself was not restarted");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_start_at_el1_is_refused_in_plain_words() {
    let said = machine("el1", "virt,gic-version=3", "1G", "cortex-a72", Some(&bundle()));
    expect(&said, "loader: started at EL1: the wall needs EL2");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn an_older_interrupt_controller_is_refused() {
    let said = machine("gicv2", "virt,virtualization=on,gic-version=2", "1G", "cortex-a72", Some(&bundle()));
    expect(&said, "unknown interrupt controller: the wall needs a GICv3");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn too_little_memory_is_refused_with_what_is_needed() {
    let said = machine("small", WALL, "48M", "cortex-a72", Some(&bundle()));
    expect(&said, "too little memory");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_missing_bundle_is_refused() {
    expect(&machine("none", WALL, "1G", "cortex-a72", None), "loader: no bundle");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_cut_bundle_is_refused() {
    let bytes = bundle();
    expect(&machine("cut", WALL, "1G", "cortex-a72", Some(&bytes[..bytes.len() - 4096])), "the bundle is cut");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn an_altered_part_is_refused_by_name() {
    let mut bytes = bundle();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    expect(&machine("altered", WALL, "1G", "cortex-a72", Some(&bytes)), "part 'guest kernel' is altered");
}

#[test]
#[ignore = "needs the emulator: cargo xtask test"]
fn a_machine_without_what_the_policy_requires_is_refused_with_the_policys_line() {
    let bundle = bundle_of("tests/sites/required");
    for (name, more, line) in [
        ("cores", "", "loader: site.policy:5 requires cores: at least 2 are needed, the machine has 1; stopped"),
        ("no-iommu", ",smp.cpus=2", "loader: site.policy:6 requires iommu: the firmware names no IOMMU; stopped"),
        (
            "iommu",
            ",smp.cpus=2,iommu=smmuv3",
            "loader: site.policy:6 requires iommu: the machine has an IOMMU, but this wall does not drive one yet",
        ),
    ] {
        let said = machine(name, &format!("{WALL}{more}"), "1G", "cortex-a72", Some(&bundle));
        expect(&said, line);
        assert!(!said.contains("wall: up"), "{said}");
    }
}
