//! Exits: from what the back end says to the call that it is, and back to the guest. Both back ends decode into one `Exit`.
#![expect(unsafe_code, reason = "the partitions' frames are reached by address")]

use core::sync::atomic::Ordering;

use bulkhead_abi::Message;
use bulkhead_abi::audit::Kind;
use bulkhead_hypervisor_core::plan::Device;
use bulkhead_hypervisor_core::x86::control::{self, cr4};
use bulkhead_hypervisor_core::x86::{Exit, PortAccess, apic, cpuid, event, msr, port};
use bulkhead_model::{method, object, subject};

use super::entry::{Frame, GUEST_FRAME};
use super::faults;
use super::field::{self, Control};
use super::guest::{self, PROTECTION, UNDEFINED};
use super::{GUEST, Load, Next, instr, secure, svm, time, vmx};
use crate::partition::Waiting;
use crate::run::{Admission, Cpu, the_cpu};

/// How long the instruction was that exited.
pub(super) fn length(exit: Exit) -> u64 {
    if field::is_svm() { svm::length(exit) } else { instr::vmread(vmx::fields::LENGTH) }
}

/// CPUID as the guest sees it; it has been stepped over.
#[inline(always)]
pub(crate) fn answer_cpuid(cpu: &Cpu, frame: &mut Frame, control: Control) -> Next {
    #[expect(clippy::cast_possible_truncation, reason = "EAX and ECX")]
    let (leaf, subleaf) = (frame.get(0) as u32, frame.get(4) as u32);
    let has_osxsave = field::CR4.read_in(control) & cr4::OSXSAVE != 0;
    let context = cpuid::Context { has_osxsave, given: cpu.machine.given };
    let [a, b, c, d] = cpuid::filter(leaf, subleaf, context, instr::cpuid).map(u64::from);
    frame.set(0, a);
    frame.set(13, b);
    frame.set(4, c);
    frame.set(3, d);
    GUEST
}

impl Cpu {
    /// Exits of the guest other than calls and what is open of CPUID.
    #[inline(never)]
    pub(crate) fn exit(&mut self, frame: &mut Frame, exit: Exit) -> Next {
        guest::redeliver();
        match exit {
            Exit::Call => {
                guest::inject(UNDEFINED, None);
                GUEST
            }
            Exit::Cpuid => self.cpuid(frame),
            Exit::Port(access) => self.port(frame, access),
            Exit::ReadMsr => self.read_msr(frame),
            Exit::WriteMsr => self.write_msr(frame),
            Exit::Memory(address) => self.memory(frame, address),
            Exit::Control(access) => self.control(frame, access),
            Exit::SetXcr => self.set_xcr(frame),
            Exit::Caches => {
                // What is in the caches is never thrown away.
                instr::wbinvd();
                guest::advance(length(exit));
                GUEST
            }
            Exit::Nmi => {
                instr::take_nmi();
                if time::interrupted() { self.partition.tick() } else { GUEST }
            }
            Exit::Timer => self.partition.tick(),
            Exit::Exception(vector) => self.reflect(frame, vector),
            Exit::Window => {
                self.machine.deliver();
                GUEST
            }
            Exit::Interrupt => GUEST,
            Exit::Idle => {
                guest::advance(length(exit));
                GUEST
            }
            Exit::Shutdown => self.change_power(frame, port::Power::Reset),
            Exit::Init | Exit::BadState => {
                self.guest_fault(exit);
                self.change_power(frame, port::Power::Reset)
            }
            Exit::Undefined | Exit::Other(_) => self.refuse(frame, exit, UNDEFINED),
            Exit::Protected | Exit::PortString => self.refuse(frame, exit, PROTECTION),
        }
    }

    /// An exception instead of what the guest tried, or of what was being delivered to it, on record.
    pub(super) fn refuse(&mut self, frame: &mut Frame, exit: Exit, vector: u8) -> Next {
        self.guest_fault(exit);
        let Some(vector) = event::combine(field::DELIVERING.read(), vector) else {
            guest::drop_event();
            return self.change_power(frame, port::Power::Reset);
        };
        guest::inject(vector, (vector != UNDEFINED).then_some(0));
        GUEST
    }

    fn guest_fault(&mut self, exit: Exit) {
        let number = match exit {
            Exit::Other(number) => u64::from(number),
            Exit::Memory(address) => address,
            _ => 0,
        };
        let reason = if field::is_svm() { field::vmcb(svm::fields::CODE) } else { instr::vmread(vmx::fields::REASON) };
        self.record(Kind::GuestFault, subject::GUEST, [reason, number, field::RIP.read()]);
    }

