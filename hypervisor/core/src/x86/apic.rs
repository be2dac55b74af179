//! The guest's real interrupt controllers, as far as a write to them could stop the wall: a pending INIT cannot be intercepted
//! away on either back end, so what would send one is not written.

/// The local APIC's registers (SDM 3 §11.4.1).
mod register {
    pub(super) const ID: u32 = 0x20;
    pub(super) const LOGICAL_DESTINATION: u32 = 0xd0;
    pub(super) const DESTINATION_FORMAT: u32 = 0xe0;
    pub(super) const COMMAND: u32 = 0x300;
    pub(super) const COMMAND_HIGH: u32 = 0x310;

    /// Local vectors: that of corrected machine checks, the old ones, AMD's further ones (APM 2 §16.4.6).
    pub(super) const fn is_vector(offset: u32) -> bool {
        matches!(offset, 0x2f0 | 0x320..=0x370 | 0x500..=0x530)
    }
}

/// How an interrupt is delivered: bits 8 to 10 of a command or of a table's entry.
const fn delivery(value: u32) -> u32 {
    value >> 8 & 7
}

/// Fixed, lowest priority, NMI, INIT, external.
const FIXED: u32 = 0;
const LOWEST: u32 = 1;
const NMI: u32 = 4;
const EXTERNAL: u32 = 7;

/// The vectors below this are exceptions.
const FIRST_VECTOR: u32 = 16;

/// Whether a write to the local APIC is made. Refused: commands that are no interrupt to the guest's own CPU, entries that deliver
/// INIT, an NMI or a system management interrupt, a change of the CPU's name, by which others find it.
#[must_use]
pub fn allows_local(offset: u32, value: u32) -> bool {
    match offset {
        register::COMMAND => {
            let is_self = value >> 18 & 3 == 1;
            is_self && delivery(value) == FIXED && value & 0xff >= FIRST_VECTOR
        }
        register::COMMAND_HIGH => true,
        register::ID => false,
        register::LOGICAL_DESTINATION | register::DESTINATION_FORMAT => true,
        offset if register::is_vector(offset) => matches!(delivery(value), FIXED | EXTERNAL),
        _ => offset.is_multiple_of(16),
    }
}

/// An I/O APIC's two windows (82093AA §3.1): the index, and the register that it names.
pub const IO_SELECT: u32 = 0;
/// The register that [`IO_SELECT`] names.
pub const IO_WINDOW: u32 = 0x10;
/// The end-of-interrupt register of newer ones.
pub const IO_END: u32 = 0x40;
/// The first entry of the redirection table; each pin has two registers.
pub const IO_TABLE: u32 = 0x10;

/// The pin whose entry a register is part of, and whether it is the low half.
#[must_use]
pub const fn io_pin(index: u32) -> Option<(u32, bool)> {
    match index {
        IO_TABLE..=0xff => Some(((index - IO_TABLE) / 2, index.is_multiple_of(2))),
        _ => None,
    }
}

/// Whether a write to the I/O APIC's register `index` is made: entries of pins that it has, not of the pin that is the wall's own, with
/// a delivery that cannot stop the wall.
#[must_use]
pub fn allows_io(index: u32, value: u32, pins: u32, own_pin: Option<u32>) -> bool {
    match io_pin(index) {
        Some((pin, _)) if pin >= pins || Some(pin) == own_pin => false,
        Some((_, true)) => {
            // A masked entry delivers nothing, whatever it says: Linux writes all of them so.
            let is_masked = value >> 16 & 1 != 0;
            is_masked && matches!(delivery(value), FIXED | LOWEST | NMI | EXTERNAL)
                || matches!(delivery(value), FIXED | LOWEST | EXTERNAL)
        }
        Some((_, false)) => true,
        // The identification register is the machine's.
        None => false,
    }
}

/// The interrupt that an entry of the redirection table stands for, if it is delivered at all: its vector.
#[must_use]
pub const fn vector(entry: u32) -> Option<u32> {
    let is_masked = entry >> 16 & 1 != 0;
    let is_plain = matches!(delivery(entry), FIXED | LOWEST);
    if is_masked || !is_plain || entry & 0xff < FIRST_VECTOR { None } else { Some(entry & 0xff) }
}

/// The command that sends the CPU itself a vector: fixed, edge, asserted, shorthand self (SDM 3 §11.6.1).
#[must_use]
pub const fn self_command(vector: u32) -> u32 {
    0x4_4000 | vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interrupts_to_itself_are_sent() {
        assert!(allows_local(0x300, self_command(0x30)));
        for mode in 1..8 {
            assert!(!allows_local(0x300, 0x4_4030 | mode << 8), "delivery mode {mode}");
        }
        assert!(!allows_local(0x300, 0x4030), "to a named CPU");
        assert!(!allows_local(0x300, 0x8_4030) && !allows_local(0x300, 0xc_4030), "to all, to all others");
        assert!(!allows_local(0x300, self_command(8)), "a vector of an exception");
    }

    #[test]
    fn local_vectors_deliver_what_a_guest_can_take() {
        for offset in (0x320..=0x370).step_by(16).chain((0x500..=0x530).step_by(16)).chain([0x2f0]) {
            assert!(allows_local(offset, 0x1_00ef) && allows_local(offset, 0x700));
            assert!(!allows_local(offset, 0x400), "NMI: it could come while the secure side runs");
            assert!(!allows_local(offset, 0x500), "INIT");
            assert!(!allows_local(offset, 0x200), "SMI");
        }
        assert!(allows_local(0xb0, 0) && allows_local(0x80, 0xff) && allows_local(0xf0, 0x1ff));
        assert!(!allows_local(0x20, 0) && !allows_local(0xb4, 0), "its name; between two registers");
    }

    #[test]
    fn the_walls_pin_and_pins_that_are_not_there_are_left_alone() {
        assert!(allows_io(0x10 + 2 * 4, 0x30, 24, Some(23)) && allows_io(0x11 + 2 * 4, 0, 24, Some(23)));
        assert!(!allows_io(0x10 + 2 * 23, 0x1_0030, 24, Some(23)) && !allows_io(0x11 + 2 * 23, 0, 24, Some(23)));
        assert!(!allows_io(0x10 + 2 * 24, 0x30, 24, None) && !allows_io(0, 0, 24, None));
    }

    #[test]
    fn entries_that_could_stop_the_wall_are_not_written() {
        for mode in [2, 3, 4, 5, 6] {
            assert!(!allows_io(0x10, 0x30 | mode << 8, 24, None), "delivery mode {mode}");
        }
        assert!(!allows_io(0x10, 0x1_0530, 24, None), "INIT, even masked");
        assert!(allows_io(0x10, 0x1_0000, 24, None) && allows_io(0x10, 0x730, 24, None));
    }

    #[test]
    fn an_emulated_interrupt_takes_the_vector_that_the_guest_programmed() {
        assert_eq!(vector(0x30), Some(0x30));
        assert_eq!(vector(0x1_0030), None, "masked");
        assert_eq!(vector(0x0000_0700), None, "external");
        assert_eq!(vector(0x05), None);
    }
}
