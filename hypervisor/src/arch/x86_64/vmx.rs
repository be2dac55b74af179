//! VMX: the control words, two VMCSs, and what an exit of each leads to (SDM 3 chapters 25 to 28).

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_abi::wall;
use bulkhead_hypervisor_core::call::{self, Hot};
use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::x86::event;
use bulkhead_hypervisor_core::x86::vmx::{self, Missing, adjust};
use bulkhead_model::{method, object};

use super::entry::{self, Frame, GUEST_FRAME, Place, SECURE_FRAME};
use super::faults::{self, CODE, DATA, TASK};
use super::field::{self, Control, Page};
use super::{GUEST, control, exits, guest, instr, memory, secure, time};
use crate::console::Piece::{Decimal, Text};
use crate::run::the_cpu;
use crate::spaces::Roots;

static VMXON: Page<4096> = Page::new();
static GUEST_VMCS: Page<4096> = Page::new();
static SECURE_VMCS: Page<4096> = Page::new();
pub(super) static PORTS: Page<8192> = Page::new();
pub(super) static APP_PORTS: Page<8192> = Page::new();
pub(super) static MSR_BITMAP: Page<4096> = Page::new();

/// Fields that only VMX has (SDM 3 appendix B).
pub(crate) mod fields {
    pub(crate) const VPID: u32 = 0x0000;
    pub(crate) const IO_BITMAP_A: u32 = 0x2000;
    pub(crate) const IO_BITMAP_B: u32 = 0x2002;
    pub(crate) const MSR_BITMAP: u32 = 0x2004;
    pub(crate) const EPT_POINTER: u32 = 0x201a;
    pub(crate) const LINK: u32 = 0x2800;
    pub(crate) const PDPTE0: u32 = 0x280a;
    pub(crate) const CLOCK_OFFSET: u32 = 0x2010;
    pub(crate) const EXCEPTIONS: u32 = 0x4004;
    pub(crate) const FAULT_MASK: u32 = 0x4006;
    pub(crate) const FAULT_MATCH: u32 = 0x4008;
    pub(crate) const CR3_TARGETS: u32 = 0x400a;
    pub(crate) const EXIT_STORES: u32 = 0x400e;
    pub(crate) const EXIT_LOADS: u32 = 0x4010;
    pub(crate) const ENTRY_LOADS: u32 = 0x4014;
    pub(crate) const PIN: u32 = 0x4000;
    pub(crate) const PRIMARY: u32 = 0x4002;
    pub(crate) const EXIT: u32 = 0x400c;
    pub(crate) const ENTRY: u32 = 0x4012;
    pub(crate) const SECONDARY: u32 = 0x401e;
    pub(crate) const INSTRUCTION_ERROR: u32 = 0x4400;
    pub(crate) const REASON: u32 = 0x4402;
    pub(crate) const EVENT: u32 = 0x4404;
    pub(crate) const LENGTH: u32 = 0x440c;
    pub(crate) const GUEST_ADDRESS: u32 = 0x2400;
    pub(crate) const TIMER: u32 = 0x482e;
    pub(crate) const CR0_MASK: u32 = 0x6000;
    pub(crate) const CR4_MASK: u32 = 0x6002;
    pub(crate) const CR0_SEEN: u32 = 0x6004;
    pub(crate) const CR4_SEEN: u32 = 0x6006;
    pub(crate) const QUALIFICATION: u32 = 0x6400;
    pub(crate) const PENDING_DEBUG: u32 = 0x6822;
}

/// IA-32e mode guest (SDM 3 §25.8.1).
pub(crate) const LONG_MODE_GUEST: u64 = 1 << 9;
/// Interrupt-window exiting (SDM 3 table 25-6).
pub(crate) const WINDOW: u64 = 1 << 2;

const BASIC: u32 = 0x480;
const EPT_CAPABILITIES: u32 = 0x48c;

