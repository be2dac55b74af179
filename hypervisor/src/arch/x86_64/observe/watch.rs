//! Whether what must not change of the wall's memory is as it was: code and constants, the policy, the guest's start image, the three address spaces, the
//! bitmaps of ports and registers. Looked at now and then, and when the machine ends.
#![expect(unsafe_code, reason = "memory is read by address")]

use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_hypervisor_core::plan::Range;

use super::super::{svm, vmx};
use crate::console::Console;
use crate::console::Piece::{Decimal, Text};
use crate::run::the_cpu;
use crate::spaces;

/// How many exits lie between two looks.
const EVERY: u64 = 4096;
/// Accessed and dirty: the CPU sets them in tables of its own format (APM 2 §5.4.2, §15.25.5).
const SET_BY_CPU: u64 = 3 << 5;

static EXITS: AtomicU64 = AtomicU64::new(0);
static LOOKS: AtomicU64 = AtomicU64::new(0);
static CHANGES: AtomicU64 = AtomicU64::new(0);
/// The first look's sum.
static SUM: AtomicU64 = AtomicU64::new(0);

/// All words of a range, in order (Fletcher's way: each sum of sums).
fn add((mut one, mut two): (u64, u64), range: Range, mask: u64) -> (u64, u64) {
    for address in (range.base..range.base + range.bytes).step_by(8) {
        // SAFETY: each range is the wall's own, mapped at its own address, aligned, and written by nobody while the wall runs.
        one = one.wrapping_add(unsafe { (address as *const u64).read_volatile() } & mask);
        two = two.wrapping_add(one);
    }
    (one, two)
}

fn sum() -> u64 {
    let plan = &the_cpu().plan;
    let constants = Range { base: plan.image.base, bytes: plan.image_text_bytes + plan.image_rodata_bytes };
    let pages = |base: u64, bytes: u64| Range { base, bytes };
    let fixed = [
        constants,
        plan.policy,
        plan.store,
        pages(svm::PORTS.address(), 12288),
        pages(svm::APP_PORTS.address(), 12288),
        pages(svm::REGISTERS.address(), 8192),
        pages(svm::ALL_REGISTERS.address(), 8192),
        pages(vmx::PORTS.address(), 8192),
        pages(vmx::APP_PORTS.address(), 8192),
        pages(vmx::MSR_BITMAP.address(), 4096),
    ];
    let sums = fixed.into_iter().fold((0, 0), |sums, range| add(sums, range, u64::MAX));
    let (one, two) = spaces::pools().into_iter().fold(sums, |sums, range| add(sums, range, !SET_BY_CPU));
    one ^ two.rotate_left(32)
}

fn look() {
    let now = sum();
    if LOOKS.fetch_add(1, Ordering::Relaxed) == 0 {
        SUM.store(now, Ordering::Relaxed);
    } else if SUM.load(Ordering::Relaxed) != now {
        CHANGES.fetch_add(1, Ordering::Relaxed);
    }
}

/// The guest was left.
pub(super) fn look_now_and_then() {
    if EXITS.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY) {
        look();
    }
}

/// Looks a last time, and says what was seen.
pub(super) fn tell(console: &mut Console) {
    look();
    let [looks, changes] = [&LOOKS, &CHANGES].map(|count| Decimal(count.load(Ordering::Relaxed)));
    console.say(&[Text("watch: the wall's memory: "), looks, Text(" looks, changed in "), changes]);
}
