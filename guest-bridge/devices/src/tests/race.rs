//! The device while the guest changes its rings: it is preempted between any two of its accesses, and each thing that it read is another one
//! the moment after. What it may do then follows from what it read once: each access is held against that.

use core::cell::RefCell;

use super::*;

const QUEUES: usize = 8;
/// What `virtqueue` takes of one chain.
const PARTS: usize = 16;
const CHAIN_BYTES: u64 = 1 << 20;
/// Where buffers lie, by queue.
const AREA: u64 = BASE + 0x8_0000;
const AREA_BYTES: u64 = 0x4000;
/// The most accesses that any one call of the device makes: eight queues, 64 chains each of 16 rows, with the ring's own.
const ACCESSES: usize = 8 * 64 * 24;
const PORTS: [&str; 2] = ["plant", "clock"];

/// Numbers by a linear congruence (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A chain as the device read it.
#[derive(Debug)]
struct Snapshot {
    head: u16,
    parts: Vec<(u64, u32)>,
    is_writable: bool,
    /// Bytes that the device wrote to it.
    written: u64,
}

impl Snapshot {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.1)).sum()
    }

    fn holds(&self, at: u64, length: usize) -> bool {
        let inside = |&(address, bytes): &(u64, u32)| {
            let end = at.checked_sub(address).and_then(|from| from.checked_add(length as u64));
            end.is_some_and(|end| end <= bytes.into())
        };
        self.parts.iter().any(inside)
    }
}

#[derive(Debug, Default)]
struct Counts {
    accesses: usize,
    changes: usize,
    chains: usize,
    buffers: usize,
    lines: usize,
    broken: usize,
}

/// The guest's memory, the guest, and what the device knows of it.
struct Race {
    memory: Memory,
    random: Random,
    /// By queue: the chain that the device holds, how many it took and gave back.
    held: [Option<Snapshot>; QUEUES],
    taken: [u16; QUEUES],
    given: [u16; QUEUES],
    /// The queue whose chain is being read, and the row that is next.
    fetching: Option<(usize, u16)>,
    /// The device was refused an access, or read what breaks the rules: it must not go on.
    must_stop: bool,
    accesses: usize,
    counts: Counts,
}

impl Race {
    /// What the device is about: the queue and the place among its rings.
    fn ring(at: u64) -> Option<(usize, u64)> {
        let offset = at.checked_sub(BASE).filter(|offset| *offset < QUEUES as u64 * 0x2000)?;
        Some((usize::try_from(offset / 0x2000).unwrap(), offset % 0x2000))
    }

    fn access(&mut self, at: u64, length: usize) {
        assert!(!self.must_stop, "an access at {at:#x} after one that was refused, or a rule that was broken");
        self.accesses += 1;
        assert!(self.accesses <= ACCESSES, "too long");
        if let Some((_, row)) = self.fetching {
            assert!(length == 16, "something else than row {row} of a chain: {at:#x}");
        }
    }

    /// A buffer of a chain that the device holds, in its direction.
    fn buffer(&mut self, at: u64, length: usize, is_write: bool) {
        self.counts.buffers += 1;
        let own = usize::try_from(at.wrapping_sub(AREA) / AREA_BYTES).ok().filter(|queue| *queue < QUEUES);
        let mut queues = own.into_iter().chain(0..QUEUES);
        let held = &mut self.held;
        let fits = |chain: &Snapshot| chain.is_writable == is_write && chain.holds(at, length);
        let queue = queues.find(|&queue| held[queue].as_ref().is_some_and(fits));
        let chain = queue.and_then(|queue| held[queue].as_mut());
        let Some(chain) = chain else {
            panic!("{length} bytes at {at:#x}, write: {is_write}, are in no chain as it was read: {held:x?}")
        };
        // What stands behind the end of a line is read again.
        chain.written += if is_write { length as u64 } else { 0 };
        assert!(chain.written <= chain.bytes(), "more than {chain:x?} has");
    }

    fn has_read(&mut self, from: u64, bytes: &[u8]) {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        match (Self::ring(from), bytes.len()) {
            (Some((queue, at @ 0..AVAILABLE)), 16) => {
                let row = u16::try_from(at / 16).unwrap();
                assert!(
                    at % 16 == 0 && self.fetching == Some((queue, row)),
                    "row {row} of {queue} is not the next one"
                );
                let address = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
                let (flags, next) = (half(12), half(14));
                let chain = self.held[queue].as_mut().unwrap();
                let (is_first, is_writable) = (chain.parts.is_empty(), flags & 2 != 0);
                chain.parts.push((address, length));
                let mixed = !is_first && chain.is_writable != is_writable;
                chain.is_writable = is_writable;
                let goes_on = flags & 1 != 0;
                let is_bad = flags & 4 != 0 || mixed || chain.bytes() > CHAIN_BYTES;
                self.must_stop = is_bad || goes_on && (next >= 64 || chain.parts.len() == PARTS);
                self.fetching = goes_on.then_some((queue, next));
                self.counts.chains += usize::from(!goes_on && !is_bad);
            }
            (Some((_, 0x402)), 2) => {}
            (Some((queue, at @ 0x404..0x484)), 2) => {
                assert_eq!(at - 0x404, u64::from(self.taken[queue] % 64) * 2, "its turn");
                assert!(self.held[queue].is_none(), "{queue}: it has not given back what it holds");
                self.taken[queue] = self.taken[queue].wrapping_add(1);
                let head = half(0);
                self.held[queue] = Some(Snapshot { head, parts: Vec::new(), is_writable: false, written: 0 });
                self.fetching = Some((queue, head));
                self.must_stop = head >= 64;
            }
            _ => self.buffer(from, bytes.len(), false),
        }
    }

