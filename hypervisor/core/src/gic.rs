//! What the guest may do to the interrupt controller (Arm IHI 0069, GICv3): every access to the distributor and to its
//! redistributor is cut to the interrupts that the policy declares. All others read as zero and ignore writes.
//!
//! The hardware's groups, priorities and routes stay as the hypervisor set them: the guest's are kept here (shadows)
//! and used in the list registers only, so that no setting of the guest can mask an interrupt of the wall. One CPU.

/// How many interrupt ids are modelled (SPIs end at 1019).
const INTIDS: usize = 1020;
const WORDS: usize = 32;

/// A frame of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// GICD.
    Distributor,
    /// GICR, first 64 KiB: RD_base.
    Redistributor,
    /// GICR, second 64 KiB: SGI_base.
    RedistributorSgi,
}

/// What the shell does about an access. Offsets are within the frame that was accessed; registers are 32 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A read's result.
    Value(u64),
    /// A write has no effect on the hardware.
    Done,
    /// Read the hardware's register and keep the bits of the mask, then set the others given.
    Read {
        /// Register offset in bytes.
        offset: u32,
        /// Bits that the guest may see.
        mask: u32,
        /// Bits of emulated interrupts, added to them.
        shadow: u32,
    },
    /// Write the hardware's set or clear register: bits that are zero have no effect.
    Write {
        /// Register offset in bytes.
        offset: u32,
        /// The bits, cut to the declared ones.
        value: u32,
    },
    /// Replace the bits of the mask in the hardware's register.
    Modify {
        /// Register offset in bytes.
        offset: u32,
        /// The new bits.
        value: u32,
        /// Which bits.
        mask: u32,
    },
}

/// The guest's view of the controller.
#[derive(Debug)]
pub struct Gic {
    /// Interrupts of the hardware that the guest may set up.
    physical: [u32; WORDS],
    /// Interrupts that exist for the guest only: SGIs and served devices.
    emulated: [u32; WORDS],
    /// Which of the emulated ones the guest has enabled.
    enabled: [u32; WORDS],
    /// Which wait to be delivered: emulated ones, and those of the hardware that found no free list register.
    pending: [u32; WORDS],
    /// Bit w: a word of `pending` and `enabled` may have a bit in common.
    waiting: u32,
    priority: [u8; INTIDS],
    control: u32,
    typer: u32,
}

/// GICD_CTLR: EnableGrp1 is bit 1, EnableGrp0 bit 0, ARE bit 4, DS bit 6.
const CTLR_GUEST: u32 = 0x3;
const CTLR_FIXED: u32 = 0x50;
const PIDR2_GICV3: u64 = 0x3b;

impl Gic {
    /// A controller of which the guest has its 16 SGIs, its virtual timer and nothing else yet.
    #[must_use]
    pub fn new(guest_timer: u32) -> Self {
        let mut gic = Self {
            physical: [0; WORDS],
            emulated: [0; WORDS],
            enabled: [0; WORDS],
            pending: [0; WORDS],
            waiting: 0,
            priority: [0xa0; INTIDS],
            control: 0,
            typer: 0,
        };
        gic.emulated[0] = 0xffff;
        gic.enabled[0] = 0xffff;
        gic.declare(guest_timer);
        gic
    }

    /// Gives an interrupt of the hardware to the guest. False for an id that is none.
    pub fn declare(&mut self, intid: u32) -> bool {
        Self::add(&mut self.physical, intid) && self.widen(intid)
    }

    /// Adds an interrupt that exists for the guest only. False for an id that is none.
    pub fn declare_emulated(&mut self, intid: u32) -> bool {
        Self::add(&mut self.emulated, intid) && self.widen(intid)
    }

    fn add(words: &mut [u32; WORDS], intid: u32) -> bool {
        let word = words.get_mut(intid as usize / 32).filter(|_| (16..1020).contains(&intid));
        word.map(|word| *word |= 1 << (intid % 32)).is_some()
    }

    /// GICD_TYPER.ITLinesNumber tells the guest no more lines than it has a use for.
    fn widen(&mut self, intid: u32) -> bool {
        self.typer = self.typer.max(intid / 32);
        true
    }

    /// Forgets what the guest set up: for its restart.
    pub fn reset(&mut self) {
        self.enabled = [0; WORDS];
        self.enabled[0] = 0xffff;
        self.pending = [0; WORDS];
        self.waiting = 0;
        self.priority = [0xa0; INTIDS];
        self.control = 0;
    }

