//! Instructions that a guest does not have, from ring 0 and ring 3.

use core::arch::{asm, global_asm};

use bulkhead_guests_x86_64::attempt;

use crate::access::SCRATCH;
use crate::exceptions::{Table, set_gate};
use crate::registers::{read_cr4, write_cr4};
use crate::report::{PROTECTION, Report, UNDEFINED};

pub(crate) fn instructions(report: &mut Report) {
    cpuid(report);
    let at = &raw mut SCRATCH as u64;
    // SAFETY: all are undefined here; one that were not would use memory of this program's own.
    let vmx = unsafe {
        [
            attempt!("vmxon [rax]", in("rax") at),
            attempt!("vmxoff"),
            attempt!("vmclear [rax]", in("rax") at),
            attempt!("vmptrld [rax]", in("rax") at),
            attempt!("vmptrst [rax]", in("rax") at),
            attempt!("vmread rcx, rax", in("rax") 0x6c16_u64, out("rcx") _),
            attempt!("vmwrite rax, rcx", in("rax") 0x6c16_u64, in("rcx") 0_u64),
            attempt!("vmlaunch"),
            attempt!("vmresume"),
            attempt!("invept rcx, [rax]", in("rax") at, in("rcx") 2_u64),
            attempt!("invvpid rcx, [rax]", in("rax") at, in("rcx") 2_u64),
            attempt!(".byte 0x0f, 0x01, 0xd4", in("rax") 0_u64, in("rcx") 0_u64),
            attempt!(".byte 0x0f, 0x37", in("rax") 0_u64),
        ]
    };
    report.none(
        "X22 VMX's instructions, GETSEC",
        "F(#UD)",
        (0..).zip(vmx).filter_map(|(n, got)| (got != UNDEFINED).then_some(n)),
    );
    // SAFETY: as above.
    let svm = unsafe {
        [
            attempt!("vmrun rax", in("rax") at),
            attempt!("vmload rax", in("rax") at),
            attempt!("vmsave rax", in("rax") at),
            attempt!("stgi"),
            attempt!("clgi"),
            attempt!("skinit eax", in("rax") at),
            attempt!("invlpga rax, ecx", in("rax") at, in("rcx") 1_u64),
            if report.is_svm { attempt!("vmcall") } else { attempt!("vmmcall") },
        ]
    };
    report.none(
        "X23 SVM's, the other's call",
        "F(#UD)",
        (0..).zip(svm).filter_map(|(n, got)| (got != UNDEFINED).then_some(n)),
    );
    // SAFETY: the word is this program's own.
    let (vector, kept) = unsafe {
        (at as *mut u64).write_volatile(0x5afe);
        (attempt!("invd"), (at as *mut u64).read_volatile())
    };
    report.equal("X25 INVD", "V", vector | kept << 8, 0x5a_fe00);
    // SAFETY: waiting ends by itself, if it begins.
    let (monitor, mwait, counter) = unsafe {
        (
            attempt!("monitor", in("rax") at, in("rcx") 0_u64, in("rdx") 0_u64),
            attempt!("mwait", in("rax") 0x60_u64, in("rcx") 0_u64),
            attempt!("rdpmc", inout("rax") 0_u64 => _, in("rcx") 0_u64, out("rdx") _),
        )
    };
    report.equal("X27 MONITOR", "F(#UD)", monitor, UNDEFINED);
    report.equal("X27 MWAIT with interrupts masked", "F(#UD)", mwait, UNDEFINED);
    report.equal("X29 RDPMC", "F(#GP)", counter, PROTECTION);
    user(report);
}

pub(crate) fn cpuid(report: &mut Report) {
    let leaves = [0_u32..0x40, 0x4000_0000..0x4000_0100, 0x8000_0000..0x8000_0040, 0xc000_0000..0xc000_0008];
    let ask = |leaf, subleaf| {
        let known = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        [known.eax, known.ebx, known.ecx, known.edx]
    };
    let unstable = leaves.into_iter().flatten().filter(|leaf| (0..4).any(|sub| ask(*leaf, sub) != ask(*leaf, sub)));
    report.none("X21 CPUID, twice", "V", unstable);
    let [_, _, c, d] = ask(1, 0);
    report.equal("X21 MONITOR, VMX, SMX", "V", u64::from(c & (1 << 3 | 1 << 5 | 1 << 6) | d & 1 << 7), 0);
    let [_, _, svm, _] = ask(0x8000_0001, 0);
    report.equal("X21 SVM, SKINIT", "V", u64::from(svm & (1 << 2 | 1 << 12)), 0);
    let hidden = [0xa_u32, 0xb, 0xf, 0x12, 0x14, 0x8000_000a, 0x8000_001f, 0x4000_0010];
    report.none("X21 leaves of monitors and SVM", "V", hidden.into_iter().filter(|leaf| ask(*leaf, 0) != [0; 4]));
}

