//! Traps and interrupts: from the syndrome to the call that it is, and back to the guest.

use bulkhead_abi::audit::Kind;
use bulkhead_abi::{Message, wall};
use bulkhead_hypervisor_core::call::{self, Hot};
use bulkhead_hypervisor_core::esr::{Exit, MemoryAccess, fault_address};
use bulkhead_hypervisor_core::gic::{Frame as GicFrame, self_sgi};
use bulkhead_hypervisor_core::sysreg;
use bulkhead_model::{method, object, subject};

use super::gic::{self, Taken};
use super::guest;
use super::instr;
use super::vectors::{Frame, SecureFrame};
use super::{GUEST, Load, Next};
use crate::console::Piece::{Hexadecimal, Text};
use crate::partition::{Outcome, Waiting};
use crate::run::{Admission, Cpu, the_cpu, the_cpu_if_up};

/// A trap of the guest. What the handlers return is what the vectors do next: an upcall, or null for the guest.
pub(crate) extern "C" fn guest_sync(frame: &mut Frame) -> Next {
    let cpu = the_cpu();
    let syndrome = instr::read_esr_el2();
    if !Exit::is_hvc(syndrome) {
        return match Exit::described(syndrome) {
            Some(access) => cpu.memory(frame, access),
            None => cpu.trap(frame, syndrome),
        };
    }
    if let Hot::Null(bits) = call::hot(frame.get(0)) {
        frame.set(0, bits);
        return GUEST;
    }
    cpu.register_call(frame)
}

/// An interrupt while the guest ran.
pub(crate) extern "C" fn guest_irq(_frame: &mut Frame) -> Next {
    let cpu = the_cpu();
    match gic::acknowledge(&mut cpu.machine.gic, &cpu.machine.hardware) {
        Taken::Done => GUEST,
        Taken::Timer => cpu.partition.tick(),
        Taken::App(place) => cpu.partition.interrupt(place),
    }
}

/// A system error while the guest ran: it is the guest's, whose access caused it; there is nothing to deliver.
pub(crate) extern "C" fn guest_serror(_frame: &mut Frame) -> Next {
    GUEST
}

/// A trap of the secure partition: a call of its kernel. Returns 1 if the guest goes on.
pub(crate) extern "C" fn secure_sync(secure: &mut SecureFrame, frame: &mut Frame) -> u64 {
    let cpu = the_cpu();
    let syndrome = instr::read_esr_el2();
    if !Exit::is_hvc(syndrome) {
        return cpu.secure_fault(syndrome, frame).into();
    }
    if secure.0[0] != wall::SWITCH {
        return cpu.secure_question(&mut secure.0, frame).into();
    }
    cpu.partition.sides.leave_secure();
    cpu.secure_left(&secure.0, frame);
    1
}

/// An interrupt while the secure partition ran. Returns 1 if the guest goes on.
pub(crate) extern "C" fn secure_irq(_secure: &mut SecureFrame, frame: &mut Frame) -> u64 {
    let cpu = the_cpu();
    let goes_on = match gic::acknowledge(&mut cpu.machine.gic, &cpu.machine.hardware) {
        Taken::Done => true,
        Taken::Timer => cpu.partition.time_passes(),
        Taken::App(place) => cpu.partition.interrupt_inside(place),
    };
    if goes_on { 0 } else { cpu.end_partition([0, instr::read_elr_el2(), 0], frame).into() }
}

/// ESR_EL1 of an undefined instruction: class 0, 32-bit instruction.
const UNKNOWN: u64 = 1 << 25;

fn advance() {
    instr::write_elr_el2(instr::read_elr_el2() + 4);
}

/// A synchronous external abort, as a bus gives for an address where nothing is (fault status 0x10). `class` is that
/// of the same EL; from EL0 it is one less (Arm ARM D17.2.37: 0x24 and 0x20).
fn inject_abort(class: u64) {
    let from_el0 = instr::read_spsr_el2() & 0xf == 0;
    let class = if from_el0 { class - 1 } else { class };
    guest::inject(class << 26 | 1 << 25 | 0x10, Some(instr::read_far_el2()));
}

