//! The kernel against the real monitor: calls between tasks and from the guest, refusals, faults, budgets.

extern crate std;

use bulkhead_abi::boot::{BootInfo, Capability, NO_OBJECT, flags};
use bulkhead_abi::{Message, Status, audit, syscall};
use bulkhead_lang::Compiled;
use bulkhead_model::{Phase, Policy};
use bulkhead_monitor::{Call, decide};
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;
use zerocopy::FromZeros;

use crate::{Kernel, Next, Platform, Verdict};

/// Apps: 0 server `plant`, 1 server `store`, 2 client `hmi`, 3 `bridge` that speaks for the guest.
const SITE: &str = "edition 1\npolicy t\n\
    interface Plant { method set(rpm: u16 in 0..100) -> (level: u16 in 0..50)\n method stop() -> () }\n\
    interface Store { method put(value: u64) -> () }\n\
    app plant\napp store\napp hmi\napp bridge\nservice plant: Plant by plant\nservice store: Store by store\n\
    allow kernel task.start\nallow hmi plant.set when rpm < 60\nallow hmi plant.stop\nallow hmi store.put\n\
    allow plant store.put\nallow store plant.stop\nallow guest plant.set when rpm < 10\n";

struct Monitor {
    compiled: Compiled,
    judged: usize,
    records: Vec<(audit::Kind, u16)>,
    text: String,
}

impl Platform for Monitor {
    fn judge(&mut self, subject: u16, phase: Phase, message: &Message) -> Verdict {
        self.judged += 1;
        let policy = Policy::verify(&self.compiled.table).unwrap();
        let &Message { object, method, len, ref words } = message;
        let call = Call { subject, object, method, phase, len, args: words };
        let verdict = decide(&policy, &mut [], &bulkhead_monitor::NoClock, &call);
        Verdict { reason: verdict.reason, rule: u16::try_from(verdict.rule).unwrap_or(u16::MAX) }
    }
    fn record(&mut self, kind: audit::Kind, subject: u16, _details: [u64; 2]) {
        self.records.push((kind, subject));
    }
    fn raise(&mut self, _intid: u32) -> Status {
        Status::Ok
    }
    fn irq_done(&mut self, _intid: u32) -> Status {
        Status::Ok
    }
    fn print(&mut self, _subject: u16, len: u64, words: [u64; 6]) {
        let bytes: Vec<u8> =
            words.iter().flat_map(|word| word.to_le_bytes()).take(usize::try_from(len).unwrap()).collect();
        self.text.push_str(&String::from_utf8_lossy(&bytes));
    }
}

const PLANT: usize = 0;
const STORE: usize = 1;
const HMI: usize = 2;
const BRIDGE: usize = 3;

struct Machine {
    kernel: Kernel,
    monitor: Monitor,
    now: u64,
}

impl Machine {
    /// All tasks started, and the servers waiting for requests; one tick is a microsecond.
    fn new(site: &str, change: impl FnOnce(&mut BootInfo)) -> Self {
        let compiled = bulkhead_lang::compile(&mut |_| Ok(site.to_string()), "site.policy").unwrap();
        let mut info = BootInfo::new_zeroed();
        for (index, name) in ["plant", "store", "hmi", "bridge"].iter().enumerate() {
            let subject = compiled.subject(name).unwrap();
            let app = &mut info.apps[index];
            app.subject = subject;
            app.serves = compiled.object(name).unwrap_or(NO_OBJECT);
            app.priority = u8::try_from(index).unwrap();
            app.restart_limit = 1;
            app.flags = if index == BRIDGE { flags::SPEAKS_FOR_GUEST } else { 0 };
            let reach = compiled.reach(subject);
            app.cap_count = u8::try_from(reach.len()).unwrap();
            for (slot, reach) in app.caps.iter_mut().zip(reach) {
                *slot = Capability { object: reach.object, reserved: [0; 3], open_methods: reach.open_methods };
            }
        }
        info.app_count = 4;
        change(&mut info);
        let mut kernel = Kernel::new(Box::leak(Box::new(info)), 1);
        let mut monitor = Monitor { compiled, judged: 0, records: Vec::new(), text: String::new() };
        kernel.start(&mut monitor);
        let mut machine = Self { kernel, monitor, now: 1000 };
        assert_eq!(machine.next(), Some(PLANT));
        machine.syscall(syscall::RECEIVE, [0; 8]);
        assert_eq!(machine.next(), Some(STORE));
        machine.syscall(syscall::RECEIVE, [0; 8]);
        machine.monitor.judged = 0;
        machine
    }

