//! The run loop: from a trap or an interrupt to what is done about it, and back to the guest.
#![expect(unsafe_code, reason = "the one CPU's state is a static that the vectors reach")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use bulkhead_abi::audit::{Kind, RING_RECORDS, Record, RingHeader};
use bulkhead_abi::{Message, Status, wall};
use bulkhead_hypervisor_core::audit::Trail;
use bulkhead_hypervisor_core::call::{self, Function, Hot};
use bulkhead_hypervisor_core::clock::SiteTime;
use bulkhead_hypervisor_core::gate::{self, Gate};
use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::psci;
use bulkhead_model::code::STATE_WORDS;
use bulkhead_model::{Phase, Policy, method, object, subject};
use bulkhead_monitor::{Call, Clock, Look};

use crate::arch::{self, Frame, GUEST, Machine, Next};
use crate::console::Console;
use crate::console::Piece::{Decimal, Hexadecimal, Text};
use crate::guest;
use crate::partition::{Partition, Waiting};

/// All that the wall keeps while the guest runs.
pub(crate) struct Cpu {
    pub(crate) plan: MachinePlan,
    /// What the architecture keeps of the machine besides.
    pub(crate) machine: Machine,
    pub(crate) gate: Gate<'static>,
    pub(crate) partition: Partition,
    pub(crate) console: Console,
    restarts: u64,
}

struct Slot(UnsafeCell<MaybeUninit<Cpu>>);

// SAFETY: one CPU; `with_cpu` is called by the vectors' handlers only, which run with interrupts masked and do not nest.
unsafe impl Sync for Slot {}

static CPU: Slot = Slot(UnsafeCell::new(MaybeUninit::uninit()));
/// The slot is filled.
static IS_UP: AtomicBool = AtomicBool::new(false);

/// The CPU's state, for a handler.
#[inline(always)]
pub(crate) fn the_cpu() -> &'static mut Cpu {
    // SAFETY: see `Slot`: a handler takes this once, and no handler runs inside another. `hypervisor_main` fills the slot
    // before the guest starts, and no handler runs before.
    unsafe { (*CPU.0.get()).assume_init_mut() }
}

/// Entered once by the loader, with the machine as it left it; never returns.
pub(crate) extern "C" fn hypervisor_main(plan: *const MachinePlan) -> ! {
    // SAFETY: the loader passes a plan in memory that it owns and leaves alone; it is copied here, before anything else.
    let plan = unsafe { plan.read() };
    let mut console = Console::new(&plan);
    arch::take_faults();
    if let Err(error) = plan.validate() {
        let (what, [first, second]) = error.told();
        console.say(&[Text("at "), Hexadecimal(first), Text(" and "), Hexadecimal(second)]);
        stop(&mut console, "the machine plan is not sound: ", what);
    }
    let sides = match arch::take_over(&plan) {
        Ok(sides) => sides,
        Err(why) => stop(&mut console, "the machine cannot be taken over: ", why),
    };
    let gate = match open_gate(&plan) {
        Ok(gate) => gate,
        Err(error) => stop(&mut console, "the policy is damaged: ", error.word()),
    };
    let machine = Machine::new(&plan);
    if guest::place(&plan).is_err() {
        stop(&mut console, "the guest's start image is damaged", "");
    }
    let taken_kib = plan.taken.bytes / 1024;
    let words = [Text(arch::UP), Decimal(taken_kib), Text(" KiB taken from the guest; starting the guest")];
    console.say(&words);
    let partition = Partition::new(&plan, sides);
    partition.arm();
    let mut cpu = Cpu { plan, machine, gate, partition, console, restarts: 0 };
    for grant in 0..cpu.gate.policy().grants() {
        cpu.record(Kind::Grant, subject::GUEST, [grant.into(), 0, 0]);
    }
    cpu.record(Kind::GuestStart, subject::GUEST, [0; 3]);
    cpu.gate.happens(subject::KERNEL, method::BOOT, arch::now());
    if cpu.plan.is_last_policy == 0 {
        cpu.gate.happens(subject::KERNEL, method::POLICY_SWAP, arch::now());
    }
    cpu.gate.happens(subject::GUEST, method::GUEST_START, arch::now());
    // SAFETY: no handler has run yet: the guest starts below.
    unsafe { (*CPU.0.get()).write(cpu) };
    IS_UP.store(true, Ordering::Relaxed);
    arch::start(&plan)
}

