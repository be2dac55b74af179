//! The state of the guest and of the secure partition, on either back end: as at power-on, one instruction on, an event given to it; and
//! what of the machine needs no exit.

use bulkhead_abi::wall::x86_64 as secure;
use bulkhead_hypervisor_core::plan::{MachinePlan, X86, start};
use bulkhead_hypervisor_core::x86::control::{cr0, cr4, effective_cr0};
use bulkhead_hypervisor_core::x86::decode::Mode;
use bulkhead_hypervisor_core::x86::fetch::Place;
use bulkhead_hypervisor_core::x86::walk::Regime;
use bulkhead_hypervisor_core::x86::{event, msr, port};

use super::entry::Frame;
use super::field::{self, CPL, Control, is_svm};
use super::{control, instr, interrupts, svm, vmx};

/// The exceptions that the wall gives to a guest.
pub(crate) const UNDEFINED: u8 = 6;
pub(crate) const PROTECTION: u8 = 13;

const TF: u64 = 1 << 8;
/// DR6.BS.
const STEP: u64 = 1 << 14;
const DEFAULT_PAT: u64 = 0x0007_0406_0007_0406;
pub(crate) const LME: u64 = 1 << 8;
pub(crate) const LMA: u64 = 1 << 10;
const VALID: u64 = 1 << 31;

/// Whether the partition that was left ran with the privilege of a kernel (CPL 0).
#[inline(always)]
pub(crate) fn is_kernel(control: Control) -> bool {
    // CPL lies in a byte of the VMCB; in a VMCS it is the DPL of SS (SDM 3 §25.4.1).
    match control {
        Control::Vmcs => instr::vmread(0x4818) & 3 << 5 == 0,
        Control::Vmcb(_) => CPL.read_in(control) & 3 << 24 == 0,
    }
}

/// Steps over the instruction that exited.
pub(crate) fn advance(length: u64) {
    advance_in(Control::current(), length);
}

/// As [`advance`], for handlers of one back end.
#[inline(always)]
pub(crate) fn advance_in(control: Control, length: u64) {
    let from = field::RIP.read_in(control);
    let to = from.wrapping_add(length);
    field::RIP.write_in(control, to);
    let shadow = field::SHADOW.read_in(control);
    let is_single_step = field::RFLAGS.read_in(control) & TF != 0;
    if shadow & 3 != 0 || (from ^ to) >> 32 != 0 || is_single_step {
        advance_at_an_edge(to, shadow);
    }
}

/// In the shadow of `sti` or `mov ss`, over the end of 4 GiB, or of canonical addresses; or single-stepped.
#[cold]
#[inline(never)]
fn advance_at_an_edge(to: u64, shadow: u64) {
    field::SHADOW.write(shadow & !3);
    if mode() != Mode::Bits64 {
        field::RIP.write(to & 0xffff_ffff);
    } else if !msr::is_canonical(to) {
        // What the next fetch would give.
        field::RIP.write(to.wrapping_sub(1));
        inject(PROTECTION, Some(0));
        return;
    }
    if field::RFLAGS.read() & TF != 0 {
        if is_svm() {
            field::set_vmcb(svm::fields::DR6, field::vmcb(svm::fields::DR6) | STEP);
            inject(event::DEBUG, None);
        } else {
            // BS: a single step is pending (SDM 3 §25.4.2).
            instr::vmwrite(vmx::fields::PENDING_DEBUG, instr::vmread(vmx::fields::PENDING_DEBUG) | STEP);
        }
    }
}

/// How the code that was left is to be read.
pub(crate) fn mode() -> Mode {
    place(Control::current()).mode()
}

/// Where the partition was left.
#[inline(always)]
pub(crate) fn place(control: Control) -> Place {
    Place {
        rip: field::RIP.read_in(control),
        regime: regime_in(control),
        base: field::CS.base(control),
        attributes: field::CS.attributes(control),
    }
}

/// How the partition translates.
pub(crate) fn regime() -> Regime {
    regime_in(Control::current())
}

#[inline(always)]
fn regime_in(control: Control) -> Regime {
    Regime {
        cr0: field::CR0.read_in(control),
        cr3: field::CR3.read_in(control),
        cr4: field::CR4.read_in(control),
        efer: field::EFER.read_in(control),
    }
}

