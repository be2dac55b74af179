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
mod tests;
