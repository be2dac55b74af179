//! The [`MachinePlan`]: all that the hypervisor learns about the machine, in one structure that the loader fills and
//! the hypervisor validates once. After that nothing is parsed again.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// "BHMP", little-endian.
pub const PLAN_MAGIC: u32 = 0x504d_4842;
/// Layout version.
pub const PLAN_VERSION: u32 = 4;
/// The most ranges in each list.
pub const MAX_RANGES: usize = 8;
/// The most ranges of the guest's memory: its own, and on x86-64 those of firmware's tables.
pub const MAX_GUEST_RAM: usize = MAX_RANGES + 4;
/// The most interrupts in each list.
pub const MAX_INTERRUPTS: usize = 32;

/// The most parts of the guest's start image.
pub const MAX_PARTS: usize = 8;

/// The most ranges of ports of the guest.
pub const MAX_PORTS: usize = 32;
/// The most ranges of model-specific registers of the guest.
pub const MAX_MSRS: usize = 32;

/// The most devices that apps serve to the guest.
pub const DEVICES: usize = 4;

/// The most interrupts that apps drive.
pub const MAX_SECURE_INTERRUPTS: usize = 8;

/// A range of host-physical addresses (equal to guest-physical ones: the guest is identity-mapped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Length in bytes; 0 where the entry is unused.
    pub bytes: u64,
}

/// A part of the guest's start image in the store: where it lies and where it goes at each (re)start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StoredPart {
    /// Where the part lies in the store (inside [`MachinePlan::store`]).
    pub stored: Range,
    /// Where it goes in guest memory, and its length there.
    pub target: Range,
    /// 0: plain copy; 1: raw deflate stream (RFC 1951) that yields exactly `target.bytes`.
    pub encoding: u64,
}

/// A range of I/O ports (x86-64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ports {
    /// The first.
    pub first: u32,
    /// How many; 0 where the entry is unused.
    pub count: u32,
}

/// A range of model-specific registers (x86-64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Msrs {
    /// The first.
    pub first: u32,
    /// How many; 0 where the entry is unused.
    pub count: u32,
    /// 1: the guest reads them, and does not write.
    pub read_only: u64,
}

/// What only an x86-64 machine has; all zero on others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct X86 {
    /// ROM that the guest reads and executes and does not write; page-aligned.
    pub guest_rom: [Range; MAX_RANGES],
    /// Ports that the policy opens to the guest.
    pub guest_ports: [Ports; MAX_PORTS],
    /// Model-specific registers that the policy opens to the guest.
    pub guest_msrs: [Msrs; MAX_MSRS],
    /// Ports that the policy opens to apps.
    pub secure_ports: [Ports; MAX_RANGES],
    /// The local APIC's page (MADT; 0xfee0_0000).
    pub local_apic: u64,
    /// The first I/O APIC's page (MADT; 0xfec0_0000); 0 if there is none.
    pub io_apic: u64,
    /// How many pins it has.
    pub io_apic_pins: u32,
    /// `time_source::*`: what brings the secure side its time.
    pub time_source: u32,
    /// The HPET's page (ACPI table HPET); 0 if there is none.
    pub hpet: u64,
    /// The pin of the I/O APIC that the time source interrupts by.
    pub time_pin: u32,
    /// ACPI's PM1a control register, a port (FADT); 0 if there is none.
    pub pm1a_control: u32,
    /// The port whose write raises a system management interrupt (FADT SMI_CMD); 0 if there is none.
    pub smi_command: u32,
    /// The reset register, a port (FADT RESET_REG); 0 if there is none.
    pub reset_port: u32,
    /// `start::*`: what the guest starts as.
    pub guest_start: u32,
    /// Zero.
    pub reserved: u32,
}

impl X86 {
    /// The machine's own pages that the hypervisor uses; 0 bytes where there is none.
    #[must_use]
    pub fn pages(&self) -> [Range; 3] {
        [self.local_apic, self.io_apic, self.hpet].map(|base| Range { base, bytes: if base == 0 { 0 } else { PAGE } })
    }

