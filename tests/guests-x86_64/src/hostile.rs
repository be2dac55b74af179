//! The hostile guest of a PC: tries what a guest must not be able to do, from ring 0, and says what it got. Each line is
//! `hostile: ID WHAT: VERDICT`, as it must be, or `FAILED` with what came instead. D: denied, reads give all ones and writes vanish;
//! F: a fault in the guest; V: the wall's own answer, the machine is as it was; OK: must work. It ends by switching itself off.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: attacks are made of raw instructions")]

use core::arch::{asm, global_asm};
use core::fmt::{Display, Write};

use bulkhead_guests_x86_64::{Clock, Uart, attempt, call, find_service, in8, is_amd, out8, power_off, service_call};
use bulkhead_wire::call::SERVICE_INFO;

const DENIED: u64 = u64::MAX - 1;
const MALFORMED: u64 = u64::MAX - 2;
const UNKNOWN: u64 = u64::MAX - 3;
const NOT_SUPPORTED: u64 = u64::MAX;
const ONES: u64 = 0xffff_ffff;

/// What `attempt` gives: a vector and one.
const NONE: u64 = 0;
const UNDEFINED: u64 = 7;
const PROTECTION: u64 = 14;

const APIC: u64 = 0xfee0_0000;
const COMMAND: u64 = APIC + 0x300;
const IO_APIC: u64 = 0xfec0_0000;

/// Ports that the site gives to the guest, by the first and how many: one-byte reads of them are answered.
const DECLARED: [(u16, u16); 16] = [
    (0x20, 2),
    (0x40, 4),
    (0x60, 2),
    (0x64, 1),
    (0x71, 1),
    (0x80, 1),
    (0xa0, 2),
    (0x3f8, 8),
    (0x4d0, 2),
    (0x600, 4),
    (0x608, 4),
    (0x620, 16),
    (0xb000, 4),
    (0xb008, 4),
    (0xc040, 0x40),
    (0x604, 0),
];
/// Registers that the site lets it write, and those that it lets it only read.
const WRITABLE: [(u32, u32); 9] = [
    (0x8b, 1),
    (0x174, 3),
    (0x200, 16),
    (0x250, 32),
    (0x277, 1),
    (0x2ff, 1),
    (0x800, 0x40),
    (0xc000_0080, 5),
    (0xc000_0100, 4),
];
const READABLE: [(u32, u32); 8] =
    [(0x10, 1), (0x1b, 1), (0x3b, 1), (0xfe, 1), (0x1a0, 1), (0xc001_0010, 1), (0xc001_0015, 1), (0xc001_001f, 1)];
const REGISTERS: [(u32, u32); 4] = [(0, 0x2000), (0x4000_0000, 0x100), (0xc000_0000, 0x2000), (0xc001_0000, 0x2000)];

/// Counts what went wrong.
struct Report {
    out: Uart,
    failed: u32,
    is_svm: bool,
}

impl Report {
    fn equal(&mut self, what: &str, verdict: &str, got: u64, wanted: u64) {
        if got == wanted {
            let _ = writeln!(self.out, "hostile: {what}: {verdict}");
        } else {
            self.failed += 1;
            let _ = writeln!(self.out, "hostile: {what}: FAILED, got {got:#x}, wanted {wanted:#x}");
        }
    }

