//! The boot sector of a PC: starts in real mode, goes to protected and to 64-bit mode, says so on the first serial port, and tries on its way
//! what only they have: interrupts through the vectors at 0, and task switches, each of which the wall refuses. With the word `align` in its
//! command line it ends in an alignment exception of ring 3 whose delivery leads to itself, for ever.
//!
//! All of it names its own places: it lies where a BIOS loads a boot sector, which is `BASE`.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: a boot sector is assembly")]

use core::arch::global_asm;
use core::panic::PanicInfo;

global_asm!(
    r#"
    .section .boot, "ax"
    .set  BASE, 0x7c00
    .set  IDT, 0x5000
    .set  TABLES, 0x10000
    .set  LSR, 0x3fd

    .code16
    .global _start
_start:
    ljmp  $0, $(BASE + in_real - _start)
in_real:
    cli
    cld
    xorw  %ax, %ax
    movw  %ax, %ds
    movw  %ax, %es
    movw  %ax, %ss
    movw  $BASE, %sp
    movl  %esi, BASE + boot_params - _start
    movb  %dl, %cl
    movw  $0x3fb, %dx                   // eight bits
    movb  $3, %al
    outb  %al, %dx
    movw  $(BASE + real_text - _start), %bp
    cmpb  $0x80, %cl
    jne   wrong16
    movl  %cr0, %eax
    testb $1, %al
    jnz   wrong16
    movw  $(BASE + on_interrupt - _start), 4 * 0x60
    movw  $0, 4 * 0x60 + 2
    xorw  %bx, %bx
    int   $0x60
    cmpw  $0x5afe, %bx
    jne   wrong16
    movw  $0x300, %dx                   // nobody's port
    xorw  %ax, %ax
    inb   %dx, %al
    cmpb  $0xff, %al
    jne   wrong16
    movl  $0x40000000, %eax
    cpuid
    cmpl  $0x6b6c7542, %ebx             // "Bulk"
    jne   wrong16
    movw  %bp, %si
    call  print16
    lgdtl BASE + gdt_place - _start
    movl  %cr0, %eax
    orb   $1, %al
    movl  %eax, %cr0
    ljmpl $8, $(BASE + in_protected - _start)

on_interrupt:
    movw  $0x5afe, %bx
    iretw

wrong16:
    movw  $(BASE + wrong_text - _start), %si
    call  print16
1:  hlt
    jmp   1b

print16:                                // si: a text that ends with 0
    lodsb
    testb %al, %al
    jz    2f
    movb  %al, %ah
    movw  $LSR, %dx
1:  inb   %dx, %al
    testb $0x20, %al
    jz    1b
    movw  $0x3f8, %dx
    movb  %ah, %al
    outb  %al, %dx
    jmp   print16
2:  ret

    .org  510
    .byte 0x55, 0xaa

    .code32
in_protected:
    movl  $0x10, %eax
    movl  %eax, %ds
    movl  %eax, %es
    movl  %eax, %ss
    movl  %eax, %fs
    movl  %eax, %gs
    movl  $BASE, %esp
    movl  $(BASE + protected_text - _start), %esi
    call  print
    movl  BASE + boot_params - _start, %esi
    movl  $(BASE + wrong_text - _start), %edi
    cmpb  $0, 0x1e8(%esi)               // entries of the memory map
    je    wrong
    cmpl  $1, 0x2d0 + 16(%esi)          // the first is memory
    jne   wrong
    movl  $IDT, %edi                    // an interrupt gate for each exception
    movl  $(BASE + stubs - _start), %eax
    movl  $32, %ecx
1:  movl  %eax, %edx
    andl  $0xffff, %edx
    orl   $0x80000, %edx
    movl  %edx, (%edi)
    movl  $0x8e00, 4(%edi)
    addl  $16, %eax
    addl  $8, %edi
    decl  %ecx
    jnz   1b
    lidtl BASE + idt_place - _start
    movl  $0x18, %eax
    ltr   %ax
    movl  0x228(%esi), %esi             // cmd_line_ptr
2:  movl  (%esi), %eax
    cmpl  $0x67696c61, %eax             // "alig"
    je    endless
    incl  %esi
    testb %al, %al
    jnz   2b

    .macro attempt text, bytes, code:vararg
    movl  %esp, BASE + kept_stack - _start
    movl  $0, BASE + result - _start
    movl  $(BASE + 3f - _start), BASE + resume - _start
    movl  $\bytes, %ebx
    \code
3:  movl  $(BASE + \text - _start), %esi
    call  verdict
    .endm

    attempt by_jump_text, 7, ljmp $0x20, $0
    attempt by_gate_text, 7, ljmp $0x28, $0
    movl  $0x00200000, IDT + 0x40 * 8   // a task gate
    movl  $0x8500, IDT + 0x40 * 8 + 4
    attempt by_interrupt_text, 2, int $0x40
    movl  $0x00200000, IDT
    movl  $0x8500, IDT + 4
    xorl  %ecx, %ecx
    attempt by_exception_text, 2, divl %ecx
    movb  $0x8b, BASE + gdt + 0x25 - _start // busy, as a task is that another one returns to
    movw  $0x20, BASE + task - _start
    pushfl
    orl   $0x4000, (%esp)               // NT
    popfl
    attempt by_return_text, 1, iretl
    pushl $2
    popfl

    movl  $TABLES, %edi                 // one block of 1 GiB as 512 of 2 MiB
    movl  $0xc00, %ecx
    xorl  %eax, %eax
    rep   stosl
    movl  $(TABLES + 0x1003), TABLES
    movl  $(TABLES + 0x2003), TABLES + 0x1000
    movl  $(TABLES + 0x2000), %edi
    movl  $0x83, %eax
    movl  $512, %ecx
4:  movl  %eax, (%edi)
    addl  $0x200000, %eax
    addl  $8, %edi
    decl  %ecx
    jnz   4b
    movl  $TABLES, %eax
    movl  %eax, %cr3
    movl  %cr4, %eax
    orl   $0x20, %eax                   // PAE
    movl  %eax, %cr4
    movl  $0xc0000080, %ecx
    rdmsr
    orl   $0x100, %eax                  // LME
    wrmsr
    movl  %cr0, %eax
    orl   $0x80000000, %eax
    movl  %eax, %cr0
    ljmp  $0x40, $(BASE + in_long - _start)

wrong:
    movl  $(BASE + wrong_text - _start), %esi
    call  print
1:  hlt
    jmp   1b

verdict:                                // esi: what was tried
    call  print
    movl  BASE + result - _start, %eax
    movl  $(BASE + nothing_text - _start), %esi
    testl %eax, %eax
    jz    print
    movl  $(BASE + protection_text - _start), %esi
    cmpl  $14, %eax
    je    print
    movl  $(BASE + double_text - _start), %esi
    cmpl  $9, %eax
    je    print
    movl  $(BASE + switched_text - _start), %esi
    cmpl  $100, %eax
    je    print
    movl  $(BASE + wrong_text - _start), %esi

print:                                  // esi: a text that ends with 0
    lodsb
    testb %al, %al
    jz    2f
    movb  %al, %ah
    movl  $LSR, %edx
1:  inb   %dx, %al
    testb $0x20, %al
    jz    1b
    movl  $0x3f8, %edx
    movb  %ah, %al
    outb  %al, %dx
    jmp   print
2:  ret

    .balign 16
stubs:
    .set  vector, 0
    .rept 32
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
    .else
    pushl $0
    .endif
    pushl $vector
    jmp   fault
    .set  vector, vector + 1
    .endr
fault:                                  // vector, error code, EIP: EBX bytes are stepped over
    movl  (%esp), %eax
    incl  %eax
    movl  %eax, BASE + result - _start
    addl  %ebx, 8(%esp)
    addl  $8, %esp
    iretl

landed:                                 // the other task, if the CPU switches to it: back
    movl  $100, BASE + result - _start
    movb  $0x89, BASE + gdt + 0x1d - _start
    movb  $0x89, BASE + gdt + 0x25 - _start
    movl  $0x18, %eax
    ltr   %ax
    movl  BASE + kept_stack - _start, %esp
    pushl $2
    popfl
    jmp   *(BASE + resume - _start)

endless:                                // an alignment exception whose handler is in ring 3, on a stack that is not aligned
    movl  $(BASE + endless_text - _start), %esi
    call  print
    movl  $(BASE + in_user - _start), %eax
    andl  $0xffff, %eax
    orl   $0x330000, %eax
    movl  %eax, IDT + 17 * 8
    movl  %cr0, %eax
    orl   $0x40000, %eax                // AM
    movl  %eax, %cr0
    pushl $0x3b
    pushl $0x6ffd
    pushl $0x40002                      // AC
    pushl $0x33
    pushl $(BASE + in_user - _start)
    iretl
in_user:
    movl  (%esp), %eax
    jmp   in_user

    .code64
in_long:
    movl  $0x10, %eax
    movl  %eax, %ss
    movl  $BASE, %esp
    movl  $(BASE + long_text - _start), %esi
1:  lodsb
    testb %al, %al
    jz    3f
    movb  %al, %ah
    movl  $LSR, %edx
2:  inb   %dx, %al
    testb $0x20, %al
    jz    2b
    movl  $0x3f8, %edx
    movb  %ah, %al
    outb  %al, %dx
    jmp   1b
3:  movl  $LSR, %edx                    // until the line is idle
    inb   %dx, %al
    testb $0x40, %al
    jz    3b
    movl  $0x2000, %eax
    movl  $0x604, %edx
    outw  %ax, %dx
    movl  $0xb004, %edx
    outw  %ax, %dx
4:  hlt
    jmp   4b

    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
    .word 103, BASE + task - _start     // 0x18: this task
    .byte 0, 0x89, 0, 0
    .word 103, BASE + other_task - _start // 0x20
    .byte 0, 0x89, 0, 0
    .quad 0x0000850000200000            // 0x28: a gate to it
    .quad 0x00cffb000000ffff, 0x00cff3000000ffff // 0x30, 0x38: ring 3
    .quad 0x00af9b000000ffff            // 0x40: 64 bits
gdt_end:
gdt_place:
    .word gdt_end - gdt - 1
    .long BASE + gdt - _start
idt_place:
    .word 0x41 * 8 - 1
    .long IDT
    .balign 4
boot_params:
    .long 0
kept_stack:
    .long 0
result:
    .long 0
resume:
    .long 0
task:
    .long 0, 0x7000, 0x10
    .fill 23, 4, 0
other_task:
    .fill 7, 4, 0
    .long 0                             // CR3
    .long BASE + landed - _start, 2, 0, 0, 0, 0, 0x6800, 0, 0, 0
    .long 0x10, 8, 0x10, 0x10, 0x10, 0x10, 0, 0
real_text:
    .asciz "boot: real mode, disk 0x80, vectors at 0\n"
protected_text:
    .asciz "boot: protected mode\n"
long_text:
    .asciz "boot: long mode, done\n"
by_jump_text:
    .asciz "boot: X31 a jump to a task: "
by_gate_text:
    .asciz "boot: X31 a jump to a task's gate: "
by_interrupt_text:
    .asciz "boot: X31 an interrupt by a task's gate: "
by_exception_text:
    .asciz "boot: X31 an exception by a task's gate: "
by_return_text:
    .asciz "boot: X31 a return to a task: "
endless_text:
    .asciz "boot: X39 begins an alignment exception without an end\n"
protection_text:
    .asciz "F(#GP)\n"
double_text:
    .asciz "F(#DF)\n"
switched_text:
    .asciz "OK, by the CPU\n"
nothing_text:
    .asciz "nothing\n"
wrong_text:
    .asciz "boot: FAILED\n"
    "#,
    options(att_syntax)
);

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    loop {}
}
