//! Interrupt controllers and PCI.

use bulkhead_guests_x86_64::attempt;

use crate::access::{load, read_port, store, write_port};
use crate::report::{APIC, COMMAND, IO_APIC, ONES, Report};

pub(crate) fn interrupts(report: &mut Report) {
    store(APIC + 0xf0, 0x1ff);
    // INIT, NMI, SMI, start-up, lowest, external; fixed to a name, to all, to all others; a vector of an exception.
    let commands = [
        0x4_4500, 0x500, 0x8_4500, 0xc_4500, 0x4_4400, 0x400, 0x4_4200, 0x608, 0xc_4608, 0x4_4130, 0x4_4730, 0x4030,
        0x8_4030, 0xc_4030, 0x4_4008,
    ];
    let before = load(COMMAND);
    report.none(
        "I01 commands to CPUs",
        "D",
        commands.into_iter().filter(|command| {
            store(COMMAND, *command);
            load(COMMAND) != before
        }),
    );
    // SAFETY: the vector's handler returns at once.
    let got = unsafe { attempt!("mov [rax], ecx\nsti\nnop\nnop\nnop\ncli", in("rax") COMMAND, in("ecx") 0x4_4030_u32) };
    store(APIC + 0xb0, 0);
    report.equal("I01 an interrupt to itself", "OK", got, 0x31);
    // INIT, SMI; an NMI that a timer would send for ever.
    let entries = [
        (0x320, 0x1_0500),
        (0x320, 0x500),
        (0x320, 0x2_0400),
        (0x350, 0x500),
        (0x360, 0x200),
        (0x370, 0x500),
        (0x370, 0x400),
    ];
    report.none(
        "I01 local vectors",
        "D",
        entries.into_iter().filter_map(|(offset, value)| {
            let before = load(APIC + offset);
            store(APIC + offset, value);
            (load(APIC + offset) != before).then_some(value)
        }),
    );
    let name = load(APIC + 0x20);
    store(APIC + 0x20, 0x0500_0000);
    report.equal("I01 the APIC's name", "D", load(APIC + 0x20), name);
    io_apic(report);
}

pub(crate) fn pin(index: u32) -> u64 {
    store(IO_APIC, 0x10 + 2 * index);
    load(IO_APIC + 0x10)
}

pub(crate) fn io_apic(report: &mut Report) {
    let mut wrong = 0;
    let mut own = 0;
    for index in 0..24 {
        let before = pin(index);
        let is_own = before & 0x700 == 0x400 && before >> 16 & 1 == 0;
        own += u64::from(is_own);
        // NMI, INIT, SMI, reserved ones; of the wall's own pin, anything.
        let values = [0x430, 0x530, 0x1_0530, 0x230, 0x1_0230, 0x330, if is_own { 0x1_0000 } else { 0x630 }];
        for value in values {
            store(IO_APIC + 0x10, value);
            wrong += u64::from(pin(index) != before);
        }
    }
    report.equal("I03 entries that would stop the wall", "D", wrong, 0);
    report.equal("I03 pins of the wall's own", "D", own, u64::from(report.is_svm));
    let before = pin(9);
    store(IO_APIC + 0x10, 0x1_0039);
    report.equal("I03 an entry of its own", "OK", pin(9) & 0x1_07ff, 0x1_0039);
    store(IO_APIC + 0x10, u32::try_from(before).unwrap_or(0x1_0000));
}

pub(crate) fn config(function: u32, register: u32) -> u64 {
    write_port(0xcf8, 4, 1 << 31 | function << 8 | register);
    read_port(0xcfc, 4)
}

