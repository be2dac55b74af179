//! The guest of a PC that has no more than a second serial port (tests/sites/serial): finds it, asks through it, is told by its interrupt, and
//! then tries what a driver would not. Each line is `serial: WHAT: VERDICT`, or `FAILED` with what came instead.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: accesses of every size, strings, interrupts")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests_x86_64::{Uart, attempt, in8, in32, out8, out16, power_off};

const COM2: u16 = 0x2f8;
const DATA: u16 = COM2;
const ENABLE: u16 = COM2 + 1;
const IDENTIFY: u16 = COM2 + 2;
const LINE_CONTROL: u16 = COM2 + 3;
const MODEM_CONTROL: u16 = COM2 + 4;
const LINE_STATUS: u16 = COM2 + 5;
const SCRATCH: u16 = COM2 + 7;

const APIC: u64 = 0xfee0_0000;
const IO_APIC: u64 = 0xfec0_0000;
/// What `attempt` gives for a general protection fault.
const PROTECTION: u64 = 14;

struct Report {
    out: Uart,
    failed: u32,
}

impl Report {
    fn equal(&mut self, what: &str, got: u64, wanted: u64) {
        let _ = if got == wanted {
            writeln!(self.out, "serial: {what}: OK")
        } else {
            self.failed += 1;
            writeln!(self.out, "serial: {what}: FAILED, got {got:#x}, wanted {wanted:#x}")
        };
    }

    /// Sends a line, and takes the answer as soon as it is there: what is written is answered before the next instruction.
    fn ask(&mut self, line: &[u8], wanted: &[u8]) {
        send(line);
        send(b"\n");
        let mut answer = [0; 256];
        let length = take(&mut answer);
        let got = answer.get(..length).unwrap_or_default();
        let is_right = got.starts_with(wanted) && got.ends_with(b"\n");
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or("?");
        let _ = if is_right {
            writeln!(self.out, "serial: {} -> {}", text(line), text(got).trim_end())
        } else {
            self.failed += 1;
            writeln!(self.out, "serial: {} -> {} FAILED", text(line), text(got).trim_end())
        };
    }
}

fn send(line: &[u8]) {
    line.iter().for_each(|byte| out8(DATA, *byte));
}

/// All that is there to read; how much it was.
fn take(into: &mut [u8]) -> usize {
    let mut length = 0;
    while in8(LINE_STATUS) & 1 != 0 {
        let byte = in8(DATA);
        if let Some(slot) = into.get_mut(length) {
            *slot = byte;
        }
        length += 1;
    }
    length
}

fn in16(port: u16) -> u64 {
    let value: u16;
    // SAFETY: a port is no memory.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack)) };
    value.into()
}

fn out32(port: u16, value: u32) {
    // SAFETY: as for `in16`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack)) };
}

/// A register of an interrupt controller.
fn store(address: u64, value: u32) {
    // SAFETY: the guest's interrupt controllers' registers, mapped as they are.
    unsafe { asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack)) };
}

/// The interrupt that comes now: its vector and one, 0 if none does.
fn interrupt() -> u64 {
    // SAFETY: the handlers of all vectors return at once.
    unsafe { attempt!("sti\nnop\nnop\nnop\ncli") }
}

/// The transmitter is idle: to enable its interrupt raises the line, if it was low.
fn raise() {
    out8(ENABLE, 0);
    out8(ENABLE, 2);
}

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut report = Report { out: Uart::open(), failed: 0 };
    find(&mut report);
    services(&mut report);
    interrupts(&mut report);
    sizes(&mut report);
    nonsense(&mut report);
    report.ask(b"plant.level", b"ok millimetres=");
    let words = if report.failed == 0 { "done" } else { "not as expected" };
    let _ = writeln!(report.out, "serial: {words}, {} failed", report.failed);
    power_off()
}

fn find(report: &mut Report) {
    out8(SCRATCH, 0x5a);
    report.equal("its scratch register", in8(SCRATCH).into(), 0x5a);
    report.equal("nothing at COM3 and COM4", (in8(0x3ef) & in8(0x2ef)).into(), 0xff);
    out8(MODEM_CONTROL, 0x1a);
    report.equal("its loop", (in8(COM2 + 6) & 0xf0).into(), 0x90);
    out8(MODEM_CONTROL, 0x0b);
    out8(IDENTIFY, 7);
    report.equal("a 16550A", (in8(IDENTIFY) & 0xcf).into(), 0xc1);
    out8(LINE_CONTROL, 0x83);
    out16(DATA, 1);
    out8(LINE_CONTROL, 3);
    report.equal("idle, nothing received", in8(LINE_STATUS).into(), 0x60);
}

