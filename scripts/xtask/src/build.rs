//! Building the images: bare-metal binaries for the machine.

use std::path::PathBuf;
use std::process::Command;

use crate::arch::{Arch, Targets};
use crate::command::{Result, program, root, run, step};
use crate::setup::{has_libraries, musl_libraries};

/// The packages that are images on every architecture.
const IMAGES: &[&str] = &[
    "bulkhead-hypervisor",
    "bulkhead-loader",
    "bulkhead-kernel",
    "bulkhead-app-audit",
    "bulkhead-app-bridge",
    "bulkhead-app-clock",
    "bulkhead-app-faulty",
    "bulkhead-app-historian",
    "bulkhead-app-plant",
];

/// The hypervisor's features by which it observes itself (x86-64): it counts exits, looks at its own memory, plays a later CPU of SVM.
pub(crate) const COUNTING: &str = "bulkhead-hypervisor/count-exits";
pub(crate) const WATCHING: &str = "bulkhead-hypervisor/watch";
pub(crate) const LATER_SVM: &str = "bulkhead-hypervisor/later-svm";
/// The secure kernel's, by which it hangs.
pub(crate) const HANGS: &str = "bulkhead-kernel/hangs";

/// The images of an architecture.
pub(crate) fn images(arch: Arch) -> impl Iterator<Item = &'static str> {
    let own = match arch {
        Arch::Aarch64 => ["bulkhead-guests"].iter(),
        Arch::X86_64 => ["bulkhead-guests-x86_64"].iter(),
    };
    IMAGES.iter().chain(own).copied()
}

/// Builds all images, with features if there are any to name; returns the folder of their ELF files.
pub(crate) fn run_build(arch: Arch, features: &[&str]) -> Result<PathBuf> {
    step("building the images");
    let mut command = cargo("build", arch, arch.image_target())?;
    command.arg("--release").args(images(arch).flat_map(|image| ["--package", image]));
    command.args(features.iter().flat_map(|feature| ["--features", feature]));
    run(command)?;
    Ok(programs(arch))
}

/// Builds the loader as a UEFI application, where the architecture has one; returns its path.
pub(crate) fn uefi_loader(arch: Arch) -> Result<Option<PathBuf>> {
    let Some(target) = arch.uefi_target() else { return Ok(None) };
    let mut command = cargo("build", arch, target)?;
    command.args(["--release", "--package", "bulkhead-loader"]);
    run(command)?;
    Ok(Some(root().join("target").join(target).join("release/bulkhead-loader.efi")))
}

/// Where the images' ELF files are.
pub(crate) fn programs(arch: Arch) -> PathBuf {
    root().join("target").join(arch.image_target()).join("release")
}

/// Builds the guest's command, a static program; returns its path.
pub(crate) fn guest_command(arch: Arch) -> Result<PathBuf> {
    let mut command = cargo("build", arch, arch.guest_target())?;
    command.args(["--release", "--package", "bulkhead-client"]);
    run(command)?;
    Ok(root().join("target").join(arch.guest_target()).join("release/bulkhead-guest"))
}

/// Builds the emulator's plugin that counts instructions; returns its path.
pub(crate) fn counting_plugin() -> Result<PathBuf> {
    run(program("cargo", &["build", "--quiet", "--package", "bulkhead-count"]))?;
    Ok(root().join("target/debug/libbulkhead_count.so"))
}

/// A cargo verb for a target; where the compiler lacks the target's libraries, they are built from its sources.
pub(crate) fn cargo(verb: &str, arch: Arch, target: &str) -> Result<Command> {
    let mut command = program("cargo", &[verb, "--quiet", "--target", target]);
    if has_libraries(target)? {
        return Ok(command);
    }
    // Building the libraries is a matter of cargo's nightly versions; the compiler of a release does it when told to.
    command.env("RUSTC_BOOTSTRAP", "1");
    if target == arch.guest_target() {
        let musl = musl_libraries(arch);
        let parts = ["crt1.o", "crti.o", "crtn.o"].map(|part| format!("-Clink-arg={}", musl.join(part).display()));
        let flags = format!(
            "-Clink-self-contained=no -Crelocation-model=static -Lnative={} {}",
            musl.display(),
            parts.join(" ")
        );
        command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
        command.env(format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_")), flags);
    } else {
        command.arg("-Zbuild-std=core,alloc,compiler_builtins");
    }
    Ok(command)
}