    /// Whether a range that the policy gives to the guest is an interrupt controller's page, whose writes are looked at.
    #[must_use]
    pub fn is_watched(&self, range: Range) -> bool {
        let [local_apic, io_apic, _] = self.pages();
        range.bytes != 0 && (range == local_apic || range == io_apic)
    }

    /// The pin of the I/O APIC that is the hypervisor's own.
    #[must_use]
    pub const fn own_pin(&self) -> Option<u32> {
        match self.time_source {
            time_source::HPET | time_source::PIT => Some(self.time_pin),
            _ => None,
        }
    }
}

/// What brings the secure side its time on x86-64.
pub mod time_source {
    /// VMX: the preemption timer (SDM 3 §26.5.1). SVM has none.
    pub const PREEMPTION_TIMER: u32 = 1;
    /// A comparator of the HPET, by a non-maskable interrupt through the I/O APIC.
    pub const HPET: u32 = 2;
    /// The PIT's channel 0, by a non-maskable interrupt through the I/O APIC.
    pub const PIT: u32 = 3;
}

/// What a guest of x86-64 starts as. `guest_argument` is the address of `boot_params`, and a page further lies the descriptor table that it starts
/// with: limit 0x1f, code at selector 0x10, data at 0x18.
pub mod start {
    /// In 32-bit protected mode, flat, paging off (Documentation/x86/boot, "32-bit boot protocol"); `boot_params` in ESI.
    pub const PROTECTED: u32 = 0;
    /// In 64-bit mode ("64-bit boot protocol"), on tables two pages after `boot_params`, which is in RSI.
    pub const LONG: u32 = 1;
    /// In real mode, as a BIOS starts a boot sector: at 0:`guest_entry`, DL = 0x80; `boot_params`, which tells the memory map, in ESI.
    pub const REAL: u32 = 2;
}

/// Kinds of machine.
pub mod machine {
    /// EL2 with a GICv3.
    pub const AARCH64: u32 = 1;
    /// VMX: EPT, unrestricted guest.
    pub const VMX: u32 = 2;
    /// SVM: nested paging.
    pub const SVM: u32 = 3;
}

/// Kinds of console the wall writes to.
pub mod console {
    /// None: the wall is silent.
    pub const NONE: u32 = 0;
    /// The emergency-write register of a virtio console (virtio 1.2 §5.3.4): 32-bit writes to `console.base + 0x108`.
    pub const VIRTIO_EMERGENCY: u32 = 1;
    /// A PL011 UART, shared with the guest if the policy gives it the same one.
    pub const PL011: u32 = 2;
    /// The debug console of an emulator: bytes written to port 0xe9.
    pub const PORT_E9: u32 = 3;
    /// A 16550 at the ports from `console.base` on, which the guest does not get.
    pub const UART_16550: u32 = 4;
}

/// The guest device that an app serves: accesses to it become calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Device {
    /// Where the guest sees it: addresses, never mapped at stage 2; or ports, never opened.
    pub range: Range,
    /// The object in the compiled policy: method 0 is read(offset, size) -> value, method 1 write(offset, size, value).
    pub object: u16,
    /// The PCI function that it is, bus << 8 | device << 3 | function; 0 if it is none.
    pub function: u16,
    /// Its interrupt (INTID; x86-64: line), 0 if none.
    pub intid: u32,
    /// The I/O APIC's pin of a PCI function, where that is not `intid`; else 0.
    pub pin: u32,
    /// 1: `range` are ports.
    pub is_ports: u32,
}

