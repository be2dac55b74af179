//! What the bare-metal guests of a PC share: a bzImage's header, the way from its 32-bit entry to 64-bit mode, exceptions that are survived,
//! calls, the first serial port.
#![no_std]
#![expect(unsafe_code, reason = "bare metal: entry, calls and ports")]

use core::arch::{asm, global_asm};
use core::fmt;
use core::panic::PanicInfo;

use bulkhead_wire::call::{SERVICE_CALL, SERVICE_INFO};

// The header is that of Documentation/x86/boot, protocol 2.12: seven sectors of (empty) setup code, loaded at 1 MiB, not relocatable.
global_asm!(
    r#"
    .section .text.header, "ax"
    .org  0x1f1
    .byte 7                             // setup_sects
    .word 0
    .long file_paragraphs               // syssize
    .word 0, 0xffff, 0
    .word 0xaa55
    .byte 0xeb, 0x66                    // over the header
    .ascii "HdrS"
    .word 0x020c
    .long 0
    .word 0, 0
    .byte 0, 1                          // type_of_loader; loadflags: LOADED_HIGH
    .word 0
    .long 0x100000                      // code32_start
    .long 0, 0                          // ramdisk_image, ramdisk_size
    .long 0
    .word 0xe000
    .byte 0, 0
    .long 0                             // cmd_line_ptr
    .long 0x7fffffff                    // initrd_addr_max
    .long 0x200000                      // kernel_alignment
    .byte 0, 12                         // relocatable_kernel; min_alignment
    .word 0
    .long 2047                          // cmdline_size
    .long 0
    .quad 0
    .long 0, 0                          // payload
    .quad 0                             // setup_data
    .quad 0x100000                      // pref_address
    .long memory_bytes                  // init_size
    .long 0

    .section .text.entry, "ax"
    .code32
    .global _start
_start:                                 // 32-bit, flat, paging off
    cli
    cld
    mov   edi, offset bss_at
    mov   ecx, offset bss_bytes
    xor   eax, eax
    rep   stosb
    mov   esp, offset stack_at
    mov   edi, offset tables_at
    lea   eax, [edi + 0x1003]
    mov   [edi], eax                    // PML4 -> PDPT
    lea   ecx, [edi + 0x2003]
    mov   [edi + 0x1000], ecx           // four directories of 2 MiB pages
    add   ecx, 0x1000
    mov   [edi + 0x1008], ecx
    add   ecx, 0x1000
    mov   [edi + 0x1010], ecx
    add   ecx, 0x1000
    mov   [edi + 0x1018], ecx
    lea   edx, [edi + 0x2000]
    mov   eax, 0x83
    mov   ecx, 2048
2:  mov   [edx], eax
    add   eax, 0x200000
    add   edx, 8
    dec   ecx
    jnz   2b
    mov   eax, cr4
    or    eax, 0x20                     // PAE
    mov   cr4, eax
    mov   cr3, edi
    mov   ecx, 0xc0000080
    rdmsr
    or    eax, 0x100                    // LME
    wrmsr
    mov   eax, cr0
    or    eax, 0x80000001
    mov   cr0, eax
    mov   eax, offset gdt_at
    mov   ecx, offset gdt_place_at
    mov   [ecx + 2], eax
    lgdt  [ecx]
    mov   eax, offset entry64_at
    push  0x08
    push  eax
    retf
    .code64
    .global entry64
entry64:
    mov   eax, 0x10
    mov   ds, eax
    mov   es, eax
    mov   ss, eax
    lea   rsp, [rip + stack_top]
    mov   edx, 0xff000                  // the image's start, header included
    lea   rsi, [rip + rela_start]
    lea   rdi, [rip + rela_end]
3:  cmp   rsi, rdi
    jae   4f
    mov   rax, [rsi]
    mov   rcx, [rsi + 16]
    add   rcx, rdx
    mov   [rdx + rax], rcx
    add   rsi, 24
    jmp   3b
4:  lea   rdi, [rip + idt]              // one gate for each of 32 exceptions, then one for each interrupt up to 63
    lea   rax, [rip + exceptions]
    mov   ecx, 64
5:  mov   [rdi], ax
    mov   word ptr [rdi + 2], 0x08
    mov   word ptr [rdi + 4], 0x8e00
    mov   rdx, rax
    shr   rdx, 16
    mov   [rdi + 6], edx
    mov   dword ptr [rdi + 10], 0
    add   rdi, 16
    add   rax, 16
    dec   ecx
    jnz   5b
    lea   rax, [rip + idt]
    mov   [rip + idt_place + 2], rax
    lidt  [rip + idt_place]
    call  guest_main
    ud2

    .balign 16
exceptions:                             // R15 = the vector + 1; the instruction of R14 bytes is stepped over
    .set  vector, 0
    .rept 64
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
    add   rsp, 8
    .endif
    mov   r15d, vector + 1
    .if vector < 32
    add   [rsp], r14
    .endif
    iretq
    .set  vector, vector + 1
    .endr

    .balign 8
    .global gdt
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff

    .data
    .balign 8
    .global gdt_place
gdt_place:
    .word 23
    .quad 0
idt_place:
    .word 1023
    .quad 0

    .section .bss.tables, "aw", %nobits
    .balign 4096
    .global tables
tables:
    .skip 0x6000
idt:
    .skip 0x1000
    .skip 0x4000
    .global stack_top
stack_top:

    "#
);

