//! Booting a guest beneath the wall in the emulator.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_bundle::build::{bundle, flatten};
use bulkhead_bundle::{Kind, kernel};
use zerocopy::IntoBytes;

use crate::arch::{self, Arch};
use crate::build;
use crate::command::{Error, Result, root, step};
use crate::console::{Output, Show};
use crate::disk;
use crate::initrd;
use crate::kernels;
use crate::machine::Machine;
use crate::setup;
use crate::site::Site;

/// Options of `cargo xtask run`.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// The architecture
    #[arg(long, value_parser = arch::parser(), default_value = "aarch64")]
    pub(crate) arch: Arch,
    /// The site's folder: policy, interfaces and manifest
    #[arg(long, default_value = "policy/sites/demo")]
    site: PathBuf,
    /// A guest kernel (AArch64 Image; bzImage or boot sector) in the place of Debian's; x86_64: or another of Debian's, debian:amd64, debian:i386, debian:i386-5.10
    #[arg(long)]
    kernel: Option<String>,
    /// Its initial RAM disk
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// More words for its command line
    #[arg(long, default_value = "")]
    append: String,
    /// Ends by itself; status 0 only if the guest came up, ran and powered off
    #[arg(long)]
    pub(crate) batch: bool,
    /// The CPU. AArch64: QEMU's name of it, else cortex-a72; x86_64: intel (Bochs), amd (QEMU; taken if none is named), amd-bochs, or bochs:MODEL
    #[arg(long)]
    pub(crate) cpu: Option<String>,
    /// The machine's firmware (x86_64): bios, or uefi in QEMU
    #[arg(long, value_enum, default_value = "bios")]
    pub(crate) firmware: Firmware,
    /// The file of what the UEFI firmware remembers from one run to the next, made if there is none; each run's remembers nothing, if none is named
    #[arg(long)]
    pub(crate) variables: Option<PathBuf>,
    /// What runs the machine in the place of the emulator's own CPU: the host's, where it nests (x86_64)
    #[arg(long, value_parser = ["kvm"])]
    pub(crate) accel: Option<String>,
    /// The machine's memory, with M or G; 1G, in Bochs 512M, if none is named
    #[arg(long)]
    pub(crate) memory: Option<String>,
    /// Counts instructions: the exact clock (one instruction a nanosecond)
    #[arg(long)]
    pub(crate) icount: bool,
    /// Does not ask for the lines that the site's demonstration shall show
    #[arg(long)]
    any: bool,
    /// Prints the guest's lines alone, without prefixes
    #[arg(long)]
    quiet: bool,
    /// Prints nothing of what is said
    #[arg(long, hide = true)]
    silent: bool,
    /// Where the loader and the bundle are left: target/run, target/run/x86_64
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Has the emulator count the instructions at these addresses: FROM-TO
    #[arg(long, hide = true)]
    count: Option<String>,
    /// Counts the exits by kind; the wall tells them at the end (x86_64)
    #[arg(long)]
    count_exits: bool,
    /// Looks at exits whether the wall's own memory is as it was; the wall tells it at the end (x86_64)
    #[arg(long)]
    watch: bool,
    /// Takes the CPU of SVM for one with clean bits and decode assists, which no emulator has (x86_64)
    #[arg(long)]
    later_svm: bool,
    /// Takes a secure kernel that hangs after a while, to see what the wall does then
    #[arg(long)]
    hanging_kernel: bool,
    /// Ends the run, well, once loader, wall or secure side says these words: for guests that never end
    #[arg(long)]
    until: Option<String>,
    /// Longest time in seconds for --batch; 120, in Bochs 600, if none is named
    #[arg(long)]
    pub(crate) timeout: Option<u32>,
}

/// What starts the loader on a PC.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// A BIOS, and GRUB.
    Bios,
    /// UEFI, by itself.
    Uefi,
}

impl Options {
    pub(crate) fn folder(&self) -> PathBuf {
        let own = match self.arch {
            Arch::Aarch64 => "target/run",
            Arch::X86_64 => "target/run/x86_64",
        };
        root().join(self.folder.as_deref().unwrap_or(Path::new(own)))
    }

