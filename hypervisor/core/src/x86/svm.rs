//! SVM: exit codes (APM 2 appendix C) and how long an exiting instruction is where the CPU does not say.

use super::{Exit, PortAccess, control, event};

/// The exit that matters most, told by its code alone.
pub const VMMCALL: u64 = 0x81;
/// The exit that user space of the guest causes most.
pub const CPUID: u64 = 0x72;
/// The exit that its interrupt controllers cause most.
pub const MEMORY: u64 = 0x400;

/// Decodes an exit, with EXITINFO1 and EXITINFO2. Never fails: what is not known is [`Exit::Other`].
#[must_use]
pub fn decode(code: u64, info1: u64, info2: u64) -> Exit {
    match code {
        0x41 => Exit::Exception(event::DEBUG),
        0x51 => Exit::Exception(event::ALIGNMENT),
        0x60 => Exit::Interrupt,
        0x61 => Exit::Nmi,
        0x63 => Exit::Init,
        0x64 => Exit::Window,
        // A selective write of CR0 tells nothing of its source.
        0x65 => Exit::Protected,
        0x10..=0x1f => {
            let register = u8::try_from(code & 0xf).unwrap_or(0);
            // Decode assists (APM 2 §15.8.1) tell the source; without them bit 63 is clear.
            let source = u8::try_from(info1 & 0xf).unwrap_or(0);
            if info1 >> 63 != 0 { Exit::Control(control::Access::Write { register, source }) } else { Exit::Protected }
        }
        0x72 => Exit::Cpuid,
        0x76 | 0x89 => Exit::Caches,
        0x77 | 0x78 => Exit::Idle,
        0x7b => port(info1),
        0x7c if info1 == 0 => Exit::ReadMsr,
        0x7c => Exit::WriteMsr,
        0x7f => Exit::Shutdown,
        0x81 => Exit::Call,
        // INVLPGA, VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, ICEBP where it exits; MONITOR and MWAIT, which CPUID hides.
        0x7a | 0x80 | 0x82..=0x86 | 0x88 | 0x8a | 0x8b | 0x8c => Exit::Undefined,
        // RDPMC, RSM, task switch.
        0x6f | 0x73 | 0x7d => Exit::Protected,
        0x8d => Exit::SetXcr,
        0x400 => Exit::Memory(info2),
        u64::MAX => Exit::BadState,
        other => Exit::Other(u32::try_from(other).unwrap_or(u32::MAX)),
    }
}

/// APM 2 §15.10.2.
fn port(info1: u64) -> Exit {
    if info1 >> 2 & 1 != 0 {
        return Exit::PortString;
    }
    let bytes = match info1 >> 4 & 7 {
        1 => 1,
        2 => 2,
        _ => 4,
    };
    Exit::Port(PortAccess { port: u16::try_from(info1 >> 16 & 0xffff).unwrap_or(0), bytes, is_in: info1 & 1 != 0 })
}

/// How long the instruction of an exit is, where the CPU has no next-RIP save (APM 2 §15.7.1). A form with prefixes then goes on
/// inside the guest's own instruction: its affair. `None`: the exit is no instruction, or EXITINFO2 tells (ports).
#[must_use]
pub const fn length(exit: Exit) -> Option<u64> {
    match exit {
        Exit::Call | Exit::SetXcr => Some(3),
        Exit::Cpuid | Exit::ReadMsr | Exit::WriteMsr | Exit::Caches => Some(2),
        Exit::Idle => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_those_of_the_manual() {
        assert_eq!(decode(0x81, 0, 0), Exit::Call);
        assert_eq!(decode(0x400, 1 << 32 | 6, 0xfec0_0000), Exit::Memory(0xfec0_0000));
        assert_eq!((decode(0x7c, 0, 0), decode(0x7c, 1, 0)), (Exit::ReadMsr, Exit::WriteMsr));
        let inw = PortAccess { port: 0x608, bytes: 2, is_in: true };
        assert_eq!(decode(0x7b, 0x608 << 16 | 1 << 5 | 1, 0), Exit::Port(inw));
        assert_eq!(decode(0x7b, 0x608 << 16 | 1 << 5 | 1 << 2, 0), Exit::PortString);
        assert_eq!(decode(u64::MAX, 0, 0), Exit::BadState);
        assert_eq!((decode(0x41, 0, 0), decode(0x51, 0, 0)), (Exit::Exception(1), Exit::Exception(17)));
    }

    #[test]
    fn every_code_decodes_to_something_and_svm_instructions_are_undefined() {
        for code in 0..0x1000 {
            let _ = decode(code, u64::MAX, 0);
        }
        for code in [0x7a, 0x80, 0x82, 0x83, 0x84, 0x85, 0x86, 0x8a, 0x8b] {
            assert_eq!(decode(code, 0, 0), Exit::Undefined);
        }
    }
}
