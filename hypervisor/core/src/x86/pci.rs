//! A PCI function that exists for the guest only: a virtio console with the legacy interface (virtio 1.2 §4.1.2, §4.1.4.8), as
//! its configuration space shows it (PCI 3.0 §6.1, §6.2). Constants, but for what a driver must be able to write and read
//! back; its ports never move. What its ports hold, an app answers.

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

/// Registers of the header, by their first byte.
mod register {
    pub(super) const COMMAND: u16 = 0x04;
    pub(super) const BASE: u16 = 0x10;
    pub(super) const LINE: u16 = 0x3c;
}

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
}

impl Function {
    /// A function with ports from `first` on, `count` of them (a power of two), and its interrupt's line; off, as at a machine's start.
    #[must_use]
    pub const fn new(first: u16, count: u16, line: u8) -> Self {
        Self { first, count, first_line: line, line, command: 0, is_sizing: false }
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
            register::COMMAND => self.command.into(),
            0x08 => CLASS,
            register::BASE => base & !3 | IS_PORTS,
            0x2c => SUBSYSTEM,
            register::LINE => PIN << 8 | u32::from(self.line),
            _ => 0,
        };
        word >> (8 * u32::from(register & 3)) & (u32::MAX >> (32 - 8 * u32::from(size)))
    }

    /// The guest writes `size` bytes of the configuration space. Command and line keep what they can; a whole base address
    /// of ones asks for the size; all else is dropped.
    pub fn config_write(&mut self, register: u16, size: u8, value: u32) {
        let [low, high, ..] = value.to_le_bytes();
        match (register, size) {
            (register::COMMAND, 2 | 4) => self.command = u16::from_le_bytes([low, high]) & (DECODE | MASTER),
            (register::COMMAND, 1) => self.command = u16::from(low) & (DECODE | MASTER),
            (register::BASE, 4) => self.is_sizing = value == u32::MAX,
            (register::LINE, 1 | 2 | 4) => self.line = low,
            _ => {}
        }
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

    /// The function that the guest finds at a place of the bus.
    pub fn find(&mut self, number: u16) -> Option<&mut Function> {
        self.0.iter_mut().flatten().find(|(known, _)| *known == number).map(|(_, function)| function)
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
    use super::*;
    use proptest::prelude::*;

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
        functions.find(30 << 3).unwrap().config_write(4, 2, 1);
        assert_eq!(functions.reached(0xc052, 1), Some((2, 0x12)));
        assert_eq!((functions.reached(0xc07f, 2), functions.reached(0x3f8, 1)), (None, None));
        functions.reset();
        assert_eq!(functions.reached(0xc052, 1), None);
    }

    proptest! {
        /// Whatever is written wherever: command, line and the size's answer change, in their bits, and nothing else.
        #[test]
        fn no_write_changes_what_the_function_is(writes in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u32>()), 0..20)) {
            let mut function = fresh();
            for (register, size, value) in writes {
                function.config_write(register % 0x48, size % 6, value);
                for word in (0..0x100_u16).step_by(4) {
                    let (now, first) = (function.config_read(word, 4), fresh().config_read(word, 4));
                    let may_change = match word { 0x04 => 0x5, 0x10 => 0xffff_ffff, 0x3c => 0xff, _ => 0 };
                    prop_assert_eq!(now & !may_change, first & !may_change);
                }
                prop_assert!(matches!(function.config_read(0x10, 4), 0xc041 | 0xffff_ffc1));
            }
        }
    }
}