    /// Whether an interrupt of the hardware is the guest's.
    #[must_use]
    pub fn is_physical(&self, intid: u32) -> bool {
        Self::has(&self.physical, intid)
    }

    /// The priority for a list register.
    #[must_use]
    pub fn priority(&self, intid: u32) -> u8 {
        self.priority.get(intid as usize).copied().unwrap_or(0xa0)
    }

    /// Marks an emulated interrupt pending. False for one that the guest does not have.
    pub fn raise(&mut self, intid: u32) -> bool {
        let known = Self::has(&self.emulated, intid);
        if known {
            self.pending[intid as usize / 32] |= 1 << (intid % 32);
            self.waiting |= 1 << (intid / 32);
        }
        known
    }

    /// Keeps an interrupt of the hardware, still active there, until a list register is free.
    pub fn defer(&mut self, intid: u32) {
        if let Some(word) = self.pending.get_mut(intid as usize / 32) {
            *word |= 1 << (intid % 32);
            self.waiting |= 1 << (intid / 32);
        }
    }

    /// ICH_LR_EL2 for an interrupt that [`Gic::take_pending`] gave.
    #[must_use]
    pub fn list_register(&self, intid: u32) -> u64 {
        let priority = self.priority(intid);
        if self.is_physical(intid) {
            list_register_physical(intid, priority)
        } else {
            list_register_emulated(intid, priority)
        }
    }

    /// Whether an emulated interrupt is enabled and may be delivered without waiting behind others.
    #[must_use]
    #[inline(always)]
    pub fn is_ready(&self, intid: u32) -> bool {
        self.waiting == 0 && Self::has(&self.enabled, intid) && Self::has(&self.emulated, intid)
    }

    /// Whether [`Gic::take_pending`] may find one.
    #[must_use]
    #[inline(always)]
    pub const fn has_waiting(&self) -> bool {
        self.waiting != 0
    }

    /// Takes the next emulated interrupt that is pending and enabled.
    #[inline]
    pub fn take_pending(&mut self) -> Option<u32> {
        while self.waiting != 0 {
            let word = self.waiting.trailing_zeros();
            let index = word as usize % WORDS;
            let bits = self.pending[index] & (self.enabled[index] | self.physical[index]);
            if bits != 0 {
                let bit = bits.trailing_zeros();
                self.pending[index] &= !(1 << bit);
                return Some(word * 32 + bit);
            }
            // What is pending but not enabled waits for the guest to enable it.
            self.waiting &= !(1 << word);
        }
        None
    }

    fn has(words: &[u32; WORDS], intid: u32) -> bool {
        words.get(intid as usize / 32).is_some_and(|word| word >> (intid % 32) & 1 != 0)
    }

    /// Decides on a read of `bytes` (1, 2, 4 or 8) at `offset`.
    #[must_use]
    #[inline]
    pub fn read(&self, frame: Frame, offset: u32, bytes: u8) -> Action {
        match frame {
            Frame::Distributor => self.read_distributor(offset, bytes),
            Frame::Redistributor => Self::read_redistributor(offset),
            Frame::RedistributorSgi if in_first_word(offset) => self.read_bank(offset, bytes),
            Frame::RedistributorSgi => Action::Value(0),
        }
    }

    /// Decides on a write.
    pub fn write(&mut self, frame: Frame, offset: u32, bytes: u8, value: u64) -> Action {
        match frame {
            Frame::Distributor if offset == 0 => {
                self.control = low(value) & CTLR_GUEST;
                Action::Done
            }
            Frame::Distributor => self.write_bank(offset, bytes, value, false),
            Frame::RedistributorSgi if in_first_word(offset) => self.write_bank(offset, bytes, value, true),
            Frame::Redistributor | Frame::RedistributorSgi => Action::Done,
        }
    }

    #[inline]
    fn read_distributor(&self, offset: u32, bytes: u8) -> Action {
        match offset {
            0x0 => Action::Value(u64::from(self.control | CTLR_FIXED)),
            // TYPER: lines, one CPU, 16 bits of interrupt ids (IHI 0069 §12.9.38); no LPIs, no message-based SPIs.
            0x4 => Action::Value(u64::from(self.typer | 15 << 19)),
            0xffe8 => Action::Value(PIDR2_GICV3),
            _ => self.read_bank(offset, bytes),
        }
    }

