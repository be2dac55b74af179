//! The CPU's registers: model-specific ones, and those that control it.

use core::arch::asm;

use bulkhead_guests_x86_64::attempt;

use crate::access::read_port;
use crate::report::{NONE, ONES, PROTECTION, Report};

/// Registers that the site lets it write, and those that it lets it only read.
const WRITABLE: [(u32, u32); 9] = [
    (0x8b, 1),
    (0x174, 3),
    (0x200, 16),
    (0x250, 32),
    (0x277, 1),
    (0x2ff, 1),
    (0x800, 0x40),
    (0xc000_0080, 5),
    (0xc000_0100, 4),
];
const READABLE: [(u32, u32); 8] =
    [(0x10, 1), (0x1b, 1), (0x3b, 1), (0xfe, 1), (0x1a0, 1), (0xc001_0010, 1), (0xc001_0015, 1), (0xc001_001f, 1)];
const REGISTERS: [(u32, u32); 4] = [(0, 0x2000), (0x4000_0000, 0x100), (0xc000_0000, 0x2000), (0xc001_0000, 0x2000)];

pub(crate) fn read_register(index: u32) -> (u64, u64) {
    let (low, high): (u64, u64);
    // SAFETY: reading has no effect; a fault is stepped over.
    let vector = unsafe { attempt!("rdmsr", in("ecx") index, inout("rax") 0_u64 => low, inout("rdx") 0_u64 => high) };
    (vector, low | high << 32)
}

pub(crate) fn write_register(index: u32, value: u64) -> u64 {
    // SAFETY: a register whose write could harm this program is written with what it takes, or faults.
    unsafe { attempt!("wrmsr", in("ecx") index, in("rax") value & ONES, in("rdx") value >> 32) }
}

pub(crate) fn registers(report: &mut Report) {
    let is_in = |list: &[(u32, u32)], index: u32| list.iter().any(|range| index.wrapping_sub(range.0) < range.1);
    let all = || REGISTERS.into_iter().flat_map(|(first, count)| first..first + count);
    let read = all().filter(|index| !is_in(&WRITABLE, *index) && !is_in(&READABLE, *index));
    report.none("X06 registers read", "F(#GP)", read.filter(|index| read_register(*index).0 != PROTECTION));
    let written = all().filter(|index| !is_in(&WRITABLE, *index));
    report.none("X06 registers written", "F(#GP)", written.filter(|index| write_register(*index, 0) != PROTECTION));
    // Any others, by a sequence that is the same each time.
    let mut seed = 0x9e37_79b9_u32;
    let random = (0..4096).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed
    });
    let random = random.filter(|index| !is_in(&REGISTERS, *index));
    let taken = random.filter(|index| read_register(*index).0 != PROTECTION || write_register(*index, 0) != PROTECTION);
    report.none("X06 4,096 of all numbers", "F(#GP)", taken);
    report.none(
        "X06 declared ones",
        "OK",
        [0x10, 0x1b, 0x277, 0xc000_0080].into_iter().filter(|index| read_register(*index).0 != NONE),
    );
    // Registers of addresses. QEMU's CPU takes what no CPU would: there it is only the guest's own affair, and an exit with it is one like any other.
    for index in [0xc000_0082_u32, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0x175, 0x176] {
        let before = read_register(index).1;
        let got = write_register(index, 0x8000_0000_0000_0000);
        report.equal("X07 an exit after it", "OK", read_port(0x300, 1), 0xff);
        if !report.is_qemu {
            report.equal("X07 an address that is none", "F(#GP)", got, PROTECTION);
        }
        write_register(index, before);
    }
    let efer = read_register(0xc000_0080).1;
    report.equal("X09 SVME is hidden", "V", efer >> 12 & 1, 0);
    for bits in [1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 8, 1 << 1, 1 << 63] {
        report.equal("X09 EFER", "F(#GP)", write_register(0xc000_0080, efer ^ bits), PROTECTION);
    }
    report.equal("X09 EFER with SCE and NXE", "OK", write_register(0xc000_0080, efer | 0x801), NONE);
    let base = read_register(0x1b).1;
    for value in [
        base ^ 0x10_0000,
        base ^ 1 << 11,
        base ^ 3 << 10,
        base ^ 0x1_0000_0000,
        base | 1,
        base ^ 1 << 8,
        base ^ 1 << 9,
        base & 0xfff | 0xa_0000,
        base & 0xfff | 0x100_0000,
        base & 0xfff | 0xfec0_0000,
        base & 0xfff | 0x8000_0000_0000,
    ] {
        report.equal("X12 the APIC's page moves", "F(#GP)", write_register(0x1b, value), PROTECTION);
    }
    report.equal("X11 a page type that is none", "F(#GP)", write_register(0x277, 2), PROTECTION);
}

