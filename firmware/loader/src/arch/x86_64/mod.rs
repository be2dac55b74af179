//! x86-64: an ELF file that GRUB loads by Multiboot2, or a UEFI application: the same program for two targets. How it is started, and
//! what the boot chain hands over, is `chain`'s; all else is here.

mod console;
mod instr;
mod machine;
mod probe;

#[cfg(not(target_os = "uefi"))]
#[path = "multiboot2.rs"]
mod chain;
#[cfg(not(target_os = "uefi"))]
mod entry;

#[cfg(target_os = "uefi")]
#[path = "uefi.rs"]
mod chain;
#[cfg(target_os = "uefi")]
mod firmware;
#[cfg(target_os = "uefi")]
mod ground;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::asm;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use bulkhead_bundle::Resource;
use bulkhead_hypervisor_core::plan::{MachinePlan, Range, StoredPart, machine as kind, time_source};
use bulkhead_loader::last::Last;
use bulkhead_loader::require::Facts;
use bulkhead_loader::resources;
use bulkhead_loader::wall::Sizes;
use bulkhead_loader::x86_64::acpi::{self, Acpi, NAMED_BYTES, Physical, Told};
use bulkhead_loader::x86_64::bzimage::{self, COMMAND_LINE, Kernel, START_BYTES, ZERO_PAGE};
use bulkhead_loader::x86_64::layout::{self, Layout, Machine};
use bulkhead_loader::x86_64::map::{Entry, Map};

pub(crate) use chain::BootChain;
pub(crate) use console::Output;

use crate::{Never, Parts, copy, enter, memory};

/// The policies that are for this machine.
pub(crate) const POLICY_MACHINE: u32 = bulkhead_model::machine::X86_64;
/// Its name.
pub(crate) const NAME: &str = "x86_64";

/// What the boot chain hands over.
struct Found {
    map: Vec<Entry>,
    root: Root,
    bundle: Option<Range>,
    /// What is remembered of the last start.
    last: Last,
    /// What is in use until the jump, the bundle besides.
    busy: Vec<Range>,
    /// How the bundle is to be given, for who forgot it.
    remedy: String,
}

/// ACPI's root pointer.
#[derive(Clone, Copy)]
enum Root {
    /// A copy of it, by a BIOS's boot chain. The guest finds the original where every BIOS has it.
    #[cfg_attr(target_os = "uefi", expect(dead_code, reason = "Multiboot2's"))]
    Copy(Option<&'static [u8]>),
    /// Where it lies, by UEFI, which says by its map where memory and tables are.
    #[cfg_attr(not(target_os = "uefi"), expect(dead_code, reason = "UEFI's"))]
    At(u64),
}

/// What can be read where it is.
struct Reach(Vec<Range>);

impl Physical for Reach {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let range = Range { base: address, bytes: length as u64 };
        let is_there = address != 0 && self.0.iter().any(|reach| reach.holds(range));
        is_there.then(|| memory(range))
    }
}

const GIB_4: Range = Range { base: 0, bytes: 1 << 32 };

impl Root {
    /// A BIOS's tables may lie anywhere below 4 GiB, all of which is mapped; UEFI maps what its memory map names.
    fn reach(self, map: &Map) -> Reach {
        match self {
            Self::Copy(_) => Reach(Vec::from([GIB_4])),
            Self::At(_) => Reach(map.entries().iter().map(|entry| entry.range).filter(|r| GIB_4.holds(*r)).collect()),
        }
    }

    fn bytes(self, reach: &Reach) -> &[u8] {
        // A pointer of ACPI 1.0 has 20 bytes.
        let at = |address| [36, 20].into_iter().find_map(|length| reach.bytes(address, length));
        match self {
            Self::Copy(copy) => copy,
            Self::At(address) => at(address),
        }
        .unwrap_or_default()
    }

    /// What the guest's zero page says of it; 0: nothing.
    const fn told(self) -> u64 {
        match self {
            Self::Copy(_) => 0,
            Self::At(address) => address,
        }
    }
}

/// Learns the machine, places everything and jumps.
pub(crate) fn boot(chain: BootChain, out: &mut Output) -> Result<Never, String> {
    *out = Output::find();
    let found = chain.found(out)?;
    // From here on nothing but this program writes to memory: what is checked stays as it was checked.
    machine::stop_bus_masters();
    Choice::make(&found, out)?.act(out)
}

/// What was decided: the bundle is sound, the machine can hold the wall, and everything has its place. Nothing was written yet.
struct Choice {
    acpi: Acpi,
    parts: Parts,
    kernel: Kernel<'static>,
    layout: Layout,
    /// Firmware's tables.
    tables: Vec<Range>,
    /// The guest's zero page.
    start: Vec<u8>,
    /// All but what is measured: the times, and their source.
    plan: MachinePlan,
}

