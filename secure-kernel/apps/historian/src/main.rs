//! The historian app.
#![no_std]
#![no_main]

use bulkhead_app_historian::{History, NOT_FOUND, method};
use bulkhead_user::{self as user, Event, Reply, Status};

#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the runtime's entry calls it by this name")]
extern "C" fn app_main() -> ! {
    let mut history = History::new();
    let second = user::ticks_per_second();
    user::serve(|event| {
        let Event::Request(request) = event else { return Reply::ok(&[]) };
        let [first, value, ..] = request.message.words;
        // The interface bounds a tag to 16 bits before the call gets here.
        let tag = u16::try_from(first).unwrap_or(u16::MAX);
        match request.message.method {
            method::APPEND => Reply::ok(&[history.append(tag, value, user::now() / second)]),
            method::QUERY => history
                .query(tag, value)
                .map_or(Reply::failed(NOT_FOUND), |entry| Reply::ok(&[entry.index, entry.value, entry.seconds])),
            method::COUNT => Reply::ok(&[history.count()]),
            _ => Reply::error(Status::Unknown),
        }
    })
}
