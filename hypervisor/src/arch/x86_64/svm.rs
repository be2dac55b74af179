//! SVM: two VMCBs, and what an exit of each leads to (APM 2 chapter 15). Decode assists, next-RIP save, flush by ASID and clean bits are
//! used where they are, and none is needed.
#![expect(unsafe_code, reason = "the bitmaps are filled before the CPU uses them")]

use core::sync::atomic::{AtomicBool, Ordering};

use bulkhead_abi::wall;
use bulkhead_hypervisor_core::call::{self, Hot};
use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::x86::{Exit, event, svm};
use bulkhead_model::{method, object};

use super::entry::Frame;
use super::field::{self, Control, Page};
use super::{GUEST, exits, guest, instr, memory, secure};
use crate::run::the_cpu;
use crate::spaces::Roots;

static GUEST_VMCB: Page<4096> = Page::new();
static SECURE_VMCB: Page<4096> = Page::new();
static HOST_SAVE: Page<4096> = Page::new();
/// I/O permission: 64 Ki bits and three more (APM 2 §15.10.1).
pub(super) static PORTS: Page<12288> = Page::new();
pub(super) static APP_PORTS: Page<12288> = Page::new();
/// MSR permission (APM 2 §15.11).
pub(super) static REGISTERS: Page<8192> = Page::new();
pub(super) static ALL_REGISTERS: Page<8192> = Page::new();

/// Fields that only SVM has (APM 2 appendix B).
pub(crate) mod fields {
    pub(crate) const CR_INTERCEPTS: u16 = 0x00;
    pub(crate) const EXCEPTIONS: u16 = 0x08;
    pub(crate) const INTERCEPTS: u16 = 0x0c;
    pub(crate) const MORE_INTERCEPTS: u16 = 0x10;
    pub(crate) const PORTS: u16 = 0x40;
    pub(crate) const REGISTERS: u16 = 0x48;
    pub(crate) const ASID: u16 = 0x58;
    pub(crate) const FLUSH: u16 = 0x5c;
    pub(crate) const VIRTUAL_INTERRUPT: u16 = 0x60;
    pub(crate) const CODE: u16 = 0x70;
    pub(crate) const INFO1: u16 = 0x78;
    pub(crate) const INFO2: u16 = 0x80;
    pub(crate) const NESTED: u16 = 0x90;
    pub(crate) const NESTED_ROOT: u16 = 0xb0;
    pub(crate) const NEXT_RIP: u16 = 0xc8;
    pub(crate) const CODE_BYTES: u16 = 0xd0;
    pub(crate) const DR6: u16 = 0x568;
}

/// First word: NMI, INIT, writes of CR0 that change more than TS and MP, RDPMC, INVD, CPUID, RSM, INVLPGA, port accesses, registers, task switches, shutdown. Not: interrupts, which go
/// straight to the guest; HLT.
const GUEST_EXITS: u32 =
    1 << 1 | 1 << 3 | 1 << 5 | 1 << 15 | 1 << 18 | 1 << 19 | 1 << 22 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31;
/// Second word: VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, MONITOR, MWAIT, XSETBV.
const GUEST_MORE_EXITS: u32 = 0x7f | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13;
/// The secure partition besides: HLT.
const SECURE_EXITS: u32 = GUEST_EXITS | 1 << 24;
/// A virtual interrupt's window (VINTR).
pub(crate) const WINDOW: u32 = 1 << 4;

const VM_HSAVE_PA: u32 = 0xc001_0117;
const EFER: u32 = 0xc000_0080;
/// EFER.SVME: a guest's must have it too (APM 2 §15.5.1).
pub(crate) const SVME: u64 = 1 << 12;

/// CPUID 0x8000_000a EDX 3.
static HAS_NEXT_RIP: AtomicBool = AtomicBool::new(false);