fn services(report: &mut Report) {
    report.ask(b"?", b"ok clock historian plant audit\n");
    report.ask(b"clock.now", b"ok seconds=");
    report.ask(b"plant.set_pump 1500", b"ok\n");
    report.ask(b"plant.set_pump 2900", b"denied no-rule\n");
    report.ask(b"plant.set_pump 1005", b"denied site.policy:35 the tank's inlet pipe resonates at 1005 rpm\n");
    report.ask(b"audit.totals", b"denied no-rule\n");
    report.ask(b"com2.write 0 1 2", b"unknown service com2\n");
}

/// By the 8259s, then by the I/O APIC, at the vectors that are programmed there.
fn interrupts(report: &mut Report) {
    for (port, value) in
        [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1)]
    {
        out8(port, value);
    }
    [0xa1, 0x21].into_iter().for_each(|port| out8(port, 0xff));
    raise();
    report.equal("its interrupt while line 3 is masked", interrupt(), 0);
    out8(0x21, 0xf7);
    raise();
    report.equal("its interrupt by the 8259", interrupt(), 0x34);
    report.equal("it comes once", interrupt(), 0);
    report.equal("why it came", (in8(IDENTIFY) & 0xf).into(), 2);
    out8(0x21, 0xff);
    store(APIC + 0xf0, 0x1ff);
    for (index, value) in [(0x17, 0), (0x16, 0x3b)] {
        store(IO_APIC, index);
        store(IO_APIC + 0x10, value);
    }
    raise();
    report.equal("its interrupt by the I/O APIC", interrupt(), 0x3c);
    store(APIC + 0xb0, 0);
    out8(ENABLE, 1);
    send(b"plant.level\n");
    report.equal("an answer's interrupt", interrupt(), 0x3c);
    store(APIC + 0xb0, 0);
    take(&mut []);
    out8(MODEM_CONTROL, 0x03);
    raise();
    report.equal("none without its gate", interrupt(), 0);
    out8(ENABLE, 0);
    out8(MODEM_CONTROL, 0x0b);
}

fn sizes(report: &mut Report) {
    out8(SCRATCH, 0x5a);
    for (port, what) in [(COM2 + 7, "a word over its end"), (COM2 - 1, "a word over its start")] {
        out16(port, 0xa5a5);
        report.equal(what, in16(port), 0xffff);
    }
    for port in [COM2 + 5, COM2 + 6, COM2 + 7, COM2 - 1, COM2 - 3] {
        out32(port, 0xa5a5_a5a5);
        report.equal("a double word over an end", in32(port).into(), 0xffff_ffff);
    }
    report.equal("nothing of them was written", in8(SCRATCH).into(), 0x5a);
    // Reading the modem status tells once what changed.
    let _ = in8(COM2 + 6);
    report.equal("a word is two registers", in16(COM2 + 6), 0x5ab0);
    report.equal("a double word is four", in32(MODEM_CONTROL).into(), 0x5ab0_600b);
    let at = &raw mut MEMORY as u64;
    // SAFETY: what is read goes to memory of this program's own, if anything is.
    let strings = unsafe {
        [
            attempt!("insb", in("dx") SCRATCH, inout("rdi") at => _),
            attempt!("rep outsb", in("dx") DATA, inout("rsi") at => _, inout("rcx") u64::MAX => _),
        ]
    };
    strings.into_iter().for_each(|got| report.equal("a string of it", got, PROTECTION));
}

static mut MEMORY: [u64; 2] = [0; 2];

/// Any register, any value, many times; lines without sense and without end. Nothing of it reaches a service.
fn nonsense(report: &mut Report) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..3000 {
        let [register, value, is_read, ..] = next().to_le_bytes();
        let port = COM2 + u16::from(register & 7);
        if is_read & 1 == 0 {
            out8(port, value);
        } else {
            let _ = in8(port);
        }
    }
    for (port, value) in [(LINE_CONTROL, 3), (ENABLE, 0), (IDENTIFY, 0), (MODEM_CONTROL, 0x0b), (IDENTIFY, 7)] {
        out8(port, value);
    }
    report.equal("idle again after nonsense", (in8(LINE_STATUS) & 0x7c).into(), 0x60);
    (0..3000).for_each(|_| out8(DATA, b'.'));
    report.ask(b"", b"malformed line-too-long\n");
    for line in
        [&b"\x00\x01\xff.\xfe"[..], b".", b"plant.", b"plant.level 1", b"plant.set_pump \"", b"plant.set_pump [[[["]
    {
        send(line);
        send(b"\r\n");
        let mut answer = [0; 256];
        let length = take(&mut answer);
        let is_refused = answer.starts_with(b"malformed ") || answer.starts_with(b"unknown ") || length == 0;
        report.equal("a line without sense", is_refused.into(), 1);
    }
    // Answers that nobody reads.
    (0..100).for_each(|_| send(b"nothing.at_all\n"));
    report.equal("an overrun is told", (in8(LINE_STATUS) & 2).into(), 2);
    out8(IDENTIFY, 7);
    report.equal("and is over", in8(LINE_STATUS).into(), 0x60);
}
