//! A PC's real-time clock, by its two ports. No interrupt reaches an app there, so its alarm stays off.

use bulkhead_abi::boot::AppInfo;
use bulkhead_cmos::{DATA, INDEX};
use bulkhead_user as user;

/// The real-time clock.
#[derive(Clone, Copy)]
pub(crate) struct Rtc(());

/// Some milliseconds: a change takes two.
const TRIES: u32 = 4000;

impl Rtc {
    pub(crate) fn find(app: &AppInfo) -> Option<Self> {
        let is_own = app.ports.iter().any(|ports| ports.base == INDEX.into() && ports.bytes == 2);
        is_own.then_some(Self(()))
    }

    /// Seconds since 1970; `None` if it has lost them.
    pub(crate) fn seconds(self) -> Option<u64> {
        bulkhead_cmos::seconds(TRIES, |register| {
            user::write_port(INDEX, register & 0x7f);
            user::read_port(DATA)
        })
    }

    /// It has none.
    pub(crate) const fn set_alarm(self) -> bool {
        false
    }

    pub(crate) const fn done(self) {}
}
