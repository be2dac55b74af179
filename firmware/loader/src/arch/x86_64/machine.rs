//! What no table tells: the CPU's features, how fast its counter runs, the I/O APIC's pins; and devices that are told to
//! keep still.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use bulkhead_hypervisor_core::plan::time_source as source;
use bulkhead_loader::x86_64::acpi::Acpi;
use bulkhead_loader::x86_64::cpu::Cpu;
use bulkhead_loader::x86_64::timer;

use super::instr::{
    read_msr, read_port8, read_port16, read_port32, read_register, read_tsc, write_feature_control, write_port8,
    write_port16, write_port32, write_register,
};
use super::probe;

/// Which kind of machine the CPU makes; VMX is locked open if the firmware left that to us (SDM 3 §24.7).
pub(super) fn virtualization() -> Result<u32, String> {
    let has_leaf = |leaf: u32| __cpuid(leaf & 0x8000_0000).eax >= leaf;
    let mut cpu = Cpu { features: __cpuid(1).ecx, extended: __cpuid(0x8000_0001).ecx, ..Cpu::default() };
    // CPUs with 64-bit mode have the register.
    cpu.apic_base = read_msr(0x1b);
    if cpu.has_vmx() {
        cpu.feature_control = read_msr(0x3a);
        cpu.primary_controls = read_msr(0x482);
        // There only if the primary controls allow secondary ones (SDM 3 §A.3.3).
        cpu.secondary_controls = if cpu.primary_controls >> 63 != 0 { read_msr(0x48b) } else { 0 };
    }
    if cpu.has_svm() {
        cpu.vm_cr = read_msr(0xc001_0114);
        cpu.svm_features = if has_leaf(0x8000_000a) { __cpuid(0x8000_000a).edx } else { 0 };
    }
    let machine = cpu.machine().map_err(|error| error.to_string())?;
    if cpu.has_vmx() && cpu.feature_control & 1 == 0 {
        write_feature_control(cpu.feature_control | 1 << 2 | 1);
    }
    Ok(machine)
}

/// How often the PIT is asked before it is given up: a second of port reads and more.
const PATIENCE: u32 = 20_000_000;

/// The counter's rate: as the CPU tells it, else measured against the PIT.
pub(super) fn ticks_per_second() -> Result<u64, String> {
    if __cpuid(0).eax >= 0x15 {
        let told = __cpuid_count(0x15, 0);
        if let Some(rate) = timer::told_rate(told.eax, told.ebx, told.ecx) {
            return Ok(rate);
        }
    }
    // The fewest ticks of three: what disturbs a measurement makes it longer.
    let fewest = (0..3).filter_map(|_| measure()).min();
    let rate = fewest.map(|ticks| timer::rate(ticks, u64::from(PIT_TICKS))).filter(|&rate| rate != 0);
    rate.ok_or_else(|| "the interval timer (PIT) does not count: the CPU's clock is unknown".to_string())
}

/// 20 ms of the PIT.
const PIT_TICKS: u16 = 23_864;

/// What the counter advances while channel 2 of the PIT counts down once (mode 0: its output rises at the end).
fn measure() -> Option<u64> {
    const GATE: u16 = 0x61;
    let kept = read_port8(GATE);
    let [low, high] = PIT_TICKS.to_le_bytes();
    write_port8(GATE, kept & !2 | 1);
    write_port8(0x43, 0xb0);
    write_port8(0x42, low);
    write_port8(0x42, high);
    let start = read_tsc();
    let has_ended = (0..PATIENCE).any(|_| read_port8(GATE) & 0x20 != 0);
    let end = read_tsc();
    write_port8(GATE, kept);
    has_ended.then(|| end.wrapping_sub(start))
}

/// The second since 1970 at which the counter was 0; 0 if the real-time clock shows no time.
pub(super) fn boot_seconds(ticks_per_second: u64) -> u64 {
    let now = bulkhead_cmos::seconds(PATIENCE, read_clock);
    now.map_or(0, |now| now.saturating_sub(read_tsc() / ticks_per_second.max(1)))
}

fn read_clock(register: u8) -> u8 {
    write_port8(bulkhead_cmos::INDEX, register);
    read_port8(bulkhead_cmos::DATA)
}

/// How many pins the I/O APIC has (82093AA §3.2.2: bits 16-23 of its version register, and one).
pub(super) fn io_apic_pins(base: u64) -> u32 {
    if base == 0 {
        return 0;
    }
    let kept = read_register(base);
    write_register(base, 1);
    let version = read_register(base + 0x10);
    write_register(base, kept);
    (version >> 16 & 0xff) + 1
}

/// What brings the secure side its time, and the pin that it uses: the first whose interrupt is seen to come.
pub(super) fn time_source(is_svm: bool, acpi: &Acpi, pins: u32, ticks_per_second: u64) -> Result<(u32, u32), String> {
    if !is_svm {
        return Ok((source::PREEMPTION_TIMER, 0));
    }
    let (io_apic, first) = acpi.io_apics.first().copied().unwrap_or_default();
    let isa: Vec<u32> = acpi.overrides.iter().map(|(_, global)| global.wrapping_sub(first)).collect();
    // IA-PC HPET specification §2.3.8: the upper half of comparator 0's configuration is where it can be routed to.
    let routes = if acpi.hpet == 0 { 0 } else { read_register(acpi.hpet + 0x104) };
    if let Some(pin) = timer::hpet_pin(routes, pins, &isa) {
        let hpet = probe::Hpet { page: acpi.hpet, pin };
        if probe::interrupts(&hpet, io_apic, pin, ticks_per_second) {
            return Ok((source::HPET, pin));
        }
    }
    // ISA interrupt 0 comes by pin 2 on nearly every machine, which says so by an override.
    let pit = acpi.overrides.iter().find(|(isa, _)| *isa == 0).map_or(0, |(_, global)| global.wrapping_sub(first));
    if pit < pins && probe::interrupts(&probe::Pit, io_apic, pit, ticks_per_second) {
        return Ok((source::PIT, pit));
    }
    Err("no timer interrupts the CPU by NMI (neither HPET nor PIT): the secure side would get no time".to_string())
}

/// Masks all lines of both 8259s: UEFI's vectors are not those that a guest expects.
#[cfg(target_os = "uefi")]
pub(super) fn silence_pics() {
    for port in [0x21, 0xa1] {
        write_port8(port, 0xff);
    }
}

/// Bit 2 of every PCI function's command register is cleared (PCI 3.0 §6.2.2): what firmware left running writes to memory
/// no more.
pub(super) fn stop_bus_masters() {
    for device in 0..256 * 32_u32 {
        let first = device << 11;
        let has_functions = read_config(first, 0x0c) >> 16 & 0x80 != 0;
        for function in 0..if has_functions { 8 } else { 1 } {
            let address = first | function << 8;
            if read_config(address, 0) & 0xffff != 0xffff {
                // The upper half is the status register, whose bits are cleared by writing them: two bytes alone are written.
                select(address, 4);
                let command = read_port16(CONFIG_DATA);
                write_port16(CONFIG_DATA, command & !(1 << 2));
            }
        }
    }
}

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

fn select(function: u32, register: u32) {
    write_port32(CONFIG_ADDRESS, 1 << 31 | function | register);
}

fn read_config(function: u32, register: u32) -> u32 {
    select(function, register);
    read_port32(CONFIG_DATA)
}
