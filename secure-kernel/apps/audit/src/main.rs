//! The audit app: follows the trail, prints it at a rate that people can read, serves the totals.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the trail and the policy are memory that the bundle maps for this app")]

use bulkhead_abi::audit::{RING_RECORDS, Record, RingHeader};
use bulkhead_abi::boot::BootInfo;
use bulkhead_abi::wall;
use bulkhead_app_audit::audit;
use bulkhead_app_audit::{Line, Rate, Reader, Ring, Service};
use bulkhead_model::Policy;
use bulkhead_user::{self as user, Event, Reply, log};

/// The ring at its fixed address; the wall writes to it while this app does not run.
struct Mapped;

impl Mapped {
    fn header() -> RingHeader {
        // SAFETY: the bundle maps the ring read only at this address for this app; it is never unmapped.
        unsafe { (wall::AUDIT_RING as *const RingHeader).read_volatile() }
    }
}

impl Ring for Mapped {
    fn next_seq(&self) -> u64 {
        Self::header().next_seq
    }

    fn window_ticks(&self) -> u64 {
        Self::header().window_ticks
    }

    fn record(&self, place: usize) -> Option<Record> {
        let first = wall::AUDIT_RING + size_of::<RingHeader>() as u64;
        let at = (first + (place % RING_RECORDS * size_of::<Record>()) as u64) as *const Record;
        // SAFETY: as for the header; the place lies within the ring. Every bit pattern is a record.
        let (before, after) = unsafe { (at.read_volatile(), at.read_volatile()) };
        (before.seq == after.seq && before.count == after.count).then_some(before)
    }
}

/// Lines a second.
const LINES: u32 = 60;
/// Lines a turn: of the kernel's 64 pieces of text in two turns the longest lines take no more, so that none is cut off there uncounted.
const LINES_A_TURN: u32 = 5;

#[unsafe(no_mangle)]
extern "C" fn app_main() -> ! {
    // SAFETY: the bundle maps the boot information read only at this address for every app.
    let info = unsafe { &*(wall::APP_BOOT_VA as *const BootInfo) };
    let length = usize::try_from(info.policy_bytes).unwrap_or(0);
    // SAFETY: the bundle maps the policy's pages read only at this address for this app, and nobody writes to them.
    let table = unsafe { core::slice::from_raw_parts(wall::POLICY as *const u8, length) };
    let Ok(policy) = Policy::open(table) else {
        log!("the policy does not verify");
        user::exit(3)
    };
    let mut service = Service::new(table);
    let (mut reader, mut rate) = (Reader::default(), Rate::new(LINES));
    let turn = user::ticks_per_second() / 20;
    let (mut lost, mut unprinted, mut turns) = (0, 0, 0);
    user::set_timer(user::now() + turn);
    user::serve(|event| match event {
        Event::Request(request) => {
            service.count(&reader, &rate);
            audit::dispatch(&mut service, request.message.method, &request.message.words).into()
        }
        Event::Notification(_) => {
            let mut lines = 0;
            while lines < LINES_A_TURN
                && let Some(record) = reader.read(&Mapped, user::now())
            {
                if rate.allows() {
                    lines += 1;
                    log!("{}", Line { record: &record, policy: &policy });
                }
            }
            turns += 1;
            if turns % 20 == 0 {
                if (reader.lost, rate.unprinted) != (lost, unprinted) {
                    (lost, unprinted) = (reader.lost, rate.unprinted);
                    log!("{lost} records lost, {unprinted} not printed since the start");
                }
                rate.refill();
            }
            user::set_timer(user::now() + turn);
            Reply::ok(&[])
        }
    })
}