/// Turns VMX on and builds both partitions; the guest's VMCS is the current one.
///
/// # Errors
/// What the CPU lacks.
pub(crate) fn build(plan: &MachinePlan, roots: &Roots) -> Result<(), &'static str> {
    field::set_current(0);
    fix_control_registers();
    let basic = instr::rdmsr(BASIC);
    for page in [&VMXON, &GUEST_VMCS, &SECURE_VMCS] {
        revision(page, basic);
    }
    if !instr::vmxon(VMXON.address()) {
        return Err("VMXON was refused");
    }
    bitmaps(plan);
    let words = Words::new(basic).map_err(|_| "the CPU lacks a control of VMX that is needed")?;
    make(&SECURE_VMCS, &SECURE_FRAME, &words, &APP_PORTS, (roots.secure, 2))?;
    instr::vmwrite(fields::PIN, words.secure_pin.into());
    instr::vmwrite(fields::PRIMARY, words.secure.into());
    instr::vmwrite(fields::CR0_MASK, u64::MAX);
    instr::vmwrite(fields::CR4_MASK, u64::MAX);
    guest::set_secure(plan.secure_root);
    instr::vmwrite(fields::ENTRY, u64::from(words.entry) | LONG_MODE_GUEST);
    make(&GUEST_VMCS, &GUEST_FRAME, &words, &PORTS, (roots.guest, 1))?;
    instr::vmwrite(fields::PIN, words.pin.into());
    instr::vmwrite(fields::PRIMARY, words.guest.into());
    instr::vmwrite(fields::ENTRY, words.entry.into());
    instr::vmwrite(fields::CR0_MASK, control::CR0_OWNED);
    instr::vmwrite(fields::CR4_MASK, control::CR4_OWNED);
    instr::vmwrite(fields::EXCEPTIONS, event::WATCHED.into());
    time::set_shift(u8::try_from(instr::rdmsr(0x485) & 0x1f).unwrap_or(0));
    Ok(())
}

/// What VMX operation demands of CR0 and CR4 (SDM 3 appendix A.7, A.8).
fn fix_control_registers() {
    instr::write_cr0(instr::read_cr0() & instr::rdmsr(0x487) | instr::rdmsr(0x486));
    instr::write_cr4((instr::read_cr4() | 1 << 13) & instr::rdmsr(0x489) | instr::rdmsr(0x488));
}

fn revision(page: &Page<4096>, basic: u64) {
    #[expect(unsafe_code, reason = "the page is filled before the CPU uses it")]
    // SAFETY: no other reference to the page exists; VMX is not on yet.
    let bytes = unsafe { page.bytes() };
    let [b0, b1, b2, b3, ..] = (basic & 0x7fff_ffff).to_le_bytes();
    bytes[..4].copy_from_slice(&[b0, b1, b2, b3]);
}

fn bitmaps(plan: &MachinePlan) {
    #[expect(unsafe_code, reason = "the bitmaps are filled before the CPU uses them")]
    // SAFETY: no other reference to them exists; no VMCS names them yet.
    let (ports, app_ports, registers) = unsafe { (PORTS.bytes(), APP_PORTS.bytes(), MSR_BITMAP.bytes()) };
    guest::fill_ports(ports, app_ports, plan);
    registers.fill(0xff);
    // Reads of low and high registers, then writes (SDM 3 §25.6.9).
    guest::fill_registers(plan, |is_high, is_write, place| {
        let bit = (usize::from(is_high) + 2 * usize::from(is_write)) * 0x2000 + place;
        if let Some(byte) = registers.get_mut(bit / 8) {
            *byte &= !(1 << (bit % 8));
        }
    });
}

/// The control words of both partitions.
struct Words {
    pin: u32,
    secure_pin: u32,
    guest: u32,
    secure: u32,
    secondary: u32,
    exit: u32,
    entry: u32,
}

