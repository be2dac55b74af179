//! Each privileged instruction, wrapped once.
#![expect(unsafe_code, reason = "privileged instructions have no safe form")]

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// The time-stamp counter.
#[inline(always)]
pub(crate) fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(low) | u64::from(high) << 32
}

/// EAX, EBX, ECX, EDX of the CPU's own CPUID.
#[inline(always)]
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let known = __cpuid_count(leaf, subleaf);
    [known.eax, known.ebx, known.ecx, known.edx]
}

/// Reads a register that every CPU has on which the wall runs.
#[inline(always)]
pub(crate) fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the callers name registers that the CPU has (checked by the loader); reading them has no effect.
    unsafe {
        asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(low) | u64::from(high) << 32
}

/// Writes a register of the wall's own set-up.
#[inline(always)]
pub(crate) fn wrmsr(index: u32, value: u64) {
    let [low, high] = halves(value);
    // SAFETY: the callers write EFER, VM_HSAVE_PA and the like with values that keep long mode and the wall's memory as they are.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

#[expect(clippy::cast_possible_truncation, reason = "cut in two on purpose")]
const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Reads a port.
#[inline(always)]
pub(crate) fn port_in(port: u16, bytes: u8) -> u32 {
    let value: u32;
    // SAFETY: a port is no memory; what reading one does is the policy's or the set-up's decision.
    unsafe {
        match bytes {
            1 => asm!("xor eax, eax", "in al, dx", in("dx") port, out("eax") value, options(nomem, nostack)),
            2 => asm!("xor eax, eax", "in ax, dx", in("dx") port, out("eax") value, options(nomem, nostack)),
            _ => asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack)),
        }
    }
    value
}

/// Writes a port.
#[inline(always)]
pub(crate) fn port_out(port: u16, bytes: u8, value: u32) {
    // SAFETY: as for `port_in`; no device that writes to memory is given to the guest, so no port makes one do so.
    unsafe {
        match bytes {
            1 => asm!("out dx, al", in("dx") port, in("eax") value, options(nomem, nostack)),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value, options(nomem, nostack)),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack)),
        }
    }
}

macro_rules! control_registers {
    ($($read:ident $write:ident $register:literal)*) => {$(
        #[inline(always)]
        pub(crate) fn $read() -> u64 {
            let value;
            // SAFETY: reading a control register has no effect.
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
        #[inline(always)]
        pub(crate) fn $write(value: u64) {
            // SAFETY: the callers keep paging, long mode and the wall's mappings as they are.
            unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    )*};
}

control_registers! {
    read_dr6 write_dr6 "dr6"
    read_cr0 write_cr0 "cr0" read_cr2 write_cr2 "cr2" read_cr3 write_cr3 "cr3" read_cr4 write_cr4 "cr4"
}

/// XCR0 of the guest, checked by `control::xcr0`.
pub(crate) fn xsetbv(value: u64) {
    let [low, high] = halves(value);
    // SAFETY: CR4.OSXSAVE is set (`take_over`), the value is one that the CPU takes; the wall uses no extended state.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// Writes all caches back.
pub(crate) fn wbinvd() {
    // SAFETY: writing back changes no memory that is read coherently.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// VMXON with the address of its region (SDM 3 §31). False: the CPU refused.
pub(crate) fn vmxon(region: u64) -> bool {
    let failed: u8;
    // SAFETY: the region is a page of the image's own, with the revision in its first word.
    unsafe { asm!("vmxon [{}]", "setbe {}", in(reg) &raw const region, out(reg_byte) failed, options(nostack)) };
    failed == 0
}

/// VMCLEAR.
pub(crate) fn vmclear(vmcs: u64) -> bool {
    let failed: u8;
    // SAFETY: as for `vmxon`.
    unsafe { asm!("vmclear [{}]", "setbe {}", in(reg) &raw const vmcs, out(reg_byte) failed, options(nostack)) };
    failed == 0
}

/// VMPTRLD: makes a VMCS the current one.
#[inline(always)]
pub(crate) fn vmptrld(vmcs: &u64) {
    // SAFETY: the address is that of a VMCS that `vmclear` has initialised.
    unsafe { asm!("vmptrld [{}]", in(reg) vmcs, options(readonly, nostack)) };
}

/// VMREAD of a field that every CPU has on which the wall runs.
#[inline(always)]
pub(crate) fn vmread(field: u32) -> u64 {
    let value;
    // SAFETY: a VMCS is current wherever this is called; reading has no effect.
    unsafe { asm!("vmread {}, {}", out(reg) value, in(reg) u64::from(field), options(nomem, nostack)) };
    value
}

/// VMWRITE.
#[inline(always)]
pub(crate) fn vmwrite(field: u32, value: u64) {
    // SAFETY: a VMCS is current; host fields are written in `vmx::build` only, the guest's cannot reach the wall's memory but by EPT.
    unsafe { asm!("vmwrite {}, {}", in(reg) u64::from(field), in(reg) value, options(nomem, nostack)) };
}

/// Forgets all translations that were cached through EPT (INVEPT type 2), of all VPIDs (INVVPID type 2).
pub(crate) fn invalidate_ept() {
    let descriptor = [0_u64; 2];
    // SAFETY: invalidation only costs walks; both types exist wherever EPT and VPID do (checked by the loader).
    unsafe {
        asm!(
            "invept {kind}, [{at}]", "invvpid {kind}, [{at}]", kind = in(reg) 2_u64, at = in(reg) descriptor.as_ptr(),
            options(readonly, nostack)
        );
    }
}

/// VMSAVE and VMLOAD: the registers that VMRUN leaves alone (APM 2 §15.5.2).
#[inline(always)]
pub(crate) fn swap_segments(from: u64, to: u64) {
    // SAFETY: both addresses are VMCBs of the image's own; the wall itself uses none of these registers.
    unsafe {
        asm!("vmsave rax", in("rax") from, options(nostack, preserves_flags));
        asm!("vmload rax", in("rax") to, options(nostack, preserves_flags));
    }
}

/// CLGI: no interrupt, not even a non-maskable one, is taken by the wall.
pub(crate) fn clgi() {
    // SAFETY: what is pending is taken later.
    unsafe { asm!("clgi", options(nomem, nostack, preserves_flags)) };
}

/// Takes the non-maskable interrupt that ended the guest's turn, through vector 2, which returns at once.
pub(crate) fn take_nmi() {
    // SAFETY: interrupts are masked (RFLAGS.IF), so that only the NMI comes; its gate is in place.
    unsafe { asm!("stgi", "nop", "clgi", options(nostack, preserves_flags)) };
}

/// Ends the blocking of NMIs that one has left which ended a partition's turn on VMX: vector 2 returns by IRET, which unblocks them.
pub(crate) fn unblock_nmi() {
    // SAFETY: its gate is in place and returns at once.
    unsafe { asm!("int 2") };
}

/// Stops this CPU for good.
pub(crate) fn park() -> ! {
    loop {
        // SAFETY: halting changes no state; interrupts are masked.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
