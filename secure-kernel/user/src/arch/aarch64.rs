//! AArch64 at EL0.
#![expect(unsafe_code, reason = "svc has no safe form")]

use core::arch::{asm, global_asm};

global_asm!(
    r#"
    .section .text.entry, "ax"
    .global _start
_start:
    bl    app_main
    mov   x0, #0
    mov   x8, #10                       // EXIT
    svc   #0
    "#
);

/// `svc` with x0-x7; returns x0-x7 and x9.
#[inline(always)]
pub(crate) fn svc(number: u64, [a0, a1, a2, a3, a4, a5, a6, a7]: [u64; 8]) -> ([u64; 8], u64) {
    let (r0, r1, r2, r3, r4, r5, r6, r7, r9): (u64, u64, u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: the kernel changes x0-x7 and x9 only, and no memory of this app.
    unsafe {
        asm!(
            "svc #0", in("x8") number, inout("x0") a0 => r0, inout("x1") a1 => r1, inout("x2") a2 => r2,
            inout("x3") a3 => r3, inout("x4") a4 => r4, inout("x5") a5 => r5, inout("x6") a6 => r6,
            inout("x7") a7 => r7, out("x9") r9, options(nostack)
        );
    }
    ([r0, r1, r2, r3, r4, r5, r6, r7], r9)
}

/// The system counter, in ticks.
#[must_use]
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no effect; EL0 may (CNTKCTL_EL1).
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Ticks of [`now`] in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    let ticks;
    // SAFETY: as for `now`.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}
