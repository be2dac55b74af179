//! The hardware's side of the interrupt controller (Arm IHI 0069): set-up, the guest's accesses as the pure model cut
//! them, and list registers.
#![expect(unsafe_code, reason = "device registers are reached by volatile accesses")]

use bulkhead_hypervisor_core::gic::{Action, Frame, Gic, list_register_emulated, list_register_physical};
use bulkhead_hypervisor_core::plan::{MAX_SECURE_INTERRUPTS, MachinePlan};

use super::instr;

/// The guest's interrupt controller, as the model and as the hardware.
pub(crate) struct Machine {
    pub(crate) gic: Gic,
    pub(crate) hardware: Hardware,
}

impl Machine {
    /// Takes the controller over, with the guest's interrupts as the plan has them.
    pub(crate) fn new(plan: &MachinePlan) -> Self {
        let mut gic = Gic::new(plan.guest_timer_intid);
        plan.guest_interrupts.iter().filter(|&&intid| intid != 0).for_each(|&intid| {
            gic.declare(intid);
        });
        plan.devices.iter().filter(|device| device.intid != 0).for_each(|device| {
            gic.declare_emulated(device.intid);
        });
        Self { gic, hardware: Hardware::take_over(plan) }
    }

    /// As at power-on, for a guest that starts again.
    pub(crate) fn reset(&mut self) {
        self.gic.reset();
        self.hardware.reset_guest();
    }

    /// Raises a declared interrupt of the guest; false for others.
    pub(crate) fn raise(&mut self, intid: u32) -> bool {
        intid >= 32 && self.gic.raise(intid)
    }
}

/// The physical addresses of the frames, from a validated plan and mapped by `mmu`.
#[derive(Clone, Copy)]
pub(crate) struct Hardware {
    gicd: u64,
    gicr: u64,
    /// The wall's timer (a PPI).
    timer: u32,
    /// Interrupts of the devices that apps drive; 0 where unused.
    secure: [u32; MAX_SECURE_INTERRUPTS],
}

/// The virtual interface's own interrupt: a PPI by Arm's Base System Architecture.
const MAINTENANCE: u32 = 25;
/// ICH_HCR_EL2: En, UIE.
const ENABLED: u64 = 1;
const UNDERFLOW: u64 = 1 << 1;
const GICD_CTLR: u32 = 0;
const GICR_WAKER: u32 = 0x14;
const IGROUPR: u32 = 0x80;
const ISENABLER: u32 = 0x100;
const ICENABLER: u32 = 0x180;
const ICPENDR: u32 = 0x280;
const ICACTIVER: u32 = 0x380;
const IPRIORITYR: u32 = 0x400;

impl Hardware {
    /// Takes the controller over: everything in group 1, disabled, at one priority; EL2 acknowledges, the guest
    /// deactivates (EOImode 1, IHI 0069 §4.8.3).
    pub(crate) fn take_over(plan: &MachinePlan) -> Self {
        let gic = Self {
            gicd: plan.gicd.base,
            gicr: plan.gicr.base,
            timer: plan.timer_intid % 32,
            secure: plan.secure_interrupts,
        };
        let lines = gic.read(Frame::Distributor, 4) & 0x1f;
        for word in 1..=lines {
            gic.write(Frame::Distributor, IGROUPR + word * 4, u32::MAX);
            gic.write(Frame::Distributor, ICENABLER + word * 4, u32::MAX);
            for priority in word * 8..word * 8 + 8 {
                gic.write(Frame::Distributor, IPRIORITYR + priority * 4, 0xa0a0_a0a0);
            }
        }
        // ARE, DS, group 1 (IHI 0069 §12.9.4).
        gic.write(Frame::Distributor, GICD_CTLR, 0x52);
        let waker = gic.read(Frame::Redistributor, GICR_WAKER);
        gic.write(Frame::Redistributor, GICR_WAKER, waker & !2);
        gic.write(Frame::RedistributorSgi, IGROUPR, u32::MAX);
        gic.write(Frame::RedistributorSgi, ICENABLER, u32::MAX);
        for priority in 0..8 {
            gic.write(Frame::RedistributorSgi, IPRIORITYR + priority * 4, 0xa0a0_a0a0);
        }
        instr::write_icc_sre_el2(0xf);
        instr::isb();
        instr::write_icc_sre_el1(7);
        instr::write_icc_pmr_el1(0xff);
        instr::write_icc_ctlr_el1(2);
        instr::write_icc_igrpen1_el1(1);
        gic.reset_guest();
        gic
    }

