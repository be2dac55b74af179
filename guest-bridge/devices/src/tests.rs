//! The device against a driver that does what Linux does, and against one that does not.

extern crate std;

mod pci;
mod race;

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

/// What a driver drives the device by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Mmio,
    Legacy,
    Modern,
}

const ALL: [By; 3] = [By::Mmio, By::Legacy, By::Modern];

/// A driver: queue `q` has its rings at `BASE + q * 0x2000`, laid out as the legacy interface wants them, its buffers at `BASE +
/// 0x80000 + q * 0x4000`.
struct Driver {
    by: By,
    console: Console,
    memory: Memory,
    available: [u16; 24],
    used: [u16; 24],
}

const STATUS: u64 = 0x70;
/// Where a queue's available ring begins.
const AVAILABLE: u64 = 16 * 64;

impl Driver {
    fn new(by: By, names: &[&str]) -> Self {
        let interface = if by == By::Mmio { Interface::Mmio } else { Interface::Pci };
        let console = Console::new(interface, names.iter().copied());
        Self { by, console, memory: Memory(std::vec![0; SIZE]), available: [0; 24], used: [0; 24] }
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.console.write(&mut self.memory, offset, 4, value);
    }

    fn read(&mut self, offset: u64) -> u64 {
        self.console.read(offset, 4)
    }

    fn port(&mut self, offset: u64, bytes: u64) -> u64 {
        self.console.read(offset, bytes)
    }

    fn write_port(&mut self, offset: u64, bytes: u64, value: u64) {
        self.console.write(&mut self.memory, offset, bytes, value);
    }

    fn status(&mut self) -> u64 {
        match self.by {
            By::Mmio => self.read(STATUS),
            By::Legacy => self.port(0x12, 1),
            By::Modern => self.port(0x54, 1),
        }
    }

    fn set_status(&mut self, value: u64) {
        match self.by {
            By::Mmio => self.write(STATUS, value),
            By::Legacy => self.write_port(0x12, 1, value),
            By::Modern => self.write_port(0x54, 1, value),
        }
    }

    fn kick(&mut self, queue: u64) {
        match self.by {
            By::Mmio => self.write(0x50, queue),
            By::Legacy => self.write_port(0x10, 2, queue),
            By::Modern => self.write_port(0x30, 2, queue),
        }
    }

    /// Reads why it interrupted, and acknowledges it.
    fn take_reason(&mut self) -> u64 {
        match self.by {
            By::Mmio => {}
            By::Legacy => return self.port(0x13, 1),
            By::Modern => return self.port(0x34, 1),
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
        assert_eq!(self.port(0, 4), 2, "MULTIPORT, and no VERSION_1");
        self.write_port(4, 4, 2);
        for queue in 0..queues {
            self.write_port(0xe, 2, queue as u64);
            assert_eq!((self.port(0xc, 2), self.port(8, 4)), (64, 0));
            self.write_port(8, 4, Self::ring(queue) / 4096);
            assert_eq!(self.port(8, 4), Self::ring(queue) / 4096);
        }
        self.write_port(0xe, 2, queues as u64);
        assert_eq!(self.port(0xc, 2), 0, "no such queue");
    }

    /// As Linux's virtio_pci_modern does: features by halves, FEATURES_OK read back, each queue's place by halves, then all enabled.
    fn bring_up_modern(&mut self, queues: usize) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.set_status(1);
        self.set_status(3);
        for (half, offered) in [(0, 2), (1, 1), (2, 0)] {
            self.write_port(0x40, 4, half);
            assert_eq!((self.port(0x40, 4), self.port(0x44, 4)), (half, offered), "MULTIPORT, VERSION_1");
            self.write_port(0x48, 4, half);
            self.write_port(0x4c, 4, offered);
            assert_eq!((self.port(0x48, 4), self.port(0x4c, 4)), (half, offered));
        }
        self.set_status(0xb);
        assert_eq!((self.status(), self.port(0x55, 1)), (0xb, 0), "accepted; the configuration has not changed");
        assert_eq!(self.port(0x52, 2), queues as u64);
        self.write_port(0x50, 2, 0);
        assert_eq!(self.port(0x50, 2), 0xffff, "no vector");
        for queue in 0..queues {
            self.write_port(0x56, 2, queue as u64);
            assert_eq!((self.port(0x56, 2), self.port(0x58, 2), self.port(0x5c, 2)), (queue as u64, 64, 0));
            assert_eq!((self.port(0x5a, 2), self.port(0x5e, 2)), (0xffff, 0), "no vector, one place to kick at");
            self.write_port(0x58, 2, 64);
            for (offset, place) in [(0x60, 0), (0x68, AVAILABLE), (0x70, 0x1000)] {
                self.write_port(offset, 4, Self::ring(queue) + place);
                self.write_port(offset + 4, 4, 1);
                assert_eq!((self.port(offset, 4), self.port(offset + 4, 4)), (Self::ring(queue) + place, 1));
                self.write_port(offset + 4, 4, 0);
            }
        }
        for queue in 0..queues {
            self.write_port(0x56, 2, queue as u64);
            self.write_port(0x5c, 2, 1);
            assert_eq!(self.port(0x5c, 2), 1);
        }
        self.write_port(0x56, 2, queues as u64);
        assert_eq!((self.port(0x58, 2), self.port(0x5c, 2)), (0, 0), "no such queue");
        self.set_status(0xf);
    }

