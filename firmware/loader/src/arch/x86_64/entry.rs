//! From GRUB to 64-bit mode (Multiboot2 Specification 2.0 §3; SDM 3 §10.8.5).

use core::arch::global_asm;

use bulkhead_loader::x86_64::multiboot2;

// The header asks for modules at page starts (tag 6) and nothing else. The machine comes in 32-bit protected mode, paging
// off. The tables map the first 4 GiB to themselves by 2 MiB pages, which every CPU has: nothing that the loader reads
// or the boot chain loads lies above. CR0 gets its whole value: the boot chain leaves caches off (CD, NW), which a guest would
// inherit.
global_asm!(
    r#"
    .section .text.entry, "ax"
    .balign 8
header:
    .long 0xe85250d6
    .long 0
    .long header_end - header
    .long -(0xe85250d6 + (header_end - header))
    .short 6, 0
    .long 8
    .short 0, 0
    .long 8
header_end:

    .code32
    .global _start
_start:
    cli
    cld
    mov   esp, offset stack_top
    mov   esi, offset no_chain
    cmp   eax, {magic}
    jne   refuse
    mov   ebp, ebx
    mov   esi, offset no_long_mode
    mov   eax, 0x80000000
    cpuid
    cmp   eax, 0x80000001
    jb    refuse
    mov   eax, 0x80000001
    cpuid
    bt    edx, 29
    jnc   refuse

    mov   eax, offset tables + 0x1003
    mov   [tables], eax
    xor   ecx, ecx
1:  mov   eax, ecx
    shl   eax, 12
    add   eax, offset tables + 0x2003
    mov   [tables + 0x1000 + ecx * 8], eax
    inc   ecx
    cmp   ecx, 4
    jb    1b
    xor   ecx, ecx
    mov   eax, 0x83
2:  mov   [tables + 0x2000 + ecx * 8], eax
    add   eax, 0x200000
    inc   ecx
    cmp   ecx, 2048
    jb    2b
    mov   eax, offset tables
    mov   cr3, eax
    mov   eax, 0x20
    mov   cr4, eax
    mov   ecx, 0xc0000080
    rdmsr
    or    eax, 0x100
    wrmsr
    mov   eax, 0x80010033
    mov   cr0, eax
    lgdt  [gdt_pointer]
    mov   eax, offset in_long_mode
    push  0x08
    push  eax
    retf

    // Before there is a console: on the screen, and where an emulator listens.
refuse:
    mov   edi, 0xb8000
    mov   ah, 0x07
3:  lodsb
    test  al, al
    jz    4f
    out   0xe9, al
    stosw
    jmp   3b
4:  hlt
    jmp   4b
no_chain:
    .asciz "loader: not started by Multiboot2 (GRUB: multiboot2); stopped\n"
no_long_mode:
    .asciz "loader: the CPU has no 64-bit mode; stopped\n"

    .code64
in_long_mode:
    mov   eax, 0x10
    mov   ds, eax
    mov   es, eax
    mov   ss, eax
    xor   eax, eax
    mov   fs, eax
    mov   gs, eax
    mov   esp, offset stack_top
    mov   edi, ebp
    call  {main}

    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .short 23
    .long gdt

    .section .bss.tables, "aw", @nobits
    .balign 4096
tables:
    .skip 6 * 4096
    .skip 65536
stack_top:
    "#,
    magic = const multiboot2::MAGIC,
    main = sym super::chain::entered,
);