    /// Nothing of many went wrong; else the first that did.
    fn none(&mut self, what: &str, verdict: &str, wrong: impl Iterator<Item = impl Display>) {
        let mut wrong = wrong;
        if let Some(first) = wrong.next() {
            self.failed += 1;
            let _ = writeln!(self.out, "hostile: {what}: FAILED, {first} and {} more", wrong.count());
        } else {
            let _ = writeln!(self.out, "hostile: {what}: {verdict}");
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut report = Report { out: Uart::open(), failed: 0, is_svm: is_amd() };
    // Both 8259s are masked: their vectors are still those of the firmware.
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    ports(&mut report);
    registers(&mut report);
    control(&mut report);
    instructions(&mut report);
    single_steps(&mut report);
    interrupts(&mut report);
    pci(&mut report);
    memory(&mut report);
    changing_code(&mut report);
    match find_service(report.is_svm, "plant") {
        Some(plant) => calls(&mut report, plant),
        None => report.equal("H00 a service called plant", "OK", 0, 1),
    }
    x2apic(&mut report);
    // The secure side's heartbeat is heard while the guest does nothing.
    let _ = writeln!(report.out, "hostile: waits");
    Clock::new().wait_milliseconds(2500);
    let words = if report.failed == 0 { "done" } else { "not as expected" };
    let _ = writeln!(report.out, "hostile: {words}, {} failed", report.failed);
    power_off()
}

const fn holds(ranges: &[(u16, u16)], port: u16) -> bool {
    let mut at = 0;
    while at < ranges.len() {
        if port >= ranges[at].0 && port - ranges[at].0 < ranges[at].1 {
            return true;
        }
        at += 1;
    }
    false
}

/// EAX after an `in` of a width, with nothing in it before.
fn read_port(port: u16, bytes: u16) -> u64 {
    let value: u64;
    // SAFETY: a port is no memory.
    unsafe {
        match bytes {
            1 => asm!("in al, dx", in("dx") port, inout("rax") 0_u64 => value),
            2 => asm!("in ax, dx", in("dx") port, inout("rax") 0_u64 => value),
            _ => asm!("in eax, dx", in("dx") port, inout("rax") 0_u64 => value),
        }
    }
    value
}

fn write_port(port: u16, bytes: u16, value: u32) {
    // SAFETY: as for `read_port`.
    unsafe {
        match bytes {
            1 => asm!("out dx, al", in("dx") port, in("eax") value),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}

fn ports(report: &mut Report) {
    for bytes in [1, 2, 4] {
        let ones = u64::MAX >> (64 - 8 * bytes);
        // Those of PCI's configuration and of ACPI's control are wider, and looked at below.
        let is_nobodys = |port: &u16| {
            let reached = (0..bytes).map(|place| port.wrapping_add(place));
            let is_special = bytes > 1 && matches!(*port, 0xcf8..=0xcff | 0x604 | 0xb004);
            !is_special && reached.into_iter().all(|port| !holds(&DECLARED, port))
        };
        let wrong = (0..=u16::MAX).filter(is_nobodys).filter(|port| read_port(*port, bytes) != ones);
        let what = ["X01 65,536 ports, bytes", "X01 words", "X01 double words"][usize::from(bytes / 2)];
        report.none(what, "D", wrong);
    }
    // Over both ends of COM1: its scratch register, the last, is not written in part.
    out8(0x3ff, 0x5a);
    for (port, bytes) in [(0x3ff, 2), (0x3ff, 4), (0x3fd, 4), (0x3f7, 2), (0x3f6, 4)] {
        write_port(port, bytes, 0xa5a5_a5a5);
        report.equal("X02 over an end of COM1", "D", read_port(port, bytes), u64::MAX >> (64 - 8 * u32::from(bytes)));
    }
    report.equal("X02 COM1's last register", "D", in8(0x3ff).into(), 0x5a);
    for port in 0xfffd..=0xffff {
        report.equal("X03 over the end of all ports", "D", read_port(port, 4), ONES);
    }
    let at = &raw mut SCRATCH as u64;
    // SAFETY: what is read goes to memory of this program's own, if anything is.
    let strings = unsafe {
        [
            attempt!("insb", in("dx") 0x300_u16, inout("rdi") at => _),
            attempt!("rep insd", in("dx") 0x300_u16, inout("rdi") at => _, inout("rcx") 1_u64 << 32 => _),
            attempt!("outsb", in("dx") 0x300_u16, inout("rsi") at => _),
            attempt!("rep outsw", in("dx") 0xb2_u16, inout("rsi") at => _, inout("rcx") u64::MAX => _),
            // The destination is nobody's.
            attempt!("insb", in("dx") 0x64_u16, inout("rdi") 0xd000_0000_u64 => _),
        ]
    };
    for got in strings {
        report.equal("X04 a string of a refused port", "F(#GP)", got, PROTECTION);
    }
    // System management, reset but for the ways that the policy gives, the NMI's mask. The standing condition tells.
    for (port, bytes, value) in [
        (0xb2, 1, 0xff),
        (0xb2, 2, 2),
        (0xb3, 1, 1),
        (0x92, 1, 0x2),
        (0xcf9, 1, 0x2),
        (0x70, 1, 0x8f),
        (0x70, 2, 0x8f),
        (0x6e, 4, u32::MAX),
        (0x64, 1, 0xd1),
    ] {
        write_port(port, bytes, value);
    }
    report.equal("X56 SMI port, reset ports, NMI mask", "D", read_port(0xb2, 1), 0xff);
}

static mut SCRATCH: [u64; 4] = [0; 4];

fn read_register(index: u32) -> (u64, u64) {
    let (low, high): (u64, u64);
    // SAFETY: reading has no effect; a fault is stepped over.
    let vector = unsafe { attempt!("rdmsr", in("ecx") index, inout("rax") 0_u64 => low, inout("rdx") 0_u64 => high) };
    (vector, low | high << 32)
}

fn write_register(index: u32, value: u64) -> u64 {
    // SAFETY: a register whose write could harm this program is written with what it takes, or faults.
    unsafe { attempt!("wrmsr", in("ecx") index, in("rax") value & ONES, in("rdx") value >> 32) }
}

fn registers(report: &mut Report) {
    let is_in = |list: &[(u32, u32)], index: u32| list.iter().any(|range| index.wrapping_sub(range.0) < range.1);
    let all = || REGISTERS.into_iter().flat_map(|(first, count)| first..first + count);
    let read = all().filter(|index| !is_in(&WRITABLE, *index) && !is_in(&READABLE, *index));
    report.none("X06 registers read", "F(#GP)", read.filter(|index| read_register(*index).0 != PROTECTION));
    let written = all().filter(|index| !is_in(&WRITABLE, *index));
    report.none("X06 registers written", "F(#GP)", written.filter(|index| write_register(*index, 0) != PROTECTION));
    report.none(
        "X06 declared ones",
        "OK",
        [0x10, 0x1b, 0x277, 0xc000_0080].into_iter().filter(|index| read_register(*index).0 != NONE),
    );
    // Registers of addresses. QEMU's CPU takes what no CPU would: there it is only the guest's own affair.
    for index in [0xc000_0082_u32, 0xc000_0100, 0x176] {
        let before = read_register(index).1;
        let got = write_register(index, 0x8000_0000_0000_0000);
        if !report.is_svm {
            report.equal("X07 an address that is none", "F(#GP)", got, PROTECTION);
        }
        write_register(index, before);
    }
    let efer = read_register(0xc000_0080).1;
    report.equal("X09 SVME is hidden", "V", efer >> 12 & 1, 0);
    for bits in [1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 8, 1 << 1, 1 << 63] {
        report.equal("X09 EFER", "F(#GP)", write_register(0xc000_0080, efer ^ bits), PROTECTION);
    }
    report.equal("X09 EFER with SCE and NXE", "OK", write_register(0xc000_0080, efer | 0x801), NONE);
    let base = read_register(0x1b).1;
    for value in [base ^ 0x10_0000, base ^ 1 << 11, base ^ 3 << 10, base ^ 0x1_0000_0000] {
        report.equal("X12 the APIC's page moves", "F(#GP)", write_register(0x1b, value), PROTECTION);
    }
    report.equal("X11 a page type that is none", "F(#GP)", write_register(0x277, 2), PROTECTION);
}

fn control(report: &mut Report) {
    const CD: u64 = 1 << 30;
    const NW: u64 = 1 << 29;
    const PG: u64 = 1 << 31;
    let (cr0, cr4) = (read_cr0(), read_cr4());
    // QEMU's CPU checks few of these, and SVM does not ask the wall: a guest that does so there harms itself alone.
    if !report.is_svm {
        for value in [cr0 & !PG, cr0 & !1, cr0 | NW, cr0 | 1 << 32, (cr0 | CD) & !PG, (cr0 | CD) & !1] {
            report.equal("X13 CR0", "F(#GP)", write_cr0(value), PROTECTION);
        }
        for bit in [12, 13, 14, 15, 19, 22, 23, 24, 31, 63] {
            report.equal("X14 CR4", "F(#GP)", write_cr4(cr4 | 1 << bit), PROTECTION);
        }
        report.equal("X14 CR4 without PAE", "F(#GP)", write_cr4(cr4 & !(1 << 5)), PROTECTION);
    }
    report.equal("X13 caches off", "V", write_cr0(cr0 | CD), NONE);
    report.equal("X13 as it sees it", "V", read_cr0(), cr0 | CD);
    report.equal("X13 caches on", "OK", write_cr0(cr0), NONE);
    report.equal("X14 VMXE is hidden", "V", read_cr4() >> 13 & 1, 0);
    report.equal("X18 CR4.OSXSAVE", "OK", write_cr4(cr4 | 1 << 18), NONE);
    for (index, value) in [(0, 0_u64), (0, 6), (0, 5), (0, 1 << 9 | 3), (0, 1 << 62 | 3), (1, 1)] {
        report.equal("X18 XCR0", "F(#GP)", set_xcr(index, value), PROTECTION);
    }
    report.equal("X18 x87 and SSE", "OK", set_xcr(0, 3), NONE);
    set_xcr(0, 1);
    write_cr4(cr4);
    report.equal(
        "X17 LMSW does not leave protection",
        "V",
        {
            // SAFETY: LMSW sets PE and never clears it.
            unsafe { asm!("smsw {w:x}", "and {w:e}, -2", "lmsw {w:x}", w = out(reg) _) };
            read_cr0()
        },
        cr0,
    );
}

fn read_cr0() -> u64 {
    let value;
    // SAFETY: reading has no effect.
    unsafe { asm!("mov {}, cr0", out(reg) value) };
    value
}

fn read_cr4() -> u64 {
    let value;
    // SAFETY: as for `read_cr0`.
    unsafe { asm!("mov {}, cr4", out(reg) value) };
    value
}

fn write_cr0(value: u64) -> u64 {
    // SAFETY: what would end this program faults.
    unsafe { attempt!("mov cr0, rax", in("rax") value) }
}

fn write_cr4(value: u64) -> u64 {
    // SAFETY: as for `write_cr0`.
    unsafe { attempt!("mov cr4, rax", in("rax") value) }
}

fn set_xcr(index: u32, value: u64) -> u64 {
    // SAFETY: this program has no extended state.
    unsafe { attempt!("xsetbv", in("ecx") index, in("rax") value & ONES, in("rdx") value >> 32) }
}

fn instructions(report: &mut Report) {
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

fn cpuid(report: &mut Report) {
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
    .global count_step
count_step:                             // a single step: counted
    inc   r13
    iretq

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
    fn leave_user();
    fn count_step();
    static mut user_gdt: [u64; 7];
    static user_task: u8;
    static mut tables: [u64; 0xc00];
}

/// Table registers as LGDT and LIDT take them.
#[repr(C, packed)]
struct Table {
    limit: u16,
    base: u64,
}

/// Sets a gate of the IDT that is in force.
fn set_gate(vector: usize, handler: unsafe extern "C" fn(), attributes: u64) {
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
fn single_steps(report: &mut Report) {
    set_gate(1, count_step, 0x8e00);
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

fn load(address: u64) -> u64 {
    let value;
    // SAFETY: an access that the wall answers or that faults.
    unsafe { attempt!("mov ecx, [rax]", in("rax") address, inout("rcx") 0_u64 => value) };
    value
}

fn load_wide(address: u64) -> u64 {
    let value;
    // SAFETY: as for `load`.
    unsafe { attempt!("mov rcx, [rax]", in("rax") address, inout("rcx") 0_u64 => value) };
    value
}

fn store(address: u64, value: u32) {
    // SAFETY: as for `load`; of the guest's own memory only words are written where nothing lies.
    unsafe { attempt!("mov [rax], ecx", in("rax") address, in("ecx") value) };
}

fn interrupts(report: &mut Report) {
    store(APIC + 0xf0, 0x1ff);
    // INIT, NMI, SMI, start-up, lowest, external; fixed to a name, to all, to all others; a vector of an exception.
    let commands = [
        0x4_4500, 0x500, 0x8_4500, 0xc_4500, 0x4_4400, 0x400, 0x4_4200, 0x608, 0xc_4608, 0x4_4130, 0x4_4730, 0x4030,
        0x8_4030, 0xc_4030, 0x4_4008,
    ];
    let before = load(COMMAND);
    report.none(
        "I01 commands to CPUs",
        "D",
        commands.into_iter().filter(|command| {
            store(COMMAND, *command);
            load(COMMAND) != before
        }),
    );
    // SAFETY: the vector's handler returns at once.
    let got = unsafe { attempt!("mov [rax], ecx\nsti\nnop\nnop\nnop\ncli", in("rax") COMMAND, in("ecx") 0x4_4030_u32) };
    store(APIC + 0xb0, 0);
    report.equal("I01 an interrupt to itself", "OK", got, 0x31);
    // INIT, SMI; an NMI that a timer would send for ever.
    let entries = [
        (0x320, 0x1_0500),
        (0x320, 0x500),
        (0x320, 0x2_0400),
        (0x350, 0x500),
        (0x360, 0x200),
        (0x370, 0x500),
        (0x370, 0x400),
    ];
    report.none(
        "I01 local vectors",
        "D",
        entries.into_iter().filter_map(|(offset, value)| {
            let before = load(APIC + offset);
            store(APIC + offset, value);
            (load(APIC + offset) != before).then_some(value)
        }),
    );
    let name = load(APIC + 0x20);
    store(APIC + 0x20, 0x0500_0000);
    report.equal("I01 the APIC's name", "D", load(APIC + 0x20), name);
    io_apic(report);
}

fn pin(index: u32) -> u64 {
    store(IO_APIC, 0x10 + 2 * index);
    load(IO_APIC + 0x10)
}

fn io_apic(report: &mut Report) {
    let mut wrong = 0;
    let mut own = 0;
    for index in 0..24 {
        let before = pin(index);
        let is_own = before & 0x700 == 0x400 && before >> 16 & 1 == 0;
        own += u64::from(is_own);
        // NMI, INIT, SMI, reserved ones; of the wall's own pin, anything.
        let values = [0x430, 0x530, 0x1_0530, 0x230, 0x1_0230, 0x330, if is_own { 0x1_0000 } else { 0x630 }];
        for value in values {
            store(IO_APIC + 0x10, value);
            wrong += u64::from(pin(index) != before);
        }
    }
    report.equal("I03 entries that would stop the wall", "D", wrong, 0);
    report.equal("I03 pins of the wall's own", "D", own, u64::from(report.is_svm));
    let before = pin(9);
    store(IO_APIC + 0x10, 0x1_0039);
    report.equal("I03 an entry of its own", "OK", pin(9) & 0x1_07ff, 0x1_0039);
    store(IO_APIC + 0x10, u32::try_from(before).unwrap_or(0x1_0000));
}

fn config(function: u32, register: u32) -> u64 {
    write_port(0xcf8, 4, 1 << 31 | function << 8 | register);
    read_port(0xcfc, 4)
}

fn pci(report: &mut Report) {
    let shown = |function: &u32| matches!(function, 0 | 8 | 0xf0 | 0xf8);
    report.none(
        "P01 functions of nobody",
        "D",
        (0..0x200_u32).filter(|at| !shown(at)).filter(|at| config(*at, 0) != ONES),
    );
    report.none("P01 a bridge and the ports", "OK", [0, 0xf0].into_iter().filter(|at| config(*at, 0) == ONES));
    write_port(0xcf8, 4, 0x0000_f000);
    report.equal("P01 not enabled", "D", read_port(0xcfc, 4), ONES);
    report.equal(
        "P01 over the end of the register",
        "D",
        {
            write_port(0xcf8, 4, 0x8000_f000);
            read_port(0xcfe, 4)
        },
        ONES,
    );
    let command = config(0, 4);
    write_port(0xcfc, 2, 0xffff);
    report.equal("P03 a bridge's command", "D", config(0, 4), command);
    // Each base address and the ROM of the bridge, then the ports': sized, then moved.
    let wrong = [0x10, 0x14, 0x18, 0x24, 0x30].into_iter().filter(|register| {
        let before = config(0, *register);
        write_port(0xcfc, 4, 0xfee0_0000);
        config(0, *register) != before
    });
    report.none("P04 a bridge's base addresses", "D", wrong);
    let place = config(0xf0, 0x10);
    write_port(0xcfc, 4, 0x3f9);
    report.equal("P04 the ports' base address moves", "V", config(0xf0, 0x10), place);
}

/// Memory that is not the guest's: reads give ones, writes vanish.
fn memory(report: &mut Report) {
    const BLOCK: u64 = 0x20_0000;
    /// Above all memory.
    const HOLES: u64 = 0x4000_0000;
    /// Above this program and its own words.
    const FIRST: u64 = 0x100_0000;
    let step = |end: &u64| load(*end) != ONES;
    let end = (FIRST..0xc000_0000).step_by(4096).find(|at| !step(at)).unwrap_or(0);
    let _ = writeln!(report.out, "hostile: memory ends at {end:#x}");
    // The guest's memory may go on above the wall's.
    let above = (end..end + 0x1000_0000).step_by(4096).find(step).unwrap_or(end + 0x1000_0000);
    let top = (above..above + 0x40_0000).step_by(4096).filter(step).last().map_or(above, |last| last + 4096);
    report.equal("X48 what the wall took is the hole", "D", u64::from(above - end >= 0x10_0000), 1);
    let is_controller = |at: &u64| matches!(*at, APIC | IO_APIC);
    let beyond =
        || (end..above).chain(top..0x1_0000_0000).step_by(4096).filter(|at| *at < HOLES || at.is_multiple_of(BLOCK));
    report.none(
        "X48 memory beyond it, read",
        "D",
        beyond().filter(|at| !is_controller(at)).filter(|at| load(*at) != ONES),
    );
    let written =
        (end..above).step_by(4096).take(1024).chain([0xa_0000, 0xb_0000, 0xd000_0000, 0xfed0_0000, 0xfee0_1000]);
    report.none(
        "X48 written",
        "D",
        written.filter(|at| {
            store(*at + 8, 0);
            load(*at + 8) != ONES
        }),
    );
    store(end - 4, 0x1234_5678);
    report.equal("X49 over the end, read", "D", load_wide(end - 4), u64::MAX);
    // SAFETY: half of it is nobody's.
    unsafe { attempt!("mov [rax], rcx", in("rax") end - 4, in("rcx") 0_u64) };
    report.equal("X49 over the end, written", "D", load(end - 4), 0x1234_5678);
    let rom = load(0xf_0000);
    store(0xf_0000, 0x5a5a_5a5a);
    report.equal("X48 the firmware is read only", "D", load(0xf_0000), rom);
    let at = end + BLOCK;
    // SAFETY: none of it is memory of anybody's that they reach.
    let undecoded = unsafe {
        [
            attempt!("add [rax], ecx", in("rax") at, in("ecx") 1),
            attempt!("lock xadd [rax], ecx", in("rax") at, inout("ecx") 1 => _),
            attempt!("lock cmpxchg16b [rsi]", in("rsi") at, inout("rax") 0_u64 => _, inout("rdx") 0_u64 => _, in("rcx") 0_u64),
            attempt!("movsd", inout("rsi") at => _, inout("rdi") at => _),
            attempt!("rep stosq", inout("rdi") at => _, inout("rcx") 1_u64 << 32 => _, in("rax") 0_u64),
            attempt!("bt [rax], rcx", in("rax") at, in("rcx") -64_i64),
            attempt!("mov rsp, [rax]", in("rax") at),
            attempt!("jmp [rax]", in("rax") at),
            attempt!("mov qword ptr [rax], 1", in("rax") at),
            attempt!(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x01, 0x08", in("rax") at, in("ecx") 1),
        ]
    };
    report.none(
        "X46 what does more than move",
        "F(#GP)",
        (0..).zip(undecoded).filter_map(|(n, got)| (got != PROTECTION).then_some(n)),
    );
    let (byte, signed, exchanged): (u64, u64, u64);
    // SAFETY: as above.
    unsafe {
        attempt!("mov cl, [rax]", in("rax") at, inout("rcx") 0_u64 => byte);
        attempt!("movsx ecx, word ptr [rax]", in("rax") at, inout("rcx") 0_u64 => signed);
        attempt!("xchg [rax], ecx", in("rax") at, inout("rcx") 0_u64 => exchanged);
    }
    report.none(
        "X46 what moves",
        "D",
        [(byte, 0xff), (signed, ONES), (exchanged, ONES)]
            .into_iter()
            .filter_map(|(got, wanted)| (got != wanted).then_some(got)),
    );
}

/// Code that is written over, or mapped elsewhere, between two stores by it: each store is the one that stands there.
fn changing_code(report: &mut Report) {
    const PRIORITY: u64 = APIC + 0x80;
    /// Where it runs, and two blocks of memory that are mapped there in turn.
    const HERE: u64 = 0x3000_0000;
    const BLOCKS: [u64; 2] = [0x200_0000, 0x240_0000];
    let put = |at: u64, code: [u8; 8]| {
        // SAFETY: nothing else lies there.
        unsafe { (at as *mut [u8; 8]).write_volatile(code) };
    };
    let map = |block: u64| {
        // SAFETY: the tables are this program's own; nothing of it is reached by this address.
        unsafe {
            (&raw mut tables)
                .cast::<u64>()
                .add(0x400 + usize::try_from(HERE >> 21).unwrap_or(0))
                .write_volatile(block | 0x83);
            asm!("invlpg [{}]", in(reg) HERE);
        }
    };
    let run = || {
        // SAFETY: the code stores ECX or EDX where RAX says, and returns.
        unsafe { asm!("call {}", in(reg) HERE, in("rax") PRIORITY, in("ecx") 0x10, in("edx") 0x20) };
        load(PRIORITY)
    };
    let [ecx, edx, long] = [
        [0x89, 0x08, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90],
        [0x89, 0x10, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90],
        // With a displacement of one byte, which would be another instruction to who took the length of the first.
        [0x89, 0x48, 0x00, 0xc3, 0x90, 0x90, 0x90, 0x90],
    ];
    put(BLOCKS[0], ecx);
    put(BLOCKS[1], edx);
    map(BLOCKS[0]);
    report.equal("X46 a store to a controller", "OK", run(), 0x10);
    put(BLOCKS[0], edx);
    report.equal("X46 written over", "OK", run(), 0x20);
    put(BLOCKS[0], long);
    report.equal("X46 written over by a longer one", "OK", run(), 0x10);
    map(BLOCKS[1]);
    report.equal("X46 another page in its place", "OK", run(), 0x20);
    map(BLOCKS[0]);
    report.equal("X46 the first page again", "OK", run(), 0x10);
    let turns = (0..1000_u32).filter(|turn| {
        let is_even = turn.is_multiple_of(2);
        put(BLOCKS[0], if is_even { edx } else { ecx });
        run() != if is_even { 0x20 } else { 0x10 }
    });
    report.none("X46 written over 1,000 times", "OK", turns);
    store(PRIORITY, 0);
    map(HERE);
}

/// The local APIC by its MSRs, where the CPU has them: the same is dropped there, and there is no way back.
fn x2apic(report: &mut Report) {
    const MODE: u64 = 1 << 10;
    let base = read_register(0x1b).1;
    if core::arch::x86_64::__cpuid(1).ecx >> 21 & 1 == 0 {
        report.equal("X12 an x2APIC that is not there", "F(#GP)", write_register(0x1b, base | MODE), PROTECTION);
        return;
    }
    report.equal("X12 to x2APIC mode", "OK", write_register(0x1b, base | MODE), NONE);
    for value in [base, base & !(1 << 11), (base | MODE) ^ 0x10_0000, (base | MODE) & !(1 << 11)] {
        report.equal("X12 back from it, off, away", "F(#GP)", write_register(0x1b, value), PROTECTION);
    }
    write_register(0x80f, 0x1ff);
    // INIT, NMI, SMI, start-up, lowest; fixed to a name, to all, to all others; a vector of an exception.
    let commands = [
        0x4_4500,
        0x500,
        0x8_4500,
        0xc_4500,
        0x4_4400,
        0x400,
        0x4_4200,
        0x608,
        0xc_4608,
        0x4_4130,
        0x4030,
        0x8_4030,
        0xc_4030,
        0x4_4008,
        0xffff_ffff_0000_4500,
    ];
    let before = read_register(0x830).1;
    let sent = commands.into_iter().filter(|command| {
        write_register(0x830, *command);
        read_register(0x830).1 != before
    });
    report.none("I01 commands to CPUs, by MSR", "D", sent);
    let entries =
        [(0x832, 0x1_0500), (0x832, 0x500), (0x832, 0x2_0400), (0x835, 0x500), (0x836, 0x200), (0x837, 0x400)];
    let taken = entries.into_iter().filter_map(|(index, value)| {
        let before = read_register(index).1;
        write_register(index, value);
        (read_register(index).1 != before).then_some(value)
    });
    report.none("I01 local vectors, by MSR", "D", taken);
    for (index, value) in [(0x802, 1), (0x831, 0), (0x840, 0), (0x8ff, 0)] {
        report.equal("I01 its name, and what is not there", "F(#GP)", write_register(index, value), PROTECTION);
    }
    // The page is dead: what is written there would go out to the bus.
    [0x4_4500, 0x500, 0x400].into_iter().for_each(|command| store(COMMAND, command));
    for (index, value) in [(0x830, 0x4_4030), (0x83f, 0x30)] {
        // SAFETY: the vector's handler returns at once.
        let got = unsafe { attempt!("wrmsr\nsti\nnop\nnop\nnop\ncli", in("ecx") index, in("rax") value, in("rdx") 0) };
        write_register(0x80b, 0);
        report.equal("I01 an interrupt to itself, by MSR", "OK", got, 0x31);
    }
}

fn calls(report: &mut Report, plant: u64) {
    let is_svm = report.is_svm;
    let mut status = |what: &str, header: u64, words: [u64; 6], wanted: u64| {
        let verdict = if wanted == 0 { "OK" } else { "D" };
        report.equal(what, verdict, service_call(is_svm, header, words)[0], wanted);
    };
    let (drain, set_pump) = (plant | 3 << 16 | 1 << 32, plant | 2 << 16 | 1 << 32);
    status("H06 an unknown service", 0x1234, [0; 6], UNKNOWN);
    status("H06 an object of the wall's own", 7 << 16 | 1 << 32, [0; 6], DENIED);
    status("H06 an unknown method", plant | 99 << 16, [0; 6], UNKNOWN);
    status("H02 too few arguments", plant | 2 << 16, [0; 6], MALFORMED);
    status("H02 too many", plant | 2 << 16 | 6 << 32, [0; 6], MALFORMED);
    status("H02 a length of 255", plant | 255 << 32, [0; 6], MALFORMED);
    status("H02 reserved bits", plant | 1 << 63, [0; 6], MALFORMED);
    status("H02 out of range", set_pump, [9999, 0, 0, 0, 0, 0], MALFORMED);
    status("H14 no rule allows it", set_pump, [2900, 0, 0, 0, 0, 0], DENIED);
    status("H14 a rule allows it", set_pump, [1500, 0, 0, 0, 0, 0], 0);
    let leaked = service_call(is_svm, drain, [1, 2, 3, 4, 5, 6]);
    report.none("H04 a refusal leaks nothing", "D", leaked[2..].iter().filter(|word| **word != 0));
    report.none(
        "H01 numbers 0 to 65,535",
        "D",
        (0..0x1_0000_u64).filter(|id| call(is_svm, [*id, 1, 2, 3, 4, 5, 6, 7])[0] != NOT_SUPPORTED),
    );
    report.none(
        "H01 the numbers of our own",
        "D",
        (0xc600_0003..0xc600_1000_u64).filter(|id| call(is_svm, [*id, 0, 0, 0, 0, 0, 0, 0])[0] != NOT_SUPPORTED),
    );
    report.equal(
        "H06 a service beyond the last",
        "D",
        call(is_svm, [SERVICE_INFO.into(), u64::MAX, 0, 0, 0, 0, 0, 0])[0],
        UNKNOWN,
    );
    let turns = if is_svm { 1_000_000 } else { 100_000 };
    let answered = (0..turns).filter(|_| service_call(is_svm, drain, [1, 0, 0, 0, 0, 0])[0] != DENIED);
    report.none("H11 refused calls, a million (in Bochs 100,000)", "D", answered);
    report.equal("H11 the next good call", "OK", service_call(is_svm, plant, [0; 6])[0], 0);
}