    #[inline(never)]
    fn cpuid(&mut self, frame: &mut Frame) -> Next {
        let words = [frame.get(0) & 0xffff_ffff, frame.get(4) & 0xffff_ffff, 0, 0, 0, 0];
        let message = Message { object: object::CPUID, method: method::READ, len: 2, words };
        let is_allowed = self.judge_guest(&message);
        guest::advance(length(Exit::Cpuid));
        if is_allowed {
            return answer_cpuid(self, frame, Control::current());
        }
        for register in [0, 13, 4, 3] {
            frame.set(register, 0);
        }
        GUEST
    }

    /// An `in` or `out` that the hardware does not open: power, PCI configuration, a served device, a rule's affair, or nothing.
    #[inline(never)]
    fn port(&mut self, frame: &mut Frame, access: PortAccess) -> Next {
        let value = access.cut(frame.get(0));
        let length = length(Exit::Port(access));
        #[expect(clippy::cast_possible_truncation, reason = "cut to four bytes")]
        let low = value as u32;
        if let Some(power) = port::power(access, low, &self.plan.x86) {
            guest::advance(length);
            if access.bytes == 2 && power == port::Power::Off {
                super::POWER_VALUE.store(low, Ordering::Relaxed);
            }
            return self.change_power(frame, power);
        }
        if (port::PCI_ADDRESS..=port::PCI_DATA + 3).contains(&access.port) {
            guest::advance(length);
            return self.pci(frame, access, low);
        }
        let reached = self.machine.functions.reached(access.port, access.bytes);
        let reached = reached.or_else(|| port::served(&self.plan.devices, access.port, access.bytes));
        guest::advance(length);
        if let Some(reached) = reached {
            return self.served_port(frame, access, reached, value);
        }
        // A resource's ports are looked at where they mean power or vectors; what is left of them goes through.
        let is_declared = port::is_declared(&self.plan.x86.guest_ports, access.port, access.bytes);
        if is_declared || self.judge_guest(&port::message(access, value)) {
            self.forward_port(frame, access, low);
        } else if access.is_in {
            frame.set(0, access.merge(frame.get(0), u64::MAX));
        }
        GUEST
    }

    fn forward_port(&mut self, frame: &mut Frame, access: PortAccess, value: u32) {
        if access.is_in {
            let value = instr::port_in(access.port, access.bytes);
            frame.set(0, access.merge(frame.get(0), value.into()));
            return;
        }
        instr::port_out(access.port, access.bytes, value);
        if u32::from(access.port) == self.plan.x86.smi_command && field::is_svm() {
            // The system management interrupt that this asked for waits as long as GIF is clear. It comes here, not in the guest, where Bochs's CPU
            // runs its handler in the guest's memory.
            instr::take_nmi();
            time::again();
        }
        if access.bytes == 1 {
            self.machine.pic.write(access.port, value.to_le_bytes()[0]);
            self.machine.deliver();
        }
    }

    fn served_port(
        &mut self,
        frame: &mut Frame,
        access: PortAccess,
        (device, place): (usize, u64),
        value: u64,
    ) -> Next {
        let Some(&Device { object: target, .. }) = self.plan.devices.get(device) else { return GUEST };
        let size = u64::from(access.bytes);
        let (method, len, value) = if access.is_in { (method::READ, 2, 0) } else { (method::WRITE, 3, value) };
        let message = Message { object: target, method, len, words: [place, size, value, 0, 0, 0] };
        match self.admit(&message, true) {
            Admission::Call => {
                let load = Waiting::Load(target, method, Load(access));
                let waiting = if access.is_in { load } else { Waiting::Store };
                self.partition.call(message.header(), &message.words, waiting)
            }
            Admission::Dead | Admission::Nothing => {
                if access.is_in {
                    frame.set(0, access.merge(frame.get(0), u64::MAX));
                }
                GUEST
            }
        }
    }

