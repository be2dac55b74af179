//! Placing and starting the guest: its memory and registers as at power-on, at the first start and at each restart.
#![expect(unsafe_code, reason = "guest memory is written by physical address")]

use bulkhead_hypervisor_core::plan::{MachinePlan, StoredPart};

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::arch::instr;
use crate::arch::vectors::Frame;

/// A part of the start image did not come out of the store as long as the plan says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damaged;

/// Brings the start image from the store into guest memory.
///
/// # Errors
/// [`Damaged`]: the guest must not be started.
pub(crate) fn place(plan: &MachinePlan) -> Result<(), Damaged> {
    for part in plan.parts.iter().filter(|part| part.target.bytes != 0) {
        match part.encoding {
            0 => copy(part),
            _ => inflate(part)?,
        }
        let lines = part.target.bytes.div_ceil(LINE_BYTES);
        (0..lines).for_each(|line| instr::clean_line(part.target.base + line * LINE_BYTES));
    }
    instr::flush_guest();
    Ok(())
}

/// The smallest data cache line of the CPUs that we know.
const LINE_BYTES: u64 = 64;

/// Unpacks a raw deflate stream, which the loader checked by its hash.
fn inflate(part: &StoredPart) -> Result<(), Damaged> {
    let length = |bytes: u64| usize::try_from(bytes).map_err(|_| Damaged);
    let (stored, target) = (length(part.stored.bytes)?, length(part.target.bytes)?);
    // SAFETY: the store is mapped read only, and nobody writes to it.
    let stream = unsafe { core::slice::from_raw_parts(part.stored.base as *const u8, stored) };
    // SAFETY: the range lies in guest memory, is mapped and disjoint from the store and the image. The guest does not run and
    // no device writes to its memory (none that can is given to it), so this reference is the only access while it lives.
    let memory = unsafe { core::slice::from_raw_parts_mut(part.target.base as *mut u8, target) };
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = decompress(&mut DecompressorOxide::new(), stream, memory, 0, flags);
    if status == TINFLStatus::Done && written == target { Ok(()) } else { Err(Damaged) }
}

/// Copies eight bytes at a time; both places are page-aligned and a page longer than asked at the most.
fn copy(part: &StoredPart) {
    let words = part.target.bytes.min(part.stored.bytes).div_ceil(8);
    for word in 0..words {
        let from = (part.stored.base + word * 8) as *const u64;
        let to = (part.target.base + word * 8) as *mut u64;
        // SAFETY: the plan's store and guest memory are disjoint, mapped at their own addresses, and hold the whole part;
        // both are page-aligned. The guest does not run, and no Rust reference points to its memory.
        unsafe { to.write_volatile(from.read_volatile()) };
    }
}

/// The registers as the Linux boot protocol wants them (Documentation/arch/arm64/booting): EL1h, DAIF masked, MMU off,
/// x0 = device tree, x1-x3 = 0.
pub(crate) fn reset_registers(plan: &MachinePlan, frame: &mut Frame) {
    *frame = Frame::new();
    frame.set(0, plan.guest_argument);
    instr::write_elr_el2(plan.guest_entry);
    instr::write_spsr_el2(0x3c5);
    instr::write_sctlr_el1(0x30d0_0800);
    for write in [
        instr::write_tcr_el1,
        instr::write_ttbr0_el1,
        instr::write_ttbr1_el1,
        instr::write_vbar_el1,
        instr::write_cpacr_el1,
        instr::write_cntkctl_el1,
        instr::write_mdscr_el1,
        instr::write_contextidr_el1,
        instr::write_cntv_ctl_el0,
    ] {
        write(0);
    }
}

/// What the guest is trapped on, for good.
pub(crate) fn set_traps() {
    // RW, TSW, TACR, TIDCP, TSC, TID3, AMO, IMO, FMO, SWIO, VM (Arm ARM D17.2.48).
    instr::write_hcr_el2(0x807c_003b);
    // SVE trapped, FP and SIMD not; trace trapped (D17.2.31).
    instr::write_cptr_el2(0x33ff);
    // TDA, TDOSA, TDRA, TPM, TPMCR; no counters for EL2 (D17.2.96).
    instr::write_mdcr_el2(1 << 11 | 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5);
    instr::write_hstr_el2(0);
    // Physical counter and timer trapped; the virtual ones are the guest's.
    instr::write_cnthctl_el2(0);
    instr::write_cntvoff_el2(0);
    instr::write_cnthp_ctl_el2(0);
    instr::write_vpidr_el2(instr::read_midr_el1());
    instr::write_vmpidr_el2(1 << 31);
    instr::isb();
}

/// Gives the guest an exception as its own hardware would: `syndrome` is what ESR_EL1 shall hold (Arm ARM D1.3.3).
pub(crate) fn inject(syndrome: u64, fault_address: Option<u64>) {
    let state = instr::read_spsr_el2();
    // Vector: current EL with SP_EL0, with SP_ELx, lower EL AArch64, lower EL AArch32.
    let offset = match state & 0x1f {
        4 => 0x000,
        5 => 0x200,
        0 => 0x400,
        _ => 0x600,
    };
    if let Some(address) = fault_address {
        instr::write_far_el1(address);
    }
    instr::write_esr_el1(syndrome);
    instr::write_elr_el1(instr::read_elr_el2());
    instr::write_spsr_el1(state);
    instr::write_elr_el2(instr::read_vbar_el1() + offset);
    instr::write_spsr_el2(0x3c5);
}
