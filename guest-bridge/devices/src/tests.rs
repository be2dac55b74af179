//! The device against a driver that does what Linux does, and against one that does not.

extern crate std;

use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;

use crate::{Console, Interface, OutOfRange, SharedMem};

const BASE: u64 = 0x4000_0000;
const SIZE: usize = 1 << 20;

struct Memory(Vec<u8>);

impl Memory {
    fn range(&self, at: u64, length: usize) -> Result<core::ops::Range<usize>, OutOfRange> {
        let start = usize::try_from(at.checked_sub(BASE).ok_or(OutOfRange)?).map_err(|_| OutOfRange)?;
        let end = start.checked_add(length).filter(|&end| end <= self.0.len()).ok_or(OutOfRange)?;
        Ok(start..end)
    }
}

impl SharedMem for Memory {
    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
        into.copy_from_slice(&self.0[self.range(from, into.len())?]);
        Ok(())
    }
    fn write(&mut self, to: u64, from: &[u8]) -> Result<(), OutOfRange> {
        let range = self.range(to, from.len())?;
        self.0[range].copy_from_slice(from);
        Ok(())
    }
}

const BOTH: [Interface; 2] = [Interface::Mmio, Interface::LegacyPci];

/// A driver: queue `q` has its rings at `BASE + q * 0x2000`, laid out as the legacy interface wants them, its buffers at `BASE +
/// 0x80000 + q * 0x4000`.
struct Driver {
    interface: Interface,
    console: Console,
    memory: Memory,
    available: [u16; 24],
    used: [u16; 24],
}

const STATUS: u64 = 0x70;
/// Where a queue's available ring begins.
const AVAILABLE: u64 = 16 * 64;

impl Driver {
    fn new(interface: Interface, names: &[&str]) -> Self {
        let console = Console::new(interface, names.iter().copied());
        Self { interface, console, memory: Memory(std::vec![0; SIZE]), available: [0; 24], used: [0; 24] }
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.console.write(&mut self.memory, offset, 4, value);
    }

    fn read(&mut self, offset: u64) -> u64 {
        self.console.read(offset, 4)
    }

    fn legacy(&mut self, offset: u64, bytes: u64) -> u64 {
        self.console.read(offset, bytes)
    }

    fn write_legacy(&mut self, offset: u64, bytes: u64, value: u64) {
        self.console.write(&mut self.memory, offset, bytes, value);
    }

    fn status(&mut self) -> u64 {
        match self.interface {
            Interface::Mmio => self.read(STATUS),
            Interface::LegacyPci => self.legacy(0x12, 1),
        }
    }

    fn set_status(&mut self, value: u64) {
        match self.interface {
            Interface::Mmio => self.write(STATUS, value),
            Interface::LegacyPci => self.write_legacy(0x12, 1, value),
        }
    }

    fn kick(&mut self, queue: u64) {
        match self.interface {
            Interface::Mmio => self.write(0x50, queue),
            Interface::LegacyPci => self.write_legacy(0x10, 2, queue),
        }
    }

    /// Reads why it interrupted, and acknowledges it.
    fn take_reason(&mut self) -> u64 {
        if self.interface == Interface::LegacyPci {
            return self.legacy(0x13, 1);
        }
        let reason = self.read(0x60);
        self.write(0x64, reason);
        reason
    }

    fn ring(queue: usize) -> u64 {
        BASE + queue as u64 * 0x2000
    }

