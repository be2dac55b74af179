//! What of the machine a policy gives away: ranges of addresses, ports and model-specific registers, and interrupts. Each has
//! one owner.

use std::path::Path;
use std::str::FromStr;

use bulkhead_model::machine;

use crate::check::Checker;
use crate::diagnostic::Span;
use crate::policy::{Device, Resource};
use crate::tree::{self, Name, Space};

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// AArch64, with device-tree-like addresses and INTIDs.
    Aarch64,
    /// x86-64, with I/O ports and model-specific registers.
    X86_64,
}

/// What a policy includes where a site has a file for each kind of machine.
pub(crate) const MACHINE: &str = "machine.policy";

impl Arch {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Aarch64, Self::X86_64];

    /// Its name, as compilers call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// The number that a table of it carries.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Aarch64 => machine::AARCH64,
            Self::X86_64 => machine::X86_64,
        }
    }

    /// The file that stands for [`MACHINE`].
    pub(crate) fn file(self) -> String {
        format!("machine.{}.policy", self.name())
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|arch| arch.name() == name);
        found.ok_or_else(|| format!("there is no machine `{name}`; known: aarch64, x86_64"))
    }
}

/// The kinds of machine that a site's folder has a file for: `machine.aarch64.policy`, `machine.x86_64.policy`.
#[must_use]
pub fn machines(folder: &Path) -> Vec<Arch> {
    Arch::ALL.into_iter().filter(|arch| folder.join(arch.file()).is_file()).collect()
}

/// The registers that the bitmaps of VMX and SVM have a bit for (SDM 3 §25.6.9, APM 2 §15.11).
const MSRS: [(u64, u64); 3] = [(0, 0x1fff), (0xc000_0000, 0xc000_1fff), (0xc001_0000, 0xc001_1fff)];
/// The sizes of a PCI function's ports: what a virtio console needs at least, and what a function may have at most.
const FUNCTION_PORTS: std::ops::RangeInclusive<u64> = 0x20..=0x100;
/// The most ports of a device that is no PCI function.
const DEVICE_PORTS: u64 = 0x100;
/// Ports whose accesses the wall looks at itself, whoever else is told of them: interrupt controllers, power, PCI configuration.
const WATCHED: [(u64, u64); 5] = [(0x20, 0x21), (0x64, 0x64), (0x92, 0x92), (0xa0, 0xa1), (0xcf8, 0xcff)];

/// A range that somebody has: whose it is, and what it is called.
struct Owned {
    owner: String,
    name: String,
    space: Space,
    base: u64,
    size: u64,
    interrupt: Option<u32>,
    /// It is the wall's invention: its interrupt is not a line that several devices share.
    is_served: bool,
    span: Span,
}

