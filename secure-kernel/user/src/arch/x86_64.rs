//! x86-64 at privilege level 3. Registers are numbered as `bulkhead_abi::wall::x86_64` says.
#![expect(unsafe_code, reason = "int has no safe form")]

use core::arch::{asm, global_asm};

use bulkhead_abi::boot::BootInfo;
use bulkhead_abi::syscall::EXIT;
use bulkhead_abi::wall;
use bulkhead_abi::wall::x86_64::SYSCALL;

global_asm!(
    r#"
    .section .text.entry, "ax"
    .global _start
_start:
    call  app_main
    xor   eax, eax
    mov   r11d, {exit}
    int   {syscall}
    "#,
    exit = const EXIT,
    syscall = const SYSCALL,
);

/// `int 0x80` with x0-x7; returns x0-x7 and x9.
#[inline(always)]
pub(crate) fn svc(number: u64, [a0, a1, a2, a3, a4, a5, a6, a7]: [u64; 8]) -> ([u64; 8], u64) {
    let (r0, r1, r2, r3, r4, r5, r6, r7, r9): (u64, u64, u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: the kernel changes x0-x7 and x9 only, and no memory of this app.
    unsafe {
        asm!(
            "int {syscall}", syscall = const SYSCALL, in("r11") number, inout("rax") a0 => r0, inout("rdi") a1 => r1,
            inout("rsi") a2 => r2, inout("rdx") a3 => r3, inout("rcx") a4 => r4, inout("r8") a5 => r5,
            inout("r9") a6 => r6, inout("r10") a7 => r7, out("r12") r9, options(nostack)
        );
    }
    ([r0, r1, r2, r3, r4, r5, r6, r7], r9)
}

/// The tick counter: the TSC.
#[must_use]
pub fn now() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effect; every privilege level may (CR4.TSD is clear).
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a byte from a port. One that the policy does not give to this app ends it.
#[must_use]
pub fn read_port(port: u16) -> u8 {
    let value;
    // SAFETY: a port is no memory; what its device does, the policy gives to this app, and no device that it can give masters the bus.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to a port. One that the policy does not give to this app ends it.
pub fn write_port(port: u16, value: u8) {
    // SAFETY: as for `read_port`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Ticks of [`now`] in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    // SAFETY: the bundle maps the boot information read only at this address for every app.
    unsafe { (*(wall::APP_BOOT_VA as *const BootInfo)).ticks_per_second }
}