    /// As Linux's virtio_pci_legacy does: features without FEATURES_OK, queues by page, the device used before DRIVER_OK (as
    /// kernels up to 3.17 do).
    fn bring_up_legacy(&mut self, queues: usize) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.set_status(1);
        self.set_status(3);
        assert_eq!(self.legacy(0, 4), 2, "MULTIPORT, and no VERSION_1");
        self.write_legacy(4, 4, 2);
        for queue in 0..queues {
            self.write_legacy(0xe, 2, queue as u64);
            assert_eq!((self.legacy(0xc, 2), self.legacy(8, 4)), (64, 0));
            self.write_legacy(8, 4, Self::ring(queue) / 4096);
            assert_eq!(self.legacy(8, 4), Self::ring(queue) / 4096);
        }
        self.write_legacy(0xe, 2, queues as u64);
        assert_eq!(self.legacy(0xc, 2), 0, "no such queue");
    }

    /// The order of facts that Linux 6.1 was seen to keep.
    fn bring_up(&mut self, queues: usize) {
        if self.interface == Interface::LegacyPci {
            return self.bring_up_legacy(queues);
        }
        assert_eq!((self.read(0), self.read(4), self.read(8)), (0x7472_6976, 2, 3));
        self.write(STATUS, 0);
        self.write(STATUS, 1);
        self.write(STATUS, 3);
        self.write(0x14, 1);
        assert_eq!(self.read(0x10), 1, "VERSION_1");
        self.write(0x14, 0);
        assert_eq!(self.read(0x10), 2, "MULTIPORT");
        self.write(0x24, 1);
        self.write(0x20, 1);
        self.write(0x24, 0);
        self.write(0x20, 2);
        self.write(STATUS, 0xb);
        assert_eq!(self.read(STATUS), 0xb);
        for queue in 0..queues {
            self.write(0x30, queue as u64);
            assert_eq!((self.read(0x44), self.read(0x34)), (0, 64));
            self.write(0x38, 64);
            for (offset, place) in [(0x80, 0), (0x90, AVAILABLE), (0xa0, 0x1000)] {
                self.write(offset, Self::ring(queue) + place);
                self.write(offset + 4, 0);
            }
            self.write(0x44, 1);
        }
        self.write(STATUS, 0xf);
    }

    fn descriptor(&mut self, queue: usize, index: u64, row: (u64, u32, u16, u16)) {
        let at = Self::ring(queue) + index * 16;
        self.memory.write(at, &row.0.to_le_bytes()).unwrap();
        self.memory.write(at + 8, &row.1.to_le_bytes()).unwrap();
        self.memory.write_u16(at + 12, row.2).unwrap();
        self.memory.write_u16(at + 14, row.3).unwrap();
    }

    fn offer(&mut self, queue: usize, head: u16) {
        let slot = u64::from(self.available[queue] % 64);
        self.memory.write_u16(Self::ring(queue) + AVAILABLE + 4 + slot * 2, head).unwrap();
        self.available[queue] += 1;
        let index = self.available[queue];
        self.memory.write_u16(Self::ring(queue) + AVAILABLE + 2, index).unwrap();
    }

    fn buffer(queue: usize, head: u16) -> u64 {
        BASE + 0x8_0000 + queue as u64 * 0x4000 + u64::from(head) * 256
    }

    /// Posts a buffer of 256 bytes for the device to write to.
    fn post(&mut self, queue: usize) {
        let head = self.available[queue] % 64;
        self.descriptor(queue, head.into(), (Self::buffer(queue, head), 256, 2, 0));
        self.offer(queue, head);
    }

    fn send(&mut self, queue: usize, bytes: &[u8]) {
        let head = self.available[queue] % 64;
        self.memory.write(Self::buffer(queue, head), bytes).unwrap();
        self.descriptor(queue, head.into(), (Self::buffer(queue, head), u32::try_from(bytes.len()).unwrap(), 0, 0));
        self.offer(queue, head);
        self.kick(queue as u64);
    }

    fn control(&mut self, id: u32, event: u16, value: u16) {
        let message = [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat();
        self.send(3, &message);
    }

    /// The next buffer that the device wrote.
    fn received(&mut self, queue: usize) -> Option<Vec<u8>> {
        let index = self.memory.read_u16(Self::ring(queue) + 0x1002).unwrap();
        if index == self.used[queue] {
            return None;
        }
        let mut row = [0; 8];
        self.memory.read(Self::ring(queue) + 0x1004 + u64::from(self.used[queue] % 64) * 8, &mut row).unwrap();
        self.used[queue] += 1;
        let (head, length) = (u16::from_le_bytes([row[0], row[1]]), usize::from(u16::from_le_bytes([row[4], row[5]])));
        let mut bytes = std::vec![0; length];
        self.memory.read(Self::buffer(queue, head), &mut bytes).unwrap();
        Some(bytes)
    }

    fn up_with_port_open(interface: Interface, names: &[&str]) -> Self {
        let mut driver = Self::new(interface, names);
        driver.bring_up(4 + 2 * names.len());
        (0..8).for_each(|_| driver.post(2));
        (0..4).for_each(|_| driver.post(4));
        driver.control(u32::MAX, 0, 1);
        driver.control(1, 3, 1);
        driver.control(1, 6, 1);
        driver
    }

    fn line(&mut self) -> Option<(usize, String)> {
        let (port, line) = self.console.take_line(&mut self.memory)?;
        Some((port, String::from_utf8(line.bytes().to_vec()).unwrap()))
    }

    fn is_broken(&mut self) -> bool {
        self.status() & 64 != 0
    }
}

