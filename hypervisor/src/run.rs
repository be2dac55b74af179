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
use bulkhead_hypervisor_core::esr::{Exit, MemoryAccess, fault_address};
use bulkhead_hypervisor_core::gate::{self, Gate};
use bulkhead_hypervisor_core::gic::{Frame as GicFrame, Gic, self_sgi};
use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::{psci, sysreg};
use bulkhead_model::code::STATE_WORDS;
use bulkhead_model::{Phase, Policy, method, object, subject};
use bulkhead_monitor::{Call, Clock};

use crate::arch::gic::{self, Hardware, Taken};
use crate::arch::vectors::{self, Frame, SecureFrame};
use crate::arch::{instr, mmu};
use crate::console::Console;
use crate::console::Piece::{Decimal, Hexadecimal, Text};
use crate::guest;
use crate::partition::{Outcome, Partition, Upcall, Waiting};

/// All that the wall keeps while the guest runs.
struct Cpu {
    plan: MachinePlan,
    gic: Gic,
    hardware: Hardware,
    gate: Gate<'static>,
    partition: Partition,
    console: Console,
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
fn the_cpu() -> &'static mut Cpu {
    // SAFETY: see `Slot`: a handler takes this once, and no handler runs inside another. `hypervisor_main` fills the slot
    // before the guest starts, and no handler runs before.
    unsafe { (*CPU.0.get()).assume_init_mut() }
}

/// Entered once by the loader, at EL2 with the MMU off; never returns.
pub(crate) extern "C" fn hypervisor_main(plan: *const MachinePlan) -> ! {
    // SAFETY: the loader passes a plan in memory that it owns and leaves alone; it is copied here, before anything else.
    let plan = unsafe { plan.read() };
    let mut console = Console::new(&plan);
    vectors::install_guest();
    instr::isb();
    if let Err(error) = plan.validate() {
        let (what, [first, second]) = error.told();
        console.say(&[Text("at "), Hexadecimal(first), Text(" and "), Hexadecimal(second)]);
        stop(&mut console, "the machine plan is not sound: ", what);
    }
    let stage2 = match mmu::build(&plan) {
        Ok(stage2) => stage2,
        Err(error) => stop(&mut console, "the machine plan cannot be mapped: ", error.word()),
    };
    let gate = match open_gate(&plan) {
        Ok(gate) => gate,
        Err(error) => stop(&mut console, "the policy is damaged: ", error.word()),
    };
    let mut gic = Gic::new(plan.guest_timer_intid);
    plan.guest_interrupts.iter().filter(|&&intid| intid != 0).for_each(|&intid| {
        gic.declare(intid);
    });
    plan.devices.iter().filter(|device| device.intid != 0).for_each(|device| {
        gic.declare_emulated(device.intid);
    });
    let hardware = Hardware::take_over(&plan);
    guest::set_traps();
    if guest::place(&plan).is_err() {
        stop(&mut console, "the guest's start image is damaged", "");
    }
    let mut frame = Frame::new();
    guest::reset_registers(&plan, &mut frame);
    let taken_kib = plan.taken.bytes / 1024;
    console.say(&[Text("up at EL2; "), Decimal(taken_kib), Text(" KiB taken from the guest; starting the guest")]);
    let partition = Partition::new(&plan, stage2);
    partition.arm();
    let mut cpu = Cpu { plan, gic, hardware, gate, partition, console, restarts: 0 };
    cpu.record(Kind::GuestStart, subject::GUEST, [0; 3]);
    cpu.gate.happens(subject::KERNEL, method::BOOT, instr::read_cntvct_el0());
    cpu.gate.happens(subject::GUEST, method::GUEST_START, instr::read_cntvct_el0());
    // SAFETY: no handler has run yet: the guest starts below.
    unsafe { (*CPU.0.get()).write(cpu) };
    IS_UP.store(true, Ordering::Relaxed);
    vectors::start(&frame)
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
    Ok(Gate::new(policy, state, &CLOCK, Trail::new(header, records, instr::read_cntfrq_el0() / 10)))
}

/// What the policy remembers.
struct State(UnsafeCell<[u64; STATE_WORDS]>);

// SAFETY: one CPU, and one reference is ever made, by `open_gate`.
unsafe impl Sync for State {}

static STATE: State = State(UnsafeCell::new([0; STATE_WORDS]));

/// The clock of the policy's times: the system counter, and the time of day that an app tells.
struct Counter {
    site: SiteTime,
}

static CLOCK: Counter = Counter { site: SiteTime::new() };

