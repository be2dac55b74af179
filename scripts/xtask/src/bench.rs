//! The wall's figures: instructions a round trip, counted by the bench guest under the exact instruction clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use clap::Parser;

use crate::arch::{self, Arch};
use crate::boot_time;
use crate::command::{Error, Result, output, program, root, step};
use crate::console::Output;
use crate::run;
use crate::site::Site;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The architecture
    #[arg(long, value_parser = arch::parser(), default_value = "aarch64")]
    pub(crate) arch: Arch,
    /// x86_64: its CPU: amd (QEMU), intel (Bochs), amd-bochs
    #[arg(long, value_parser = ["amd", "intel", "amd-bochs"])]
    cpu: Option<String>,
    /// One JSON object in the place of the table
    #[arg(long)]
    json: bool,
    /// Only the exact counts of the bare-metal guest
    #[arg(long)]
    exact: bool,
    /// Writes the counts down as the ones to hold, on purpose
    #[arg(long)]
    update: bool,
    /// What a decision of the policy's monitor costs on the host, in place of the machine's figures
    #[arg(long, conflicts_with_all = ["exact", "update"])]
    policy: bool,
}

/// The policy's figures: name, what to reach, the part of the peers' names that says the same.
const POLICY_ROWS: &[(&str, &str, &str)] = &[
    ("decide_allow_10_ns", "-", ""),
    ("decide_allow_10k_ns", "20", "_allow_10k_ns"),
    ("decide_deny_10k_ns", "as allow", "_deny_10k_ns"),
    ("decide_allow_100k_ns", "-", ""),
    ("flatness_10_to_100k", "1.5", ""),
    ("decide_state_ns", "60", ""),
    ("decide_text_ns", "-", ""),
    ("compile_10k_s", "1", ""),
    ("check_edit_10k_ms", "100", ""),
    ("bytes_per_rule", "64", ""),
];

/// Figure, what to reach, the peers' (instructions on cortex-a72, same kind of run).
const ROWS: &[(&str, &str, &str)] = &[
    ("null_call", "100", "Bao 148, Xen 420, KVM 990-1,485"),
    ("psci_version", "110", "Bao 189, Xen 471, KVM 1,053-1,548"),
    ("unknown_call", "-", "Xen 1,638 (writes a console line)"),
    ("gicd_read", "120", "Bao 224, Xen 598, KVM 1,809-2,279"),
    ("undeclared_read", "-", "-"),
    ("vtimer_delivery", "90", "Bao 208, Xen 1,102, KVM 2,443-2,923"),
    ("self_sgi", "210", "Bao 839, Xen 1,160, KVM 2,554-3,011"),
    ("service_call", "800", "seL4 IPC alone 440, KVM to user space 5,362"),
    ("refused_call", "250", "Xen 1,638 (an unknown id)"),
    ("guest_boot_overhead_percent", "0.01", "Bao 0.003, KVM 0.26-0.96"),
    ("guest_boot_overhead_percent_with_five_apps", "-", "-"),
    ("port_call_all_levels", "-", "-"),
    ("port_echo_at_el2", "1500", "-"),
    ("hypervisor_text_bytes", "65536", "Bao 65,288"),
    ("memory_taken_bytes", "16777216", "-"),
];

/// The same by VMX (instructions in Bochs; the prototype is thrown away, it only shows what can be reached).
const VMX_ROWS: &[(&str, &str, &str)] = &[
    ("null_call", "100", "prototype 62, KVM 966-1,110"),
    ("cpuid_exit", "110", "prototype 80, KVM 983-1,117"),
    ("controller_store", "-", "prototype, a walk for each byte 1,144-1,440"),
    ("unknown_call", "-", "-"),
    ("service_call", "800", "prototype, switch alone 201-206, KVM to user space 3,083-7,436"),
    ("refused_call", "-", "-"),
    ("boot_exits", "2000", "-"),
    ("boot_exits_to_power_off", "-", "prototype, all open 1,125-1,590"),
    ("guest_boot_overhead_percent", "0.1", "prototype 0.08"),
    ("hypervisor_text_bytes", "98304", "-"),
];

