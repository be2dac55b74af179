//! Building the images: bare-metal binaries for the machine.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{Result, program, root, run, step};
use crate::setup::{GUEST_TARGET, IMAGE_TARGET, has_libraries, musl_libraries};

/// The packages that are images.
pub(crate) const IMAGES: &[&str] = &[
    "bulkhead-hypervisor",
    "bulkhead-loader",
    "bulkhead-kernel",
    "bulkhead-app-audit",
    "bulkhead-app-bridge",
    "bulkhead-app-clock",
    "bulkhead-app-faulty",
    "bulkhead-app-historian",
    "bulkhead-app-plant",
    "bulkhead-guests",
];

/// Builds all images; returns the folder of their ELF files.
pub(crate) fn run_build() -> Result<PathBuf> {
    step("building the images");
    let mut command = cargo("build", IMAGE_TARGET)?;
    command.arg("--release").args(IMAGES.iter().flat_map(|image| ["--package", image]));
    run(command)?;
    Ok(root().join("target").join(IMAGE_TARGET).join("release"))
}

/// Builds the guest's command, a static program; returns its path.
pub(crate) fn guest_command() -> Result<PathBuf> {
    let mut command = cargo("build", GUEST_TARGET)?;
    command.args(["--release", "--package", "bulkhead-client"]);
    run(command)?;
    Ok(root().join("target").join(GUEST_TARGET).join("release/bulkhead-guest"))
}

/// Builds the emulator's plugin that counts instructions; returns its path.
pub(crate) fn counting_plugin() -> Result<PathBuf> {
    run(program("cargo", &["build", "--quiet", "--package", "bulkhead-count"]))?;
    Ok(root().join("target/debug/libbulkhead_count.so"))
}

/// A cargo verb for a target; where the compiler lacks the target's libraries, they are built from its sources.
pub(crate) fn cargo(verb: &str, target: &str) -> Result<Command> {
    let mut command = program("cargo", &[verb, "--quiet", "--target", target]);
    if has_libraries(target)? {
        return Ok(command);
    }
    // Building the libraries is a matter of cargo's nightly versions; the compiler of a release does it when told to.
    command.env("RUSTC_BOOTSTRAP", "1");
    if target == GUEST_TARGET {
        let musl = musl_libraries();
        let parts = ["crt1.o", "crti.o", "crtn.o"].map(|part| format!("-Clink-arg={}", musl.join(part).display()));
        let flags = format!(
            "-Clink-self-contained=no -Crelocation-model=static -Lnative={} {}",
            musl.display(),
            parts.join(" ")
        );
        command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS", flags);
    } else {
        command.arg("-Zbuild-std=core,alloc,compiler_builtins");
    }
    Ok(command)
}
