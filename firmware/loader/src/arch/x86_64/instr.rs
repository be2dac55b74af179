//! The privileged instructions that the loader uses, each once.

use core::arch::asm;

/// Writes a byte to a port.
pub(super) fn write_port8(port: u16, value: u8) {
    // SAFETY: at CPL 0; what a port does is its caller's matter, and no port reaches this program's memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Reads a byte from a port.
pub(super) fn read_port8(port: u16) -> u8 {
    let value;
    // SAFETY: as for `write_port8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes two bytes to a port.
pub(super) fn write_port16(port: u16, value: u16) {
    // SAFETY: as for `write_port8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// Reads two bytes from a port.
pub(super) fn read_port16(port: u16) -> u16 {
    let value;
    // SAFETY: as for `write_port8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes four bytes to a port.
pub(super) fn write_port32(port: u16, value: u32) {
    // SAFETY: as for `write_port8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// Reads four bytes from a port.
pub(super) fn read_port32(port: u16) -> u32 {
    let value;
    // SAFETY: as for `write_port8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a model-specific register that the CPU has.
pub(super) fn read_msr(number: u32) -> u64 {
    let (high, low): (u32, u32);
    // SAFETY: at CPL 0; the caller asked CPUID for the feature that the register belongs to.
    unsafe {
        asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes IA32_FEATURE_CONTROL, which is not locked.
pub(super) fn write_feature_control(value: u64) {
    let [low, high] = [value, value >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
    // SAFETY: the CPU has VMX and so the register; the caller saw that its lock bit is clear.
    unsafe {
        asm!("wrmsr", in("ecx") 0x3a, in("eax") low, in("edx") high, options(nomem, nostack, preserves_flags));
    };
}

/// The time stamp counter.
pub(super) fn read_tsc() -> u64 {
    let (high, low): (u32, u32);
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// CR4.
#[cfg(target_os = "uefi")]
pub(super) fn read_cr4() -> u64 {
    let value;
    // SAFETY: at CPL 0; reading the register has no effect.
    unsafe { asm!("mov {value}, cr4", value = out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads four bytes of a device's registers.
pub(super) fn read_register(address: u64) -> u32 {
    // SAFETY: an ACPI table names registers here, below 4 GiB, where addresses map to themselves.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes four bytes of a device's registers.
pub(super) fn write_register(address: u64, value: u32) {
    // SAFETY: as for `read_register`; these registers are no memory.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// Stops for good: interrupts are off.
pub(super) fn halt() -> ! {
    loop {
        // SAFETY: waiting changes no state.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}
