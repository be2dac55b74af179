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
        0x00 | 0x10..=0x1f | 0x65 => control(code, info1),
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

/// A read of CR0, a write of any control register, or one of CR0 that changes more than TS and MP. Decode assists (APM 2 §15.8.1) tell the general
/// register of a `mov`; without them, or with `lmsw` and `smsw`, bit 63 is clear.
fn control(code: u64, info1: u64) -> Exit {
    let general = u8::try_from(info1 & 0xf).unwrap_or(0);
    Exit::Control(match code {
        _ if info1 >> 63 == 0 => control::Access::Untold,
        0x00 => control::Access::Read { target: general, bytes: 8 },
        0x65 => control::Access::Write { register: 0, source: general },
        _ => control::Access::Write { register: u8::try_from(code & 0xf).unwrap_or(0), source: general },
    })
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

/// All parts of a VMCB that a CPU may keep from one entry to the next and that this wall's CPUs have names for (APM 2 §15.15.3, table 15-8; without bit
/// 12, shadow stacks, which no partition has). A CPU without clean bits does not look at them.
pub const CLEAN: u32 = 0xfff;

/// The part of a VMCB that a field is of, as a bit of its clean bits; none for what every entry loads; all for what has no name here.
#[must_use]
pub const fn part(offset: u16) -> u32 {
    match offset {
        // Shadow, exit codes, events, the clean bits themselves, what an exit tells of the next instruction; RFLAGS, RIP; RSP; RAX. TLB control.
        0x5c | 0x68..=0x8f | 0xa8..=0xaf | 0xc0..=0xdf | 0x570..=0x57f | 0x5d8..=0x5df | 0x5f8..=0x5ff => 0,
        // FS and GS, LDTR, TR, SYSCALL's and SYSENTER's registers: VMLOAD's.
        0x440..=0x45f | 0x470..=0x47f | 0x490..=0x49f | 0x600..=0x63f => 0,
        0x00..=0x17 | 0x3c..=0x3f | 0x50..=0x57 => 1 << 0,
        0x40..=0x4f => 1 << 1,
        0x58..=0x5b => 1 << 2,
        0x60..=0x67 => 1 << 3,
        0xb0..=0xb7 | 0x668..=0x66f => 1 << 4,
        0x4d0..=0x4d7 | 0x548..=0x55f => 1 << 5,
        0x560..=0x56f => 1 << 6,
        0x460..=0x46f | 0x480..=0x48f => 1 << 7,
        0x400..=0x43f | 0x4c8..=0x4cb => 1 << 8,
        0x640..=0x647 => 1 << 9,
        _ => CLEAN,
    }
}

/// How long the instruction of an exit is, where the CPU has no next-RIP save (APM 2 §15.7.1). A form with prefixes then goes on
/// inside the guest's own instruction: its affair. `None`: the exit is no instruction, or EXITINFO2 tells (ports).
#[must_use]
pub const fn length(exit: Exit) -> Option<u64> {
    match exit {
        Exit::Call | Exit::SetXcr | Exit::Control(_) => Some(3),
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
    fn a_move_of_a_control_register_is_told_where_the_cpu_tells_it() {
        use control::Access;
        const TOLD: u64 = 1 << 63;
        assert_eq!(decode(0x14, TOLD | 9, 0), Exit::Control(Access::Write { register: 4, source: 9 }));
        assert_eq!(decode(0x65, TOLD | 3, 0), Exit::Control(Access::Write { register: 0, source: 3 }));
        assert_eq!(decode(0x00, TOLD | 1, 0), Exit::Control(Access::Read { target: 1, bytes: 8 }));
        for code in [0x00, 0x10, 0x14, 0x65] {
            assert_eq!(decode(code, 9, 0), Exit::Control(Access::Untold));
        }
    }

    #[test]
    fn a_field_that_an_entry_may_keep_is_of_the_part_of_the_manual() {
        // Intercepts, bitmaps, ASID, virtual interrupt, nested root, PAT, EFER, CR4, CR3, CR0, DR7, DR6, GDT, IDT, ES to DS, CPL, CR2.
        let named = [
            (0x00, 0),
            (0x04, 0),
            (0x08, 0),
            (0x0c, 0),
            (0x10, 0),
            (0x50, 0),
            (0x40, 1),
            (0x48, 1),
            (0x58, 2),
            (0x60, 3),
            (0xb0, 4),
            (0x668, 4),
            (0x4d0, 5),
            (0x548, 5),
            (0x550, 5),
            (0x558, 5),
            (0x560, 6),
            (0x568, 6),
            (0x464, 7),
            (0x468, 7),
            (0x484, 7),
            (0x488, 7),
            (0x400, 8),
            (0x412, 8),
            (0x424, 8),
            (0x438, 8),
            (0x4c8, 8),
            (0x640, 9),
        ];
        for (offset, bit) in named {
            assert_eq!(part(offset), 1 << bit, "{offset:#x}");
        }
        for loaded in
            [0x5c, 0x68, 0x70, 0x88, 0xa8, 0xac, 0xc0, 0xc8, 0xd0, 0x440, 0x470, 0x490, 0x570, 0x578, 0x5d8, 0x5f8]
        {
            assert_eq!(part(loaded), 0, "{loaded:#x}");
        }
        assert_eq!((part(0x90), part(0x98), part(0xb8), part(0x670)), (CLEAN, CLEAN, CLEAN, CLEAN), "not named here");
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
