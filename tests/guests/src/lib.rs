//! What the bare-metal guests share: a Linux-style Image header, exception vectors that survive, calls, the PL011.
#![no_std]
#![expect(unsafe_code, reason = "bare metal: entry, calls and device registers")]

use core::arch::{asm, global_asm};
use core::fmt;
use core::panic::PanicInfo;

use bulkhead_wire::call::{SERVICE_CALL, SERVICE_INFO};

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
entry:
    adr   x3, _start
    adrp  x1, rela_start
    add   x1, x1, :lo12:rela_start
    adrp  x2, rela_end
    add   x2, x2, :lo12:rela_end
1:  cmp   x1, x2
    b.hs  2f
    ldp   x4, x5, [x1]
    ldr   x6, [x1, #16]
    add   x6, x6, x3
    str   x6, [x3, x4]
    add   x1, x1, #24
    b     1b
2:  adrp  x1, stack_top
    add   x1, x1, :lo12:stack_top
    mov   sp, x1
    adrp  x1, vectors
    add   x1, x1, :lo12:vectors
    msr   vbar_el1, x1
    isb
    bl    guest_main

    .balign 2048
vectors:                                // only those at EL1 with its own stack pointer are ever taken
    .skip 0x200
    mrs   x16, esr_el1                  // a fault: remember why; a data abort steps over, a fetch returns to x30
    lsr   x17, x16, #26
    cmp   x17, #0x21
    b.eq  2f
    mrs   x17, elr_el1
    add   x17, x17, #4
    msr   elr_el1, x17
    eret
2:  msr   elr_el1, x30
    eret
    .balign 128
    mrs   x16, cntvct_el0               // an interrupt: when the handler began
    mrs   x17, icc_iar1_el1
    cmp   x17, #27
    b.ne  1f
    msr   cntv_ctl_el0, xzr
1:  msr   icc_eoir1_el1, x17
    eret
    .balign 2048

    .section .bss.stack, "aw", %nobits
    .balign 4096
    .skip 16384
stack_top:
    "#
);

/// A call by `hvc #0`; x0 of the answer.
pub fn call(id: u32, [first, second, third]: [u64; 3]) -> u64 {
    let result;
    // SAFETY: the wall changes x0-x6 at the most and no memory; what ends the guest does not return.
    unsafe {
        asm!(
            "hvc #0", inout("x0") u64::from(id) => result, inout("x1") first => _, inout("x2") second => _,
            inout("x3") third => _, out("x4") _, out("x5") _, out("x6") _, options(nostack)
        );
    }
    result
}

/// A register call of a service: x0-x6 of the answer.
pub fn service_call(header: u64, [w0, w1, w2, w3, w4, w5]: [u64; 6]) -> [u64; 7] {
    let (r0, r1, r2, r3, r4, r5, r6): (u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: as for `call`.
    unsafe {
        asm!(
            "hvc #0", inout("x0") u64::from(SERVICE_CALL) => r0, inout("x1") header => r1, inout("x2") w0 => r2,
            inout("x3") w1 => r3, inout("x4") w2 => r4, inout("x5") w3 => r5, inout("x6") w4 => r6,
            in("x7") w5, options(nostack)
        );
    }
    [r0, r1, r2, r3, r4, r5, r6]
}

/// x0-x4 of `SERVICE_INFO`.
pub fn service_info(n: u64) -> [u64; 5] {
    let (r0, r1, r2, r3, r4): (u64, u64, u64, u64, u64);
    // SAFETY: as for `call`.
    unsafe {
        asm!(
            "hvc #0", inout("x0") u64::from(SERVICE_INFO) => r0, inout("x1") n => r1, out("x2") r2, out("x3") r3,
            out("x4") r4, options(nostack)
        );
    }
    [r0, r1, r2, r3, r4]
}

/// The object of a service, by a name of at most eight letters.
pub fn find_service(name: &str) -> Option<u64> {
    let mut word = [0; 8];
    word.iter_mut().zip(name.bytes()).for_each(|(slot, byte)| *slot = byte);
    let wanted = u64::from_le_bytes(word);
    let mut infos = (0..64).map(service_info).take_while(|info| info[0] == 0);
    infos.find(|info| info[2] == wanted).map(|info| info[1] & 0xffff)
}

/// The PL011, which the demonstration's site opens to the guest.
pub struct Uart;

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: UARTDR of the PL011 at the address that the demonstration's site declares.
            unsafe { (0x0900_0000 as *mut u32).write_volatile(u32::from(byte)) };
        }
        Ok(())
    }
}

/// Waits for good.
pub fn park() -> ! {
    loop {
        // SAFETY: waiting changes no state.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    park()
}
