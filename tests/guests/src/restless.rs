//! The restless guest: counts nothing, does nothing, asks for its reset at once. The wall's restart limit ends it.
#![no_std]
#![no_main]

use core::fmt::Write;

use bulkhead_guests::{Uart, call, park};

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the shared entry calls it by this name")]
extern "C" fn guest_main() -> ! {
    let _ = writeln!(Uart, "restless: up");
    call(0x8400_0009, [0; 3]);
    park()
}