    /// Puts the virtual interface and all interrupts back to where a guest's start expects them.
    pub(crate) fn reset_guest(self) {
        let lines = self.read(Frame::Distributor, 4) & 0x1f;
        for word in 0..=lines {
            let frame = if word == 0 { Frame::RedistributorSgi } else { Frame::Distributor };
            // What apps drive goes on while the guest starts anew.
            let kept = self.secure.iter().filter(|intid| **intid / 32 == word && word != 0);
            let others = kept.fold(u32::MAX, |others, intid| others & !(1 << (intid % 32)));
            for register in [ICENABLER, ICPENDR, ICACTIVER] {
                self.write(frame, register + word * 4, others);
            }
        }
        for intid in self.secure.into_iter().filter(|intid| *intid != 0) {
            self.write(Frame::Distributor, ISENABLER + intid / 32 * 4, 1 << (intid % 32));
        }
        for lr in 0..4 {
            write_list_register(lr, 0);
        }
        instr::write_ich_ap1r0_el2(0);
        instr::write_ich_vmcr_el2(0);
        instr::write_ich_hcr_el2(ENABLED);
        // The wall's own timer, ahead of everything else.
        let word = IPRIORITYR + (self.timer & !3);
        let shift = self.timer % 4 * 8;
        let others = self.read(Frame::RedistributorSgi, word) & !(0xff << shift);
        self.write(Frame::RedistributorSgi, word, others | 0x20 << shift);
        self.write(Frame::RedistributorSgi, ISENABLER, 1 << self.timer | 1 << MAINTENANCE);
    }

    /// Does what the model decided; the value of a read, 0 for a write.
    #[inline(always)]
    pub(crate) fn apply(self, frame: Frame, action: Action) -> u64 {
        match action {
            Action::Value(value) => value,
            Action::Done => 0,
            Action::Read { offset, mask, shadow } => u64::from(self.read(frame, offset) & mask | shadow),
            Action::Write { offset, value } => {
                self.write(frame, offset, value);
                0
            }
            Action::Modify { offset, value, mask } => {
                let rest = self.read(frame, offset) & !mask;
                self.write(frame, offset, rest | value);
                0
            }
        }
    }

    fn address(self, frame: Frame, offset: u32) -> *mut u32 {
        let base = match frame {
            Frame::Distributor => self.gicd,
            Frame::Redistributor => self.gicr,
            Frame::RedistributorSgi => self.gicr + 0x1_0000,
        };
        (base + u64::from(offset & 0xfffc)) as *mut u32
    }

    fn read(self, frame: Frame, offset: u32) -> u32 {
        // SAFETY: the plan's GIC frames are 64 KiB each and mapped as device memory; the offset is cut to the frame and
        // aligned. No Rust object lives there.
        unsafe { self.address(frame, offset).read_volatile() }
    }

    fn write(self, frame: Frame, offset: u32, value: u32) {
        // SAFETY: as for `read`; the GIC does not write to memory (no LPIs are configured).
        unsafe { self.address(frame, offset).write_volatile(value) }
    }
}

/// Whose interrupt came, where the guest has not got it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing is left to do.
    Done,
    /// The wall's own timer.
    Timer,
    /// A device's that an app drives: its place in the plan. It stays active until [`finish`].
    App(usize),
}

/// Takes one interrupt of the hardware and hands it to the guest if it is the guest's.
#[inline(always)]
pub(crate) fn acknowledge(gic: &mut Gic, hardware: &Hardware) -> Taken {
    #[expect(clippy::cast_possible_truncation, reason = "24 bits")]
    let intid = instr::read_icc_iar1_el1() as u32;
    if intid >= 1020 {
        return Taken::Done;
    }
    instr::write_icc_eoir1_el1(u64::from(intid));
    if gic.is_physical(intid) {
        if !deliver(list_register_physical(intid, gic.priority(intid))) {
            // It stays active in the hardware, so that it does not come again before the guest has had it.
            gic.defer(intid);
            deliver_pending(gic);
        }
        return Taken::Done;
    }
    if intid == hardware.timer {
        finish(intid);
        return Taken::Timer;
    }
    not_the_guests(gic, hardware, intid)
}

