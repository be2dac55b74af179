//! The clock app: answers `now`, and says that the secure side is alive: each second at first, then each minute.
#![no_std]
#![no_main]

use bulkhead_app_clock::{is_said, method, now};
use bulkhead_user::{self as user, Event, Reply, Status, log};

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the runtime's entry calls it by this name")]
extern "C" fn app_main() -> ! {
    let second = user::ticks_per_second();
    let mut beats = 0_u64;
    let mut next = user::now() + second;
    user::set_timer(next);
    user::serve(|event| match event {
        Event::Request(request) if request.message.method == method::NOW => Reply::ok(&now(user::now(), second)),
        Event::Request(_) => Reply::error(Status::Unknown),
        Event::Notification(_) => {
            beats += 1;
            if is_said(beats) {
                log!("heartbeat {beats}");
            }
            next = next.max(user::now()) + second;
            user::set_timer(next);
            Reply::ok(&[])
        }
    })
}
