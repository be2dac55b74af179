//! Booting a guest beneath the wall in the emulator.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use bulkhead_bundle::build::{bundle, flatten};
use bulkhead_bundle::{Kind, kernel};
use zerocopy::IntoBytes;

use crate::build;
use crate::command::{Error, Result, root, step};
use crate::initrd;
use crate::setup;
use crate::site::Site;

/// Options of `cargo xtask run`.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// The site's folder: policy, interfaces and manifest
    #[arg(long, default_value = "policy/sites/demo")]
    site: PathBuf,
    /// A guest kernel (AArch64 Image) in the place of Debian's
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Its initial RAM disk
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// More words for its command line
    #[arg(long, default_value = "")]
    append: String,
    /// Ends by itself; status 0 only if the guest came up, ran and powered off
    #[arg(long)]
    batch: bool,
    /// The emulator's CPU
    #[arg(long, default_value = "cortex-a72")]
    cpu: String,
    /// The machine's memory
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Counts instructions: the exact clock (one instruction a nanosecond)
    #[arg(long)]
    icount: bool,
    /// Where the loader's Image, the bundle and the wall's log are left
    #[arg(long, default_value = "target/run")]
    folder: PathBuf,
    /// Longest time in seconds for --batch
    #[arg(long, default_value_t = 120)]
    timeout: u32,
}

/// What the emulator is started with, and where the wall's console goes.
pub(crate) struct Files {
    loader: PathBuf,
    bundle: PathBuf,
    wall: PathBuf,
}

/// Builds everything and leaves it in target/run.
pub(crate) fn prepare(options: &Options) -> Result<Files> {
    let (loader, bundle) = images(options)?;
    let folder = root().join(&options.folder);
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|error| Error(format!("cannot write {}: {error}", path.display())))
            .map(|()| path)
    };
    Ok(Files {
        loader: write("loader.img", &loader)?,
        bundle: write("bundle.img", &bundle)?,
        wall: write("wall.log", b"")?,
    })
}

/// The verb.
pub(crate) fn run_guest(options: &Options) -> Result<()> {
    let said = guest_output(options)?;
    if options.batch {
        print!("{said}");
    }
    Ok(())
}

/// Runs a guest; in a batch its lines are returned when it has ended well.
pub(crate) fn guest_output(options: &Options) -> Result<String> {
    let Files { loader, bundle, wall } = prepare(options)?;
    step("starting the emulator");
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", &if options.batch { options.timeout } else { 0 }.to_string()]);
    let randomness = if options.icount { ",dtb-randomness=off" } else { "" };
    command.args(["qemu-system-aarch64", "-M"]).arg(format!("virt,virtualization=on,gic-version=3{randomness}"));
    command.args([
        "-cpu",
        &options.cpu,
        "-smp",
        "1",
        "-m",
        &options.memory,
        "-display",
        "none",
        "-nic",
        "none",
        "-no-reboot",
    ]);
    if options.icount {
        command.args(["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"]);
    }
    command.arg("-kernel").arg(&loader).arg("-initrd").arg(&bundle);
    command.args(["-device", "virtio-serial-device", "-device", "virtconsole,chardev=wall", "-chardev"]);
    command.arg(format!("file,id=wall,path={}", wall.display())).args(["-serial", "stdio"]);
    let seen = if options.batch { batch(command)? } else { interactive(command)? };
    let said = fs::read_to_string(&wall).unwrap_or_default();
    said.lines().for_each(|line| eprintln!("wall  | {line}"));
    let came_up = said.contains("wall: up at EL2") && said.contains("; stopping the machine");
    let demo = options.kernel.is_some() || seen.contains("bulkhead-guest: done");
    if options.batch && !(came_up && demo) {
        return Err(Error(format!("the guest did not come up, run and power off; it said:\n{seen}")));
    }
    Ok(seen)
}

/// Without a person: the guest's lines are gathered.
fn batch(mut command: Command) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error(format!("cannot start the emulator: {error}")))?;
    let output = child.stdout.take().ok_or_else(|| Error("the emulator has no output".to_string()))?;
    let reader = thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(output).split(b'\n').map_while(std::result::Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
            all.push_str(&line);
            all.push('\n');
        }
        all
    });
    let status = child.wait().map_err(|error| Error(format!("the emulator was lost: {error}")))?;
    let seen = reader.join().map_err(|_| Error("the emulator's output was lost".to_string()))?;
    if status.success() { Ok(seen) } else { Err(Error(format!("the emulator ended with {status} (124: time limit)"))) }
}

/// With a person: the terminal is the guest's.
fn interactive(mut command: Command) -> Result<String> {
    if std::io::stdin().is_terminal() {
        step("the terminal is the guest's shell; 'poweroff -f' ends it");
    }
    let status = command.status().map_err(|error| Error(format!("cannot start the emulator: {error}")))?;
    if status.success() { Ok(String::new()) } else { Err(Error(format!("the emulator ended with {status}"))) }
}

/// The loader's Image and the bundle.
fn images(options: &Options) -> Result<(Vec<u8>, Vec<u8>)> {
    let folder = build::run_build()?;
    let read =
        |path: PathBuf| fs::read(&path).map_err(|error| Error(format!("cannot read {}: {error}", path.display())));
    let site = Site::open(&root().join(&options.site))?;
    let loader = plain_image(&folder.join("bulkhead-loader"))?;
    let hypervisor = flat_image(&folder.join("bulkhead-hypervisor"))?;
    let kernel = match &options.kernel {
        Some(path) => read(path.clone())?,
        None => read(setup::guest_kernel()?)?,
    };
    let initrd = match (&options.initrd, &options.kernel) {
        (Some(path), _) => read(path.clone())?,
        (None, Some(_)) => Vec::new(),
        (None, None) => initrd::demo()?,
    };
    let batch = if options.batch { " bulkhead.batch" } else { "" };
    let line = format!("{}{batch} {}", site.manifest.guest.command_line, options.append);
    let packed = kernel::pack(&kernel).ok_or_else(|| Error("the guest's kernel is no AArch64 Image".to_string()))?;
    let (resources, settings, secure) = (site.resources(), site.settings(), site.secure(&folder)?);
    let parts: [(Kind, &[u8]); 8] = [
        (Kind::Hypervisor, &hypervisor),
        (Kind::GuestKernel, &packed),
        (Kind::GuestInitrd, &initrd),
        (Kind::GuestCommandLine, line.trim().as_bytes()),
        (Kind::GuestResources, resources.as_slice().as_bytes()),
        (Kind::Secure, &secure),
        (Kind::Policy, site.policy()),
        (Kind::Settings, settings.as_bytes()),
    ];
    Ok((loader, bundle(&parts)))
}

fn flat_image(elf: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(elf).map_err(|error| Error(format!("cannot read {}: {error}", elf.display())))?;
    flatten(&bytes).map_err(|error| Error(format!("{}: {error}", elf.display())))
}

/// An image that carries its own header and relocates itself: the segments alone.
pub(crate) fn plain_image(elf: &Path) -> Result<Vec<u8>> {
    let flat = flat_image(elf)?;
    let segments = bulkhead_bundle::flat::Flat::open(&flat).map(|image| image.segments.to_vec());
    segments.ok_or_else(|| Error(format!("{}: the image is damaged", elf.display())))
}