    pub(crate) fn show(&self) -> Show {
        match (self.silent, self.quiet) {
            (true, _) => Show::Nothing,
            (_, true) => Show::Guest,
            _ => Show::All,
        }
    }
}

/// What is made of the sources and a site.
pub(crate) struct Made {
    /// The loader, as its boot chain takes it.
    pub(crate) loader: Vec<u8>,
    /// x86-64: the loader as a UEFI application.
    pub(crate) application: Option<Vec<u8>>,
    pub(crate) bundle: Vec<u8>,
}

/// What the emulator is started with.
#[derive(Default)]
pub(crate) struct Files {
    /// The loader's Image, or ELF file.
    pub(crate) loader: PathBuf,
    pub(crate) bundle: PathBuf,
    /// x86-64: the disk that boots both.
    pub(crate) image: PathBuf,
}

/// Builds everything and leaves it in the run's folder.
pub(crate) fn prepare(options: &Options) -> Result<Files> {
    let made = images(options)?;
    let folder = options.folder();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|error| Error(format!("cannot write {}: {error}", path.display())))
            .map(|()| path)
    };
    let image = folder.join("disk.iso");
    let name = match options.arch {
        Arch::Aarch64 => "loader.img",
        Arch::X86_64 => "loader.elf",
    };
    let files = Files { loader: write(name, &made.loader)?, bundle: write("bundle.img", &made.bundle)?, image };
    if options.arch == Arch::X86_64 {
        disk::bootable(&made, &files.image)?;
    }
    if let Some(application) = &made.application {
        write("loader.efi", application)?;
    }
    Ok(files)
}

/// Leaves a disk with loader and bundle at a path.
pub(crate) fn image(options: &Options, to: &Path) -> Result<()> {
    if options.arch != Arch::X86_64 {
        return Err(Error("there are disks for x86_64 only: --arch x86_64".to_string()));
    }
    disk::bootable(&images(options)?, to)
}

/// The verb.
pub(crate) fn run_guest(options: &Options) -> Result<()> {
    guest_output(options).map(|_| ())
}

/// Runs a guest; in a batch it must have ended well.
pub(crate) fn guest_output(options: &Options) -> Result<Output> {
    let machine = Machine::of(options)?;
    let files = prepare(options)?;
    step("starting the emulator");
    let (mut command, streams) = machine.start(options, &files)?;
    if let Some((from, to)) = options.count.as_ref().and_then(|range| range.split_once('-')) {
        let plugin = build::counting_plugin()?;
        command.arg("-plugin").arg(format!("{},from={from},to={to}", plugin.display()));
    }
    let output = crate::console::run(command, streams, options.batch, options.show(), options.until.as_deref())?;
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
    let up = match options.arch {
        Arch::Aarch64 => "wall: up at EL2",
        Arch::X86_64 => "wall: up beneath the guest",
    };
    let end = options.until.as_deref().unwrap_or("; stopping the machine");
    let mut wanted = vec![up.to_string(), end.to_string()];
    if options.kernel.is_none() && options.initrd.is_none() && !options.any {
        let path = root().join(&options.site).join("expected");
        let lines = fs::read_to_string(path).unwrap_or_default();
        let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        wanted.extend(lines.map(str::to_string));
        if output.guest.contains("UNEXPECTED") {
            return vec!["the guest saw something (UNEXPECTED)".to_string()];
        }
    }
    if options.kernel.as_ref().is_some_and(|kernel| kernel.starts_with("debian:")) {
        wanted.push(kernels::UP.to_string());
    }
    wanted.retain(|line| !output.wall.contains(line.as_str()) && !output.guest.contains(line.as_str()));
    wanted
}

