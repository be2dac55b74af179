//! The two interfaces of a PCI function, by drivers that keep no order and no widths, and by both at once.

use super::*;

#[test]
fn a_legacy_driver_that_keeps_no_order_is_held_to_its_own_memory() {
    let up = || Driver::up_with_port_open(By::Legacy, &["plant"]);
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
        (0x2c, 1),
        (0x3f, 1),
        (u64::MAX, 4),
    ] {
        assert_eq!(driver.port(offset, bytes), u64::MAX, "{offset:#x}, {bytes}");
        driver.write_port(offset, bytes, 0);
        driver.write_port(offset, bytes, u64::MAX);
    }
    for (offset, bytes) in [(0, 4), (0xc, 2), (0x13, 1), (0x18, 4)] {
        driver.write_port(offset, bytes, 0);
    }
    assert_eq!((driver.status(), driver.port(0xc, 2)), (3, 0), "the queue selected last is beyond the last");
    driver.write_port(0xe, 2, 0xffff);
    driver.write_port(8, 4, 1);
    assert_eq!((driver.port(8, 4), driver.port(0xc, 2)), (0, 0));
    driver.kick(0xffff);
    driver.write_port(4, 4, 0xffff_ffff);
    assert_eq!(driver.port(4, 4), 2, "what was not offered is not accepted");
    driver.send(5, b"level\n");
    assert_eq!(driver.line(), Some((0, "level".into())), "nothing of all that did harm");

    driver.write_port(0xe, 2, 5);
    driver.write_port(8, 4, 0x123);
    assert_eq!(driver.port(8, 4), Driver::ring(5) / 4096, "a queue that is there stays");
    driver.send(5, b"one\ntwo\n");
    assert_eq!(driver.line(), Some((0, "one".into())));
    driver.write_port(8, 4, 0);
    assert_eq!((driver.line(), driver.port(8, 4), driver.is_broken()), (None, 0, false), "gone with what it held");
    driver.kick(5);
    assert_eq!((driver.line(), driver.is_broken()), (None, false));

    for (queue, is_at_once) in [(4, true), (5, false)] {
        let mut driver = up();
        driver.write_port(0xe, 2, queue);
        driver.write_port(8, 4, 0);
        driver.write_port(8, 4, 0xffff_ffff);
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
    let mut driver = Driver::up_with_port_open(By::Legacy, &["plant"]);
    driver.set_status(0);
    driver.set_status(1);
    driver.send(5, b"level\n");
    assert_eq!(driver.line(), None);
    driver.console.reset();
    assert_eq!((driver.status(), driver.port(8, 4)), (0, 0));
}

/// The modern interface's registers: offset, bytes.
const MODERN: [(u64, u64); 22] = [
    (0x34, 1),
    (0x40, 4),
    (0x44, 4),
    (0x48, 4),
    (0x4c, 4),
    (0x50, 2),
    (0x52, 2),
    (0x54, 1),
    (0x55, 1),
    (0x56, 2),
    (0x58, 2),
    (0x5a, 2),
    (0x5c, 2),
    (0x5e, 2),
    (0x60, 4),
    (0x64, 4),
    (0x68, 4),
    (0x6c, 4),
    (0x70, 4),
    (0x74, 4),
    // Beyond the common configuration: the device's own.
    (0x20, 4),
    (0x24, 4),
];

#[test]
fn a_modern_register_answers_in_its_own_size_only() {
    let mut driver = Driver::up_with_port_open(By::Modern, &["plant"]);
    let before: Vec<u64> = MODERN.iter().map(|&(offset, bytes)| driver.port(offset, bytes)).collect();
    assert!(before.iter().zip(MODERN).all(|(&value, (_, bytes))| value < 1 << (8 * bytes)), "{before:x?}");
    for (offset, bytes) in (0x2c..0x90_u64).flat_map(|offset| [1, 2, 3, 4, 8].map(|bytes| (offset, bytes))) {
        if MODERN.contains(&(offset, bytes)) || (offset, bytes) == (0x30, 2) {
            continue;
        }
        assert_eq!(driver.port(offset, bytes), u64::MAX, "{offset:#x}, {bytes}");
        driver.write_port(offset, bytes, 0);
        driver.write_port(offset, bytes, u32::MAX.into());
    }
    // What only tells is not written either.
    for (offset, bytes) in [(0x34, 1), (0x44, 4), (0x52, 2), (0x55, 1), (0x5e, 2), (0x20, 4), (0x24, 4), (0x28, 4)] {
        driver.write_port(offset, bytes, 0);
        driver.write_port(offset, bytes, u32::MAX.into());
    }
    let after: Vec<u64> = MODERN.iter().map(|&(offset, bytes)| driver.port(offset, bytes)).collect();
    // The interrupt's status was read, and with that cleared.
    assert_eq!((before[0], after[0], &before[1..]), (1, 0, &after[1..]));
    driver.send(5, b"level\n");
    assert_eq!(driver.line(), Some((0, "level".into())));
}

