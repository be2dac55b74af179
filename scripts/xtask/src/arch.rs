//! What differs by the machine's architecture in building and fetching.

use clap::builder::{PossibleValuesParser, TypedValueParser};

pub(crate) use bulkhead_lang::Arch;

/// Its names on the command line.
pub(crate) fn parser() -> impl TypedValueParser<Value = Arch> {
    PossibleValuesParser::new(Arch::ALL.map(Arch::name))
        .map(|name| if name == Arch::X86_64.name() { Arch::X86_64 } else { Arch::Aarch64 })
}

/// What is built for an architecture, and of what.
pub(crate) trait Targets {
    /// The images' target.
    fn image_target(self) -> &'static str;
    /// The loader's other target, where UEFI starts it besides.
    fn uefi_target(self) -> Option<&'static str>;
    /// The target of the guest's command: Linux, without a C library of its own.
    fn guest_target(self) -> &'static str;
    /// Debian's name of it.
    fn debian(self) -> &'static str;
    /// Debian's kernel for the demonstration's guest; a package that depends on the newest.
    fn kernel_package(self) -> &'static str;
    /// The drivers that its guest needs to reach what apps serve, by their places among the kernel's drivers, in the order
    /// in which they are loaded.
    fn guest_modules(self) -> &'static [&'static str];
}

impl Targets for Arch {
    fn image_target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-none-softfloat",
            Self::X86_64 => "x86_64-unknown-none",
        }
    }

    fn uefi_target(self) -> Option<&'static str> {
        match self {
            Self::Aarch64 => None,
            Self::X86_64 => Some("x86_64-unknown-uefi"),
        }
    }

    fn guest_target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::X86_64 => "x86_64-unknown-linux-musl",
        }
    }

    fn debian(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::X86_64 => "amd64",
        }
    }

    fn kernel_package(self) -> &'static str {
        match self {
            Self::Aarch64 => "linux-image-arm64",
            Self::X86_64 => "linux-image-cloud-amd64",
        }
    }

    fn guest_modules(self) -> &'static [&'static str] {
        match self {
            Self::Aarch64 => &["virtio/virtio_mmio.ko", "char/virtio_console.ko"],
            Self::X86_64 => &[
                "virtio/virtio_ring.ko",
                "virtio/virtio.ko",
                "virtio/virtio_pci_legacy_dev.ko",
                "virtio/virtio_pci_modern_dev.ko",
                "virtio/virtio_pci.ko",
                "char/virtio_console.ko",
            ],
        }
    }
}
