//! How often each kind of exit happened, until the guest's first program ran and until the machine ended: in images that are built to count
//! (`count-exits`), and only there, as counting costs each exit some instructions.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bulkhead_hypervisor_core::x86::{Exit, port, svm, vmx};

use super::super::field::Control;
use super::super::{field, guest, instr, svm as svm_shell, vmx as vmx_shell};
use crate::console::Console;
use crate::console::Piece::{Decimal, Text};
use crate::run::the_cpu;

/// The kinds that are told apart; the last two are everything else, and the secure partition's exits.
const KINDS: [&str; 16] = [
    " call",
    " cpuid",
    " port",
    " pci",
    " msr",
    " local_apic_end",
    " local_apic",
    " io_apic",
    " memory",
    " control",
    " xcr",
    " caches",
    " time",
    " window",
    " other",
    " secure",
];

type Counts = [AtomicU64; KINDS.len()];
static COUNTS: Counts = [const { AtomicU64::new(0) }; KINDS.len()];
/// What they were when the guest's first program ran: when it left an instruction of CPL 3.
static AT_FIRST_PROGRAM: Counts = [const { AtomicU64::new(0) }; KINDS.len()];
static HAS_PROGRAM: AtomicBool = AtomicBool::new(false);

fn kind(exit: Exit) -> usize {
    match exit {
        Exit::Call => 0,
        Exit::Cpuid => 1,
        Exit::Port(access) if (port::PCI_ADDRESS..=port::PCI_DATA + 3).contains(&access.port) => 3,
        Exit::Port(_) | Exit::PortString => 2,
        Exit::ReadMsr | Exit::WriteMsr => 4,
        Exit::Memory(address) => match the_cpu().plan.x86 {
            x86 if address == x86.local_apic + 0xb0 => 5,
            x86 if address & !0xfff == x86.local_apic => 6,
            x86 if address & !0xfff == x86.io_apic => 7,
            _ => 8,
        },
        Exit::Control(_) => 9,
        Exit::SetXcr => 10,
        Exit::Caches => 11,
        Exit::Nmi | Exit::Timer => 12,
        Exit::Window => 13,
        _ => 14,
    }
}

fn count(place: usize) {
    if let Some(slot) = COUNTS.get(place) {
        slot.fetch_add(1, Ordering::Relaxed);
    }
}

/// By its kind.
fn count_guest(exit: Exit) {
    let is_program = matches!(exit, Exit::Cpuid) && !guest::is_kernel(Control::current());
    if is_program && !HAS_PROGRAM.swap(true, Ordering::Relaxed) {
        AT_FIRST_PROGRAM
            .iter()
            .zip(&COUNTS)
            .for_each(|(to, from)| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed));
    }
    count(kind(exit));
}

/// The guest was left.
pub(super) fn guest() {
    if field::is_svm() {
        let fields = [svm_shell::fields::CODE, svm_shell::fields::INFO1, svm_shell::fields::INFO2];
        let [code, info1, info2] = fields.map(field::vmcb);
        return count_guest(svm::decode(code, info1, info2));
    }
    let fields = [vmx_shell::fields::REASON, vmx_shell::fields::QUALIFICATION, vmx_shell::fields::GUEST_ADDRESS];
    let [reason, qualification, address] = fields.map(instr::vmread);
    count_guest(match reason {
        vmx::EVENT => vmx::event(instr::vmread(vmx_shell::fields::EVENT)),
        _ => vmx::decode(reason, qualification, address),
    });
}

/// The secure partition was left.
pub(super) fn secure() {
    count(KINDS.len() - 1);
}

/// Says them.
pub(super) fn tell(console: &mut Console) {
    for (title, counts) in [("exits to the first program:", &AT_FIRST_PROGRAM), ("exits:", &COUNTS)] {
        let mut pieces = [Text(title); 1 + 3 * KINDS.len()];
        for (slots, (name, count)) in pieces[1..].chunks_exact_mut(3).zip(KINDS.iter().zip(counts)) {
            slots.copy_from_slice(&[Text(name), Text(" "), Decimal(count.load(Ordering::Relaxed))]);
        }
        console.say(&pieces);
    }
}