/// A register call: RAX, RDI, RSI, RDX, RCX, R8, R9, R10 in and out. `is_svm` says which instruction this CPU has.
pub fn call(is_svm: bool, registers: [u64; 8]) -> [u64; 8] {
    let [a, b, c, d, e, f, g, h] = registers;
    let (r0, r1, r2, r3, r4, r5, r6, r7): (u64, u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: the wall changes these registers at the most and no memory; where there is no wall the handler steps over it.
    unsafe {
        if is_svm {
            asm!("vmmcall", inout("rax") a => r0, inout("rdi") b => r1, inout("rsi") c => r2, inout("rdx") d => r3,
                inout("rcx") e => r4, inout("r8") f => r5, inout("r9") g => r6, inout("r10") h => r7, in("r14") 3_u64, out("r15") _);
        } else {
            asm!("vmcall", inout("rax") a => r0, inout("rdi") b => r1, inout("rsi") c => r2, inout("rdx") d => r3,
                inout("rcx") e => r4, inout("r8") f => r5, inout("r9") g => r6, inout("r10") h => r7, in("r14") 3_u64, out("r15") _);
        }
    }
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

/// Whether the CPU's vendor has SVM's instructions.
#[must_use]
pub fn is_amd() -> bool {
    core::arch::x86_64::__cpuid(0).ebx == u32::from_le_bytes(*b"Auth")
}

/// A call of a service: status and words.
pub fn service_call(is_svm: bool, header: u64, [w0, w1, w2, w3, w4, w5]: [u64; 6]) -> [u64; 7] {
    let [r0, r1, r2, r3, r4, r5, r6, _] = call(is_svm, [SERVICE_CALL.into(), header, w0, w1, w2, w3, w4, w5]);
    [r0, r1, r2, r3, r4, r5, r6]
}

/// The object of a service, by a name of at most eight letters.
pub fn find_service(is_svm: bool, name: &str) -> Option<u64> {
    let mut word = [0; 8];
    word.iter_mut().zip(name.bytes()).for_each(|(slot, byte)| *slot = byte);
    let wanted = u64::from_le_bytes(word);
    let infos = (0..64).map(|n| call(is_svm, [SERVICE_INFO.into(), n, 0, 0, 0, 0, 0, 0]));
    infos.take_while(|info| info[0] == 0).find(|info| info[2] == wanted).map(|info| info[1] & 0xffff)
}

/// The time-stamp counter.
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: reading the counter has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Runs instructions and gives the exception that the last of them led to: its vector and one, or 0. What faults is stepped over, with all
/// that follows it here. R14 and R15 are used.
#[macro_export]
macro_rules! attempt {
    ($code:literal $(, $($operands:tt)*)?) => {{
        let vector: u64;
        core::arch::asm!(
            "lea r14, [rip + 3f]", "lea r15, [rip + 2f]", "sub r14, r15", "xor r15d, r15d", "2:", $code, "3:",
            out("r14") _, out("r15") vector, $($($operands)*)?
        );
        vector
    }};
}

/// Time by the ACPI timer, where QEMU's q35 and Bochs have it; the site opens it to the guest.
pub struct Clock {
    port: u16,
    last: u32,
    ticks: u64,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn new() -> Self {
        let port = if in32(0x608) == u32::MAX { 0xb008 } else { 0x608 };
        Self { port, last: in32(port), ticks: 0 }
    }

    /// How long it has run; it has to be asked once in four seconds at least.
    pub fn milliseconds(&mut self) -> u64 {
        let now = in32(self.port);
        self.ticks += u64::from(now.wrapping_sub(self.last) & 0xff_ffff);
        self.last = now;
        self.ticks * 1000 / 3_579_545
    }

    /// Does nothing until then.
    pub fn wait_milliseconds(&mut self, until: u64) {
        while self.milliseconds() < until {}
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads a port of four bytes.
#[must_use]
pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as for `out8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack)) };
    value
}

/// Writes a port of one byte.
pub fn out8(port: u16, value: u8) {
    // SAFETY: a port is no memory; a refused one is dropped.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// Writes a port of two bytes.
pub fn out16(port: u16, value: u16) {
    // SAFETY: as for `out8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) };
}

/// Reads a port of one byte.
#[must_use]
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: as for `out8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

/// The first serial port, which the site opens to the guest.
pub struct Uart(());

impl Uart {
    /// Eight bits, no parity, one stop bit.
    #[must_use]
    pub fn open() -> Self {
        out8(0x3fb, 3);
        Self(())
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The transmitter is empty soon, or there is none.
            for _ in 0..100_000 {
                if in8(0x3fd) & 0x20 != 0 {
                    break;
                }
            }
            out8(0x3f8, byte);
        }
        Ok(())
    }
}

/// Switches the machine off by ACPI's register, where QEMU's q35 and Bochs have it.
pub fn power_off() -> ! {
    // What was said is on its way: the line is idle when both transmitter bits are set.
    for _ in 0..1_000_000 {
        if in8(0x3fd) & 0x60 == 0x60 {
            break;
        }
    }
    out16(0x604, 0x2000);
    out16(0xb004, 0x2000);
    park()
}

/// Waits for good.
pub fn park() -> ! {
    loop {
        // SAFETY: waiting changes no state.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    park()
}