/// Gives the partition an exception at its next entry, instead of what was under way.
pub(crate) fn inject(vector: u8, error: Option<u32>) {
    // Real mode has no error codes (SDM 3 §27.2.1.3).
    let error = error.filter(|_| field::CR0.read() & cr0::PE != 0);
    if let Some(error) = error {
        field::EVENT_ERROR.write(error.into());
    }
    field::EVENT.write(VALID | u64::from(error.is_some()) << 11 | 3 << 8 | u64::from(vector));
}

/// Gives the partition an interrupt at its next entry.
pub(crate) fn inject_interrupt(vector: u8) {
    field::EVENT.write(VALID | u64::from(vector));
}

/// Whether something is given to the partition at its next entry.
pub(crate) fn has_event() -> bool {
    field::EVENT.read() & VALID != 0
}

/// What was being delivered when the partition was left is delivered again. Software interrupts (types 4 to 6) are not: their
/// instruction has not been stepped over, and runs again.
pub(crate) fn redeliver() {
    let event = field::DELIVERING.read();
    if event & VALID != 0 && event >> 8 & 7 < 4 {
        field::EVENT_ERROR.write(field::DELIVERING_ERROR.read());
        field::EVENT.write(event & !(1 << 12));
    }
}

/// Nothing is given to the partition at its next entry.
pub(crate) fn drop_event() {
    field::EVENT.write(0);
}

/// Whether the guest can take an interrupt now.
pub(crate) fn takes_interrupts() -> bool {
    field::RFLAGS.read() >> 9 & 1 != 0 && field::SHADOW.read() & 3 == 0 && !has_event()
}

/// Asks for an exit as soon as the guest can take an interrupt, or not any more.
pub(crate) fn watch_window(is_wanted: bool) {
    if is_svm() {
        // A virtual interrupt of its own, that is intercepted before it is delivered: V_IRQ, V_IGN_TPR (APM 2 §15.21.4).
        let first = field::vmcb(svm::fields::INTERCEPTS);
        #[expect(clippy::cast_possible_truncation, reason = "the first word")]
        let first = first as u32;
        field::set_vmcb32(svm::fields::INTERCEPTS, if is_wanted { first | svm::WINDOW } else { first & !svm::WINDOW });
        field::set_vmcb(svm::fields::VIRTUAL_INTERRUPT, if is_wanted { 1 << 8 | 1 << 20 } else { 0 });
    } else {
        let words = instr::vmread(vmx::fields::PRIMARY);
        instr::vmwrite(vmx::fields::PRIMARY, if is_wanted { words | vmx::WINDOW } else { words & !vmx::WINDOW });
    }
}

/// The guest's registers as its start wants them ([`start`]); all else as at power-on.
pub(crate) fn reset_guest(plan: &MachinePlan, frame: &mut Frame) {
    let (argument, is_long) = (plan.guest_argument, plan.x86.guest_start == start::LONG);
    frame.clear();
    frame.set(2, argument);
    let (cr0, cr3, cr4, efer) = match plan.x86.guest_start {
        start::REAL => (cr0::ET, 0, 0, 0),
        start::LONG => (cr0::PG | cr0::PE | cr0::ET, argument + 0x2000, cr4::PAE, LME | LMA),
        _ => (cr0::PE | cr0::ET, 0, 0, 0),
    };
    if plan.x86.guest_start == start::REAL {
        // DL: the first disk.
        frame.set(3, 0x80);
        real(plan.guest_entry);
    } else {
        flat(0x10, if is_long { 0xa9b } else { 0xc9b }, 0xc93);
        // The loader's page behind boot_params holds the table of these segments, which older kernels reload.
        field::GDT_BASE.write(argument + 0x1000);
        field::GDT_LIMIT.write(0x1f);
    }
    field::RIP.write(plan.guest_entry);
    set_control(effective_cr0(cr0), cr3, cr4, efer);
    control::show(cr0, cr4, is_long);
    if instr::read_cr4() & cr4::OSXSAVE != 0 {
        instr::xsetbv(1);
    }
    interrupts::reset(plan);
}

