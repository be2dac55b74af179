//! The endless guest of a PC: a debug exception whose delivery writes to a word that is watched, and so leads to the next one, for ever. No
//! instruction of it runs any more. It never ends; who started it looks at what the secure side says meanwhile.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: debug registers and tables")]

use core::arch::{asm, global_asm};
use core::fmt::Write;

use bulkhead_guests_x86_64::{Uart, park};

global_asm!(
    r#"
    .global on_debug
on_debug:
    iretq

    .data
    .balign 16
    .global own_gdt
own_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0
    .global own_task
own_task:
    .skip 104
    .balign 16
    .skip 1024
    .global debug_stack
debug_stack:
    "#
);

unsafe extern "C" {
    fn on_debug();
    static mut own_gdt: [u64; 5];
    static mut own_task: [u32; 26];
    static debug_stack: u8;
}

/// Table registers as LGDT and SIDT take them.
#[repr(C, packed)]
struct Table {
    limit: u16,
    base: u64,
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut out = Uart::open();
    let _ = writeln!(out, "endless: X38 begins a debug exception without an end");
    let (at, stack) = (on_debug as *const () as u64, &raw const debug_stack as u64);
    let mut idt = Table { limit: 0, base: 0 };
    // SAFETY: all tables are this program's own. Vector 1 has a stack of its own, the first of the task's table (SDM 3 §6.14.5), so that each
    // delivery writes to the same place: that of SS, which DR0 watches.
    unsafe {
        let task = &raw const own_task as u64;
        own_task[9] = u32::try_from(stack).unwrap_or(0);
        own_gdt[3] = 103 | (task & 0xff_ffff) << 16 | 0x89 << 40 | (task >> 24 & 0xff) << 56;
        let table = Table { limit: 39, base: &raw const own_gdt as u64 };
        asm!("lgdt [{}]", "ltr {:x}", in(reg) &raw const table, in(reg) 0x18_u64);
        asm!("sidt [{}]", in(reg) &raw mut idt);
        let gate = (idt.base as *mut [u64; 2]).add(1);
        gate.write_volatile([at & 0xffff | 0x08 << 16 | 1 << 32 | 0x8e00 << 32 | (at >> 16 & 0xffff) << 48, at >> 32]);
        asm!("mov dr0, {}", "mov dr7, {}", "mov dword ptr [{0}], 1", in(reg) stack - 8, in(reg) 0xd_0402_u64);
    }
    let _ = writeln!(out, "endless: it ended");
    park()
}
