//! Disks that a PC boots from, by CD or USB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{Error, Result, has, program, run};
use crate::run::Made;

/// Where UEFI looks for what it starts from a disk that it does not know (UEFI 2.10 §3.5.1.1), and where the loader looks for the bundle.
const APPLICATION: &str = "EFI/BOOT/BOOTX64.EFI";
const BUNDLE: &str = "EFI/bulkhead/bundle.img";
/// UEFI's volume among the disk's files.
const VOLUME: &str = "efi.img";

/// A disk that boots loader and bundle: by BIOS and GRUB, which read them as files; by UEFI, which reads them in a volume of its own.
pub(crate) fn bootable(made: &Made, to: &Path) -> Result<()> {
    const ENTRY: &str = "multiboot2 /boot/loader.elf\n    module2 /boot/bundle.img";
    let volume = made.application.as_ref().map(|application| (application.as_slice(), made.bundle.as_slice()));
    grub(&[("loader.elf", &made.loader), ("bundle.img", &made.bundle)], ENTRY, volume, to)
}

/// A disk that boots a kernel with nothing beneath it.
pub(crate) fn plain(kernel: &[u8], initrd: &[u8], command_line: &str, to: &Path) -> Result<()> {
    let entry = format!("linux /boot/vmlinuz {command_line}\n    initrd /boot/initrd.gz");
    grub(&[("vmlinuz", kernel), ("initrd.gz", initrd)], &entry, None, to)
}

/// A disk for CD and USB: files, GRUB and its one entry; and UEFI's application and bundle.
fn grub(files: &[(&str, &[u8])], entry: &str, volume: Option<(&[u8], &[u8])>, to: &Path) -> Result<()> {
    let to = std::path::absolute(to).map_err(|error| Error(format!("{}: {error}", to.display())))?;
    let menu = format!("set timeout=0\nset default=0\nmenuentry \"Bulkhead\" {{\n    {entry}\n}}\n");
    let folder = PathBuf::from(format!("{}.parts", to.display()));
    let failed = |error| Error(format!("cannot write to {}: {error}", folder.display()));
    // What an earlier attempt left would become a part of the disk.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::create_dir_all(folder.join("boot/grub")).map_err(failed)?;
    for &(name, bytes) in files.iter().chain(&[("grub/grub.cfg", menu.as_bytes())]) {
        fs::write(folder.join("boot").join(name), bytes).map_err(failed)?;
    }
    if !has("grub-mkrescue") {
        return Err(Error("grub-mkrescue is missing (Debian: grub-common grub-pc-bin xorriso mtools)".to_string()));
    }
    let mut command = program("grub-mkrescue", &["-d", "/usr/lib/grub/i386-pc", "-o"]);
    command.arg(&to).arg(&folder);
    if let Some((application, bundle)) = volume {
        efi_volume(&[(APPLICATION, application), (BUNDLE, bundle)], &folder)?;
        // Options of xorriso's mkisofs: UEFI finds the volume in a CD's boot catalogue, and as a partition of a USB stick.
        command.args(["--efi-boot", VOLUME, "-efi-boot-part", "--efi-boot-image"]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    run(command)?;
    fs::remove_dir_all(&folder).map_err(failed)
}

/// A FAT volume with files, in a folder.
fn efi_volume(files: &[(&str, &[u8])], folder: &Path) -> Result<()> {
    let image = folder.join(VOLUME);
    let failed = |error| Error(format!("cannot write to {}: {error}", folder.display()));
    // Room for the tables and folders besides; in whole tracks, as mformat counts.
    const TRACK: u64 = 63 * 512 * 16;
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let tracks = (bytes as u64 + (bytes / 64) as u64 + (1 << 20)).div_ceil(TRACK);
    fs::File::create(&image).and_then(|file| file.set_len(tracks * TRACK)).map_err(failed)?;
    let tool = |name: &str, words: &[&str]| {
        let mut command = Command::new(name);
        command.arg("-i").arg(&image).args(words);
        command
    };
    run(tool("mformat", &["-T", &(tracks * TRACK / 512).to_string(), "-h", "16", "-s", "63", "-v", "BULKHEAD", "::"]))?;
    for folders in [&["::/EFI"][..], &["::/EFI/BOOT", "::/EFI/bulkhead"]] {
        run(tool("mmd", folders))?;
    }
    for (name, bytes) in files {
        let part = folder.join("part");
        fs::write(&part, bytes).map_err(failed)?;
        let mut copy = tool("mcopy", &[]);
        copy.arg(&part).arg(format!("::/{name}"));
        run(copy)?;
        fs::remove_file(&part).map_err(failed)?;
    }
    Ok(())
}