/// The same by SVM (instructions in Bochs and QEMU).
const SVM_ROWS: &[(&str, &str, &str)] = &[
    ("null_call", "130", "prototype 99-100, KVM 1,209-2,660, Xen about 6,010"),
    ("cpuid_exit", "-", "prototype 87-88, KVM 1,257-2,516, Xen 6,547"),
    ("controller_store", "-", "prototype, a walk for each byte 1,144-1,440"),
    ("unknown_call", "-", "-"),
    ("service_call", "800", "prototype, switch alone 192-194, KVM to user space 2,916-3,088"),
    ("refused_call", "-", "-"),
    ("boot_exits", "2000", "-"),
    ("boot_exits_to_power_off", "-", "prototype, all open 1,125-1,590"),
    ("guest_boot_overhead_percent", "0.1", "-"),
    ("hypervisor_text_bytes", "98304", "-"),
];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Virt,
    /// A PC with the CPU of this name.
    Pc(&'static str),
}

impl Target {
    fn of(options: &Options) -> Self {
        match (options.arch, options.cpu.as_deref()) {
            (Arch::Aarch64, _) => Self::Virt,
            (Arch::X86_64, Some("intel")) => Self::Pc("intel"),
            (Arch::X86_64, Some("amd-bochs")) => Self::Pc("amd-bochs"),
            (Arch::X86_64, _) => Self::Pc("amd"),
        }
    }

    const fn arch(self) -> Arch {
        match self {
            Self::Virt => Arch::Aarch64,
            Self::Pc(_) => Arch::X86_64,
        }
    }

    fn rows(self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self {
            Self::Virt => ROWS,
            Self::Pc("intel") => VMX_ROWS,
            Self::Pc(_) => SVM_ROWS,
        }
    }

    /// Where the counts to hold are kept; those of SVM's second emulator are not.
    fn held(self) -> Option<&'static str> {
        match self {
            Self::Virt => Some("tests/bench/aarch64.txt"),
            Self::Pc("intel") => Some("tests/bench/x86_64-intel.txt"),
            Self::Pc("amd") => Some("tests/bench/x86_64-amd.txt"),
            Self::Pc(_) => None,
        }
    }

    /// The emulator and its version.
    fn emulator(self) -> Result<String> {
        match self {
            Self::Virt => first_line("qemu-system-aarch64", &["--version"]),
            Self::Pc("amd") => first_line("qemu-system-x86_64", &["--version"]),
            // Bochs says its version only when it starts.
            Self::Pc(_) => Ok(format!("Bochs {}", first_line("dpkg-query", &["-W", "-f=${Version}", "bochs"])?)),
        }
    }

    /// A quiet batch under the exact instruction clock.
    fn options(self, words: &[&str]) -> run::Options {
        let machine: &[&str] = match self {
            Self::Virt => &["--icount"],
            Self::Pc("amd") => &["--arch", "x86_64", "--cpu", "amd", "--icount"],
            Self::Pc(cpu) => &["--arch", "x86_64", "--cpu", cpu],
        };
        Arguments::parse_from(["run", "--batch", "--silent"].iter().chain(machine).chain(words)).options
    }

    fn run(self, words: &[&str]) -> Result<Output> {
        run::guest_output(&self.options(words))
    }
}

/// The verb.
pub(crate) fn run_bench(options: &Options) -> Result<()> {
    if options.policy {
        return policy(options.json);
    }
    let target = Target::of(options);
    let exact = measure(target)?;
    let mut figures = exact.clone();
    if !options.exact {
        figures.extend(match target {
            Target::Virt => debian()?,
            Target::Pc(_) => debian_on_a_pc(target)?,
        });
    }
    if options.json {
        let pairs: Vec<String> = figures.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        println!("{{{}}}", pairs.join(", "));
    } else {
        println!("{:<44}{:>10}{:>10}  peers", "", "here", "to reach");
        for (name, goal, peers) in target.rows() {
            if let Some(value) = figures.get(*name) {
                println!("{name:<44}{value:>10}{goal:>10}  {peers}");
            }
        }
        for (name, value) in figures.iter().filter(|(name, _)| name.starts_with("boot_exits_by_")) {
            println!("{name:<44}{value:>10}");
        }
    }
    hold(target, &exact, options.update)
}

