//! The run loop: from a trap or an interrupt to what is done about it, and back to the guest.
#![expect(unsafe_code, reason = "the one CPU's state is a static that the vectors reach")]

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::panic::PanicInfo;

use bulkhead_hypervisor_core::call::{self, Answer};
use bulkhead_hypervisor_core::esr::{Exit, MemoryAccess, fault_address};
use bulkhead_hypervisor_core::gic::{Frame as GicFrame, Gic, self_sgi};
use bulkhead_hypervisor_core::plan::MachinePlan;
use bulkhead_hypervisor_core::sysreg;

use crate::arch::gic::{self, Hardware};
use crate::arch::vectors::{self, Frame};
use crate::arch::{instr, mmu};
use crate::console::Console;
use crate::guest;

/// All that the wall keeps while the guest runs.
struct Cpu {
    plan: MachinePlan,
    gic: Gic,
    hardware: Hardware,
    restarts: u64,
}

struct Slot(UnsafeCell<Option<Cpu>>);

// SAFETY: one CPU; `with_cpu` is called by the vectors' handlers only, which run with interrupts masked and do not nest.
unsafe impl Sync for Slot {}

static CPU: Slot = Slot(UnsafeCell::new(None));

#[inline(always)]
fn with_cpu(act: impl FnOnce(&mut Cpu)) {
    // SAFETY: see `Slot`: no other reference exists while a handler runs, and `act` calls no handler.
    if let Some(cpu) = unsafe { &mut *CPU.0.get() } {
        act(cpu);
    }
}

/// Entered once by the loader, at EL2 with the MMU off; never returns.
pub(crate) extern "C" fn hypervisor_main(plan: *const MachinePlan) -> ! {
    // SAFETY: the loader passes a plan in memory that it owns and leaves alone; it is copied here, before anything else.
    let plan = unsafe { plan.read() };
    let mut console = Console::new(&plan);
    vectors::install();
    if let Err(error) = mmu::build(&plan) {
        stop(&mut console, format_args!("the machine plan cannot be mapped: {error:?}"));
    }
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
        stop(&mut console, format_args!("the guest's start image is damaged"));
    }
    let mut frame = Frame::new();
    guest::reset_registers(&plan, &mut frame);
    let taken_kib = plan.taken.bytes / 1024;
    let _ = writeln!(console, "wall: up at EL2; {taken_kib} KiB taken from the guest; starting the guest");
    // SAFETY: no handler has run yet: the guest starts below.
    unsafe { *CPU.0.get() = Some(Cpu { plan, gic, hardware, restarts: 0 }) };
    vectors::start(&frame)
}

/// A trap of the guest.
pub(crate) extern "C" fn guest_sync(frame: &mut Frame) {
    with_cpu(|cpu| match Exit::decode(instr::read_esr_el2()) {
        Exit::Hvc(_) => cpu.call(frame),
        Exit::Smc(_) => {
            // A trapped SMC returns to itself (Arm ARM D1.3.4): step over it.
            advance();
            cpu.call(frame);
        }
        Exit::SystemRegister { encoding, is_read, register } => cpu.system_register(frame, encoding, is_read, register),
        Exit::Data(access) => cpu.memory(frame, access),
        Exit::Wait => advance(),
        Exit::DataUndescribed => inject_abort(0x25),
        Exit::Fetch => inject_abort(0x21),
        Exit::Other(_) => guest::inject(UNKNOWN, None),
    });
}

/// An interrupt while the guest ran.
pub(crate) extern "C" fn guest_irq(_frame: &mut Frame) {
    with_cpu(|cpu| gic::acknowledge(&cpu.gic));
}

/// A system error while the guest ran: it is the guest's, whose access caused it; there is nothing to deliver.
pub(crate) extern "C" fn guest_serror(_frame: &mut Frame) {}

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
    /// The wall's own calls and PSCI.
    fn call(&mut self, frame: &mut Frame) {
        #[expect(clippy::cast_possible_truncation, reason = "SMCCC ids are 32 bits")]
        let id = frame.get(0) as u32;
        match call::answer(id, frame.get(1)) {
            Answer::Values(values, count) => {
                values.iter().take(count).enumerate().for_each(|(register, &value)| frame.set(register, value));
            }
            Answer::GuestOff => self.end_machine("the guest is off"),
            Answer::GuestReset => self.restart(frame),
        }
    }

    fn restart(&mut self, frame: &mut Frame) {
        self.restarts += 1;
        if self.plan.restart_limit != 0 && self.restarts > self.plan.restart_limit {
            self.end_machine("the guest restarted too often");
        }
        self.gic.reset();
        self.hardware.reset_guest();
        if guest::place(&self.plan).is_err() {
            stop(&mut Console::new(&self.plan), format_args!("the guest's start image is damaged"));
        }
        guest::reset_registers(&self.plan, frame);
    }

    fn end_machine(&self, why: &str) -> ! {
        let _ = writeln!(
            Console::new(&self.plan),
            "wall: {why} ({} restarts); stopping the machine",
            self.restarts.min(self.plan.restart_limit)
        );
        instr::power_off();
        instr::park()
    }

    fn system_register(&mut self, frame: &mut Frame, encoding: u16, is_read: bool, register: u8) {
        let value = match sysreg::decide(encoding, is_read) {
            sysreg::Action::Emulate(value) => value,
            sysreg::Action::Feature => sysreg::filter(encoding, feature_register(encoding)),
            sysreg::Action::SendSgi => {
                if let Some(intid) = self_sgi(frame.get(register.into())) {
                    self.gic.raise(intid);
                    gic::deliver_pending(&mut self.gic);
                }
                0
            }
            sysreg::Action::Undefined => return guest::inject(UNKNOWN, None),
        };
        if is_read {
            frame.set(register.into(), value);
        }
        advance();
    }

    /// An access to memory that stage 2 does not give to the guest: its interrupt controller, or nothing at all.
    fn memory(&mut self, frame: &mut Frame, access: MemoryAccess) {
        let address = fault_address(instr::read_hpfar_el2(), instr::read_far_el2());
        let value = match self.gic_frame(address) {
            Some((gic_frame, offset)) if access.is_write => {
                let action = self.gic.write(gic_frame, offset, access.bytes, frame.get(access.register.into()));
                self.hardware.apply(gic_frame, action);
                gic::deliver_pending(&mut self.gic);
                0
            }
            Some((gic_frame, offset)) => {
                let action = self.gic.read(gic_frame, offset, access.bytes);
                self.hardware.apply(gic_frame, action)
            }
            None => u64::MAX,
        };
        if !access.is_write {
            frame.set(access.register.into(), access.extend(value));
        }
        advance();
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
    with_cpu(|cpu| {
        let _ = writeln!(Console::new(&cpu.plan), "wall: fault at EL2: esr {esr:#x} at {elr:#x} on {far:#x}; halted");
    });
    instr::park()
}

fn stop(console: &mut Console, why: core::fmt::Arguments<'_>) -> ! {
    let _ = writeln!(console, "wall: {why}; stopped");
    instr::power_off();
    instr::park()
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    instr::park()
}
