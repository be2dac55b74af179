//! Ports.

use bulkhead_guests_x86_64::{attempt, in8, out8};

use crate::access::{SCRATCH, read_port, write_port};
use crate::report::{ONES, PROTECTION, Report};

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

pub(crate) fn ports(report: &mut Report) {
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
    report.equal("X56 SMI port, reset ports, NMI mask", "D", read_port(0xb2, 1), 0xff);
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