/// The monitor and its peers, one after the other on this machine. The peers are a workspace of their own, so that nothing else
/// builds them.
fn policy(as_json: bool) -> Result<()> {
    let monitor = ["run", "--quiet", "--release", "--package", "bulkhead-bench-policy"];
    let peers = ["run", "--quiet", "--release", "--locked", "--target-dir", "target/peers"];
    let mut figures = said(&monitor)?;
    figures.append(&mut said(&[&peers[..], &["--manifest-path", "tests/bench/peers/Cargo.toml"]].concat())?);
    if as_json {
        println!("{}", serde_json::Value::Object(figures));
        return Ok(());
    }
    println!("{:<28}{:>10}{:>10}  peers", "", "here", "to reach");
    for (name, goal, suffix) in POLICY_ROWS {
        let others = figures.iter().filter(|(other, _)| !suffix.is_empty() && !other.starts_with("decide"));
        let others = others.filter_map(|(other, value)| Some(format!("{} {value}", other.strip_suffix(suffix)?)));
        let others = others.collect::<Vec<_>>().join(", ");
        if let Some(value) = figures.get(*name) {
            println!("{name:<28}{value:>10}{goal:>10}  {}", if others.is_empty() { "-" } else { &others });
        }
    }
    Ok(())
}

/// The JSON object that a program of cargo prints.
fn said(arguments: &[&str]) -> Result<serde_json::Map<String, serde_json::Value>> {
    let text = output(program("cargo", arguments))?;
    serde_json::from_str(&text).map_err(|error| Error(format!("the bench said no JSON: {error}")))
}

/// Builds the bench guest, runs it and reads its lines.
fn measure(target: Target) -> Result<BTreeMap<String, String>> {
    step("building the bench guest");
    crate::build::run_build(target.arch(), &[])?;
    run::test_guests(target.arch())?;
    let kernel = match target {
        Target::Virt => "target/run/guests/bench.img",
        Target::Pc(_) => "target/run/guests/pc-bench.img",
    };
    let said = target.run(&["--folder", "target/run/bench", "--kernel", kernel])?;
    let lines =
        said.guest.lines().filter_map(|line| line.strip_prefix("bench: ")).filter_map(|line| line.split_once(' '));
    let mut figures: BTreeMap<String, String> =
        lines.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    figures.insert("hypervisor_text_bytes".to_string(), run::hypervisor_text_bytes(target.arch())?.to_string());
    // Reading the clock twice costs up to a hundredth of an instruction a turn.
    match figures.get("loop").map(String::as_str) {
        Some("2.00" | "2.01") => Ok(figures),
        other => Err(Error(format!("the instruction clock is off: a loop of 2 instructions counted {other:?}"))),
    }
}

