//! VMX: exit reasons (SDM 3 appendix C, §28.2.1) and control words (SDM 3 appendix A).

use super::control;
use super::{Exit, PortAccess};

/// The exit that matters most, told by its reason alone.
pub const VMCALL: u64 = 18;
/// The exit that user space of the guest causes most.
pub const CPUID: u64 = 10;
/// An exception or a non-maskable interrupt: [`event`] tells which.
pub const EVENT: u64 = 0;
/// The exit that its interrupt controllers cause most.
pub const MEMORY: u64 = 48;

/// Decodes an exit. `qualification` is the exit qualification, `address` the guest-physical address (of EPT violations).
/// Never fails: what is not known is [`Exit::Other`].
#[must_use]
pub fn decode(reason: u64, qualification: u64, address: u64) -> Exit {
    #[expect(clippy::cast_possible_truncation, reason = "the reason is in the low half")]
    let reason = reason as u32;
    if reason >> 31 != 0 {
        return Exit::BadState;
    }
    match reason & 0xffff {
        0 => Exit::Nmi,
        1 => Exit::Interrupt,
        2 => Exit::Shutdown,
        3 => Exit::Init,
        7 => Exit::Window,
        10 => Exit::Cpuid,
        12 | 40 => Exit::Idle,
        13 | 54 => Exit::Caches,
        18 => Exit::Call,
        // MWAIT and MONITOR, which CPUID hides, GETSEC, VMX instructions, INVEPT, INVVPID, VMFUNC, RDRAND and the like where they exit, ENCLS, PCONFIG.
        11 | 19..=27 | 36 | 39 | 50 | 53 | 59 | 60 | 65 | 67 | 68 => Exit::Undefined,
        28 => control(qualification),
        30 => port(qualification),
        31 => Exit::ReadMsr,
        32 => Exit::WriteMsr,
        48 => Exit::Memory(address),
        52 => Exit::Timer,
        55 => Exit::SetXcr,
        // Task switch, RDPMC, RSM, XSAVES and XRSTORS.
        9 | 15 | 17 | 63 | 64 => Exit::Protected,
        other => Exit::Other(other),
    }
}

/// What an exit of reason 0 is, an exception or a non-maskable interrupt, by the VM-exit interruption information (SDM 3 table 25-16).
#[must_use]
pub const fn event(information: u64) -> Exit {
    let [vector, ..] = information.to_le_bytes();
    match information >> 8 & 7 {
        2 => Exit::Nmi,
        // A CPU's own exception, or `int1`.
        3 | 5 => Exit::Exception(vector),
        _ => Exit::Other(0),
    }
}

/// SDM 3 table 28-3.
fn control(qualification: u64) -> Exit {
    let register = u8::try_from(qualification & 0xf).unwrap_or(0);
    let source = u8::try_from(qualification >> 8 & 0xf).unwrap_or(0);
    Exit::Control(match (qualification >> 4 & 3, register) {
        (0, _) => control::Access::Write { register, source },
        (2, _) => control::Access::ClearTaskSwitched,
        (3, _) => control::Access::LoadMachineStatus(u16::try_from(qualification >> 16 & 0xffff).unwrap_or(0)),
        (_, _) => return Exit::Protected,
    })
}

/// SDM 3 table 28-5.
fn port(qualification: u64) -> Exit {
    if qualification >> 4 & 1 != 0 {
        return Exit::PortString;
    }
    Exit::Port(PortAccess {
        port: u16::try_from(qualification >> 16 & 0xffff).unwrap_or(0),
        bytes: u8::try_from(qualification & 3).unwrap_or(0) + 1,
        is_in: qualification >> 3 & 1 != 0,
    })
}

/// Control bits that are needed and that the CPU cannot set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub u32);

/// A control word as the CPU takes it: `needed` bits must be there, `wanted` ones are set where they can be; the rest is as small
/// as the capability MSR allows (SDM 3 appendix A.2: low half allowed zeros, high half allowed ones).
///
/// # Errors
/// [`Missing`] names the needed bits that the CPU lacks, or that it cannot leave out.
pub const fn adjust(capability: u64, needed: u32, wanted: u32, unwanted: u32) -> Result<u32, Missing> {
    let fixed_ones = (capability & 0xffff_ffff) as u32;
    let allowed = (capability >> 32) as u32;
    let missing = needed & !allowed | unwanted & fixed_ones;
    if missing != 0 {
        return Err(Missing(missing));
    }
    Ok((needed | wanted & allowed | fixed_ones) & allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_those_of_the_manual() {
        assert_eq!(decode(18, 0, 0), Exit::Call);
        assert_eq!(decode(48, 0x82, 0xfee0_0300), Exit::Memory(0xfee0_0300));
        assert_eq!(decode(1 << 31 | 33, 0, 0), Exit::BadState, "a failed entry");
        assert_eq!(decode(2, 0, 0), Exit::Shutdown);
        assert_eq!((event(1 << 31 | 0x202), event(1 << 31 | 0xb11)), (Exit::Nmi, Exit::Exception(17)));
        assert_eq!((event(1 << 31 | 0x301), event(1 << 31 | 0x501)), (Exit::Exception(1), Exit::Exception(1)));
        let outw = PortAccess { port: 0xcf8, bytes: 4, is_in: false };
        assert_eq!(decode(30, 0xcf8 << 16 | 3, 0), Exit::Port(outw));
        assert_eq!(decode(30, 0x3f8 << 16 | 1 << 4, 0), Exit::PortString);
        let write = control::Access::Write { register: 4, source: 3 };
        assert_eq!(decode(28, 3 << 8 | 4, 0), Exit::Control(write));
    }

    #[test]
    fn every_reason_decodes_to_something_and_vmx_instructions_are_undefined() {
        for reason in 0..0x1_0000 {
            let _ = decode(reason, u64::MAX, 0);
        }
        for reason in (19..=27).chain([36, 39, 50, 53, 59]) {
            assert_eq!(decode(reason, 0, 0), Exit::Undefined);
        }
    }

    #[test]
    fn control_words_hold_what_is_needed_or_name_what_is_missing() {
        // Bits 1, 2, 4 always set; bits 0 to 7 possible.
        let capability = 0xff_0000_0016;
        assert_eq!(adjust(capability, 1 << 6, 0, 0), Ok(0x56));
        assert_eq!(adjust(capability, 1 << 6, 1 << 7 | 1 << 9, 0), Ok(0xd6), "what is only wanted may lack");
        assert_eq!(adjust(capability, 1 << 8, 0, 0), Err(Missing(1 << 8)));
        assert_eq!(adjust(capability, 0, 0, 1 << 4), Err(Missing(1 << 4)), "a bit that cannot be left out");
    }
}
