//! Pages that the guest maps in two sizes in turn, on both sides of where the wall's own tables change size, or end.

use core::arch::asm;

use crate::access::map_block;
use crate::memory::end;
use crate::report::Report;

const BLOCK: u64 = 0x20_0000;
/// Where it runs: two blocks in a row, in which nothing else lies.
const HERE: u64 = 0x3000_0000;
const TURNS: u16 = 1500;

#[repr(align(4096))]
struct Tables([[u64; 512]; 2]);
static mut SMALL: Tables = Tables([[0; 512]; 2]);

/// What runs is what was written last, whatever size it is mapped in.
pub(crate) fn sizes(report: &mut Report) {
    let end = end();
    let last_block = (end - 1) / BLOCK * BLOCK;
    // The wall maps memory below 2 MiB by 4 KiB, as it is the guest's from 1 MiB on, and from there in blocks.
    for (what, pages) in [
        ("where blocks begin", [BLOCK - 4096, BLOCK]),
        ("before the last block", [last_block - 4096, last_block]),
        ("at the end of memory", [last_block - 4096, end - 4096]),
    ] {
        let same = Pages { pages, is_exchanged: false, ..Pages::NEW }.turns();
        report.none(format_args!("X51 one page in two sizes in turn, {what}"), "OK", same);
        let others = Pages { pages, is_exchanged: true, ..Pages::NEW }.turns();
        report.none(format_args!("X50 written and run in two sizes, another page by each, {what}"), "OK", others);
    }
}

/// Two pages of memory, and what was written to each last: a piece of code by itself, and the halves of two that go over its edges.
struct Pages {
    pages: [u64; 2],
    /// By 4 KiB each is mapped in the place of the other.
    is_exchanged: bool,
    is_small: bool,
    whole: [u16; 2],
    low: [u16; 2],
    high: [u16; 2],
}

impl Pages {
    const NEW: Self =
        Self { pages: [0; 2], is_exchanged: false, is_small: false, whole: [0; 2], low: [0; 2], high: [0; 2] };

    /// The turns in which something else ran than was written last, or anything faulted.
    fn turns(mut self) -> impl Iterator<Item = u16> {
        self.map(false);
        for place in 0..2 {
            self.write(place, 0);
        }
        let mut turns = 1..=TURNS;
        core::iter::from_fn(move || {
            let wrong = turns.find(|&turn| {
                self.map(!self.is_small);
                let before = self.is_right();
                self.write(usize::from(turn % 3 == 0), turn);
                !(before && self.is_right())
            });
            if wrong.is_none() {
                self.restore();
            }
            wrong
        })
    }

    /// Where a page is mapped, or the one in its place.
    fn at(&self, place: usize) -> u64 {
        HERE + place as u64 * BLOCK + self.pages[place] % BLOCK
    }

    /// The page that lies there now.
    fn page(&self, place: usize) -> usize {
        if self.is_small && self.is_exchanged { 1 - place } else { place }
    }

    fn map(&mut self, is_small: bool) {
        self.is_small = is_small;
        for place in 0..2 {
            let page = self.pages[self.page(place)];
            let entry = self.pages[place] % BLOCK / 4096;
            // SAFETY: this program's own table of small pages, which maps nothing of it.
            let small = unsafe {
                let small = (&raw mut SMALL.0).cast::<u64>().add(512 * place);
                small.add(entry as usize).write_volatile(page | 3);
                small as u64
            };
            let block = self.pages[place] / BLOCK * BLOCK;
            map_block(self.at(place), if is_small { small | 3 } else { block | 0x83 });
        }
    }

    fn restore(&self) {
        for place in 0..2 {
            map_block(self.at(place), (HERE + place as u64 * BLOCK) | 0x83);
        }
    }

    /// `mov eax, NUMBER; ret`: in the middle of what is mapped there; and its end at its start, its begin at its end.
    fn write(&mut self, place: usize, number: u16) {
        let (page, at) = (self.page(place), self.at(place));
        let [low, high] = number.to_le_bytes();
        let put = |offset: u64, byte: u8| {
            // SAFETY: memory in which nothing lies.
            unsafe { ((at + offset) as *mut u8).write_volatile(byte) };
        };
        for (offset, byte) in (0x800..).zip([0xb8, low, high, 0, 0, 0xc3]) {
            put(offset, byte);
        }
        for (offset, byte) in (0..).zip([low, high, 0xc3]) {
            put(offset, byte);
        }
        for (offset, byte) in (0xffd..).zip([0xb8, !low, !high]) {
            put(offset, byte);
        }
        (self.whole[page], self.high[page], self.low[page]) = (number, number, !number);
    }

    /// Whether what runs at both places, and across the edge between them, is what was written last.
    fn is_right(&self) -> bool {
        let by_itself = (0..2).all(|place| run(self.at(place) + 0x800) == u64::from(self.whole[self.page(place)]));
        let wanted = u64::from(self.high[self.page(1)]) << 16 | u64::from(self.low[self.page(0)]);
        let meets = self.at(0) + 4096 == self.at(1);
        by_itself && (!meets || run(self.at(1) - 3) == wanted)
    }
}

/// Calls what lies there; EAX after it, or all ones if anything faulted, which is tried again.
fn run(at: u64) -> u64 {
    let (value, exception): (u64, u64);
    // SAFETY: the code is the one that `write` put there.
    unsafe {
        asm!("call {}", in(reg) at, out("rax") value, in("r14") 0_u64, inout("r15") 0_u64 => exception);
    }
    if exception == 0 { value } else { u64::MAX }
}
