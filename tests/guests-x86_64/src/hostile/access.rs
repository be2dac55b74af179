//! Ports and memory, read and written whatever comes of it.

use core::arch::asm;

use bulkhead_guests_x86_64::attempt;

/// EAX after an `in` of a width, with nothing in it before.
pub(crate) fn read_port(port: u16, bytes: u16) -> u64 {
    let value: u64;
    // SAFETY: a port is no memory.
    unsafe {
        match bytes {
            1 => asm!("in al, dx", in("dx") port, inout("rax") 0_u64 => value),
            2 => asm!("in ax, dx", in("dx") port, inout("rax") 0_u64 => value),
            _ => asm!("in eax, dx", in("dx") port, inout("rax") 0_u64 => value),
        }
    }
    value
}

pub(crate) fn write_port(port: u16, bytes: u16, value: u32) {
    // SAFETY: as for `read_port`.
    unsafe {
        match bytes {
            1 => asm!("out dx, al", in("dx") port, in("eax") value),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}

pub(crate) fn load(address: u64) -> u64 {
    let value;
    // SAFETY: an access that the wall answers or that faults.
    unsafe { attempt!("mov ecx, [rax]", in("rax") address, inout("rcx") 0_u64 => value) };
    value
}

pub(crate) fn load_wide(address: u64) -> u64 {
    let value;
    // SAFETY: as for `load`.
    unsafe { attempt!("mov rcx, [rax]", in("rax") address, inout("rcx") 0_u64 => value) };
    value
}

pub(crate) fn store(address: u64, value: u32) {
    // SAFETY: as for `load`; of the guest's own memory only words are written where nothing lies.
    unsafe { attempt!("mov [rax], ecx", in("rax") address, in("ecx") value) };
}

pub(crate) static mut SCRATCH: [u64; 4] = [0; 4];