global_asm!(
    r#"
    .global in_user
in_user:                                // rdi: what to do in ring 3; rax: the vector and one that it led to
    push  rbx
    push  rbp
    push  r12
    push  r13
    push  r14
    push  r15
    mov   [rip + back], rsp
    xor   r15d, r15d
    mov   r14d, 3
    push  0x1b
    lea   rax, [rip + user_stack]
    push  rax
    push  2
    push  0x23
    push  rdi
    iretq
    .global leave_user
leave_user:
    mov   rsp, [rip + back]
    mov   rax, r15
    pop   r15
    pop   r14
    pop   r13
    pop   r12
    pop   rbp
    pop   rbx
    ret
    .global user_vmcall
user_vmcall:
    vmcall
    int   0x31
    .global user_vmmcall
user_vmmcall:
    vmmcall
    int   0x31
    .global user_unaligned
user_unaligned:
    pushfq
    or    dword ptr [rsp], 0x40000      // AC
    popfq
    lea   rdi, [rip + user_stack]
    mov   eax, [rdi - 3]
    int   0x31
    .global user_xsetbv
user_xsetbv:
    mov   eax, 3
    xor   edx, edx
    xor   ecx, ecx
    xsetbv
    int   0x31

    .data
    .balign 8
back:
    .quad 0
    .global user_gdt
user_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff, 0, 0
    .global user_task
user_task:
    .long 0
    .quad fault_stack
    .skip 92
    .balign 16
    .skip 1024
user_stack:
    .skip 1024
fault_stack:
    "#
);

unsafe extern "C" {
    fn in_user(what: unsafe extern "C" fn()) -> u64;
    fn user_vmcall();
    fn user_vmmcall();
    fn user_xsetbv();
    fn user_unaligned();
    fn leave_user();
    static mut user_gdt: [u64; 7];
    static user_task: u8;
    static mut tables: [u64; 0xc00];
}

/// What an unaligned word leads to in ring 3, once `user` has made that possible.
pub(crate) fn unaligned_in_user() -> u64 {
    // SAFETY: it comes back by the interrupt gate, as the others do.
    unsafe { in_user(user_unaligned) }
}

/// Calls from ring 3.
fn user(report: &mut Report) {
    set_gate(0x31, leave_user, 0xee00);
    // SAFETY: ring 3 gets segments, a stack, and all pages; the tables are this program's own.
    unsafe {
        let task = &raw const user_task as u64;
        user_gdt[5] = 103 | (task & 0xff_ffff) << 16 | 0x89 << 40 | (task >> 24 & 0xff) << 56;
        user_gdt[6] = task >> 32;
        let table = Table { limit: 55, base: &raw const user_gdt as u64 };
        asm!("lgdt [{}]", "ltr {:x}", in(reg) &raw const table, in(reg) 0x28_u64);
        for entry in [0, 0x200, 0x400] {
            tables[entry] |= 4;
        }
        asm!("mov {t}, cr3", "mov cr3, {t}", t = out(reg) _);
    }
    let cr4 = read_cr4();
    write_cr4(cr4 | 1 << 18);
    // SAFETY: each comes back by the interrupt gate above.
    let got = unsafe { [in_user(user_vmcall), in_user(user_vmmcall), in_user(user_xsetbv)] };
    write_cr4(cr4);
    report.equal("H05 VMCALL from ring 3", "F(#UD)", got[0], UNDEFINED);
    report.equal("H05 VMMCALL from ring 3", "F(#UD)", got[1], UNDEFINED);
    report.equal("X18 XSETBV from ring 3", "F(#GP)", got[2], PROTECTION);
}
