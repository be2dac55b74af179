//! A 16550A (National Semiconductor PC16550D data sheet, June 1995) whose other end is a service: what the guest sends is cut into lines,
//! and answers come in as fast as it reads. Rates and formats are kept, and change nothing. Sections below are the data sheet's (§8).

use crate::line::Line;

/// How many registers it has.
const REGISTERS: u64 = 8;
/// Bytes that the receiver holds (§8.4).
const FIFO: usize = 16;
/// Bytes of answers that wait for room there: four lines.
const OUTPUT: usize = 1024;

/// Interrupts that can be enabled (§8.7).
mod enable {
    pub(super) const RECEIVED: u8 = 1 << 0;
    pub(super) const EMPTY: u8 = 1 << 1;
    pub(super) const LINE: u8 = 1 << 2;
    pub(super) const MODEM: u8 = 1 << 3;
}

/// What the identification register says of the first interrupt that is pending (§8.6, table IV).
mod cause {
    pub(super) const MODEM: u8 = 0x0;
    pub(super) const NONE: u8 = 0x1;
    pub(super) const EMPTY: u8 = 0x2;
    pub(super) const RECEIVED: u8 = 0x4;
    pub(super) const LINE: u8 = 0x6;
    /// Fewer bytes than the trigger level, and no more are coming.
    pub(super) const TIMEOUT: u8 = 0xc;
}

/// The modem control register (§8.8).
mod control {
    /// OUT 2: a PC's gate between the chip and its interrupt line.
    pub(super) const OUT2: u8 = 1 << 3;
    pub(super) const LOOP: u8 = 1 << 4;
    pub(super) const ALL: u8 = 0x1f;
}

/// Divisor latch access (§8.1).
const DIVISOR: u8 = 1 << 7;
/// Line status (§8.5): data ready, overrun; holding register and transmitter are empty always.
const READY: u8 = 1 << 0;
const OVERRUN: u8 = 1 << 1;
const IDLE: u8 = 3 << 5;
/// Modem status (§8.9): clear to send, data set ready, carrier: the other end is always there.
const PRESENT: u8 = 0xb0;
/// Ring indicator.
const RING: u8 = 1 << 6;

