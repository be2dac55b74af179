//! An app that does what a broken or hostile one would: crashes, hangs, lies, reaches for what is not its own. As the server of
//! a device its `echo` answers loads and its `crash` stores.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "it misbehaves on purpose")]

use core::arch::asm;

use bulkhead_user::{self as user, Event, Reply, Status};

#[unsafe(no_mangle)]
extern "C" fn app_main() -> ! {
    user::serve(|event| {
        let Event::Request(request) = event else { return Reply::ok(&[]) };
        match request.message.method {
            0 => Reply::ok(&[request.message.words[0]]),
            1 => user::exit(7),
            2 => loop {
                core::hint::spin_loop();
            },
            // SAFETY: a load from the kernel's half: the MMU refuses it, and the kernel ends this app.
            3 => Reply::ok(&[unsafe { (0xffff_ff80_4001_0000 as *const u64).read_volatile() }]),
            4 => {
                // SAFETY: a floating-point register is the guest's: it is refused (AArch64: `fmov d0, x0`; x86-64: `pxor xmm0,
                // xmm0`), and the kernel ends this app.
                #[cfg(target_arch = "aarch64")]
                unsafe {
                    asm!(".inst 0x9e670000", options(nomem, nostack));
                }
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                unsafe {
                    asm!(".byte 0x66, 0x0f, 0xef, 0xc0", options(nomem, nostack));
                }
                Reply::ok(&[])
            }
            5 => Reply::ok(&[256]),
            #[cfg(target_arch = "x86_64")]
            6 => Reply::ok(&[u16::try_from(request.message.words[0]).map_or(0, user::read_port).into()]),
            #[cfg(target_arch = "x86_64")]
            7 => {
                let [port, value, ..] = request.message.words;
                user::write_port(u16::try_from(port).unwrap_or(0), u8::try_from(value).unwrap_or(0));
                Reply::ok(&[])
            }
            _ => Reply::error(Status::Unknown),
        }
    })
}
