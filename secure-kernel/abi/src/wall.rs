//! The wall's calls: what the secure kernel asks of the hypervisor (`hvc #0`, `vmcall`, `vmmcall`; number in x0) and how the
//! hypervisor enters the secure kernel (an upcall). Only the secure partition can make these calls.
//!
//! The partition is entered at [`UPCALL_ENTRY`] with the EL1 registers below, interrupts masked, MMU on; nothing of it
//! is saved between a [`SWITCH`] and the next upcall. SWITCH may clobber every general register; the other calls keep
//! x18-x30, as a function call does.

/// Gives the CPU back to the guest. In: x1 = flags ([`SWITCH_REPLY`] | [`SWITCH_MORE`] | reply length << 8),
/// x2 = status, x3-x8 = reply words, x9 = token of the call replied to, x10 = when to be entered again (ticks,
/// `u64::MAX`: by a call only). Does not return.
pub const SWITCH: u64 = 1;
/// The monitor's verdict. In: x1 = question ([`question`]), x2-x7 = words. Out: x0 = verdict word:
/// bit 0 allow; bits 8-15 reason (`bulkhead_model::Reason`); bits 16-31 rule (0xffff: none). The hypervisor records it.
pub const JUDGE: u64 = 2;
/// In: x1 = ticks, absolute (`u64::MAX`: none): the virtual IRQ comes then. Takes the virtual IRQ back.
/// Out: x0 = 1 if the partition's time is up and it should [`SWITCH`] at once.
pub const SET_TIMER: u64 = 3;
/// Puts a record into the audit trail. In: x1 = kind (`audit::Kind`) | subject << 16, x2, x3 = details. Out: x0 = 0.
pub const AUDIT_EVENT: u64 = 4;
/// Raises a declared virtual interrupt of the guest. In: x1 = INTID. Out: x0 = status.
pub const GUEST_IRQ: u64 = 5;
/// Console output, at most 48 bytes. In: x1 = length | subject << 16, x2-x7 = the bytes, little-endian. Out: x0 = 0.
pub const LOG: u64 = 6;
/// Takes an interrupt of an app's device that came. Out: x0 = INTID, 0 if there is none left. It stays active until
/// [`IRQ_DONE`].
pub const TAKE_IRQ: u64 = 8;
/// The device of an interrupt was served: it may come again. In: x1 = INTID. Out: x0 = status.
pub const IRQ_DONE: u64 = 9;
/// The kernel cannot go on. In: x1 = code, x2 = address. The hypervisor records it and answers the guest's calls with `Gone`.
pub const FATAL: u64 = 7;

/// [`SWITCH`] carries a reply to the guest's open call.
pub const SWITCH_REPLY: u64 = 1;
/// [`SWITCH`] leaves ready tasks behind: enter again as soon as the budget allows.
pub const SWITCH_MORE: u64 = 2;

/// Upcall reason in x0: run what is ready (start, the timer, or work left by [`SWITCH_MORE`]).
pub const UPCALL_RUN: u64 = 0;
/// Upcall reason: a call of the guest, already judged. x1 = header, x2-x7 = words, x8 = token.
/// Answer with [`SWITCH_REPLY`] and the same token; a late or doubled answer is dropped.
pub const UPCALL_CALL: u64 = 1;
/// Upcall reason: the guest was restarted; its open call is void.
pub const UPCALL_GUEST_RESET: u64 = 2;

/// Packs a question for [`JUDGE`]: subject bits 0-15, object 16-31, method 32-47, phase 48-51 (`bulkhead_model::Phase`),
/// length 56-63.
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
/// Where the kernel's image starts: on AArch64 with its vector table, on x86-64 with its upcall entry.
pub const KERNEL_IMAGE: u64 = KERNEL_VA + KERNEL_OFFSET;
/// The kernel's stack: the last pages of its image, above one that is not mapped.
pub const KERNEL_STACK_BYTES: u64 = 0x8000;

