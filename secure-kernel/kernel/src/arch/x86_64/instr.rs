//! Each privileged instruction, wrapped once.
#![expect(unsafe_code, reason = "privileged instructions have no safe form")]

use core::arch::asm;
use core::mem::offset_of;

use bulkhead_abi::boot::BootInfo;
use bulkhead_abi::wall;
use bulkhead_kernel_core::Reply;

use super::descriptors::{self, TaskState};

/// The tick counter: the TSC.
#[inline(always)]
pub(crate) fn read_counter() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Ticks of [`read_counter`] in a second: no instruction tells, so the loader measured it.
pub(crate) fn ticks_per_second(info: &BootInfo) -> u64 {
    info.ticks_per_second
}

/// The address whose access faulted last (SDM 3 §4.7).
pub(crate) fn read_cr2() -> u64 {
    let value;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Makes a task's address space the current one. Where it is already, nothing is done, as a load of CR3 empties the TLB. The
/// data segments, which no task needs and nobody saves, are emptied with it: they would carry two bits from task to task. Ports
/// that the last task was given are shut.
#[inline(always)]
pub(crate) fn write_root(root: u64) {
    let current: u64;
    // SAFETY: every root maps the kernel's half alike, and the tables are fixed; null selectors are allowed in 64-bit mode
    // (SDM 3 §5.4.1.1), and the kernel uses no segment register but CS and SS.
    unsafe {
        asm!("mov {}, cr3", out(reg) current, options(nomem, nostack, preserves_flags));
        if current != root {
            asm!(
                "mov cr3, {root}", "mov ds, {null:e}", "mov es, {null:e}", "mov fs, {null:e}", "mov gs, {null:e}",
                "mov word ptr [rip + {tss} + {ports_at}], {shut}",
                root = in(reg) root, null = in(reg) 0, tss = sym descriptors::TSS, ports_at = const offset_of!(TaskState, ports_at),
                shut = const descriptors::SHUT, options(nostack, preserves_flags)
            );
        }
    }
}

/// What LGDT and LIDT take (SDM 3 §3.5.1): 10 bytes, the limit in the upper half of the first word.
#[repr(C)]
struct Pointer {
    unused: [u16; 3],
    limit: u16,
    base: u64,
}

/// Loads the descriptor tables and the task register.
///
/// # Safety
/// The tables hold valid descriptors, the kernel's own segments among them, and stay for good.
pub(crate) unsafe fn load_tables(gdt: (u64, u16), idt: (u64, u16), task: u16) {
    let [gdt, idt] = [gdt, idt].map(|(base, limit)| Pointer { unused: [0; 3], limit, base });
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "lgdt [{gdt} + 6]", "lidt [{idt} + 6]", "ltr {task:x}",
            gdt = in(reg) &gdt, idt = in(reg) &idt, task = in(reg) task, options(nostack, preserves_flags)
        );
    }
}

/// Whether the wall is called by VMMCALL.
#[inline(always)]
fn is_svm() -> u32 {
    // SAFETY: the bundle's builder put the boot information there, and maps it read only for good.
    unsafe { (*(wall::KERNEL_VA as *const BootInfo)).is_svm }
}

/// A call to the wall (`bulkhead_abi::wall`): number and arguments in the registers of x0-x7, the result in that of x0.
#[inline(always)]
pub(crate) fn call(number: u64, first: u64, words: [u64; 6]) -> u64 {
    let [w0, w1, w2, w3, w4, w5] = words;
    let result;
    // SAFETY: the wall touches no memory of the kernel and changes RAX alone.
    unsafe {
        asm!(
            "test {is_svm:e}, {is_svm:e}", "jnz 2f", "vmcall", "jmp 3f", "2: vmmcall", "3:",
            is_svm = in(reg) is_svm(), inout("rax") number => result, in("rdi") first, in("rsi") w0, in("rdx") w1,
            in("rcx") w2, in("r8") w3, in("r9") w4, in("r10") w5, options(nostack)
        );
    }
    result
}

/// Gives the CPU back ([`wall::SWITCH`]). The stack is given up: the next upcall starts from its top.
#[inline(always)]
pub(crate) fn switch(flags: u64, reply: &Reply, wake: u64) -> ! {
    let [w0, w1, w2, w3, w4, w5] = reply.words;
    // SAFETY: does not return; all state that lives on is in the kernel's statics.
    unsafe {
        asm!(
            "test {is_svm:e}, {is_svm:e}", "jnz 2f", "vmcall", "2: vmmcall",
            is_svm = in(reg) is_svm(), in("rax") wall::SWITCH, in("rdi") flags | u64::from(reply.len) << 8,
            in("rsi") reply.status.raw().cast_unsigned(), in("rdx") w0, in("rcx") w1, in("r8") w2, in("r9") w3,
            in("r10") w4, in("r11") w5, in("r12") reply.token, in("r13") wake, options(noreturn, nostack)
        );
    }
}

/// After [`wall::FATAL`], which does not return.
pub(crate) fn park() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