    /// The order of facts that Linux 6.1 was seen to keep.
    fn bring_up(&mut self, queues: usize) {
        match self.by {
            By::Mmio => {}
            By::Legacy => return self.bring_up_legacy(queues),
            By::Modern => return self.bring_up_modern(queues),
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

    fn up_with_port_open(by: By, names: &[&str]) -> Self {
        let mut driver = Self::new(by, names);
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
    for by in ALL {
        let mut driver = Driver::new(by, &["plant", "clock"]);
        driver.bring_up(8);
        let first = match by {
            By::Mmio => 0x100,
            By::Legacy => 0x14,
            By::Modern => 0x20,
        };
        let bytes: Vec<u64> = (first..first + 12).map(|offset| driver.port(offset, 1)).collect();
        assert_eq!(bytes, [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0], "columns, rows, max_nr_ports, emergency write");
        assert_eq!((driver.port(first + 4, 4), driver.port(first + 4, 2)), (3, 3));
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
    for by in ALL {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
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
    for by in ALL {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
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
    for by in ALL {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
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
    for by in ALL {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
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
    for by in ALL {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
        driver.set_status(0);
        assert_eq!((driver.status(), driver.take_reason()), (0, 0));
        driver.send(5, b"level\n");
        assert_eq!(driver.line(), None);
    }
}

#[test]
fn without_version_1_or_with_unknown_features_nothing_works() {
    for (low, high) in [(2, 0), (2 | 1 << 29, 1)] {
        for (by, select, feature) in [(By::Mmio, 0x24, 0x20), (By::Modern, 0x48, 0x4c)] {
            let mut driver = Driver::new(by, &["plant"]);
            driver.set_status(3);
            driver.write(feature, low);
            driver.write(select, 1);
            driver.write(feature, high);
            driver.set_status(0xf);
            assert_eq!(driver.status() & 0xc, 0, "{by:?}");
        }
    }
}

#[test]
fn accesses_of_other_widths_and_places_read_as_ones_and_write_nothing() {
    let mut driver = Driver::new(By::Mmio, &["plant"]);
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
    for (by, (what, act)) in ALL.into_iter().flat_map(|by| hostile.map(|case| (by, case))) {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
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
    let mut driver = Driver::new(By::Mmio, &["plant"]);
    driver.write(0x30, 4);
    driver.write(0xa0, 0x10);
    driver.write(0x44, 1);
    assert!(driver.is_broken());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]

    /// Whatever is written wherever, nothing panics and nothing takes long.
    #[test]
    fn no_guest_can_break_the_model(
        by in prop::sample::select(&ALL[..]),
        writes in prop::collection::vec((0_u64..0x120, any::<u32>(), any::<bool>(), 1_u64..5), 0..40),
        memory in prop::collection::vec((0..0x1_4000_usize, any::<u8>()), 0..200),
    ) {
        let mut driver = Driver::up_with_port_open(by, &["plant", "clock"]);
        for (at, value) in memory {
            driver.memory.0[at] = value;
        }
        for (offset, value, is_small, bytes) in writes {
            let value = if is_small { value % 12 } else { value };
            if by == By::Mmio {
                driver.write(offset & !3, value.into());
            } else {
                let _ = driver.port(offset % 0x84, bytes);
                driver.write_port(offset % 0x84, bytes, value.into());
            }
            for _ in 0..100 {
                let Some((port, _)) = driver.console.take_line(&mut driver.memory) else { break };
                driver.console.send(&mut driver.memory, port, b"ok\n");
            }
        }
    }
}