#[test]
fn a_driver_is_told_each_port_and_its_name() {
    for interface in BOTH {
        let mut driver = Driver::new(interface, &["plant", "clock"]);
        driver.bring_up(8);
        if interface == Interface::Mmio {
            assert_eq!(driver.read(0x104), 3, "max_nr_ports");
        } else {
            let bytes: Vec<u64> = (0x14..0x20).map(|offset| driver.legacy(offset, 1)).collect();
            assert_eq!(bytes, [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0], "columns, rows, max_nr_ports, emergency write");
            assert_eq!((driver.legacy(0x18, 4), driver.legacy(0x18, 2)), (3, 3));
        }
        driver.control(u32::MAX, 0, 1);
        assert_eq!(driver.received(2), None, "held back until there are buffers");
        (0..8).for_each(|_| driver.post(2));
        driver.kick(2);
        assert_eq!(driver.received(2).unwrap(), [1, 0, 0, 0, 1, 0, 1, 0]);
        assert_eq!(driver.received(2).unwrap(), [2, 0, 0, 0, 1, 0, 1, 0]);
        driver.control(2, 3, 1);
        assert_eq!(driver.received(2).unwrap(), [&[2, 0, 0, 0, 7, 0, 1, 0], &b"clock"[..]].concat());
        assert_eq!(driver.received(2).unwrap(), [2, 0, 0, 0, 6, 0, 1, 0]);
        assert!(driver.console.take_interrupt() && !driver.console.take_interrupt());
        assert_eq!((driver.take_reason(), driver.take_reason()), (1, 0));
    }
}

#[test]
fn a_line_goes_in_and_its_answer_comes_out() {
    for interface in BOTH {
        let mut driver = Driver::up_with_port_open(interface, &["plant"]);
        driver.send(5, b"lev");
        assert_eq!(driver.line(), None, "half a line");
        driver.send(5, b"el\r\nstate\n");
        assert_eq!(driver.line(), Some((0, "level".into())));
        assert!(driver.console.send(&mut driver.memory, 0, b"ok millimetres=1000\n"));
        assert_eq!(driver.received(4).unwrap(), b"ok millimetres=1000\n");
        assert_eq!(driver.line(), Some((0, "state".into())));
        assert_eq!(driver.line(), None);
    }
}

#[test]
fn a_long_line_is_reported_and_the_next_one_is_whole() {
    for interface in BOTH {
        let mut driver = Driver::up_with_port_open(interface, &["plant"]);
        driver.send(5, &[b'x'; 200]);
        driver.send(5, &[b'x'; 200]);
        driver.send(5, b"\nlevel\n");
        let (_, line) = driver.console.take_line(&mut driver.memory).unwrap();
        assert!(line.is_too_long);
        assert_eq!(driver.line(), Some((0, "level".into())));
    }
}

#[test]
fn a_client_that_stops_reading_is_not_served_until_it_reads() {
    for interface in BOTH {
        let mut driver = Driver::up_with_port_open(interface, &["plant"]);
        driver.send(5, b"a\nb\nc\nd\ne\nf\n");
        let mut served = 0;
        while driver.line().is_some() {
            served += 1;
            driver.console.send(&mut driver.memory, 0, &[b'y'; 250]);
        }
        assert_eq!(served, 5, "four answers fill the posted buffers, the fifth waits");
        driver.post(4);
        driver.kick(4);
        assert!(driver.line().is_some(), "one buffer more is one answer taken");
    }
}