/// The registers with which an AArch64 kernel is entered.
pub mod aarch64 {
    /// VBAR_EL1.
    pub const VECTORS: u64 = super::KERNEL_IMAGE;
    /// Where upcalls enter: right after the vector table.
    pub const UPCALL_ENTRY: u64 = VECTORS + 0x800;
    /// SCTLR_EL1: M, C, I, SA, SA0, WXN, SPAN and the RES1 bits; `wfi`, `wfe` and cache maintenance at EL0 trap (Arm ARM D17.2.118).
    pub const SCTLR: u64 = 0x30d8_181d;
    /// TCR_EL1: 39-bit addresses both halves, 4 KiB, write-back inner shareable walks, 40-bit output (D17.2.131).
    pub const TCR: u64 = 2 << 32 | 2 << 30 | 3 << 28 | 1 << 26 | 1 << 24 | 25 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
    /// MAIR_EL1: attribute 0 device-nGnRE, attribute 1 normal write-back (D17.2.97).
    pub const MAIR: u64 = 0xff04;
    /// CNTKCTL_EL1: EL0 reads the virtual counter, nothing else (D17.2.15).
    pub const CNTKCTL: u64 = 2;
}

/// The registers with which an x86-64 kernel is entered: 64-bit mode at CPL 0, CR3 = the kernel's root, interrupts off, flat
/// segments in the hidden registers, no valid stack. At the first upcall descriptor tables and task register are empty; what
/// the kernel loads into them stays.
///
/// The n-th register of a call, of an upcall and of a system call (x0, x1, … above) is here: RAX, RDI, RSI, RDX, RCX,
/// R8, R9, R10, R11, R12, R13. A call of the wall changes RAX alone.
pub mod x86_64 {
    /// Where upcalls enter.
    pub const UPCALL_ENTRY: u64 = super::KERNEL_IMAGE;
    /// CR0: PE, MP, EM, TS, ET, NE, WP, AM, PG (SDM 3 §2.5). With EM and TS every x87 and SSE instruction faults: the kernel and
    /// its apps are built without, and those registers are the guest's.
    pub const CR0: u64 = 0x8005_003f;
    /// CR4: PAE, TSD off, MCE off, PGE off; what the CPU has of UMIP (11), SMEP (20) and SMAP (21) is added (SDM 3 §2.5).
    pub const CR4: u64 = 1 << 5;
    /// EFER: LME, LMA, NXE; no SYSCALL: tasks enter by an interrupt gate (SDM 3 §2.2.1).
    pub const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;
    /// The code segment's selector at an upcall; its data and stack segments follow it.
    pub const KERNEL_CODE: u16 = 0x08;
    /// The stack segment's selector.
    pub const KERNEL_DATA: u16 = 0x10;
    /// The vector of the virtual interrupt. Tasks run with RFLAGS.IF clear, as the kernel does: what the machine's devices raise
    /// waits for the guest, whose it is. The wall sets IF to give this one; the kernel clears it in what it stored of the task.
    pub const VIRTUAL_IRQ: u8 = 0x20;
    /// The vector of system calls (`bulkhead_abi::syscall`).
    pub const SYSCALL: u8 = 0x80;
}

/// Where guest memory appears, in the secure partition's IPA space and in the address space of the one app that maps
/// it: this plus the guest's own address. The window ends at 512 GiB (39-bit addresses).
pub const GUEST_WINDOW: u64 = 0x20_0000_0000;
/// Where the audit ring appears, read only, in IPA space and in the address space of apps that read it.
pub const AUDIT_RING: u64 = 0x10_0000_0000;
/// Where the registers of an app's device appear, in IPA space and in the app's address space: this plus their address.
pub const DEVICE_WINDOW: u64 = 0x12_0000_0000;
/// Where the compiled policy appears, read only, in IPA space and in the address space of apps that read names from it.
pub const POLICY: u64 = 0x11_0000_0000;
/// Top of an app's stack (EL0 virtual address); nothing is mapped below the stack.
pub const APP_STACK_TOP: u64 = 0x30_0000;
/// Where the boot information appears, read only, in every app.
pub const APP_BOOT_VA: u64 = 0x30_1000;
/// Where an app's image is linked (EL0 virtual address).
pub const APP_VA: u64 = 0x40_0000;
