//! The hypervisor's own descriptor tables, and what its own faults lead to: a report and a halt, but for the two instructions by which it
//! asks a register for the guest, and for the non-maskable interrupt.
#![expect(unsafe_code, reason = "descriptor tables and fault handlers")]

use core::arch::{asm, global_asm};

use super::field::Page;
use super::instr;
use crate::console::Piece::{Hexadecimal, Text};
use crate::run::the_cpu_if_up;

/// Selectors of the hypervisor's own segments.
pub(crate) const CODE: u16 = 0x08;
pub(crate) const DATA: u16 = 0x10;
pub(crate) const TASK: u16 = 0x18;

/// GDT: null, code, data, a task state segment of 16 bytes.
static GDT: Page<40> = Page::new();
/// A task state segment that nothing is taken from: no stack is switched.
static TSS: Page<104> = Page::new();
static IDT: Page<512> = Page::new();

/// Vectors that exceptions use.
const VECTORS: usize = 32;

global_asm!(
    r#"
    .text
    .balign 16
fault_stubs:
    .set  vector, 0
    .rept {vectors}
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
    .else
    push  0                             // an error code that this exception lacks
    .endif
    push  vector
    jmp   fault_common
    .set  vector, vector + 1
    .endr
fault_common:                           // vector, error code, RIP, CS, RFLAGS, RSP, SS
    cmp   qword ptr [rsp], 2
    je    3f
    push  rax
    cmp   qword ptr [rsp + 8], 1
    jne   5f
    lea   rax, [rip + svm_left]         // a guest's step that the CPU left pending at its exit (Bochs): the guest gets its own
    cmp   rax, [rsp + 24]
    je    6f
5:  mov   rax, [rsp + 24]
    lea   r8, [rip + checked_read]
    cmp   rax, r8
    je    1f
    lea   r8, [rip + checked_write]
    cmp   rax, r8
    je    2f
    mov   rdi, [rsp + 8]
    mov   rsi, [rsp + 16]
    mov   rdx, rax
    mov   rcx, cr2
    lea   rsp, [rip + stack_top]        // the stack may be what failed
    call  {fatal}
1:  lea   rax, [rip + checked_read_end]
    jmp   4f
2:  lea   rax, [rip + checked_write_end]
4:  mov   [rsp + 24], rax
    mov   r8d, 1
6:  pop   rax
3:  add   rsp, 16
    iretq

read_for_guest:                         // edi: the register, rsi: where its value goes; rax: 1 if the CPU refuses
    mov   ecx, edi
    xor   r8d, r8d
checked_read:
    rdmsr
checked_read_end:
    shl   rdx, 32
    or    rdx, rax
    mov   [rsi], rdx
    mov   rax, r8
    ret
write_for_guest:                        // edi: the register, rsi: the value; rax: 1 if the CPU refuses
    mov   ecx, edi
    mov   eax, esi
    mov   rdx, rsi
    shr   rdx, 32
    xor   r8d, r8d
checked_write:
    wrmsr
checked_write_end:
    mov   rax, r8
    ret
    "#,
    vectors = const VECTORS,
    fatal = sym fatal,
);

unsafe extern "C" {
    static fault_stubs: u8;
    fn read_for_guest(index: u32, value: *mut u64) -> u64;
    fn write_for_guest(index: u32, value: u64) -> u64;
}

/// Reads a model-specific register for the guest; `None` if the CPU refuses.
pub(crate) fn rdmsr_checked(index: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: it writes to `value` alone; a general protection fault of its one instruction ends in its answer.
    let failed = unsafe { read_for_guest(index, &raw mut value) };
    (failed == 0).then_some(value)
}

/// Writes a model-specific register for the guest; false if the CPU refuses. Only registers that the policy opens and `msr::decide`
/// forwards.
pub(crate) fn wrmsr_checked(index: u32, value: u64) -> bool {
    // SAFETY: as for `rdmsr_checked`; what the register does is the policy's decision, and the wall's own are never forwarded.
    unsafe { write_for_guest(index, value) == 0 }
}

/// What LGDT and LIDT take.
#[repr(C, packed)]
struct Table {
    limit: u16,
    base: u64,
}

/// Addresses of the tables, which a VMCS wants to know.
pub(crate) struct Tables {
    pub(crate) gdt: u64,
    pub(crate) idt: u64,
    pub(crate) tss: u64,
}

pub(crate) fn tables() -> Tables {
    Tables { gdt: GDT.address(), idt: IDT.address(), tss: TSS.address() }
}

/// Loads the tables: from here on a fault is reported.
pub(crate) fn install() {
    let tss = TSS.address();
    // Present, busy or not, 64-bit TSS, limit 103 (SDM 3 §8.2.3).
    let low = 103 | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    let entries = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, low, tss >> 32];
    // SAFETY: this runs once, before anything uses the tables.
    let (gdt, idt) = unsafe { (GDT.bytes(), IDT.bytes()) };
    for (slot, entry) in gdt.chunks_exact_mut(8).zip(entries) {
        slot.copy_from_slice(&u64::to_le_bytes(entry));
    }
    for (vector, slot) in idt.chunks_exact_mut(16).take(VECTORS).enumerate() {
        let stub = &raw const fault_stubs as u64 + vector as u64 * 16;
        // Interrupt gate, present, the hypervisor's code (SDM 3 §6.14.1).
        let low = stub & 0xffff | u64::from(CODE) << 16 | 0x8e00 << 32 | (stub >> 16 & 0xffff) << 48;
        let [first, second] = [low, stub >> 32].map(u64::to_le_bytes);
        slot.iter_mut().zip(first.into_iter().chain(second)).for_each(|(byte, value)| *byte = value);
    }
    let gdtr = Table { limit: 39, base: GDT.address() };
    let idtr = Table { limit: 511, base: IDT.address() };
    // SAFETY: the tables are static and sound; the code segment is reloaded by a far return, the others by moves.
    unsafe {
        asm!(
            "lgdt [{gdtr}]", "lidt [{idtr}]",
            "push {code}", "lea {scratch}, [rip + 2f]", "push {scratch}", "retfq", "2:",
            "mov ds, {data:e}", "mov es, {data:e}", "mov ss, {data:e}", "mov fs, {zero:e}", "mov gs, {zero:e}", "ltr {task:x}",
            gdtr = in(reg) &raw const gdtr, idtr = in(reg) &raw const idtr, code = in(reg) u64::from(CODE), scratch = out(reg) _,
            data = in(reg) u64::from(DATA), zero = in(reg) 0_u64, task = in(reg) u64::from(TASK)
        );
    }
}

/// A fault of the hypervisor itself: our own bug. It is reported and the machine halts.
extern "C" fn fatal(vector: u64, error: u64, place: u64, address: u64) -> ! {
    if let Some(cpu) = the_cpu_if_up() {
        cpu.console.say(&[
            Text("fault of the hypervisor: vector "),
            Hexadecimal(vector),
            Text(" error "),
            Hexadecimal(error),
            Text(" at "),
            Hexadecimal(place),
            Text(" on "),
            Hexadecimal(address),
            Text("; halted"),
        ]);
    }
    instr::park()
}
