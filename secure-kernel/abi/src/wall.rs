//! The wall's calls: what the secure kernel asks of the hypervisor (`hvc #0`, number in x0) and how the
//! hypervisor enters the secure kernel (an upcall). Only the secure partition can make these calls.
//!
//! The secure partition is entered at its upcall entry with constant EL1 registers (those it had at
//! [`READY`]), interrupts masked, MMU as at READY; nothing else of it is saved between a [`SWITCH`] and the
//! next upcall. All general registers may be clobbered by SWITCH; the other calls keep what they don't return in.

/// In: x1 = virtual address of the upcall entry. Returns by the first upcall only.
/// The hypervisor snapshots SCTLR, TTBR0, TTBR1, TCR, MAIR, VBAR, SP, CNTKCTL of EL1.
pub const READY: u64 = 0;
/// Gives the CPU back to the guest. In: x1 = flags ([`SWITCH_REPLY`] | [`SWITCH_MORE`] | reply length << 8),
/// x2 = status, x3-x8 = reply words, x9 = token of the call replied to. Does not return.
pub const SWITCH: u64 = 1;
/// The monitor's verdict. In: x1 = question ([`question`]), x2-x7 = words. Out: x0 = verdict word:
/// bit 0 allow; bits 8-15 reason (`bulkhead_model::Reason`); bits 16-31 rule (0xffff: none). Audit is done by the hypervisor.
pub const JUDGE: u64 = 2;
/// In: x1 = CNTVCT ticks, absolute (`u64::MAX`: none). At that time: an upcall [`UPCALL_RUN`], or the virtual IRQ
/// if the partition runs. The virtual IRQ is level: it stays until the next SET_TIMER.
pub const SET_TIMER: u64 = 3;
/// Puts a record into the audit trail. In: x1 = kind (`audit::Kind`) | subject << 16, x2, x3 = details. Out: x0 = 0.
pub const AUDIT_EVENT: u64 = 4;
/// Raises a declared virtual interrupt of the guest. In: x1 = INTID. Out: x0 = status.
pub const GUEST_IRQ: u64 = 5;
/// Console output, at most 48 bytes. In: x1 = length, x2-x7 = the bytes, little-endian. Out: x0 = 0.
pub const LOG: u64 = 6;
/// The kernel cannot go on. In: x1 = code, x2 = address. The hypervisor reports it and answers the guest's calls with `Gone`.
pub const FATAL: u64 = 7;

/// [`SWITCH`] carries a reply to the guest's open call.
pub const SWITCH_REPLY: u64 = 1;
/// [`SWITCH`] leaves ready tasks behind: enter again as soon as the budget allows.
pub const SWITCH_MORE: u64 = 2;

/// Upcall reason in x0: run what is ready (the timer, or work left by [`SWITCH_MORE`]).
pub const UPCALL_RUN: u64 = 0;
/// Upcall reason: a call of the guest, already judged. x1 = header, x2-x7 = words, x8 = token.
/// Answer with [`SWITCH_REPLY`] and the same token; a late or doubled answer is dropped.
pub const UPCALL_CALL: u64 = 1;
/// Upcall reason: the guest was restarted (x1 = 1), stopped (x1 = 0). Its open call is void.
pub const UPCALL_GUEST_EVENT: u64 = 2;

/// Packs a question for [`JUDGE`]: subject bits 0-15, object 16-31, method 32-47, phase 48-51 (`bulkhead_model::Phase`), length 56-63.
#[must_use]
pub const fn question(subject: u16, object: u16, method: u16, phase: u8, len: u8) -> u64 {
    subject as u64 | (object as u64) << 16 | (method as u64) << 32 | (phase as u64 & 0xf) << 48 | (len as u64) << 56
}

/// Where the secure partition's memory starts in its own physical address space.
pub const SECURE_IPA: u64 = 0x4000_0000;
/// Where the kernel's image starts, relative to [`SECURE_IPA`]; the boot information lies before it.
pub const KERNEL_OFFSET: u64 = 0x1_0000;
/// Kernel virtual address of [`SECURE_IPA`]: the kernel is linked at this plus [`KERNEL_OFFSET`].
pub const KERNEL_VA: u64 = 0xffff_ff80_4000_0000;
/// Where guest memory appears, in the secure partition's IPA space and in the address space of the one app that maps
/// it: this plus the guest's own address. The window ends at 512 GiB (39-bit addresses).
pub const GUEST_WINDOW: u64 = 0x20_0000_0000;
/// Where the audit ring appears, read only, in IPA space and in the audit app's address space.
pub const AUDIT_RING: u64 = 0x10_0000_0000;
/// Where an app's image is linked (EL0 virtual address).
pub const APP_VA: u64 = 0x40_0000;
/// Top of an app's stack (EL0 virtual address); a guard page lies below the stack.
pub const APP_STACK_TOP: u64 = 0x8000_0000;
/// Where the compiled policy appears, read only, in the address space of apps that read names from it.
pub const APP_POLICY_VA: u64 = 0x9000_0000;
/// Where the boot information appears, read only, in every app.
pub const APP_BOOT_VA: u64 = 0xa000_0000;
