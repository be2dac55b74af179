//! The upcall entry and the stubs behind the gates: a task's registers are stored where RSP0 points while it runs, which is
//! the end of its `Registers`; the kernel itself runs on one stack that starts afresh at each entry. Gates leave DF and AC as
//! the task had them: `popfq` clears both, whether the CPU has SMAP or not.
#![expect(unsafe_code, reason = "trap entries are assembly")]

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use bulkhead_abi::wall::x86_64::{SYSCALL, VIRTUAL_IRQ};
use bulkhead_kernel_core::{Kernel, Registers};

use super::{descriptors, instr};

// RSP0 is a `Registers`' end: what the CPU pushes there must fill its last words, and start aligned.
const _: () = assert!(offset_of!(Registers, ss) + 8 == size_of::<Registers>());
const _: () = assert!(offset_of!(Registers, error) == 128 && size_of::<Registers>().is_multiple_of(16));

global_asm!(
    r#"
    .macro store
    push  rbp
    push  rbx
    push  r15
    push  r14
    push  r13
    push  r12
    push  r11
    push  r10
    push  r9
    push  r8
    push  rcx
    push  rdx
    push  rsi
    push  rdi
    push  rax
    .endm
    .macro stub vector, has_error, entry
    .balign {stub_bytes}
    .if !(\has_error)
    push  0
    .endif
    push  \vector
    jmp   \entry
    .endm

    .section .text.vectors, "ax"
vectors:
upcall_entry:                           // wall::x86_64::UPCALL_ENTRY: reason in rax; x1-x6 lie where a function has its first six
    lea   rsp, [rip + stack_top - 8]    // arguments, the others are on the stack
    push  rax
    push  r11
    push  r10
    call  {upcall}
    .global resume_task
resume_task:                            // rax: the registers of the task to run
    lea   rcx, [rax + {registers_bytes}]
    mov   [rip + {tss} + 4], rcx
    mov   rsp, rax
    pop   rax
    pop   rdi
    pop   rsi
    pop   rdx
    pop   rcx
    pop   r8
    pop   r9
    pop   r10
    pop   r11
    pop   r12
    pop   r13
    pop   r14
    pop   r15
    pop   rbx
    pop   rbp
    add   rsp, 16                       // vector, error code
    iretq

    .org  vectors + {stubs}
    .irp  vector, 0, 1
    stub  \vector, 0, exception
    .endr
    stub  2, 0, kernel_fault            // NMI: the wall takes them
    .irp  vector, 3, 4, 5, 6, 7
    stub  \vector, 0, exception
    .endr
    stub  8, 1, kernel_fault            // double fault
    stub  9, 0, exception
    .irp  vector, 10, 11, 12, 13, 14
    stub  \vector, 1, exception
    .endr
    .irp  vector, 15, 16
    stub  \vector, 0, exception
    .endr
    stub  17, 1, exception
    stub  18, 0, kernel_fault           // machine check
    .irp  vector, 19, 20
    stub  \vector, 0, exception
    .endr
    stub  21, 1, exception
    .irp  vector, 22, 23, 24, 25, 26, 27, 28
    stub  \vector, 0, exception
    .endr
    .irp  vector, 29, 30
    stub  \vector, 1, exception
    .endr
    stub  31, 0, exception
    stub  {virtual_irq}, 0, irq_entry
    stub  {syscall}, 0, sync_entry

    .balign 16
exception:                              // vector, error code, rip, cs
    test  byte ptr [rsp + 24], 3
    jz    kernel_fault
sync_entry:
    store
    lea   rsp, [rip + stack_top]
    push  2
    popfq
    call  {sync}
irq_entry:
    store
    and   dword ptr [rsp + {pstate}], ~0x200    // IF: the wall set it to give this interrupt, and no other may come
    mov   rax, [rsp + {pc}]             // a CPU that checks an address when it fetches from it may stop a task there; iretq
    shr   rax, 47                       // would take the task's fault here, so let it fault at address 0, which no task maps
    jz    2f
    mov   qword ptr [rsp + {pc}], 0
2:
    lea   rsp, [rip + stack_top]
    push  2
    popfq
    call  {irq}
kernel_fault:
    pop   rax
    pop   rdi
    pop   rsi
    shl   rdi, 8
    or    rdi, rax
    lea   rsp, [rip + stack_top]        // the stack may be what failed
    call  {fatal}

    .section .stack, "aw", @nobits
    .balign 4096
    .skip {stack_bytes}
stack_top:
    "#,
    stubs = const descriptors::STUBS,
    stub_bytes = const descriptors::STUB_BYTES,
    tss = sym descriptors::TSS,
    registers_bytes = const size_of::<Registers>(),
    pc = const offset_of!(Registers, pc),
    pstate = const offset_of!(Registers, pstate),
    virtual_irq = const VIRTUAL_IRQ,
    syscall = const SYSCALL,
    stack_bytes = const bulkhead_abi::wall::KERNEL_STACK_BYTES,
    upcall = sym upcall,
    sync = sym crate::task_sync,
    irq = sym crate::task_irq,
    fatal = sym crate::fatal,
);

/// From the upcall entry: the registers of a call from x1 on, last x0, the reason.
extern "C" fn upcall(header: u64, w0: u64, w1: u64, w2: u64, w3: u64, w4: u64, w5: u64, token: u64, reason: u64) -> ! {
    crate::upcall(reason, header, [w0, w1, w2, w3, w4, w5], token)
}

/// Runs a task. The stack is given up: the next entry starts from its top.
#[inline(always)]
pub(crate) fn resume(registers: &Registers) -> ! {
    // SAFETY: the code there takes the registers in RAX and leaves to the task; all state that lives on is in the kernel's statics.
    unsafe { asm!("jmp resume_task", in("rax") registers, options(noreturn, nostack)) }
}

/// Loads the descriptor tables through which tasks enter.
pub(crate) fn enable() {
    descriptors::load();
}

/// General protection: what a port that is not open raises, with no error code (SDM 1 §19.5.2).
const PROTECTION: u64 = 13;

/// Whether the task reached for a port while its own were shut, and may try again.
pub(crate) fn can_retry(kernel: &mut Kernel) -> bool {
    let Registers { vector, error, .. } = *kernel.registers();
    vector == PROTECTION && error == 0 && kernel.running().is_some_and(descriptors::open_ports)
}

/// The page fault's vector.
const PAGE_FAULT: u64 = 14;

/// What the task did wrong: vector and error code, and an address; `None`: it made a system call.
#[inline(always)]
pub(crate) fn fault(registers: &Registers) -> Option<[u64; 2]> {
    if registers.vector == u64::from(SYSCALL) { None } else { Some(details(registers)) }
}

#[inline(never)]
fn details(registers: &Registers) -> [u64; 2] {
    let Registers { vector, error, pc, .. } = *registers;
    let address = if vector == PAGE_FAULT { instr::read_cr2() } else { pc };
    [vector | error << 8, address]
}
