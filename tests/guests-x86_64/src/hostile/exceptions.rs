//! Exceptions: single steps over what exits; debug and alignment exceptions, which pass the wall and reach the guest as if they did not.
//! Those that would never end have guests of their own.

use core::arch::{asm, global_asm};

use crate::access::SCRATCH;
use crate::instructions::unaligned_in_user;
use crate::registers::{read_cr0, write_cr0};
use crate::report::Report;

global_asm!(
    r#"
    .global count_debug
count_debug:                            // counted in R13; the handler changes nothing else
    inc   r13
    iretq
    "#
);

unsafe extern "C" {
    fn count_debug();
}

/// Table registers as LGDT and LIDT take them.
#[repr(C, packed)]
pub(crate) struct Table {
    pub(crate) limit: u16,
    pub(crate) base: u64,
}

/// Sets a gate of the IDT that is in force.
pub(crate) fn set_gate(vector: usize, handler: unsafe extern "C" fn(), attributes: u64) {
    let mut idt = Table { limit: 0, base: 0 };
    let at = handler as *const () as u64;
    let words = [at & 0xffff | 0x08 << 16 | attributes << 32 | (at >> 16 & 0xffff) << 48, at >> 32];
    // SAFETY: the IDT is this program's own, and long enough.
    unsafe {
        asm!("sidt [{}]", in(reg) &raw mut idt);
        let gate = (idt.base as *mut [u64; 2]).add(vector);
        gate.write_volatile(words);
    }
}

/// How many steps the lines take, single-stepped, with three more that end it.
macro_rules! steps {
    ($($line:literal),*) => {{
        let count: u64;
        // SAFETY: the step's handler counts in R13; the stack below RSP is skipped; RBX is kept.
        unsafe {
            asm!(
                "mov r12, rbx", "sub rsp, 256", "xor r13d, r13d", "pushfq", "or qword ptr [rsp], 0x100", "popfq", $($line,)*
                "pushfq", "and qword ptr [rsp], -257", "popfq", "add rsp, 256", "mov rbx, r12",
                out("r12") _, out("r13") count, inout("rax") 0x4000_0000_u64 => _, inout("rcx") 0x1b_u64 => _,
                inout("rdx") 0x300_u64 => _, out("rdi") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _
            );
        }
        count
    }};
}

/// Each instruction that exits is one step, in the shadow of STI and MOV SS too.
pub(crate) fn single_steps(report: &mut Report) {
    set_gate(1, count_debug, 0x8e00);
    let plain = steps!("nop");
    report.equal("X35 steps of a plain instruction", "OK", plain, 4);
    for (what, got) in [
        ("X35 a step over CPUID", steps!("cpuid")),
        ("X35 over IN", steps!("in al, dx")),
        ("X35 over OUT", steps!("out dx, eax")),
        ("X35 over RDMSR", steps!("rdmsr")),
        ("X35 over WBINVD", steps!("wbinvd")),
        ("X35 over a call", if report.is_svm { steps!("vmmcall") } else { steps!("vmcall") }),
    ] {
        report.equal(what, "V", got, plain);
    }
    let in_shadow = steps!("mov eax, ss", "mov ss, eax", "nop");
    report.equal("X35 CPUID in the shadow of MOV SS", "V", steps!("mov eax, ss", "mov ss, eax", "cpuid"), in_shadow);
    let in_shadow = steps!("sti", "nop", "cli");
    report.equal("X35 IN in the shadow of STI", "V", steps!("sti", "in al, dx", "cli"), in_shadow);
}

/// DR7: nothing but its fixed bit; a write of four bytes at DR0; an access to a debug register.
const OFF: u64 = 0x400;
const WRITE: u64 = OFF | 0xd << 16 | 2;
const DETECT: u64 = OFF | 1 << 13;
/// DR6 without what was seen.
const NOTHING: u64 = 0xffff_0ff0;
const SEEN: u64 = 0xe00f;

/// Runs instructions under DR0 = R8 and DR7 = R9; how many debug exceptions there were, and what DR6 tells.
macro_rules! watched {
    ($place:expr, $how:expr, $($line:literal),*) => {{
        let (count, status): (u64, u64);
        // SAFETY: the handler counts in R13; what is written is this program's own word.
        unsafe {
            asm!(
                "mov dr6, r10", "xor r13d, r13d", "mov dr0, r8", "mov dr7, r9", $($line,)* "mov dr7, r11", "mov r10, dr6",
                inout("r8") $place => _, inout("r9") $how => _, inout("r10") NOTHING => status, inout("r11") OFF => _,
                out("r13") count, out("rax") _, out("rcx") _
            );
        }
        count | (status & SEEN) << 16
    }};
}

/// X38, X39: one exception each, told as the CPU tells it.
pub(crate) fn exceptions(report: &mut Report) {
    let at = &raw mut SCRATCH as u64;
    let once = |status: u64| 1 | status << 16;
    report.equal("X38 a word that is not watched", "OK", watched!(at, WRITE, "mov dword ptr [r8 + 8], 1", "nop"), 0);
    if report.is_svm && !report.is_qemu {
        // Bochs's SVM tells no place of a debug exception that is intercepted, so that nobody could tell which it is.
        return;
    }
    report.equal("X38 a word that is watched", "OK", watched!(at, WRITE, "mov dword ptr [r8], 1", "nop"), once(1));
    // It is delivered before its instruction, which then runs.
    let instruction =
        watched!(0_u64, OFF, "lea r8, [rip + 2f]", "mov dr0, r8", "mov r9d, 0x402", "mov dr7, r9", "2:", "nop");
    report.equal("X38 an instruction that is watched", "OK", instruction, once(1));
    if !report.is_qemu {
        // QEMU's CPU has neither of these.
        report.equal("X38 an access to a debug register", "OK", watched!(0_u64, DETECT, "mov rax, dr3"), once(1 << 13));
        report.equal("X38 each delivery is watched by the next", "OK", nested(), 9);
        report.equal("X35 INT1", "OK", watched!(0_u64, OFF, ".byte 0xf1"), 1);
        let cr0 = read_cr0();
        write_cr0(cr0 | 1 << 18);
        report.equal("X39 an unaligned word in ring 3", "OK", unaligned_in_user(), 18);
        write_cr0(cr0);
    }
    // SAFETY: nothing is watched any more.
    unsafe { asm!("mov dr0, {z}", "mov dr6, {n}", z = in(reg) 0_u64, n = in(reg) NOTHING) };
}

/// A step whose delivery writes to a word that is watched, whose delivery does too, four times over: one, four, and four more steps.
fn nested() -> u64 {
    let count: u64;
    // SAFETY: the frames lie below RSP, where nothing is kept; the handler counts in R13. Frames of 40 bytes begin at multiples of 16.
    unsafe {
        asm!(
            "mov r12, rsp", "and rsp, -16", "sub rsp, 1024", "xor r13d, r13d",
            "lea rax, [rsp - 8]", "mov dr0, rax", "sub rax, 48", "mov dr1, rax", "sub rax, 48", "mov dr2, rax", "sub rax, 48", "mov dr3, rax",
            "pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov dr7, r9", "mov dr7, r11",
            "pushfq", "and qword ptr [rsp], -257", "popfq", "mov rsp, r12",
            inout("r9") OFF | 0xdddd << 16 | 0xaa => _, inout("r11") OFF => _, out("r12") _, out("r13") count, out("rax") _
        );
    }
    count
}