/// The device.
#[derive(Debug)]
pub struct Uart {
    enabled: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: [u8; 2],
    has_fifo: bool,
    /// How many received bytes interrupt.
    trigger: usize,
    received: [u8; FIFO],
    received_length: usize,
    /// Something that was sent to the guest is lost.
    has_overrun: bool,
    /// The holding register became empty, and nobody was told.
    is_empty_untold: bool,
    /// The low half of the modem status: what changed since it was read.
    changes: u8,
    /// The line that is being sent, and the one that was sent.
    line: Line,
    sent: Option<Line>,
    output: [u8; OUTPUT],
    output_length: usize,
    /// The state of the interrupt line, and whether it has risen.
    is_raised: bool,
    must_interrupt: bool,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// As at power-on (§8, table II).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            enabled: 0,
            line_control: 0,
            modem_control: 0,
            scratch: 0,
            divisor: [0; 2],
            has_fifo: false,
            trigger: 1,
            received: [0; FIFO],
            received_length: 0,
            has_overrun: false,
            is_empty_untold: false,
            changes: 0,
            line: Line::EMPTY,
            sent: None,
            output: [0; OUTPUT],
            output_length: 0,
            is_raised: false,
            must_interrupt: false,
        }
    }

    /// As at power-on.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// The guest reads: several bytes are as many registers, as the bus of a PC has it. All ones for what does not lie within them.
    #[must_use]
    pub fn read(&mut self, offset: u64, bytes: u64) -> u64 {
        if !is_inside(offset, bytes) {
            return u64::MAX;
        }
        let value = (0..bytes).fold(0, |value, at| value | u64::from(self.read_register(offset + at)) << (8 * at));
        self.settle();
        value
    }

    /// The guest writes. A line that it ended is fetched by [`Uart::take_line`] afterwards; one access ends one at the most.
    pub fn write(&mut self, offset: u64, bytes: u64, value: u64) {
        if is_inside(offset, bytes) {
            (offset..offset + bytes).zip(value.to_le_bytes()).for_each(|(at, byte)| self.write_register(at, byte));
            self.settle();
        }
    }

    /// The line that the guest ended, if it did.
    pub const fn take_line(&mut self) -> Option<Line> {
        self.sent.take()
    }

    /// Sends an answer to the guest. One for which there is no room, as the guest does not read, is lost whole: an overrun.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.output.get_mut(self.output_length..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.output_length += bytes.len();
            }
            None => self.has_overrun = true,
        }
        self.settle();
    }

    /// Whether the interrupt line has risen; the answer is given once.
    pub const fn take_interrupt(&mut self) -> bool {
        core::mem::replace(&mut self.must_interrupt, false)
    }

    fn read_register(&mut self, register: u64) -> u8 {
        let has_divisor = self.line_control & DIVISOR != 0;
        let [low, high] = self.divisor;
        match register {
            0 if has_divisor => low,
            1 if has_divisor => high,
            0 => self.take_received(),
            1 => self.enabled,
            2 => {
                let cause = self.cause();
                // Reading it is how the guest is told (§8.6).
                self.is_empty_untold &= cause != cause::EMPTY;
                cause | if self.has_fifo { 0xc0 } else { 0 }
            }
            3 => self.line_control,
            4 => self.modem_control,
            5 => {
                let overrun = if core::mem::take(&mut self.has_overrun) { OVERRUN } else { 0 };
                let ready = if self.received_length != 0 { READY } else { 0 };
                IDLE | overrun | ready
            }
            6 => self.modem_status() | core::mem::take(&mut self.changes),
            _ => self.scratch,
        }
    }

    fn write_register(&mut self, register: u64, value: u8) {
        let has_divisor = self.line_control & DIVISOR != 0;
        let [low, high] = &mut self.divisor;
        match register {
            0 if has_divisor => *low = value,
            1 if has_divisor => *high = value,
            0 => self.transmit(value),
            1 => {
                // The holding register is empty: to enable its interrupt raises it.
                self.is_empty_untold |= value & !self.enabled & enable::EMPTY != 0;
                self.enabled = value & 0xf;
            }
            2 => self.write_fifo_control(value),
            3 => self.line_control = value,
            4 => {
                let before = self.modem_status();
                self.modem_control = value & control::ALL;
                let (now, changed) = (self.modem_status(), before ^ self.modem_status());
                // The ring indicator counts when it ends (§8.9).
                self.changes |= (changed & !RING | before & !now & RING) >> 4;
            }
            7 => self.scratch = value,
            // The status registers are written in the factory alone (§8.5, §8.9).
            _ => {}
        }
    }

    /// §8.4. Each of the two queues can be emptied, and both are where the mode changes: with what is received go the answers that are on
    /// their way, with what is sent goes the half line. A driver does both when a program opens the port.
    fn write_fifo_control(&mut self, value: u8) {
        let has_fifo = value & 1 != 0;
        let is_other = has_fifo != self.has_fifo;
        self.has_fifo = has_fifo;
        let empties = |bit: u8| is_other || has_fifo && value & bit != 0;
        if empties(1 << 1) {
            (self.received_length, self.output_length) = (0, 0);
        }
        if empties(1 << 2) {
            self.line = Line::EMPTY;
        }
        self.trigger = match value >> 6 {
            1 if has_fifo => 4,
            2 if has_fifo => 8,
            3 if has_fifo => 14,
            _ => 1,
        };
    }

    /// A byte leaves at once, to the other end or back to the receiver (§8.8), and the holding register is empty again.
    fn transmit(&mut self, byte: u8) {
        self.is_empty_untold = true;
        if self.is_looped() {
            if !self.has_fifo {
                // There is one place, and the newer byte takes it.
                self.has_overrun |= core::mem::take(&mut self.received_length) != 0;
            }
            self.receive(byte);
            return;
        }
        match byte {
            b'\n' | b'\r' if self.line.is_empty() => {}
            b'\n' | b'\r' => self.sent = Some(core::mem::replace(&mut self.line, Line::EMPTY)),
            _ => self.line.put(byte),
        }
    }

    fn receive(&mut self, byte: u8) {
        match self.received.get_mut(self.received_length) {
            Some(slot) => {
                *slot = byte;
                self.received_length += 1;
            }
            None => self.has_overrun = true,
        }
    }

    fn take_received(&mut self) -> u8 {
        let Some(rest) = self.received_length.checked_sub(1) else { return 0 };
        self.received_length = rest;
        let [first, ..] = self.received;
        self.received.copy_within(1.., 0);
        first
    }

    const fn is_looped(&self) -> bool {
        self.modem_control & control::LOOP != 0
    }

    /// The high half of the modem status: the other end, or in a loop the guest's own outputs (§8.8).
    const fn modem_status(&self) -> u8 {
        if !self.is_looped() {
            return PRESENT;
        }
        let outputs = self.modem_control;
        (outputs & 2) << 3 | (outputs & 1) << 5 | (outputs & 0xc) << 4
    }

    /// The first interrupt that is pending and enabled.
    const fn cause(&self) -> u8 {
        match self.enabled {
            enabled if enabled & enable::LINE != 0 && self.has_overrun => cause::LINE,
            enabled if enabled & enable::RECEIVED != 0 && self.received_length >= self.trigger => cause::RECEIVED,
            enabled if enabled & enable::RECEIVED != 0 && self.received_length != 0 => cause::TIMEOUT,
            enabled if enabled & enable::EMPTY != 0 && self.is_empty_untold => cause::EMPTY,
            enabled if enabled & enable::MODEM != 0 && self.changes != 0 => cause::MODEM,
            _ => cause::NONE,
        }
    }

    /// After each access: answers move up, and the interrupt line is as it must be.
    fn settle(&mut self) {
        let room = if self.has_fifo { FIFO } else { 1 };
        let count =
            if self.is_looped() { 0 } else { room.saturating_sub(self.received_length).min(self.output_length) };
        for at in 0..count {
            self.output.get(at).copied().into_iter().for_each(|byte| self.receive(byte));
        }
        self.output.copy_within(count..self.output_length, 0);
        self.output_length -= count;
        let is_gated = self.modem_control & control::OUT2 == 0 || self.is_looped();
        let is_raised = !is_gated && self.cause() != cause::NONE;
        self.must_interrupt |= is_raised && !self.is_raised;
        self.is_raised = is_raised;
    }
}