pub(crate) fn pci(report: &mut Report) {
    let shown = |function: &u32| matches!(function, 0 | 8 | 0xf0 | 0xf8);
    report.none(
        "P01 functions of nobody",
        "D",
        (0..0x200_u32).filter(|at| !shown(at)).filter(|at| config(*at, 0) != ONES),
    );
    report.none("P01 a bridge and the ports", "OK", [0, 0xf0].into_iter().filter(|at| config(*at, 0) == ONES));
    write_port(0xcf8, 4, 0x0000_f000);
    report.equal("P01 not enabled", "D", read_port(0xcfc, 4), ONES);
    report.equal(
        "P01 over the end of the register",
        "D",
        {
            write_port(0xcf8, 4, 0x8000_f000);
            read_port(0xcfe, 4)
        },
        ONES,
    );
    let command = config(0, 4);
    write_port(0xcfc, 2, 0xffff);
    report.equal("P03 a bridge's command", "D", config(0, 4), command);
    // Each base address and the ROM of the bridge, then the ports': sized, then moved.
    let wrong = [0x10, 0x14, 0x18, 0x24, 0x30].into_iter().filter(|register| {
        let before = config(0, *register);
        write_port(0xcfc, 4, 0xfee0_0000);
        config(0, *register) != before
    });
    report.none("P04 a bridge's base addresses", "D", wrong);
    let place = config(0xf0, 0x10);
    write_port(0xcfc, 4, 0x3f9);
    report.equal("P04 the ports' base address moves", "V", config(0xf0, 0x10), place);
    window(report);
}

/// The window to the ports through their function's configuration space, the last of its capabilities (virtio 1.2 §4.1.4.9): it reaches the device
/// and nothing else, and of the device's two interfaces the one that was written to first drives it.
fn window(report: &mut Report) {
    const PORTS: u32 = 0xf0;
    const STATUS: u32 = 0x54;
    let byte = |register: u32, place: usize| u32::from(config(PORTS, register).to_le_bytes()[place]);
    let mut at = byte(0x34, 0);
    for _ in 0..8 {
        let next = byte(at, 1);
        at = if next == 0 { at } else { next };
    }
    report.equal("P05 the last capability is the window", "OK", config(PORTS, at) >> 24, 5);
    let set = |offset: u32, length: u32| {
        config(PORTS, at + 8);
        write_port(0xcfc, 4, offset);
        config(PORTS, at + 12);
        write_port(0xcfc, 4, length);
        write_port(0xcf8, 4, 1 << 31 | PORTS << 8 | (at + 16));
    };
    set(STATUS, 1);
    write_port(0xcfc, 1, 0);
    write_port(0xcfc, 1, 1);
    report.equal("P05 the status through the window", "V", read_port(0xcfc, 1), 1);
    report.equal("P05 another width than the window's", "D", config(PORTS, at + 16), 0);
    config(PORTS, 4);
    write_port(0xcfc, 2, 1);
    let [low, high, ..] = config(PORTS, 0x10).to_le_bytes();
    let first = u16::from_le_bytes([low & !3, high]);
    report.equal("P05 the status in the ports of both interfaces", "V", read_port(first + 0x12, 1), 1);
    write_port(first + 0x12, 1, 3);
    report.equal("P05 the other interface's status is written", "D", read_port(first + 0x54, 1), 1);
    write_port(first + 0x12, 1, 0);
    report.equal("P05 the other interface's reset", "V", read_port(first + 0x54, 1), 0);
    // Past the end of the ports, over it, at a base address that is none: the registers of nobody.
    let ends = [(0x80, 1), (0x7d, 4), (u32::MAX, 1), (0, u32::MAX), (0, 3)];
    let all = ends.into_iter().flat_map(|window| [1, 2, 4].map(|bytes| (window, bytes)));
    let wrong = all.filter(|&((offset, length), bytes)| {
        set(offset, length);
        write_port(0xcfc, bytes, 0xffff_ffff);
        read_port(0xcfc, bytes) != 0
    });
    report.none("P05 a window over the end", "D", wrong.map(|((offset, _), _)| offset));
    // A register that is none, within the ports.
    set(0x7c, 4);
    report.equal("P05 a window to nothing", "D", read_port(0xcfc, 4), ONES);
    config(PORTS, 4);
    write_port(0xcfc, 2, 0);
}
