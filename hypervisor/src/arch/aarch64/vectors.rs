//! Entry from the loader, and the vector table: save the general registers, call one function, restore, return.
#![expect(unsafe_code, reason = "entry and exception vectors are assembly")]

use core::arch::{asm, global_asm};

/// EL2's stack: the last pages of the image.
pub(crate) const STACK_BYTES: u64 = 0x1_0000;

/// The guest's general registers, as the vectors leave them on the stack.
#[repr(C)]
pub(crate) struct Frame {
    registers: [u64; 31],
    reserved: u64,
}

impl Frame {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self { registers: [0; 31], reserved: 0 }
    }

    /// Reads x0-x30; 31 is the zero register.
    #[inline(always)]
    pub(crate) fn get(&self, register: usize) -> u64 {
        self.registers.get(register).copied().unwrap_or(0)
    }

    /// x2-x7: the words of a register call.
    #[inline(always)]
    pub(crate) const fn words(&self) -> &[u64; 6] {
        const { assert!(size_of::<Self>() == 256) };
        match self.registers.split_at(2).1.first_chunk() {
            Some(words) => words,
            // There are 29 registers from x2 on.
            None => &[0; 6],
        }
    }

    /// Writes x0-x30; a write to the zero register is dropped.
    #[inline(always)]
    pub(crate) fn set(&mut self, register: usize, value: u64) {
        if let Some(slot) = self.registers.get_mut(register) {
            *slot = value;
        }
    }
}