/// Turns SVM on and builds both partitions; the guest's VMCB is the one that fields name.
pub(crate) fn build(plan: &MachinePlan, roots: &Roots) {
    instr::wrmsr(EFER, instr::rdmsr(EFER) | SVME);
    instr::wrmsr(VM_HSAVE_PA, HOST_SAVE.address());
    instr::clgi();
    HAS_NEXT_RIP.store(instr::cpuid(0x8000_000a, 0)[3] >> 3 & 1 != 0, Ordering::Relaxed);
    // SAFETY: no other reference to these pages exists; no VMCB names them yet.
    let (ports, app_ports) = unsafe { (PORTS.bytes(), APP_PORTS.bytes()) };
    guest::fill_ports(ports, app_ports, plan);
    // SAFETY: as above.
    let (registers, all) = unsafe { (REGISTERS.bytes(), ALL_REGISTERS.bytes()) };
    all.fill(0xff);
    registers.fill(0xff);
    // Two bits a register, read and write; low registers first, high ones from 0x800 on.
    guest::fill_registers(plan, |is_high, is_write, place| {
        let bit = usize::from(is_high) * 0x4000 + place * 2 + usize::from(is_write);
        if let Some(byte) = registers.get_mut(bit / 8) {
            *byte &= !(1 << (bit % 8));
        }
    });
    make(
        &SECURE_VMCB,
        roots.secure,
        2,
        [SECURE_EXITS, GUEST_MORE_EXITS],
        [APP_PORTS.address(), ALL_REGISTERS.address()],
    );
    // Control registers of the secure side never change.
    field::set_vmcb32(fields::CR_INTERCEPTS, 1 << 16 | 1 << 20 | 1 << 24);
    guest::set_secure(plan.secure_root);
    make(&GUEST_VMCB, roots.guest, 1, [GUEST_EXITS, GUEST_MORE_EXITS], [PORTS.address(), REGISTERS.address()]);
    field::set_vmcb32(fields::EXCEPTIONS, event::WATCHED);
}

fn make(vmcb: &Page<4096>, root: u64, asid: u32, [first, second]: [u32; 2], [ports, registers]: [u64; 2]) {
    field::set_current(vmcb.address());
    field::set_vmcb32(fields::INTERCEPTS, first);
    field::set_vmcb32(fields::MORE_INTERCEPTS, second);
    field::set_vmcb(fields::PORTS, ports);
    field::set_vmcb(fields::REGISTERS, registers);
    field::set_vmcb32(fields::ASID, asid);
    // All translations are forgotten at the first entry.
    field::set_vmcb32(fields::FLUSH, 1);
    field::set_vmcb(fields::NESTED, 1);
    field::set_vmcb(fields::NESTED_ROOT, root);
    field::set_vmcb(fields::DR6, 0xffff_0ff0);
}

/// At the next entry the translations of the current VMCB are forgotten: its own, if the CPU can choose (FlushByASID, CPUID 0x8000_000a EDX 6;
/// APM 2 §15.16.2), else all.
pub(crate) fn flush() {
    let can_choose = instr::cpuid(0x8000_000a, 0)[3] >> 6 & 1 != 0;
    field::set_vmcb32(fields::FLUSH, if can_choose { 3 } else { 1 });
}

/// Writes of CR4 by the guest exit; all its reads and writes of CR0, too, while what it sees is not what is in force.
pub(crate) fn watch_control(is_watched: bool) {
    field::set_vmcb32(fields::CR_INTERCEPTS, 1 << 20 | if is_watched { 1 << 16 | 1 } else { 0 });
}

/// The VMCBs: guest, secure.
pub(crate) fn controls() -> [u64; 2] {
    [GUEST_VMCB.address(), SECURE_VMCB.address()]
}

/// From the guest to the secure partition.
#[inline(always)]
fn to_secure() {
    let [guest, secure] = controls();
    instr::swap_segments(guest, secure);
    field::set_current(secure);
    secure::begin(Control::Vmcb(secure));
}