/// Executable bytes of the hypervisor's image, without the padding to a whole page.
pub(crate) fn hypervisor_text_bytes(arch: Arch) -> Result<u64> {
    let flat = flat_image(&build::programs(arch).join("bulkhead-hypervisor"))?;
    let text = bulkhead_bundle::flat::Flat::open(&flat).and_then(|image| {
        let pages = image.segments.get(..usize::try_from(image.header.text_bytes).ok()?)?;
        // The linker fills what is left of the last page with zeroes, on x86-64 with `int3`.
        pages.iter().rposition(|byte| !matches!(byte, 0 | 0xcc)).map(|last| last as u64 + 1)
    });
    text.ok_or_else(|| Error("the hypervisor's image is damaged".to_string()))
}

/// Leaves the test guests' images in target/run/guests.
pub(crate) fn test_guests(arch: Arch) -> Result<()> {
    let programs = build::programs(arch);
    let folder = root().join("target/run/guests");
    let names: &[&str] = match arch {
        Arch::Aarch64 => &["bench", "broken", "hostile", "native", "restless", "spinner"],
        Arch::X86_64 => {
            &["pc-bench", "pc-boot", "pc-endless", "pc-hostile", "pc-ports", "pc-restless", "pc-serial", "pc-spinner"]
        }
    };
    for name in names {
        let image = plain_image(&programs.join(format!("bulkhead-guest-{name}")))?;
        let path = folder.join(format!("{name}.img"));
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, image));
        written.map_err(|error| Error(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}

fn images(options: &Options) -> Result<Made> {
    let arch = options.arch;
    let wanted = [
        (options.count_exits, build::COUNTING),
        (options.watch, build::WATCHING),
        (options.later_svm, build::LATER_SVM),
        (options.hanging_kernel, build::HANGS),
    ];
    let features: Vec<&str> = wanted.into_iter().filter_map(|(is_wanted, name)| is_wanted.then_some(name)).collect();
    let folder = build::run_build(arch, &features)?;
    let read =
        |path: PathBuf| fs::read(&path).map_err(|error| Error(format!("cannot read {}: {error}", path.display())));
    let site = Site::open(&root().join(&options.site), arch)?;
    let loader = folder.join("bulkhead-loader");
    let loader = match arch {
        Arch::Aarch64 => plain_image(&loader)?,
        Arch::X86_64 => read(loader)?,
    };
    let application = build::uefi_loader(arch)?.map(read).transpose()?;
    let hypervisor = flat_image(&folder.join("bulkhead-hypervisor"))?;
    let (kernel, initrd) = match &options.kernel {
        None if options.initrd.is_some() => (read(setup::guest_kernel(arch)?)?, Vec::new()),
        None => (read(setup::guest_kernel(arch)?)?, initrd::of(&options.site, arch)?),
        Some(option) => match kernels::named(option)? {
            Some(kernel) => kernel.files(arch)?,
            None => (read(PathBuf::from(option))?, Vec::new()),
        },
    };
    let initrd = options.initrd.clone().map_or(Ok(initrd), read)?;
    let batch = if options.batch { " bulkhead.batch" } else { "" };
    let line = format!("{}{batch} {}", site.command_line()?, options.append);
    let kernel = match arch {
        Arch::Aarch64 => {
            kernel::pack(&kernel).ok_or_else(|| Error("the guest's kernel is no AArch64 Image".to_string()))?
        }
        Arch::X86_64 => kernel,
    };
    let (resources, settings, secure) = (site.resources()?, site.settings(), site.secure(&folder)?);
    let requirements = site.requirements();
    let parts: [(Kind, &[u8]); 9] = [
        (Kind::Hypervisor, &hypervisor),
        (Kind::GuestKernel, &kernel),
        (Kind::GuestInitrd, &initrd),
        (Kind::GuestCommandLine, line.trim().as_bytes()),
        (Kind::GuestResources, resources.as_slice().as_bytes()),
        (Kind::Secure, &secure),
        (Kind::Policy, site.policy()),
        (Kind::Settings, settings.as_bytes()),
        (Kind::Requirements, requirements.as_bytes()),
    ];
    Ok(Made { loader, application, bundle: bundle(&parts) })
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
