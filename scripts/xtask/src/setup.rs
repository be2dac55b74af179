//! What a fresh Debian machine lacks: Rust targets, the emulator, the guest's kernel and busybox.

use std::fs;
use std::path::{Path, PathBuf};

use crate::arch::{Arch, Targets};
use crate::command::{self, Error, Result, has, output, program, root, step};

/// Where downloads are kept.
pub(crate) fn cache() -> PathBuf {
    root().join("target/cache")
}

/// Everything for one architecture, in order; each part says nothing when there is nothing to do.
pub(crate) fn run(arch: Arch) -> Result<()> {
    for target in [arch.image_target(), arch.guest_target()].into_iter().chain(arch.uefi_target()) {
        rust_target(arch, target)?;
    }
    emulators(arch)?;
    guest(arch)
}

/// Whether the compiler has a target's libraries; if not, it has their sources (see `rust_target`).
pub(crate) fn has_libraries(target: &str) -> Result<bool> {
    Ok(sysroot()?.join("lib/rustlib").join(target).join("lib").is_dir())
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(output(program("rustc", &["--print", "sysroot"]))?.trim()))
}

/// The libraries of a target: there, or added by rustup, or built from the compiler's sources, as Debian has them.
fn rust_target(arch: Arch, target: &str) -> Result<()> {
    if has_libraries(target)? {
        return Ok(());
    }
    if sysroot()?.join("lib/rustlib/src/rust/library/Cargo.lock").is_file() {
        step(&format!("no libraries for {target}: built from the compiler's sources"));
        return if target == arch.guest_target() { musl(arch) } else { Ok(()) };
    }
    step(&format!("adding the Rust target {target}"));
    command::run(program("rustup", &["target", "add", target])).map_err(|error| {
        Error(format!(
            "{error}; the Rust target {target} is needed: where rustup may download, run: rustup target add {target}"
        ))
    })
}

/// Where the C library for the guest's command lies, when the compiler has none of its own.
pub(crate) fn musl_libraries(arch: Arch) -> PathBuf {
    let folder = arch.guest_target().replace("-unknown", "");
    cache().join(place("musl", arch)).join("usr/lib").join(folder)
}

/// A folder of the cache, one for each architecture; the first has the plain name.
fn place(name: &str, arch: Arch) -> String {
    match arch {
        Arch::Aarch64 => name.to_string(),
        Arch::X86_64 => format!("{name}-{}", arch.debian()),
    }
}

/// Where Debian's packages for the guest are unpacked.
pub(crate) fn guest_files(arch: Arch) -> PathBuf {
    cache().join(place("guest", arch))
}

/// Debian's musl for the guest's command.
fn musl(arch: Arch) -> Result<()> {
    let libraries = musl_libraries(arch);
    if libraries.join("libunwind.a").is_file() {
        return Ok(());
    }
    step(&format!("fetching Debian's {} musl (1 MB, once)", arch.debian()));
    fetch(arch, "musl", "musl-dev")?;
    // A panic ends the program at once: there is nothing to unwind, and nothing is asked of the unwinder that Rust names.
    fs::write(libraries.join("libunwind.a"), b"!<arch>\n")
        .map_err(|error| Error(format!("cannot write to {}: {error}", libraries.display())))
}

/// What each emulator needs: a program or file that says that it is there, and Debian's packages.
const fn emulator_packages(arch: Arch) -> &'static [(&'static str, &'static str)] {
    match arch {
        Arch::Aarch64 => &[("/usr/bin/qemu-system-aarch64", "qemu-system-arm")],
        Arch::X86_64 => &[
            ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
            ("/usr/bin/bochs", "bochs bochs-term"),
            ("/usr/share/bochs/BIOS-bochs-latest", "bochsbios"),
            ("/usr/share/bochs/VGABIOS-lgpl-latest", "vgabios"),
            ("/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
            ("/usr/bin/grub-mkrescue", "grub-common"),
            ("/usr/bin/xorriso", "xorriso"),
            ("/usr/bin/mformat", "mtools"),
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
        ],
    }
}

