//! The PL031 (Arm DDI 0224): its registers lie in memory, and its alarm interrupts.
#![expect(unsafe_code, reason = "device registers are memory that the bundle maps for this app")]

use bulkhead_abi::boot::AppInfo;
use bulkhead_abi::wall;
use bulkhead_user as user;

/// The real-time clock.
#[derive(Clone, Copy)]
pub(crate) struct Rtc {
    base: u64,
    intid: u32,
}

/// Registers: data, match, interrupt mask, interrupt clear (DDI 0224 §3.3).
const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;
const MASK: u64 = 0x10;
const CLEAR: u64 = 0x1c;

impl Rtc {
    pub(crate) fn find(app: &AppInfo) -> Option<Self> {
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

    /// Seconds since 1970.
    #[expect(clippy::unnecessary_wraps, reason = "another clock may have lost its time")]
    pub(crate) fn seconds(self) -> Option<u64> {
        Some(self.read(DATA).into())
    }

    /// Ends the alarm that came, and sets the next one, a second from now. False if it has none.
    pub(crate) fn set_alarm(self) -> bool {
        self.write(CLEAR, 1);
        self.write(MATCH, self.read(DATA).wrapping_add(1));
        self.write(MASK, 1);
        true
    }

    /// The alarm may come again.
    pub(crate) fn done(self) {
        user::interrupt_done(self.intid);
    }
}