    /// The task that runs next; `None` if the kernel leaves.
    fn next(&mut self) -> Option<usize> {
        match self.kernel.next(self.now, false) {
            Next::Run => Some(self.kernel.current),
            Next::Leave { .. } => None,
        }
    }

    fn syscall(&mut self, number: u64, arguments: [u64; 8]) {
        let x = &mut self.kernel.registers().x;
        x[..8].copy_from_slice(&arguments);
        x[8] = number;
        self.kernel.syscall(&mut self.monitor, || self.now);
    }

    fn call(&mut self, target: &str, method: u16, argument: Option<u64>, flags: u64) {
        let object = self.monitor.compiled.object(target).unwrap();
        let len = u8::from(argument.is_some());
        let header = Message { object, method, len, words: [0; 6] }.header();
        self.syscall(syscall::CALL, [header, argument.unwrap_or(0), 0, 0, 0, 0, 0, flags]);
    }

    fn x(&mut self, register: usize) -> u64 {
        self.kernel.registers().x[register]
    }

    fn status(&mut self) -> Option<Status> {
        Status::from_raw(self.x(0).cast_signed())
    }

    /// The guest calls `plant.set(rpm)`, as the gate hands it over.
    fn guest_call(&mut self, rpm: u64, token: u64) {
        let object = self.monitor.compiled.object("plant").unwrap();
        let header = Message { object, method: 0, len: 1, words: [0; 6] }.header();
        self.kernel.guest_call(header, [rpm, 0, 0, 0, 0, 0], token);
    }
}

fn machine() -> Machine {
    Machine::new(SITE, |_| {})
}

#[test]
fn a_call_is_judged_delivered_and_answered() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.call("plant", 0, Some(50), 0);
    assert_eq!(machine.next(), Some(PLANT));
    assert_eq!((machine.x(0), machine.x(2)), (syscall::RECEIVED_REQUEST, 50));
    assert_eq!(machine.x(9), u64::from(machine.monitor.compiled.subject("hmi").unwrap()));
    machine.syscall(syscall::REPLY_RECEIVE, [0, 42, 7, 7, 7, 7, 7, 1]);
    assert_eq!(machine.next(), Some(HMI));
    assert_eq!((machine.status(), machine.x(1), machine.x(2)), (Some(Status::Ok), 42, 0));
    assert_eq!(machine.monitor.judged, 2, "once in each direction");
}

#[test]
fn what_the_policy_does_not_allow_reaches_nobody() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    for (method, argument, wanted) in [
        (0, Some(60), Status::Denied),
        (0, Some(101), Status::Malformed),
        (0, None, Status::Malformed),
        (9, None, Status::Unknown),
    ] {
        machine.call("plant", method, argument, 0);
        assert_eq!((machine.next(), machine.status()), (Some(HMI), Some(wanted)));
    }
    machine.call("plant", 0, Some(5), 2);
    assert_eq!(machine.status(), Some(Status::Malformed), "unknown flags");
    machine.syscall(syscall::CALL, [1 << 60, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Malformed), "reserved bits");
}

#[test]
fn only_who_may_speak_for_the_guest_does() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.call("plant", 0, Some(5), syscall::CALL_FOR_GUEST);
    assert_eq!(machine.status(), Some(Status::Denied));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.call("plant", 0, Some(50), syscall::CALL_FOR_GUEST);
    assert_eq!(machine.status(), Some(Status::Denied), "the guest may not set 50");
    machine.call("plant", 0, Some(5), 0);
    assert_eq!(machine.status(), Some(Status::Denied), "the bridge itself may nothing");
    machine.call("plant", 0, Some(5), syscall::CALL_FOR_GUEST);
    assert_eq!((machine.next(), machine.x(9)), (Some(PLANT), 0));
}

#[test]
fn a_reply_that_does_not_fit_its_interface_is_none() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.call("plant", 0, Some(5), 0);
    assert_eq!(machine.next(), Some(PLANT));
    machine.syscall(syscall::REPLY_RECEIVE, [0, 51, 0, 0, 0, 0, 0, 1]);
    assert_eq!(machine.next(), Some(HMI));
    assert_eq!((machine.status(), machine.x(1)), (Some(Status::Failed), 0));
}

