//! The vector table and the upcall entry: a task's registers are stored where `SP_EL1` points while it runs, which is its
//! `Registers`; the kernel itself runs on one stack that starts afresh at each entry.
#![expect(unsafe_code, reason = "exception vectors are assembly")]

use core::arch::{asm, global_asm};

use bulkhead_kernel_core::{Kernel, Registers};

use super::instr;

global_asm!(
    r#"
    .macro store
    stp   x0, x1, [sp, #0]
    stp   x2, x3, [sp, #16]
    stp   x4, x5, [sp, #32]
    stp   x6, x7, [sp, #48]
    stp   x8, x9, [sp, #64]
    stp   x10, x11, [sp, #80]
    stp   x12, x13, [sp, #96]
    stp   x14, x15, [sp, #112]
    stp   x16, x17, [sp, #128]
    stp   x18, x19, [sp, #144]
    stp   x20, x21, [sp, #160]
    stp   x22, x23, [sp, #176]
    stp   x24, x25, [sp, #192]
    stp   x26, x27, [sp, #208]
    stp   x28, x29, [sp, #224]
    mrs   x0, sp_el0
    mrs   x1, elr_el1
    mrs   x2, spsr_el1
    stp   x30, x0, [sp, #240]
    stp   x1, x2, [sp, #256]
    adrp  x0, stack_top
    add   x0, x0, :lo12:stack_top
    mov   sp, x0
    .endm

    .macro from_task handler
    .balign 128
    b     \handler
    .endm
    .macro fatal
    .balign 128
    adrp  x0, stack_top                 // the stack may be what failed
    add   x0, x0, :lo12:stack_top
    mov   sp, x0
    mrs   x0, esr_el1
    mrs   x1, far_el1
    b     {fatal}
    .endm

    .section .text.vectors, "ax"
    .balign 2048
vectors:
    fatal                               // EL1 with SP_EL0: not used
    fatal
    fatal
    fatal
    fatal                               // EL1 itself: the kernel's own bug
    fatal
    fatal
    fatal
    from_task sync_entry                // EL0, AArch64
    from_task irq_entry
    fatal
    from_task sync_entry
    from_task sync_entry                // EL0, AArch32: a task cannot get there
    fatal
    fatal
    fatal
    .balign 2048
upcall_entry:                           // wall::aarch64::UPCALL_ENTRY: reason in x0, x1-x8
    adrp  x9, stack_top
    add   x9, x9, :lo12:stack_top
    sub   sp, x9, #16                   // the ninth argument of a function lies on the stack
    str   x8, [sp]
    bl    {upcall}
    .global resume_task
resume_task:                            // x0: the registers of the task to run
    mov   sp, x0
    ldp   x1, x2, [sp, #256]
    ldp   x30, x3, [sp, #240]
    msr   elr_el1, x1
    msr   spsr_el1, x2
    msr   sp_el0, x3
    ldp   x2, x3, [sp, #16]
    ldp   x4, x5, [sp, #32]
    ldp   x6, x7, [sp, #48]
    ldp   x8, x9, [sp, #64]
    ldp   x10, x11, [sp, #80]
    ldp   x12, x13, [sp, #96]
    ldp   x14, x15, [sp, #112]
    ldp   x16, x17, [sp, #128]
    ldp   x18, x19, [sp, #144]
    ldp   x20, x21, [sp, #160]
    ldp   x22, x23, [sp, #176]
    ldp   x24, x25, [sp, #192]
    ldp   x26, x27, [sp, #208]
    ldp   x28, x29, [sp, #224]
    ldp   x0, x1, [sp, #0]
    eret

sync_entry:
    store
    bl    {sync}
irq_entry:
    store
    bl    {irq}

    .section .stack, "aw", %nobits
    .balign 4096
    .skip {stack_bytes}
stack_top:
    "#,
    stack_bytes = const bulkhead_abi::wall::KERNEL_STACK_BYTES,
    upcall = sym upcall,
    sync = sym crate::task_sync,
    irq = sym crate::task_irq,
    fatal = sym crate::fatal,
);

/// From the upcall entry: x0-x8.
extern "C" fn upcall(reason: u64, header: u64, w0: u64, w1: u64, w2: u64, w3: u64, w4: u64, w5: u64, token: u64) -> ! {
    crate::upcall(reason, header, [w0, w1, w2, w3, w4, w5], token)
}

/// Runs a task. The stack is given up: the next entry starts from its top.
#[inline(always)]
pub(crate) fn resume(registers: &Registers) -> ! {
    // SAFETY: the code there takes the registers in x0 and leaves to the task; all state that lives on is in the kernel's statics.
    unsafe { asm!("b resume_task", in("x0") registers, options(noreturn, nostack)) }
}

/// Nothing: the wall has set VBAR_EL1 to the vector table.
pub(crate) fn enable() {}

/// No: there are no ports.
pub(crate) const fn can_retry(_kernel: &Kernel) -> bool {
    false
}

/// Exception class of `svc` (Arm ARM D17.2.37).
const SVC: u64 = 0x15;

/// What the task did wrong: syndrome and address; `None`: it made a system call.
#[inline(always)]
pub(crate) fn fault(_registers: &Registers) -> Option<[u64; 2]> {
    let syndrome = instr::read_esr();
    if syndrome >> 26 == SVC { None } else { Some([syndrome, instr::read_far()]) }
}