global_asm!(
    r#"
    .section .text.entry, "ax"              // all of it, so that only the tables' alignment leaves a gap
    .global _start
_start:                                 // x0: the MachinePlan
    msr   daifset, #0xf
    adrp  x1, stack_top
    add   x1, x1, :lo12:stack_top
    mov   sp, x1
    bl    {main}

    .macro enter handler
    sub   sp, sp, #256
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
    str   x30, [sp, #240]
    mov   x0, sp
    bl    \handler
    b     leave
    .endm

leave:                                  // x0: null, or the arguments of an upcall to the secure partition
    cbnz  x0, upcall
leave_to_guest:
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
    ldr   x30, [sp, #240]
    ldp   x0, x1, [sp], #256
    eret

upcall:                                 // the guest's frame stays at sp
    ldp   x7, x8, [x0, #56]
    ldp   x5, x6, [x0, #40]
    ldp   x3, x4, [x0, #24]
    ldp   x1, x2, [x0, #8]
    ldr   x0, [x0]
    eret

    .macro secure handler               // a call keeps x18-x30 by the handler's ABI; an interrupt needs the rest kept
    .balign 128
    sub   sp, sp, #176
    stp   x0, x1, [sp, #0]
    stp   x2, x3, [sp, #16]
    stp   x4, x5, [sp, #32]
    stp   x6, x7, [sp, #48]
    stp   x8, x9, [sp, #64]
    stp   x10, x11, [sp, #80]
    mov   x0, sp
    add   x1, sp, #176
    b     \handler
    .endm

secure_sync_entry:
    bl    {secure_sync}
    cbnz  x0, secure_to_guest
    ldp   x0, x1, [sp, #0]
    add   sp, sp, #176
    eret
secure_irq_entry:
    stp   x12, x13, [sp, #96]
    stp   x14, x15, [sp, #112]
    stp   x16, x17, [sp, #128]
    stp   x18, x30, [sp, #144]
    bl    {secure_irq}
    cbnz  x0, secure_to_guest
    ldp   x18, x30, [sp, #144]
    ldp   x16, x17, [sp, #128]
    ldp   x14, x15, [sp, #112]
    ldp   x12, x13, [sp, #96]
    ldp   x10, x11, [sp, #80]
    ldp   x8, x9, [sp, #64]
    ldp   x6, x7, [sp, #48]
    ldp   x4, x5, [sp, #32]
    ldp   x2, x3, [sp, #16]
    ldp   x0, x1, [sp, #0]
    add   sp, sp, #176
    eret
secure_to_guest:
    add   sp, sp, #176
    b     leave_to_guest

    .global start_guest
start_guest:                            // x0: the first frame
    adrp  x1, stack_top
    add   x1, x1, :lo12:stack_top
    sub   x1, x1, #256
    mov   x2, #256
1:  sub   x2, x2, #16
    add   x5, x0, x2
    ldp   x3, x4, [x5]
    add   x5, x1, x2
    stp   x3, x4, [x5]
    cbnz  x2, 1b
    mov   sp, x1
    b     leave_to_guest

    .macro vector handler
    .balign 128
    enter \handler
    .endm
    .macro fatal
    .balign 128
    mrs   x0, esr_el2
    mrs   x1, elr_el2
    mrs   x2, far_el2
    adrp  x3, stack_top                 // the stack may be what failed
    add   x3, x3, :lo12:stack_top
    mov   sp, x3
    b     {fatal}
    .endm

    .balign 2048
    .global vector_table
vector_table:
    fatal                               // EL2 with SP_EL0: not used
    fatal
    fatal
    fatal
    fatal                               // EL2 itself: our own bug
    fatal
    fatal
    fatal
    vector {sync}                       // lower, AArch64
    vector {irq}
    vector {irq}                        // FIQ: group 0 is never enabled; treated alike
    vector {serror}
    vector {sync}                       // lower, AArch32 (EL0 only: HCR_EL2.RW)
    vector {irq}
    vector {irq}
    vector {serror}

    .balign 2048
    .global secure_vector_table
secure_vector_table:
    fatal
    fatal
    fatal
    fatal
    fatal
    fatal
    fatal
    fatal
    secure secure_sync_entry
    secure secure_irq_entry
    secure secure_irq_entry
    secure secure_sync_entry            // a system error: ESR_EL2 tells
    secure secure_sync_entry
    secure secure_irq_entry
    secure secure_irq_entry
    secure secure_sync_entry

    .section .stack, "aw", %nobits
    .balign 4096
    .skip {stack_bytes}
stack_top:
    "#,
    stack_bytes = const STACK_BYTES,
    main = sym crate::run::hypervisor_main,
    sync = sym super::exits::guest_sync,
    irq = sym super::exits::guest_irq,
    serror = sym super::exits::guest_serror,
    secure_sync = sym super::exits::secure_sync,
    secure_irq = sym super::exits::secure_irq,
    fatal = sym super::exits::hypervisor_fatal,
);

macro_rules! installers {
    ($($(#[$doc:meta])* $name:ident $table:literal)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name() {
            // SAFETY: the table is 2 KiB-aligned code whose entries keep the ABI of the functions they call.
            unsafe {
                asm!(
                    concat!("adrp {t}, ", $table), concat!("add {t}, {t}, :lo12:", $table), "msr vbar_el2, {t}",
                    t = out(reg) _, options(nostack, preserves_flags)
                );
            }
        }
    )*};
}

installers! {
    /// Points VBAR_EL2 at the guest's table; in force from the next `eret` or `isb` on.
    install_guest "vector_table"
    /// Points VBAR_EL2 at the secure partition's.
    install_secure "secure_vector_table"
}

/// x0-x11 of the secure partition at a trap.
#[repr(C)]
pub(crate) struct SecureFrame(pub(crate) [u64; 12]);

/// Enters the guest with these registers, at ELR_EL2 in SPSR_EL2's state. The caller's stack is given up.
pub(crate) fn start(frame: &Frame) -> ! {
    unsafe extern "C" {
        fn start_guest(frame: *const Frame) -> !;
    }
    // SAFETY: the frame is 256 bytes long (`Frame`), is copied before the stack is reset, and nothing of this call chain is
    // used again.
    unsafe { start_guest(frame) }
}
