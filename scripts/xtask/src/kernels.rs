//! Debian's other kernels for a PC, which nobody needs who does not ask for them by name: `--kernel debian:NAME`.

use std::fs;
use std::path::PathBuf;

use crate::arch::Arch;
use crate::command::{Error, Result, root, step};
use crate::initrd;
use crate::setup::{self, Source};

/// A kernel.
pub(crate) struct Kernel {
    /// Its name after `debian:`.
    name: &'static str,
    /// Of which architecture its busybox is.
    debian: &'static str,
    /// Of which release its package is; `None`: of the machine's own.
    release: Option<&'static str>,
    /// The package, a piece of shell, and how much is fetched.
    package: &'static str,
    size: &'static str,
    /// Where it lies in the package.
    image: &'static str,
}

const KERNELS: [Kernel; 3] = [
    Kernel {
        name: "amd64",
        debian: "amd64",
        release: None,
        package: "$(apt-cache $options depends linux-image-amd64 | awk '/Depends: linux-image-/{print $2; exit}')",
        size: "70 MB",
        image: "./boot/vmlinuz-*",
    },
    Kernel {
        name: "i386",
        debian: "i386",
        release: Some("bookworm"),
        package: "debian-installer-12-netboot-i386",
        size: "115 MB",
        image: "./usr/lib/debian-installer/images/12/i386/text/debian-installer/i386/linux",
    },
    Kernel {
        name: "i386-5.10",
        debian: "i386",
        release: Some("bullseye"),
        package: "debian-installer-11-netboot-i386",
        size: "105 MB",
        image: "./usr/lib/debian-installer/images/11/i386/text/debian-installer/i386/linux",
    },
];

/// What a guest of these kernels says once it is in user space.
pub(crate) const UP: &str = "user space: Linux ";

/// The kernel that a `--kernel` names, if it names one of these.
pub(crate) fn named(option: &str) -> Result<Option<&'static Kernel>> {
    let Some(name) = option.strip_prefix("debian:") else { return Ok(None) };
    let found = KERNELS.iter().find(|kernel| kernel.name == name);
    let names = || KERNELS.map(|kernel| kernel.name).join(", ");
    found.map(Some).ok_or_else(|| Error(format!("--kernel {option}: of Debian's there are {}", names())))
}

impl Kernel {
    /// The kernel, and an initial RAM disk that says that it is in user space; fetched once.
    pub(crate) fn files(&self, arch: Arch) -> Result<(Vec<u8>, Vec<u8>)> {
        if arch != Arch::X86_64 {
            return Err(Error(format!("--kernel debian:{} is for --arch x86_64", self.name)));
        }
        let folder = setup::cache().join(self.folder());
        let (image, busybox) = (folder.join("linux"), folder.join("busybox"));
        if !image.is_file() || !busybox.is_file() {
            self.fetch(&image, &busybox)?;
        }
        let script = root().join("tests/e2e/init");
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| Error(format!("cannot read {}: {error}", path.display())));
        Ok((read(&image)?, initrd::small(&read(&busybox)?, &read(&script)?)?))
    }

    fn folder(&self) -> String {
        format!("kernel-{}", self.name)
    }

    fn fetch(&self, image: &PathBuf, busybox: &PathBuf) -> Result<()> {
        step(&format!("fetching Debian's kernel {} and its busybox ({}, once)", self.name, self.size));
        let unpacked = self.folder();
        let folder = setup::cache().join(&unpacked);
        let lists = format!("lists-{}{}", self.debian, self.release.map_or(String::new(), |name| format!("-{name}")));
        let source = Source { debian: self.debian, lists, release: self.release };
        setup::fetch_from(&source, &unpacked, self.package, self.image)?;
        setup::fetch_from(&source, &unpacked, "busybox-static", "./bin/busybox")?;
        let inside = self.image.trim_start_matches("./");
        let found = match inside.strip_suffix('*') {
            None => Some(folder.join(inside)),
            Some(_) => fs::read_dir(folder.join("boot")).ok().and_then(|mut all| Some(all.next()?.ok()?.path())),
        };
        let found = found.ok_or_else(|| Error(format!("no kernel in {}", folder.display())))?;
        let kept = fs::rename(folder.join("bin/busybox"), busybox).and_then(|()| fs::rename(found, image));
        kept.map_err(|error| Error(format!("cannot keep {}: {error}", image.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_known_by_name_and_files_are_not_mistaken_for_them() {
        assert_eq!(named("debian:i386").unwrap().map(|kernel| kernel.release), Some(Some("bookworm")));
        assert!(named("/boot/vmlinuz").unwrap().is_none() && named("debian").unwrap().is_none());
        let Err(error) = named("debian:sparc") else { panic!("it is refused") };
        assert!(error.to_string().contains("there are amd64, i386, i386-5.10"), "{error}");
    }
}
