//! The machine's real interrupt controllers, which are the guest's: how an emulated device's interrupt reaches it by the vector that the guest
//! itself programmed, what is written to them for it, and how they are put back for a guest that starts again.
#![expect(unsafe_code, reason = "device registers are reached by volatile accesses")]

use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::x86::fetch::Fetched;
use bulkhead_hypervisor_core::x86::pci::Functions;
use bulkhead_hypervisor_core::x86::pic::Pic;
use bulkhead_hypervisor_core::x86::{apic, cpuid, msr};

use super::memory::Word;
use super::{guest, instr};
use crate::partition::Outcome;

/// What the wall keeps of the guest's interrupts.
pub(crate) struct Machine {
    local_apic: LocalApic,
    io_apic: u64,
    /// Their pages, if they are the guest's.
    given_pages: [Option<u64>; 2],
    pins: u32,
    own_pin: Option<u32>,
    /// The lines of emulated devices.
    declared: u32,
    /// For each line the pin that it has besides at the I/O APIC; 0: none.
    other_pins: [u32; 32],
    /// Those that were raised and have not reached the guest.
    raised: u32,
    pub(crate) pic: Pic,
    /// The address register of PCI configuration, as the guest wrote it.
    pub(crate) pci_address: u32,
    /// The PCI functions that apps serve.
    pub(crate) functions: Functions,
    /// What the policy gives to the guest, and the CPU has, of the features that CPUID hides else.
    pub(crate) given: u32,
    /// The instructions by which the guest reached its controllers last.
    pub(crate) fetched: Fetched<Word>,
}

/// The local APIC's registers (SDM 3 §11.4.1).
const PRIORITY: u32 = 0x80;
const SPURIOUS: u32 = 0xf0;
const END: u32 = 0xb0;
const IN_SERVICE: u32 = 0x100;
const COMMAND: u32 = 0x300;

impl Machine {
    pub(crate) fn new(plan: &MachinePlan) -> Self {
        let lines = plan.devices.iter().filter(|device| device.intid != 0);
        let declared = lines.fold(0, |lines, device| lines | 1 << (device.intid & 31));
        let mut other_pins = [0; 32];
        for device in &plan.devices {
            if let Some(pin) = other_pins.get_mut(device.intid as usize) {
                *pin = device.pin;
            }
        }
        let given = |base: u64| plan.guest_mmio.iter().any(|range| range.base == base && plan.x86.is_watched(*range));
        let is_open = |register: u32| msr::is_open(&plan.x86.guest_msrs, register, true);
        let features = [(msr::TSC_DEADLINE, cpuid::DEADLINE), (msr::X2APIC_END, cpuid::X2APIC)];
        let features = features.into_iter().filter(|(register, _)| is_open(*register));
        Self {
            other_pins,
            local_apic: LocalApic { page: plan.x86.local_apic, is_x2apic: is_x2apic() },
            io_apic: plan.x86.io_apic,
            given_pages: [plan.x86.local_apic, plan.x86.io_apic].map(|base| Some(base).filter(|base| given(*base))),
            pins: plan.x86.io_apic_pins,
            own_pin: plan.x86.own_pin(),
            declared,
            raised: 0,
            pic: Pic::new(),
            pci_address: 0,
            functions: Functions::new(&plan.devices),
            given: instr::cpuid(1, 0)[2] & features.fold(0, |all, (_, feature)| all | feature),
            fetched: Fetched::new(),
        }
    }

    /// As at power-on, for a guest that starts again.
    pub(crate) fn reset(&mut self) {
        (self.raised, self.pci_address, self.pic) = (0, 0, Pic::new());
        self.functions.reset();
    }

    /// Raises a declared interrupt of the guest; false for others.
    pub(crate) fn raise(&mut self, line: u32) -> bool {
        let is_declared = line < 32 && self.declared >> line & 1 != 0;
        if is_declared {
            self.raised |= 1 << line;
        }
        is_declared
    }

    /// The guest is about to go on after the secure partition ran.
    #[inline(always)]
    pub(crate) fn back_to_guest(&mut self, _outcome: Outcome) {
        if self.raised != 0 {
            self.deliver();
        }
    }

    /// Brings to the guest what was raised, as far as the guest lets it.
    #[inline(never)]
    pub(crate) fn deliver(&mut self) {
        let mut is_waiting = false;
        for line in 0..24 {
            if self.raised >> line & 1 == 0 {
                continue;
            }
            let other = self.other_pins.get(line as usize).copied().filter(|pin| *pin != 0);
            let vector = self.entry_vector(line).or_else(|| self.entry_vector(other?));
            if let Some(vector) = vector {
                self.raised &= !(1 << line);
                self.local_apic.write(COMMAND, apic::self_command(vector));
            } else if let Some(vector) = self.pic_vector(line) {
                if guest::takes_interrupts() {
                    self.raised &= !(1 << line);
                    guest::inject_interrupt(vector);
                } else {
                    is_waiting = true;
                }
            }
        }
        guest::watch_window(is_waiting);
    }