impl Cpu {
    /// Traps other than `hvc`; the shell's frame grows only where it must.
    #[inline(never)]
    fn trap(&mut self, frame: &mut Frame, syndrome: u64) -> Next {
        match Exit::decode(syndrome) {
            Exit::Data(access) => self.memory(frame, access),
            Exit::SystemRegister { encoding, is_read, register } => {
                self.system_register(frame, encoding, is_read, register)
            }
            Exit::Smc(_) => {
                // A trapped SMC returns to itself (Arm ARM D1.3.4): step over it.
                advance();
                self.call(frame)
            }
            Exit::Hvc(_) => self.call(frame),
            exit => self.other(exit),
        }
    }

    #[inline(never)]
    fn system_register(&mut self, frame: &mut Frame, encoding: u16, is_read: bool, register: u8) -> Next {
        let value = frame.get(register.into());
        if encoding == sysreg::ICC_SGI1R_EL1 && !is_read && self.gate.sends_sgi() {
            return self.send_sgi(value);
        }
        let action = sysreg::decide(encoding, is_read);
        let action =
            if self.judge_guest(&sysreg::message(encoding, is_read, value)) { action } else { action.refused() };
        let value = match action {
            sysreg::Action::Emulate(value) => value,
            sysreg::Action::Feature => sysreg::filter(encoding, feature_register(encoding)),
            sysreg::Action::SendSgi => return self.send_sgi(value),
            sysreg::Action::Undefined => {
                guest::inject(UNKNOWN, None);
                return GUEST;
            }
        };
        if is_read {
            frame.set(register.into(), value);
        }
        advance();
        GUEST
    }

    #[inline(always)]
    fn send_sgi(&mut self, value: u64) -> Next {
        if let Some(intid) = self_sgi(value) {
            gic::raise(&mut self.machine.gic, intid);
        }
        advance();
        GUEST
    }

    /// An access to memory that stage 2 does not give to the guest: its interrupt controller, a served device, or nothing.
    #[inline(never)]
    fn memory(&mut self, frame: &mut Frame, access: MemoryAccess) -> Next {
        let address = fault_address(instr::read_hpfar_el2(), instr::read_far_el2());
        let value = match self.gic_frame(address) {
            Some((gic_frame, offset)) if access.is_write => return self.gic_write(frame, access, gic_frame, offset),
            Some((gic_frame, offset)) => {
                let action = self.machine.gic.read(gic_frame, offset, access.bytes);
                self.machine.hardware.apply(gic_frame, action)
            }
            None => return self.device(frame, access, address),
        };
        if !access.is_write {
            frame.set(access.register.into(), access.extend(value));
        }
        advance();
        GUEST
    }

    #[inline(never)]
    fn gic_write(&mut self, frame: &Frame, access: MemoryAccess, gic_frame: GicFrame, offset: u32) -> Next {
        let action = self.machine.gic.write(gic_frame, offset, access.bytes, frame.get(access.register.into()));
        self.machine.hardware.apply(gic_frame, action);
        gic::deliver_pending(&mut self.machine.gic);
        advance();
        GUEST
    }

    /// An access to a device that an app serves, or to nothing: a call either way.
    #[inline(never)]
    fn device(&mut self, frame: &mut Frame, access: MemoryAccess, address: u64) -> Next {
        let register = usize::from(access.register);
        let device =
            self.plan.devices.iter().find(|device| address.wrapping_sub(device.range.base) < device.range.bytes);
        let (target, place) =
            device.map_or((object::MMIO, address), |device| (device.object, address - device.range.base));
        let size = u64::from(access.bytes);
        let mask = u64::MAX >> (64 - 8 * access.bytes.clamp(1, 8));
        let message = if access.is_write {
            let words = [place, size, frame.get(register) & mask, 0, 0, 0];
            Message { object: target, method: method::WRITE, len: 3, words }
        } else {
            Message { object: target, method: method::READ, len: 2, words: [place, size, 0, 0, 0, 0] }
        };
        match self.admit(&message, device.is_some()) {
            Admission::Call => {
                advance();
                let load = Waiting::Load(message.object, message.method, Load(access));
                let waiting = if access.is_write { Waiting::Store } else { load };
                return self.partition.call(message.header(), &message.words, waiting);
            }
            Admission::Dead if access.is_write => {
                inject_abort(0x25);
                return GUEST;
            }
            Admission::Dead | Admission::Nothing => {}
        }
        if !access.is_write {
            frame.set(register, access.extend(u64::MAX));
        }
        advance();
        GUEST
    }

