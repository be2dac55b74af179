//! The wall's own console: written at start, at the end, and on our own faults; never because of what the guest does.

use bulkhead_hypervisor_core::plan::MachinePlan;

use crate::arch;

/// Where text goes.
pub(crate) struct Console {
    kind: u32,
    base: u64,
    /// An app's line has begun and not ended.
    in_line: bool,
}

impl Console {
    /// The plan's console.
    pub(crate) const fn new(plan: &MachinePlan) -> Self {
        Self { kind: plan.console_kind, base: plan.console.base, in_line: false }
    }

    /// What does not fit into the device's buffer is lost: we never wait for a device.
    fn put(&self, byte: u8) {
        arch::console_put(self.kind, self.base, byte);
    }
}

impl Console {
    /// A piece of an app's line: `length` bytes of the words. The line begins with the app's name, which it cannot forge.
    pub(crate) fn secure_text(&mut self, name: &str, length: u8, words: [u64; 6]) {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).take(length.into());
        for byte in bytes {
            if !self.in_line {
                "secure: ".bytes().chain(name.bytes()).chain(": ".bytes()).for_each(|byte| self.put(byte));
                self.in_line = true;
            }
            match byte {
                b'\n' => {
                    self.put(byte);
                    self.in_line = false;
                }
                b' '..=b'~' => self.put(byte),
                _ => self.put(b'.'),
            }
        }
    }
}

/// A piece of a line of the wall's.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Decimal(u64),
    Hexadecimal(u64),
}

impl Console {
    /// A line of the wall's. Its few words need no formatting machinery, which would be a tenth of the hypervisor's code.
    #[cold]
    #[inline(never)]
    pub(crate) fn say(&mut self, pieces: &[Piece<'_>]) {
        if core::mem::take(&mut self.in_line) {
            self.put(b'\n');
        }
        self.text("wall: ");
        for &piece in pieces {
            match piece {
                Piece::Text(text) => self.text(text),
                Piece::Decimal(number) => self.digits(number, 10),
                Piece::Hexadecimal(number) => {
                    self.text("0x");
                    self.digits(number, 16);
                }
            }
        }
        self.put(b'\n');
    }

    fn text(&self, text: &str) {
        text.bytes().for_each(|byte| self.put(byte));
    }

    fn digits(&self, number: u64, base: u64) {
        // The largest power of the base that the number reaches: its first digit's.
        let mut power = 1;
        while number / power >= base {
            power *= base;
        }
        while power > 0 {
            let digit = usize::try_from(number / power % base).unwrap_or(0);
            b"0123456789abcdef".get(digit).into_iter().for_each(|&byte| self.put(byte));
            power /= base;
        }
    }
}
