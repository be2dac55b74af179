//! What came of an attempt, and what should have come.

use core::fmt::{Display, Write};

use bulkhead_guests_x86_64::Uart;

pub(crate) const DENIED: u64 = u64::MAX - 1;
pub(crate) const MALFORMED: u64 = u64::MAX - 2;
pub(crate) const UNKNOWN: u64 = u64::MAX - 3;
pub(crate) const NOT_SUPPORTED: u64 = u64::MAX;
pub(crate) const ONES: u64 = 0xffff_ffff;

/// What `attempt` gives: a vector and one.
pub(crate) const NONE: u64 = 0;
pub(crate) const UNDEFINED: u64 = 7;
pub(crate) const PROTECTION: u64 = 14;
pub(crate) const PAGE: u64 = 15;

pub(crate) const APIC: u64 = 0xfee0_0000;
pub(crate) const COMMAND: u64 = APIC + 0x300;
pub(crate) const IO_APIC: u64 = 0xfec0_0000;

/// Counts what went wrong.
pub(crate) struct Report {
    pub(crate) out: Uart,
    pub(crate) failed: u32,
    pub(crate) is_svm: bool,
    /// The machine is QEMU's q35.
    pub(crate) is_qemu: bool,
}

impl Report {
    pub(crate) fn equal(&mut self, what: &str, verdict: &str, got: u64, wanted: u64) {
        if got == wanted {
            let _ = writeln!(self.out, "hostile: {what}: {verdict}");
        } else {
            self.failed += 1;
            let _ = writeln!(self.out, "hostile: {what}: FAILED, got {got:#x}, wanted {wanted:#x}");
        }
    }

    /// Nothing of many went wrong; else the first that did.
    pub(crate) fn none(&mut self, what: impl Display, verdict: &str, wrong: impl Iterator<Item = impl Display>) {
        let mut wrong = wrong;
        if let Some(first) = wrong.next() {
            self.failed += 1;
            let _ = writeln!(self.out, "hostile: {what}: FAILED, {first} and {} more", wrong.count());
        } else {
            let _ = writeln!(self.out, "hostile: {what}: {verdict}");
        }
    }
}
