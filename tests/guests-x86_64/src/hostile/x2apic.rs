//! The local APIC by its registers of the CPU.

use bulkhead_guests_x86_64::attempt;

use crate::access::store;
use crate::registers::{read_register, write_register};
use crate::report::{COMMAND, NONE, PROTECTION, Report};

/// The local APIC by its MSRs, where the CPU has them: the same is dropped there, and there is no way back.
pub(crate) fn x2apic(report: &mut Report) {
    const MODE: u64 = 1 << 10;
    let base = read_register(0x1b).1;
    if core::arch::x86_64::__cpuid(1).ecx >> 21 & 1 == 0 {
        report.equal("X12 an x2APIC that is not there", "F(#GP)", write_register(0x1b, base | MODE), PROTECTION);
        return;
    }
    report.equal("X12 to x2APIC mode", "OK", write_register(0x1b, base | MODE), NONE);
    for value in [base, base & !(1 << 11), (base | MODE) ^ 0x10_0000, (base | MODE) & !(1 << 11)] {
        report.equal("X12 back from it, off, away", "F(#GP)", write_register(0x1b, value), PROTECTION);
    }
    write_register(0x80f, 0x1ff);
    // INIT, NMI, SMI, start-up, lowest; fixed to a name, to all, to all others; a vector of an exception.
    let commands = [
        0x4_4500,
        0x500,
        0x8_4500,
        0xc_4500,
        0x4_4400,
        0x400,
        0x4_4200,
        0x608,
        0xc_4608,
        0x4_4130,
        0x4030,
        0x8_4030,
        0xc_4030,
        0x4_4008,
        0xffff_ffff_0000_4500,
    ];
    let before = read_register(0x830).1;
    let sent = commands.into_iter().filter(|command| {
        write_register(0x830, *command);
        read_register(0x830).1 != before
    });
    report.none("I01 commands to CPUs, by MSR", "D", sent);
    let entries =
        [(0x832, 0x1_0500), (0x832, 0x500), (0x832, 0x2_0400), (0x835, 0x500), (0x836, 0x200), (0x837, 0x400)];
    let taken = entries.into_iter().filter_map(|(index, value)| {
        let before = read_register(index).1;
        write_register(index, value);
        (read_register(index).1 != before).then_some(value)
    });
    report.none("I01 local vectors, by MSR", "D", taken);
    for (index, value) in [(0x802, 1), (0x831, 0), (0x840, 0), (0x8ff, 0)] {
        report.equal("I01 its name, and what is not there", "F(#GP)", write_register(index, value), PROTECTION);
    }
    // The page is dead: what is written there would go out to the bus.
    [0x4_4500, 0x500, 0x400].into_iter().for_each(|command| store(COMMAND, command));
    for (index, value) in [(0x830, 0x4_4030), (0x83f, 0x30)] {
        // SAFETY: the vector's handler returns at once.
        let got = unsafe { attempt!("wrmsr\nsti\nnop\nnop\nnop\ncli", in("ecx") index, in("rax") value, in("rdx") 0) };
        write_register(0x80b, 0);
        report.equal("I01 an interrupt to itself, by MSR", "OK", got, 0x31);
    }
}
