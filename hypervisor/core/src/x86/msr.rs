//! Model-specific registers: what an access does when the policy allows it, and which bits of a bitmap say that it costs no exit.

use bulkhead_abi::Message;
use bulkhead_model::{method, object};

use crate::plan::Msrs;

/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// In it: the local APIC's registers are MSRs (SDM 3 §11.12.1).
pub const X2APIC_MODE: u64 = 1 << 10;
/// The first of these; each stands for 16 bytes of the page.
pub const X2APIC: u32 = 0x800;
/// Its end of interrupt.
pub const X2APIC_END: u32 = 0x80b;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// IA32_PAT.
pub const PAT: u32 = 0x277;
/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// IA32_TIME_STAMP_COUNTER.
const TSC: u32 = 0x10;
/// IA32_BIOS_SIGN_ID: the microcode's revision.
const MICROCODE: u32 = 0x8b;
/// IA32_MISC_ENABLE.
const MISC_ENABLE: u32 = 0x1a0;

/// What an access that the policy allows does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To the CPU's register; what the CPU refuses is a general protection fault of the guest.
    Forward,
    /// The guest's own EFER.
    Efer,
    /// The guest's own PAT.
    Pat,
    /// The local APIC's base: a write that changes nothing is taken, one that goes to x2APIC mode too if the guest has that; any other is a fault.
    ApicBase,
    /// A register of the local APIC, at this place of its page: a write that could stop the wall is not made.
    Apic(u32),
    /// A read gives this value, a write is dropped.
    Emulate(u64),
    /// A read goes to the CPU, a write is dropped.
    ReadOnly,
    /// Not even the policy can give it: a general protection fault.
    Never,
}

/// What an allowed access does.
#[must_use]
pub const fn decide(index: u32) -> Action {
    match index {
        EFER => Action::Efer,
        PAT => Action::Pat,
        APIC_BASE => Action::ApicBase,
        // The x2APIC's registers (SDM 3 table 11-6): commands and local vectors; all others that it has. Those that are read only fault by themselves.
        0x82f | 0x830 | 0x832..=0x837 => Action::Apic((index - X2APIC) << 4),
        0x802 | 0x803 | 0x808 | 0x80a | 0x80b | 0x80d | 0x80f..=0x828 | 0x838 | 0x839 | 0x83e | 0x83f => {
            Action::Forward
        }
        MICROCODE => Action::Emulate(0),
        // Memory types under nested paging don't come from MTRRs; MISC_ENABLE and the clock are the machine's.
        TSC | MISC_ENABLE | 0xfe | 0x200..=0x26f | 0x2ff => Action::ReadOnly,
        // Feature control, SMM's base, microcode, VM control, what is not there of the x2APIC.
        0x3a
        | 0x79
        | 0x9e
        | 0x9b
        | 0x800..=0xbff
        | 0x480..=0x49f
        | 0xc001_0111..=0xc001_0113
        | 0xc001_0114
        | 0xc001_0117
        | 0xc001_0020 => Action::Never,
        _ => Action::Forward,
    }
}

/// The call that the policy decides on.
#[must_use]
pub const fn message(index: u32, write: Option<u64>) -> Message {
    let (method, len, value) = match write {
        Some(value) => (method::WRITE, 2, value),
        None => (method::READ, 1, 0),
    };
    Message { object: object::MSR, method, len, words: [index as u64, value, 0, 0, 0, 0] }
}

/// Whether an address is canonical with 48-bit linear addresses.
#[must_use]
pub const fn is_canonical(address: u64) -> bool {
    (address << 16).cast_signed() >> 16 == address.cast_signed()
}

/// What a guest may write into EFER: SCE, LME, NXE and what it sees of LMA. `None`: a general protection fault. LME does not change
/// while paging is on (SDM 3 §10.8.5).
#[must_use]
pub const fn efer(now: u64, value: u64, has_paging: bool) -> Option<u64> {
    const SCE: u64 = 1;
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    const NXE: u64 = 1 << 11;
    if value & !(SCE | LME | LMA | NXE) != 0 || has_paging && (now ^ value) & LME != 0 {
        return None;
    }
    Some(value & !LMA | now & LMA)
}

/// A bitmap's bit for a register: its place in each of the two halves of a page of four kilobits … `None` for registers that no
/// bitmap covers. Low registers 0..0x2000, high ones 0xc000_0000..0xc000_2000.
#[must_use]
pub const fn place(index: u32) -> Option<(bool, u32)> {
    match index {
        0..=0x1fff => Some((false, index)),
        0xc000_0000..=0xc000_1fff => Some((true, index - 0xc000_0000)),
        _ => None,
    }
}