/// What Debian as the guest costs: its boot against one without the wall, a call through a port, the memory.
fn debian() -> Result<BTreeMap<String, String>> {
    const LINE: &str = "randomize_kstack_offset=off bulkhead.boot";
    step("booting Debian without the wall, then beneath it");
    let site = Site::open(&root().join("policy/sites/demo"), Arch::Aarch64)?;
    let folder = root().join("target/run/boot");
    fs::create_dir_all(&folder).map_err(|error| Error(format!("cannot make {}: {error}", folder.display())))?;
    let line = format!("{} {LINE}", site.command_line()?);
    let native = boot_time::native(&folder, &site, &line)?;
    let mut figures = BTreeMap::from([("guest_boot_native_us".to_string(), native.to_string())]);
    let mut boot = |site: &str, name: &str| {
        let said = Target::Virt.run(&["--folder", "target/run/boot", "--site", site, "--append", LINE, "--any"])?;
        let beneath =
            boot_time::power_down(&said.guest).ok_or_else(|| Error("Debian did not power off".to_string()))?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one boot")]
        let overhead = (beneath as f64 / native as f64 - 1.0) * 100.0;
        figures.insert(name.to_string(), format!("{overhead:.4}"));
        Ok(said)
    };
    boot("policy/sites/minimal", "guest_boot_overhead_percent")?;
    let said = boot("policy/sites/demo", "guest_boot_overhead_percent_with_five_apps")?;
    figures.insert("memory_taken_bytes".to_string(), (taken_kib(&said.wall).unwrap_or(0) * 1024).to_string());
    let said = Target::Virt.run(&[
        "--folder",
        "target/run/boot",
        "--append",
        "randomize_kstack_offset=off bulkhead.ports",
        "--any",
    ])?;
    if let Some(value) = said.guest.split("\"fastest_ns\": ").nth(1).and_then(|rest| rest.split('}').next()) {
        figures.insert("port_call_all_levels".to_string(), value.to_string());
    }
    figures.insert("port_echo_at_el2".to_string(), echo()?.to_string());
    Ok(figures)
}

/// What a PC's Debian costs: its boot to power-off against one without the wall, in the memory that the wall leaves it; its exits.
fn debian_on_a_pc(target: Target) -> Result<BTreeMap<String, String>> {
    // Addresses and stack offsets are not random, and the clock's rate is told: to measure it takes another time each time.
    let (memory, rate) = if target == Target::Pc("amd") { (1024, 1_000_000) } else { (512, 50_000) };
    let words = format!("nokaslr randomize_kstack_offset=off tsc_early_khz={rate} bulkhead.boot");
    let beneath = |folder: &str, more: &[&str]| {
        let size = format!("{memory}M");
        let common =
            ["--folder", folder, "--site", "policy/sites/minimal", "--append", &words, "--any", "--memory", &size];
        target.run(&[&common, more].concat())
    };
    step("booting Debian beneath the wall, then without it");
    let said = beneath("target/run/boot", &[])?;
    let lost = || Error("Debian did not power off".to_string());
    let time = boot_time::power_down(&said.guest).ok_or_else(lost)?;
    let taken = taken_kib(&said.wall).ok_or_else(lost)?;
    let site = Site::open(&root().join("policy/sites/minimal"), Arch::X86_64)?;
    let size = format!("{}M", memory - taken.div_ceil(1024));
    // Natively without the event timer too, which the guest does not get, and without a trial of the timer's interrupt, which Linux leaves out
    // beneath an interface of KVM's: it would wait for some ticks more.
    let line = format!("{} bulkhead.batch {words} hpet=disable no_timer_check", site.command_line()?);
    let native = boot_time::native_pc(&target.options(&["--folder", "target/run/native", "--memory", &size]), &line)?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of one boot")]
    let overhead = (time as f64 / native as f64 - 1.0) * 100.0;
    step("counting its exits");
    let mut figures = exits(&beneath("target/run/counting", &["--count-exits"])?.wall)?;
    figures.insert("guest_boot_native_us".to_string(), native.to_string());
    figures.insert("guest_boot_overhead_percent".to_string(), format!("{overhead:.4}"));
    Ok(figures)
}