/// The CPU's state, for a report of our own fault; `None` before it is there.
pub(crate) fn the_cpu_if_up() -> Option<&'static mut Cpu> {
    IS_UP.load(Ordering::Relaxed).then(the_cpu)
}

/// The policy and the audit ring, where the plan says.
fn open_gate(plan: &MachinePlan) -> Result<Gate<'static>, bulkhead_model::FormatError> {
    let length = usize::try_from(plan.policy_bytes).unwrap_or(0);
    // SAFETY: the loader put the policy there, page-aligned, inside the range that `mmu` maps read only for good.
    let policy = Policy::open(unsafe { core::slice::from_raw_parts(plan.policy.base as *const u8, length) })?;
    let header = plan.audit.base as *mut RingHeader;
    let records = (plan.audit.base + size_of::<RingHeader>() as u64) as *mut Record;
    // SAFETY: the ring is 64 KiB of zeroed memory, page-aligned and mapped for EL2; nobody else writes to it (the secure
    // side maps it read only), all values are valid for both types, and this is called once.
    let (header, records) = unsafe { (&mut *header, core::slice::from_raw_parts_mut(records, RING_RECORDS)) };
    // A record stands for a tenth of a second at the most.
    // SAFETY: this is called once, before anything else reaches the state.
    let state = unsafe { &mut *STATE.0.get() };
    Ok(Gate::new(policy, state, &CLOCK, Trail::new(header, records, plan.ticks_per_second / 10)))
}

/// What the policy remembers.
struct State(UnsafeCell<[u64; STATE_WORDS]>);

// SAFETY: one CPU, and one reference is ever made, by `open_gate`.
unsafe impl Sync for State {}

static STATE: State = State(UnsafeCell::new([0; STATE_WORDS]));

/// The clock of the policy's times: the machine's counter, and the time of day that an app tells.
struct Counter {
    site: SiteTime,
}

static CLOCK: Counter = Counter { site: SiteTime::new() };

impl Counter {
    fn now() -> u64 {
        let (ticks, rate) = (arch::now(), arch::ticks_per_second().max(1));
        ticks / rate * 1_000_000 + ticks % rate * 1_000_000 / rate
    }
}

impl Clock for Counter {
    fn microseconds(&self) -> Option<u64> {
        Some(Self::now())
    }

    fn local_seconds(&self) -> Option<u64> {
        self.site.seconds(Self::now())
    }
}

/// The rule number of "no rule".
const NO_RULE: u64 = 0xffff;

/// How an access of the guest goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// To its server.
    Call,
    /// Its server is dead.
    Dead,
    /// Nowhere: a load gives all ones, a store is dropped.
    Nothing,
}

/// A register call is refused: the status, the rule, and nothing else.
#[inline(always)]
fn refuse(frame: &mut Frame, status: Status, rule: u64) -> Next {
    frame.set(0, status.raw().cast_unsigned());
    frame.set(1, rule);
    (2..7).for_each(|register| frame.set(register, 0));
    GUEST
}

impl Cpu {
    /// A call of the guest by registers, its number in the first, that the handler has not answered itself.
    #[inline(always)]
    pub(crate) fn register_call(&mut self, frame: &mut Frame) -> Next {
        if matches!(call::hot(frame.get(0)), Hot::Service) { self.service(frame) } else { self.call(frame) }
    }

    /// The guest's calls: discovery, services, PSCI.
    #[inline(never)]
    pub(crate) fn call(&mut self, frame: &mut Frame) -> Next {
        #[expect(clippy::cast_possible_truncation, reason = "SMCCC ids are 32 bits")]
        let id = frame.get(0) as u32;
        match call::decode(id) {
            Function::Features(bits) => {
                frame.set(0, bits);
                GUEST
            }
            Function::Service => self.service(frame),
            Function::Psci(id) => self.power(frame, id),
            Function::Identity(values) => {
                (0..).zip(values).for_each(|(register, value)| frame.set(register, value));
                GUEST
            }
            Function::Revision(major, minor) => {
                frame.set(0, major);
                frame.set(1, minor);
                GUEST
            }
            Function::ServiceInfo => self.service_info(frame),
        }
    }

    #[inline(never)]
    fn service_info(&mut self, frame: &mut Frame) -> Next {
        let answer = self.gate.service_info(frame.get(1));
        let status = if answer.is_some() { Status::Ok } else { Status::Unknown };
        frame.set(0, status.raw().cast_unsigned());
        (1..).zip(answer.unwrap_or_default()).for_each(|(register, value)| frame.set(register, value));
        GUEST
    }

