//! Looks deeper than every test has time for: undefined behaviour (Miri), hostile bytes (libFuzzer), and whether the tests would
//! see a monitor that decides otherwise (mutants). Not part of `cargo xtask test`: the first two want a nightly compiler.

use std::process::Command;

use clap::{Args, ValueEnum};

use crate::command::{Error, Result, output, program, root, run, step};

/// The versions of the tools that are built into target/tools.
const FUZZ: &str = "0.13.2";
const MUTANTS: &str = "27.1.0";

/// What `cargo-fuzz` runs: `tests/fuzz/targets/targets`.
const TARGETS: [&str; 3] = ["text", "table", "policy_and_calls"];

/// Crates whose tests Miri runs, in minutes; what they leave out under Miri, they say. Others compile policies or count to a
/// million in their tests: hours.
const UNDER_MIRI: [&str; 4] = ["bulkhead-monitor", "bulkhead-model", "bulkhead-wire", "bulkhead-devices"];

/// Which of them.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    what: What,
    /// How long each target is fuzzed, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// For the tool: a test's name, a target, `--file policy/monitor/src/state.rs`
    #[arg(last = true)]
    words: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Runs the pure crates' tests under Miri
    Miri,
    /// Fuzzes text, tables, and policies with calls, from the examples on
    Fuzz,
    /// Changes monitor and table, one place after the other; each change must make a test fail
    Mutants,
}

/// Runs one of them.
pub(crate) fn run_one(options: &Options) -> Result<()> {
    match options.what {
        What::Miri => miri(&options.words),
        What::Fuzz => fuzz(options),
        What::Mutants => mutants(&options.words),
    }
}

fn miri(words: &[String]) -> Result<()> {
    let mut cargo = nightly(&["miri", "--version"], "miri")?;
    cargo.args(["miri", "test", "--target-dir", "target/miri", "--lib"]);
    cargo.args(UNDER_MIRI.iter().flat_map(|package| ["--package", package])).arg("--").args(words);
    // Tests read files, and proptest keeps what failed.
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "8");
    step("tests under Miri");
    run(cargo)
}

fn fuzz(options: &Options) -> Result<()> {
    nightly(&["--version"], "rust-src")?;
    let tool = tool("cargo-fuzz", FUZZ)?;
    let place = root().join("target/fuzz");
    let folder = place.display();
    step("what the targets begin with");
    let seeds = ["run", "--quiet", "--package", "bulkhead-fuzz", "--example", "seeds", "--"];
    let mut cargo = program("cargo", &seeds);
    cargo.arg(&place);
    run(cargo)?;
    let wanted: Vec<&str> = TARGETS
        .into_iter()
        .filter(|name| options.words.is_empty() || options.words.iter().any(|word| word == name))
        .collect();
    if wanted.is_empty() {
        return Err(Error(format!("no such target; there are {}", TARGETS.join(", "))));
    }
    for target in wanted {
        step(&format!("fuzzing {target} for {} s", options.seconds));
        let mut fuzz = program(&tool, &["fuzz", "run", "--fuzz-dir", "tests/fuzz/targets", target]);
        fuzz.arg(place.join(target)).args(["--target-dir", &place.join("build").display().to_string(), "--"]);
        fuzz.args([format!("-max_total_time={}", options.seconds), format!("-artifact_prefix={folder}/{target}-")]);
        fuzz.args([format!("-dict={folder}/words"), "-timeout=20".to_string(), "-print_final_stats=1".to_string()]);
        fuzz.env("RUSTUP_TOOLCHAIN", "nightly");
        run(fuzz).map_err(|error| Error(format!("{error}; the bytes are {folder}/{target}-…")))?;
    }
    Ok(())
}

fn mutants(words: &[String]) -> Result<()> {
    let tool = tool("cargo-mutants", MUTANTS)?;
    step("mutants of monitor and table (hours; what is judged and what is left out: .cargo/mutants.toml)");
    let mut mutants = program(&tool, &["mutants", "--output", "target"]);
    mutants.args(words);
    run(mutants)
}

/// Cargo of the nightly compiler, if it is there with what is needed of it.
fn nightly(probe: &[&str], component: &str) -> Result<Command> {
    let cargo = || program("rustup", &["run", "nightly", "cargo"]);
    let mut probed = cargo();
    probed.args(probe);
    match output(probed) {
        Ok(_) => Ok(cargo()),
        Err(_) => Err(Error(format!(
            "a nightly compiler is missing, or its {component}: rustup toolchain install nightly --profile minimal --component {component}"
        ))),
    }
}

/// The path of one of cargo's tools, built if it is not there.
fn tool(name: &str, version: &str) -> Result<String> {
    let tools = root().join("target/tools");
    let path = tools.join("bin").join(name).display().to_string();
    let verb = name.strip_prefix("cargo-").unwrap_or(name);
    let has_it = output(program(&path, &[verb, "--version"])).is_ok_and(|said| said.trim().ends_with(version));
    if !has_it {
        step(&format!("building {name} {version} (some minutes, once)"));
        let (crate_name, place) = (format!("{name}@{version}"), tools.display().to_string());
        run(program("cargo", &["install", "--quiet", "--locked", "--root", &place, &crate_name]))?;
    }
    Ok(path)
}