impl Checker<'_> {
    pub(crate) fn device(&mut self, range: &tree::Range, app: &Name) {
        let methods = self.interface_methods("Device");
        let Some(server) = self.app(app) else { return };
        let object = self.object(&range.name, server, methods);
        let Some((base, size, interrupt)) = self.numbers(range) else { return };
        if range.is_read_only {
            self.error(
                range.span,
                "a device is not read only",
                "its rules say what is written: allow guest NAME.write",
            );
        }
        if self.policy.arch == Some(Arch::X86_64) && range.space == Space::Memory {
            let help = "write `device NAME: ports FIRST size COUNT interrupt LINE by APP`, or `pci 0:30.0 ports …`";
            self.error(range.span, "on x86-64 a device of the guest's has ports, and no memory", help);
        }
        if range.space == Space::Ports && range.function.is_none() {
            let is_watched = WATCHED.iter().any(|&(first, last)| base <= last && base + size > first);
            if size > DEVICE_PORTS || is_watched {
                let help = "1 to 256 ports, none of 0x20, 0x21, 0x64, 0x92, 0xa0, 0xa1, 0xcf8..0xcff";
                self.error(range.span, "no app can serve these ports", help);
            }
        }
        let function = range.function.map(|[bus, device, function]| {
            let is_one = bus <= 0xff && device <= 31 && function <= 7 && (bus, device, function) != (0, 0, 0);
            if !is_one || !FUNCTION_PORTS.contains(&size) || !size.is_power_of_two() || !base.is_multiple_of(size) {
                let help = "bus 0..255, device 0..31, function 0..7, not 0:0.0; 32 to 256 ports, a power of two, from a \
                    multiple of it on";
                self.error(range.span, "no PCI function is like that", help);
            }
            u16::try_from(bus << 8 | device << 3 | function).unwrap_or(0)
        });
        let pin = range.pin.map(|pin| u32::try_from(pin).unwrap_or(0));
        if pin.is_some_and(|pin| !(1..24).contains(&pin)) {
            self.error(
                range.span,
                "an I/O APIC has no such pin",
                "a pin is 1..23: the number that ACPI has for the interrupt",
            );
        }
        let (name, span) = (range.name.text.clone(), range.span);
        let space = range.space;
        self.policy.devices.push(Device { name, object, server, space, function, base, size, interrupt, pin, span });
    }

    pub(crate) fn resource(&mut self, range: &tree::Range) {
        if self.resources.iter().any(|known| known.name == range.name.text) {
            self.twice(&range.name);
        }
        let Some((base, size, interrupt)) = self.numbers(range) else { return };
        let &tree::Range { space, is_read_only, span, .. } = range;
        if space == Space::Memory && (base % 4096 != 0 || size % 4096 != 0) {
            let help = "a passed-through range begins and ends at a page: a multiple of 0x1000";
            self.error(span, "this range shares a page with something else", help);
        }
        if is_read_only && space == Space::Ports {
            let help = "leave `read only` away, or allow it by a rule: allow guest port.read when port == …";
            self.error(span, "the hardware opens a port for reading and writing", help);
        }
        if is_read_only && space == Space::Memory && self.policy.arch == Some(Arch::Aarch64) {
            self.error(span, "memory that is read only is of x86-64 alone", "leave `read only` away");
        }
        self.resources.push(Resource {
            name: range.name.text.clone(),
            space,
            base,
            size,
            is_read_only,
            interrupt,
            span,
        });
    }

    /// First, size and interrupt, if they are of the machine.
    fn numbers(&mut self, range: &tree::Range) -> Option<(u64, u64, Option<u32>)> {
        let (base, size) = (u64::try_from(range.base).ok()?, u64::try_from(range.size).ok()?);
        if range.space != Space::Memory && self.policy.arch == Some(Arch::Aarch64) {
            let help = "put it into machine.x86_64.policy";
            self.error(range.span, "an AArch64 machine has no ports and no model-specific registers", help);
            return None;
        }
        let last = base.checked_add(size).filter(|_| size != 0).map(|end| end - 1);
        let (is_there, message, help) = match range.space {
            Space::Memory => (
                last.is_some_and(|last| last < 1 << 39),
                "this range is empty or ends above 512 GiB",
                "check the address and the size",
            ),
            Space::Ports => (
                last.is_some_and(|last| last <= 0xffff),
                "these ports are none, or end above 0xffff",
                "check the first and the size",
            ),
            Space::Registers => (
                last.is_some_and(|last| MSRS.iter().any(|(low, high)| *low <= base && last <= *high)),
                "the hardware cannot open these registers",
                "it has a bit for 0..0x1fff, 0xc0000000..0xc0001fff and 0xc0010000..0xc0011fff; others by a rule: \
                    allow guest msr.read when index == …",
            ),
        };
        if !is_there {
            self.error(range.span, message, help);
            return None;
        }
        let is_x86 = self.policy.arch == Some(Arch::X86_64) || range.space != Space::Memory;
        let (lines, help) = if is_x86 {
            (1..256, "a line is 1..255: an ISA interrupt, or the number that ACPI has for it")
        } else {
            (32..1020, "an INTID is 32..1019: the device tree's SPI number plus 32")
        };
        let interrupt = range.interrupt.and_then(|number| u32::try_from(number).ok());
        if range.interrupt.is_some() && !interrupt.is_some_and(|number| lines.contains(&number)) {
            self.error(range.span, "this is no interrupt of a device", help);
            return None;
        }
        if range.space == Space::Registers && interrupt.is_some() {
            self.error(range.span, "registers of the CPU have no interrupt", "leave it away");
        }
        Some((base, size, interrupt))
    }

    /// What is given away, or served, lies nowhere twice, and no interrupt goes to two.
    pub(crate) fn owners(&mut self) {
        let name = |subject: u16| self.policy.subjects.get(usize::from(subject)).cloned().unwrap_or_default();
        let resource = |owner: String, resource: &Resource| {
            let &Resource { space, base, size, interrupt, span, .. } = resource;
            Owned { owner, name: resource.name.clone(), space, base, size, interrupt, is_served: false, span }
        };
        let served = self.policy.devices.iter().map(|device| {
            let &Device { base, size, interrupt, span, .. } = device;
            let (owner, name) = (format!("served by {}", name(device.server)), device.name.clone());
            Owned { owner, name, space: device.space, base, size, interrupt, is_served: true, span }
        });
        let guests = self.policy.resources.iter().map(|of_guest| resource("guest".to_string(), of_guest));
        let apps = self.policy.driven.iter().map(|(subject, driven)| resource(name(*subject), driven));
        let mut all: Vec<Owned> = guests.chain(apps).chain(served).collect();
        all.sort_by_key(|one| (one.span.file, one.span.start));
        for (at, one) in all.iter().enumerate() {
            for before in all.iter().take(at) {
                let both = format!("`{}` ({}) and `{}` ({})", before.name, before.owner, one.name, one.owner);
                if before.name == one.name {
                    let what = format!("`{}` is given twice: to {} and to {}", one.name, before.owner, one.owner);
                    self.error(one.span, what, "a resource has one owner");
                    continue;
                }
                if before.space == one.space
                    && before.base < one.base + one.size
                    && one.base < before.base + before.size
                {
                    let what = format!("{both} both have {} {:#x}", one.space.word(), one.base.max(before.base));
                    self.error(one.span, what, "what is given away has one owner: cut one of them");
                }
                let may_share = before.owner == one.owner && !before.is_served && !one.is_served;
                if let (Some(line), false) = (one.interrupt.filter(|_| before.interrupt == one.interrupt), may_share) {
                    let what = format!("{both} both have interrupt {line}");
                    self.error(one.span, what, "give one of them another interrupt");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compiled, compile_for};

    const HEAD: &str = "edition 1\npolicy p\napp a\napp b\n";

    fn build(arch: Option<Arch>, text: &str) -> Result<Compiled, String> {
        let text = format!("{HEAD}{text}");
        compile_for(&mut |_| Ok(text.clone()), "site.policy", arch).map_err(|report| {
            report.findings.iter().map(|finding| finding.render(&report.sources).to_string()).collect::<String>()
        })
    }

    fn refusal(text: &str) -> String {
        build(Some(Arch::X86_64), text).expect_err("it is refused")
    }

    #[test]
    fn ports_and_registers_are_given_as_declared() {
        let text = "resource com1: ports 0x3f8 size 8 interrupt 4\nresource pat: msr 0x277 size 1\n\
            resource mtrr: msr 0x200 size 16 read only\nresource rom: mmio 0xc0000 size 0x40000 read only\n\
            resource com2: ports 0x2f8 size 8 interrupt 3\nallow guest use com1, pat, mtrr, rom\nallow a use com2\n\
            device ports: pci 0:30.0 ports 0xc040 size 0x40 interrupt 11 by b\n";
        let policy = build(Some(Arch::X86_64), text).expect("it is sound").policy;
        let shown: Vec<String> = policy.resources.iter().map(ToString::to_string).collect();
        let wanted =
            ["ports 0x3f8..0x3ff", "msr 0x277..0x277", "msr 0x200..0x20f read only", "mmio 0xc0000..0xfffff read only"];
        assert_eq!(shown, wanted);
        assert_eq!(policy.driven.first().map(|(_, com2)| (com2.base, com2.interrupt)), Some((0x2f8, Some(3))));
        let ports = policy.devices.first().expect("a device");
        assert_eq!((ports.function, ports.base, ports.size, ports.interrupt), (Some(30 << 3), 0xc040, 0x40, Some(11)));
    }

    #[test]
    fn a_range_ends_where_its_space_ends_and_no_further() {
        for (right, wrong, what) in [
            ("ports 0xfff8 size 8", "ports 0xfff9 size 8", "end above 0xffff"),
            ("ports 0 size 1", "ports 0 size 0", "these ports are none"),
            ("msr 0x1ff0 size 16", "msr 0x1ff0 size 17", "cannot open these registers"),
            ("msr 0xc0011fff size 1", "msr 0xc0012000 size 1", "cannot open these registers"),
            ("mmio 0x7ffffff000 size 0x1000", "mmio 0x7ffffff000 size 0x2000", "above 512 GiB"),
            ("mmio 0xc0000 size 0x1000 read only", "ports 0x80 size 1 read only", "for reading and writing"),
            ("ports 0x3f8 size 8 interrupt 255", "ports 0x3f8 size 8 interrupt 256", "no interrupt of a device"),
            ("mmio 0xfe000000 size 0x1000 interrupt 20", "mmio 0xfe000000 size 0x1000 interrupt 0", "no interrupt"),
            ("msr 0x277 size 1", "msr 0x277 size 1 interrupt 3", "have no interrupt"),
        ] {
            let declared = |range: &str| format!("resource r: {range}\nallow guest use r\n");
            assert!(build(Some(Arch::X86_64), &declared(right)).is_ok(), "{right}");
            let said = refusal(&declared(wrong));
            assert!(said.contains(what) && said.contains("site.policy:5:13"), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_is_given_twice_is_refused_with_both_owners() {
        for (one, other, what) in [
            ("ports 0x3f8 size 8", "ports 0x3ff size 1", "`r` (guest) and `s` (a) both have ports 0x3ff"),
            ("ports 0x3f8 size 8", "ports 0x3f0 size 9", "both have ports 0x3f8"),
            ("mmio 0x1000 size 0x2000", "mmio 0x2000 size 0x1000", "both have mmio 0x2000"),
            ("ports 0x3f8 size 8 interrupt 4", "ports 0x2f8 size 8 interrupt 4", "both have interrupt 4"),
        ] {
            let said = refusal(&format!("resource r: {one}\nresource s: {other}\nallow guest use r\nallow a use s\n"));
            assert!(said.contains(what), "{said}");
        }
        let device = |range: &str| {
            format!(
                "resource r: {range}\nallow guest use r\ndevice d: pci 0:3.0 ports 0xc000 size 0x40 interrupt 11 by a\n"
            )
        };
        assert!(refusal(&device("ports 0xc03f size 1")).contains("`r` (guest) and `d` (served by a)"));
        assert!(refusal(&device("ports 0x1f0 size 8 interrupt 11")).contains("both have interrupt 11"));
        for sound in ["ports 0xc080 size 1", "msr 0x1000 size 1", "mmio 0xc000 size 0x1000"] {
            assert!(build(Some(Arch::X86_64), &device(sound)).is_ok(), "{sound}");
        }
        let shared = "resource r: ports 0x1f0 size 8 interrupt 14\nresource s: ports 0x3f6 size 1 interrupt 14\nallow guest use r, s\n";
        assert!(build(Some(Arch::X86_64), shared).is_ok(), "one owner's devices share a line");
        assert!(
            build(None, "resource r: ports 0 size 8\nresource s: ports 0 size 8\nallow guest use r\n").is_ok(),
            "given once"
        );
    }

    #[test]
    fn what_a_machine_does_not_have_is_refused_for_it_and_only_for_it() {
        for (text, what) in [
            ("resource r: ports 0x60 size 1\nallow guest use r\n", "an AArch64 machine has no ports"),
            ("resource r: msr 0x10 size 1\nallow guest use r\n", "no model-specific registers"),
            ("resource r: mmio 0x1000 size 0x1000 read only\nallow guest use r\n", "is of x86-64 alone"),
            ("device d: pci 0:3.0 ports 0xc000 size 0x40 interrupt 11 by a\n", "an AArch64 machine has no ports"),
        ] {
            assert!(build(Some(Arch::X86_64), text).is_ok() && build(None, text).is_ok(), "{text}");
            let said = build(Some(Arch::Aarch64), text).expect_err("it is refused");
            assert!(said.contains(what), "{said}");
        }
        let text = "device d: at 0x1000 size 0x200 interrupt 79 by a\n";
        assert!(build(Some(Arch::Aarch64), text).is_ok());
        assert!(refusal(text).contains("has ports, and no memory"));
        for (right, wrong) in [("0:30.0", "0:0.0"), ("0:31.7", "0:32.0"), ("0:3.0", "0:3.8"), ("255:3.0", "256:3.0")] {
            let device = |place: &str| format!("device d: pci {place} ports 0xc000 size 0x40 interrupt 11 by a\n");
            assert!(build(Some(Arch::X86_64), &device(right)).is_ok(), "{right}");
            assert!(refusal(&device(wrong)).contains("no PCI function"), "{wrong}");
        }
        assert!(refusal("device d: pci 0:3.0 ports 0xc020 size 0x40 interrupt 11 by a\n").contains("a multiple of it"));
        assert!(refusal("device d: pci 0:3.0 ports 0xc010 size 0x10 interrupt 11 by a\n").contains("32 to 256 ports"));
    }

    #[test]
    fn a_device_with_ports_of_its_own_lies_where_it_says_and_over_nothing_of_the_walls() {
        let device = |range: &str| format!("device d: ports {range} by a\n");
        let policy = build(Some(Arch::X86_64), &device("0x2f8 size 8 interrupt 3")).expect("it is sound").policy;
        let serial = policy.devices.first().expect("a device");
        assert_eq!(
            (serial.space, serial.function, serial.base, serial.interrupt),
            (Space::Ports, None, 0x2f8, Some(3))
        );
        for (right, wrong) in [
            ("0x100 size 0x100", "0x100 size 0x101"),
            ("0x22 size 1", "0x21 size 1"),
            ("0x63 size 1", "0x63 size 2"),
            ("0xcf7 size 1", "0xcf7 size 2"),
            ("0xd00 size 1", "0xcff size 1"),
            ("0xa2 size 1", "0x9f size 2"),
        ] {
            assert!(build(Some(Arch::X86_64), &device(right)).is_ok(), "{right}");
            assert!(refusal(&device(wrong)).contains("no app can serve these ports"), "{wrong}");
        }
        assert!(refusal(&device("0xffff size 2")).contains("end above 0xffff"));
        assert!(refusal(&device("0x2f8 size 8 interrupt 3 or 20")).contains("by APP"), "a pin is a PCI function's");
        let said = build(Some(Arch::Aarch64), &device("0x2f8 size 8 interrupt 3")).expect_err("it is refused");
        assert!(said.contains("an AArch64 machine has no ports"), "{said}");
        let both = "resource com2: ports 0x2ff size 1\nallow guest use com2\ndevice d: ports 0x2f8 size 8 by a\n";
        assert!(refusal(both).contains("`com2` (guest) and `d` (served by a) both have ports 0x2ff"));
        let both = "resource com2: ports 0x2f8 size 8\nallow b use com2\ndevice d: ports 0x2f8 size 8 by a\n";
        assert!(refusal(both).contains("`com2` (b) and `d` (served by a)"));
    }

    #[test]
    fn an_app_gets_ports_and_no_registers_of_the_cpu() {
        assert!(build(None, "resource r: ports 0x70 size 2\nallow a use r\n").is_ok());
        for wrong in ["msr 0x277 size 1", "mmio 0x1000 size 0x1000 read only"] {
            assert!(refusal(&format!("resource r: {wrong}\nallow a use r\n")).contains("no app can be given `r`"));
        }
    }

    #[test]
    fn a_machines_file_stands_for_the_one_that_is_included() {
        let mut load = |name: &str| match name {
            "site.policy" => Ok(format!("{HEAD}include \"machine.policy\"\n")),
            "machine.x86_64.policy" => Ok("resource r: ports 0x60 size 1\nallow guest use r, s\n".to_string()),
            "machine.aarch64.policy" => Ok("resource r: mmio 0x1000 size 0x1000\nallow guest use r\n".to_string()),
            _ => Err("not found".to_string()),
        };
        let arm = compile_for(&mut load, "site.policy", Some(Arch::Aarch64)).expect("it is sound");
        assert_eq!(arm.sources.0.last().map(|source| source.name.as_str()), Some("machine.aarch64.policy"));
        let table = bulkhead_model::Policy::open(&arm.table).expect("a table");
        assert!(table.is_for(machine::AARCH64) && !table.is_for(machine::X86_64));
        let said = compile_for(&mut load, "site.policy", Some(Arch::X86_64)).expect_err("`s` is nothing");
        let said: String = said.findings.iter().map(|finding| finding.render(&said.sources).to_string()).collect();
        assert!(said.contains("machine.x86_64.policy:2:20"), "{said}");
        let said = compile_for(&mut load, "site.policy", None).expect_err("no machine is told");
        assert!(said.findings.iter().any(|finding| finding.message.contains("cannot read machine.policy")));
        let any = build(None, "").expect("it is sound");
        let table = bulkhead_model::Policy::open(&any.table).expect("a table");
        assert!(table.is_for(machine::AARCH64) && table.is_for(machine::X86_64), "a policy without a machine fits any");
    }
}
