//! Where messages go; the same choice is handed on to the hypervisor. COM1 is the guest's. Under UEFI the firmware's console says
//! them too, as long as it is there.

use core::fmt::{self, Write};

use bulkhead_hypervisor_core::plan::console;

use super::instr::{read_port8, write_port8};

const DEBUG_PORT: u16 = 0xe9;
const COM2: u16 = 0x2f8;
/// How often the UART is asked before a byte is given up.
const PATIENCE: u32 = 1_000_000;

/// A console.
pub(crate) struct Output {
    pub(crate) kind: u32,
    pub(crate) base: u64,
}

impl Output {
    /// An emulator's debug port, which reads as its own number; else a UART at COM2, if one answers; else none.
    pub(super) fn find() -> Self {
        if read_port8(DEBUG_PORT) == 0xe9 {
            return Self { kind: console::PORT_E9, base: u64::from(DEBUG_PORT) };
        }
        let has_scratch = [0x5a, 0xa5].into_iter().all(|value| {
            write_port8(COM2 + 7, value);
            read_port8(COM2 + 7) == value
        });
        if !has_scratch {
            return Self { kind: console::NONE, base: 0 };
        }
        // 115,200 bits a second, 8N1, FIFO on, no interrupts.
        for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
            write_port8(COM2 + register, value);
        }
        Self { kind: console::UART_16550, base: u64::from(COM2) }
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        #[cfg(target_os = "uefi")]
        super::firmware::say(text);
        for byte in text.bytes() {
            match self.kind {
                console::PORT_E9 => write_port8(DEBUG_PORT, byte),
                console::UART_16550 => {
                    let is_ready = (0..PATIENCE).any(|_| read_port8(COM2 + 5) & 0x20 != 0);
                    if is_ready {
                        write_port8(COM2, byte);
                    }
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}