impl Words {
    fn new(basic: u64) -> Result<Self, Missing> {
        // The TRUE capabilities allow more, where the CPU has them.
        let capability = |plain: u32| instr::rdmsr(if basic >> 55 & 1 != 0 { plain + 0xc } else { plain });
        // Preemption timer. Interrupts go straight to the guest; the secure side runs with them masked.
        let pin = adjust(capability(0x481), 1 << 6, 0, 1 | 1 << 3)?;
        // An NMI of the machine does not reach the secure kernel.
        let secure_pin = adjust(capability(0x481), 1 << 6 | 1 << 3, 0, 1)?;
        // Secondary controls; neither CR3 nor HLT, RDTSC, INVLPG, MOV DR exit; MWAIT, MONITOR, RDPMC do.
        let quiet = 1 << 15 | 1 << 16 | 1 << 7 | 1 << 12 | 1 << 9 | 1 << 23;
        let guest = adjust(capability(0x482), 1 << 31 | 1 << 28 | 1 << 25 | 1 << 10 | 1 << 11 | 1 << 29, 0, quiet)?;
        // All registers exit, and all ports but those of apps; so do HLT, MWAIT, MONITOR, MOV DR, RDPMC.
        let secure = adjust(capability(0x482), 1 << 31 | 1 << 25, 1 << 7 | 1 << 10 | 1 << 11 | 1 << 23 | 1 << 29, 0)?;
        // EPT, VPID, unrestricted guest; RDTSCP and INVPCID where they are.
        let secondary = adjust(instr::rdmsr(0x48b), 1 << 1 | 1 << 5 | 1 << 7, 1 << 3 | 1 << 12, 0)?;
        // The host is 64-bit; debug controls, PAT and EFER are saved and loaded.
        let exit = adjust(capability(0x483), 1 << 2 | 1 << 9 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21, 0, 0)?;
        let entry = adjust(capability(0x484), 1 << 2 | 1 << 14 | 1 << 15, 0, 0)?;
        Ok(Self { pin, secure_pin, guest, secure, secondary, exit, entry })
    }
}

/// A VMCS with all that both partitions have alike; it is the current one afterwards.
fn make(
    vmcs: &Page<4096>,
    frame: &Place,
    words: &Words,
    ports: &Page<8192>,
    (root, vpid): (u64, u64),
) -> Result<(), &'static str> {
    if !instr::vmclear(vmcs.address()) {
        return Err("VMCLEAR was refused");
    }
    instr::vmptrld(&vmcs.address());
    let tables = faults::tables();
    // EPTP: write-back walks, four levels (SDM 3 §25.6.11).
    let has_write_back = instr::rdmsr(EPT_CAPABILITIES) >> 14 & 1 != 0;
    let pointer = root | 3 << 3 | if has_write_back { 6 } else { 0 };
    let data = u64::from(DATA);
    for (name, value) in [
        (fields::VPID, vpid),
        (fields::EPT_POINTER, pointer),
        (fields::LINK, u64::MAX),
        (fields::IO_BITMAP_A, ports.address()),
        (fields::IO_BITMAP_B, ports.address() + 4096),
        (fields::MSR_BITMAP, MSR_BITMAP.address()),
        (fields::EXCEPTIONS, 0),
        (fields::FAULT_MASK, 0),
        (fields::FAULT_MATCH, 0),
        (fields::CR3_TARGETS, 0),
        (fields::EXIT_STORES, 0),
        (fields::EXIT_LOADS, 0),
        (fields::ENTRY_LOADS, 0),
        (fields::CLOCK_OFFSET, 0),
        (fields::SECONDARY, words.secondary.into()),
        (fields::EXIT, words.exit.into()),
        (0x0c00, data),
        (0x0c02, CODE.into()),
        (0x0c04, data),
        (0x0c06, data),
        (0x0c08, 0),
        (0x0c0a, 0),
        (0x0c0c, TASK.into()),
        // SYSENTER's, FS and GS: the wall uses none.
        (0x4c00, 0),
        (0x6c10, 0),
        (0x6c12, 0),
        (0x6c06, 0),
        (0x6c08, 0),
        (0x2c00, instr::rdmsr(0x277)),
        (0x2c02, instr::rdmsr(0xc000_0080)),
        (0x6c00, instr::read_cr0()),
        (0x6c02, instr::read_cr3()),
        (0x6c04, instr::read_cr4()),
        (0x6c0a, tables.tss),
        (0x6c0c, tables.gdt),
        (0x6c0e, tables.idt),
        (0x6c14, frame.pointer() as u64 + 120),
        (0x6c16, exit_address()),
    ] {
        instr::vmwrite(name, value);
    }
    Ok(())
}