/// All of it. `#[repr(C)]`, little-endian, no padding.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachinePlan {
    /// [`PLAN_MAGIC`].
    pub magic: u32,
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// `machine::*`.
    pub machine: u32,
    /// How many CPUs the machine has (only the boot CPU is used).
    pub cpu_count: u32,
    /// Ticks of the counter that all times are told in, in a second (x86-64: of the TSC).
    pub ticks_per_second: u64,
    /// Everything that is taken from the guest: 2 MiB-aligned, holds all of the next five.
    pub taken: Range,
    /// The hypervisor's image with its zeroed data and stacks, page-aligned.
    pub image: Range,
    /// Executable part of the image (from its start), page multiple.
    pub image_text_bytes: u64,
    /// Read-only part after it, page multiple.
    pub image_rodata_bytes: u64,
    /// The compiled policy, page-aligned base.
    pub policy: Range,
    /// Length of the compiled policy in bytes; `policy` is its pages.
    pub policy_bytes: u64,
    /// 1: the policy is known to be that of the last start.
    pub is_last_policy: u64,
    /// The guest's start image, page-aligned.
    pub store: Range,
    /// The audit ring (64 KiB, page-aligned).
    pub audit: Range,
    /// The secure partition's memory, 2 MiB-aligned.
    pub secure: Range,
    /// TTBR1_EL1 (x86-64: CR3) of the secure kernel, an address of the partition.
    pub secure_root: u64,
    /// The guest's memory, disjoint, 2 MiB-aligned, all outside `taken`.
    pub guest_ram: [Range; MAX_GUEST_RAM],
    /// MMIO ranges that the policy opens to the guest, page-aligned.
    pub guest_mmio: [Range; MAX_RANGES],
    /// Physical interrupts (SPIs, INTID 32 and up) that the policy gives to the guest; 0 where unused.
    pub guest_interrupts: [u32; MAX_INTERRUPTS],
    /// Registers that the policy opens to apps, page-aligned.
    pub secure_mmio: [Range; MAX_RANGES],
    /// Physical interrupts (SPIs) of those devices; 0 where unused.
    pub secure_interrupts: [u32; MAX_SECURE_INTERRUPTS],
    /// Devices that apps serve to the guest.
    pub devices: [Device; DEVICES],
    /// Parts copied to guest memory at each (re)start; unused ones have `target.bytes == 0`.
    pub parts: [StoredPart; MAX_PARTS],
    /// Where the guest starts, in its memory. x86-64: `start` says how.
    pub guest_entry: u64,
    /// The address in guest memory that it finds in x0 (the device tree) or in ESI (`boot_params`).
    pub guest_argument: u64,
    /// GIC distributor (64 KiB).
    pub gicd: Range,
    /// GIC redistributors (128 KiB a CPU).
    pub gicr: Range,
    /// INTID of the hypervisor's physical timer (PPI, 26).
    pub timer_intid: u32,
    /// INTID of the guest's virtual timer (PPI, 27).
    pub guest_timer_intid: u32,
    /// Zero.
    pub reserved: u32,
    /// `console::*`.
    pub console_kind: u32,
    /// The console's registers.
    pub console: Range,
    /// Secure partition: period, share of it, and limit of one call of the guest, in microseconds.
    pub period_us: u64,
    /// Share of each period that the secure partition may take by itself.
    pub budget_us: u64,
    /// Longest time one guest call may take.
    pub call_limit_us: u64,
    /// What a guest's SYSTEM_OFF (low byte) and SYSTEM_RESET (second byte) do: 0 stop the machine, 1 restart the guest, 2 hold the guest and let the secure side run on.
    pub on_guest_end: u64,
    /// After this many restarts a further one stops the machine; 0: no limit.
    pub restart_limit: u64,
    /// Where the real PSCI conduit is: 1 SMC (only used to power the machine off), 0 none.
    pub psci_smc: u64,
    /// What only x86-64 has.
    pub x86: X86,
}

const _: () = assert!(size_of::<MachinePlan>() <= 4096, "the loader gives it one page");

