//! Interrupt controllers and PCI.

use core::arch::{asm, global_asm};

use bulkhead_guests_x86_64::attempt;

use crate::access::{load, read_port, store, write_port};
use crate::exceptions::set_gate;
use crate::report::{APIC, COMMAND, IO_APIC, ONES, Report};

global_asm!(
    r#"
    .global count_and_end
count_and_end:                          // counted in R13
    inc   r13
    push  rax
    mov   eax, 0xfee000b0
    mov   dword ptr [rax], 0
    pop   rax
    iretq
    "#
);

unsafe extern "C" {
    fn count_and_end();
}

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
    // Every mode to every destination, but fixed ones to itself.
    let mut sent = 0_u64;
    for name in [0, 0x0100_0000, 0x0f00_0000, 0xff00_0000] {
        store(COMMAND + 0x10, name);
        for (mode, to) in
            (0..8_u32).flat_map(|mode| (0..4_u32).map(move |to| (mode, to))).filter(|pair| *pair != (0, 1))
        {
            for bits in [0x4030, 0x4830, 0xc030, 0x30] {
                store(COMMAND, to << 18 | mode << 8 | bits);
                sent += u64::from(load(COMMAND) != before);
            }
        }
    }
    store(COMMAND + 0x10, 0);
    report.equal("I01 every mode to every destination", "D", sent, 0);
    storm(report);
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

/// Interrupts to itself, each of which exits: all arrive, once.
fn storm(report: &mut Report) {
    set_gate(0x32, count_and_end, 0x8e00);
    let turns = 20_000_u64;
    let arrived: u64;
    // SAFETY: the vector's handler counts in R13 and ends the interrupt; nothing else is used.
    unsafe {
        asm!(
            "xor r13d, r13d", "sti", "2:", "mov dword ptr [rax], 0x44032", "dec rcx", "jnz 2b", "nop", "nop", "cli",
            inout("rcx") turns => _, in("rax") COMMAND, out("r13") arrived
        );
    }
    report.equal("I06 a storm of interrupts to itself", "OK", arrived, turns);
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
    // Registers that no I/O APIC has.
    for index in [0x40, 0x80, 0xff] {
        store(IO_APIC, index);
        store(IO_APIC + 0x10, 0x530);
    }
    report.equal(
        "I03 registers that are not there",
        "D",
        (0..24).filter(|index| pin(*index) & 0x7ff == 0x530).count() as u64,
        0,
    );
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
    // An address written by bytes is none; the bridge's name is the one that is asked for by double words.
    let name = config(0, 0);
    write_port(0xcf8, 1, 0xff);
    write_port(0xcfb, 1, 0);
    write_port(0xcfa, 2, 0);
    report.equal("P01 an address in pieces", "D", read_port(0xcfc, 4), name);
    report.equal(
        "P01 a byte and a word of it",
        "OK",
        read_port(0xcfd, 1) << 8 | read_port(0xcfe, 2) << 16,
        name & 0xffff_ff00,
    );
    report.equal("P01 a window for all of it", "D", load(0xb000_0000) & load(0xe000_0000), ONES);
    // What shows system management memory (0:0.0, 0x9d on q35, 0x72 on i440fx), and where that lies.
    let shown = [0x9c, 0x70].map(|register| config(0, register));
    for (register, place) in [(0x9c, 0xcfd), (0x70, 0xcfe)] {
        config(0, register);
        write_port(place, 1, 0x4a);
    }
    report.equal(
        "X56 the register of SMRAM",
        "D",
        u64::from([0x9c, 0x70].map(|register| config(0, register)) != shown),
        0,
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
    for (port, bytes, value) in [(0xcfc, 1, 0), (0xcfd, 1, 0x20), (0xcfe, 2, 0xfee0), (0xcfc, 2, 1), (0xcfc, 4, 0)] {
        config(0xf0, 0x10);
        write_port(port, bytes, value);
        report.equal("P04 in pieces", "V", config(0xf0, 0x10), place);
    }
    // No function that the guest gets masters the bus but the ports', whose memory is looked at by who serves it (P07).
    for function in [0_u32, 0xf8] {
        let before = config(function, 4);
        write_port(0xcfc, 2, 0x0004);
        report.equal("P07 a bridge masters the bus", "D", config(function, 4), before);
    }
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