    /// PCI configuration by its address and its data register.
    fn pci(&mut self, frame: &mut Frame, access: PortAccess, value: u32) -> Next {
        if access.port < port::PCI_DATA {
            let is_address = access.port == port::PCI_ADDRESS && access.bytes == 4;
            match (is_address, access.is_in) {
                (true, false) => self.machine.pci_address = value & 0x80ff_fffc,
                (true, true) => frame.set(0, self.machine.pci_address.into()),
                (false, true) => frame.set(0, access.merge(frame.get(0), u64::MAX)),
                (false, false) => {}
            }
            return GUEST;
        }
        let address = self.machine.pci_address;
        let offset = u32::from(access.port - port::PCI_DATA);
        let is_sound = address >> 31 != 0 && offset + u32::from(access.bytes) <= 4;
        let [register, low, high, _] = (address & 0xffff_fffc | offset).to_le_bytes();
        let (number, register) = (u16::from_le_bytes([low, high]), u16::from(register));
        if let Some((device, function)) = self.machine.functions.find(number).filter(|_| is_sound) {
            if let Some(place) = function.through_window(register, access.bytes) {
                return self.served_port(frame, access, (device, place), value.into());
            }
            if access.is_in {
                let value = function.config_read(register, access.bytes);
                frame.set(0, access.merge(frame.get(0), value.into()));
            } else {
                function.config_write(register, access.bytes, value);
            }
            return GUEST;
        }
        let (function, register) = (u64::from(number), u64::from(register));
        let words = [function, register, access.bytes.into(), value.into(), 0, 0];
        let (method, len, words) = match access.is_in {
            true => (method::READ, 3, [words[0], words[1], words[2], 0, 0, 0]),
            false => (method::WRITE, 4, words),
        };
        let is_allowed = is_sound && self.judge_guest(&Message { object: object::PCI, method, len, words });
        if !is_allowed {
            if access.is_in {
                frame.set(0, access.merge(frame.get(0), u64::MAX));
            }
            return GUEST;
        }
        instr::port_out(port::PCI_ADDRESS, 4, address);
        if access.is_in {
            let value = instr::port_in(access.port, access.bytes);
            frame.set(0, access.merge(frame.get(0), value.into()));
        } else if !(0x10..0x28).contains(&(address & 0xfc)) && address & 0xfc != 0x30 {
            // Base addresses never move.
            instr::port_out(access.port, access.bytes, value);
        }
        GUEST
    }

    /// The guest's power, by whatever way it asked.
    #[inline(never)]
    pub(super) fn change_power(&mut self, frame: &mut Frame, power: port::Power) -> Next {
        let message = port::power_message(power);
        let is_allowed = self.gate.is_open(message.object, message.method) || self.judge_guest(&message);
        match power {
            port::Power::Off if is_allowed => self.end_machine("the guest is off"),
            port::Power::Reset if is_allowed => self.restart(frame),
            // A guest that cannot go on, and may not start again.
            port::Power::Reset if guest_is_stuck() || event::is_valid(field::DELIVERING.read()) => {
                self.end_machine("the guest failed and may not restart")
            }
            _ => GUEST,
        }
    }

    #[inline(never)]
    fn read_msr(&mut self, frame: &mut Frame) -> Next {
        #[expect(clippy::cast_possible_truncation, reason = "ECX")]
        let index = frame.get(4) as u32;
        let is_allowed = self.is_register_given(index, None);
        let value = match msr::decide(index) {
            _ if !is_allowed => None,
            msr::Action::Efer => Some(guest::efer()),
            msr::Action::Pat => Some(field::PAT.read()),
            msr::Action::Emulate(value) => Some(value),
            msr::Action::Forward | msr::Action::ApicBase | msr::Action::Apic(_) | msr::Action::ReadOnly => {
                faults::rdmsr_checked(index)
            }
            msr::Action::Never => None,
        };
        let Some(value) = value else { return self.protection() };
        guest::advance(length(Exit::ReadMsr));
        frame.set(0, value & 0xffff_ffff);
        frame.set(3, value >> 32);
        GUEST
    }

    #[inline(never)]
    fn write_msr(&mut self, frame: &mut Frame) -> Next {
        #[expect(clippy::cast_possible_truncation, reason = "ECX")]
        let index = frame.get(4) as u32;
        let value = frame.get(0) & 0xffff_ffff | frame.get(3) << 32;
        let is_allowed = self.is_register_given(index, Some(value));
        let is_done = match msr::decide(index) {
            _ if !is_allowed => false,
            msr::Action::Efer => self.write_efer(value),
            msr::Action::Pat => {
                let is_sound = value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
                if is_sound {
                    field::PAT.write(value);
                }
                is_sound
            }
            msr::Action::Emulate(_) | msr::Action::ReadOnly => true,
            msr::Action::ApicBase => self.machine.set_apic_mode(value),
            msr::Action::Apic(register) => self.write_apic(index, register, value),
            msr::Action::Forward => faults::wrmsr_checked(index, value),
            msr::Action::Never => false,
        };
        if !is_done {
            return self.protection();
        }
        guest::advance(length(Exit::WriteMsr));
        GUEST
    }