impl Choice {
    fn make(found: &Found, out: &Output) -> Result<Self, String> {
        let map = Map::new(&found.map).map_err(|error| error.to_string())?;
        let reach = found.root.reach(&map);
        let acpi = acpi::read(found.root.bytes(&reach), &reach).map_err(|error| error.to_string())?;
        remember_off(&acpi);
        let machine_kind = machine::virtualization()?;
        let bundle = found.bundle.ok_or_else(|| alloc::format!("no bundle: {}", found.remedy))?;
        let facts = Facts {
            has_iommu: acpi.has_iommu,
            has_tpm: acpi.has_tpm,
            cores: acpi.cpu_count.into(),
            memory: map.ram().map(|range| range.bytes).sum::<u64>() >> 20,
        };
        let parts = Parts::open(memory(bundle), &facts, found.last)?;
        let kernel = Kernel::open(parts.kernel).map_err(|error| error.to_string())?;
        let busy: Vec<Range> = found.busy.iter().copied().chain([bundle]).collect();
        let registers = registers(&acpi);
        let has_hidden_tables = matches!(found.root, Root::Copy(_));
        let machine = Machine { map: &map, busy: &busy, registers: &registers, has_hidden_tables };
        let tables = layout::tables(&machine).map_err(|error| error.to_string())?;
        let mut stored =
            [kernel.code.len() as u64, parts.initrd.len() as u64, START_BYTES, parts.line.len() as u64 + 1, 0, 0, 0, 0];
        stored.iter_mut().skip(4).zip(&tables).for_each(|(slot, range)| *slot = range.bytes);
        let sizes = Sizes {
            secure: parts.info.memory_bytes,
            policy: parts.policy.len() as u64,
            hypervisor: parts.hypervisor.memory_bytes(),
            parts: stored,
        };
        let layout =
            layout::plan(&machine, &sizes, &kernel, parts.initrd.len() as u64).map_err(|error| error.to_string())?;
        let taken = [layout.wall.taken];
        let told = taken.iter().chain(&layout.unused).try_fold(map.clone(), |map, range| map.without(*range));
        let told = told.map_err(|error| error.to_string())?;
        let mut start = kernel.start(&told, layout.initrd, parts.line).map_err(|error| error.to_string())?;
        bzimage::tell_root(&mut start, found.root.told());
        let mut plan = parts.plan(&layout.wall, &layout.guest_ram, out);
        plan.machine = machine_kind;
        plan.cpu_count = acpi.cpu_count;
        plan.console = Range { base: out.base, bytes: 8 };
        place(&mut plan, &layout, &kernel, &tables);
        describe(&mut plan, &acpi);
        Ok(Self { acpi, parts, kernel, layout, tables, start, plan })
    }

    /// Whether the policy fits the machine, before it is too late to say so on a screen.
    #[cfg(target_os = "uefi")]
    fn rehearse(&self) -> Result<(), String> {
        crate::complete(&self.parts, &MachinePlan { ticks_per_second: 1, ..self.plan }).map(|_| ())
    }

    /// Writes all that was decided, and jumps.
    fn act(self, out: &mut Output) -> Result<Never, String> {
        let Self { acpi, parts, kernel, layout, tables, start, mut plan } = self;
        let wall = layout.wall;
        plan.x86.io_apic_pins = machine::io_apic_pins(plan.x86.io_apic);
        plan.ticks_per_second = machine::ticks_per_second()?;
        let is_svm = plan.machine == kind::SVM;
        (plan.x86.time_source, plan.x86.time_pin) =
            machine::time_source(is_svm, &acpi, plan.x86.io_apic_pins, plan.ticks_per_second)?;
        let [stored_kernel, stored_initrd, stored_start, stored_line, stored_tables @ ..] = wall.parts;
        copy(kernel.code, stored_kernel.base);
        copy(parts.initrd, stored_initrd.base);
        copy(&start, stored_start.base);
        copy(parts.line.as_bytes(), stored_line.base);
        copy(&[0], stored_line.base + parts.line.len() as u64);
        tables.iter().zip(stored_tables).for_each(|(table, stored)| copy(memory(*table), stored.base));
        hide(&acpi, parts.resources, &tables, &stored_tables);
        let mut info = parts.info(&layout.guest_ram, plan.ticks_per_second);
        info.boot_seconds = machine::boot_seconds(plan.ticks_per_second);
        info.is_svm = u32::from(is_svm);
        parts.place(&wall, &info);
        let source = match plan.x86.time_source {
            time_source::HPET => "the HPET",
            time_source::PIT => "the PIT",
            _ => "VMX's preemption timer",
        };
        let _ = writeln!(out, "loader: the secure side's time comes from {source}");
        enter(out, &parts, &wall, &plan)
    }
}

