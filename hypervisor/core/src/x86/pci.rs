//! A PCI function that exists for the guest only: a transitional virtio console (virtio 1.2 §4.1.2, §4.1.4), as its configuration
//! space shows it (PCI 3.0 §6.1, §6.2, §6.7). Constants, but for what a driver must be able to write and read back; its ports
//! never move. Both interfaces lie in them, the modern one where there are ports enough. What they hold, an app answers.

use bulkhead_wire::console::{COMMON, COMMON_BYTES, CONFIGURATION, CONFIGURATION_BYTES, ISR, NOTIFY, PORTS};

use crate::plan::{DEVICES, Device, Range};

/// Vendor, and device of a transitional console (virtio 1.2 §4.1.2.1, table 4.1).
const IDENTITY: u32 = 0x1003_1af4;
/// Simple communication controller, other; revision 0.
const CLASS: u32 = 0x0780_0000;
/// Subsystem: virtio's device type 3.
const SUBSYSTEM: u32 = 0x0003_1af4;
/// INTA.
const PIN: u32 = 1;
/// A base address of ports (PCI 3.0 §6.2.5.1).
const IS_PORTS: u32 = 1;

/// Command: the function answers at its ports.
const DECODE: u16 = 1 << 0;
/// Command: bus master. A driver sets it and reads it back; there is no bus, the app copies.
const MASTER: u16 = 1 << 2;

/// Status, above the command: there are capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;

/// Registers by their first byte: of the header, and of the last capability.
mod register {
    pub(super) const COMMAND: u16 = 0x04;
    pub(super) const BASE: u16 = 0x10;
    pub(super) const CAPABILITIES: u16 = 0x34;
    pub(super) const LINE: u16 = 0x3c;
    pub(super) const FIRST_CAPABILITY: u16 = 0x40;
    /// How many bytes each has.
    pub(super) const CAPABILITY: u16 = 20;
    /// The window's base address.
    pub(super) const WINDOW: u16 = FIRST_CAPABILITY + 4 * CAPABILITY + 4;
    pub(super) const WINDOW_OFFSET: u16 = WINDOW + 4;
    pub(super) const WINDOW_LENGTH: u16 = WINDOW + 8;
    pub(super) const WINDOW_DATA: u16 = WINDOW + 12;
}

/// What the capabilities tell of, one after the other: its kind, and which of the ports it has (virtio 1.2 §4.1.4).
const STRUCTURES: [(u8, u16, u16); 5] =
    [(1, COMMON, COMMON_BYTES), (2, NOTIFY, 2), (3, ISR, 1), (4, CONFIGURATION, CONFIGURATION_BYTES), (WINDOW, 0, 0)];
/// The kind of the window: a way to the ports through the configuration space (§4.1.4.9).
const WINDOW: u8 = 5;

/// The function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its ports, and how many: a power of two.
    first: u16,
    count: u16,
    /// The interrupt's line at the start.
    first_line: u8,
    /// What a driver wrote to the line's register: a note for itself.
    line: u8,
    command: u16,
    /// All ones were written to the base address: it tells its size until something else is written.
    is_sizing: bool,
    /// What a driver wrote to the window: base address, offset, length.
    window: [u32; 3],
}

impl Function {
    /// A function with ports from `first` on, `count` of them (a power of two), and its interrupt's line; off, as at a machine's start.
    #[must_use]
    pub const fn new(first: u16, count: u16, line: u8) -> Self {
        Self { first, count, first_line: line, line, command: 0, is_sizing: false, window: [0; 3] }
    }

    /// As at the machine's start.
    pub const fn reset(&mut self) {
        *self = Self::new(self.first, self.count, self.first_line);
    }

    /// The guest reads `size` bytes of the configuration space. What does not lie in one word of it reads as all ones.
    #[must_use]
    pub fn config_read(&self, register: u16, size: u8) -> u32 {
        if register >= 0x100 || !is_whole(register, size) {
            return u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
        }
        let base = if self.is_sizing { !(u32::from(self.count).wrapping_sub(1)) } else { u32::from(self.first) };
        let word = match register & !3 {
            0x00 => IDENTITY,
            register::COMMAND => u32::from(self.command) | if self.is_modern() { HAS_CAPABILITIES } else { 0 },
            0x08 => CLASS,
            register::BASE => base & !3 | IS_PORTS,
            0x2c => SUBSYSTEM,
            register::CAPABILITIES if self.is_modern() => register::FIRST_CAPABILITY.into(),
            register::LINE => PIN << 8 | u32::from(self.line),
            word => self.capability(word).unwrap_or(0),
        };
        word >> (8 * u32::from(register & 3)) & (u32::MAX >> (32 - 8 * u32::from(size)))
    }