#[test]
fn a_busy_server_takes_its_callers_one_after_the_other() {
    let mut machine = machine();
    machine.guest_call(5, 77);
    assert_eq!(machine.next(), Some(PLANT));
    machine.guest_call(6, 78);
    machine.syscall(syscall::REPLY_RECEIVE, [0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!((machine.x(0), machine.x(2)), (syscall::RECEIVED_REQUEST, 6), "the second call of the guest");
    assert_eq!(machine.next(), None, "the first answer goes out at once");
    let reply = *machine.kernel.reply_to_guest();
    assert_eq!((reply.status, reply.len, reply.words[0], reply.token), (Status::Ok, 1, 1, 77));
}

#[test]
fn calls_in_a_circle_end_as_busy() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.call("store", 0, Some(1), 0);
    assert_eq!(machine.next(), Some(STORE));
    machine.call("plant", 1, None, 0);
    assert_eq!(machine.next(), Some(PLANT));
    machine.call("store", 0, Some(1), 0);
    assert_eq!((machine.next(), machine.status()), (Some(PLANT), Some(Status::Busy)));
}

#[test]
fn a_task_is_told_its_place_in_the_manifest() {
    let mut machine = Machine::new(SITE, |_| {});
    for (place, argument) in [(HMI, 2), (BRIDGE, 3)] {
        assert_eq!((machine.next(), machine.x(1)), (Some(place), argument), "RDI");
        machine.syscall(syscall::RECEIVE, [0; 8]);
    }
}

#[test]
fn a_faulting_server_is_restarted_then_given_up_and_its_callers_hear_of_it() {
    let mut machine = machine();
    for (fault, wanted) in [(1, Status::Gone), (2, Status::Gone)] {
        while machine.next() != Some(HMI) {
            machine.syscall(syscall::RECEIVE, [0; 8]);
        }
        machine.call("plant", 0, Some(5), 0);
        assert_eq!(machine.next(), Some(PLANT), "fault {fault}");
        machine.kernel.fault(&mut machine.monitor, [0x9200_0047, 0]);
        assert_eq!(machine.kernel.take_load(), (fault == 1).then_some(PLANT), "memory is put back at a restart");
        while machine.next() != Some(HMI) {
            machine.syscall(syscall::RECEIVE, [0; 8]);
        }
        assert_eq!(machine.status(), Some(wanted));
    }
    machine.call("plant", 0, Some(5), 0);
    assert_eq!(machine.status(), Some(Status::Gone), "given up");
    machine.guest_call(5, 9);
    assert_eq!(machine.next(), None);
    assert_eq!(machine.kernel.reply_to_guest().status, Status::Gone);
    let plant = machine.monitor.compiled.subject("plant").unwrap();
    let kinds: Vec<audit::Kind> =
        machine.monitor.records.iter().filter(|(_, subject)| *subject == plant).map(|(kind, _)| *kind).collect();
    use audit::Kind::{TaskFault, TaskGivenUp, TaskStart};
    assert_eq!(kinds, [TaskStart, TaskFault, TaskStart, TaskFault, TaskGivenUp]);
}

#[test]
fn no_task_starts_without_the_monitors_verdict() {
    let site = SITE.replace("allow kernel task.start\n", "");
    let compiled = bulkhead_lang::compile(&mut |_| Ok(site.clone()), "site.policy").unwrap();
    let mut info = BootInfo::new_zeroed();
    info.app_count = 1;
    info.apps[0].subject = compiled.subject("plant").unwrap();
    let mut kernel = Kernel::new(Box::leak(Box::new(info)), 1);
    let mut monitor = Monitor { compiled, judged: 0, records: Vec::new(), text: String::new() };
    kernel.start(&mut monitor);
    assert!(matches!(kernel.next(0, false), Next::Leave { has_more: false, wake: u64::MAX, .. }));
    assert_eq!(monitor.records.first().map(|(kind, _)| *kind), Some(audit::Kind::TaskGivenUp));
}

#[test]
fn timers_become_notifications_and_wake_the_partition() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::SET_TIMER, [5000, 0, 0, 0, 0, 0, 0, 0]);
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    let Next::Leave { has_more: false, wake: 5000, .. } = machine.kernel.next(4999, false) else { panic!("not yet") };
    machine.now = 5000;
    assert_eq!(
        (machine.next(), machine.x(0), machine.x(1)),
        (Some(HMI), syscall::RECEIVED_NOTIFICATION, syscall::NOTIFY_TIMER)
    );
}

