//! The clock app: answers `now`, and says that the secure side is alive: each second at first, then each minute. It drives the
//! machine's real-time clock where the policy gives it one: seconds are those of the epoch then, and the heartbeat is its alarm's
//! interrupt, where it has one (a PC's has none here). Without it (a PC's is the guest's, if the guest is to know the time) it counts on from
//! the time of day that the loader found, or from the machine's start, by the kernel's timer. The wall is told the time at the start.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "boot information is memory that the bundle maps for this app")]

#[cfg_attr(target_arch = "aarch64", path = "rtc/pl031.rs")]
#[cfg_attr(target_arch = "x86_64", path = "rtc/cmos.rs")]
mod rtc;

use bulkhead_abi::boot::BootInfo;
use bulkhead_abi::wall;
use bulkhead_app_clock::clock::{self, NowReply, Server};
use bulkhead_app_clock::{counted, is_said};
use bulkhead_user::{self as user, Event, NOTIFY_IRQ, NOTIFY_TIMER, Reply, log};
use rtc::Rtc;

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
        self.rtc.and_then(Rtc::seconds).map_or(counted, |seconds| NowReply { seconds, ticks })
    }
}

#[unsafe(no_mangle)]
extern "C" fn app_main(place: usize) -> ! {
    let second = user::ticks_per_second();
    // SAFETY: the bundle maps the boot information read only at this address for every app.
    let info = unsafe { &*(wall::APP_BOOT_VA as *const BootInfo) };
    let rtc = info.apps.get(place).and_then(Rtc::find);
    let mut time = Time { rtc, second, boot_seconds: info.boot_seconds };
    let mut beats = 0_u64;
    let mut next = user::now() + second;
    if (rtc.is_some() || info.boot_seconds != 0) && !user::set_time(time.now().seconds) {
        log!("the wall does not take the time: rules that ask for hours refuse");
    }
    if !rtc.is_some_and(Rtc::set_alarm) {
        user::set_timer(next);
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
                rtc.done();
            } else if bits & NOTIFY_TIMER != 0 {
                next = next.max(user::now()) + second;
                user::set_timer(next);
            }
            Reply::ok(&[])
        }
    })
}
