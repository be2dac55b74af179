//! Events under delivery (SDM 3 §6.15, table 6-5): what becomes of a fault that stops one. Without this a guest whose handlers are nowhere
//! would exit for ever, and no timer would come between.

/// Valid, in the words that tell and give an event: both back ends have the same layout.
const VALID: u64 = 1 << 31;
/// Of the event's kinds: a CPU's own exception.
const EXCEPTION: u64 = 3;
const DOUBLE_FAULT: u8 = 8;
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
