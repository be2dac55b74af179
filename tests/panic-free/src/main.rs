//! The monitor, the check of its tables and all that is asked of one, in an image whose panic handler calls what does not exist: a panic
//! that the compiler cannot rule out is an error of the linker. Nobody runs it.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "an entry that the optimiser knows nothing of")]

use core::panic::PanicInfo;

use bulkhead_model::{MAX_ARGS, Phase, Policy};
use bulkhead_monitor::{Call, Clock, decide, redacted};

unsafe extern "C" {
    safe fn a_panic_can_be_reached() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    a_panic_can_be_reached()
}

struct Clocks(Option<u64>, Option<u64>);

impl Clock for Clocks {
    fn microseconds(&self) -> Option<u64> {
        self.0
    }

    fn local_seconds(&self) -> Option<u64> {
        self.1
    }
}

/// What the caller brings, all of it unknown when this is compiled.
#[repr(C)]
#[derive(Debug)]
struct Question {
    subject: u16,
    object: u16,
    method: u16,
    kind: u8,
    len: u8,
    args: [u64; MAX_ARGS],
    times: [u64; 2],
}

// SAFETY: the name is the linker's entry, and nothing else in this image has it.
#[unsafe(no_mangle)]
extern "C" fn _start(table: &&[u8], state: &mut &mut [u64], question: &Question) -> u64 {
    let policy = match question.kind & 1 {
        0 => Policy::verify(table),
        _ => Policy::open(table),
    };
    let Ok(policy) = policy else { return u64::MAX };
    let &Question { subject, object, method, kind, len, ref args, times: [first, second] } = question;
    let phase = [Phase::Request, Phase::Reply, Phase::Error, Phase::Question][usize::from(kind >> 1 & 3)];
    let call = Call { subject, object, method, phase, len, args };
    let known = |time: u64| (time != 0).then_some(time);
    let verdict = decide(&policy, state, &Clocks(known(first), known(second)), &call);
    let place = policy.rule_place(method).map_or(0, |(file, line)| u64::from(line) ^ file.len() as u64);
    if cfg!(feature = "counterproof") {
        return args[usize::from(len)];
    }
    u64::from(verdict.rule) << 16
        | u64::from(verdict.reason as u8) << 8
        | u64::from(redacted(&policy, &call, verdict.rule)) ^ place
}
