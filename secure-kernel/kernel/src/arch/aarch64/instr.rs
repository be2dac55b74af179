//! Each privileged instruction, wrapped once.
#![expect(unsafe_code, reason = "privileged instructions have no safe form")]

use core::arch::asm;

use bulkhead_abi::boot::BootInfo;
use bulkhead_abi::wall;
use bulkhead_kernel_core::Reply;

macro_rules! readers {
    ($($name:ident $register:literal)*) => {$(
        #[inline(always)]
        pub(crate) fn $name() -> u64 {
            let value;
            // SAFETY: reading these registers has no effect.
            unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}

readers! { read_counter "cntvct_el0" read_cntfrq "cntfrq_el0" read_esr "esr_el1" read_far "far_el1" }

/// Ticks of [`read_counter`] in a second: the architecture says it.
pub(crate) fn ticks_per_second(_info: &BootInfo) -> u64 {
    read_cntfrq()
}

/// Makes a task's address space the current one. It takes effect at the `eret` to the task.
#[inline(always)]
pub(crate) fn write_root(root: u64) {
    // SAFETY: the kernel runs in TTBR1's half only; the tables that `root` names are fixed and never change.
    unsafe { asm!("msr ttbr0_el1, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// A call to the wall (`bulkhead_abi::wall`): number and arguments in x0-x7, the result in x0.
#[inline(always)]
pub(crate) fn call(number: u64, first: u64, words: [u64; 6]) -> u64 {
    let [w0, w1, w2, w3, w4, w5] = words;
    let result;
    // SAFETY: the wall touches no memory of the kernel and keeps what a function call keeps.
    unsafe {
        asm!(
            "hvc #0", inout("x0") number => result, inout("x1") first => _, inout("x2") w0 => _, inout("x3") w1 => _,
            inout("x4") w2 => _, inout("x5") w3 => _, inout("x6") w4 => _, inout("x7") w5 => _,
            clobber_abi("C"), options(nostack)
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
            "hvc #0", in("x0") wall::SWITCH, in("x1") flags | u64::from(reply.len) << 8,
            in("x2") reply.status.raw().cast_unsigned(), in("x3") w0, in("x4") w1, in("x5") w2, in("x6") w3,
            in("x7") w4, in("x8") w5, in("x9") reply.token, in("x10") wake, options(noreturn, nostack)
        );
    }
}

/// After [`wall::FATAL`], which does not return.
pub(crate) fn park() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
