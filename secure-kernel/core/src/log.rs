//! What apps write: whole lines, so that none ends or goes on what another began.

use bulkhead_abi::syscall::LINE_MAX;

/// A line that an app has begun; the last place is its newline's.
pub(crate) struct Line {
    bytes: [u8; LINE_MAX + 1],
    used: usize,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; LINE_MAX + 1], used: 0 }
    }

    /// Adds a piece. A line that ends, or is as long as one may be, goes out, in the words of one call after another.
    pub(crate) fn add(&mut self, len: u64, words: [u64; 6], mut print: impl FnMut(u64, [u64; 6])) {
        let bytes = words.into_iter().flat_map(u64::to_le_bytes).take(usize::try_from(len).unwrap_or(usize::MAX));
        for byte in bytes {
            if byte == b'\n' || self.used >= LINE_MAX {
                self.end(&mut print);
            }
            if byte != b'\n' {
                self.put(byte);
            }
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.used) {
            *slot = byte;
            self.used += 1;
        }
    }

    fn end(&mut self, print: &mut impl FnMut(u64, [u64; 6])) {
        self.put(b'\n');
        for piece in self.bytes.get(..self.used).unwrap_or_default().chunks(size_of::<[u64; 6]>()) {
            let mut words = [0; 6];
            for (word, part) in words.iter_mut().zip(piece.chunks(8)) {
                *word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
            print(piece.len() as u64, words);
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn add(line: &mut Line, text: &str) -> Vec<String> {
        let mut printed = Vec::new();
        for piece in text.as_bytes().chunks(48) {
            let mut words = [0; 6];
            for (word, part) in words.iter_mut().zip(piece.chunks(8)) {
                *word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
            line.add(piece.len() as u64, words, |len, words| {
                let bytes: Vec<u8> =
                    words.into_iter().flat_map(u64::to_le_bytes).take(usize::try_from(len).unwrap()).collect();
                printed.push(String::from_utf8(bytes).unwrap());
            });
        }
        printed
    }

    #[test]
    fn nothing_is_written_before_its_line_ends_and_then_all_of_it() {
        let mut line = Line::new();
        assert!(add(&mut line, "a record that is longer than what one call can take, ").is_empty());
        assert!(add(&mut line, "and goes on").is_empty());
        let pieces = add(&mut line, "\n");
        assert_eq!(pieces.concat(), "a record that is longer than what one call can take, and goes on\n");
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [48, 17]);
        assert_eq!(add(&mut line, "two\nlines\nand").concat(), "two\nlines\n");
        assert_eq!(add(&mut line, "\n\n").concat(), "and\n\n");
    }

    #[test]
    fn a_line_without_an_end_is_cut_where_one_may_end_and_no_byte_is_lost() {
        let mut line = Line::new();
        let text = "x".repeat(2 * LINE_MAX + 1);
        let printed = add(&mut line, &text).concat();
        let cut = std::format!("{}\n", "x".repeat(LINE_MAX));
        assert_eq!(printed, cut.repeat(2));
        assert_eq!(add(&mut line, "\n").concat(), "x\n");
    }
}