#[inline(never)]
fn not_the_guests(gic: &mut Gic, hardware: &Hardware, intid: u32) -> Taken {
    if let Some(place) = hardware.secure.iter().position(|known| *known == intid) {
        return Taken::App(place);
    }
    finish(intid);
    if intid == MAINTENANCE {
        deliver_pending(gic);
    }
    Taken::Done
}

/// Deactivates an interrupt: it may come again.
#[inline(always)]
pub(crate) fn finish(intid: u32) {
    instr::write_icc_dir_el1(u64::from(intid));
}

/// No interrupt reaches the guest, and the secure kernel reaches nothing of its interface (ICH_HCR_EL2: En 0, TC, TALL0/1).
#[inline(always)]
pub(crate) fn pause_guest() {
    instr::write_ich_hcr_el2(7 << 10);
}

/// What is in the list registers is delivered again.
#[inline(always)]
pub(crate) fn resume_guest() {
    instr::write_ich_hcr_el2(ENABLED);
}

/// Raises an emulated interrupt of the guest: at once if a list register is free, else as soon as one is.
#[inline(always)]
pub(crate) fn raise(gic: &mut Gic, intid: u32) {
    let is_free = instr::read_ich_elrsr_el2() & 0xf == 0xf;
    if is_free && gic.is_ready(intid) {
        instr::write_ich_lr0_el2(list_register_emulated(intid, gic.priority(intid)));
        return;
    }
    gic.raise(intid);
    deliver_pending(gic);
}

/// Delivers as many waiting interrupts as list registers are free. While some are left, the maintenance interrupt comes as soon
/// as the guest has taken all but one (ICH_HCR_EL2.UIE, IHI 0069 §12.4.3).
#[inline]
pub(crate) fn deliver_pending(gic: &mut Gic) {
    if gic.has_waiting() {
        deliver_waiting(gic);
    }
}

#[inline(never)]
fn deliver_waiting(gic: &mut Gic) {
    while instr::read_ich_elrsr_el2() & 0xf != 0 {
        let Some(intid) = gic.take_pending() else { break };
        deliver(gic.list_register(intid));
    }
    // While the secure partition runs the interface is off, and stays so.
    let rest = instr::read_ich_hcr_el2() & !UNDERFLOW;
    instr::write_ich_hcr_el2(if gic.has_waiting() { rest | UNDERFLOW } else { rest });
}

/// Puts an interrupt into a free list register; false if there is none. One that lies in a list register already becomes
/// pending there: the same interrupt in two of them is unpredictable (IHI 0069 §12.4.8).
#[inline(always)]
fn deliver(value: u64) -> bool {
    let free = instr::read_ich_elrsr_el2() & 0xf;
    if free == 0xf {
        write_list_register(0, value);
        return true;
    }
    let same = (0..4).find(|&lr| free >> lr & 1 == 0 && (read_list_register(lr) ^ value) & 0xffff_ffff == 0);
    match same {
        Some(lr) => write_list_register(lr, read_list_register(lr) | 1 << 62),
        None if free == 0 => return false,
        None => write_list_register(free.trailing_zeros(), value),
    }
    true
}

fn read_list_register(index: u32) -> u64 {
    match index {
        0 => instr::read_ich_lr0_el2(),
        1 => instr::read_ich_lr1_el2(),
        2 => instr::read_ich_lr2_el2(),
        _ => instr::read_ich_lr3_el2(),
    }
}

fn write_list_register(index: u32, value: u64) {
    match index {
        0 => instr::write_ich_lr0_el2(value),
        1 => instr::write_ich_lr1_el2(value),
        2 => instr::write_ich_lr2_el2(value),
        _ => instr::write_ich_lr3_el2(value),
    }
}