    /// A write to the local APIC as MSR: what could stop the wall is not made, and recorded, as at its page.
    fn write_apic(&mut self, index: u32, register: u32, value: u64) -> bool {
        let is_harmless = apic::allows_local(register, (value & 0xffff_ffff) as u32);
        if !is_harmless {
            self.judge_guest(&msr::message(index, Some(value)));
        }
        !is_harmless || faults::wrmsr_checked(index, value)
    }

    /// A resource that names the register, or a rule.
    fn is_register_given(&mut self, index: u32, write: Option<u64>) -> bool {
        let is_listed = self.plan.x86.guest_msrs.iter().any(|range| {
            let is_inside = index.checked_sub(range.first).is_some_and(|place| place < range.count);
            is_inside && (range.read_only == 0 || write.is_none())
        });
        is_listed || self.judge_guest(&msr::message(index, write))
    }

    fn write_efer(&mut self, value: u64) -> bool {
        let has_paging = field::CR0.read() & control::cr0::PG != 0;
        let Some(value) = msr::efer(guest::efer(), value, has_paging) else { return false };
        field::EFER.write(if field::is_svm() { value | svm::SVME } else { value });
        true
    }

    fn protection(&mut self) -> Next {
        guest::inject(PROTECTION, Some(0));
        GUEST
    }
}

/// Whether the guest was left by something that it cannot go on from.
fn guest_is_stuck() -> bool {
    let exit = if field::is_svm() {
        bulkhead_hypervisor_core::x86::svm::decode(field::vmcb(svm::fields::CODE), 0, 0)
    } else {
        bulkhead_hypervisor_core::x86::vmx::decode(instr::vmread(vmx::fields::REASON), 0, 0)
    };
    matches!(exit, Exit::Shutdown | Exit::BadState)
}

/// The secure kernel gave the CPU back; the guest's state is back.
#[inline(always)]
pub(crate) fn secure_left(registers: &mut Frame) -> Next {
    // SAFETY: the guest does not run, and its handler does not either: nobody holds its frame.
    the_cpu().secure_left(registers.call(), unsafe { GUEST_FRAME.get() });
    GUEST
}

/// Any other call of the secure kernel; it has been stepped over.
#[inline(never)]
pub(crate) fn secure_question(registers: &mut Frame) -> Next {
    // SAFETY: as for `secure_left`.
    let frame = unsafe { GUEST_FRAME.get() };
    if the_cpu().secure_question(registers.call(), frame) { GUEST } else { registers }
}

/// An exit of the secure partition that is no call of its kernel.
#[inline(never)]
pub(crate) fn secure_exit(registers: &mut Frame, exit: Exit) -> Next {
    let cpu = the_cpu();
    guest::redeliver();
    let goes_on = match exit {
        Exit::Nmi if field::is_svm() => {
            instr::take_nmi();
            !time::interrupted() || cpu.partition.time_passes()
        }
        // On VMX it is the machine's, and lost: nothing that a guest can reach sends one.
        Exit::Nmi => {
            instr::unblock_nmi();
            true
        }
        Exit::Timer => cpu.partition.time_passes(),
        Exit::Interrupt | Exit::Window => true,
        // What a task may not do is its own fault, which its kernel hears of.
        _ if !guest::is_kernel(Control::current()) => {
            let vector = if matches!(exit, Exit::Undefined | Exit::Call) { UNDEFINED } else { PROTECTION };
            guest::inject(vector, (vector == PROTECTION).then_some(0));
            true
        }
        _ => false,
    };
    if goes_on {
        secure::signal_if_due();
        return registers;
    }
    let reason = if field::is_svm() { field::vmcb(svm::fields::CODE) } else { instr::vmread(vmx::fields::REASON) };
    let cause = [reason, field::RIP.read(), if let Exit::Memory(address) = exit { address } else { 0 }];
    // SAFETY: as for `secure_left`.
    let frame = unsafe { GUEST_FRAME.get() };
    cpu.end_partition(cause, frame);
    GUEST
}
