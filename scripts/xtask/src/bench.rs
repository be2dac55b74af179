//! The wall's figures: instructions a round trip, counted by the bench guest under the exact instruction clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use clap::Parser;

use crate::command::{Error, Result, output, program, root, step};
use crate::run;
use crate::setup::IMAGE_TARGET;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The architecture
    #[arg(long, default_value = "aarch64", value_parser = ["aarch64"])]
    arch: String,
    /// One JSON object in the place of the table
    #[arg(long)]
    json: bool,
    /// Writes the counts down as the ones to hold, on purpose
    #[arg(long)]
    update: bool,
}

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
];

/// Where the counts to hold are kept.
const HELD: &str = "tests/bench/aarch64.txt";

/// The verb.
pub(crate) fn run_bench(options: &Options) -> Result<()> {
    let figures = measure()?;
    if options.json {
        let pairs: Vec<String> = figures.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        println!("{{{}}}", pairs.join(", "));
    } else {
        println!("{:<18}{:>10}{:>10}  peers", "instructions", "here", "to reach");
        for (name, goal, peers) in ROWS {
            let value = figures.get(*name).map_or("-", String::as_str);
            println!("{name:<18}{value:>10}{goal:>10}  {peers}");
        }
    }
    hold(&figures, options.update)
}

/// Builds the bench guest, runs it and reads its lines.
fn measure() -> Result<BTreeMap<String, String>> {
    step("building the bench guest");
    crate::command::run(program(
        "cargo",
        &["build", "--quiet", "--release", "--target", IMAGE_TARGET, "--package", "bulkhead-guests"],
    ))?;
    let elf = root().join("target").join(IMAGE_TARGET).join("release/bulkhead-guest-bench");
    let image = run::plain_image(&elf)?;
    let folder = root().join("target/run/bench");
    let path = folder.join("guest.img");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, image));
    written.map_err(|error| Error(format!("cannot write {}: {error}", path.display())))?;
    let words = ["--batch", "--icount", "--quiet", "--folder", "target/run/bench", "--kernel"];
    let arguments = ["run"].into_iter().chain(words).map(String::from).chain([path.display().to_string()]);
    let said = run::guest_output(&Arguments::parse_from(arguments).options)?;
    let lines = said.lines().filter_map(|line| line.strip_prefix("bench: ")).filter_map(|line| line.split_once(' '));
    let figures: BTreeMap<String, String> = lines.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    match figures.get("loop").map(String::as_str) {
        Some("2.00") => Ok(figures),
        other => Err(Error(format!("the instruction clock is off: a loop of 2 instructions counted {other:?}"))),
    }
}

/// The guest run's own options, with their defaults.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: run::Options,
}

/// Compares with the counts written down, with no tolerance where the compiler and the emulator are the same.
fn hold(figures: &BTreeMap<String, String>, update: bool) -> Result<()> {
    let tools =
        format!("{} / {}", first_line("rustc", &["--version"])?, first_line("qemu-system-aarch64", &["--version"])?);
    let mut text = format!("# Exact counts of `cargo xtask bench`; changed on purpose by --update.\ntools {tools}\n");
    figures.iter().for_each(|(name, value)| {
        let _ = writeln!(text, "{name} {value}");
    });
    let path = root().join(HELD);
    if update {
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        return folder
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| Error(format!("cannot write {HELD}: {error}")));
    }
    let held = fs::read_to_string(&path)
        .map_err(|error| Error(format!("cannot read {HELD}: {error}; make it by --update")))?;
    if held == text {
        return Ok(());
    }
    if !held.contains(&format!("tools {tools}\n")) {
        eprintln!("bench: the counts of {HELD} are of other tools; not compared");
        return Ok(());
    }
    Err(Error(format!("the counts differ from {HELD}; if that is meant: cargo xtask bench --update")))
}

fn first_line(name: &str, arguments: &[&str]) -> Result<String> {
    Ok(output(program(name, arguments))?.lines().next().unwrap_or_default().to_string())
}
