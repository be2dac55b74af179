//! Code that changes.

use core::arch::asm;

use crate::access::{load, map_block, store};
use crate::report::{APIC, Report};

/// Code that is written over, or mapped elsewhere, between two stores by it: each store is the one that stands there.
pub(crate) fn changing_code(report: &mut Report) {
    const PRIORITY: u64 = APIC + 0x80;
    /// Where it runs, and two blocks of memory that are mapped there in turn.
    const HERE: u64 = 0x3000_0000;
    const BLOCKS: [u64; 2] = [0x200_0000, 0x240_0000];
    const SECONDS: [u64; 2] = [0x280_0000, 0x2c0_0000];
    let put = |at: u64, code: [u8; 8]| {
        // SAFETY: nothing else lies there.
        unsafe { (at as *mut [u8; 8]).write_volatile(code) };
    };
    let map = |block: u64| map_block(HERE, block | 0x83);
    let run = || {
        // SAFETY: the code stores ECX or EDX where RAX says, and returns.
        unsafe { asm!("call {}", in(reg) HERE, in("rax") PRIORITY, in("ecx") 0x10, in("edx") 0x20) };
        load(PRIORITY)
    };
    let [ecx, edx, long] = [
        [0x89, 0x08, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90],
        [0x89, 0x10, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90],
        // With a displacement of one byte, which would be another instruction to who took the length of the first.
        [0x89, 0x48, 0x00, 0xc3, 0x90, 0x90, 0x90, 0x90],
    ];
    put(BLOCKS[0], ecx);
    put(BLOCKS[1], edx);
    map(BLOCKS[0]);
    report.equal("X46 a store to a controller", "OK", run(), 0x10);
    put(BLOCKS[0], edx);
    report.equal("X45 written over", "OK", run(), 0x20);
    put(BLOCKS[0], long);
    report.equal("X45 written over by a longer one", "OK", run(), 0x10);
    map(BLOCKS[1]);
    report.equal("X44 another page in its place", "OK", run(), 0x20);
    map(BLOCKS[0]);
    report.equal("X44 the first page again", "OK", run(), 0x10);
    let turns = (0..1000_u32).filter(|turn| {
        let is_even = turn.is_multiple_of(2);
        put(BLOCKS[0], if is_even { edx } else { ecx });
        run() != if is_even { 0x20 } else { 0x10 }
    });
    report.none("X45 written over 1,000 times", "OK", turns);
    // Over the edge of two pages, the second of which changes.
    const EDGE: u64 = HERE + 0x20_0000;
    let map_second = |block: u64| map_block(EDGE, block | 0x83);
    put(BLOCKS[0] + 0x1f_fff8, [0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x89]);
    put(SECONDS[0], [0x08, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90]);
    put(SECONDS[1], [0x10, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90]);
    for (block, wanted) in [(SECONDS[0], 0x10), (SECONDS[1], 0x20), (SECONDS[0], 0x10)] {
        map_second(block);
        // SAFETY: as for `run`.
        unsafe { asm!("call {}", in(reg) EDGE - 1, in("rax") PRIORITY, in("ecx") 0x10, in("edx") 0x20) };
        report.equal("X44 over the edge of a page that changes", "OK", load(PRIORITY), wanted);
    }
    map_second(EDGE);
    store(PRIORITY, 0);
    map(HERE);
}
