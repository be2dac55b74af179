//! Events under delivery (SDM 3 §6.15, table 6-5): what becomes of a fault that stops one. Without this a guest whose handlers are nowhere
//! would exit for ever, and no timer would come between.

/// Valid, in the words that tell and give an event: both back ends have the same layout.
const VALID: u64 = 1 << 31;
/// Of the event's kinds: a CPU's own exception.
const EXCEPTION: u64 = 3;
const DOUBLE_FAULT: u8 = 8;
/// #DB.
pub const DEBUG: u8 = 1;
/// #AC.
pub const ALIGNMENT: u8 = 17;
/// The exceptions whose delivery can lead to themselves without an end, which no interrupt comes between (CVE-2015-8104, CVE-2015-5307): each passes
/// the wall. As an exception bitmap.
pub const WATCHED: u32 = 1 << DEBUG | 1 << ALIGNMENT;
const PAGE_FAULT: u8 = 14;

/// Whether an event was being delivered.
#[must_use]
pub const fn is_valid(delivering: u64) -> bool {
    delivering & VALID != 0
}

/// The exception that a partition is given when `vector` stops what was being delivered: itself, a double fault, or `None`, a triple fault.
#[must_use]
pub const fn combine(delivering: u64, vector: u8) -> Option<u8> {
    if !is_valid(delivering) || delivering >> 8 & 7 != EXCEPTION {
        return Some(vector);
    }
    let [first, ..] = delivering.to_le_bytes();
    match first {
        DOUBLE_FAULT => None,
        _ if is_contributory(vector) && (is_contributory(first) || first == PAGE_FAULT) => Some(DOUBLE_FAULT),
        _ => Some(vector),
    }
}

/// DR6 once a debug exception is delivered (SDM 3 §18.2.3): `now` is what it was, `causes` are those of VMX's exit qualification (SDM 3 table 28-1), of
/// which RTM stands in DR6 the other way round.
#[must_use]
pub const fn debug_status(now: u64, causes: u64) -> u64 {
    /// B0 to B3: only what this exception is about.
    const PLACES: u64 = 0xf;
    /// BD, BS.
    const STICKY: u64 = 3 << 13;
    const RTM: u64 = 1 << 16;
    const ONES: u64 = 0xfffe_0ff0;
    (now & STICKY | causes & (PLACES | STICKY) | ONES | RTM) & !(causes & RTM)
}

/// Whether a debug exception is one of an instruction that is about to run (a breakpoint with R/W and LEN 0; SDM 3 §18.2.4): a fault, after
/// which it runs once without it (RFLAGS.RF).
#[must_use]
pub const fn is_instruction_breakpoint(status: u64, dr7: u64) -> bool {
    let mut place = 0;
    while place < 4 {
        let is_enabled = dr7 >> (2 * place) & 3 != 0;
        if status >> place & 1 != 0 && is_enabled && dr7 >> (16 + 4 * place) & 0xf == 0 {
            return true;
        }
        place += 1;
    }
    false
}

const fn is_contributory(vector: u8) -> bool {
    matches!(vector, 0 | 10..=13)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exception(vector: u8) -> u64 {
        VALID | EXCEPTION << 8 | vector as u64
    }

    #[test]
    fn a_fault_of_a_fault_is_a_double_one_and_then_the_end() {
        assert_eq!(combine(exception(13), 13), Some(8));
        assert_eq!(combine(exception(14), 13), Some(8));
        assert_eq!(combine(exception(8), 13), None);
        assert_eq!(combine(exception(8), 6), None, "whatever stops a double fault");
    }

    #[test]
    fn what_stops_an_interrupt_or_a_benign_exception_is_itself() {
        assert_eq!(combine(0, 13), Some(13), "nothing was being delivered");
        assert_eq!(combine(13, 13), Some(13), "not valid");
        assert_eq!(combine(exception(6), 13), Some(13));
        assert_eq!(combine(VALID | 0x30, 13), Some(13), "an interrupt");
        assert_eq!(combine(VALID | 4 << 8 | 13, 13), Some(13), "a software interrupt");
        assert_eq!(combine(exception(13), 6), Some(6), "an undefined instruction is benign");
    }

    #[test]
    fn both_exceptions_that_can_lead_to_themselves_pass_the_wall() {
        assert_eq!(WATCHED, 1 << 1 | 1 << 17, "#DB, #AC: bits of both back ends' exception bitmap");
    }

    #[test]
    fn debug_status_keeps_what_is_sticky_and_tells_this_exceptions_places() {
        assert_eq!(debug_status(0xffff_0ff0, 0x4001), 0xffff_4ff1, "a step and the first place");
        assert_eq!(debug_status(0xffff_6fff, 2), 0xffff_6ff2, "places are of this exception, BD and BS stay");
        assert_eq!(debug_status(0, u64::MAX), 0xfffe_6fff, "nothing reserved is set, RTM is cleared");
    }

    #[test]
    fn a_breakpoint_of_an_instruction_is_told_from_one_of_data() {
        assert!(is_instruction_breakpoint(1, 2) && is_instruction_breakpoint(8, 0x40));
        assert!(!is_instruction_breakpoint(1, 0), "not enabled");
        assert!(!is_instruction_breakpoint(1, 1 << 16 | 1), "a write");
        assert!(!is_instruction_breakpoint(0x4000, 0xff), "a step");
    }

    #[test]
    fn no_vector_is_delivered_more_than_three_times_in_a_row() {
        for first in 0..32 {
            let (mut event, mut turns) = (exception(first), 0);
            while let Some(next) = combine(event, 13) {
                event = exception(next);
                turns += 1;
                assert!(turns < 4, "vector {first}");
            }
        }
    }
}
