//! Ports and memory, read and written whatever comes of it.

use core::arch::asm;

use bulkhead_guests_x86_64::attempt;

unsafe extern "C" {
    /// The page tables that this program starts with.
    static mut tables: [u64; 0xc00];
}

/// Says in this program's page directory what the block of 2 MiB around an address is, in which nothing of it lies; what was said before.
pub(crate) fn map_block(address: u64, entry: u64) -> u64 {
    // SAFETY: the tables are this program's own, and the directories' 2,048 entries lie from 0x400 on: nothing above 4 GiB is mapped.
    unsafe {
        let slot = (&raw mut tables).cast::<u64>().add(0x400 + (address >> 21 & 0x7ff) as usize);
        let before = slot.read_volatile();
        slot.write_volatile(entry);
        asm!("invlpg [{}]", in(reg) address);
        before
    }
}

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