#[test]
fn a_modern_driver_that_keeps_no_order_is_held_to_what_it_negotiated() {
    // Kicked, and used, before DRIVER_OK: nothing, as often as it is tried.
    let mut driver = Driver::new(By::Modern, &["plant"]);
    driver.set_status(3);
    driver.write_port(0x56, 2, 5);
    driver.write_port(0x60, 4, Driver::ring(5));
    driver.write_port(0x68, 4, Driver::ring(5) + AVAILABLE);
    driver.write_port(0x70, 4, Driver::ring(5) + 0x1000);
    driver.write_port(0x5c, 2, 1);
    driver.send(5, b"level\n");
    assert_eq!((driver.line(), driver.is_broken()), (None, false));
    // A queue that is enabled stays where it is, and as large; so do features once they were accepted.
    let mut driver = Driver::up_with_port_open(By::Modern, &["plant"]);
    driver.write_port(0x56, 2, 5);
    for (offset, bytes) in [(0x58, 2), (0x5c, 2), (0x60, 4), (0x64, 4), (0x68, 4), (0x70, 4), (0x4c, 4)] {
        let before = driver.port(offset, bytes);
        driver.write_port(offset, bytes, 0);
        driver.write_port(offset, bytes, 8);
        assert_eq!(driver.port(offset, bytes), before, "{offset:#x}");
    }
    // A queue beyond the last, a kick of none.
    driver.write_port(0x56, 2, 0xffff);
    driver.write_port(0x5c, 2, 1);
    assert_eq!(driver.port(0x5c, 2), 0);
    driver.kick(0xffff);
    driver.send(5, b"level\n");
    assert_eq!(driver.line(), Some((0, "level".into())), "nothing of all that did harm");
    // Sizes that are none, and a ring beyond all memory.
    driver.set_status(0);
    driver.write_port(0x56, 2, 4);
    for size in [0, 3, 65, 128, 0xffff] {
        driver.write_port(0x58, 2, size);
        assert_eq!(driver.port(0x58, 2), 64, "{size}");
    }
    driver.write_port(0x58, 2, 16);
    assert_eq!(driver.port(0x58, 2), 16);
    driver.write_port(0x74, 4, 0xffff_ffff);
    driver.write_port(0x70, 4, 0xffff_ffff);
    driver.write_port(0x5c, 2, 1);
    assert!(driver.is_broken() && driver.console.take_interrupt());
    assert_eq!(driver.take_reason() & 2, 2);
    driver.set_status(0);
    assert_eq!((driver.is_broken(), driver.port(0x58, 2)), (false, 64), "as large as ever after a reset");
}

/// What the registers that a driver writes hold, each half's by itself.
fn state(driver: &mut Driver, queue: u64) -> Vec<u64> {
    let select = driver.port(0x56, 2);
    let (_, modern) = MODERN.split_at(1);
    let state: Vec<u64> = modern
        .iter()
        .chain(&[(4, 4), (8, 4), (0xe, 2), (0x12, 1)])
        .map(|&(at, bytes)| driver.port(at, bytes))
        .collect();
    assert_eq!(select, queue);
    state
}

#[test]
fn the_half_that_is_written_first_drives_and_the_other_can_only_reset() {
    for (by, other) in [(By::Modern, By::Legacy), (By::Legacy, By::Modern)] {
        let mut driver = Driver::up_with_port_open(by, &["plant"]);
        let (select, first, end) = if by == By::Modern { (0x56, 0, 0x14) } else { (0xe, 0x30, 0x78) };
        driver.write_port(select, 2, 5);
        let before = state(&mut driver, 5);
        for (offset, bytes) in (first..end).flat_map(|offset| [1, 2, 4].map(|bytes| (offset, bytes))) {
            let status = if by == By::Modern { 0x12 } else { 0x54 };
            for value in [0, 1, 4, 7, 0xf, 0x80, 0xffff_ffff] {
                if (offset, bytes, value) != (status, 1, 0) {
                    driver.write_port(offset, bytes, value);
                }
            }
        }
        assert_eq!(state(&mut driver, 5), before, "{by:?}");
        assert!(!driver.is_broken());
        driver.send(5, b"level\n");
        assert_eq!(driver.line(), Some((0, "level".into())), "{by:?}");
        // A kernel that the first one starts, with the other driver.
        driver.by = other;
        driver.memory = Memory(std::vec![0; SIZE]);
        (driver.available, driver.used) = ([0; 24], [0; 24]);
        driver.bring_up(6);
        (0..4).for_each(|_| driver.post(4));
        (0..4).for_each(|_| driver.post(2));
        driver.control(u32::MAX, 0, 1);
        driver.control(1, 6, 1);
        driver.send(5, b"state\n");
        assert_eq!(driver.line(), Some((0, "state".into())), "{other:?}");
    }
}
