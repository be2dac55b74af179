//! What a fresh Debian machine lacks: Rust targets, the emulator, the guest's kernel and busybox.

use std::fs;
use std::path::PathBuf;

use crate::command::{self, Error, Result, has, output, program, root, step};

/// The images' target.
pub(crate) const IMAGE_TARGET: &str = "aarch64-unknown-none-softfloat";

/// The target of the guest's command: Linux, without a C library of its own.
pub(crate) const GUEST_TARGET: &str = "aarch64-unknown-linux-musl";

/// Where downloads are kept.
pub(crate) fn cache() -> PathBuf {
    root().join("target/cache")
}

/// Everything, in order; each part says nothing when there is nothing to do.
pub(crate) fn run() -> Result<()> {
    for target in [IMAGE_TARGET, GUEST_TARGET] {
        rust_target(target)?;
    }
    emulator()?;
    guest()
}

/// Whether the compiler has a target's libraries; if not, it has their sources (see `rust_target`).
pub(crate) fn has_libraries(target: &str) -> Result<bool> {
    Ok(sysroot()?.join("lib/rustlib").join(target).join("lib").is_dir())
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(output(program("rustc", &["--print", "sysroot"]))?.trim()))
}

/// The libraries of a target: there, or added by rustup, or built from the compiler's sources, as Debian has them.
fn rust_target(target: &str) -> Result<()> {
    if has_libraries(target)? {
        return Ok(());
    }
    if sysroot()?.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
        step(&format!("no libraries for {target}: built from the compiler's sources"));
        return if target == GUEST_TARGET { musl() } else { Ok(()) };
    }
    step(&format!("adding the Rust target {target}"));
    command::run(program("rustup", &["target", "add", target])).map_err(|error| {
        Error(format!(
            "{error}; the Rust target {target} is needed: where rustup may download, run: rustup target add {target}"
        ))
    })
}

/// Where the C library for the guest's command lies, when the compiler has none of its own.
pub(crate) fn musl_libraries() -> PathBuf {
    cache().join("musl/usr/lib/aarch64-linux-musl")
}

/// Debian's musl for the guest's command.
fn musl() -> Result<()> {
    let libraries = musl_libraries();
    if libraries.join("libunwind.a").is_file() {
        return Ok(());
    }
    step("fetching Debian's arm64 musl (1 MB, once)");
    fetch("musl", "musl-dev")?;
    // A panic ends the program at once: there is nothing to unwind, and nothing is asked of the unwinder that Rust names.
    fs::write(libraries.join("libunwind.a"), b"!<arch>\n")
        .map_err(|error| Error(format!("cannot write to {}: {error}", libraries.display())))
}

fn emulator() -> Result<()> {
    if has("qemu-system-aarch64") {
        return Ok(());
    }
    const INSTALL: &str = "apt-get install -y --no-install-recommends qemu-system-arm";
    if !has("apt-get") {
        return Err(Error(format!(
            "qemu-system-aarch64 is missing, and this is no Debian: install QEMU 7.2 or newer (Debian: {INSTALL})"
        )));
    }
    let is_root = output(program("id", &["-u"]))?.trim() == "0";
    let sudo = !is_root && has("sudo") && command::run(program("sudo", &["-n", "true"])).is_ok();
    if !is_root && !sudo {
        return Err(Error(format!("qemu-system-aarch64 is missing and needs root to install; run: sudo {INSTALL}")));
    }
    step("installing the emulator (qemu-system-arm)");
    let prefix = if sudo { "sudo " } else { "" };
    run_shell(&format!("{prefix}apt-get update -qq && {prefix}env DEBIAN_FRONTEND=noninteractive {INSTALL} -qq"))
}

/// Debian's arm64 kernel and busybox.
fn guest() -> Result<()> {
    if cache().join("guest/stamp").is_file() {
        return Ok(());
    }
    step("fetching Debian's arm64 kernel and busybox (about 60 MB, once)");
    const KERNEL: &str =
        "$(apt-cache $options depends linux-image-arm64 | awk '/Depends: linux-image-/{print $2; exit}')";
    fetch("guest", &format!("busybox-static \"{KERNEL}\""))?;
    run_shell(&format!("cd '{}/guest' && ls boot/vmlinuz-* bin/busybox > stamp", cache().display()))
}

/// Debian's arm64 packages, unpacked in a folder of the cache: by apt with a private state, so that it takes no root and
/// nothing on the system changes. `packages` is a piece of shell.
fn fetch(folder: &str, packages: &str) -> Result<()> {
    let cache = cache();
    for folder in ["lists/partial", "archives/partial", folder] {
        fs::create_dir_all(cache.join(folder))
            .map_err(|error| Error(format!("cannot create {}: {error}", cache.join(folder).display())))?;
    }
    let options = "-qq -oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oAPT::Sandbox::User= -oDir::State::Lists=../lists -oDir::Cache=..";
    run_shell(&format!(
        "cd '{}' && options='{options}' && apt-get $options update && rm -f ./*.deb && apt-get $options download {packages} \
         && for package in *.deb; do dpkg -x \"$package\" . || exit 1; done && rm -f ./*.deb",
        cache.join(folder).display()
    ))
}

fn run_shell(script: &str) -> Result<()> {
    command::run(program("sh", &["-c", script]))
}

/// The newest of Debian's kernels that were fetched.
pub(crate) fn guest_kernel() -> Result<PathBuf> {
    let boot = cache().join("guest/boot");
    let entries = fs::read_dir(&boot).map_err(|error| Error(format!("cannot read {}: {error}", boot.display())))?;
    let kernels = entries.filter_map(std::result::Result::ok).map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"));
    kernels
        .filter(is_kernel)
        .max()
        .ok_or_else(|| Error(format!("no kernel in {}; remove target/cache and set up again", boot.display())))
}

/// A driver of the guest kernel, by its place among its drivers.
pub(crate) fn guest_module(name: &str) -> Result<PathBuf> {
    let modules = cache().join("guest/lib/modules");
    let entries =
        fs::read_dir(&modules).map_err(|error| Error(format!("cannot read {}: {error}", modules.display())))?;
    let versions =
        entries.filter_map(std::result::Result::ok).map(|entry| entry.path().join("kernel/drivers").join(name));
    let found = versions.filter(|path| path.is_file()).max();
    found.ok_or_else(|| {
        Error(format!("no driver {name} in {}; remove target/cache and set up again", modules.display()))
    })
}
