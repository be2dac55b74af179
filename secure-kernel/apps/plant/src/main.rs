//! The plant app: simulates the tank and serves it.
#![no_std]
#![no_main]

use bulkhead_app_plant::{STEPS_PER_SECOND, Tank, plant};
use bulkhead_user::{self as user, Event, Reply};

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the runtime's entry calls it by this name")]
extern "C" fn app_main() -> ! {
    let mut tank = Tank::new();
    let step = user::ticks_per_second() / STEPS_PER_SECOND;
    let mut next = user::now() + step;
    user::set_timer(next);
    user::serve(|event| match event {
        Event::Request(request) => plant::dispatch(&mut tank, request.message.method, &request.message.words).into(),
        Event::Notification(_) => {
            tank.step();
            next = next.max(user::now()) + step;
            user::set_timer(next);
            Reply::ok(&[])
        }
    })
}