    /// The vector of a line's pin, if the guest uses its local APIC and has not masked the pin.
    fn entry_vector(&self, line: u32) -> Option<u32> {
        const ENABLED: u32 = 1 << 8;
        if self.io_apic == 0 || line >= self.pins || self.local_apic.read(SPURIOUS) & ENABLED == 0 {
            return None;
        }
        apic::vector(self.io_read(apic::IO_TABLE + 2 * line))
    }

    /// The vector of a line at the 8259s, if the guest has not masked it there.
    fn pic_vector(&self, line: u32) -> Option<u8> {
        let masks = [instr::port_in(0x21, 1), instr::port_in(0xa1, 1)];
        self.pic.vector(line, masks)
    }

    /// A register of the I/O APIC; its index register is the guest's, and stays as it was.
    fn io_read(&self, index: u32) -> u32 {
        let before = read(self.io_apic);
        write(self.io_apic, index);
        let value = read(self.io_apic + 0x10);
        write(self.io_apic, before);
        value
    }

    /// A write of the guest to one of its controllers' pages; false if it is not made.
    pub(crate) fn write(&mut self, address: u64, value: u32) -> bool {
        let offset = u32::try_from(address & 0xfff).unwrap_or(0);
        let page = address & !0xfff;
        let is_allowed = if page == self.local_apic.page {
            // In x2APIC mode nothing answers at the page: a write would go out to the bus, as an interrupt message.
            !self.local_apic.is_x2apic && apic::allows_local(offset, value)
        } else {
            match offset {
                apic::IO_SELECT | apic::IO_END => true,
                apic::IO_WINDOW => apic::allows_io(read(self.io_apic) & 0xff, value, self.pins, self.own_pin),
                _ => false,
            }
        };
        if is_allowed {
            write(address, value);
            if page == self.io_apic && self.raised != 0 {
                self.deliver();
            }
        }
        is_allowed
    }

    /// Whether an address lies in the page of a controller that is the guest's.
    #[inline(always)]
    pub(crate) fn is_controller(&self, address: u64) -> bool {
        self.given_pages.contains(&Some(address & !0xfff))
    }

    /// A write of the guest to the register that says how its local APIC is reached: it stays where it is, and goes over to x2APIC mode if
    /// the guest has that. There is no way back.
    pub(crate) fn set_apic_mode(&mut self, value: u64) -> bool {
        let now = instr::rdmsr(msr::APIC_BASE);
        if value == now {
            return true;
        }
        let is_given = self.given & cpuid::X2APIC != 0 && value == now | msr::X2APIC_MODE;
        if is_given {
            instr::wrmsr(msr::APIC_BASE, value);
            self.local_apic.is_x2apic = true;
        }
        is_given
    }
}

/// All controllers quiet: pins masked but the wall's own, local vectors masked, nothing in service. An x2APIC stays one, as after INIT (SDM 3 §11.12.5.1):
/// the guest that switched it on finds it so, as after a firmware that did.
pub(crate) fn reset(plan: &MachinePlan) {
    let x86 = &plan.x86;
    let own = x86.own_pin();
    for pin in (0..x86.io_apic_pins.min(120)).filter(|pin| Some(*pin) != own) {
        write(x86.io_apic, apic::IO_TABLE + 2 * pin);
        write(x86.io_apic + 0x10, 1 << 16);
    }
    let local = LocalApic { page: x86.local_apic, is_x2apic: is_x2apic() };
    for vector in (0x320..=0x370).step_by(16) {
        local.write(vector, 1 << 16);
    }
    // Each end of interrupt clears one bit of the in-service register.
    let in_service = || (0..8).any(|word| local.read(IN_SERVICE + word * 16) != 0);
    for _ in 0..256 {
        if !in_service() {
            break;
        }
        local.write(END, 0);
    }
    local.write(PRIORITY, 0);
    local.write(SPURIOUS, 0xff);
}

/// Whether the local APIC's registers are MSRs now.
fn is_x2apic() -> bool {
    instr::rdmsr(msr::APIC_BASE) & msr::X2APIC_MODE != 0
}

/// The local APIC, as it is reached now.
#[derive(Clone, Copy)]
struct LocalApic {
    page: u64,
    /// Its registers are MSRs (x2APIC mode).
    is_x2apic: bool,
}

impl LocalApic {
    fn read(self, register: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "all but the command are of 32 bits")]
        match self.is_x2apic {
            true => instr::rdmsr(msr::X2APIC + (register >> 4)) as u32,
            false => read(self.page + u64::from(register)),
        }
    }

    fn write(self, register: u32, value: u32) {
        match self.is_x2apic {
            true => instr::wrmsr(msr::X2APIC + (register >> 4), value.into()),
            false => write(self.page + u64::from(register), value),
        }
    }
}

pub(crate) fn read(address: u64) -> u32 {
    // SAFETY: the plan names the controllers' and the timer's pages, which `spaces` maps as device registers; offsets are within them.
    unsafe { (address as *const u32).read_volatile() }
}

pub(crate) fn write(address: u64, value: u32) {
    // SAFETY: as for `read`; what is written was looked at (`apic`), or is the wall's own set-up.
    unsafe { (address as *mut u32).write_volatile(value) }
}