    /// Traps that no call describes.
    #[inline(never)]
    fn other(&mut self, exit: Exit) -> Next {
        match exit {
            Exit::Wait => {
                advance();
                return GUEST;
            }
            Exit::DataUndescribed => inject_abort(0x25),
            Exit::Fetch => inject_abort(0x21),
            _ => guest::inject(UNKNOWN, None),
        }
        self.record(
            Kind::GuestFault,
            subject::GUEST,
            [instr::read_esr_el2(), instr::read_far_el2(), instr::read_hpfar_el2()],
        );
        GUEST
    }

    /// A trap of the secure side that is no call: a task's, which its kernel hears of, or the kernel's own end.
    #[inline(never)]
    fn secure_fault(&mut self, syndrome: u64, frame: &mut Frame) -> bool {
        if reflect(Exit::decode(syndrome)) {
            return false;
        }
        self.end_partition([syndrome, instr::read_elr_el2(), instr::read_far_el2()], frame)
    }

    #[expect(clippy::cast_possible_truncation, reason = "offsets within 64 KiB")]
    fn gic_frame(&self, address: u64) -> Option<(GicFrame, u32)> {
        let distributor = address.wrapping_sub(self.plan.gicd.base);
        let redistributor = address.wrapping_sub(self.plan.gicr.base);
        match (distributor, redistributor) {
            (0..0x1_0000, _) => Some((GicFrame::Distributor, distributor as u32)),
            (_, 0..0x1_0000) => Some((GicFrame::Redistributor, redistributor as u32)),
            (_, 0x1_0000..0x2_0000) => Some((GicFrame::RedistributorSgi, redistributor as u32 & 0xffff)),
            _ => None,
        }
    }
}

/// A trap of the secure side that is no call of its kernel: a task's own fault goes to the kernel as one (true); a fault
/// of the kernel is the partition's end.
fn reflect(exit: Exit) -> bool {
    let from_task = instr::read_spsr_el2() & 0xf == 0;
    if from_task {
        // Data abort, instruction abort or unknown, from a lower level, 32-bit instruction (Arm ARM D17.2.37).
        let class = match exit {
            Exit::Data(_) | Exit::DataUndescribed => 0x24,
            Exit::Fetch => 0x20,
            _ => 0,
        };
        let status = if class == 0 { 0 } else { 0x10 };
        guest::inject(class << 26 | 1 << 25 | status, Some(instr::read_far_el2()));
    }
    from_task
}

impl super::Machine {
    /// The guest is about to go on after the secure partition ran.
    #[inline(always)]
    pub(crate) fn back_to_guest(&mut self, outcome: Outcome) {
        gic::deliver_pending(&mut self.gic);
        if matches!(outcome, Outcome::DeadDevice) {
            // The store was stepped over when the device was called; the abort names it.
            instr::write_elr_el2(instr::read_elr_el2() - 4);
            inject_abort(0x25);
        }
    }
}

/// The hardware's value of the feature registers that the filter passes in part; 0 for the others.
fn feature_register(encoding: u16) -> u64 {
    match encoding {
        sysreg::ID_AA64PFR0_EL1 => instr::read_id_aa64pfr0_el1(),
        sysreg::ID_AA64PFR1_EL1 => instr::read_id_aa64pfr1_el1(),
        sysreg::ID_AA64DFR0_EL1 => instr::read_id_aa64dfr0_el1(),
        sysreg::ID_AA64ISAR0_EL1 => instr::read_id_aa64isar0_el1(),
        sysreg::ID_AA64ISAR1_EL1 => instr::read_id_aa64isar1_el1(),
        sysreg::ID_AA64MMFR0_EL1 => instr::read_id_aa64mmfr0_el1(),
        sysreg::ID_AA64MMFR1_EL1 => instr::read_id_aa64mmfr1_el1(),
        _ => 0,
    }
}

/// A fault of EL2 itself: our own bug. It is reported and the machine halts.
pub(crate) extern "C" fn hypervisor_fatal(esr: u64, elr: u64, far: u64) -> ! {
    if let Some(cpu) = the_cpu_if_up() {
        cpu.console.say(&[
            Text("fault at EL2: esr "),
            Hexadecimal(esr),
            Text(" at "),
            Hexadecimal(elr),
            Text(" on "),
            Hexadecimal(far),
            Text("; halted"),
        ]);
    }
    instr::park()
}