/// Whether an access lies within the registers.
const fn is_inside(offset: u64, bytes: u64) -> bool {
    bytes != 0 && bytes <= REGISTERS && offset <= REGISTERS - bytes
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    const DATA: u64 = 0;
    const ENABLE: u64 = 1;
    const IDENTIFY: u64 = 2;
    const FIFO_CONTROL: u64 = 2;
    const LINE_CONTROL: u64 = 3;
    const MODEM_CONTROL: u64 = 4;
    const LINE_STATUS: u64 = 5;
    const MODEM_STATUS: u64 = 6;

    impl Uart {
        fn get(&mut self, register: u64) -> u64 {
            self.read(register, 1)
        }

        fn set(&mut self, register: u64, value: u64) {
            self.write(register, 1, value);
        }

        /// As a driver that is told nothing: what it reads until there is no more.
        fn drain(&mut self) -> String {
            let mut all = Vec::new();
            while self.get(LINE_STATUS) & 1 != 0 {
                all.push(u8::try_from(self.get(DATA)).unwrap());
            }
            String::from_utf8(all).unwrap()
        }

        fn say(&mut self, text: &str) -> Vec<String> {
            let mut lines = Vec::new();
            for byte in text.bytes() {
                assert_eq!(self.get(LINE_STATUS) & 0x60, 0x60, "there is always room");
                self.set(DATA, byte.into());
                lines.extend(self.take_line().map(|line| String::from_utf8(line.bytes().to_vec()).unwrap()));
            }
            lines
        }
    }

    /// What Linux's 8250 driver does with a port that it does not know (drivers/tty/serial/8250: autoconfig, autoconfig_16550a).
    fn probe(uart: &mut Uart) -> &'static str {
        let kept = uart.get(ENABLE);
        uart.set(ENABLE, 0);
        let none = uart.get(ENABLE) & 0xf;
        uart.set(ENABLE, 0xf);
        let all = uart.get(ENABLE) & 0xf;
        uart.set(ENABLE, kept);
        if none != 0 || all != 0xf {
            return "nothing";
        }
        let kept = uart.get(MODEM_CONTROL);
        uart.set(MODEM_CONTROL, 0x1a);
        let looped = uart.get(MODEM_STATUS) & 0xf0;
        uart.set(MODEM_CONTROL, kept);
        if looped != 0x90 {
            return "no loop";
        }
        // The enhanced features of later chips lie where the FIFO's control is.
        uart.set(LINE_CONTROL, 0xbf);
        uart.set(FIFO_CONTROL, 0);
        uart.set(LINE_CONTROL, 0);
        uart.set(FIFO_CONTROL, 1);
        let kind = uart.get(IDENTIFY) >> 6;
        if kind != 3 {
            return "no 16550A";
        }
        for access in [0x80, 0xbf] {
            uart.set(LINE_CONTROL, access);
            if uart.get(IDENTIFY) == 0 {
                return "something later";
            }
        }
        uart.set(LINE_CONTROL, 0);
        let control = uart.get(MODEM_CONTROL);
        uart.set(LINE_CONTROL, 0xe0);
        let extended = uart.get(IDENTIFY);
        uart.set(LINE_CONTROL, 0);
        if (extended ^ control) & 0x10 != 0 {
            return "a super I/O";
        }
        uart.set(ENABLE, 0x40);
        let later = uart.get(ENABLE);
        uart.set(ENABLE, 0);
        if later != 0 { "something later" } else { "16550A" }
    }

    /// As the driver opens it (serial8250_do_startup): empties, looks, and asks whether the transmitter's interrupt can be trusted.
    fn open(uart: &mut Uart) {
        for control in [1, 7, 0] {
            uart.set(FIFO_CONTROL, control);
        }
        for register in [LINE_STATUS, DATA, IDENTIFY, MODEM_STATUS] {
            assert_ne!(uart.get(register), 0xff);
        }
        uart.set(LINE_CONTROL, 3);
        uart.set(MODEM_CONTROL, 8);
        for _ in 0..2 {
            uart.set(ENABLE, 2);
            assert!(uart.take_interrupt(), "the transmitter is idle");
            assert_eq!((uart.get(LINE_STATUS) & 0x40, uart.get(IDENTIFY) & 0xf), (0x40, 2));
            assert_eq!(uart.get(IDENTIFY) & 0xf, 1, "it was told");
            uart.set(ENABLE, 0);
        }
        uart.set(FIFO_CONTROL, 0x81);
        uart.set(ENABLE, 5);
        uart.set(MODEM_CONTROL, 0xb);
    }

    fn opened() -> Uart {
        let mut uart = Uart::new();
        open(&mut uart);
        assert!(!uart.take_interrupt());
        uart
    }

    #[test]
    fn linux_finds_a_16550a_and_opens_it() {
        let mut uart = Uart::new();
        assert_eq!(probe(&mut uart), "16550A");
        open(&mut uart);
        assert_eq!(uart.say("plant.level\r\n\n"), ["plant.level"], "an empty line is none");
        uart.send(b"ok millimetres=1000\n");
        assert_eq!(uart.drain(), "ok millimetres=1000\n");
    }

    #[test]
    fn its_divisor_lies_behind_a_bit_and_changes_nothing() {
        let mut uart = opened();
        uart.set(LINE_CONTROL, 0x83);
        uart.write(0, 2, 0x0c01);
        assert_eq!((uart.read(0, 2), uart.take_line().is_none()), (0x0c01, true));
        uart.set(LINE_CONTROL, 3);
        assert_eq!(uart.get(ENABLE), 5);
        assert_eq!(uart.say("a\n"), ["a"]);
    }

    #[test]
    fn received_bytes_interrupt_at_their_level_and_the_last_ones_by_a_timeout() {
        let mut uart = opened();
        uart.send(&[b'x'; 20]);
        assert!(uart.take_interrupt() && !uart.take_interrupt(), "it has risen once");
        assert_eq!(uart.get(IDENTIFY), 0xc4);
        for _ in 0..12 {
            assert_eq!(uart.get(DATA), u64::from(b'x'));
        }
        assert_eq!((uart.get(IDENTIFY), uart.take_interrupt()), (0xc4, false), "it is up still: 8 are left");
        uart.get(DATA);
        assert_eq!(uart.get(IDENTIFY), 0xcc, "fewer than the level, and no more are coming");
        assert_eq!(uart.drain().len(), 7);
        assert_eq!(uart.get(IDENTIFY), 0xc1);
        uart.send(b"y");
        assert!(uart.take_interrupt(), "it rises again");
        uart.set(ENABLE, 0);
        uart.set(ENABLE, 5);
        assert!(uart.take_interrupt(), "enabled while something waits");
    }

    #[test]
    fn without_its_gate_or_in_a_loop_the_line_stays_low() {
        let mut uart = opened();
        for gated in [0x03, 0x1b] {
            uart.set(MODEM_CONTROL, gated);
            uart.send(b"x");
            assert!(!uart.take_interrupt(), "{gated:#x}");
        }
        uart.set(MODEM_CONTROL, 0x0b);
        assert!(uart.take_interrupt());
    }

    #[test]
    fn an_answer_that_nobody_reads_is_lost_whole_and_said_to_be() {
        let mut uart = opened();
        for _ in 0..5 {
            uart.send(&[b'a'; 256]);
        }
        assert_eq!(uart.get(IDENTIFY), 0xc6, "an overrun comes first");
        assert_eq!((uart.get(LINE_STATUS), uart.get(LINE_STATUS)), (0x63, 0x61));
        assert_eq!(uart.drain().len(), 1024);
        uart.send(b"b");
        assert_eq!(uart.drain(), "b");
    }

    #[test]
    fn who_empties_the_queues_starts_anew() {
        let mut uart = opened();
        assert!(uart.say("half").is_empty());
        uart.send(b"an answer to somebody else\n");
        uart.set(FIFO_CONTROL, 0x87);
        assert_eq!(uart.drain(), "");
        assert_eq!(uart.say("whole\n"), ["whole"]);
        uart.say("half");
        uart.send(b"x");
        uart.set(FIFO_CONTROL, 0);
        assert_eq!(uart.drain(), "", "another mode");
        assert_eq!(uart.say("whole\n"), ["whole"]);
        uart.send(b"xy");
        assert_eq!(
            (uart.get(IDENTIFY), uart.get(DATA), uart.get(DATA)),
            (4, u64::from(b'x'), u64::from(b'y')),
            "one at a time"
        );
    }

    #[test]
    fn a_loop_brings_back_what_is_sent_and_keeps_it_from_the_other_end() {
        let mut uart = opened();
        uart.set(MODEM_CONTROL, 0x10);
        for byte in b"loop\nloop\nloop\nl" {
            uart.set(DATA, (*byte).into());
        }
        assert_eq!((uart.get(LINE_STATUS) & 3, uart.take_line().is_none()), (1, true));
        uart.set(DATA, 0x20);
        assert_eq!(uart.get(LINE_STATUS) & 3, 3, "the seventeenth");
        assert_eq!(uart.drain(), "loop\nloop\nloop\nl");
        assert_eq!(uart.get(MODEM_STATUS), 0x0b, "carrier, ready and clear fell");
        for (outputs, inputs) in [(0x11, 0x22), (0x12, 0x13), (0x14, 0x41), (0x18, 0x8c), (0x1f, 0xf3)] {
            uart.set(MODEM_CONTROL, outputs);
            assert_eq!(uart.get(MODEM_STATUS), inputs, "{outputs:#x}");
        }
        uart.set(FIFO_CONTROL, 0);
        uart.set(DATA, 1);
        uart.set(DATA, 2);
        assert_eq!((uart.get(LINE_STATUS) & 3, uart.get(DATA)), (3, 2), "without queues the newer one stays");
    }

    #[test]
    fn an_access_is_that_of_its_bytes_and_none_runs_over_the_end() {
        let mut uart = opened();
        uart.write(7, 1, 0x5a);
        assert_eq!((uart.read(7, 1), uart.read(6, 2), uart.read(4, 4)), (0x5a, 0x5ab0, 0x5ab0_600b));
        for (offset, bytes) in [(7, 2), (5, 4), (8, 1), (0, 0), (u64::MAX, 2), (0, 9), (1, u64::MAX)] {
            assert_eq!(uart.read(offset, bytes), u64::MAX);
            uart.write(offset, bytes, 0);
        }
        assert_eq!(uart.read(7, 1), 0x5a);
    }

    #[test]
    fn a_line_that_is_too_long_is_told_and_ends() {
        let mut uart = opened();
        uart.say(&"x".repeat(5000));
        uart.set(DATA, 10);
        assert!(uart.take_line().is_some_and(|line| line.is_too_long && line.bytes().len() == 256));
        assert_eq!(uart.say("y\n"), ["y"]);
    }

    proptest! {
        /// Whatever is done in whatever order: no panic, no more bytes received than there is room for, at most one line an access, and
        /// the interrupt line is up exactly while something enabled is pending and the gate is open.
        #[test]
        fn no_guest_can_break_it(steps in prop::collection::vec((0_u8..8, 0_u64..10, 0_u64..6, any::<u64>()), 0..300)) {
            let mut uart = Uart::new();
            for (kind, offset, bytes, value) in steps {
                match kind {
                    0 => uart.send(&std::vec![b'a'; usize::try_from(value % 257).unwrap()]),
                    1..4 => {
                        let read = uart.read(offset, bytes);
                        prop_assert!(!is_inside(offset, bytes) || bytes == 8 || read >> (8 * bytes) == 0);
                    }
                    _ => uart.write(offset, bytes, value),
                }
                let room = if uart.has_fifo { FIFO } else { 1 };
                prop_assert!(uart.received_length <= room);
                prop_assert!(uart.output_length <= OUTPUT && uart.line.bytes().len() <= 256);
                let is_open = uart.modem_control & 0x18 == 8;
                prop_assert_eq!(uart.is_raised, is_open && uart.cause() != cause::NONE);
                uart.take_line();
                prop_assert!(uart.take_line().is_none());
            }
        }

        /// What is answered comes out as it went in, however it is read.
        #[test]
        fn answers_come_whole_and_in_order(texts in prop::collection::vec("[a-z]{1,40}", 1..30), has_fifo: bool) {
            let mut uart = opened();
            uart.set(FIFO_CONTROL, u64::from(has_fifo));
            for text in &texts {
                uart.send(text.as_bytes());
                prop_assert_eq!(&uart.drain(), text);
            }
        }
    }
}
