//! How often each kind of exit happened, told when the machine ends: in images that are built to count (`count-exits`), and only there,
//! as counting costs each exit some instructions.

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_hypervisor_core::x86::{Exit, svm, vmx};

use super::entry::Frame;
use super::{Next, field, instr};
use crate::console::Console;
use crate::console::Piece::{Decimal, Text};

/// The kinds that are told apart; the last two are everything else, and the secure partition's exits.
const KINDS: [&str; 12] = [
    " call", " cpuid", " port", " msr", " memory", " control", " xcr", " caches", " time", " window", " other",
    " secure",
];

static COUNTS: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

const fn kind(exit: Exit) -> usize {
    match exit {
        Exit::Call => 0,
        Exit::Cpuid => 1,
        Exit::Port(_) | Exit::PortString => 2,
        Exit::ReadMsr | Exit::WriteMsr => 3,
        Exit::Memory(_) => 4,
        Exit::Control(_) => 5,
        Exit::SetXcr => 6,
        Exit::Caches => 7,
        Exit::Nmi | Exit::Timer => 8,
        Exit::Window => 9,
        _ => 10,
    }
}

fn count(place: usize) {
    if let Some(slot) = COUNTS.get(place) {
        slot.fetch_add(1, Ordering::Relaxed);
    }
}

/// Both partitions' exits lead here first.
pub(crate) fn begin(guest: &mut Frame, secure: &mut Frame) {
    let [guest_control, secure_control] = if field::is_svm() { super::svm::controls() } else { [0; 2] };
    guest.bind(guest_exit, guest_control);
    secure.bind(secure_exit, secure_control);
}

extern "C" fn guest_exit(frame: &mut Frame) -> Next {
    if field::is_svm() {
        let fields = [super::svm::fields::CODE, super::svm::fields::INFO1, super::svm::fields::INFO2];
        let [code, info1, info2] = fields.map(field::vmcb);
        count(kind(svm::decode(code, info1, info2)));
        return super::svm::guest_exit(frame);
    }
    let fields = [super::vmx::fields::REASON, super::vmx::fields::QUALIFICATION, super::vmx::fields::GUEST_ADDRESS];
    let [reason, qualification, address] = fields.map(instr::vmread);
    let exit = match reason {
        vmx::EVENT => vmx::event(instr::vmread(super::vmx::fields::EVENT)),
        _ => vmx::decode(reason, qualification, address),
    };
    count(kind(exit));
    super::vmx::guest_exit(frame)
}

extern "C" fn secure_exit(frame: &mut Frame) -> Next {
    count(KINDS.len() - 1);
    if field::is_svm() { super::svm::secure_exit(frame) } else { super::vmx::secure_exit(frame) }
}

/// Says them.
pub(crate) fn tell(console: &mut Console) {
    let mut pieces = [Text("exits:"); 1 + 3 * KINDS.len()];
    for (slots, (name, count)) in pieces[1..].chunks_exact_mut(3).zip(KINDS.iter().zip(&COUNTS)) {
        slots.copy_from_slice(&[Text(name), Text(" "), Decimal(count.load(Ordering::Relaxed))]);
    }
    console.say(&pieces);
}
