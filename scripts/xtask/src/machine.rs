//! The machines that a guest runs on beneath the wall: each emulator's command line, once.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arch::Arch;
use crate::command::{Error, Result, root};
use crate::console::{Speaks, Streams};
use crate::run::{Files, Firmware, Options};

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// QEMU's `virt`.
    Virt,
    /// QEMU's `q35`: SVM.
    Q35,
    /// Bochs with one of its CPUs: VMX or SVM.
    Bochs(String),
    /// `q35` on the host's own CPU.
    Kvm,
}

/// One instruction a nanosecond, the same each time.
pub(crate) const EXACT_CLOCK: [&str; 4] = ["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"];

/// UEFI for QEMU, from Debian's package ovmf: the firmware, and what it remembers.
const OVMF: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

impl Machine {
    /// The one that the options name.
    pub(crate) fn of(options: &Options) -> Result<Self> {
        let machine = Self::named(options)?;
        match (&machine, options.firmware) {
            (Self::Virt, Firmware::Uefi) => Err(Error("--firmware uefi is for --arch x86_64".to_string())),
            (Self::Bochs(_), Firmware::Uefi) => Err(Error(
                "--firmware uefi: Bochs's UEFI gives no ACPI tables, which the wall needs; take --cpu amd (QEMU)"
                    .to_string(),
            )),
            (_, Firmware::Bios) if options.variables.is_some() => {
                Err(Error("--variables is for --firmware uefi: a BIOS remembers nothing of the wall".to_string()))
            }
            _ => Ok(machine),
        }
    }

    fn named(options: &Options) -> Result<Self> {
        if options.accel.as_deref() == Some("kvm") {
            if options.arch != Arch::X86_64 {
                return Err(Error("--accel kvm is for --arch x86_64".to_string()));
            }
            let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            return kvm(Path::new("/dev/kvm").exists(), &flags);
        }
        match (options.arch, options.cpu.as_deref()) {
            (Arch::Aarch64, _) => Ok(Self::Virt),
            (Arch::X86_64, None | Some("amd")) => Ok(Self::Q35),
            (Arch::X86_64, Some("intel")) => Ok(Self::Bochs("corei7_haswell_4770".to_string())),
            (Arch::X86_64, Some("amd-bochs")) => Ok(Self::Bochs("zambezi".to_string())),
            (Arch::X86_64, Some(cpu)) => match cpu.strip_prefix("bochs:") {
                Some(model) => Ok(Self::Bochs(model.to_string())),
                None => Err(Error(format!(
                    "--cpu {cpu}: on x86_64 it is intel (Bochs), amd (QEMU), amd-bochs, or bochs: and a model of Bochs"
                ))),
            },
        }
    }

    /// Longest time in seconds of a batch: Bochs takes ten times as long as the others.
    const fn patience(&self) -> u32 {
        match self {
            Self::Bochs(_) => 600,
            _ => 120,
        }
    }

    /// Its command, complete, and where the two sides speak.
    pub(crate) fn start(self, options: &Options, files: &Files) -> Result<(Command, Streams)> {
        let mut command = Command::new("timeout");
        let limit = if options.batch { options.timeout.unwrap_or(self.patience()) } else { 0 }.to_string();
        command.args(["--foreground", "--kill-after=5", &limit]);
        let streams = match self {
            Self::Virt => virt(&mut command, options, files),
            Self::Q35 => {
                let cpu = ["-accel", "tcg", "-cpu", "EPYC,+svm,+npt"];
                q35(&mut command, options, files, &cpu)?
            }
            Self::Kvm => q35(&mut command, options, files, &["-accel", "kvm", "-cpu", "host"])?,
            Self::Bochs(model) => bochs(&mut command, options, files, &model)?,
        };
        Ok((command, streams))
    }
}

/// Whether the host can run the wall on its own CPU.
fn kvm(has_device: bool, cpuinfo: &str) -> Result<Machine> {
    let nests = cpuinfo.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    match (has_device, nests) {
        (true, true) => Ok(Machine::Kvm),
        (false, _) => Err(Error("--accel kvm: this host has no /dev/kvm; leave --accel out".to_string())),
        _ => Err(Error("--accel kvm: this host's CPU shows neither vmx nor svm; leave --accel out".to_string())),
    }
}

fn virt(command: &mut Command, options: &Options, files: &Files) -> Streams {
    let randomness = if options.icount { ",dtb-randomness=off" } else { "" };
    command.args(["qemu-system-aarch64", "-M"]).arg(format!("virt,virtualization=on,gic-version=3{randomness}"));
    command.args(["-cpu", options.cpu.as_deref().unwrap_or("cortex-a72")]);
    common(command, options, "1G");
    // The wall writes to a console of its own, which the guest cannot reach: it comes out of the emulator's standard error.
    command.args(["-device", "virtio-serial-device", "-device", "virtconsole,chardev=wall"]);
    command.arg("-kernel").arg(&files.loader).arg("-initrd").arg(&files.bundle);
    Streams::QEMU
}