/// Whether the hardware may give a register to the guest without an exit: what the policy opens, and nothing that the wall has to
/// look at.
#[must_use]
pub fn is_open(opened: &[Msrs], index: u32, is_write: bool) -> bool {
    let is_listed = |range: &Msrs| {
        index.checked_sub(range.first).is_some_and(|place| place < range.count) && (range.read_only == 0 || !is_write)
    };
    // A read of what is read only costs nothing to give; a write has to be dropped by the wall.
    let action = decide(index);
    let is_plain =
        matches!(action, Action::Forward) || matches!(action, Action::ReadOnly | Action::Apic(_)) && !is_write;
    is_plain && opened.iter().any(is_listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_opened_and_needs_no_look_costs_no_exit() {
        let opened = [
            Msrs { first: 0xc000_0080, count: 5, read_only: 0 },
            Msrs { first: 0x200, count: 16, read_only: 0 },
            Msrs { first: 0x174, count: 3, read_only: 1 },
        ];
        assert!(is_open(&opened, 0xc000_0081, true) && is_open(&opened, 0xc000_0084, false));
        assert!(!is_open(&opened, EFER, false) && !is_open(&opened, EFER, true), "EFER is always looked at");
        assert!(!is_open(&opened, 0xc000_0085, false), "the next one");
        assert!(is_open(&opened, 0x20f, false) && !is_open(&opened, 0x20f, true), "memory types are dropped");
        assert!(is_open(&opened, 0x176, false) && !is_open(&opened, 0x176, true), "read only");
    }

    #[test]
    fn what_would_undo_the_wall_is_never_given() {
        for index in [0x3a, 0x79, 0x801, 0x831, 0x840, 0xbff, 0x9e, 0xc001_0114, 0xc001_0117] {
            assert_eq!(decide(index), Action::Never, "{index:#x}");
            assert!(!is_open(&[Msrs { first: index, count: 1, read_only: 0 }], index, false));
        }
    }

    #[test]
    fn what_an_x2apic_sends_and_delivers_is_looked_at_and_its_ends_of_interrupts_are_not() {
        let all = [Msrs { first: 0x800, count: 0x400, read_only: 0 }];
        for index in [0x808, X2APIC_END, 0x80f, 0x838, 0x83f] {
            assert!(is_open(&all, index, true) && is_open(&all, index, false), "{index:#x}");
        }
        for index in [0x82f, 0x830, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837] {
            assert!(is_open(&all, index, false) && !is_open(&all, index, true), "{index:#x}");
            assert_eq!(decide(index), Action::Apic((index & 0xff) << 4));
        }
        let open = (0x800..0xc00).filter(|index| is_open(&all, *index, true)).count();
        assert_eq!(open, 8 + 26 + 2, "and no more");
        assert!(!is_open(&[Msrs { first: APIC_BASE, count: 1, read_only: 0 }], APIC_BASE, true));
    }

    #[test]
    fn efer_takes_what_a_guest_may_have_and_hides_the_rest() {
        assert_eq!(efer(0, 1 << 8 | 1 << 11 | 1, false), Some(1 << 8 | 1 << 11 | 1));
        assert_eq!(efer(0x500, 0xd01, true), Some(0xd01), "LMA as it was");
        assert_eq!(efer(0x500, 0x901, true), Some(0xd01), "LMA is not written");
        assert_eq!(efer(0x500, 0, true), None, "LME while paging is on");
        assert_eq!(efer(0, 1 << 12, false), None, "SVME");
        assert_eq!(efer(0, 1 << 14, false), None);
    }

    #[test]
    fn canonical_addresses_have_their_top_bits_alike() {
        assert!(is_canonical(0x7fff_ffff_ffff) && is_canonical(0xffff_8000_0000_0000));
        assert!(!is_canonical(0x8000_0000_0000) && !is_canonical(0xffff_7fff_ffff_ffff));
    }

    #[test]
    fn bitmaps_cover_the_low_and_the_high_range_and_no_more() {
        assert_eq!(place(0x1fff), Some((false, 0x1fff)));
        assert_eq!(place(0xc000_0081), Some((true, 0x81)));
        assert_eq!((place(0x2000), place(0xc000_2000), place(0xc001_0010)), (None, None, None));
    }
}
