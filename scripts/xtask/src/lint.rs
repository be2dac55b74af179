//! Checks that don't run what they check: formatting, clippy on host and images, the monitor without panics, the dependencies'
//! licences and sources.

use std::process::Command;

use crate::arch::{Arch, Targets};
use crate::build;
use crate::command::{Error, Result, output, program, root, run, step};

/// The version of cargo-deny that the set-up builds.
const DENY: &str = "0.20.2";

/// The image without a panic handler.
const PANIC_FREE: &str = "bulkhead-panic-free";

/// Workspaces of their own, whose dependencies are no dependency of Bulkhead and are fetched only where they are run: formatted, and
/// no more.
const OUTSIDE: [&str; 2] = ["tests/bench/peers/Cargo.toml", "tests/fuzz/targets/Cargo.toml"];

/// All of them; the first that fails ends it.
pub(crate) fn check() -> Result<()> {
    if is_pinned()? {
        code()?;
    } else {
        step(
            "not the toolchain of rust-toolchain.toml: formatting and lints, which differ by version, are not checked",
        );
    }
    dependencies()
}

/// Whether the compiler is the one that the project names.
fn is_pinned() -> Result<bool> {
    let path = root().join("rust-toolchain.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|error| Error(format!("cannot read {}: {error}", path.display())))?;
    let pinned = text.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"')).unwrap_or_default();
    Ok(output(program("rustc", &["--version"]))?.starts_with(&format!("rustc {pinned} ")))
}

fn code() -> Result<()> {
    step("rustfmt");
    run(program("cargo", &["fmt", "--all", "--check"]))?;
    for manifest in OUTSIDE {
        run(program("cargo", &["fmt", "--manifest-path", manifest, "--check"]))?;
    }
    step("clippy, warnings denied");
    run(program("cargo", &["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"]))?;
    for arch in Arch::ALL {
        let mut images = build::cargo("clippy", arch, arch.image_target())?;
        images.arg("--release").args(build::images(arch).chain([PANIC_FREE]).flat_map(|image| ["--package", image]));
        if arch == Arch::X86_64 {
            // What observes, and what hangs, only adds.
            let features = [build::COUNTING, build::WATCHING, build::LATER_SVM, build::HANGS];
            images.args(features.map(|name| format!("--features={name}")));
        }
        run(with_warnings_denied(images))?;
        if let Some(target) = arch.uefi_target() {
            let mut loader = build::cargo("clippy", arch, target)?;
            loader.args(["--release", "--package", "bulkhead-loader"]);
            run(with_warnings_denied(loader))?;
        }
        let mut client = build::cargo("clippy", arch, arch.guest_target())?;
        client.args(["--package", "bulkhead-client"]);
        run(with_warnings_denied(client))?;
    }
    panics()
}

/// The monitor links where there is nothing to panic with; the same with a panic in it does not.
fn panics() -> Result<()> {
    step("no panic can be reached in the monitor");
    let link = |words: &[&str]| {
        let mut image = build::cargo("build", Arch::Aarch64, Arch::Aarch64.image_target())?;
        image.args(["--release", "--package", PANIC_FREE]).args(words);
        output(image)
    };
    link(&[])?;
    match link(&["--features", "counterproof"]) {
        Err(error) if error.0.contains("undefined symbol: a_panic_can_be_reached") => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error("a panic that can be reached was linked: this check is worth nothing".to_string())),
    }
}

fn with_warnings_denied(mut clippy: Command) -> Command {
    clippy.args(["--", "--deny", "warnings"]);
    clippy
}

/// Licences, sources and bans always; known vulnerabilities where their database is in reach.
fn dependencies() -> Result<()> {
    step("dependencies: licences, sources, bans");
    let tools = root().join("target/tools");
    let deny = tools.join("bin/cargo-deny").display().to_string();
    let has_it = output(program(&deny, &["--version"])).is_ok_and(|version| version.trim().ends_with(DENY));
    if !has_it {
        step(&format!("building cargo-deny {DENY} (some minutes, once)"));
        let version = format!("cargo-deny@{DENY}");
        let place = tools.display().to_string();
        run(program("cargo", &["install", "--quiet", "--locked", "--root", &place, &version]))?;
    }
    run(program(&deny, &["--all-features", "--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    let advisories = program(&deny, &["--all-features", "--log-level", "error", "check", "advisories"]);
    match output(advisories) {
        Ok(_) => step("no known vulnerabilities"),
        Err(error) if error.0.contains("advisory") && error.0.contains("unable to access") => {
            step("the database of known vulnerabilities is out of reach: not checked");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
