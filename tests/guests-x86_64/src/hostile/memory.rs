//! Memory that is not the guest's.

use core::fmt::Write;

use bulkhead_guests_x86_64::attempt;

use crate::access::{load, load_wide, map_block, store};
use crate::report::{APIC, IO_APIC, ONES, PROTECTION, Report};

/// Where the memory that this program lies in ends.
pub(crate) fn end() -> u64 {
    /// Above this program and its own words.
    const FIRST: u64 = 0x100_0000;
    (FIRST..0xc000_0000).step_by(4096).find(|at| load(*at) == ONES).unwrap_or(0)
}

/// Memory that is not the guest's: reads give ones, writes vanish.
pub(crate) fn memory(report: &mut Report) {
    const BLOCK: u64 = 0x20_0000;
    /// Above all memory.
    const HOLES: u64 = 0x4000_0000;
    let step = |end: &u64| load(*end) != ONES;
    let end = end();
    let _ = writeln!(report.out, "hostile: memory ends at {end:#x}");
    // The guest's memory may go on above the wall's.
    let above = (end..end + 0x1000_0000).step_by(4096).find(step).unwrap_or(end + 0x1000_0000);
    let top = (above..above + 0x40_0000).step_by(4096).filter(step).last().map_or(above, |last| last + 4096);
    report.equal("X48 what the wall took is the hole", "D", u64::from(above - end >= 0x10_0000), 1);
    let is_controller = |at: &u64| matches!(*at, APIC | IO_APIC);
    let beyond =
        || (end..above).chain(top..0x1_0000_0000).step_by(4096).filter(|at| *at < HOLES || at.is_multiple_of(BLOCK));
    report.none(
        "X48 memory beyond it, read",
        "D",
        beyond().filter(|at| !is_controller(at)).filter(|at| load(*at) != ONES),
    );
    let written =
        (end..above).step_by(4096).take(1024).chain([0xa_0000, 0xb_0000, 0xd000_0000, 0xfed0_0000, 0xfee0_1000]);
    report.none(
        "X48 written",
        "D",
        written.filter(|at| {
            store(*at + 8, 0);
            load(*at + 8) != ONES
        }),
    );
    store(end - 4, 0x1234_5678);
    report.equal("X49 over the end, read", "D", load_wide(end - 4), u64::MAX);
    // SAFETY: half of it is nobody's.
    unsafe { attempt!("mov [rax], rcx", in("rax") end - 4, in("rcx") 0_u64) };
    report.equal("X49 over the end, written", "D", load(end - 4), 0x1234_5678);
    // Each width at each place that reaches over the end: nothing before it changes.
    for before in 1..8_u64 {
        store(end - 8, 0x1234_5678);
        store(end - 4, 0x1234_5678);
        // SAFETY: as above.
        unsafe {
            attempt!("mov [rax], rcx", in("rax") end - before, in("rcx") 0_u64);
            if before < 4 {
                attempt!("mov [rax], ecx", in("rax") end - before, in("ecx") 0);
                attempt!("lock xadd [rax], ecx", in("rax") end - before, inout("ecx") 1 => _);
            }
            if before < 2 {
                attempt!("mov [rax], cx", in("rax") end - before, in("ecx") 0);
            }
        }
        report.equal("X49 any width over the end", "D", load_wide(end - 8), 0x1234_5678_1234_5678);
    }
    above_four_gib(report);
    for address in [0xa_0000, 0xa_fff8, 0xb_8000] {
        store(address, 0);
        report.equal("X56 the window of SMRAM", "D", load(address), ONES);
    }
    let rom = load(0xf_0000);
    store(0xf_0000, 0x5a5a_5a5a);
    report.equal("X48 the firmware is read only", "D", load(0xf_0000), rom);
    let at = end + BLOCK;
    // SAFETY: none of it is memory of anybody's that they reach.
    let undecoded = unsafe {
        [
            attempt!("add [rax], ecx", in("rax") at, in("ecx") 1),
            attempt!("lock xadd [rax], ecx", in("rax") at, inout("ecx") 1 => _),
            attempt!("lock cmpxchg16b [rsi]", in("rsi") at, inout("rax") 0_u64 => _, inout("rdx") 0_u64 => _, in("rcx") 0_u64),
            attempt!("movsd", inout("rsi") at => _, inout("rdi") at => _),
            attempt!("rep stosq", inout("rdi") at => _, inout("rcx") 1_u64 << 32 => _, in("rax") 0_u64),
            attempt!("bt [rax], rcx", in("rax") at, in("rcx") -64_i64),
            attempt!("mov rsp, [rax]", in("rax") at),
            attempt!("push qword ptr [rax]", in("rax") at),
            attempt!("pop qword ptr [rax]", in("rax") at),
            attempt!("cmpxchg [rax], ecx", inout("rax") at => _, in("ecx") 1),
            attempt!("not dword ptr [rax]", in("rax") at),
            attempt!("inc byte ptr [rax]", in("rax") at),
            attempt!("lock bts dword ptr [rax], 3", in("rax") at),
            attempt!("movnti [rax], ecx", in("rax") at, in("ecx") 1),
            attempt!("jmp [rax]", in("rax") at),
            attempt!("mov qword ptr [rax], 1", in("rax") at),
            attempt!(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x01, 0x08", in("rax") at, in("ecx") 1),
        ]
    };
    report.none(
        "X46 what does more than move",
        "F(#GP)",
        (0..).zip(undecoded).filter_map(|(n, got)| (got != PROTECTION).then_some(n)),
    );
    let (byte, signed, exchanged): (u64, u64, u64);
    // SAFETY: as above.
    unsafe {
        attempt!("mov cl, [rax]", in("rax") at, inout("rcx") 0_u64 => byte);
        attempt!("movsx ecx, word ptr [rax]", in("rax") at, inout("rcx") 0_u64 => signed);
        attempt!("xchg [rax], ecx", in("rax") at, inout("rcx") 0_u64 => exchanged);
    }
    report.none(
        "X46 what moves",
        "D",
        [(byte, 0xff), (signed, ONES), (exchanged, ONES)]
            .into_iter()
            .filter_map(|(got, wanted)| (got != wanted).then_some(got)),
    );
}

/// Each power of two from 4 GiB to the last that the CPU's addresses reach, read, written and looked at again.
fn above_four_gib(report: &mut Report) {
    const HERE: u64 = 0x3000_0000;
    let bits = core::arch::x86_64::__cpuid(0x8000_0008).eax & 0xff;
    let map = |block: u64| map_block(HERE, block | 0x83);
    let wrong = (32..bits).filter(|bit| {
        map(1 << bit);
        store(HERE, 0);
        load(HERE) != ONES
    });
    report.none("X48 above 4 GiB", "D", wrong);
    map(HERE);
}