    const fn is_modern(&self) -> bool {
        self.count >= PORTS
    }

    /// A word of the capabilities. Each is as long as the longest; its last word is 0, the multiplier of a queue's offset where it is
    /// kicked: all are kicked at one port.
    fn capability(&self, register: u16) -> Option<u32> {
        let place = register.checked_sub(register::FIRST_CAPABILITY).filter(|_| self.is_modern())?;
        let &(kind, first, bytes) = STRUCTURES.get(usize::from(place / register::CAPABILITY))?;
        let word = place % register::CAPABILITY / 4;
        let next = if kind == WINDOW { 0 } else { register - 4 * word + register::CAPABILITY };
        Some(match word {
            0 => u32::from_le_bytes([0x09, next.to_le_bytes()[0], register::CAPABILITY.to_le_bytes()[0], kind]),
            1..=3 if kind == WINDOW => self.window.get(usize::from(word) - 1).copied()?,
            2 => first.into(),
            3 => bytes.into(),
            _ => 0,
        })
    }

    /// The guest writes `size` bytes of the configuration space. Command, line and window keep what they can; a whole base
    /// address of ones asks for the size; all else is dropped.
    pub fn config_write(&mut self, register: u16, size: u8, value: u32) {
        let [low, high, ..] = value.to_le_bytes();
        match (register, size) {
            (register::COMMAND, 2 | 4) => self.command = u16::from_le_bytes([low, high]) & (DECODE | MASTER),
            (register::COMMAND, 1) => self.command = u16::from(low) & (DECODE | MASTER),
            (register::BASE, 4) => self.is_sizing = value == u32::MAX,
            (register::LINE, 1 | 2 | 4) => self.line = low,
            (register::WINDOW, 1 | 4) => self.window[0] = low.into(),
            (register::WINDOW_OFFSET, 4) => self.window[1] = value,
            (register::WINDOW_LENGTH, 4) => self.window[2] = value,
            _ => {}
        }
    }

    /// The device's register that an access to the window's data reaches: of the length that the window has, and within the ports.
    #[must_use]
    pub fn through_window(&self, register: u16, size: u8) -> Option<u64> {
        let [base, offset, length] = self.window;
        let is_inside = offset.checked_add(length).is_some_and(|end| end <= self.count.into());
        let is_meant = register == register::WINDOW_DATA && length == size.into() && base == 0;
        (self.is_modern() && is_meant && is_whole(register, size) && is_inside).then_some(offset.into())
    }

    /// The device's register that an access to ports reaches, if it lies wholly within the function's and that answers.
    #[must_use]
    pub fn offset(&self, port: u16, size: u8) -> Option<u64> {
        let offset = port.checked_sub(self.first)?;
        let is_inside = size != 0 && u32::from(offset) + u32::from(size) <= u32::from(self.count);
        (is_inside && self.command & DECODE != 0).then_some(offset.into())
    }
}

/// The functions among the devices that apps serve, by their places in the plan.
#[derive(Clone, Copy, Debug)]
pub struct Functions([Option<(u16, Function)>; DEVICES]);

impl Functions {
    /// Those of a plan.
    #[must_use]
    pub fn new(devices: &[Device; DEVICES]) -> Self {
        let function = |device: &Device| {
            let Range { base, bytes } = device.range;
            let (first, count, line) =
                (u16::try_from(base).ok()?, u16::try_from(bytes).ok()?, u8::try_from(device.intid).ok()?);
            (device.function != 0).then_some((device.function, Function::new(first, count, line)))
        };
        Self(devices.each_ref().map(function))
    }

    /// As at the machine's start.
    pub fn reset(&mut self) {
        self.0.iter_mut().flatten().for_each(|(_, function)| function.reset());
    }