/// What is wrong with a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Not a plan, or one of another version.
    Version,
    /// A range that must be page-aligned is not, wraps, or ends above 512 GiB.
    Range(Range),
    /// A part of the wall does not lie within what was taken from the guest.
    Outside(Range),
    /// Two ranges that must not share memory do.
    Overlap(Range, Range),
    /// A part of the start image, the entry or the device tree lies outside the guest's memory.
    Start(Range),
    /// An interrupt that no guest can be given.
    Interrupt(u32),
    /// The secure side's period, share or call limit is zero, or the share is longer than the period.
    Times,
}

impl PlanError {
    /// What is wrong, and the first addresses of the ranges at fault (or the interrupt); 0 for none.
    #[must_use]
    pub const fn told(self) -> (&'static str, [u64; 2]) {
        match self {
            Self::Version => ("it is of another version", [0; 2]),
            Self::Range(range) => ("a range is not page-aligned, or too high", [range.base, 0]),
            Self::Outside(range) => ("a part of the wall lies outside what was taken", [range.base, 0]),
            Self::Overlap(one, other) => ("two ranges overlap", [one.base, other.base]),
            Self::Start(range) => ("a part of the start image lies outside the guest", [range.base, 0]),
            Self::Interrupt(intid) => ("an interrupt that no guest can have", [intid as u64, 0]),
            Self::Times => ("the secure side's times do not fit each other", [0; 2]),
        }
    }
}

const PAGE: u64 = 4096;

impl Range {
    /// One past the last address, if it does not wrap.
    #[must_use]
    pub const fn end(self) -> Option<u64> {
        self.base.checked_add(self.bytes)
    }

    /// Whether no address is in both.
    #[must_use]
    pub fn is_disjoint(self, other: Self) -> bool {
        self.bytes == 0
            || other.bytes == 0
            || self.end().is_some_and(|end| end <= other.base)
            || other.end().is_some_and(|end| end <= self.base)
    }

    /// Whether the other one lies within this one.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        other.base >= self.base && self.end().zip(other.end()).is_some_and(|(own, other)| other <= own)
    }

    fn check(self) -> Result<(), PlanError> {
        let is_aligned = self.base.is_multiple_of(PAGE) && self.bytes.is_multiple_of(PAGE);
        let is_low = self.end().is_some_and(|end| end <= 1 << 39);
        if is_aligned && is_low { Ok(()) } else { Err(PlanError::Range(self)) }
    }
}