    /// PSCI: what the policy opens for good is answered at once.
    #[inline(never)]
    fn power(&mut self, frame: &mut Frame, id: u32) -> Next {
        if self.gate.is_open(object::PSCI, psci::method(id)) {
            return self.psci(frame, id);
        }
        self.psci_judged(frame, id)
    }

    /// A function that the policy allows.
    #[inline(always)]
    fn psci(&mut self, frame: &mut Frame, id: u32) -> Next {
        match psci::answer(id, frame.get(1), |method| self.gate.is_open(object::PSCI, method)) {
            psci::Answer::Value(value) => {
                frame.set(0, value.cast_unsigned());
                GUEST
            }
            psci::Answer::GuestOff => self.end_machine("the guest is off"),
            psci::Answer::GuestReset => self.restart(frame),
        }
    }

    /// A function about which the monitor is asked each time.
    #[inline(never)]
    fn psci_judged(&mut self, frame: &mut Frame, id: u32) -> Next {
        if self.judge_guest(&psci::message(id, [frame.get(1), frame.get(2), frame.get(3)])) {
            return self.psci(frame, id);
        }
        frame.set(0, psci::NOT_SUPPORTED.cast_unsigned());
        GUEST
    }

    /// A call of a service by registers.
    #[inline(never)]
    fn service(&mut self, frame: &mut Frame) -> Next {
        let Some((object, method, len)) = Message::unpack(frame.get(1)) else {
            return refuse(frame, Status::Malformed, NO_RULE);
        };
        let call = Call { subject: subject::GUEST, object, method, phase: Phase::Request, len, args: frame.words() };
        // Copies, so that the call itself needs no memory where it simply goes on.
        let verdict = match self.gate.look(&call) {
            Look::Allowed(_) => None,
            Look::Decided(verdict) => Some(verdict),
            Look::Left(cell) => Some(self.gate.decide_left(&{ call }, cell)),
        };
        if let Some(verdict) = verdict {
            if verdict.audit {
                self.gate.recorded(&{ call }, verdict, arch::pc(), arch::now());
            }
            if !verdict.is_allowed() {
                return refuse(frame, Status::refusal(verdict.reason), gate::rule_number(&verdict).into());
            }
        }
        if !self.gate.is_served(object) {
            return refuse(frame, Status::Unknown, NO_RULE);
        }
        if !self.partition.is_alive() {
            return refuse(frame, Status::Gone, 0);
        }
        self.partition.call(frame.get(1), frame.words(), Waiting::Call(object, method))
    }

    /// Puts a call of the guest to the monitor.
    pub(crate) fn judge_guest(&mut self, message: &Message) -> bool {
        let call = gate::guest_call(message);
        self.gate.judge(&call, arch::pc(), arch::now()).is_allowed()
    }

    /// What becomes of an access to a device that an app serves, or to what is nobody's.
    pub(crate) fn admit(&mut self, message: &Message, is_served: bool) -> Admission {
        let is_allowed = self.gate.is_open(message.object, message.method) || self.judge_guest(message);
        match (is_served && is_allowed, self.partition.is_alive()) {
            (false, _) => Admission::Nothing,
            (true, true) => Admission::Call,
            (true, false) => Admission::Dead,
        }
    }

    pub(crate) fn record(&mut self, kind: Kind, subject: u16, args: [u64; 3]) {
        self.gate.record(kind, subject, args, arch::now());
    }

    #[inline(never)]
    pub(crate) fn restart(&mut self, frame: &mut Frame) -> Next {
        self.restarts += 1;
        if self.plan.restart_limit != 0 && self.restarts > self.plan.restart_limit {
            self.end_machine("the guest restarted too often");
        }
        self.machine.reset();
        if guest::place(&self.plan).is_err() {
            stop(&mut self.console, "the guest's start image is damaged", "");
        }
        arch::reset_guest(&self.plan, frame);
        self.record(Kind::GuestStart, subject::GUEST, [self.restarts, 0, 0]);
        self.gate.happens(subject::GUEST, method::GUEST_START, arch::now());
        self.partition.guest_was_reset()
    }

