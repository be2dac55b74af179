//! The plant app: simulates the tank and serves it.
#![no_std]
#![no_main]

use bulkhead_app_plant::{STEPS_PER_SECOND, Tank, method};
use bulkhead_user::{self as user, Event, Reply, Status};

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the runtime's entry calls it by this name")]
extern "C" fn app_main() -> ! {
    let mut tank = Tank::new();
    let step = user::ticks_per_second() / STEPS_PER_SECOND;
    let mut next = user::now() + step;
    user::set_timer(next);
    user::serve(|event| match event {
        Event::Request(request) => answer(&mut tank, request.message.method, request.message.words[0]),
        Event::Notification(_) => {
            tank.step();
            next = next.max(user::now()) + step;
            user::set_timer(next);
            Reply::ok(&[])
        }
    })
}

fn answer(tank: &mut Tank, method: u16, argument: u64) -> Reply {
    match method {
        method::LEVEL => Reply::ok(&[tank.level()]),
        method::STATE => Reply::ok(&[tank.state() as u64, tank.rpm()]),
        method::SET_PUMP => {
            tank.set_pump(argument);
            Reply::ok(&[])
        }
        method::DRAIN => {
            tank.set_outlet(argument != 0);
            Reply::ok(&[])
        }
        _ => Reply::error(Status::Unknown),
    }
}