    fn will_write(&mut self, to: u64, bytes: &[u8]) {
        match (Self::ring(to), bytes.len()) {
            (Some((_, 0x1000)), 2) => {}
            (Some((queue, 0x1002)), 2) => assert_eq!(bytes, self.given[queue].to_le_bytes()),
            (Some((queue, at @ 0x1004..0x1204)), 8) => {
                assert_eq!(at - 0x1004, u64::from(self.given[queue] % 64) * 8, "its turn");
                let chain = self.held[queue].take().expect("it holds what it gives back");
                assert_eq!(bytes[..4], u32::from(chain.head).to_le_bytes(), "{chain:x?}");
                assert_eq!(bytes[4..], u32::try_from(chain.written).unwrap().to_le_bytes(), "{chain:x?}");
                self.given[queue] = self.given[queue].wrapping_add(1);
            }
            _ => self.buffer(to, bytes.len(), true),
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.counts.changes += 1;
        self.memory.write(at, bytes).unwrap();
    }

    /// The guest changes what was just read, and something else.
    fn change(&mut self, read: Option<u64>) {
        if let Some((queue, at)) = read.and_then(Self::ring)
            && self.random.below(2) == 0
        {
            match at {
                0..AVAILABLE => self.change_row(queue, at / 16),
                0x402 => self.change_index(queue),
                _ => self.change_slot(queue, at),
            }
        }
        for _ in 0..self.random.below(3) {
            let queue = usize::try_from(self.random.below(QUEUES as u64)).unwrap();
            let (row, slot) = (self.random.below(6), self.random.below(64));
            match self.random.below(8) {
                0..4 => self.change_row(queue, row),
                4 => self.change_slot(queue, 0x404 + 2 * slot),
                5 | 6 => self.change_index(queue),
                _ => self.change_buffer(queue),
            }
        }
    }

    /// Mostly a buffer as the queue has them, with or without a next one.
    fn change_row(&mut self, queue: usize, row: u64) {
        let random = &mut self.random;
        let area = AREA + queue as u64 * AREA_BYTES;
        let address = match random.below(40) {
            0 => BASE + SIZE as u64 - random.below(64),
            1 => random.below(u64::MAX),
            2 => u64::MAX - random.below(64),
            3 => BASE - random.below(64),
            _ => area + random.below(64) * 64,
        };
        let length = match random.below(40) {
            0 => u32::MAX,
            1 => 0,
            2 => 1 << random.below(32),
            3..20 => 8,
            _ => u32::try_from(random.below(300)).unwrap(),
        };
        let is_receive = queue.is_multiple_of(2);
        let wrong = u16::from(random.below(30) == 0);
        let flags = u16::from(random.below(3) == 0) | (u16::from(is_receive) ^ wrong) << 1;
        let flags = if random.below(100) == 0 { flags | 4 } else { flags };
        let next = if random.below(60) == 0 { random.below(0x1_0000) } else { random.below(6) };
        let next = u16::try_from(next).unwrap();
        let at = Driver::ring(queue) + row * 16;
        match self.random.below(6) {
            0 => self.put(at, &address.to_le_bytes()),
            1 => self.put(at + 8, &length.to_le_bytes()),
            2 => self.put(at + 12, &flags.to_le_bytes()),
            3 => self.put(at + 14, &next.to_le_bytes()),
            _ => {
                let [f, n] = [flags, next].map(u16::to_le_bytes);
                self.put(at, &[&address.to_le_bytes()[..], &length.to_le_bytes(), &f, &n].concat());
            }
        }
    }

    fn change_index(&mut self, queue: usize) {
        let more = if self.random.below(200) == 0 { self.random.below(0x1_0000) } else { self.random.below(4) };
        let index = self.taken[queue].wrapping_add(u16::try_from(more).unwrap());
        self.put(Driver::ring(queue) + 0x402, &index.to_le_bytes());
    }

    fn change_slot(&mut self, queue: usize, at: u64) {
        let head = if self.random.below(100) == 0 { self.random.below(0x1_0000) } else { self.random.below(6) };
        self.put(Driver::ring(queue) + at, &u16::try_from(head).unwrap().to_le_bytes());
    }

    /// A control message, or a piece of a line.
    fn change_buffer(&mut self, queue: usize) {
        let (place, id, event, value) =
            (self.random.below(64) * 64, self.random.below(4), self.random.below(8), self.random.below(8));
        let message = id | event << 32 | u64::from(value > 0) << 48;
        let line = if value == 0 { *b"level\n\r\n" } else { *b"leveleve" };
        let bytes = if queue == 3 { message.to_le_bytes() } else { line };
        self.put(AREA + queue as u64 * AREA_BYTES + place, &bytes);
    }
}

impl SharedMem for RefCell<Race> {
    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
        let race = &mut *self.borrow_mut();
        race.access(from, into.len());
        let done = race.memory.read(from, into);
        race.has_read(from, into);
        race.must_stop |= done.is_err();
        race.change(Some(from));
        done
    }

