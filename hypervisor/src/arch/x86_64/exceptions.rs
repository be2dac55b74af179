//! Exceptions that pass the wall on their way to the guest: debug and alignment check. Each can be made to happen at its own delivery, for
//! ever, and while it does no interrupt is taken, not even the one that brings the secure side its time: so that is asked here.

use bulkhead_hypervisor_core::x86::{event, port};

use super::entry::Frame;
use super::field;
use super::{GUEST, Next, guest, instr, svm, time, vmx};
use crate::run::Cpu;

/// DR7.GD: an access to a debug register is an exception; its delivery clears it.
const GENERAL_DETECT: u64 = 1 << 13;
const RESUME: u64 = 1 << 16;

impl Cpu {
    /// Gives the guest its exception, in the place of what it stopped; then the secure side its turn, if it is due.
    #[inline(never)]
    pub(super) fn reflect(&mut self, frame: &mut Frame, vector: u8) -> Next {
        let delivering = field::DELIVERING.read();
        let Some(vector) = event::combine(delivering, vector) else {
            guest::drop_event();
            return self.change_power(frame, port::Power::Reset);
        };
        if !field::is_svm() {
            finish_on_vmx(delivering, vector);
        }
        if vector == event::DEBUG {
            debug();
        }
        // What is delivered ends the shadow of `sti` and `mov ss`: the CPU would want a pending step to go with one (SDM 3 §27.3.1.5).
        field::SHADOW.write(field::SHADOW.read() & !3);
        guest::inject(vector, (vector != event::DEBUG).then_some(0));
        if time::is_due() { self.partition.tick() } else { GUEST }
    }
}

/// What the CPU does where it delivers a debug exception itself (SDM 3 §18.2.3, §18.2.4).
fn debug() {
    let dr7 = field::DR7.read();
    let status = if field::is_svm() {
        // In the VMCB it stands already (APM 2 §15.12.2).
        field::vmcb(svm::fields::DR6)
    } else {
        let status = event::debug_status(instr::read_dr6(), instr::vmread(vmx::fields::QUALIFICATION));
        instr::write_dr6(status);
        status
    };
    field::DR7.write(dr7 & !GENERAL_DETECT);
    if event::is_instruction_breakpoint(status, dr7) {
        field::RFLAGS.write(field::RFLAGS.read() | RESUME);
    }
}

/// SDM 3 §28.2.2: an `iret` that faulted had ended the blocking of NMIs; `int1` is an instruction, and lies behind.
fn finish_on_vmx(delivering: u64, vector: u8) {
    const UNBLOCKED: u64 = 1 << 12;
    const BY_NMI: u64 = 1 << 3;
    const INSTRUCTION: u64 = 5;
    let information = instr::vmread(vmx::fields::EVENT);
    if information & UNBLOCKED != 0 && !event::is_valid(delivering) {
        field::SHADOW.write(field::SHADOW.read() | BY_NMI);
    }
    if vector == event::DEBUG && information >> 8 & 7 == INSTRUCTION {
        field::RIP.write(field::RIP.read().wrapping_add(instr::vmread(vmx::fields::LENGTH)));
    }
}
