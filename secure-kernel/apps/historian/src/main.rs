//! The historian app.
#![no_std]
#![no_main]

use bulkhead_app_historian::{History, historian};
use bulkhead_user::{self as user, Event, Reply};

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the runtime's entry calls it by this name")]
extern "C" fn app_main() -> ! {
    let mut history = History::new(|| user::now() / user::ticks_per_second());
    user::serve(|event| match event {
        Event::Request(request) => {
            historian::dispatch(&mut history, request.message.method, &request.message.words).into()
        }
        Event::Notification(_) => Reply::ok(&[]),
    })
}
