//! Ports.

use bulkhead_guests_x86_64::{Clock, attempt, in8, out8, service_call};

use crate::access::{SCRATCH, map_block, read_port, write_port};
use crate::report::{ONES, PAGE, PROTECTION, Report};

/// Ports that the site gives to the guest, by the first and how many: one-byte reads of them are answered.
const DECLARED: [(u16, u16); 16] = [
    (0x20, 2),
    (0x40, 4),
    (0x60, 2),
    (0x64, 1),
    (0x71, 1),
    (0x80, 1),
    (0xa0, 2),
    (0x3f8, 8),
    (0x4d0, 2),
    (0x600, 4),
    (0x608, 4),
    (0x620, 16),
    (0xb000, 4),
    (0xb008, 4),
    (0xc080, 0x80),
    (0x604, 0),
];

pub(crate) fn ports(report: &mut Report, plant: u64) {
    for bytes in [1, 2, 4] {
        let ones = u64::MAX >> (64 - 8 * bytes);
        // Those of PCI's configuration and of ACPI's control are wider, and looked at below.
        let is_nobodys = |port: &u16| {
            let reached = (0..bytes).map(|place| port.wrapping_add(place));
            let is_special = bytes > 1 && matches!(*port, 0xcf8..=0xcff | 0x604 | 0xb004);
            !is_special && reached.into_iter().all(|port| !holds(&DECLARED, port))
        };
        let wrong = (0..=u16::MAX).filter(is_nobodys).filter(|port| read_port(*port, bytes) != ones);
        let what = ["X01 65,536 ports, bytes", "X01 words", "X01 double words"][usize::from(bytes / 2)];
        report.none(what, "D", wrong);
    }
    // Those that are the guest's answer as they do without the wall.
    for (port, value) in [(0x3ff, 0xa5), (0x3ff, 0x5a), (0x21, 0xfb), (0xa1, 0xfe), (0x21, 0xff), (0xa1, 0xff)] {
        out8(port, value);
        report.equal("X01 a declared port", "OK", in8(port).into(), value.into());
    }
    // Written: a zero asks for no reset where resets are asked for.
    let is_free =
        |port: &u16| !matches!(*port, 0xcf8..=0xcff | 0x600..=0x607 | 0xb000..=0xb007) && !holds(&DECLARED, *port);
    (0..=u16::MAX).filter(is_free).for_each(|port| write_port(port, 1, 0));
    report.equal("X01 65,536 ports, written", "D", read_port(0x300, 1), 0xff);
    // Over both ends of COM1: its scratch register, the last, is not written in part.
    out8(0x3ff, 0x5a);
    for (port, bytes) in [(0x3ff, 2), (0x3ff, 4), (0x3fd, 4), (0x3f7, 2), (0x3f6, 4)] {
        write_port(port, bytes, 0xa5a5_a5a5);
        report.equal("X02 over an end of COM1", "D", read_port(port, bytes), u64::MAX >> (64 - 8 * u32::from(bytes)));
    }
    report.equal("X02 COM1's last register", "D", in8(0x3ff).into(), 0x5a);
    for port in 0xfffd..=0xffff {
        report.equal("X03 over the end of all ports", "D", read_port(port, 4), ONES);
    }
    let at = &raw mut SCRATCH as u64;
    // SAFETY: what is read goes to memory of this program's own, if anything is.
    let strings = unsafe {
        [
            attempt!("insb", in("dx") 0x300_u16, inout("rdi") at => _),
            attempt!("rep insd", in("dx") 0x300_u16, inout("rdi") at => _, inout("rcx") 1_u64 << 32 => _),
            attempt!("outsb", in("dx") 0x300_u16, inout("rsi") at => _),
            attempt!("rep outsw", in("dx") 0xb2_u16, inout("rsi") at => _, inout("rcx") u64::MAX => _),
            // The destination is nobody's.
            attempt!("insb", in("dx") 0x64_u16, inout("rdi") 0xd000_0000_u64 => _),
        ]
    };
    for got in strings {
        report.equal("X04 a string of a refused port", "F(#GP)", got, PROTECTION);
    }
    // Of a port that is the guest's, which no exit looks at: to nobody's memory, to memory that is read only, over the end of what is mapped.
    let edge = 0x280_0000_u64;
    let (vector, left, place): (u64, u64, u64);
    // SAFETY: the page after the edge holds nothing of this program and is mapped again; four bytes before it are nobody's.
    let refused = unsafe {
        let before = map_block(edge, 0);
        vector =
            attempt!("rep insb", in("dx") 0x3ff_u16, inout("rdi") edge - 4 => place, inout("rcx") 1_u64 << 32 => left);
        map_block(edge, before);
        [
            attempt!("insb", in("dx") 0x3ff_u16, inout("rdi") 0xd000_0000_u64 => _),
            attempt!("rep insb", in("dx") 0x3ff_u16, inout("rdi") 0xf_0000_u64 => _, inout("rcx") u64::MAX => _),
            attempt!("outsb", in("dx") 0x3ff_u16, inout("rsi") 0xd000_0000_u64 => _),
        ]
    };
    report.none(
        "X05 a string to and from nobody's memory",
        "F(#GP)",
        refused.into_iter().filter(|got| *got != PROTECTION),
    );
    report.equal("X04 a string over the end of what is mapped", "F(#PF)", vector, PAGE);
    report.equal("X04 how far it came", "OK", place, edge);
    report.equal("X04 how much is left", "OK", left, (1 << 32) - 4);
    clocks_and_keys(report, plant);
    // System management, reset but for the ways that the policy gives, the NMI's mask. The standing condition tells.
    for (port, bytes, value) in [
        (0xb2, 1, 0xff),
        (0xb2, 2, 2),
        (0xb3, 1, 1),
        (0x92, 1, 0x2),
        (0xcf9, 1, 0x2),
        (0x70, 1, 0x8f),
        (0x70, 2, 0x8f),
        (0x6e, 4, u32::MAX),
        (0x64, 1, 0xd1),
    ] {
        write_port(port, bytes, value);
    }
    report.equal("X55, X56, X57 SMI ports, reset ports, NMI mask", "D", read_port(0xb2, 1), 0xff);
}