impl MachinePlan {
    /// Checks the whole plan: every range aligned, inside what it must be inside, disjoint from what it must be disjoint from.
    ///
    /// # Errors
    /// The first rule that is broken, with the range.
    pub fn validate(&self) -> Result<(), PlanError> {
        let is_known =
            matches!(self.machine, machine::AARCH64 | machine::VMX | machine::SVM) && self.ticks_per_second > 0;
        let is_known = is_known && self.x86.guest_start <= start::REAL;
        if self.magic != PLAN_MAGIC || self.version != PLAN_VERSION || !is_known {
            return Err(PlanError::Version);
        }
        let store = Range { bytes: self.store.bytes.next_multiple_of(PAGE), ..self.store };
        let own = [self.image, self.policy, store, self.audit, self.secure];
        let given = self.guest_ram.iter().chain(&self.guest_mmio).chain(&self.secure_mmio).chain(&self.x86.guest_rom);
        for range in own.iter().chain(given).chain([&self.taken, &self.gicd, &self.gicr]).chain(&self.x86.pages()) {
            range.check()?;
        }
        if let Some(&outside) = own.iter().find(|range| range.bytes != 0 && !self.taken.holds(**range)) {
            return Err(PlanError::Outside(outside));
        }
        if self.image_text_bytes.saturating_add(self.image_rodata_bytes) > self.image.bytes
            || self.policy_bytes > self.policy.bytes
        {
            return Err(PlanError::Outside(self.image));
        }
        disjoint(&own)?;
        let mut spaces = [Range::default(); MAX_GUEST_RAM + 3 * MAX_RANGES + 10];
        let devices = self.devices.iter().filter(|device| device.is_ports == 0).map(|device| device.range);
        let given = self.guest_mmio.iter().filter(|range| !self.x86.is_watched(**range));
        let all = self.guest_ram.iter().chain(&self.x86.guest_rom).chain(given).chain(&self.secure_mmio);
        let own = [self.taken, self.gicd, self.gicr].into_iter().chain(self.x86.pages());
        for (slot, range) in spaces.iter_mut().zip(all.copied().chain(devices).chain(own)) {
            *slot = range;
        }
        disjoint(&spaces)?;
        self.check_start()?;
        if let Some(&intid) =
            self.secure_interrupts.iter().find(|intid| **intid != 0 && self.guest_interrupts.contains(intid))
        {
            return Err(PlanError::Interrupt(intid));
        }
        // Shared peripheral interrupts of a GIC; lines of a PC.
        let numbers = if self.machine == machine::AARCH64 { 32..1020 } else { 1..24 };
        let interrupts = self
            .guest_interrupts
            .iter()
            .chain(&self.secure_interrupts)
            .copied()
            .chain(self.devices.iter().map(|device| device.intid));
        if let Some(intid) = interrupts.filter(|&intid| intid != 0).find(|intid| !numbers.contains(intid)) {
            return Err(PlanError::Interrupt(intid));
        }
        let has_times = self.period_us > 0 && self.budget_us > 0 && self.call_limit_us > 0;
        if has_times && self.budget_us <= self.period_us { Ok(()) } else { Err(PlanError::Times) }
    }

    /// What is copied at each start comes from the store and goes to the guest.
    fn check_start(&self) -> Result<(), PlanError> {
        let is_guests = |range: Range| self.guest_ram.iter().any(|ram| ram.bytes != 0 && ram.holds(range));
        for part in self.parts.iter().filter(|part| part.target.bytes != 0) {
            if !self.store.holds(part.stored) || !is_guests(part.target) {
                return Err(PlanError::Start(part.target));
            }
        }
        let places = [self.guest_entry, self.guest_argument].map(|base| Range { base, bytes: 4 });
        places.into_iter().find(|place| !is_guests(*place)).map_or(Ok(()), |place| Err(PlanError::Start(place)))
    }
}

