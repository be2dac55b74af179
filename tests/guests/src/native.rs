//! No hypervisor at all: enters the kernel that the emulator put at `KERNEL` at EL1 and is gone. The boot of Debian under
//! the wall is compared with its boot from here: same kernel, same device tree, same RAM disk.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: the way from EL2 to EL1 is assembly")]

use core::arch::global_asm;
use core::panic::PanicInfo;

global_asm!(
    r#"
    .section .text.entry, "ax"
    .global _start
_start:
    b     entry
    .long 0
    .quad 0
    .quad image_bytes
    .quad 0xa
    .quad 0, 0, 0
    .long 0x644d5241
    .long 0
entry:                                  // x0: the device tree, for the kernel
    mov   x1, #1 << 31                  // HCR_EL2.RW: EL1 is AArch64, nothing traps
    msr   hcr_el2, x1
    mov   x1, #3                        // CNTHCTL_EL2: counter and timer open
    msr   cnthctl_el2, x1
    msr   cntvoff_el2, xzr
    mov   x1, #0x33ff                   // CPTR_EL2: FP and SIMD open
    msr   cptr_el2, x1
    mrs   x1, midr_el1
    msr   vpidr_el2, x1
    mov   x1, #1 << 31
    msr   vmpidr_el2, x1
    mov   x1, #0xf                      // ICC_SRE_EL2: system registers, open to EL1
    msr   icc_sre_el2, x1
    isb
    mov   x1, #0x0800
    movk  x1, #0x30d0, lsl #16
    msr   sctlr_el1, x1
    mov   x1, #0x3c5
    msr   spsr_el2, x1
    mov   x1, #0x50000000               // KERNEL
    msr   elr_el2, x1
    mov   x1, xzr
    mov   x2, xzr
    mov   x3, xzr
    eret
    "#
);

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
