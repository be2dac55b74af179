//! A CPU of SVM as no emulator here is: with clean bits and decode assists, made of one without, to try what uses them.
//!
//! Clean bits (APM 2 §15.15.3): what an entry finds marked clean is what the last exit left, whatever the VMCB holds: a CPU that keeps all that it may.
//! A change that is called clean is told when the machine ends. Decode assists (APM 2 §15.8.1, §15.8.4): after an exit by memory the VMCB tells the
//! instruction's bytes, after one by a `mov` to a control register the general register. What was told has to be used: the guest's tables cannot be found
//! meanwhile.
#![expect(unsafe_code, reason = "VMCBs are read and written behind the wall's back")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_hypervisor_core::x86::control::Access;
use bulkhead_hypervisor_core::x86::{Exit, decode, event, fetch, svm};

use super::super::field::{self, Control};
use super::super::guest;
use super::super::memory::GuestMemory;
use super::super::svm::{controls, fields};
use crate::console::Console;
use crate::console::Piece::{Decimal, Hexadecimal, Text};
use crate::run::the_cpu;

const CLEAN: usize = 0xc0 / 4;
const CR3: u16 = 0x550;
/// The part of a VMCB that has fields, in words of four bytes.
const WORDS: usize = 0x6a0 / 4;
/// A table that is nobody's.
const NOWHERE: u64 = 0x000f_ffff_ffff_f000;

/// The guest's and the secure partition's, as the last exit left them.
struct Kept(UnsafeCell<[[u32; WORDS]; 2]>);
// SAFETY: one CPU, and only the exit path reaches it.
unsafe impl Sync for Kept {}
static KEPT: Kept = Kept(UnsafeCell::new([[0; WORDS]; 2]));

static EXITS_TOLD: AtomicU64 = AtomicU64::new(0);
static WORDS_KEPT: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static FIRST_WRONG: AtomicU64 = AtomicU64::new(0);

/// The VMCB of the partition that runs, and what was kept of it.
fn current() -> Option<(*mut u32, &'static mut [u32; WORDS])> {
    let Control::Vmcb(vmcb) = Control::current() else { return None };
    let place = usize::from(vmcb == controls()[1]);
    // SAFETY: the exit path alone comes here, once at a time, and no reference outlives the function that asked.
    let kept = unsafe { (*KEPT.0.get()).get_mut(place)? };
    Some((vmcb as *mut u32, kept))
}

/// A partition was left.
pub(super) fn keep() {
    let Some((vmcb, kept)) = current() else { return };
    for (place, slot) in kept.iter_mut().enumerate() {
        // SAFETY: within the VMCB's page.
        *slot = unsafe { vmcb.add(place).read_volatile() };
    }
}

/// The guest was left: the VMCB tells what decode assists tell. Returns CR3 if it was hidden.
pub(super) fn left() -> Option<u64> {
    keep();
    let (vmcb, _) = current()?;
    let (code, place) = (field::vmcb(fields::CODE), guest::place(Control::current()));
    let (bytes, count) = fetch::bytes(&place, &GuestMemory(&the_cpu().plan))?;
    // SAFETY: within the VMCB's page: fields that a CPU writes at an exit, and CR3, which is put back before the next entry.
    let write =
        |offset: u16, value: u64| unsafe { (vmcb as *mut u64).add(usize::from(offset / 8)).write_volatile(value) };
    match svm::decode(code, field::vmcb(fields::INFO1), 0) {
        Exit::Memory(_) => {
            let is_delivery = event::is_valid(field::DELIVERING.read());
            let count = if is_delivery { 0 } else { count };
            let mut first = [0; 8];
            first[0] = u8::try_from(count).unwrap_or(0);
            first[1..].copy_from_slice(&bytes[..7]);
            let mut second = [0; 8];
            second.copy_from_slice(&bytes[7..]);
            write(fields::CODE_BYTES, u64::from_le_bytes(first));
            write(fields::CODE_BYTES + 8, u64::from_le_bytes(second));
            // What cannot be decoded is looked for again.
            decode::decode(bytes.get(..count)?, place.mode())?;
        }
        // A CPU with decode assists has next-RIP save, too. Without that, as here, the wall takes three bytes: a longer form is not told.
        Exit::Control(_) => match decode::control(bytes.get(..count)?, place.mode(), |_| 0)? {
            (Access::Write { source, .. }, 3) => write(fields::INFO1, 1 << 63 | u64::from(source)),
            _ => return None,
        },
        _ => return None,
    }
    EXITS_TOLD.fetch_add(1, Ordering::Relaxed);
    write(CR3, NOWHERE | place.regime.cr3 & 0xfff);
    Some(place.regime.cr3)
}

/// A partition is about to be entered, after CR3 was hidden or not.
pub(super) fn entering(hidden: Option<u64>) {
    if let (Some(cr3), Control::Vmcb(_)) = (hidden, Control::current()) {
        let at = (controls()[0] + u64::from(CR3)) as *mut u64;
        // SAFETY: within the guest's VMCB. A guest that was started anew has another CR3 by now.
        unsafe {
            if at.read_volatile() == NOWHERE | cr3 & 0xfff {
                at.write_volatile(cr3);
            }
        }
    }
    let Some((vmcb, kept)) = current() else { return };
    // SAFETY: within the VMCB's page, as below.
    let clean = unsafe { vmcb.add(CLEAN).read_volatile() };
    for (place, kept) in kept.iter().enumerate() {
        let part = u16::try_from(place * 4).map_or(0, svm::part);
        if part == 0 || clean & part != part {
            continue;
        }
        WORDS_KEPT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        let at = unsafe { vmcb.add(place) };
        // SAFETY: as above.
        if unsafe { at.read_volatile() } != *kept {
            if WRONG.fetch_add(1, Ordering::Relaxed) == 0 {
                FIRST_WRONG.store(place as u64 * 4, Ordering::Relaxed);
            }
            // SAFETY: as above.
            unsafe { at.write_volatile(*kept) };
        }
    }
}

/// Says what was seen.
pub(super) fn tell(console: &mut Console) {
    let [told, kept, wrong] = [&EXITS_TOLD, &WORDS_KEPT, &WRONG].map(|count| Decimal(count.load(Ordering::Relaxed)));
    console.say(&[
        Text("later SVM: "),
        told,
        Text(" instructions told, "),
        kept,
        Text(" words kept, changed but called clean: "),
        wrong,
        Text(", first at "),
        Hexadecimal(FIRST_WRONG.load(Ordering::Relaxed)),
    ]);
}