    #[inline(never)]
    pub(crate) fn end_machine(&mut self, why: &str) -> ! {
        let restarts = self.restarts.min(self.plan.restart_limit);
        self.console.say(&[Text(why), Text(" ("), Decimal(restarts), Text(" restarts); stopping the machine")]);
        #[cfg(all(feature = "observe", target_arch = "x86_64"))]
        arch::tell_what_was_seen(&mut self.console);
        arch::power_off();
        arch::park()
    }

    /// The secure kernel gave the CPU back ([`wall::SWITCH`]), and the guest's state is back.
    #[inline(always)]
    pub(crate) fn secure_left(&mut self, registers: &[u64; 12], frame: &mut Frame) {
        let outcome = self.partition.leave(registers, &mut self.gate, frame);
        self.machine.back_to_guest(outcome);
    }

    /// The kernel's calls from which it comes back. True if it does not, and the guest goes on.
    #[inline(never)]
    pub(crate) fn secure_question(&mut self, registers: &mut [u64; 12], frame: &mut Frame) -> bool {
        let &mut [number, first, w0, w1, w2, w3, w4, w5, ..] = registers;
        let words = [w0, w1, w2, w3, w4, w5];
        let result = match number {
            wall::JUDGE => self.judge(first, words),
            wall::SET_TIMER => self.partition.set_alarm(first).into(),
            wall::AUDIT_EVENT => {
                let [kind, _, low, high, ..] = first.to_le_bytes();
                if let Some(kind) = Kind::from_raw(kind) {
                    self.record(kind, u16::from_le_bytes([low, high]), [w0, w1, 0]);
                }
                0
            }
            wall::GUEST_IRQ => {
                let is_known = u32::try_from(first).is_ok_and(|intid| self.machine.raise(intid));
                if is_known { 0 } else { Status::Unknown.raw().cast_unsigned() }
            }
            wall::TAKE_IRQ => {
                let place = self.partition.take_interrupt();
                place.and_then(|place| self.plan.secure_interrupts.get(place)).map_or(0, |intid| u64::from(*intid))
            }
            wall::IRQ_DONE => {
                let known =
                    self.plan.secure_interrupts.iter().find(|intid| **intid != 0 && u64::from(**intid) == first);
                known.into_iter().for_each(|intid| arch::finish(*intid));
                if known.is_some() { 0 } else { Status::Unknown.raw().cast_unsigned() }
            }
            wall::LOG => {
                let [length, _, low, high, ..] = first.to_le_bytes();
                let policy = *self.gate.policy();
                let name = policy.subject_name(u16::from_le_bytes([low, high])).unwrap_or("?");
                self.console.secure_text(name, length, words);
                0
            }
            _ => {
                return self.end_partition([number, first, w0], frame);
            }
        };
        registers[0] = result;
        false
    }

    /// [`wall::JUDGE`]: the verdict word.
    fn judge(&mut self, question: u64, words: [u64; 6]) -> u64 {
        let [s0, s1, o0, o1, m0, m1, phase, len] = question.to_le_bytes();
        let phase = match phase {
            0 => Phase::Request,
            1 => Phase::Reply,
            4 => Phase::Question,
            _ => Phase::Error,
        };
        let message =
            Message { object: u16::from_le_bytes([o0, o1]), method: u16::from_le_bytes([m0, m1]), len, words };
        let call = gate::call(u16::from_le_bytes([s0, s1]), phase, &message);
        let verdict = self.gate.judge(&call, 0, arch::now());
        CLOCK.site.hear(&call, &verdict, self.gate.policy().zone, Counter::now());
        u64::from(verdict.is_allowed()) | (verdict.reason as u64) << 8 | u64::from(gate::rule_number(&verdict)) << 16
    }

    /// The secure kernel is not entered again; said once, as nobody is left who reads the trail.
    #[inline(never)]
    pub(crate) fn end_partition(&mut self, cause: [u64; 3], frame: &mut Frame) -> bool {
        let [first, second, third] = cause;
        self.console.say(&[
            Text("the secure kernel failed ("),
            Hexadecimal(first),
            Text(" "),
            Hexadecimal(second),
            Text(" "),
            Hexadecimal(third),
            Text("); the guest goes on without it"),
        ]);
        let outcome = self.partition.kill(cause, &mut self.gate, frame);
        self.machine.back_to_guest(outcome);
        true
    }
}

#[cold]
#[inline(never)]
fn stop(console: &mut Console, what: &str, why: &str) -> ! {
    console.say(&[Text(what), Text(why), Text("; stopped")]);
    arch::power_off();
    arch::park()
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    arch::park()
}
