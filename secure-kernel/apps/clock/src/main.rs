//! The clock app: answers `now`, and says that the secure side is alive: each second at first, then each minute. It drives the
//! machine's real-time clock (PL031, Arm DDI 0224) where the policy gives it one: seconds are those of the epoch then, and
//! the heartbeat is its alarm's interrupt. Without one (on x86-64 the real-time clock is the guest's) it counts on from the time of
//! day that the loader found, or from the machine's start, by the kernel's timer. The wall is told the time at the start.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "device registers and boot information are memory that the bundle maps for this app")]

use bulkhead_abi::boot::BootInfo;
use bulkhead_abi::wall;
use bulkhead_app_clock::clock::{self, NowReply, Server};
use bulkhead_app_clock::{counted, is_said};
use bulkhead_user::{self as user, Event, NOTIFY_IRQ, NOTIFY_TIMER, Reply, log};

/// The real-time clock.
#[derive(Clone, Copy)]
struct Rtc {
    base: u64,
    intid: u32,
}

/// Registers: data, match, interrupt mask, interrupt clear (DDI 0224 §3.3).
const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;
const MASK: u64 = 0x10;
const CLEAR: u64 = 0x1c;

impl Rtc {
    fn find(info: &BootInfo) -> Option<Self> {
        let app = info.apps.iter().find(|app| app.name.starts_with(b"clock\0"))?;
        let (range, intid) = (app.devices[0], app.device_irqs[0]);
        (range.bytes != 0 && intid != 0).then_some(Self { base: wall::DEVICE_WINDOW + range.base, intid })
    }

    fn read(self, register: u64) -> u32 {
        // SAFETY: the bundle maps the device's registers at this address for this app, whole pages, for good.
        unsafe { ((self.base + register) as *const u32).read_volatile() }
    }

    fn write(self, register: u64, value: u32) {
        // SAFETY: as for `read`; the device does not write to memory.
        unsafe { ((self.base + register) as *mut u32).write_volatile(value) };
    }

    /// Ends the alarm that came, and sets the next one, a second from now.
    fn set_alarm(self) {
        self.write(CLEAR, 1);
        self.write(MATCH, self.read(DATA).wrapping_add(1));
        self.write(MASK, 1);
    }
}

/// The service.
struct Time {
    rtc: Option<Rtc>,
    second: u64,
    boot_seconds: u64,
}

impl Server for Time {
    fn now(&mut self) -> NowReply {
        let ticks = user::now();
        let counted = counted(ticks, self.second, self.boot_seconds);
        self.rtc.map_or(counted, |rtc| NowReply { seconds: rtc.read(DATA).into(), ticks })
    }
}

#[unsafe(no_mangle)]
extern "C" fn app_main() -> ! {
    let second = user::ticks_per_second();
    // SAFETY: the bundle maps the boot information read only at this address for every app.
    let info = unsafe { &*(wall::APP_BOOT_VA as *const BootInfo) };
    let rtc = Rtc::find(info);
    let mut time = Time { rtc, second, boot_seconds: info.boot_seconds };
    let mut beats = 0_u64;
    let mut next = user::now() + second;
    if (rtc.is_some() || info.boot_seconds != 0) && !user::set_time(time.now().seconds) {
        log!("the wall does not take the time: rules that ask for hours refuse");
    }
    match rtc {
        Some(rtc) => rtc.set_alarm(),
        None => user::set_timer(next),
    }
    user::serve(|event| match event {
        Event::Request(request) => clock::dispatch(&mut time, request.message.method, &request.message.words).into(),
        Event::Notification(bits) => {
            beats += 1;
            if is_said(beats) {
                log!("heartbeat {beats}");
            }
            if let Some(rtc) = rtc.filter(|_| bits & NOTIFY_IRQ != 0) {
                rtc.set_alarm();
                user::interrupt_done(rtc.intid);
            } else if bits & NOTIFY_TIMER != 0 {
                next = next.max(user::now()) + second;
                user::set_timer(next);
            }
            Reply::ok(&[])
        }
    })
}