/// The secure partition's registers, as its kernel is entered first.
pub(crate) fn set_secure(root: u64) {
    flat(secure::KERNEL_CODE, 0xa9b, 0xc93);
    let features = instr::cpuid(7, 0);
    let has = |register: usize, bit: u32, place: u32| -> u64 {
        features.get(register).map_or(0, |word| u64::from(word >> bit & 1) << place)
    };
    // UMIP, SMEP, SMAP.
    let protections = has(2, 2, 11) | has(1, 7, 20) | has(1, 20, 21);
    set_control(secure::CR0, root, secure::CR4 | protections, secure::EFER);
    if !is_svm() {
        instr::vmwrite(vmx::fields::CR0_SEEN, secure::CR0);
        instr::vmwrite(vmx::fields::CR4_SEEN, secure::CR4 | protections);
    }
}

/// Real mode, as a BIOS leaves it to a boot sector: segments at 0 of 64 KiB, the interrupt vectors at 0, the stack below the sector.
fn real(sector: u64) {
    flat(0, 0, 0);
    for segment in [field::DS, field::ES, field::SS, field::FS, field::GS] {
        segment.set(0, 0, 0xffff, 0x93);
    }
    field::CS.set(0, 0, 0xffff, 0x9b);
    field::IDT_LIMIT.write(0x3ff);
    field::RSP.write(sector);
}

/// Flat segments of one privilege; no tables.
fn flat(code: u16, code_attributes: u16, data_attributes: u16) {
    field::CS.set(code, 0, u32::MAX, code_attributes);
    for segment in [field::DS, field::ES, field::SS, field::FS, field::GS] {
        segment.set(code + 8, 0, u32::MAX, data_attributes);
    }
    field::TR.set(0, 0, 0x67, 0x8b);
    field::LDTR.set(0, 0, 0, 0);
    for table in [field::GDT_BASE, field::GDT_LIMIT, field::IDT_BASE, field::IDT_LIMIT] {
        table.write(0);
    }
    field::RSP.write(0);
    field::RFLAGS.write(2);
    field::DR7.write(0x400);
    field::SHADOW.write(0);
    field::EVENT.write(0);
    field::PAT.write(DEFAULT_PAT);
    if !is_svm() {
        // Active; nothing pending; DEBUGCTL; SYSENTER's three.
        for name in [0x4826, vmx::fields::PENDING_DEBUG, 0x2802, 0x482a, 0x6824, 0x6826] {
            instr::vmwrite(name, 0);
        }
    }
}

/// Control registers and EFER, with what each back end demands of them besides.
pub(crate) fn set_control(cr0: u64, cr3: u64, cr4: u64, efer: u64) {
    field::CR0.write(cr0);
    field::CR3.write(cr3);
    field::CR4.write(if is_svm() { cr4 } else { cr4 | cr4::VMXE });
    field::EFER.write(if is_svm() { efer | svm::SVME } else { efer });
}

/// The guest's EFER as it sees it.
pub(crate) fn efer() -> u64 {
    let value = field::EFER.read();
    if is_svm() { value & !svm::SVME } else { value }
}

/// Bitmaps with a bit for each port: zero where the guest, or an app, needs no exit.
pub(crate) fn fill_ports(guest: &mut [u8], apps: &mut [u8], plan: &MachinePlan) {
    for (bitmap, is_open) in [(guest, port::is_open as fn(u16, &X86) -> bool), (apps, port::is_open_to_apps)] {
        bitmap.fill(0xff);
        for (place, byte) in (0..=0x1fff_u16).zip(bitmap) {
            let is_open = |bit: &u16| is_open(place * 8 + bit, &plan.x86);
            *byte = (0..8).filter(is_open).fold(0xff, |bits, bit| bits & !(1 << bit));
        }
    }
}

/// Calls `open` for each register and direction that needs no exit: whether it is one of the high registers, a write, its place.
pub(crate) fn fill_registers(plan: &MachinePlan, mut open: impl FnMut(bool, bool, usize)) {
    let opened = &plan.x86.guest_msrs;
    for range in opened {
        for index in range.first..range.first.saturating_add(range.count.min(0x2000)) {
            for is_write in [false, true] {
                let place = msr::place(index).filter(|_| msr::is_open(opened, index, is_write));
                if let Some((is_high, place)) = place {
                    open(is_high, is_write, usize::try_from(place).unwrap_or(0));
                }
            }
        }
    }
}