fn exit_address() -> u64 {
    entry::vmx_exit as *const () as u64
}

/// The guest's CR2 while the secure partition runs: a VMCS does not hold it.
static GUEST_FAULT_ADDRESS: AtomicU64 = AtomicU64::new(0);

/// From the guest to the secure partition.
#[inline(always)]
fn to_secure() {
    GUEST_FAULT_ADDRESS.store(instr::read_cr2(), Ordering::Relaxed);
    instr::vmptrld(&SECURE_VMCS.address());
    secure::begin(Control::Vmcs);
}

/// Back to the guest.
#[inline(always)]
pub(crate) fn to_guest() {
    instr::vmptrld(&GUEST_VMCS.address());
    instr::write_cr2(GUEST_FAULT_ADDRESS.load(Ordering::Relaxed));
}

/// Ends a handler of the guest's exits: on to where it leads.
#[inline(always)]
fn go_on(next: *mut Frame) -> *mut Frame {
    if next != GUEST {
        to_secure();
    }
    time::rearm();
    next
}

/// The guest was left. Null calls and what is open of CPUID end here; all else goes its longer way.
pub(crate) extern "C" fn guest_exit(frame: &mut Frame) -> *mut Frame {
    let reason = instr::vmread(fields::REASON);
    if reason == vmx::VMCALL && guest::is_kernel(Control::Vmcs) {
        guest::advance_in(Control::Vmcs, instr::vmread(fields::LENGTH));
        if let Hot::Null(bits) = call::hot(frame.get(0)) {
            frame.set(0, bits);
            time::rearm();
            return GUEST;
        }
        return guest_call(frame);
    }
    other_exit(frame, reason)
}

#[inline(never)]
fn guest_call(frame: &mut Frame) -> *mut Frame {
    go_on(the_cpu().register_call(frame))
}

#[inline(never)]
fn other_exit(frame: &mut Frame, reason: u64) -> *mut Frame {
    let cpu = the_cpu();
    if reason != vmx::CPUID || !cpu.gate.is_open(object::CPUID, method::READ) {
        return long_exit(frame, reason);
    }
    guest::advance_in(Control::Vmcs, instr::vmread(fields::LENGTH));
    let next = exits::answer_cpuid(cpu, frame, Control::Vmcs);
    time::rearm();
    next
}

#[inline(never)]
fn long_exit(frame: &mut Frame, reason: u64) -> *mut Frame {
    let (cpu, address) = (the_cpu(), instr::vmread(fields::GUEST_ADDRESS));
    let next = if reason == vmx::MEMORY && memory::store_to_controller(cpu, frame, Control::Vmcs, address) {
        GUEST
    } else if reason == vmx::EVENT {
        cpu.exit(frame, vmx::event(instr::vmread(fields::EVENT)))
    } else {
        cpu.exit(frame, vmx::decode(reason, instr::vmread(fields::QUALIFICATION), address))
    };
    go_on(next)
}

/// The secure partition was left.
pub(crate) extern "C" fn secure_exit(frame: &mut Frame) -> *mut Frame {
    let reason = instr::vmread(fields::REASON);
    let next = if reason == vmx::VMCALL && guest::is_kernel(Control::Vmcs) {
        if frame.get(0) == wall::SWITCH {
            to_guest();
            exits::secure_left(frame)
        } else {
            guest::advance_in(Control::Vmcs, instr::vmread(fields::LENGTH));
            exits::secure_question(frame)
        }
    } else {
        exits::secure_exit(frame, vmx::decode(reason, instr::vmread(fields::QUALIFICATION), 0))
    };
    time::rearm();
    next
}

/// VM entry failed before it began: the VMCS holds something that the CPU does not take.
pub(crate) extern "C" fn entry_refused() -> ! {
    let error = instr::vmread(fields::INSTRUCTION_ERROR);
    the_cpu().console.say(&[Text("VM entry was refused, error "), Decimal(error), Text("; halted")]);
    instr::park()
}