#[test]
fn an_answer_goes_out_at_once_and_a_timer_that_is_due_by_then_is_served_at_the_next_entry() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::SET_TIMER, [5000, 0, 0, 0, 0, 0, 0, 0]);
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.guest_call(5, 77);
    assert_eq!(machine.kernel.answered(), None, "nobody has answered");
    assert_eq!(machine.next(), Some(PLANT));
    machine.now = 6000;
    machine.syscall(syscall::REPLY_RECEIVE, [0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(machine.kernel.answered(), None, "the bridge is ready");
    let Next::Leave { has_reply: true, has_more: true, .. } = machine.kernel.next(6000, false) else {
        panic!("answered")
    };
    machine.now = 4000;
    assert_eq!(machine.next(), Some(HMI), "the timer was due");
    machine.syscall(syscall::SET_TIMER, [7000, 0, 0, 0, 0, 0, 0, 0]);
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    machine.guest_call(6, 78);
    assert_eq!(machine.next(), Some(PLANT));
    machine.syscall(syscall::REPLY_RECEIVE, [0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(machine.kernel.answered(), Some(7000), "when the timer is due");
    assert_eq!(machine.kernel.answered(), None, "once");
    machine.now = 7000;
    assert_eq!((machine.next(), machine.x(1)), (Some(HMI), syscall::NOTIFY_TIMER));
}

#[test]
fn where_budgets_count_an_answer_waits_for_the_account() {
    let mut machine = Machine::new(SITE, |info| (info.apps[PLANT].budget_us, info.apps[PLANT].period_us) = (100, 1000));
    for task in [HMI, BRIDGE] {
        assert_eq!(machine.next(), Some(task));
        machine.syscall(syscall::RECEIVE, [0; 8]);
    }
    machine.guest_call(5, 77);
    assert_eq!(machine.next(), Some(PLANT));
    machine.now += 100;
    machine.syscall(syscall::REPLY_RECEIVE, [0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(machine.kernel.answered(), None);
    assert!(matches!(machine.kernel.next(machine.now, false), Next::Leave { has_reply: true, .. }));
    machine.guest_call(6, 78);
    assert_eq!(machine.next(), None, "its time was charged");
}

#[test]
fn a_task_that_spent_its_budget_waits_for_its_next_period() {
    let mut machine = Machine::new(SITE, |info| (info.apps[HMI].budget_us, info.apps[HMI].period_us) = (100, 1000));
    assert_eq!(machine.next(), Some(HMI));
    machine.now += 100;
    assert_eq!(machine.next(), Some(BRIDGE), "a lower priority runs");
    machine.syscall(syscall::RECEIVE, [0; 8]);
    let Next::Leave { has_more: false, wake, .. } = machine.kernel.next(machine.now, false) else {
        panic!("nobody may run")
    };
    assert_eq!(wake, 2000);
    machine.now = wake;
    assert_eq!(machine.next(), Some(HMI));
}

#[test]
fn when_its_time_is_up_the_partition_leaves_with_work_left() {
    let mut machine = machine();
    assert!(matches!(machine.kernel.next(machine.now, true), Next::Leave { has_more: true, .. }));
}

#[test]
fn a_restarted_guest_is_announced_to_who_speaks_for_it() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    machine.kernel.guest_reset();
    assert_eq!((machine.next(), machine.x(1)), (Some(BRIDGE), syscall::NOTIFY_GUEST_RESET));
}

#[test]
fn what_is_not_given_is_refused() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::GUEST_IRQ, [79, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Denied));
    machine.syscall(99, [0; 8]);
    assert_eq!(machine.status(), Some(Status::NotSupported));
    let plant = machine.monitor.compiled.object("plant").unwrap().into();
    machine.syscall(syscall::NOTIFY, [plant, 1 << 8, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Ok), "its server is one it may call");
    machine.syscall(syscall::NOTIFY, [plant, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Denied), "the kernel's own bits");
    machine.syscall(syscall::REPLY, [0; 8]);
    assert_eq!(machine.status(), Some(Status::Malformed), "nothing to answer");
}

#[test]
fn an_interrupt_reaches_who_drives_the_device_and_nobody_else_ends_it() {
    let mut machine = Machine::new(SITE, |info| info.apps[HMI].device_irqs[0] = 34);
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.syscall(syscall::IRQ_DONE, [34, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Denied));
    machine.kernel.interrupt(35);
    assert_eq!(machine.next(), Some(BRIDGE), "nobody's");
    machine.kernel.interrupt(34);
    assert_eq!((machine.next(), machine.x(1)), (Some(HMI), syscall::NOTIFY_IRQ));
    machine.syscall(syscall::IRQ_DONE, [34, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Ok));
    machine.syscall(syscall::IRQ_DONE, [0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Denied), "an unused slot is no interrupt");
}

#[test]
fn what_a_task_writes_between_two_pieces_of_anothers_line_does_not_come_between() {
    let mut machine = machine();
    let piece = |text: &[u8; 8], len| [len, u64::from_le_bytes(*text), 0, 0, 0, 0, 0, 0];
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::LOG, piece(b"pump ON,", 8));
    machine.syscall(syscall::SET_TIMER, [5000, 0, 0, 0, 0, 0, 0, 0]);
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.syscall(syscall::LOG, piece(b"no, off\n", 8));
    machine.syscall(syscall::RECEIVE, [0; 8]);
    machine.now = 6000;
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::LOG, piece(b" now\n...", 5));
    assert_eq!(machine.monitor.text, "no, off\npump ON, now\n");
    machine.syscall(syscall::LOG, piece(b"half of ", 8));
    machine.kernel.fault(&mut machine.monitor, [0; 2]);
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::LOG, piece(b"up\n.....", 3));
    assert_eq!(
        machine.monitor.text, "no, off\npump ON, now\nup\n",
        "what it wrote before it fell is no start of a line"
    );
}