fn q35(command: &mut Command, options: &Options, files: &Files, cpu: &[&str]) -> Result<Streams> {
    // No VGA: nobody looks at it.
    command.args(["qemu-system-x86_64", "-M", "q35", "-vga", "none"]).args(cpu);
    if options.firmware == Firmware::Uefi {
        let own = files.image.with_file_name("ovmf-variables.fd");
        let variables = options.variables.as_ref().unwrap_or(&own);
        if options.variables.is_none() || !variables.exists() {
            let why =
                |error| format!("cannot copy {OVMF_VARIABLES} (Debian: ovmf) to {}: {error}", variables.display());
            fs::copy(OVMF_VARIABLES, variables).map_err(|error| Error(why(error)))?;
        }
        command.args(["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF}"), "-drive"]);
        command.arg(format!("if=pflash,format=raw,unit=1,file={}", variables.display()));
    }
    common(command, options, "1G");
    // The wall's console is a port that the guest does not get.
    command.args(["-device", "isa-debugcon,iobase=0xe9,chardev=wall", "-cdrom"]).arg(&files.image);
    Ok(Streams::QEMU)
}

fn common(command: &mut Command, options: &Options, memory: &str) {
    command.args(["-smp", "1", "-m", options.memory.as_deref().unwrap_or(memory)]);
    command.args(["-display", "none", "-nic", "none", "-no-reboot"]);
    if options.icount {
        command.args(EXACT_CLOCK);
    }
    command.args(["-chardev", "file,id=wall,path=/dev/stderr", "-serial", "stdio"]);
}

/// Bochs counts instructions always: one is one tick of the CPU's clock.
fn bochs(command: &mut Command, options: &Options, files: &Files, model: &str) -> Result<Streams> {
    let folder = files.image.parent().map_or_else(root, Path::to_path_buf);
    let guest = folder.join("guest.log");
    let memory = options.memory.as_deref().unwrap_or("512");
    let mebibytes = match memory.strip_suffix('G') {
        Some(gibibytes) => gibibytes.parse::<u32>().map(|number| number * 1024),
        None => memory.trim_end_matches('M').parse(),
    };
    let mebibytes = mebibytes.map_err(|_| Error(format!("--memory {memory}: a number with M or G")))?;
    // Without a batch the guest's UART is the user's terminal.
    let uart = if options.batch {
        format!("mode=file, dev={}", guest.display())
    } else {
        "mode=term, dev=/dev/tty".to_string()
    };
    let settings = format!(
        "display_library: rfb, options=\"timeout=0\"\nmegs: {mebibytes}\n\
         cpu: model={model}, count=1, ips=50000000, reset_on_triple_fault=0\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\nvgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=cdrom, path={image}, status=inserted\nboot: cdrom\npci: enabled=1, chipset=i440fx\n\
         clock: sync=none, time0=1767225600\ncom1: enabled=1, {uart}\nport_e9_hack: enabled=1\nlog: {log}\n\
         panic: action=fatal\nerror: action=report\ninfo: action=ignore\ndebug: action=ignore\n\
         plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, iodebug=1\n",
        image = files.image.display(),
        log = folder.join("bochs.log").display(),
    );
    let (configuration, start) = (folder.join("bochsrc"), folder.join("bochs.start"));
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| Error(format!("cannot write {}: {error}", path.display())))
    };
    write(&configuration, &settings)?;
    // Debian's Bochs has its debugger in it, which waits to be told to go on.
    write(&start, "c\n")?;
    write(&guest, "")?;
    command.args(["bochs", "-q", "-f"]).arg(configuration).arg("-rc").arg(start);
    Ok(Streams { wall: Speaks::InNoise, guest: options.batch.then_some(guest), good_ends: &[0, 1] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn uefi_is_taken_where_it_serves_and_refused_elsewhere_in_plain_words() {
        let of = |words: &[&str]| {
            let words = ["run", "--firmware", "uefi"].iter().chain(words);
            Machine::of(&<Arguments as clap::Parser>::parse_from(words).options)
        };
        assert_eq!(of(&["--arch", "x86_64"]).unwrap(), Machine::Q35);
        assert_eq!(of(&["--arch", "x86_64", "--cpu", "amd"]).unwrap(), Machine::Q35);
        for cpu in ["intel", "amd-bochs", "bochs:corei7_skylake_x"] {
            let said = of(&["--arch", "x86_64", "--cpu", cpu]).unwrap_err().to_string();
            assert!(said.contains("Bochs's UEFI gives no ACPI tables") && said.contains("--cpu amd"), "{said}");
        }
        assert!(of(&[]).unwrap_err().to_string().contains("--firmware uefi is for --arch x86_64"));
    }

    #[test]
    fn the_hosts_cpu_is_used_only_where_it_nests() {
        assert_eq!(kvm(true, "flags : fpu svm lm\n").unwrap(), Machine::Kvm);
        assert_eq!(kvm(true, "flags : fpu vmx lm\n").unwrap(), Machine::Kvm);
        assert!(kvm(true, "flags : fpu svm_lock lm\n").unwrap_err().to_string().contains("neither vmx nor svm"));
        assert!(kvm(false, "flags : svm\n").unwrap_err().to_string().contains("no /dev/kvm"));
    }
}