impl Counter {
    fn now() -> u64 {
        let (ticks, rate) = (instr::read_cntvct_el0(), instr::read_cntfrq_el0().max(1));
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

/// A trap of the guest. What the handlers return is what the vectors do next: an upcall, or null for the guest.
pub(crate) extern "C" fn guest_sync(frame: &mut Frame) -> Upcall {
    let cpu = the_cpu();
    let syndrome = instr::read_esr_el2();
    if !Exit::is_hvc(syndrome) {
        return match Exit::described(syndrome) {
            Some(access) => cpu.memory(frame, access),
            None => cpu.trap(frame, syndrome),
        };
    }
    match call::hot(frame.get(0)) {
        Hot::Null(bits) => {
            frame.set(0, bits);
            GUEST
        }
        Hot::Service => cpu.service(frame),
        Hot::Other => cpu.call(frame),
    }
}

/// The vectors' sign for "back to the guest".
const GUEST: Upcall = core::ptr::null();

/// An interrupt while the guest ran.
pub(crate) extern "C" fn guest_irq(_frame: &mut Frame) -> Upcall {
    let cpu = the_cpu();
    match gic::acknowledge(&mut cpu.gic, &cpu.hardware) {
        Taken::Done => GUEST,
        Taken::Timer => cpu.partition.tick(),
        Taken::App(place) => cpu.partition.interrupt(place),
    }
}

/// A system error while the guest ran: it is the guest's, whose access caused it; there is nothing to deliver.
pub(crate) extern "C" fn guest_serror(_frame: &mut Frame) -> Upcall {
    GUEST
}

/// A trap of the secure partition: a call of its kernel. Returns 1 if the guest goes on.
pub(crate) extern "C" fn secure_sync(secure: &mut SecureFrame, frame: &mut Frame) -> u64 {
    let cpu = the_cpu();
    let syndrome = instr::read_esr_el2();
    if Exit::is_hvc(syndrome) {
        return cpu.secure_call(&mut secure.0, frame).into();
    }
    cpu.secure_fault(syndrome, frame).into()
}

/// An interrupt while the secure partition ran. Returns 1 if the guest goes on.
pub(crate) extern "C" fn secure_irq(_secure: &mut SecureFrame, frame: &mut Frame) -> u64 {
    let cpu = the_cpu();
    let goes_on = match gic::acknowledge(&mut cpu.gic, &cpu.hardware) {
        Taken::Done => true,
        Taken::Timer => cpu.partition.time_passes(),
        Taken::App(place) => cpu.partition.interrupt_inside(place),
    };
    if goes_on { 0 } else { cpu.end_partition([0, instr::read_elr_el2(), 0], frame).into() }
}

/// The rule number of "no rule".
const NO_RULE: u64 = 0xffff;

/// A register call is refused: the status, the rule, and nothing else.
#[inline(always)]
fn refuse(frame: &mut Frame, status: Status, rule: u64) -> Upcall {
    frame.set(0, status.raw().cast_unsigned());
    frame.set(1, rule);
    (2..7).for_each(|register| frame.set(register, 0));
    GUEST
}

/// ESR_EL1 of an undefined instruction: class 0, 32-bit instruction.
const UNKNOWN: u64 = 1 << 25;

fn advance() {
    instr::write_elr_el2(instr::read_elr_el2() + 4);
}

/// A synchronous external abort, as a bus gives for an address where nothing is (fault status 0x10). `class` is that
/// of the same EL; from EL0 it is one less (Arm ARM D17.2.37: 0x24 and 0x20).
fn inject_abort(class: u64) {
    let from_el0 = instr::read_spsr_el2() & 0xf == 0;
    let class = if from_el0 { class - 1 } else { class };
    guest::inject(class << 26 | 1 << 25 | 0x10, Some(instr::read_far_el2()));
}

impl Cpu {
    /// Traps other than `hvc`; the shell's frame grows only where it must.
    #[inline(never)]
    fn trap(&mut self, frame: &mut Frame, syndrome: u64) -> Upcall {
        match Exit::decode(syndrome) {
            Exit::Data(access) => self.memory(frame, access),
            Exit::SystemRegister { encoding, is_read, register } => {
                self.system_register(frame, encoding, is_read, register)
            }
            Exit::Smc(_) => {
                // A trapped SMC returns to itself (Arm ARM D1.3.4): step over it.
                advance();
                self.call(frame)
            }
            Exit::Hvc(_) => self.call(frame),
            exit => self.other(exit),
        }
    }

    /// The guest's calls: discovery, services, PSCI.
    #[inline(never)]
    fn call(&mut self, frame: &mut Frame) -> Upcall {
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
    fn service_info(&mut self, frame: &mut Frame) -> Upcall {
        let answer = self.gate.service_info(frame.get(1));
        let status = if answer.is_some() { Status::Ok } else { Status::Unknown };
        frame.set(0, status.raw().cast_unsigned());
        (1..).zip(answer.unwrap_or_default()).for_each(|(register, value)| frame.set(register, value));
        GUEST
    }

    /// PSCI: what the policy opens for good is answered at once.
    #[inline(never)]
    fn power(&mut self, frame: &mut Frame, id: u32) -> Upcall {
        if self.gate.is_open(object::PSCI, psci::method(id)) {
            return self.psci(frame, id);
        }
        self.psci_judged(frame, id)
    }

    /// A function that the policy allows.
    #[inline(always)]
    fn psci(&mut self, frame: &mut Frame, id: u32) -> Upcall {
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
    fn psci_judged(&mut self, frame: &mut Frame, id: u32) -> Upcall {
        if self.judge_guest(&psci::message(id, [frame.get(1), frame.get(2), frame.get(3)])) {
            return self.psci(frame, id);
        }
        frame.set(0, psci::NOT_SUPPORTED.cast_unsigned());
        GUEST
    }

    /// A call of a service by registers.
    #[inline(never)]
    fn service(&mut self, frame: &mut Frame) -> Upcall {
        let Some((object, method, len)) = Message::unpack(frame.get(1)) else {
            return refuse(frame, Status::Malformed, NO_RULE);
        };
        let call = Call { subject: subject::GUEST, object, method, phase: Phase::Request, len, args: frame.words() };
        let verdict = self.gate.decide(&call);
        if verdict.audit {
            self.gate.recorded(&call, verdict, instr::read_elr_el2(), instr::read_cntvct_el0());
        }
        if !verdict.is_allowed() {
            return refuse(frame, Status::refusal(verdict.reason), gate::rule_number(&verdict).into());
        }
        self.forward(frame, object, method)
    }

    /// An allowed call goes to its server.
    #[inline(never)]
    fn forward(&mut self, frame: &mut Frame, object: u16, method: u16) -> Upcall {
        if !self.gate.is_served(object) {
            return refuse(frame, Status::Unknown, NO_RULE);
        }
        if !self.partition.is_alive() {
            return refuse(frame, Status::Gone, 0);
        }
        self.partition.call(frame.get(1), frame.words(), Waiting::Call(object, method))
    }

    /// Puts a call of the guest to the monitor.
    fn judge_guest(&mut self, message: &Message) -> bool {
        let call = gate::guest_call(message);
        self.gate.judge(&call, instr::read_elr_el2(), instr::read_cntvct_el0()).is_allowed()
    }

    fn record(&mut self, kind: Kind, subject: u16, args: [u64; 3]) {
        self.gate.record(kind, subject, args, instr::read_cntvct_el0());
    }

    #[inline(never)]
    fn restart(&mut self, frame: &mut Frame) -> Upcall {
        self.restarts += 1;
        if self.plan.restart_limit != 0 && self.restarts > self.plan.restart_limit {
            self.end_machine("the guest restarted too often");
        }
        self.gic.reset();
        self.hardware.reset_guest();
        if guest::place(&self.plan).is_err() {
            stop(&mut self.console, "the guest's start image is damaged", "");
        }
        guest::reset_registers(&self.plan, frame);
        self.record(Kind::GuestStart, subject::GUEST, [self.restarts, 0, 0]);
        self.gate.happens(subject::GUEST, method::GUEST_START, instr::read_cntvct_el0());
        self.partition.guest_was_reset()
    }

    #[inline(never)]
    fn end_machine(&mut self, why: &str) -> ! {
        let restarts = self.restarts.min(self.plan.restart_limit);
        self.console.say(&[Text(why), Text(" ("), Decimal(restarts), Text(" restarts); stopping the machine")]);
        instr::power_off();
        instr::park()
    }

    #[inline(never)]
    fn system_register(&mut self, frame: &mut Frame, encoding: u16, is_read: bool, register: u8) -> Upcall {
        let value = frame.get(register.into());
        if encoding == sysreg::ICC_SGI1R_EL1 && !is_read && self.gate.sends_sgi() {
            return self.send_sgi(value);
        }
        let action = sysreg::decide(encoding, is_read);
        let action =
            if self.judge_guest(&sysreg::message(encoding, is_read, value)) { action } else { action.refused() };
        let value = match action {
            sysreg::Action::Emulate(value) => value,
            sysreg::Action::Feature => sysreg::filter(encoding, feature_register(encoding)),
            sysreg::Action::SendSgi => return self.send_sgi(value),
            sysreg::Action::Undefined => {
                guest::inject(UNKNOWN, None);
                return GUEST;
            }
        };
        if is_read {
            frame.set(register.into(), value);
        }
        advance();
        GUEST
    }

    #[inline(always)]
    fn send_sgi(&mut self, value: u64) -> Upcall {
        if let Some(intid) = self_sgi(value) {
            gic::raise(&mut self.gic, intid);
        }
        advance();
        GUEST
    }

    /// An access to memory that stage 2 does not give to the guest: its interrupt controller, a served device, or nothing.
    #[inline(never)]
    fn memory(&mut self, frame: &mut Frame, access: MemoryAccess) -> Upcall {
        let address = fault_address(instr::read_hpfar_el2(), instr::read_far_el2());
        let value = match self.gic_frame(address) {
            Some((gic_frame, offset)) if access.is_write => return self.gic_write(frame, access, gic_frame, offset),
            Some((gic_frame, offset)) => {
                let action = self.gic.read(gic_frame, offset, access.bytes);
                self.hardware.apply(gic_frame, action)
            }
            None => return self.device(frame, access, address),
        };
        if !access.is_write {
            frame.set(access.register.into(), access.extend(value));
        }
        advance();
        GUEST
    }

    #[inline(never)]
    fn gic_write(&mut self, frame: &Frame, access: MemoryAccess, gic_frame: GicFrame, offset: u32) -> Upcall {
        let action = self.gic.write(gic_frame, offset, access.bytes, frame.get(access.register.into()));
        self.hardware.apply(gic_frame, action);
        gic::deliver_pending(&mut self.gic);
        advance();
        GUEST
    }

    /// An access to a device that an app serves, or to nothing: a call either way.
    #[inline(never)]
    fn device(&mut self, frame: &mut Frame, access: MemoryAccess, address: u64) -> Upcall {
        let register = usize::from(access.register);
        let device =
            self.plan.devices.iter().find(|device| address.wrapping_sub(device.range.base) < device.range.bytes);
        let (target, place) =
            device.map_or((object::MMIO, address), |device| (device.object, address - device.range.base));
        let size = u64::from(access.bytes);
        let mask = u64::MAX >> (64 - 8 * access.bytes.clamp(1, 8));
        let message = if access.is_write {
            let words = [place, size, frame.get(register) & mask, 0, 0, 0];
            Message { object: target, method: method::WRITE, len: 3, words }
        } else {
            Message { object: target, method: method::READ, len: 2, words: [place, size, 0, 0, 0, 0] }
        };
        let is_served = device.is_some();
        let is_allowed = self.gate.is_open(target, message.method) || self.judge_guest(&message);
        if is_served && is_allowed && self.partition.is_alive() {
            advance();
            let waiting =
                if access.is_write { Waiting::Store } else { Waiting::Load(message.object, message.method, access) };
            return self.partition.call(message.header(), &message.words, waiting);
        }
        if is_served && is_allowed && access.is_write {
            inject_abort(0x25);
            return GUEST;
        }
        if !access.is_write {
            frame.set(register, access.extend(u64::MAX));
        }
        advance();
        GUEST
    }

    /// Traps that no call describes.
    #[inline(never)]
    fn other(&mut self, exit: Exit) -> Upcall {
        match exit {
            Exit::Wait => {
                advance();
                return GUEST;
            }
            Exit::DataUndescribed => inject_abort(0x25),
            Exit::Fetch => inject_abort(0x21),
            _ => guest::inject(UNKNOWN, None),
        }
        self.record(
            Kind::GuestFault,
            subject::GUEST,
            [instr::read_esr_el2(), instr::read_far_el2(), instr::read_hpfar_el2()],
        );
        GUEST
    }

    /// A call of the secure kernel (`bulkhead_abi::wall`). True if the guest goes on.
    #[inline(always)]
    fn secure_call(&mut self, registers: &mut [u64; 12], frame: &mut Frame) -> bool {
        if registers[0] == wall::SWITCH {
            let outcome = self.partition.leave(registers, &mut self.gate, frame);
            return self.back_to_guest(outcome);
        }
        self.secure_question(registers, frame)
    }

    /// The kernel's calls from which it comes back. True if it does not, and the guest goes on.
    #[inline(never)]
    fn secure_question(&mut self, registers: &mut [u64; 12], frame: &mut Frame) -> bool {
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
                let is_known = u32::try_from(first).is_ok_and(|intid| intid >= 32 && self.gic.raise(intid));
                if is_known { 0 } else { Status::Unknown.raw().cast_unsigned() }
            }
            wall::TAKE_IRQ => {
                let place = self.partition.take_interrupt();
                place.and_then(|place| self.plan.secure_interrupts.get(place)).map_or(0, |intid| u64::from(*intid))
            }
            wall::IRQ_DONE => {
                let known =
                    self.plan.secure_interrupts.iter().find(|intid| **intid != 0 && u64::from(**intid) == first);
                known.into_iter().for_each(|intid| gic::finish(*intid));
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

    /// A trap of the secure side that is no call: a task's, which its kernel hears of, or the kernel's own end.
    #[inline(never)]
    fn secure_fault(&mut self, syndrome: u64, frame: &mut Frame) -> bool {
        if self.partition.reflect(Exit::decode(syndrome)) {
            return false;
        }
        self.end_partition([syndrome, instr::read_elr_el2(), instr::read_far_el2()], frame)
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
        let verdict = self.gate.judge(&call, 0, instr::read_cntvct_el0());
        CLOCK.site.hear(&call, &verdict, self.gate.policy().zone, Counter::now());
        u64::from(verdict.is_allowed()) | (verdict.reason as u64) << 8 | u64::from(gate::rule_number(&verdict)) << 16
    }

    /// The secure kernel is not entered again; said once, as nobody is left who reads the trail.
    #[inline(never)]
    fn end_partition(&mut self, cause: [u64; 3], frame: &mut Frame) -> bool {
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
        self.back_to_guest(outcome)
    }

    #[inline(always)]
    fn back_to_guest(&mut self, outcome: Outcome) -> bool {
        gic::deliver_pending(&mut self.gic);
        if matches!(outcome, Outcome::DeadDevice) {
            // The store was stepped over when the device was called; the abort names it.
            instr::write_elr_el2(instr::read_elr_el2() - 4);
            inject_abort(0x25);
        }
        true
    }

    #[expect(clippy::cast_possible_truncation, reason = "offsets within 64 KiB")]
    fn gic_frame(&self, address: u64) -> Option<(GicFrame, u32)> {
        let distributor = address.wrapping_sub(self.plan.gicd.base);
        let redistributor = address.wrapping_sub(self.plan.gicr.base);
        match (distributor, redistributor) {
            (0..0x1_0000, _) => Some((GicFrame::Distributor, distributor as u32)),
            (_, 0..0x1_0000) => Some((GicFrame::Redistributor, redistributor as u32)),
            (_, 0x1_0000..0x2_0000) => Some((GicFrame::RedistributorSgi, redistributor as u32 & 0xffff)),
            _ => None,
        }
    }
}

/// The hardware's value of the feature registers that the filter passes in part; 0 for the others.
fn feature_register(encoding: u16) -> u64 {
    match encoding {
        sysreg::ID_AA64PFR0_EL1 => instr::read_id_aa64pfr0_el1(),
        sysreg::ID_AA64PFR1_EL1 => instr::read_id_aa64pfr1_el1(),
        sysreg::ID_AA64DFR0_EL1 => instr::read_id_aa64dfr0_el1(),
        sysreg::ID_AA64ISAR0_EL1 => instr::read_id_aa64isar0_el1(),
        sysreg::ID_AA64ISAR1_EL1 => instr::read_id_aa64isar1_el1(),
        sysreg::ID_AA64MMFR0_EL1 => instr::read_id_aa64mmfr0_el1(),
        sysreg::ID_AA64MMFR1_EL1 => instr::read_id_aa64mmfr1_el1(),
        _ => 0,
    }
}

/// A fault of EL2 itself: our own bug. It is reported and the machine halts.
pub(crate) extern "C" fn hypervisor_fatal(esr: u64, elr: u64, far: u64) -> ! {
    if IS_UP.load(Ordering::Relaxed) {
        the_cpu().console.say(&[
            Text("fault at EL2: esr "),
            Hexadecimal(esr),
            Text(" at "),
            Hexadecimal(elr),
            Text(" on "),
            Hexadecimal(far),
            Text("; halted"),
        ]);
    }
    instr::park()
}

#[cold]
#[inline(never)]
fn stop(console: &mut Console, what: &str, why: &str) -> ! {
    console.say(&[Text(what), Text(why), Text("; stopped")]);
    instr::power_off();
    instr::park()
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    instr::park()
}