#[test]
fn a_task_that_floods_the_console_is_held_back() {
    let mut machine = machine();
    assert_eq!(machine.next(), Some(HMI));
    let piece = [2, u64::from(u16::from_le_bytes(*b"a\n")), 0, 0, 0, 0, 0, 0];
    (0..1000).for_each(|_| machine.syscall(syscall::LOG, piece));
    assert_eq!((machine.status(), machine.monitor.text.len()), (Some(Status::Busy), 128));
    machine.now += 100_000;
    machine.syscall(syscall::LOG, piece);
    assert_eq!(machine.status(), Some(Status::Ok));
    machine.syscall(syscall::LOG, [49, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Malformed));
}

#[test]
fn an_app_asks_about_its_own_service_for_itself_or_for_the_guest_and_nobody_else_does() {
    let site = SITE.replace("method stop() -> () }", "method stop() -> ()\n question may(rpm: u16) }").replace(
        "service plant: Plant by plant",
        "service plant: Plant by bridge\nallow bridge plant.may when rpm < 50\nallow guest plant.may when rpm < 5",
    );
    let object = bulkhead_model::object::POWER + 1;
    let mut machine = Machine::new(&site.replace("allow plant store.put", "allow bridge store.put"), |info| {
        info.apps[PLANT].serves = NO_OBJECT;
        info.apps[BRIDGE].serves = object;
    });
    let ask = |machine: &mut Machine, rpm: u64, flags: u64| {
        let object = machine.monitor.compiled.object("plant").unwrap();
        let header = Message { object, method: 2, len: 1, words: [0; 6] }.header();
        machine.syscall(syscall::ASK, [header, rpm, 0, 0, 0, 0, 0, flags]);
        machine.status()
    };
    assert_eq!(machine.next(), Some(HMI));
    assert_eq!(ask(&mut machine, 4, 0), Some(Status::Denied), "not its service");
    assert_eq!(ask(&mut machine, 4, syscall::CALL_FOR_GUEST), Some(Status::Denied), "and not its voice");
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    assert_eq!(ask(&mut machine, 49, 0), Some(Status::Ok));
    assert_eq!(ask(&mut machine, 50, 0), Some(Status::Denied));
    assert_eq!(ask(&mut machine, 4, syscall::CALL_FOR_GUEST), Some(Status::Ok));
    assert_eq!(ask(&mut machine, 5, syscall::CALL_FOR_GUEST), Some(Status::Denied));
    machine.call("plant", 2, Some(4), 0);
    assert_eq!(machine.status(), Some(Status::Unknown), "a question is not called");
    machine.call("store", 0, Some(4), 0);
    assert_eq!(machine.next(), Some(STORE), "a call is made");
    let judged = machine.monitor.judged;
    assert_eq!(judged, 8, "each of them was judged, and is on record if it was refused");
}

#[test]
fn the_time_is_told_by_whom_the_policy_names() {
    let mut machine = Machine::new(&format!("{SITE}allow hmi time.set\n"), |_| {});
    assert_eq!(machine.next(), Some(HMI));
    machine.syscall(syscall::SET_TIME, [1_764_150_000, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Ok));
    machine.syscall(syscall::SET_TIME, [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Malformed), "a clock that has lost its battery");
    machine.syscall(syscall::RECEIVE, [0; 8]);
    assert_eq!(machine.next(), Some(BRIDGE));
    machine.syscall(syscall::SET_TIME, [1_764_150_000, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.status(), Some(Status::Denied));
}
