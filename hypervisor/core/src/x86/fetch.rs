//! The instruction at which a guest was left: found by the guest's own tables, as a CPU finds it. The last ones are kept together with every word
//! that told of them: an instruction is what its place, its tables and its code say, so that what still reads the same is still the same.

use super::decode::{self, Instruction, LONGEST, Mode};
use super::walk::{self, Regime};

/// The guest's memory, in whole aligned words of eight bytes.
pub trait Memory {
    /// A word that is the guest's to read, for good.
    type Word: Copy;
    /// The word at an address, if it is the guest's.
    fn word(&self, address: u64) -> Option<Self::Word>;
    /// What a word holds now.
    fn read(&self, word: Self::Word) -> u64;
}

/// Where a guest was left, and how it reads what lies there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// RIP.
    pub rip: u64,
    /// How linear addresses are translated.
    pub regime: Regime,
    /// The code segment's base.
    pub base: u64,
    /// Its attributes: L and D are bits 9 and 10.
    pub attributes: u16,
}

impl Place {
    /// How the code is to be read.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        Mode::of(&self.regime, self.attributes)
    }
}

/// How many words are kept of an instruction: four tables, and three words that may hold its code.
const READS: usize = 7;
/// How many instructions are kept.
const KEPT: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Known<W> {
    place: Place,
    /// Words and what they held, one after the other.
    reads: [Option<(W, u64)>; READS],
    instruction: Instruction,
}

/// The instructions that were found last.
#[derive(Clone, Debug)]
pub struct Fetched<W>([Option<Known<W>>; KEPT]);

impl<W: Copy> Fetched<W> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { None }; KEPT])
    }

    /// The instruction at a place, if it is one that moves.
    #[inline(always)]
    pub fn instruction(&mut self, place: &Place, memory: &impl Memory<Word = W>) -> Option<Instruction> {
        if let Some(Some(known)) = self.0.get(slot(place)) {
            let mut reads = known.reads.iter().map_while(|read| *read);
            if known.place == *place && reads.all(|(word, held)| memory.read(word) == held) {
                return Some(known.instruction);
            }
        }
        self.find(place, memory)
    }

    /// As [`Fetched::instruction`], by a fresh look.
    #[inline(never)]
    pub fn find(&mut self, place: &Place, memory: &impl Memory<Word = W>) -> Option<Instruction> {
        let mut reads = Reads { words: [None; READS], count: 0 };
        let instruction = read(place, memory, &mut reads)?;
        if let Some(slot) = self.0.get_mut(slot(place)) {
            // One whose words are too many, because it runs over the end of its page, is not kept.
            *slot = (reads.count <= READS).then_some(Known { place: *place, reads: reads.words, instruction });
        }
        Some(instruction)
    }
}

impl<W: Copy> Default for Fetched<W> {
    fn default() -> Self {
        Self::new()
    }
}

const fn slot(place: &Place) -> usize {
    (place.rip >> 4) as usize % KEPT
}

/// What was read.
struct Reads<W> {
    words: [Option<(W, u64)>; READS],
    count: usize,
}

impl<W: Copy> Reads<W> {
    fn word(&mut self, memory: &impl Memory<Word = W>, address: u64) -> Option<u64> {
        let word = memory.word(address)?;
        let held = memory.read(word);
        if let Some(slot) = self.words.get_mut(self.count) {
            *slot = Some((word, held));
        }
        self.count += 1;
        Some(held)
    }
}

fn read<W: Copy>(place: &Place, memory: &impl Memory<Word = W>, reads: &mut Reads<W>) -> Option<Instruction> {
    let (code, known) = code(place, memory, reads)?;
    decode::decode(code.get(..known)?, place.mode())
}

/// The code at a place, and how many bytes of it there are.
#[must_use]
pub fn bytes<W: Copy>(place: &Place, memory: &impl Memory<Word = W>) -> Option<([u8; LONGEST], usize)> {
    code(place, memory, &mut Reads { words: [None; READS], count: 0 })
}