    fn read_redistributor(offset: u32) -> Action {
        match offset {
            // TYPER: Last, processor 0, affinity 0 (IHI 0069 §12.11.35).
            0x8 => Action::Value(1 << 4),
            0xffe8 => Action::Value(PIDR2_GICV3),
            // CTLR, IIDR, upper half of TYPER, WAKER (awake) and all others.
            _ => Action::Value(0),
        }
    }

    /// The registers that hold a field for each interrupt. Kept out of line, so that the plain registers stay short.
    #[inline(never)]
    fn read_bank(&self, offset: u32, bytes: u8) -> Action {
        if let Some(intid) = priority_register(offset) {
            let priorities = self.priority.iter().enumerate().skip(intid).take(usize::from(bytes.min(4)));
            let value = priorities.fold(0, |value, (at, &priority)| {
                let known = self.knows(at);
                value | if known { u64::from(priority) << ((at - intid) * 8) } else { 0 }
            });
            return Action::Value(value);
        }
        if bytes != 4 || !offset.is_multiple_of(4) {
            return Action::Value(0);
        }
        let word = (offset / 4 % 32) as usize;
        let (physical, emulated) = (self.physical[word], self.emulated[word]);
        match offset {
            0x080..=0x0fc => Action::Value(u64::from(physical | emulated)),
            0x100..=0x1fc => Action::Read { offset, mask: physical, shadow: self.enabled[word] & emulated },
            0x200..=0x2fc => Action::Read { offset, mask: physical, shadow: self.pending[word] & emulated },
            0x300..=0x3fc => Action::Read { offset, mask: physical, shadow: 0 },
            0xc00..=0xcfc => {
                Action::Read { offset, mask: self.config_mask(offset), shadow: self.emulated_config(offset) }
            }
            _ => Action::Value(0),
        }
    }

    #[inline(never)]
    fn write_bank(&mut self, offset: u32, bytes: u8, value: u64, sgi_frame: bool) -> Action {
        if let Some(intid) = priority_register(offset) {
            let count = if sgi_frame { 32usize.saturating_sub(intid) } else { usize::from(bytes) };
            for (slot, byte) in
                self.priority.iter_mut().skip(intid).zip(value.to_le_bytes()).take(count.min(bytes.min(4).into()))
            {
                *slot = byte;
            }
            return Action::Done;
        }
        if bytes != 4 || !offset.is_multiple_of(4) {
            return Action::Done;
        }
        let word = (offset / 4 % 32) as usize;
        let bits = low(value);
        let emulated = bits & self.emulated[word];
        match offset {
            0x100..=0x17c => {
                self.enabled[word] |= emulated;
                self.waiting |= 1 << word;
            }
            0x180..=0x1fc => self.enabled[word] &= !emulated,
            0x200..=0x27c => {
                self.pending[word] |= emulated;
                self.waiting |= 1 << word;
            }
            0x280..=0x2fc => self.pending[word] &= !emulated,
            0x300..=0x3fc => {}
            0xc00..=0xcfc => {
                let mask = self.config_mask(offset);
                return if mask == 0 { Action::Done } else { Action::Modify { offset, value: bits & mask, mask } };
            }
            _ => return Action::Done,
        }
        match bits & self.physical[word] {
            0 => Action::Done,
            value => Action::Write { offset, value },
        }
    }

    fn knows(&self, intid: usize) -> bool {
        self.physical.iter().zip(&self.emulated).nth(intid / 32).is_some_and(|(a, b)| (a | b) >> (intid % 32) & 1 != 0)
    }

    /// Emulated interrupts of devices are edge-triggered: the upper of two bits each.
    fn emulated_config(&self, offset: u32) -> u32 {
        let first = (offset - 0xc00) * 4;
        let sixteen = self.emulated.get(first as usize / 32).map_or(0, |word| word >> (first % 32) & 0xffff);
        let is_device = first >= 32;
        (0..16).filter(|bit| is_device && sixteen >> bit & 1 != 0).fold(0, |bits, bit| bits | 2 << (bit * 2))
    }

    /// ICFGR holds two bits for each of 16 interrupts; SGIs and PPIs keep what the hardware has.
    fn config_mask(&self, offset: u32) -> u32 {
        let first = (offset - 0xc00) * 4;
        if first < 32 {
            return 0;
        }
        (0..16).filter(|bit| Self::has(&self.physical, first + bit)).fold(0, |mask, bit| mask | 3 << (bit * 2))
    }
}

