//! x86-64: an ELF file that GRUB loads by Multiboot2, with the bundle as its only module.

mod console;
mod entry;
mod instr;
mod machine;
mod probe;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::asm;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use bulkhead_bundle::Resource;
use bulkhead_hypervisor_core::plan::{MachinePlan, Range, StoredPart, machine as kind, time_source};
use bulkhead_loader::require::Facts;
use bulkhead_loader::resources;
use bulkhead_loader::wall::Sizes;
use bulkhead_loader::x86_64::acpi::{self, Acpi, NAMED_BYTES, Physical, Told};
use bulkhead_loader::x86_64::bzimage::{COMMAND_LINE, Kernel, START_BYTES, ZERO_PAGE};
use bulkhead_loader::x86_64::layout::{self, Machine};
use bulkhead_loader::x86_64::map::Map;
use bulkhead_loader::x86_64::multiboot2;

pub(crate) use console::Output;

use crate::{Never, Parts, copy, enter, memory};

/// The policies that are for this machine.
pub(crate) const POLICY_MACHINE: u32 = bulkhead_model::machine::X86_64;
/// Its name.
pub(crate) const NAME: &str = "x86_64";

/// What the loader is started with: the list of tags.
pub(crate) struct BootChain {
    list: u64,
}

extern "C" fn entered(list: u64) -> ! {
    crate::start(BootChain { list })
}

/// Everything below 4 GiB can be read where it is.
struct Low;

impl Physical for Low {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let range = Range { base: address, bytes: length as u64 };
        (address != 0 && range.end().is_some_and(|end| end <= 1 << 32)).then(|| memory(range))
    }
}

/// Learns the machine, places everything and jumps.
pub(crate) fn boot(chain: BootChain, out: &mut Output) -> Result<Never, String> {
    *out = Output::find();
    let list = read_list(chain.list)?;
    let boot = multiboot2::read(list).map_err(|error| error.to_string())?;
    let acpi = acpi::read(boot.rsdp.unwrap_or_default(), &Low).map_err(|error| error.to_string())?;
    remember_off(&acpi);
    let machine_kind = machine::virtualization()?;
    let map = Map::new(&boot.map).map_err(|error| error.to_string())?;
    let bundle = boot.bundle.ok_or("no bundle: give it as the only module (GRUB: module2 /boot/bundle.img)")?;
    let facts = Facts {
        has_iommu: acpi.has_iommu,
        has_tpm: acpi.has_tpm,
        cores: acpi.cpu_count.into(),
        memory: map.ram().map(|range| range.bytes).sum::<u64>() >> 20,
    };
    let parts = Parts::open(memory(bundle), &facts)?;
    let kernel = Kernel::open(parts.kernel).map_err(|error| error.to_string())?;
    let busy = [own(), bundle, Range { base: chain.list, bytes: list.len() as u64 }];
    let registers = registers(&acpi);
    let machine = Machine { map: &map, busy: &busy, registers: &registers };
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
    let wall = layout.wall;
    let told = map.without(wall.taken).map_err(|error| error.to_string())?;
    let start = kernel.start(&told, layout.initrd, parts.line).map_err(|error| error.to_string())?;
    let ticks_per_second = machine::ticks_per_second()?;
    machine::stop_bus_masters();
    let [stored_kernel, stored_initrd, stored_start, stored_line, stored_tables @ ..] = wall.parts;
    copy(kernel.code, stored_kernel.base);
    copy(parts.initrd, stored_initrd.base);
    copy(&start, stored_start.base);
    copy(parts.line.as_bytes(), stored_line.base);
    copy(&[0], stored_line.base + parts.line.len() as u64);
    tables.iter().zip(stored_tables).for_each(|(table, stored)| copy(memory(*table), stored.base));
    hide(&acpi, parts.resources, &tables, &stored_tables);
    let mut info = parts.info(&layout.guest_ram, ticks_per_second);
    info.boot_seconds = machine::boot_seconds(ticks_per_second);
    info.is_svm = u32::from(machine_kind == kind::SVM);
    parts.place(&wall, &info)?;
    let mut plan = parts.plan(&wall, &layout.guest_ram, out);
    plan.machine = machine_kind;
    plan.cpu_count = acpi.cpu_count;
    plan.ticks_per_second = ticks_per_second;
    plan.console = Range { base: out.base, bytes: 8 };
    let at = |base: u64, stored: Range| StoredPart { stored, target: Range { base, ..stored }, encoding: 0 };
    let start = [
        at(kernel.load, stored_kernel),
        at(layout.initrd.base, stored_initrd),
        at(ZERO_PAGE, stored_start),
        at(COMMAND_LINE, stored_line),
    ];
    // Each start of the guest finds firmware's tables as this boot found them.
    let tables_again = tables.iter().zip(stored_tables).map(|(table, stored)| at(table.base, stored));
    plan.parts.iter_mut().zip(start.into_iter().chain(tables_again)).for_each(|(slot, part)| *slot = part);
    let own_ram = layout.guest_ram.len();
    plan.guest_ram.iter_mut().skip(own_ram).zip(&tables).for_each(|(slot, range)| *slot = *range);
    plan.guest_entry = kernel.load;
    plan.guest_argument = ZERO_PAGE;
    fill(&mut plan, &acpi)?;
    let source = match plan.x86.time_source {
        time_source::HPET => "the HPET",
        time_source::PIT => "the PIT",
        _ => "VMX's preemption timer",
    };
    let _ = writeln!(out, "loader: the secure side's time comes from {source}");
    enter(out, &parts, &wall, &mut plan)
}

/// What only an x86-64 plan has.
fn fill(plan: &mut MachinePlan, acpi: &Acpi) -> Result<(), String> {
    let (is_svm, rate) = (plan.machine == kind::SVM, plan.ticks_per_second);
    let x86 = &mut plan.x86;
    x86.local_apic = acpi.local_apic;
    x86.io_apic = acpi.io_apics.first().map_or(0, |(base, _)| *base);
    x86.io_apic_pins = machine::io_apic_pins(x86.io_apic);
    x86.hpet = acpi.hpet;
    (x86.time_source, x86.time_pin) = machine::time_source(is_svm, acpi, x86.io_apic_pins, rate)?;
    x86.pm1a_control = acpi.pm1a_control;
    x86.smi_command = acpi.smi_command;
    x86.reset_port = acpi.reset_port;
    Ok(())
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

/// The loader's own image.
fn own() -> Range {
    unsafe extern "C" {
        static image_start: u8;
        static image_end: u8;
    }
    let (start, end) = ((&raw const image_start).addr() as u64, (&raw const image_end).addr() as u64);
    Range { base: start, bytes: end - start }
}

fn read_list(address: u64) -> Result<&'static [u8], String> {
    let length = memory(Range { base: address, bytes: 4 }).first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let is_sound = address != 0 && address.is_multiple_of(8) && (length as usize) <= multiboot2::MAX_BYTES;
    if !is_sound {
        return Err("the boot chain's list of tags is damaged".to_string());
    }
    Ok(memory(Range { base: address, bytes: u64::from(length) }))
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
    let (port, off_type) = (OFF.0.load(Ordering::Relaxed), OFF.1.load(Ordering::Relaxed));
    if let (Ok(port @ 1..), Ok(off_type), true) = (u16::try_from(port), u16::try_from(off_type & 7), off_type != 0) {
        const SLEEP_ENABLE: u16 = 1 << 13;
        let kept = instr::read_port16(port) & !(7 << 10);
        instr::write_port16(port, kept | off_type << 10);
        instr::write_port16(port, kept | off_type << 10 | SLEEP_ENABLE);
    }
    instr::halt()
}
