//! Control registers of the guest: what it may write into CR0, CR4 and XCR0, and what it sees of CR0. VMX masks the bits that stay the wall's; SVM
//! has no masks, so that there each write that changes more than TS and MP exits, and reads do while they have to be answered.

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_hypervisor_core::x86::control::{self, Access, cr0, cr4};
use bulkhead_hypervisor_core::x86::decode::{self, Move};
use bulkhead_hypervisor_core::x86::{Exit, fetch};

use super::entry::Frame;
use super::exits::length;
use super::field::{self, Control, is_svm};
use super::guest::{self, LMA, LME, PROTECTION};
use super::memory::{self, RSP};
use super::{GUEST, Next, instr, svm, vmx};
use crate::run::Cpu;

/// Bits of CR0 that stay the wall's on VMX: the guest sees its own.
pub(crate) const CR0_OWNED: u64 = cr0::NE | HIDDEN;
/// The same of CR4.
pub(crate) const CR4_OWNED: u64 = !cr4::OPEN;
/// Bits of CR0 that are never in force.
const HIDDEN: u64 = cr0::CD | cr0::NW;
/// SVM: those of them that the guest set.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// CR0 as the guest sees it. Bits that are the guest's own are not shadowed.
fn seen() -> u64 {
    let now = field::CR0.read();
    if is_svm() {
        return now | SEEN.load(Ordering::Relaxed);
    }
    now & !CR0_OWNED | instr::vmread(vmx::fields::CR0_SEEN) & CR0_OWNED
}

/// What the guest is to see from now on, and whether it is in IA-32e mode.
pub(crate) fn show(cr0: u64, cr4: u64, is_long: bool) {
    if is_svm() {
        SEEN.store(cr0 & HIDDEN, Ordering::Relaxed);
        svm::watch_control(cr0 & HIDDEN != 0);
        return;
    }
    instr::vmwrite(vmx::fields::CR0_SEEN, cr0);
    instr::vmwrite(vmx::fields::CR4_SEEN, cr4);
    let entry = instr::vmread(vmx::fields::ENTRY) & !vmx::LONG_MODE_GUEST;
    instr::vmwrite(vmx::fields::ENTRY, if is_long { entry | vmx::LONG_MODE_GUEST } else { entry });
}

/// CR0 as the guest writes it: what it sees, and what is in force (SDM 3 §2.5). Turning paging on or off here does what the instruction would have done.
fn write_cr0(value: u64) {
    let is_long = value & cr0::PG != 0 && field::EFER.read() & LME != 0;
    field::CR0.write(if is_svm() { value & !HIDDEN } else { control::effective_cr0(value) });
    field::EFER.write(field::EFER.read() & !LMA | if is_long { LMA } else { 0 });
    show(value, if is_svm() { 0 } else { instr::vmread(vmx::fields::CR4_SEEN) }, is_long);
}

impl Cpu {
    /// An access to a control register that exits: made as the CPU would make it, or refused.
    pub(super) fn control(&mut self, frame: &mut Frame, access: Access) -> Next {
        let mode = guest::mode();
        let general = |number| mode.cut(if number == RSP { field::RSP.read() } else { frame.numbered(number) });
        let known = match access {
            Access::Untold => self.untold(general),
            told => Some((told, length(Exit::Control(told)))),
        };
        let Some((told, length)) = known.filter(|_| guest::is_kernel(Control::current())) else {
            return self.refuse(frame, Exit::Control(access), PROTECTION);
        };
        // LMSW sets PE and does not clear it.
        const LOW: u64 = 0xf;
        let now = seen();
        let is_done = match told {
            Access::Read { target, bytes } => {
                let load = Move::Load { register: target, is_high: false, width: bytes, is_signed: false };
                let value = load.loaded(general(target), now, 8);
                if target == RSP {
                    field::RSP.write(value)
                } else {
                    frame.set_numbered(target, value)
                }
                true
            }
            Access::Write { register: 0, source } => self.change_cr0(now, general(source)),
            Access::ClearTaskSwitched => self.change_cr0(now, now & !cr0::TS),
            Access::LoadMachineStatus(word) => self.change_cr0(now, now & !(LOW & !1) | u64::from(word) & LOW),
            Access::Write { register: 4, source } if is_svm() => write_cr4(general(source)),
            Access::Write { .. } | Access::Untold => false,
        };
        if !is_done {
            return self.refuse(frame, Exit::Control(access), PROTECTION);
        }
        guest::advance(length);
        GUEST
    }

    /// What the CPU did not tell, by the instruction.
    fn untold(&self, general: impl Fn(u8) -> u64) -> Option<(Access, u64)> {
        let place = guest::place(Control::current());
        let (bytes, known) = fetch::bytes(&place, &memory::GuestMemory(&self.plan))?;
        let (access, length) = decode::control(bytes.get(..known)?, place.mode(), general)?;
        Some((access, length.into()))
    }

    /// False: it faults.
    fn change_cr0(&self, now: u64, value: u64) -> bool {
        const LONG_CODE: u16 = 1 << 9;
        let regime = guest::regime();
        let has_long_code = field::CS.attributes(Control::current()) & LONG_CODE != 0;
        let Some(value) = cr0(value) else { return false };
        if !control::fits_paging(now, value, regime.cr4, regime.efer & LME != 0, has_long_code) {
            return false;
        }
        write_cr0(value);
        if is_svm() {
            svm::flush();
        } else if value & !now & cr0::PG != 0 {
            self.load_directory_pointers();
        }
        true
    }

    /// PAE paging outside long mode keeps four entries in the CPU (SDM 3 §4.4.1); on SVM they are read when they are needed (APM 2 §15.25.10).
    fn load_directory_pointers(&self) {
        let regime = guest::regime();
        if regime.cr4 & cr4::PAE == 0 || regime.efer & LMA != 0 {
            return;
        }
        for place in 0..4_u32 {
            let entry = memory::word(&self.plan, (regime.cr3 & 0xffff_ffe0) + u64::from(place) * 8).unwrap_or(0);
            instr::vmwrite(vmx::fields::PDPTE0 + place * 2, entry);
        }
    }

    pub(super) fn set_xcr(&mut self, frame: &mut Frame) -> Next {
        let value = frame.get(0) & 0xffff_ffff | frame.get(3) << 32;
        let [supported, ..] = instr::cpuid(0xd, 0);
        let is_sound = frame.get(4) & 0xffff_ffff == 0 && control::xcr0(value, supported.into());
        if !is_sound || !guest::is_kernel(Control::current()) {
            return self.refuse(frame, Exit::SetXcr, PROTECTION);
        }
        instr::xsetbv(value);
        guest::advance(length(Exit::SetXcr));
        GUEST
    }
}

/// CR4 of a guest of SVM. False: it faults.
fn write_cr4(value: u64) -> bool {
    let open = control::cr4_of(instr::cpuid(1, 0), instr::cpuid(7, 0));
    let is_sound = control::fits_cr4(&guest::regime(), value, open);
    if is_sound {
        field::CR4.write(value);
        svm::flush();
    }
    is_sound
}