#[test]
fn closing_drops_half_a_line_and_data_on_a_closed_port_is_dropped() {
    for interface in BOTH {
        let mut driver = Driver::up_with_port_open(interface, &["plant"]);
        driver.send(5, b"half");
        assert_eq!(driver.line(), None);
        driver.control(1, 6, 0);
        driver.send(5, b"lost\n");
        assert_eq!(driver.line(), None);
        driver.control(1, 6, 1);
        driver.control(1, 6, 1);
        driver.send(5, b"level\n");
        assert_eq!(driver.line(), Some((0, "level".into())));
    }
}

#[test]
fn a_reset_forgets_the_driver() {
    for interface in BOTH {
        let mut driver = Driver::up_with_port_open(interface, &["plant"]);
        driver.set_status(0);
        assert_eq!((driver.status(), driver.take_reason()), (0, 0));
        driver.send(5, b"level\n");
        assert_eq!(driver.line(), None);
    }
}

#[test]
fn without_version_1_or_with_unknown_features_nothing_works() {
    for (low, high) in [(2, 0), (2 | 1 << 29, 1)] {
        let mut driver = Driver::new(Interface::Mmio, &["plant"]);
        driver.write(STATUS, 3);
        driver.write(0x20, low);
        driver.write(0x24, 1);
        driver.write(0x20, high);
        driver.write(STATUS, 0xf);
        assert_eq!(driver.read(STATUS) & 0xc, 0);
    }
}

#[test]
fn accesses_of_other_widths_and_places_read_as_ones_and_write_nothing() {
    let mut driver = Driver::new(Interface::Mmio, &["plant"]);
    for (offset, bytes) in [(0, 1), (0, 8), (2, 4), (0x1fe, 4), (0x200, 4), (u64::MAX, 8)] {
        assert_eq!(driver.console.read(offset, bytes), u64::MAX);
        driver.console.write(&mut driver.memory, offset, bytes, u64::MAX);
    }
    assert_eq!(driver.read(STATUS), 0);
}

#[test]
fn rings_that_break_the_rules_stop_the_device_until_a_reset() {
    type Act = fn(&mut Driver);
    let hostile: [(&str, Act); 7] = [
        ("head beyond the ring", |driver| driver.offer(5, 64)),
        ("a loop", |driver| {
            driver.descriptor(5, 0, (Driver::buffer(5, 0), 1, 1, 0));
            driver.offer(5, 0);
        }),
        ("next beyond the ring", |driver| {
            driver.descriptor(5, 0, (Driver::buffer(5, 0), 1, 1, 900));
            driver.offer(5, 0);
        }),
        ("huge length", |driver| {
            driver.descriptor(5, 0, (Driver::buffer(5, 0), u32::MAX, 0, 0));
            driver.offer(5, 0);
        }),
        ("memory of somebody else", |driver| {
            driver.descriptor(5, 0, (0x1000, 16, 0, 0));
            driver.offer(5, 0);
        }),
        ("across the end of memory", |driver| {
            driver.descriptor(5, 0, (BASE + SIZE as u64 - 8, 16, 0, 0));
            driver.offer(5, 0);
        }),
        ("more available than the ring holds", |driver| {
            driver.memory.write_u16(Driver::ring(5) + AVAILABLE + 2, 65).unwrap();
        }),
    ];
    for (interface, (what, act)) in BOTH.into_iter().flat_map(|interface| hostile.map(|case| (interface, case))) {
        let mut driver = Driver::up_with_port_open(interface, &["plant"]);
        act(&mut driver);
        driver.kick(5);
        assert!(driver.line().is_none() && driver.is_broken(), "{what}");
        assert!(driver.console.take_interrupt(), "{what}");
        driver.set_status(0);
        assert!(!driver.is_broken(), "{what}");
    }
}

#[test]
fn a_ring_outside_memory_breaks_the_device_when_it_is_made_ready() {
    let mut driver = Driver::new(Interface::Mmio, &["plant"]);
    driver.write(0x30, 4);
    driver.write(0xa0, 0x10);
    driver.write(0x44, 1);
    assert!(driver.is_broken());
}