pub(crate) fn control(report: &mut Report) {
    const CD: u64 = 1 << 30;
    const NW: u64 = 1 << 29;
    const PG: u64 = 1 << 31;
    let (cr0, cr4) = (read_cr0(), read_cr4());
    for value in [cr0 & !PG, cr0 & !1, cr0 | NW, (cr0 | CD) & !PG, (cr0 | CD) & !1] {
        report.equal("X13 CR0", "F(#GP)", write_cr0(value), PROTECTION);
    }
    // QEMU's CPU does not look at the upper half, not even where it asks whether a write exits.
    if !(report.is_qemu && report.is_svm) {
        report.equal("X13 CR0's upper half", "F(#GP)", write_cr0(cr0 | 1 << 32), PROTECTION);
    }
    for bit in [12, 13, 14, 15, 19, 22, 23, 24, 31, 63] {
        report.equal("X14 CR4", "F(#GP)", write_cr4(cr4 | 1 << bit), PROTECTION);
    }
    report.equal("X14 CR4 without PAE", "F(#GP)", write_cr4(cr4 & !(1 << 5)), PROTECTION);
    // SAFETY: the table is the same; only how it is cached changes.
    let contexts = unsafe {
        asm!("mov {t}, cr3", "or {t}, 8", "mov cr3, {t}", t = out(reg) _);
        let got = write_cr4(cr4 | 1 << 17);
        asm!("mov {t}, cr3", "and {t}, -9", "mov cr3, {t}", t = out(reg) _);
        got
    };
    report.equal("X14 contexts while one is in use", "F(#GP)", contexts, PROTECTION);
    report.equal("X14 nothing of it is in force", "V", read_cr4(), cr4);
    report.equal("X14 CR4 with global pages", "OK", write_cr4(cr4 | 1 << 7), NONE);
    report.equal("X14 as it was written", "OK", read_cr4(), cr4 | 1 << 7);
    write_cr4(cr4);
    report.equal("X13 caches off", "V", write_cr0(cr0 | CD), NONE);
    report.equal("X13 as it sees it", "V", read_cr0(), cr0 | CD);
    let [by_high_register, by_smsw] = read_cr0_otherwise();
    report.equal("X13 as it sees it by R15", "V", by_high_register, cr0 | CD);
    report.equal("X13 as it sees it by SMSW", "V", by_smsw, cr0 | CD);
    report.equal("X13 caches on", "OK", write_cr0(cr0), NONE);
    report.equal("X13 as it sees it then", "OK", read_cr0(), cr0);
    report.equal("X13 without write protection", "OK", write_cr0(cr0 & !(1 << 16)), NONE);
    write_cr0(cr0);
    report.equal("X14 VMXE is hidden", "V", read_cr4() >> 13 & 1, 0);
    report.equal("X18 CR4.OSXSAVE", "OK", write_cr4(cr4 | 1 << 18), NONE);
    for (index, value) in [(0, 0_u64), (0, 6), (0, 5), (0, 1 << 9 | 3), (0, 1 << 62 | 3), (1, 1)] {
        report.equal("X18 XCR0", "F(#GP)", set_xcr(index, value), PROTECTION);
    }
    report.equal("X18 x87 and SSE", "OK", set_xcr(0, 3), NONE);
    set_xcr(0, 1);
    write_cr4(cr4);
    report.equal(
        "X17 LMSW does not leave protection",
        "V",
        {
            // SAFETY: LMSW sets PE and never clears it.
            unsafe { asm!("smsw {w:x}", "and {w:e}, -2", "lmsw {w:x}", w = out(reg) _) };
            read_cr0()
        },
        cr0,
    );
}

pub(crate) fn read_cr0() -> u64 {
    let value;
    // SAFETY: reading has no effect.
    unsafe { asm!("mov {}, cr0", out(reg) value) };
    value
}

/// Into a register that takes a prefix; by SMSW, whose upper half is CR0's on every CPU that has 64-bit mode, though it is called undefined.
fn read_cr0_otherwise() -> [u64; 2] {
    let (moved, stored): (u64, u64);
    // SAFETY: as for `read_cr0`.
    unsafe { asm!("mov r15, cr0", "smsw {s}", s = out(reg) stored, out("r15") moved) };
    [moved, stored]
}

pub(crate) fn read_cr4() -> u64 {
    let value;
    // SAFETY: as for `read_cr0`.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}

pub(crate) fn write_cr0(value: u64) -> u64 {
    // SAFETY: what would end this program faults.
    unsafe { attempt!("mov cr0, rax", in("rax") value) }
}

pub(crate) fn write_cr4(value: u64) -> u64 {
    // SAFETY: as for `write_cr0`.
    unsafe { attempt!("mov cr4, rax", in("rax") value) }
}

pub(crate) fn set_xcr(index: u32, value: u64) -> u64 {
    // SAFETY: this program has no extended state.
    unsafe { attempt!("xsetbv", in("ecx") index, in("rax") value & ONES, in("rdx") value >> 32) }
}
