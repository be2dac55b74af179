//! Text on the console: lines, in pieces of 48 bytes.

use core::fmt::{self, Write};

use bulkhead_abi::syscall::LINE_MAX;

use crate::syscall;

const PIECE: usize = 48;

/// Writes one line; what is beyond [`LINE_MAX`] is dropped.
pub fn print(text: fmt::Arguments<'_>) {
    let mut line = Line { piece: [0; PIECE], used: 0, total: 0 };
    // A line that is too long is cut: there is nobody to tell.
    let _ = line.write_fmt(text);
    line.put(b'\n');
    line.flush();
}

struct Line {
    piece: [u8; PIECE],
    used: usize,
    total: usize,
}

impl Line {
    fn put(&mut self, byte: u8) {
        if self.used == PIECE {
            self.flush();
        }
        if let Some(slot) = self.piece.get_mut(self.used) {
            *slot = byte;
            self.used += 1;
        }
    }

    fn flush(&mut self) {
        let mut words = [0; 6];
        for (word, bytes) in words.iter_mut().zip(self.piece.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        syscall::log(self.used as u64, words);
        self.used = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().filter(|&byte| byte != b'\n') {
            self.total += 1;
            if self.total > LINE_MAX {
                return Err(fmt::Error);
            }
            self.put(byte);
        }
        Ok(())
    }
}