/// The guest's start image and memory. Each start of the guest finds firmware's tables as this boot found them.
fn place(plan: &mut MachinePlan, layout: &Layout, kernel: &Kernel<'_>, tables: &[Range]) {
    let [stored_kernel, stored_initrd, stored_start, stored_line, stored_tables @ ..] = layout.wall.parts;
    let at = |base: u64, stored: Range| StoredPart { stored, target: Range { base, ..stored }, encoding: 0 };
    let start = [
        at(kernel.load, stored_kernel),
        at(layout.initrd.base, stored_initrd),
        at(ZERO_PAGE, stored_start),
        at(COMMAND_LINE, stored_line),
    ];
    let tables_again = tables.iter().zip(stored_tables).map(|(table, stored)| at(table.base, stored));
    plan.parts.iter_mut().zip(start.into_iter().chain(tables_again)).for_each(|(slot, part)| *slot = part);
    let own_ram = layout.guest_ram.len();
    plan.guest_ram.iter_mut().skip(own_ram).zip(tables).for_each(|(slot, range)| *slot = *range);
    (plan.guest_entry, plan.x86.guest_start) = kernel.entry;
    plan.guest_argument = ZERO_PAGE;
}

/// What the tables say that only an x86-64 plan has.
fn describe(plan: &mut MachinePlan, acpi: &Acpi) {
    let x86 = &mut plan.x86;
    x86.local_apic = acpi.local_apic;
    x86.io_apic = acpi.io_apics.first().map_or(0, |(base, _)| *base);
    x86.hpet = acpi.hpet;
    x86.pm1a_control = acpi.pm1a_control;
    x86.smi_command = acpi.smi_command;
    x86.reset_port = acpi.reset_port;
}

/// The guest's copy of firmware's tables tells nothing of registers that the guest does not get (docs/decisions/0024).
fn hide(acpi: &Acpi, resources: &[Resource], tables: &[Range], stored: &[Range]) {
    let is_the_guests = |told: &&Told| told.registers.iter().any(|&registers| resources::gives(resources, registers));
    for told in acpi.told.iter().filter(|told| !is_the_guests(told)) {
        let start = Range { base: told.table, bytes: NAMED_BYTES as u64 };
        let copied = tables.iter().zip(stored).find(|(table, _)| table.holds(start));
        if let (Some((table, stored)), Some(&bytes)) = (copied, memory(start).first_chunk()) {
            copy(&acpi::unnamed(bytes), stored.base + (start.base - table.base));
        }
    }
}

/// Registers that are no memory, whatever the memory map says.
fn registers(acpi: &Acpi) -> Vec<Range> {
    let pages = acpi.io_apics.iter().map(|(base, _)| *base).chain([acpi.local_apic, acpi.hpet]);
    let pages = pages.filter(|&base| base != 0).map(|base| Range { base: base & !0xfff, bytes: 0x1000 });
    pages.chain(acpi.pci_config.iter().copied()).collect()
}

/// Hands the machine over: 64-bit mode, interrupts off, addresses below 4 GiB mapped to themselves, flat segments, the
/// plan's address in RDI.
pub(crate) fn jump(entry: u64, plan: u64) -> ! {
    // SAFETY: the hypervisor's image was copied, relocated and zeroed, and is entered at its first byte (the flat image's
    // rule). x86 keeps instruction fetches coherent with earlier stores (SDM 3 §12.6).
    unsafe { asm!("jmp {entry}", entry = in(reg) entry, in("rdi") plan, options(noreturn)) }
}

/// The power management control register, and SLP_TYP for off with bit 8 set once they are known.
static OFF: (AtomicU32, AtomicU32) = (AtomicU32::new(0), AtomicU32::new(0));

fn remember_off(acpi: &Acpi) {
    if let Some(off_type) = acpi.off_type {
        OFF.0.store(acpi.pm1a_control, Ordering::Relaxed);
        OFF.1.store(1 << 8 | u32::from(off_type), Ordering::Relaxed);
    }
}

/// Powers the machine off (ACPI 6.5 §16.1: SLP_TYP and SLP_EN); where that fails, waits for ever.
pub(crate) fn stop() -> ! {
    #[cfg(target_os = "uefi")]
    firmware::power_off();
    let (port, off_type) = (OFF.0.load(Ordering::Relaxed), OFF.1.load(Ordering::Relaxed));
    if let (Ok(port @ 1..), Ok(off_type), true) = (u16::try_from(port), u16::try_from(off_type & 7), off_type != 0) {
        const SLEEP_ENABLE: u16 = 1 << 13;
        let kept = instr::read_port16(port) & !(7 << 10);
        instr::write_port16(port, kept | off_type << 10);
        instr::write_port16(port, kept | off_type << 10 | SLEEP_ENABLE);
    }
    instr::halt()
}