/// What has side effects by a command: the clock's index, whose highest bit shuts NMI off; the timer; the keyboard's controller.
fn clocks_and_keys(report: &mut Report, plant: u64) {
    out8(0x70, 0xb);
    let before = in8(0x71);
    // The index stays, and with it what is read.
    for index in [0x8f_u8, 0x80, 0xff] {
        out8(0x70, index);
        report.equal("X57 the NMI's mask with an index", "D", in8(0x71).into(), before.into());
    }
    for index in 0..0x80 {
        out8(0x70, index);
        let _ = in8(0x71);
    }
    // Every counter in every mode, with the shortest periods. The first interrupts, and not with the shortest: with a period of one tick QEMU's CPU was seen to
    // stand still for tenths of a second at exits of the secure side, until the wall took the secure kernel for hung (hypervisor/DESIGN.md, known gaps).
    for mode in (0..12).map(|mode| mode << 1 & 0xe) {
        for (counter, period) in [(0_u8, 64), (1, 1), (2, 1)] {
            out8(0x43, counter << 6 | 0x30 | mode);
            out8(0x40 + u16::from(counter), period);
            out8(0x40 + u16::from(counter), 0);
        }
    }
    // The first goes on: it keeps the secure side from nothing.
    let (is_svm, mut clock) = (report.is_svm, Clock::new());
    let failed = (1..=20).filter(|turn| {
        clock.wait_milliseconds(50 * turn);
        service_call(is_svm, plant, [0; 6])[0] != 0
    });
    report.none("X57 calls while the timer ticks", "OK", failed);
    for gate in [0, 1, 2, 3, 0] {
        out8(0x61, gate);
    }
    // Counters that the guest sees as it left them: it is the machine's timer, and not the wall's.
    out8(0x43, 0x38);
    report.equal("X57 the timer's modes", "OK", (in8(0x61) & 3).into(), 0);
    // The controller's output port, which holds the reset line, is written by 0xd1 and pulsed by 0xf0 and up.
    let before = in8(0x64) & 8;
    for command in [0xd1_u8, 0xd0, 0xf1, 0xf3, 0xff] {
        out8(0x64, command);
    }
    report.equal("X57 the keyboard controller's commands", "D", (in8(0x64) & 8).into(), before.into());
}

const fn holds(ranges: &[(u16, u16)], port: u16) -> bool {
    let mut at = 0;
    while at < ranges.len() {
        if port >= ranges[at].0 && port - ranges[at].0 < ranges[at].1 {
            return true;
        }
        at += 1;
    }
    false
}