    fn write(&mut self, to: u64, from: &[u8]) -> Result<(), OutOfRange> {
        let race = self.get_mut();
        race.access(to, from.len());
        race.will_write(to, from);
        let done = race.memory.write(to, from);
        race.must_stop |= done.is_err();
        race.change(None);
        done
    }
}

/// The driver resets the device and sets it up again, and it works as ever.
fn recover(driver: &mut Driver) {
    driver.memory.0[..QUEUES * 0x2000].fill(0);
    (driver.available, driver.used) = ([0; 24], [0; 24]);
    driver.bring_up(QUEUES);
    assert!(!driver.is_broken(), "a reset brings it back");
    (0..8).for_each(|_| driver.post(2));
    for port in 1..3 {
        driver.control(port, 6, 1);
        (0..4).for_each(|_| driver.post(2 + 2 * usize::try_from(port).unwrap()));
    }
    driver.send(5, b"level\n");
    assert_eq!((driver.line(), driver.line()), (Some((0, "level".into())), None), "as ever");
}

/// So many accesses of the guest to the device, each with all that the device does then.
fn race(by: By, seed: u64, turns: usize) -> Counts {
    let ((kick, kick_bytes), (status, status_bytes)) = match by {
        By::Mmio => ((0x50, 4), (STATUS, 4)),
        By::Legacy => ((0x10, 2), (0x12, 1)),
        By::Modern => ((0x30, 2), (0x54, 1)),
    };
    let mut driver = Driver::up_with_port_open(by, &PORTS);
    recover(&mut driver);
    let (mut random, mut counts) = (Random(seed), Counts::default());
    let mut turn = 0;
    while turn < turns {
        // From the set-up on until it breaks.
        let used = core::array::from_fn(|queue| driver.memory.read_u16(Driver::ring(queue) + 0x1002).unwrap());
        let mut memory = RefCell::new(Race {
            memory: Memory(core::mem::take(&mut driver.memory.0)),
            random: Random(random.below(u64::MAX)),
            held: [const { None }; QUEUES],
            taken: used,
            given: used,
            fetching: None,
            must_stop: false,
            accesses: 0,
            counts,
        });
        let console = &mut driver.console;
        loop {
            turn += 1;
            let race = memory.get_mut();
            race.accesses = 0;
            race.change(None);
            race.change(None);
            let queue = random.below(QUEUES as u64);
            match random.below(4) {
                0 | 1 => console.write(&mut memory, kick, kick_bytes, queue),
                2 => {
                    if let Some((port, line)) = console.take_line(&mut memory) {
                        assert!(line.bytes().len() <= crate::LINE_MAX && port < PORTS.len());
                        memory.get_mut().counts.lines += 1;
                        memory.get_mut().accesses = 0;
                        console.send(&mut memory, port, b"ok millimetres=1000\n");
                    }
                }
                _ => {
                    let length = usize::try_from(random.below(250)).unwrap();
                    console.send(&mut memory, usize::from(queue > 3), &[b'y'; 250][..length]);
                }
            }
            let race = memory.get_mut();
            race.counts.accesses += race.accesses;
            let is_broken = console.read(status, status_bytes) & 64 != 0;
            assert!(is_broken || !race.must_stop && race.fetching.is_none(), "it goes on after {:x?}", race.held);
            race.counts.broken += usize::from(is_broken);
            if is_broken || turn == turns {
                break;
            }
        }
        let race = memory.into_inner();
        (driver.memory, counts) = (race.memory, race.counts);
        recover(&mut driver);
    }
    counts
}

#[test]
fn a_ring_that_changes_between_any_two_accesses_leads_nowhere_but_where_it_led_when_it_was_read() {
    for (by, seed) in ALL.into_iter().zip(1..) {
        let counts = race(by, seed, if cfg!(miri) { 20 } else { 200_000 });
        if cfg!(miri) {
            continue;
        }
        assert!(counts.accesses > 500_000 && counts.changes > 1_000_000, "{by:?} {counts:?}");
        assert!(counts.chains > 80_000 && counts.buffers > 80_000 && counts.lines > 10_000, "{by:?} {counts:?}");
        assert!(counts.broken > 5_000, "{by:?} {counts:?}");
    }
}
