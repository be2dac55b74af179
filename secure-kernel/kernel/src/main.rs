//! The secure kernel's image: upcalls from the wall, traps of its tasks, and what `bulkhead-kernel-core` decides about
//! them. It has no translation tables of its own making: the bundle brings them all, and the kernel does not even map
//! them. Interrupts stay masked while it runs; every path through it is bounded.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the one CPU's state is a static that the traps reach")]

mod arch;

use core::cell::UnsafeCell;
use core::panic::PanicInfo;

use arch::{instr, traps};
use bulkhead_abi::audit::Kind;
use bulkhead_abi::boot::{AppInfo, BootInfo};
use bulkhead_abi::{Message, Status, wall};
use bulkhead_kernel_core::{Kernel, Next, Platform, Verdict};
use bulkhead_model::{Phase, Reason};

struct Slot(UnsafeCell<Option<Kernel>>);

// SAFETY: one CPU; only `upcall`, `task_sync` and `task_irq` reach it, with interrupts masked, and none calls another.
unsafe impl Sync for Slot {}

static KERNEL: Slot = Slot(UnsafeCell::new(None));

/// The wall beneath: monitor, audit trail, console.
struct Wall;

impl Platform for Wall {
    fn judge(&mut self, subject: u16, phase: Phase, message: &Message) -> Verdict {
        let question = wall::question(subject, message.object, message.method, phase as u8, message.len);
        let word = instr::call(wall::JUDGE, question, message.words);
        let [_, reason, low, high, ..] = word.to_le_bytes();
        Verdict { reason: Reason::from_raw(reason), rule: u16::from_le_bytes([low, high]) }
    }

    fn record(&mut self, kind: Kind, subject: u16, details: [u64; 2]) {
        let [first, second] = details;
        instr::call(wall::AUDIT_EVENT, kind as u64 | u64::from(subject) << 16, [first, second, 0, 0, 0, 0]);
    }

    fn raise(&mut self, intid: u32) -> Status {
        let status = instr::call(wall::GUEST_IRQ, intid.into(), [0; 6]);
        Status::from_raw(status.cast_signed()).unwrap_or(Status::Failed)
    }

    fn irq_done(&mut self, intid: u32) -> Status {
        let status = instr::call(wall::IRQ_DONE, intid.into(), [0; 6]);
        Status::from_raw(status.cast_signed()).unwrap_or(Status::Failed)
    }

    fn print(&mut self, subject: u16, len: u64, words: [u64; 6]) {
        instr::call(wall::LOG, len | u64::from(subject) << 16, words);
    }
}

/// Entered by the wall: reason, then what it brings. The first one starts the kernel. As all ways in it does not return, and so
/// saves nothing for who called it.
#[inline(always)]
fn upcall(reason: u64, header: u64, words: [u64; 6], token: u64) -> ! {
    // SAFETY: see `Slot`.
    let slot = unsafe { &mut *KERNEL.0.get() };
    let Some(kernel) = slot else { go_on(start(slot), false) };
    match reason {
        wall::UPCALL_CALL => kernel.guest_call(header, words, token),
        wall::UPCALL_GUEST_RESET => kernel.guest_reset(),
        _ => take_interrupts(kernel),
    }
    go_on(kernel, false)
}

/// The first entry, which brings nothing else.
#[inline(never)]
fn start(slot: &mut Option<Kernel>) -> &mut Kernel {
    // SAFETY: the bundle's builder put the boot information there, and maps it read only for good.
    let info = unsafe { &*(wall::KERNEL_VA as *const BootInfo) };
    traps::enable();
    let kernel = slot.insert(Kernel::new(info, instr::ticks_per_second(info) / 1_000_000));
    kernel.start(&mut Wall);
    kernel
}

/// A task made a system call or faulted.
extern "C" fn task_sync() -> ! {
    let kernel = the_kernel();
    match traps::fault(kernel.registers()) {
        None => kernel.syscall(&mut Wall, instr::read_counter),
        Some(_) if traps::can_retry(kernel) => {}
        Some(details) => kernel.fault(&mut Wall, details),
    }
    if let Some(wake) = kernel.answered() {
        instr::switch(wall::SWITCH_REPLY, kernel.reply_to_guest(), wake);
    }
    go_on(kernel, false)
}

/// The virtual interrupt: a timer of a task, or the partition's time is up.
extern "C" fn task_irq() -> ! {
    let kernel = the_kernel();
    let is_time_up = instr::call(wall::SET_TIMER, u64::MAX, [0; 6]) != 0;
    take_interrupts(kernel);
    go_on(kernel, is_time_up)
}

/// Interrupts of devices that apps drive; each comes once until it is done, so this ends.
fn take_interrupts(kernel: &mut Kernel) {
    while let intid @ 1.. = instr::call(wall::TAKE_IRQ, 0, [0; 6]) {
        kernel.interrupt(u32::try_from(intid).unwrap_or(0));
    }
}

/// The kernel's state, for a trap: each takes it once.
#[inline(always)]
fn the_kernel() -> &'static mut Kernel {
    // SAFETY: see `Slot`; a task runs only after `start` has filled it.
    unsafe { (*KERNEL.0.get()).as_mut().unwrap_unchecked() }
}

/// Runs the next task, or gives the CPU back.
#[inline(always)]
fn go_on(kernel: &mut Kernel, is_time_up: bool) -> ! {
    #[cfg(feature = "hangs")]
    hang_after_a_while();
    if kernel.has_loads() {
        load_all(kernel);
    }
    match kernel.next(instr::read_counter(), is_time_up) {
        Next::Run => {
            instr::write_root(kernel.root());
            traps::resume(kernel.registers())
        }
        Next::Leave { has_reply, has_more, wake } => {
            let more = if has_more { wall::SWITCH_MORE } else { 0 };
            let answers = if has_reply { wall::SWITCH_REPLY } else { 0 };
            instr::switch(more | answers, kernel.reply_to_guest(), wake)
        }
    }
}

/// At its three hundredth way out.
#[cfg(feature = "hangs")]
fn hang_after_a_while() {
    static WAYS: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
    while WAYS.fetch_add(1, core::sync::atomic::Ordering::Relaxed) >= 300 {}
}

#[cold]
#[inline(never)]
fn load_all(kernel: &mut Kernel) {
    while let Some(index) = kernel.take_load() {
        kernel.app(index).into_iter().for_each(load);
    }
}

/// Puts an app's memory back to its start.
fn load(app: &AppInfo) {
    let place = |offset: u64| wall::KERNEL_VA + offset;
    // SAFETY: the bundle's builder laid these ranges out page-aligned, disjoint from each other and from the kernel, and
    // mapped the first read only, the others read-write; the app does not run.
    unsafe {
        core::ptr::copy_nonoverlapping(
            place(app.data_from) as *const u64,
            place(app.data_to) as *mut u64,
            words(app.data_bytes),
        );
        core::ptr::write_bytes(place(app.zero_at) as *mut u64, 0, words(app.zero_bytes));
    }
}

fn words(bytes: u64) -> usize {
    usize::try_from(bytes / 8).unwrap_or(0)
}

/// The kernel's own bug: the wall records it and answers for the partition from now on.
extern "C" fn fatal(code: u64, address: u64) -> ! {
    instr::call(wall::FATAL, code, [address, 0, 0, 0, 0, 0]);
    instr::park()
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    fatal(0, 0)
}