fn emulators(arch: Arch) -> Result<()> {
    let is_there = |file: &str| {
        let path = Path::new(file);
        path.is_file()
            || file.starts_with("/usr/bin") && path.file_name().is_some_and(|name| has(&name.to_string_lossy()))
    };
    let missing: Vec<&str> =
        emulator_packages(arch).iter().filter(|(file, _)| !is_there(file)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let install = format!("apt-get install -y --no-install-recommends {packages}");
    if !has("apt-get") {
        return Err(Error(format!(
            "{packages}: missing, and this is no Debian: install QEMU 7.2 or newer (x86_64: and Bochs 2.7, GRUB, xorriso; Debian: {install})"
        )));
    }
    let is_root = output(program("id", &["-u"]))?.trim() == "0";
    let sudo = !is_root && has("sudo") && command::run(program("sudo", &["-n", "true"])).is_ok();
    if !is_root && !sudo {
        return Err(Error(format!("{packages}: missing, and root is needed to install; run: sudo {install}")));
    }
    step(&format!("installing the emulator ({packages})"));
    let prefix = if sudo { "sudo " } else { "" };
    run_shell(&format!("{prefix}apt-get update -qq && {prefix}env DEBIAN_FRONTEND=noninteractive {install} -qq"))
}

/// Debian's kernel and busybox.
fn guest(arch: Arch) -> Result<()> {
    let files = guest_files(arch);
    if files.join("stamp").is_file() {
        return Ok(());
    }
    step(&format!("fetching Debian's {} kernel and busybox (about 60 MB, once)", arch.debian()));
    let package = arch.kernel_package();
    let kernel = format!("$(apt-cache $options depends {package} | awk '/Depends: linux-image-/{{print $2; exit}}')");
    fetch(arch, "guest", &format!("busybox-static \"{kernel}\""))?;
    run_shell(&format!("cd '{}' && ls boot/vmlinuz-* bin/busybox > stamp", files.display()))
}

/// Debian's packages of an architecture, unpacked in a folder of the cache. `packages` is a piece of shell.
fn fetch(arch: Arch, folder: &str, packages: &str) -> Result<()> {
    let source = Source { debian: arch.debian(), lists: place("lists", arch), release: None };
    fetch_from(&source, &place(folder, arch), packages, "*")
}

/// Where packages come from.
pub(crate) struct Source {
    /// Debian's name of the architecture.
    pub(crate) debian: &'static str,
    /// The cache's folder for the lists of packages.
    pub(crate) lists: String,
    /// A release of Debian; `None`: what the machine itself has.
    pub(crate) release: Option<&'static str>,
}

/// Fetches packages and unpacks those of their files that fit a pattern: by apt with a private state, so that it takes no root and nothing
/// on the system changes. `packages` is a piece of shell. A release is sought where the machine finds its own.
pub(crate) fn fetch_from(source: &Source, folder: &str, packages: &str, files: &str) -> Result<()> {
    const MIRROR: &str =
        "$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)";
    const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let (cache, Source { debian, lists, release }) = (cache(), source);
    for folder in [&format!("{lists}/partial"), "archives/partial", folder] {
        fs::create_dir_all(cache.join(folder))
            .map_err(|error| Error(format!("cannot create {}: {error}", cache.join(folder).display())))?;
    }
    let options = format!(
        "-qq -oAPT::Architecture={debian} -oAPT::Architectures={debian} -oAPT::Sandbox::User= -oDir::State::Lists=../{lists} -oDir::Cache=.."
    );
    let (listed, options) = release.map_or((String::new(), options.clone()), |release| {
        // Not among the lists, where apt removes what it does not know.
        let list = cache.join(folder).join("sources.list").display().to_string();
        let entry = format!(
            "mirror={MIRROR} && test -n \"$mirror\" || {{ echo 'no source of Debian packages is configured: {release} needs one' >&2; exit 1; }} \
             && echo \"deb [signed-by={KEYS}] $mirror {release} main\" > '{list}'"
        );
        (format!("{entry} && "), format!("{options} -oDir::Etc::SourceList={list} -oDir::Etc::SourceParts=/dev/null"))
    });
    run_shell(&format!(
        "cd '{}' && options='{options}' && {listed}apt-get $options update && rm -f ./*.deb && apt-get $options download {packages} \
         && for package in *.deb; do dpkg-deb --fsys-tarfile \"$package\" | tar -x --wildcards '{files}' || exit 1; done && rm -f ./*.deb",
        cache.join(folder).display()
    ))
}

fn run_shell(script: &str) -> Result<()> {
    command::run(program("sh", &["-c", script]))
}

/// The newest of Debian's kernels that were fetched.
pub(crate) fn guest_kernel(arch: Arch) -> Result<PathBuf> {
    let boot = guest_files(arch).join("boot");
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
pub(crate) fn guest_module(arch: Arch, name: &str) -> Result<PathBuf> {
    let modules = guest_files(arch).join("lib/modules");
    let entries =
        fs::read_dir(&modules).map_err(|error| Error(format!("cannot read {}: {error}", modules.display())))?;
    let versions =
        entries.filter_map(std::result::Result::ok).map(|entry| entry.path().join("kernel/drivers").join(name));
    let found = versions.filter(|path| path.is_file()).max();
    found.ok_or_else(|| {
        Error(format!("no driver {name} in {}; remove target/cache and set up again", modules.display()))
    })
}
