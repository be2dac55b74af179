//! Accesses to memory that is not mapped so for the guest: registers of its interrupt controllers, of which each write is looked at, or nothing.
#![expect(unsafe_code, reason = "guest memory is read by address")]

use core::ptr::NonNull;

use bulkhead_abi::Message;
use bulkhead_hypervisor_core::plan::{MachinePlan, Range};
use bulkhead_hypervisor_core::x86::decode::{self, Instruction, Move};
use bulkhead_hypervisor_core::x86::{Exit, event, fetch};
use bulkhead_model::{method, object};

use super::entry::Frame;
use super::field::{self, Control};
use super::guest::{self, PROTECTION};
use super::{GUEST, Next, interrupts, svm};
use crate::run::Cpu;

/// A word of what is mapped for the guest to read, whatever the guest does: made by [`GuestMemory`] alone.
#[derive(Clone, Copy)]
pub(crate) struct Word(NonNull<u64>);

/// The guest's memory and its ROM.
pub(crate) struct GuestMemory<'a>(pub(crate) &'a MachinePlan);

impl fetch::Memory for GuestMemory<'_> {
    type Word = Word;

    fn word(&self, address: u64) -> Option<Word> {
        let place = Range { base: address, bytes: 8 };
        let mut ranges = self.0.guest_ram.iter().chain(&self.0.x86.guest_rom);
        let is_readable = address.is_multiple_of(8) && ranges.any(|range| range.holds(place));
        NonNull::new(address as *mut u64).filter(|_| is_readable).map(Word)
    }

    #[inline(always)]
    fn read(&self, word: Word) -> u64 {
        // SAFETY: `word` found it aligned and within the guest's memory or ROM, which never change and are mapped for the hypervisor at their
        // own addresses; a volatile read makes no reference, whatever the guest's devices write there.
        unsafe { word.0.read_volatile() }
    }
}

/// Eight bytes of the guest's memory, if it is the guest's.
pub(crate) fn word(plan: &MachinePlan, address: u64) -> Option<u64> {
    let memory = GuestMemory(plan);
    fetch::Memory::word(&memory, address).map(|word| fetch::Memory::read(&memory, word))
}

/// What nearly all such exits are, the short way: a general register is stored to a register of a controller. False, with nothing done, if it is
/// anything else, or may not be.
#[inline(always)]
pub(crate) fn store_to_controller(cpu: &mut Cpu, frame: &Frame, control: Control, address: u64) -> bool {
    let is_plain = cpu.machine.is_controller(address) && !event::is_valid(field::DELIVERING.read_in(control));
    if !is_plain || !address.is_multiple_of(4) {
        return false;
    }
    let place = guest::place(control);
    let found = told(control, &place).or_else(|| cpu.machine.fetched.instruction(&place, &GuestMemory(&cpu.plan)));
    let Some(Instruction { what: Move::Store { register, is_high: false }, bytes: 4, length }) = found else {
        return false;
    };
    #[expect(clippy::cast_possible_truncation, reason = "four bytes")]
    let is_made = register != RSP && cpu.machine.write(address, frame.numbered(register) as u32);
    if is_made {
        guest::advance_in(control, length.into());
    }
    is_made
}

/// The instruction at which the guest was left, if its CPU tells the bytes.
#[inline(always)]
fn told(control: Control, place: &fetch::Place) -> Option<Instruction> {
    let Control::Vmcb(_) = control else { return None };
    let (bytes, count) = svm::code_bytes()?;
    decode::decode(bytes.get(..count)?, place.mode())
}

/// The number of the one register that lies in no frame.
pub(crate) const RSP: u8 = 4;

impl Cpu {
    /// Any such access.
    #[inline(never)]
    pub(crate) fn memory(&mut self, frame: &mut Frame, address: u64) -> Next {
        // What was being delivered reached no memory: no instruction did.
        let is_delivery = event::is_valid(field::DELIVERING.read());
        let place = guest::place(Control::current());
        let memory = GuestMemory(&self.plan);
        let mut find = || told(Control::current(), &place).or_else(|| self.machine.fetched.find(&place, &memory));
        let instruction = if is_delivery { None } else { find() };
        let Some(Instruction { what, bytes, length }) = instruction else {
            return self.refuse(frame, Exit::Memory(address), PROTECTION);
        };
        let value = match what {
            Move::Load { .. } => None,
            Move::Store { register: RSP, .. } | Move::Exchange { register: RSP } => Some(field::RSP.read()),
            Move::Store { register, is_high } => Some(frame.numbered(register) >> if is_high { 8 } else { 0 }),
            Move::Exchange { register } => Some(frame.numbered(register)),
            Move::Constant(value) => Some(value.into()),
        };
        let before = if self.machine.is_controller(address) {
            self.controller(address, bytes, value)
        } else {
            let mask = u64::MAX >> (64 - 8 * u32::from(bytes.clamp(1, 8)));
            let (method, len, value) = value.map_or((method::READ, 2, 0), |value| (method::WRITE, 3, value & mask));
            let words = [address, bytes.into(), value, 0, 0, 0];
            self.judge_guest(&Message { object: object::MMIO, method, len, words });
            u64::MAX
        };
        match what {
            Move::Load { register: RSP, .. } | Move::Exchange { register: RSP } => {
                return self.refuse(frame, Exit::Memory(address), PROTECTION);
            }
            Move::Load { register, .. } => {
                frame.set_numbered(register, what.loaded(frame.numbered(register), before, bytes));
            }
            Move::Exchange { register } => {
                let load = Move::Load { register, is_high: false, width: bytes, is_signed: false };
                frame.set_numbered(register, load.loaded(frame.numbered(register), before, bytes));
            }
            Move::Store { .. } | Move::Constant(_) => {}
        }
        guest::advance(length.into());
        GUEST
    }

    /// A register of one of its interrupt controllers, 32 bits wide and aligned; what it held.
    fn controller(&mut self, address: u64, bytes: u8, value: Option<u64>) -> u64 {
        let is_register = bytes == 4 && address.is_multiple_of(4);
        #[expect(clippy::cast_possible_truncation, reason = "four bytes")]
        let is_made = match value {
            Some(value) => is_register && self.machine.write(address, value as u32),
            None => is_register,
        };
        if !is_made {
            let (method, len) = if value.is_some() { (method::WRITE, 3) } else { (method::READ, 2) };
            let words = [address, bytes.into(), value.unwrap_or(0), 0, 0, 0];
            self.judge_guest(&Message { object: object::MMIO, method, len, words });
        }
        if is_register && value.is_none() { interrupts::read(address).into() } else { u64::MAX }
    }
}
