//! Booting a guest beneath the wall in the emulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_bundle::build::{bundle, flatten};
use bulkhead_bundle::{Kind, kernel};
use zerocopy::IntoBytes;

use crate::build;
use crate::command::{Error, Result, root, step};
use crate::console::{Output, Show};
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
    /// Does not ask for the lines that the site's demonstration shall show
    #[arg(long)]
    any: bool,
    /// Prints the guest's lines alone, without prefixes
    #[arg(long)]
    quiet: bool,
    /// Prints nothing of what is said
    #[arg(long, hide = true)]
    silent: bool,
    /// Where the loader's Image and the bundle are left
    #[arg(long, default_value = "target/run")]
    folder: PathBuf,
    /// Has the emulator count the instructions at these addresses: FROM-TO
    #[arg(long, hide = true)]
    count: Option<String>,
    /// Longest time in seconds for --batch
    #[arg(long, default_value_t = 120)]
    timeout: u32,
}

impl Options {
    fn show(&self) -> Show {
        match (self.silent, self.quiet) {
            (true, _) => Show::Nothing,
            (_, true) => Show::Guest,
            _ => Show::All,
        }
    }
}

/// What the emulator is started with.
pub(crate) struct Files {
    loader: PathBuf,
    bundle: PathBuf,
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
    Ok(Files { loader: write("loader.img", &loader)?, bundle: write("bundle.img", &bundle)? })
}

/// The verb.
pub(crate) fn run_guest(options: &Options) -> Result<()> {
    guest_output(options).map(|_| ())
}

/// Runs a guest; in a batch it must have ended well.
pub(crate) fn guest_output(options: &Options) -> Result<Output> {
    let Files { loader, bundle } = prepare(options)?;
    step("starting the emulator");
    let mut command = emulator(options);
    if let Some((from, to)) = options.count.as_ref().and_then(|range| range.split_once('-')) {
        let plugin = build::counting_plugin()?;
        command.arg("-plugin").arg(format!("{},from={from},to={to}", plugin.display()));
    }
    command.arg("-kernel").arg(&loader).arg("-initrd").arg(&bundle);
    let output = crate::console::run(command, options.batch, options.show())?;
    if options.batch {
        let missing = missing_lines(options, &output);
        if !missing.is_empty() {
            return Err(Error(format!("the run ended without the expected lines:\n  {}", missing.join("\n  "))));
        }
    }
    Ok(output)
}

/// What every batch must show; the demonstration's own lines besides, when it is the demonstration that ran.
fn missing_lines(options: &Options, output: &Output) -> Vec<String> {
    let mut wanted = vec!["wall: up at EL2".to_string(), "; stopping the machine".to_string()];
    if options.kernel.is_none() && options.initrd.is_none() && !options.any {
        let path = root().join(&options.site).join("expected");
        let lines = fs::read_to_string(path).unwrap_or_default();
        let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        wanted.extend(lines.map(str::to_string));
        if output.guest.contains("UNEXPECTED") {
            return vec!["the guest saw something (UNEXPECTED)".to_string()];
        }
    }
    wanted.retain(|line| !output.wall.contains(line.as_str()) && !output.guest.contains(line.as_str()));
    wanted
}

/// One instruction a nanosecond, the same each time.
pub(crate) const EXACT_CLOCK: [&str; 4] = ["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"];

fn emulator(options: &Options) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", &if options.batch { options.timeout } else { 0 }.to_string()]);
    let randomness = if options.icount { ",dtb-randomness=off" } else { "" };
    command.args(["qemu-system-aarch64", "-M"]).arg(format!("virt,virtualization=on,gic-version=3{randomness}"));
    command.args(["-cpu", &options.cpu, "-smp", "1", "-m", &options.memory]);
    command.args(["-display", "none", "-nic", "none", "-no-reboot"]);
    if options.icount {
        command.args(EXACT_CLOCK);
    }
    // The wall writes to a console of its own, which the guest cannot reach: it comes out of the emulator's standard error.
    command.args(["-device", "virtio-serial-device", "-device", "virtconsole,chardev=wall"]);
    command.args(["-chardev", "file,id=wall,path=/dev/stderr", "-serial", "stdio"]);
    command
}

/// Executable bytes of the hypervisor's image, without the padding to a whole page.
pub(crate) fn hypervisor_text_bytes() -> Result<u64> {
    let programs = root().join("target").join(setup::IMAGE_TARGET).join("release");
    let flat = flat_image(&programs.join("bulkhead-hypervisor"))?;
    let text = bulkhead_bundle::flat::Flat::open(&flat).and_then(|image| {
        let pages = image.segments.get(..usize::try_from(image.header.text_bytes).ok()?)?;
        pages.iter().rposition(|byte| *byte != 0).map(|last| last as u64 + 1)
    });
    text.ok_or_else(|| Error("the hypervisor's image is damaged".to_string()))
}

/// Leaves the test guests' Images in target/run/guests.
pub(crate) fn test_guests() -> Result<()> {
    let programs = root().join("target").join(setup::IMAGE_TARGET).join("release");
    let folder = root().join("target/run/guests");
    for name in ["bench", "broken", "hostile", "native", "restless", "spinner"] {
        let image = plain_image(&programs.join(format!("bulkhead-guest-{name}")))?;
        let path = folder.join(format!("{name}.img"));
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, image));
        written.map_err(|error| Error(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
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
    let requirements = site.requirements();
    let parts: [(Kind, &[u8]); 9] = [
        (Kind::Hypervisor, &hypervisor),
        (Kind::GuestKernel, &packed),
        (Kind::GuestInitrd, &initrd),
        (Kind::GuestCommandLine, line.trim().as_bytes()),
        (Kind::GuestResources, resources.as_slice().as_bytes()),
        (Kind::Secure, &secure),
        (Kind::Policy, site.policy()),
        (Kind::Settings, settings.as_bytes()),
        (Kind::Requirements, requirements.as_bytes()),
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