    /// The function that the guest finds at a place of the bus, and its place in the plan.
    pub fn find(&mut self, number: u16) -> Option<(usize, &mut Function)> {
        self.0.iter_mut().enumerate().find_map(|(place, slot)| {
            let (known, function) = slot.as_mut()?;
            (*known == number).then_some((place, function))
        })
    }

    /// The device among the plan's, and its register, that an access to ports reaches.
    #[must_use]
    pub fn reached(&self, port: u16, size: u8) -> Option<(usize, u64)> {
        let all = self.0.iter().enumerate();
        all.filter_map(|(place, function)| Some((place, function.as_ref()?.1.offset(port, size)?))).next()
    }
}

/// Whether an access is of one, two or four bytes within a word.
const fn is_whole(register: u16, size: u8) -> bool {
    matches!(size, 1 | 2 | 4) && (register & 3) + size as u16 <= 4
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn fresh() -> Function {
        Function::new(0xc040, 0x40, 11)
    }

    #[test]
    fn a_driver_finds_a_transitional_console_and_its_ports() {
        let mut function = fresh();
        assert_eq!((function.config_read(0, 4), function.config_read(2, 2)), (0x1003_1af4, 0x1003));
        assert_eq!((function.config_read(0x08, 4), function.config_read(0x0a, 2)), (0x0780_0000, 0x0780));
        assert_eq!(function.config_read(0x08, 1), 0, "revision 0: the legacy interface");
        assert_eq!(function.config_read(0x0e, 1), 0, "one function, an ordinary header");
        assert_eq!((function.config_read(0x2c, 2), function.config_read(0x2e, 2)), (0x1af4, 3));
        assert_eq!((function.config_read(0x06, 2), function.config_read(0x34, 1)), (0, 0), "no capabilities");
        assert_eq!((function.config_read(0x3d, 1), function.config_read(0x3c, 1)), (1, 11));
        // As Linux sizes: decoding off, all ones to each base address, back what was there.
        function.config_write(0x04, 2, 0);
        for (register, before, size) in [(0x10, 0xc041, 0xffff_ffc1), (0x14, 0, 0), (0x24, 0, 0), (0x30, 0, 0)] {
            assert_eq!(function.config_read(register, 4), before, "{register:#x}");
            function.config_write(register, 4, u32::MAX);
            assert_eq!(function.config_read(register, 4), size, "{register:#x}");
            function.config_write(register, 4, before);
            assert_eq!(function.config_read(register, 4), before, "{register:#x}");
        }
        assert_eq!(function.offset(0xc040, 4), None, "off");
        function.config_write(0x04, 2, 0x507);
        assert_eq!(function.config_read(0x04, 2), 5, "ports and bus master; no memory, no INTx to disable");
        assert_eq!((function.offset(0xc040, 4), function.offset(0xc07f, 1)), (Some(0), Some(0x3f)));
    }

    /// With ports for both interfaces.
    fn modern() -> Function {
        Function::new(0xc080, 0x80, 11)
    }

    /// As Linux and firmware walk them (virtio 1.2 §4.1.4): kind, then base address, first register and length; and where it is.
    fn capabilities(function: &Function) -> Vec<(u32, [u32; 3], u16)> {
        let mut found = Vec::new();
        let mut at = function.config_read(0x34, 1);
        while at != 0 {
            let register = u16::try_from(at).unwrap();
            assert!(register % 4 == 0 && found.len() < 8, "{register:#x}");
            assert_eq!((function.config_read(register, 1), function.config_read(register + 2, 1)), (9, 20));
            let place = [function.config_read(register + 4, 1), function.config_read(register + 8, 4)];
            let length = function.config_read(register + 12, 4);
            found.push((function.config_read(register + 3, 1), [place[0], place[1], length], register));
            at = function.config_read(register + 1, 1);
        }
        found
    }

    #[test]
    fn a_modern_driver_finds_each_structure_in_the_ports() {
        let function = modern();
        assert_eq!(function.config_read(0x06, 2), 0x10, "capabilities");
        assert_eq!((function.config_read(0, 4), function.config_read(0x08, 1)), (0x1003_1af4, 0), "transitional");
        let found = capabilities(&function);
        let told: Vec<_> = found.iter().map(|&(kind, place, _)| (kind, place)).collect();
        let expected = [(1, [0, 0x40, 0x38]), (2, [0, 0x30, 2]), (3, [0, 0x34, 1]), (4, [0, 0x20, 12]), (5, [0, 0, 0])];
        assert_eq!(told, expected);
        for &(_, [_, first, length], _) in found.iter().take(4) {
            assert!(first >= 0x20 && first + length <= 0x80 && (first % 4 == 0), "{first:#x}");
        }
        let (_, _, notify) = found[1];
        assert_eq!(function.config_read(notify + 16, 4), 0, "all queues are kicked at one port");
        // The ports, as ever.
        let mut function = function;
        function.config_write(0x10, 4, u32::MAX);
        assert_eq!(function.config_read(0x10, 4), 0xffff_ff81);
        assert!(capabilities(&fresh()).is_empty(), "with ports for the legacy interface only");
    }

    #[test]
    fn the_window_reaches_the_ports_as_it_is_set_and_nothing_else() {
        let mut function = modern();
        let &(_, _, window) = capabilities(&function).last().unwrap();
        let data = window + 16;
        assert_eq!(function.through_window(data, 4), None, "not set");
        let set = |function: &mut Function, base: u32, offset: u32, length: u32| {
            function.config_write(window + 4, 1, base);
            function.config_write(window + 8, 4, offset);
            function.config_write(window + 12, 4, length);
        };
        for (offset, length, size) in [(0x54, 1, 1), (0x30, 2, 2), (0x40, 4, 4), (0x7f, 1, 1), (0, 4, 4)] {
            set(&mut function, 0, offset, length);
            assert_eq!(function.through_window(data, size), Some(offset.into()), "whether its ports are on or not");
            assert_eq!(function.config_read(window + 8, 4), offset, "read back");
            assert_eq!(function.config_read(window + 12, 4), length);
            let others = [1, 2, 3, 4, 0].into_iter().filter(|&other| other != size);
            assert!(others.into_iter().all(|other| function.through_window(data, other).is_none()));
            let beside = [data - 4, data + 1, data + 2, data + 4, window + 4, 0x10, 0];
            assert!(beside.into_iter().all(|register| function.through_window(register, size).is_none()));
        }
        for (base, offset, length) in [
            (0, 0x7d, 4),
            (0, 0x80, 1),
            (0, u32::MAX, 1),
            (0, u32::MAX - 3, 4),
            (1, 0x40, 4),
            (0xff, 0x40, 4),
            (0, 0x40, 0),
            (0, 0x40, 3),
            (0, 0, 8),
            (0, 0, u32::MAX),
        ] {
            set(&mut function, base, offset, length);
            assert!((0..=8).all(|size| function.through_window(data, size).is_none()), "{offset:#x}, {length}");
        }
        set(&mut function, 0, 0x40, 4);
        function.config_write(window + 8, 2, 0);
        function.config_write(window + 9, 1, 0);
        assert_eq!(function.through_window(data, 4), Some(0x40), "written whole or not at all");
        function.reset();
        assert_eq!(function, modern());
        let mut legacy = fresh();
        set(&mut legacy, 0, 0, 4);
        assert_eq!((legacy.through_window(data, 4), legacy.config_read(window + 12, 4)), (None, 0));
    }

    #[test]
    fn only_accesses_within_its_ports_are_its_own() {
        let mut function = fresh();
        function.config_write(0x04, 1, 1);
        for (port, size) in [(0xc03f, 1), (0xc03f, 2), (0xc07f, 2), (0xc07d, 4), (0xc080, 1), (0xffff, 4), (0xc040, 0)]
        {
            assert_eq!(function.offset(port, size), None, "{port:#x}, {size}");
        }
        let last = {
            let mut last = Function::new(0xffc0, 0x40, 5);
            last.config_write(0x04, 1, 1);
            last
        };
        assert_eq!((last.offset(0xffff, 1), last.offset(0xffff, 2)), (Some(0x3f), None));
    }

    #[test]
    fn the_ports_never_move_and_a_half_written_address_changes_nothing() {
        let mut function = fresh();
        function.config_write(0x04, 2, 1);
        for value in [0, 1, 0xcf9, 0xfff1, 0xfee0_0000, 0xffff_fffe] {
            function.config_write(0x10, 4, value);
            assert_eq!(function.config_read(0x10, 4), 0xc041);
            assert_eq!(function.offset(0xc040, 1), Some(0));
        }
        for (register, size) in [(0x10, 2), (0x12, 2), (0x10, 1), (0x11, 4)] {
            function.config_write(register, size, u32::MAX);
            assert_eq!(function.config_read(0x10, 4), 0xc041);
        }
        function.config_write(0x10, 4, u32::MAX);
        assert_eq!(function.offset(0xc040, 1), Some(0), "it answers where it is while its size is asked");
        function.reset();
        assert_eq!((function, function.offset(0xc040, 1)), (fresh(), None));
    }

    #[test]
    fn what_is_not_one_word_or_beyond_the_header_reads_as_nothing() {
        let function = fresh();
        assert_eq!(
            (function.config_read(3, 2), function.config_read(1, 4), function.config_read(0, 3)),
            (0xffff, u32::MAX, 0xff_ffff)
        );
        assert_eq!(
            (function.config_read(0x100, 4), function.config_read(0xffff, 1), function.config_read(0, 0)),
            (u32::MAX, 0xff, 0xff)
        );
        assert!((0x40..0x100).all(|register| function.config_read(register, 1) == 0));
    }

    #[test]
    fn a_function_is_found_at_its_place_and_reached_when_it_is_on() {
        let mut devices = [Device::default(); DEVICES];
        devices[0] = Device {
            range: Range { base: 0x0a00_3e00, bytes: 0x200 },
            object: 8,
            function: 0,
            intid: 79,
            ..Device::default()
        };
        devices[2] = Device {
            range: Range { base: 0xc040, bytes: 0x40 },
            object: 9,
            function: 30 << 3,
            intid: 11,
            ..Device::default()
        };
        let mut functions = Functions::new(&devices);
        assert!(functions.find(0).is_none() && functions.find(30 << 3 | 1).is_none());
        assert_eq!(functions.reached(0xc052, 1), None, "off");
        functions.find(30 << 3).unwrap().1.config_write(4, 2, 1);
        assert_eq!(functions.reached(0xc052, 1), Some((2, 0x12)));
        assert_eq!((functions.reached(0xc07f, 2), functions.reached(0x3f8, 1)), (None, None));
        functions.reset();
        assert_eq!(functions.reached(0xc052, 1), None);
        // The place goes with the function: a window of one is not another's.
        devices[1] = Device { range: Range { base: 0xc080, bytes: 0x80 }, function: 29 << 3, intid: 5, ..devices[2] };
        let mut functions = Functions::new(&devices);
        for (number, expected) in [(29 << 3, (1, Some(0x54))), (30 << 3, (2, None))] {
            let (place, function) = functions.find(number).unwrap();
            function.config_write(0x98, 4, 0x54);
            function.config_write(0x9c, 4, 1);
            assert_eq!((place, function.through_window(0xa0, 1)), expected);
        }
    }

    proptest! {
        /// Whatever is written wherever: command, line and the size's answer change, in their bits, and nothing else.
        #[test]
        fn no_write_changes_what_the_function_is(writes in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u32>()), 0..20)) {
            for (start, base) in [(fresh(), [0xc041, 0xffff_ffc1]), (modern(), [0xc081, 0xffff_ff81])] {
                let mut function = start;
                let is_modern = start == modern();
                for &(register, size, value) in &writes {
                    function.config_write(register % 0xb0, size % 6, value);
                    for word in (0..0x100_u16).step_by(4) {
                        let (now, first) = (function.config_read(word, 4), start.config_read(word, 4));
                        let may_change = match word {
                            0x04 => 0x5,
                            0x10 | 0x98 | 0x9c if word == 0x10 || is_modern => 0xffff_ffff,
                            0x94 if is_modern => 0xff,
                            0x3c => 0xff,
                            _ => 0,
                        };
                        prop_assert_eq!(now & !may_change, first & !may_change);
                    }
                    prop_assert!(base.contains(&function.config_read(0x10, 4)));
                    for size in 0..6 {
                        let reached = function.through_window(0xa0, size);
                        prop_assert!(reached.is_none_or(|first| is_modern && first + u64::from(size) <= 0x80));
                    }
                }
            }
        }
    }
}