/// The exits that the wall told at its end: until the guest's first program, which is its shell, all and by kind; and until the machine's end.
fn exits(said: &str) -> Result<BTreeMap<String, String>> {
    let counts = |title: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(title)).unwrap_or_default();
        let words: Vec<&str> = line.split(' ').collect();
        let count = |pair: &[&str]| Some((pair.first()?.to_string(), pair.get(1)?.parse::<u64>().ok()?));
        let all: Option<Vec<(String, u64)>> = words.chunks(2).map(count).collect();
        all.ok_or_else(|| Error("the wall told no exits".to_string()))
    };
    let to_shell = counts("wall: exits to the first program: ")?;
    let sum = |counts: &[(String, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>().to_string();
    let mut figures = BTreeMap::from([
        ("boot_exits".to_string(), sum(&to_shell)),
        ("boot_exits_to_power_off".to_string(), sum(&counts("wall: exits: ")?)),
    ]);
    figures.extend(to_shell.iter().map(|(kind, count)| (format!("boot_exits_by_{kind}"), count.to_string())));
    Ok(figures)
}

/// The memory that the wall says it takes from the guest.
fn taken_kib(said: &str) -> Option<u64> {
    said.split(" KiB taken").next()?.rsplit(' ').next()?.parse().ok()
}

/// EL2's instructions for one line of 18 bytes through a named port and its answer: what some more of them cost.
fn echo() -> Result<u64> {
    const FEW: u64 = 100;
    const MORE: u64 = 600;
    // The machine's memory ends at 0x80000000; the hypervisor runs in its last 16 MiB, identity-mapped, and nothing else there.
    const RANGE: &str = "0x7f000000-0x80000000";
    step("counting the hypervisor's instructions while lines go through a port");
    let count = |echoes: u64| {
        let line = format!("randomize_kstack_offset=off bulkhead.echoes={echoes}");
        let said = Target::Virt.run(&["--folder", "target/run/boot", "--append", &line, "--any", "--count", RANGE])?;
        let count = said.wall.lines().find_map(|line| line.strip_prefix("count: ")?.parse::<u64>().ok());
        if !said.guest.contains("bench: the last echo: unknown eighteen-bytes-it") {
            return Err(Error("the port's lines were not answered".to_string()));
        }
        count.ok_or_else(|| Error("the emulator did not count: it lacks plugins of version 1".to_string()))
    };
    Ok(count(MORE)?.saturating_sub(count(FEW)?) / (MORE - FEW))
}

/// The guest run's own options, with their defaults.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: run::Options,
}

/// Compares with the counts written down, with no tolerance where the compiler and the emulator are the same.
fn hold(target: Target, figures: &BTreeMap<String, String>, update: bool) -> Result<()> {
    let Some(file) = target.held() else { return Ok(()) };
    let tools = format!("{} / {}", first_line("rustc", &["--version"])?, target.emulator()?);
    let mut text = format!("# Exact counts of `cargo xtask bench`; changed on purpose by --update.\ntools {tools}\n");
    figures.iter().for_each(|(name, value)| {
        let _ = writeln!(text, "{name} {value}");
    });
    let path = root().join(file);
    if update {
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        return folder
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| Error(format!("cannot write {file}: {error}")));
    }
    let held = fs::read_to_string(&path)
        .map_err(|error| Error(format!("cannot read {file}: {error}; make it by --update")))?;
    if held == text {
        return Ok(());
    }
    if !held.contains(&format!("tools {tools}\n")) {
        eprintln!("bench: the counts of {file} are of other tools; not compared");
        return Ok(());
    }
    Err(Error(format!("the counts differ from {file}; if that is meant: cargo xtask bench --update")))
}

fn first_line(name: &str, arguments: &[&str]) -> Result<String> {
    Ok(output(program(name, arguments))?.lines().next().unwrap_or_default().to_string())
}

#[cfg(test)]
mod tests {
    use super::{exits, taken_kib};

    #[test]
    fn exits_are_told_by_kind_and_added_up_and_a_run_that_tells_none_is_an_error() {
        let told = "wall: up\nwall: exits to the first program: cpuid 12 port 3 secure 0\nwall: exits: cpuid 20 port 3 secure 1\n";
        let figures = exits(told).unwrap();
        let of = |name: &str| figures[name].as_str();
        assert_eq!((of("boot_exits"), of("boot_exits_by_port"), of("boot_exits_to_power_off")), ("15", "3", "24"));
        assert!(exits("wall: up\n").is_err());
        assert!(exits(&told.replace("12", "many")).is_err());
        assert!(exits(&told.replace("wall: exits: ", "")).is_err());
    }

    #[test]
    fn the_memory_taken_is_read_from_the_walls_first_line() {
        assert_eq!(taken_kib("wall: up beneath the guest; 16384 KiB taken from the guest; starting"), Some(16_384));
        assert_eq!(taken_kib("wall: up"), None);
    }
}