/// Back to the guest.
#[inline(always)]
pub(crate) fn to_guest() {
    let [guest, secure] = controls();
    instr::swap_segments(secure, guest);
    field::set_current(guest);
}

/// Ends a handler of the guest's exits: on to where it leads.
#[inline(always)]
fn go_on(next: *mut Frame) -> *mut Frame {
    if next != GUEST {
        to_secure();
    }
    next
}

/// How long the instruction was that exited.
#[inline(always)]
pub(crate) fn length(exit: Exit) -> u64 {
    let from = field::RIP.read_in(Control::current_vmcb());
    if HAS_NEXT_RIP.load(Ordering::Relaxed) {
        return field::vmcb(fields::NEXT_RIP).wrapping_sub(from);
    }
    match exit {
        Exit::Port(_) => field::vmcb(fields::INFO2).wrapping_sub(from),
        _ => svm::length(exit).unwrap_or(0),
    }
}

/// The bytes of the instruction whose access to memory exited, as the CPU fetched it: decode assists (APM 2 §15.8.4). None where the CPU has none, or
/// could not tell.
#[inline(always)]
pub(crate) fn code_bytes() -> Option<([u8; 16], usize)> {
    let first = field::vmcb(fields::CODE_BYTES);
    let count = (first & 0xf) as usize;
    if count == 0 {
        return None;
    }
    let [_, low @ ..] = first.to_le_bytes();
    let mut bytes = [0; 16];
    bytes[..7].copy_from_slice(&low);
    bytes[7..15].copy_from_slice(&field::vmcb(fields::CODE_BYTES + 8).to_le_bytes());
    Some((bytes, count))
}

/// The guest was left. Null calls and what is open of CPUID end here; all else goes its longer way.
pub(crate) extern "C" fn guest_exit(frame: &mut Frame) -> *mut Frame {
    let control = Control::current_vmcb();
    let code = field::vmcb(fields::CODE);
    if code == svm::VMMCALL && guest::is_kernel(control) {
        guest::advance_in(control, length(Exit::Call));
        if let Hot::Null(bits) = call::hot(frame.get(0)) {
            frame.set(0, bits);
            return GUEST;
        }
        return guest_call(frame);
    }
    other_exit(frame, code)
}

#[inline(never)]
fn guest_call(frame: &mut Frame) -> *mut Frame {
    go_on(the_cpu().register_call(frame))
}

#[inline(never)]
fn other_exit(frame: &mut Frame, code: u64) -> *mut Frame {
    let (cpu, control) = (the_cpu(), Control::current_vmcb());
    if code == svm::CPUID && cpu.gate.is_open(object::CPUID, method::READ) {
        guest::advance_in(control, length(Exit::Cpuid));
        return exits::answer_cpuid(cpu, frame, control);
    }
    long_exit(frame, code)
}

#[inline(never)]
fn long_exit(frame: &mut Frame, code: u64) -> *mut Frame {
    let (cpu, control) = (the_cpu(), Control::current_vmcb());
    field::set_vmcb32(fields::FLUSH, 0);
    let address = field::vmcb(fields::INFO2);
    if code == svm::MEMORY && memory::store_to_controller(cpu, frame, control, address) {
        return GUEST;
    }
    go_on(cpu.exit(frame, svm::decode(code, field::vmcb(fields::INFO1), address)))
}

/// The secure partition was left.
pub(crate) extern "C" fn secure_exit(frame: &mut Frame) -> *mut Frame {
    let control = Control::current_vmcb();
    let code = field::vmcb(fields::CODE);
    if code == svm::VMMCALL && guest::is_kernel(control) {
        if frame.get(0) == wall::SWITCH {
            to_guest();
            return exits::secure_left(frame);
        }
        guest::advance_in(control, length(Exit::Call));
        return exits::secure_question(frame);
    }
    field::set_vmcb32(fields::FLUSH, 0);
    exits::secure_exit(frame, svm::decode(code, field::vmcb(fields::INFO1), field::vmcb(fields::INFO2)))
}
