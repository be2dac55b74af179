//! The 16550 against a driver that does what Linux does, and against one that does not.

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