fn code<W: Copy>(
    place: &Place,
    memory: &impl Memory<Word = W>,
    reads: &mut Reads<W>,
) -> Option<([u8; LONGEST], usize)> {
    let mode = place.mode();
    let base = if mode == Mode::Bits64 { 0 } else { place.base };
    let at = base.wrapping_add(place.rip);
    let at = if mode == Mode::Bits64 { at } else { at & 0xffff_ffff };
    let mut bytes = [0; LONGEST];
    let mut known = 0;
    // At the most two pages.
    while known < LONGEST {
        let linear = at.wrapping_add(known as u64);
        let entry = |address: u64, bytes: u8| {
            let word = reads.word(memory, address & !7)?;
            Some(if bytes == 4 { word >> (8 * (address & 4)) & 0xffff_ffff } else { word })
        };
        let Some(physical) = walk::translate(&place.regime, linear, entry) else { break };
        let here = usize::try_from(0x1000 - (linear & 0xfff)).unwrap_or(0).min(LONGEST - known);
        let mut word = [0; 8];
        for (place, slot) in (physical..).zip(bytes.get_mut(known..known + here)?) {
            if place == physical || place.is_multiple_of(8) {
                word = reads.word(memory, place & !7)?.to_le_bytes();
            }
            *slot = word[(place & 7) as usize];
        }
        known += here;
    }
    Some((bytes, known))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::x86::control::{cr0, cr4};
    use crate::x86::decode::Move;
    use core::cell::{Cell, RefCell};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    /// Words at addresses; what is not there is not the guest's.
    #[derive(Default)]
    struct Fake {
        words: RefCell<HashMap<u64, u64>>,
        asked: Cell<u32>,
    }

    impl Memory for Fake {
        type Word = u64;
        fn word(&self, address: u64) -> Option<u64> {
            assert!(address.is_multiple_of(8));
            self.asked.set(self.asked.get() + 1);
            self.words.borrow().contains_key(&address).then_some(address)
        }
        fn read(&self, address: u64) -> u64 {
            self.words.borrow()[&address]
        }
    }

    impl Fake {
        fn set(&self, address: u64, word: u64) {
            self.words.borrow_mut().insert(address, word);
        }

        fn code(&self, address: u64, code: &[u8]) {
            for (at, byte) in (address..).zip(code) {
                let mut words = self.words.borrow_mut();
                let word = words.entry(at & !7).or_insert(0x9090_9090_9090_9090);
                let shift = 8 * (at & 7);
                *word = *word & !(0xff << shift) | u64::from(*byte) << shift;
            }
        }
    }

    const LONG: Regime = Regime { cr0: cr0::PG | cr0::PE, cr3: 0x1000, cr4: cr4::PAE, efer: 1 << 10 };
    const PLACE: Place = Place { rip: 0xffff_ffff_8100_0ffc, regime: LONG, base: 0, attributes: 0xa9b };
    /// mov [rdi - 0xa03000], esi
    const STORE: [u8; 6] = [0x89, 0xb7, 0x00, 0xd0, 0x5f, 0xff];

    /// A kernel whose text lies in a page of 2 MiB at 0x20_0000.
    fn kernel() -> Fake {
        let memory = Fake::default();
        memory.set(0x1ff8, 0x2003);
        memory.set(0x2ff0, 0x3003);
        memory.set(0x3040, 0x20_0083);
        for word in (0x20_0ff0..0x20_1020).step_by(8) {
            memory.set(word, 0x9090_9090_9090_9090);
        }
        memory.code(0x20_0ffc, &STORE);
        memory
    }

    const fn store(register: u8) -> Option<Instruction> {
        Some(Instruction { what: Move::Store { register, is_high: false }, bytes: 4, length: 6 })
    }

    /// The answer, which is that of a fresh look.
    fn ask(fetched: &mut Fetched<u64>, place: &Place, memory: &Fake) -> Option<Instruction> {
        let found = fetched.instruction(place, memory);
        assert_eq!(found, read(place, memory, &mut Reads { words: [None; READS], count: 0 }));
        found
    }

    fn place_in_one_page() -> Place {
        Place { rip: PLACE.rip + 4 - 0x800, ..PLACE }
    }

    #[test]
    fn an_instruction_that_reads_the_same_is_not_looked_for_again() {
        let (memory, mut fetched) = (kernel(), Fetched::new());
        let place = place_in_one_page();
        memory.code(0x20_0800, &STORE);
        memory.code(0x20_0808, &[0x90; 8]);
        assert_eq!(fetched.instruction(&place, &memory), store(6));
        let asked = memory.asked.get();
        assert_eq!(fetched.instruction(&place, &memory), store(6));
        assert_eq!(memory.asked.get(), asked);
    }

    #[test]
    fn an_instruction_that_was_written_over_is_another() {
        let (memory, mut fetched) = (kernel(), Fetched::new());
        let place = place_in_one_page();
        memory.code(0x20_0800, &STORE);
        memory.code(0x20_0808, &[0x90; 8]);
        assert_eq!(fetched.instruction(&place, &memory), store(6));
        // Each byte of it in turn, one bit at a time.
        for at in 0..6 {
            for bit in 0..8 {
                let mut other = STORE;
                other[at] ^= 1 << bit;
                memory.code(0x20_0800, &other);
                ask(&mut fetched, &place, &memory);
                memory.code(0x20_0800, &STORE);
                assert_eq!(ask(&mut fetched, &place, &memory), store(6));
            }
        }
        memory.code(0x20_0800, &[0x0f, 0x0b]);
        assert_eq!(ask(&mut fetched, &place, &memory), None);
    }

    #[test]
    fn a_page_that_was_mapped_elsewhere_holds_another_instruction() {
        let (memory, mut fetched) = (kernel(), Fetched::new());
        let place = place_in_one_page();
        memory.code(0x20_0800, &STORE);
        memory.code(0x20_0808, &[0x90; 8]);
        assert_eq!(fetched.instruction(&place, &memory), store(6));
        let mut other = STORE;
        other[1] = 0x8f;
        memory.code(0x40_0800, &other);
        memory.code(0x40_0808, &[0x90; 8]);
        memory.set(0x3040, 0x40_0083);
        assert_eq!(fetched.instruction(&place, &memory), store(1), "by its last table");
        memory.set(0x5040, 0x20_0083);
        memory.set(0x2ff0, 0x5003);
        assert_eq!(fetched.instruction(&place, &memory), store(6), "by the one before");
        memory.set(0x6ff8, 0x7003);
        memory.set(0x7ff0, 0x3003);
        let elsewhere = Place { regime: Regime { cr3: 0x6000, ..LONG }, ..place };
        assert_eq!(fetched.instruction(&elsewhere, &memory), store(1), "by CR3");
        assert_eq!(fetched.instruction(&place, &memory), store(6));
        memory.set(0x2ff0, 0);
        assert_eq!(fetched.instruction(&place, &memory), None, "not mapped at all");
    }

    #[test]
    fn the_same_bytes_in_another_mode_are_another_instruction() {
        let (memory, mut fetched) = (Fake::default(), Fetched::new());
        // mov [0x5fd000], esi in 32-bit code; with a 16-bit segment the displacement is shorter.
        memory.code(0x1000, &[0x89, 0xb7, 0x00, 0xd0, 0x5f, 0xff]);
        memory.code(0x1008, &[0x90; 8]);
        let place = Place { rip: 0x1000, attributes: 0xc9b, ..Place::default() };
        let place = Place { regime: Regime { cr0: cr0::PE, ..Regime::default() }, ..place };
        assert_eq!(fetched.instruction(&place, &memory).map(|known| known.length), Some(6));
        let narrow = Place { attributes: 0x9b, ..place };
        assert_eq!(fetched.instruction(&narrow, &memory).map(|known| (known.length, known.bytes)), Some((4, 2)));
        let moved = Place { base: 0x800, rip: 0x800, ..place };
        assert_eq!(fetched.instruction(&moved, &memory).map(|known| known.length), Some(6));
        assert_eq!(fetched.instruction(&Place { base: 0x400, ..moved }, &memory), None, "where no memory is");
    }

    #[test]
    fn an_instruction_over_the_end_of_a_page_needs_both() {
        let (memory, mut fetched) = (kernel(), Fetched::new());
        // Pages of 4 KiB, the second one elsewhere.
        memory.set(0x3040, 0x4003);
        memory.set(0x4000, 0x20_0003);
        memory.set(0x4008, 0x30_0003);
        memory.code(0x30_0000, &STORE[4..]);
        memory.code(0x30_0008, &[0x90; 8]);
        assert_eq!(ask(&mut fetched, &PLACE, &memory), store(6));
        memory.set(0x4008, 0);
        assert_eq!(ask(&mut fetched, &PLACE, &memory), None);
        memory.set(0x4008, 0x30_0003);
        assert_eq!(ask(&mut fetched, &PLACE, &memory), store(6));
    }

    proptest! {
        /// Whatever a guest changes of its registers, tables and code between two exits: the answer is that of a fresh look.
        #[test]
        fn what_is_kept_is_never_stale(changes in prop::collection::vec((0..10_usize, any::<u64>()), 0..40)) {
            let (memory, mut fetched) = (kernel(), Fetched::new());
            memory.set(0x6ff8, 0x2003);
            memory.set(0x5040, 0x20_0083);
            let codes: Vec<[u8; 6]> = [[0x89, 0xb7], [0x8b, 0x8f], [0x87, 0xb7], [0x0f, 0x0b]].map(|[a, b]| [a, b, 0, 0xd0, 0x5f, 0xff]).to_vec();
            let mut place = place_in_one_page();
            memory.code(0x20_0800, &STORE);
            memory.code(0x20_0808, &[0x90; 8]);
            for (what, value) in changes {
                let pick = usize::try_from(value % 4).unwrap();
                match what {
                    0 => memory.code(0x20_0800, &codes[pick]),
                    1 => memory.set(0x3040, [0x20_0083, 0x20_00a3, 0x40_0083, 0][pick]),
                    2 => memory.set(0x2ff0, [0x3003, 0x5003, 0x3023, 0][pick]),
                    3 => place.regime.cr3 = [0x1000, 0x6000, 0x1018, 0x9000][pick],
                    4 => place.regime.efer ^= 1 << 10,
                    5 => place.attributes ^= 1 << [9, 10, 0, 11][pick],
                    6 => place.rip = [PLACE.rip, place_in_one_page().rip, 0x800, place_in_one_page().rip + 0x40][pick],
                    7 => memory.code(0x20_0840, &codes[pick]),
                    8 => place.regime.cr0 ^= cr0::PG,
                    _ => memory.set(0x20_0808, value),
                }
                ask(&mut fetched, &place, &memory);
                ask(&mut fetched, &place, &memory);
            }
        }
    }
}
