//! Building the images: bare-metal binaries for the machine.

use std::path::PathBuf;

use crate::command::{Result, program, root, run, step};
use crate::setup::{GUEST_TARGET, IMAGE_TARGET};

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
    let mut args = vec!["build", "--quiet", "--release", "--target", IMAGE_TARGET];
    for image in IMAGES {
        args.extend(["--package", image]);
    }
    run(program("cargo", &args))?;
    Ok(root().join("target").join(IMAGE_TARGET).join("release"))
}

/// Builds the guest's command, a static program; returns its path.
pub(crate) fn guest_command() -> Result<PathBuf> {
    run(program(
        "cargo",
        &["build", "--quiet", "--release", "--target", GUEST_TARGET, "--package", "bulkhead-client"],
    ))?;
    Ok(root().join("target").join(GUEST_TARGET).join("release/bulkhead-guest"))
}

/// Builds the emulator's plugin that counts instructions; returns its path.
pub(crate) fn counting_plugin() -> Result<PathBuf> {
    run(program("cargo", &["build", "--quiet", "--package", "bulkhead-count"]))?;
    Ok(root().join("target/debug/libbulkhead_count.so"))
}