/// The first interrupt of an access to IPRIORITYR.
const fn priority_register(offset: u32) -> Option<usize> {
    if offset >= 0x400 && offset < 0x400 + 1020 { Some((offset - 0x400) as usize) } else { None }
}

/// The redistributor's copy of the banked registers has the first word (or the first 32 bytes) of each only.
const fn in_first_word(offset: u32) -> bool {
    match offset {
        0x400..=0x41f | 0xc00..=0xc07 => true,
        0x080..=0x3ff => offset & 0x7c == 0,
        _ => false,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the registers are 32 bits wide")]
const fn low(value: u64) -> u32 {
    value as u32
}

/// ICC_SGI1R_EL1 as the guest wrote it: the SGI it sends to itself, if any (IHI 0069 §12.2.20).
///
/// On one CPU, affinity 0.0.0.0: target list bit 0; IRM (bit 40) means all others, which are none.
#[must_use]
pub const fn self_sgi(value: u64) -> Option<u32> {
    const OTHER_AFFINITY: u64 = 0xff << 48 | 0xff << 32 | 0xff << 16 | 0xf << 44;
    if value & (1 << 40 | OTHER_AFFINITY) != 0 || value & 1 == 0 { None } else { Some((value >> 24 & 0xf) as u32) }
}

/// ICH_LR_EL2 for an interrupt of the hardware: pending, HW, group 1; the guest's end of interrupt deactivates it
/// (IHI 0069 §12.4.8: state 62-63, HW 61, group 60, priority 48-55, pINTID 32-44, vINTID 0-31).
#[must_use]
pub const fn list_register_physical(intid: u32, priority: u8) -> u64 {
    list_register_emulated(intid, priority) | 1 << 61 | (intid as u64) << 32
}

/// ICH_LR_EL2 for an emulated interrupt: pending, group 1.
#[must_use]
pub const fn list_register_emulated(intid: u32, priority: u8) -> u64 {
    1 << 62 | 1 << 60 | (priority as u64) << 48 | intid as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_of_the_hardware_that_found_no_list_register_is_kept() {
        let mut gic = Gic::new(27);
        gic.defer(27);
        assert!(gic.has_waiting());
        assert_eq!(gic.take_pending(), Some(27));
        assert_eq!(gic.list_register(27) >> 61 & 3, 3, "pending, and ended in the hardware by the guest");
        assert_eq!(gic.list_register(3) >> 61 & 3, 2, "emulated");
        assert_eq!(gic.take_pending(), None);
    }

    #[test]
    fn a_served_devices_interrupt_is_edge_triggered_and_waits_until_it_is_enabled() {
        let mut gic = Gic::new(27);
        gic.declare_emulated(79);
        let config = gic.read(Frame::Distributor, 0xc00 + 16, 4);
        assert_eq!(config, Action::Read { offset: 0xc10, mask: 0, shadow: 2 << 30 });
        assert!(gic.raise(79));
        assert_eq!(gic.take_pending(), None);
        gic.write(Frame::Distributor, 0x108, 4, 1 << 15);
        assert_eq!(gic.take_pending(), Some(79));
        assert_eq!(gic.take_pending(), None);
        assert!(!gic.raise(80), "not the guest's");
    }

    fn gic() -> Gic {
        let mut gic = Gic::new(27);
        assert!(gic.declare(33) && gic.declare_emulated(48));
        gic
    }

    #[test]
    fn enabling_reaches_the_hardware_for_declared_interrupts_only() {
        let all = u64::from(u32::MAX);
        assert_eq!(gic().write(Frame::Distributor, 0x104, 4, all), Action::Write { offset: 0x104, value: 1 << 1 });
        assert_eq!(
            gic().write(Frame::RedistributorSgi, 0x100, 4, all),
            Action::Write { offset: 0x100, value: 1 << 27 }
        );
        assert_eq!(gic().write(Frame::Distributor, 0x108, 4, all), Action::Done);
    }

    #[test]
    fn disabling_everything_leaves_the_walls_own_timer_alone() {
        let action = gic().write(Frame::RedistributorSgi, 0x180, 4, u64::from(u32::MAX));
        assert_eq!(action, Action::Write { offset: 0x180, value: 1 << 27 });
        let active = gic().write(Frame::RedistributorSgi, 0x380, 4, u64::from(u32::MAX));
        assert_eq!(active, Action::Write { offset: 0x380, value: 1 << 27 });
    }

    #[test]
    fn an_emulated_interrupt_is_delivered_once_and_only_when_enabled() {
        let mut gic = gic();
        assert!(gic.raise(48) && !gic.raise(49) && !gic.raise(33) && !gic.raise(u32::MAX));
        assert_eq!(gic.take_pending(), None);
        assert_eq!(gic.write(Frame::Distributor, 0x104, 4, 1 << 16), Action::Done);
        assert_eq!(gic.take_pending(), Some(48));
        assert_eq!(gic.take_pending(), None);
    }

    #[test]
    fn priorities_are_the_guests_own_and_never_reach_the_hardware() {
        let mut gic = gic();
        assert_eq!(gic.write(Frame::Distributor, 0x400 + 33, 1, 0x40), Action::Done);
        assert_eq!(gic.priority(33), 0x40);
        assert_eq!(gic.read(Frame::Distributor, 0x400 + 33, 1), Action::Value(0x40));
        assert_eq!(gic.read(Frame::Distributor, 0x400 + 40, 1), Action::Value(0), "undeclared");
        gic.write(Frame::RedistributorSgi, 0x41f, 4, u64::MAX);
        assert_eq!(gic.priority(32), 0xa0, "the redistributor's frame ends at interrupt 31");
    }

    #[test]
    fn the_guest_sees_one_cpu_and_no_more_lines_than_it_uses() {
        assert_eq!(gic().read(Frame::Distributor, 4, 4), Action::Value(1 | 15 << 19));
        assert_eq!(gic().read(Frame::Redistributor, 8, 8), Action::Value(1 << 4));
    }

    #[test]
    fn routes_groups_and_configuration_of_others_are_not_the_guests() {
        assert_eq!(gic().write(Frame::Distributor, 0x6108, 8, 1), Action::Done);
        assert_eq!(gic().write(Frame::Distributor, 0x84, 4, 0), Action::Done);
        assert_eq!(gic().write(Frame::RedistributorSgi, 0xc04, 4, u64::MAX), Action::Done);
        let declared = gic().write(Frame::Distributor, 0xc08, 4, 0xffff_ffff);
        assert_eq!(declared, Action::Modify { offset: 0xc08, value: 0xc, mask: 0xc });
    }

    #[test]
    fn no_access_of_any_size_or_place_panics_or_changes_an_undeclared_interrupt() {
        for frame in [Frame::Distributor, Frame::Redistributor, Frame::RedistributorSgi] {
            for offset in 0..0x1_0000 {
                for bytes in [1, 2, 4, 8] {
                    let mut gic = gic();
                    let _ = gic.read(frame, offset, bytes);
                    match gic.write(frame, offset, bytes, u64::MAX) {
                        Action::Write { offset, value } if offset & 0x7c == 0 => assert_eq!(value, 1 << 27),
                        Action::Write { offset, value } => assert_eq!((offset & 0x7c, value), (4, 2)),
                        Action::Modify { offset, mask, .. } => assert_eq!((offset, mask), (0xc08, 0xc)),
                        Action::Done => {}
                        other => panic!("a write gave {other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_restart_forgets_what_the_guest_set_up() {
        let mut gic = gic();
        gic.write(Frame::Distributor, 0, 4, 3);
        gic.write(Frame::Distributor, 0x104, 4, 1 << 16);
        gic.raise(48);
        gic.reset();
        assert_eq!(gic.read(Frame::Distributor, 0, 4), Action::Value(0x50));
        assert_eq!(gic.take_pending(), None);
    }

    #[test]
    fn an_sgi_to_oneself_is_told_from_one_to_nobody() {
        assert_eq!(self_sgi(5 << 24 | 1), Some(5));
        assert_eq!(self_sgi(5 << 24 | 2), None);
        assert_eq!(self_sgi(1 << 40 | 1), None);
        assert_eq!(self_sgi(1 << 16 | 1), None);
    }

    #[test]
    fn list_registers_name_the_hardware_interrupt_only_where_there_is_one() {
        assert_eq!(list_register_physical(33, 0xa0), 0x70a0_0021_0000_0021);
        assert_eq!(list_register_emulated(48, 0x40), 0x5040_0000_0000_0030);
    }
}