fn disjoint(ranges: &[Range]) -> Result<(), PlanError> {
    for (index, &a) in ranges.iter().enumerate() {
        if let Some(&b) = ranges.iter().skip(index + 1).find(|b| !a.is_disjoint(**b)) {
            return Err(PlanError::Overlap(a, b));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn plan() -> MachinePlan {
        let mut plan = MachinePlan::new_zeroed();
        let range = |base, bytes| Range { base, bytes };
        (plan.magic, plan.version) = (PLAN_MAGIC, PLAN_VERSION);
        (plan.machine, plan.ticks_per_second) = (machine::AARCH64, 62_500_000);
        plan.taken = range(0x7f00_0000, 0x100_0000);
        plan.secure = range(0x7f00_0000, 0x20_0000);
        plan.image = range(0x7f20_0000, 0x4_0000);
        plan.policy = range(0x7f24_0000, 0x1000);
        plan.audit = range(0x7f25_0000, 0x1_0000);
        plan.store = range(0x7f26_0000, 0x80_0000);
        plan.guest_ram[0] = range(0x4000_0000, 0x3f00_0000);
        plan.guest_mmio[0] = range(0x0900_0000, 0x1000);
        plan.guest_interrupts[0] = 33;
        plan.devices[0] = Device { range: range(0x0a00_3e00, 0x200), object: 8, intid: 79, ..Device::default() };
        plan.parts[0] = StoredPart { stored: range(0x7f26_0000, 100), target: range(0x4000_0000, 5000), encoding: 1 };
        (plan.guest_entry, plan.guest_argument) = (0x4000_0000, 0x4800_0000);
        (plan.gicd, plan.gicr) = (range(0x0800_0000, 0x1_0000), range(0x080a_0000, 0x2_0000));
        (plan.period_us, plan.budget_us, plan.call_limit_us) = (1000, 100, 2000);
        plan
    }

    #[test]
    fn a_sound_plan_is_taken() {
        assert_eq!(plan().validate(), Ok(()));
    }

    #[test]
    fn a_pcs_interrupt_controllers_are_given_whole_or_not_at_all() {
        let mut plan = plan();
        plan.machine = machine::VMX;
        (plan.guest_interrupts[0], plan.devices[0].intid) = (4, 11);
        (plan.x86.local_apic, plan.x86.io_apic) = (0xfee0_0000, 0xfec0_0000);
        plan.guest_mmio[1] = Range { base: 0xfee0_0000, bytes: 0x1000 };
        assert_eq!(plan.validate(), Ok(()));
        assert!(plan.x86.is_watched(plan.guest_mmio[1]) && !plan.x86.is_watched(plan.guest_mmio[0]));
        plan.guest_mmio[1].bytes = 0x2000;
        assert!(plan.validate().is_err(), "more than the page");
        plan.guest_mmio[1] = Range::default();
        plan.devices[1] = Device { range: Range { base: 0x2f8, bytes: 8 }, is_ports: 1, ..Device::default() };
        plan.guest_mmio[2] = Range { base: 0, bytes: 0x1000 };
        assert_eq!(plan.validate(), Ok(()), "ports are no addresses");
        plan.x86.hpet = 0xfed0_0000;
        plan.guest_mmio[2] = Range { base: 0xfed0_0000, bytes: 0x1000 };
        assert!(plan.validate().is_err(), "the page of the hypervisor's own timer");
    }

    #[test]
    fn every_rule_of_a_plan_has_its_refusal() {
        type Break = fn(&mut MachinePlan);
        let broken: [(&str, Break); 18] = [
            ("another kind of machine", |plan| plan.machine = 9),
            ("another kind of start", |plan| plan.x86.guest_start = 3),
            ("an app's device that is the guest's too", |plan| plan.secure_mmio[0] = plan.guest_mmio[0]),
            ("an app's interrupt that is the guest's too", |plan| plan.secure_interrupts[0] = 33),
            ("another version", |plan| plan.version += 1),
            ("guest memory over the wall", |plan| plan.guest_ram[1] = Range { base: 0x7f80_0000, bytes: 0x1000 }),
            ("guest memory twice", |plan| plan.guest_ram[1] = plan.guest_ram[0]),
            ("a passed-through range over the controller", |plan| plan.guest_mmio[1] = plan.gicd),
            ("a passed-through range that is no page", |plan| {
                plan.guest_mmio[1] = Range { base: 0x900_0800, bytes: 0x800 }
            }),
            ("a served device over a passed-through range", |plan| plan.devices[1].range = plan.guest_mmio[0]),
            ("the image outside what is taken", |plan| plan.image.base = 0x7e00_0000),
            ("policy and image overlap", |plan| plan.policy.base = plan.image.base),
            ("a range that wraps", |plan| plan.guest_mmio[1] = Range { base: u64::MAX - 0xfff, bytes: 0x2000 }),
            ("a part that goes to the wall", |plan| plan.parts[0].target.base = 0x7f00_0000),
            ("a part that comes from the guest", |plan| plan.parts[0].stored.base = 0x4000_0000),
            ("an entry outside the guest", |plan| plan.guest_entry = 0x7f00_0000),
            ("an interrupt of the wall's", |plan| plan.guest_interrupts[1] = 26),
            ("no time", |plan| plan.budget_us = plan.period_us + 1),
        ];
        for (what, act) in broken {
            let mut plan = plan();
            act(&mut plan);
            assert!(plan.validate().is_err(), "{what}");
        }
    }
}
