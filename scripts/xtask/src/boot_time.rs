//! Debian's boot under the wall against its boot without one: same kernel, same RAM disk, same device tree or firmware, the
//! exact instruction clock; the interval is the kernel's own, from the start of its clock to "Power down".

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_hypervisor_core::plan::Range;
use bulkhead_loader::aarch64::tree::{GuestView, guest_tree};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;

use crate::arch::Arch;
use crate::command::{Error, Result, root};
use crate::console;
use crate::disk;
use crate::initrd;
use crate::machine::{EXACT_CLOCK, Machine};
use crate::run::{self, Files};
use crate::setup;
use crate::site::Site;

/// Where the native kernel lies (tests/guests/src/native.rs); the emulator puts the rest below it.
const KERNEL: &str = "0x50000000";

/// Microseconds without the wall on a PC: from GRUB to the same kernel. `options` name the machine; the command line is the one that
/// the guest got.
pub(crate) fn native_pc(options: &run::Options, command_line: &str) -> Result<u64> {
    let folder = options.folder();
    let kernel = setup::guest_kernel(Arch::X86_64)?;
    let kernel = fs::read(&kernel).map_err(|error| Error(format!("cannot read {}: {error}", kernel.display())))?;
    fs::create_dir_all(&folder).map_err(|error| Error(format!("cannot make {}: {error}", folder.display())))?;
    let files = Files { image: folder.join("disk.iso"), ..Files::default() };
    disk::plain(&kernel, &initrd::demo(Arch::X86_64)?, command_line, &files.image)?;
    let (command, streams) = Machine::of(options)?.start(options, &files)?;
    let said = console::run(command, streams, true, options.show(), None)?.guest;
    power_down(&said).ok_or_else(|| Error(format!("Debian without the wall did not power off; it said:\n{said}")))
}

/// Microseconds without the wall.
pub(crate) fn native(folder: &Path, site: &Site, command_line: &str) -> Result<u64> {
    let file = |name: &str| folder.join(name);
    let failed = |what: &str, error: std::io::Error| Error(format!("{what}: {error}"));
    let machine = "virt,virtualization=on,gic-version=3,dtb-randomness=off";
    let base = ["-cpu", "cortex-a72", "-smp", "1", "-m", "1008M", "-display", "none", "-nic", "none", "-no-reboot"];
    let dump = format!("{machine},dumpdtb={}", file("machine.dtb").display());
    let dumped = Command::new("qemu-system-aarch64").args(["-M", &dump]).args(base).output();
    dumped.map_err(|error| failed("cannot start the emulator", error))?;
    let blob = fs::read(file("machine.dtb")).map_err(|error| failed("cannot read the machine's device tree", error))?;
    let fdt = Fdt::new(&blob).map_err(|error| Error(format!("the machine's device tree: {error}")))?;
    let resources = site.resources()?;
    let view = GuestView {
        ram: Range { base: 0x4000_0000, bytes: 1008 << 20 },
        initrd: Range::default(),
        command_line,
        resources: &resources,
    };
    let write = |name: &str, bytes: &[u8]| fs::write(file(name), bytes).map_err(|error| failed("cannot write", error));
    write("guest.dtb", &guest_tree(&DeviceTree::from_fdt(&fdt), &view))?;
    write("initrd.gz", &initrd::demo(Arch::Aarch64)?)?;
    let kernel = format!("loader,file={},addr={KERNEL},force-raw=on", setup::guest_kernel(Arch::Aarch64)?.display());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", "qemu-system-aarch64", "-M", machine]).args(base).args(EXACT_CLOCK);
    command.args(["-serial", "stdio", "-device", &kernel, "-kernel"]).arg(root().join("target/run/guests/native.img"));
    command.arg("-dtb").arg(file("guest.dtb")).arg("-initrd").arg(file("initrd.gz")).args(["-append", command_line]);
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed("cannot start the emulator", error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    power_down(&said).ok_or_else(|| Error(format!("Debian without the wall did not power off; it said:\n{said}")))
}

/// The kernel's clock at "Power down", in microseconds.
pub(crate) fn power_down(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("reboot: Power down"))?;
    let time = line.split(['[', ']']).nth(1)?.trim();
    let (seconds, micros) = time.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::power_down;

    #[test]
    fn the_kernels_clock_is_read_from_its_last_line() {
        assert_eq!(power_down("x\n[    1.027261] reboot: Power down\n"), Some(1_027_261));
        assert_eq!(power_down("[    1.027261] something else"), None);
    }
}