#[test]
fn a_legacy_driver_that_keeps_no_order_is_held_to_its_own_memory() {
    let up = || Driver::up_with_port_open(Interface::LegacyPci, &["plant"]);
    let mut driver = up();
    for (offset, bytes) in [
        (0, 1),
        (0, 2),
        (0, 8),
        (2, 4),
        (4, 2),
        (8, 2),
        (0xc, 4),
        (0x10, 4),
        (0x12, 2),
        (0x13, 2),
        (0x15, 2),
        (0x20, 1),
        (0x3f, 1),
        (u64::MAX, 4),
    ] {
        assert_eq!(driver.legacy(offset, bytes), u64::MAX, "{offset:#x}, {bytes}");
        driver.write_legacy(offset, bytes, 0);
        driver.write_legacy(offset, bytes, u64::MAX);
    }
    for (offset, bytes) in [(0, 4), (0xc, 2), (0x13, 1), (0x18, 4)] {
        driver.write_legacy(offset, bytes, 0);
    }
    assert_eq!((driver.status(), driver.legacy(0xc, 2)), (3, 0), "the queue selected last is beyond the last");
    driver.write_legacy(0xe, 2, 0xffff);
    driver.write_legacy(8, 4, 1);
    assert_eq!((driver.legacy(8, 4), driver.legacy(0xc, 2)), (0, 0));
    driver.kick(0xffff);
    driver.write_legacy(4, 4, 0xffff_ffff);
    assert_eq!(driver.legacy(4, 4), 2, "what was not offered is not accepted");
    driver.send(5, b"level\n");
    assert_eq!(driver.line(), Some((0, "level".into())), "nothing of all that did harm");

    driver.write_legacy(0xe, 2, 5);
    driver.write_legacy(8, 4, 0x123);
    assert_eq!(driver.legacy(8, 4), Driver::ring(5) / 4096, "a queue that is there stays");
    driver.send(5, b"one\ntwo\n");
    assert_eq!(driver.line(), Some((0, "one".into())));
    driver.write_legacy(8, 4, 0);
    assert_eq!((driver.line(), driver.legacy(8, 4), driver.is_broken()), (None, 0, false), "gone with what it held");
    driver.kick(5);
    assert_eq!((driver.line(), driver.is_broken()), (None, false));

    for (queue, is_at_once) in [(4, true), (5, false)] {
        let mut driver = up();
        driver.write_legacy(0xe, 2, queue);
        driver.write_legacy(8, 4, 0);
        driver.write_legacy(8, 4, 0xffff_ffff);
        assert_eq!(driver.is_broken(), is_at_once, "a page out of memory");
        driver.kick(queue);
        assert!(driver.line().is_none() && driver.is_broken() && driver.console.take_interrupt(), "{queue}");
        assert_eq!(driver.take_reason() & 2, 2);
        driver.set_status(0);
        driver.bring_up(6);
        assert!(!driver.is_broken());
    }
}

#[test]
fn a_legacy_device_does_nothing_before_a_driver_says_that_it_is_there() {
    let mut driver = Driver::up_with_port_open(Interface::LegacyPci, &["plant"]);
    driver.set_status(0);
    driver.set_status(1);
    driver.send(5, b"level\n");
    assert_eq!(driver.line(), None);
    driver.console.reset();
    assert_eq!((driver.status(), driver.legacy(8, 4)), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]

    /// Whatever is written wherever, nothing panics and nothing takes long.
    #[test]
    fn no_guest_can_break_the_model(
        is_legacy in any::<bool>(),
        writes in prop::collection::vec((0_u64..0x120, any::<u32>(), any::<bool>(), 1_u64..5), 0..40),
        memory in prop::collection::vec((0..0x1_4000_usize, any::<u8>()), 0..200),
    ) {
        let interface = BOTH[usize::from(is_legacy)];
        let mut driver = Driver::up_with_port_open(interface, &["plant", "clock"]);
        for (at, value) in memory {
            driver.memory.0[at] = value;
        }
        for (offset, value, is_small, bytes) in writes {
            let value = if is_small { value % 12 } else { value };
            if is_legacy {
                let _ = driver.legacy(offset % 0x40, bytes);
                driver.write_legacy(offset % 0x24, bytes, value.into());
            } else {
                driver.write(offset & !3, value.into());
            }
            for _ in 0..100 {
                let Some((port, _)) = driver.console.take_line(&mut driver.memory) else { break };
                driver.console.send(&mut driver.memory, port, b"ok\n");
            }
        }
    }
}
