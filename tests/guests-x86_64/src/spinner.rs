//! The spinning guest of a PC: masks every interrupt and spins for five seconds, and checks as it goes that no instruction was lost or done
//! twice where the wall took the CPU from it: the counter's every read has effect and goes forward, and sums come out right.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: the counter")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests_x86_64::{Clock, Uart, find_service, is_amd, power_off, service_call};

/// What is in EAX and EDX before each read of the counter: no value that it has.
const MARK: u64 = 0xdead_beef;
const TURNS: u64 = 20_000;
/// `Faulty.hang`.
const HANG: u64 = 2;

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut out = Uart::open();
    // A site with an app that can be made to compute for ever: it takes its share of each period, and the guest is left so often.
    if let Some(stuck) = find_service(is_amd(), "stuck") {
        let _ = writeln!(out, "spinner: beside an app that never waits");
        let _ = service_call(is_amd(), stuck | HANG << 16, [0; 6]);
    }
    let _ = writeln!(out, "spinner: spins with interrupts masked");
    let mut clock = Clock::new();
    let (mut rounds, mut missed, mut backward, mut wrong, mut last) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    while clock.milliseconds() < 5000 {
        let (mut sum, mut twin) = (rounds, rounds);
        for turn in 0..TURNS {
            let now = read();
            missed += u64::from(now >> 32 == MARK || now & 0xffff_ffff == MARK && now - last > u64::from(u32::MAX));
            backward += u64::from(now <= last);
            last = now;
            sum = sum.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(turn);
            twin = core::hint::black_box(twin)
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(core::hint::black_box(turn));
        }
        wrong += u64::from(core::hint::black_box(sum) != twin);
        rounds += 1;
    }
    let _ = writeln!(
        out,
        "spinner: {rounds} rounds, {missed} reads without effect, {backward} backward, {wrong} wrong sums"
    );
    let is_sound = rounds > 0 && missed + backward + wrong == 0;
    let _ = writeln!(out, "spinner: {}", if is_sound { "done" } else { "not as expected" });
    power_off()
}

/// The counter, over marked registers.
fn read() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("cli", "rdtsc", inout("rax") MARK => low, inout("rdx") MARK => high, options(nomem, nostack)) };
    low | high << 32
}
