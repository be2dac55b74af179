//! The ground that the loader stands on: a stack of its own from the start, and, once the firmware is left, its own descriptor and
//! translation tables. Firmware's lie in memory that is given away.

use alloc::string::{String, ToString};
use core::arch::global_asm;
use core::cell::UnsafeCell;

use bulkhead_hypervisor_core::plan::Range;
use bulkhead_loader::x86_64::identity::{self, Table};

use super::{GIB_4, chain, instr};

/// Firmware's services want 128 KiB of stack (UEFI 2.10 §2.3.4).
const STACK_BYTES: usize = 0x4_0000;
/// A root; two levels for 4 GiB; as many as an image above may need over the end of a table.
const TABLES: usize = 1 + 2 + 4 + 2;

#[repr(align(4096))]
struct Stack(#[expect(dead_code, reason = "its address is used")] UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: one CPU, which uses it as its stack.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

#[repr(align(4096))]
struct Tables(UnsafeCell<[Table; TABLES]>);
// SAFETY: one CPU; `prepare` alone writes to them, before they are in use.
unsafe impl Sync for Tables {}
static TABLE_SPACE: Tables = Tables(UnsafeCell::new([[0; 512]; TABLES]));

// The control registers and EFER get their whole values: what firmware turned on besides is off, and a guest would inherit it.
// 64-bit mode is left alone. The descriptors are those of the other boot path: code at 0x08, data at 0x10.
global_asm!(
    r#"
    .text
    .global efi_main
efi_main:
    lea   rsp, [rip + {stack} + {stack_bytes}]
    xor   ebp, ebp
    sub   rsp, 32
    call  {main}
    ud2

own_ground:
    cli
    lgdt  [rip + 2f]
    mov   cr3, rcx
    mov   eax, 0x20
    mov   cr4, rax
    mov   ecx, 0xc0000080
    mov   eax, 0x500
    xor   edx, edx
    wrmsr
    mov   eax, 0x80010033
    mov   cr0, rax
    mov   eax, 0x10
    mov   ds, eax
    mov   es, eax
    mov   ss, eax
    xor   eax, eax
    mov   fs, eax
    mov   gs, eax
    pop   rax
    push  0x08
    push  rax
    retfq

    .balign 8
1:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
2:
    .short 23
    .quad 1b
    "#,
    stack = sym STACK,
    stack_bytes = const STACK_BYTES,
    main = sym chain::entered,
);

/// Builds the tables, for a loader that lies in `image`.
pub(super) fn prepare(image: Range) -> Result<(), String> {
    const FIVE_LEVELS: u64 = 1 << 12;
    if instr::read_cr4() & FIVE_LEVELS != 0 {
        return Err("the firmware runs with five levels of paging: switch that off in its setup".to_string());
    }
    let base = TABLE_SPACE.0.get().addr() as u64;
    // SAFETY: one CPU, and the tables are not in use yet.
    let tables = unsafe { &mut *TABLE_SPACE.0.get() };
    identity::map(tables, base, &[GIB_4, image]).map_err(|_| "the firmware put the loader out of reach".to_string())
}

/// Leaves firmware's tables for the loader's own.
pub(super) fn stand() {
    unsafe extern "efiapi" {
        fn own_ground(tables: u64);
    }
    // SAFETY: `prepare` mapped the first 4 GiB and this program to themselves; the stack lies in this program. Nothing that
    // firmware's tables describe is used again.
    unsafe { own_ground(TABLE_SPACE.0.get().addr() as u64) };
    super::machine::silence_pics();
}
