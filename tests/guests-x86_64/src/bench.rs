//! The bench guest of a PC: how many instructions a round trip into the wall takes. One tick of the TSC is one instruction in Bochs and under
//! QEMU's exact clock. It prints one line a figure and powers off.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "bare metal: calls and counters")]

use core::arch::asm;
use core::fmt::Write;

use bulkhead_guests_x86_64::{Clock, Uart, call, find_service, is_amd, power_off, service_call, ticks};
use bulkhead_wire::call::{CALL_UID, FEATURES, SERVICE_CALL, UID};

/// An id that nobody knows.
const UNKNOWN: u32 = 0xc600_7fff;
/// How often each operation is repeated.
const TURNS: u64 = 10_000;
/// Instructions of the loop around the operation: subtract and branch.
const LOOP: u64 = 2;

#[unsafe(no_mangle)]
extern "C" fn guest_main() -> ! {
    let mut out = Uart::open();
    let is_svm = is_amd();
    // The apps' start is over, which takes time of the CPU.
    Clock::new().wait_milliseconds(200);
    report(&mut out, "loop", measure(|| turns(Operation::Nothing, 0, 0, 0), 0));
    if call(is_svm, [CALL_UID.into(), 0, 0, 0, 0, 0, 0, 0])[0] == u64::from(UID[0]) {
        let operation = if is_svm { Operation::Vmmcall } else { Operation::Vmcall };
        for (name, id) in [("null_call", FEATURES), ("unknown_call", UNKNOWN)] {
            report(&mut out, name, measure(|| turns(operation, id.into(), 0, 0), LOOP + 3));
        }
        report(&mut out, "cpuid_exit", measure(|| turns(Operation::Cpuid, 0x4000_0000, 0, 0), LOOP + 3));
        // An end of interrupt with none in service changes nothing.
        report(&mut out, "controller_store", measure(|| turns(Operation::Store, 0, 0xfee0_00b0, 0), LOOP + 3));
        services(&mut out, is_svm, operation);
    } else {
        let _ = writeln!(out, "bench: no wall beneath: nothing to measure");
    }
    power_off()
}

fn report(out: &mut Uart, name: &str, hundredths: u64) {
    let _ = writeln!(out, "bench: {name} {}.{:02}", hundredths / 100, hundredths % 100);
}

/// Hundredths of an instruction a turn, without the loop's own: the least of three, as the secure side's time may come due during one.
fn measure(act: impl Fn(), own: u64) -> u64 {
    let times = [(); 3].map(|()| {
        let start = ticks();
        act();
        ticks() - start
    });
    let [first, others @ ..] = times;
    (others.into_iter().fold(first, u64::min) * 100 / TURNS).saturating_sub(own * 100)
}

/// What a turn does.
#[derive(Clone, Copy)]
enum Operation {
    Nothing,
    Store,
    Cpuid,
    Vmcall,
    Vmmcall,
}

/// One turn loads RAX, RDI and RSI, does it, and loops.
fn turns(operation: Operation, rax: u64, rdi: u64, rsi: u64) {
    macro_rules! turn {
        ($($line:literal),*) => {
            // SAFETY: as for `call`; RBX is kept.
            unsafe {
                asm!(
                    "mov r12, rbx", "2:", $($line,)* "dec r13", "jnz 2b", "mov rbx, r12",
                    inout("r13") TURNS => _, out("r12") _, in("r10") rdi, in("r11") rsi, in("r15") rax,
                    out("rax") _, out("rdi") _, out("rsi") _, out("rdx") _, out("rcx") _, out("r8") _, out("r9") _,
                )
            }
        };
    }
    match operation {
        Operation::Nothing => turn!(),
        Operation::Store => turn!("mov rax, r15", "mov rdi, r10", "mov rsi, r11", "mov [rdi], eax"),
        Operation::Cpuid => turn!("mov rax, r15", "mov rdi, r10", "mov rsi, r11", "cpuid"),
        Operation::Vmcall => turn!("mov rax, r15", "mov rdi, r10", "mov rsi, r11", "vmcall"),
        Operation::Vmmcall => turn!("mov rax, r15", "mov rdi, r10", "mov rsi, r11", "vmmcall"),
    }
}

/// The plant's service, found by its name: one call that reads, and one that the policy refuses.
fn services(out: &mut Uart, is_svm: bool, operation: Operation) {
    let Some(object) = find_service(is_svm, "plant") else {
        let _ = writeln!(out, "bench: no service called plant");
        return;
    };
    let drain = object | 3 << 16 | 1 << 32;
    for (name, header, argument, wanted) in [("service_call", object, 0, 0), ("refused_call", drain, 1, u64::MAX - 1)] {
        let [status, ..] = service_call(is_svm, header, [argument, 0, 0, 0, 0, 0]);
        if status == wanted {
            let act = || turns(operation, SERVICE_CALL.into(), header, argument);
            report(out, name, measure(act, LOOP + 3));
        } else {
            let _ = writeln!(out, "bench: {name}: status {status:#x}");
        }
    }
}
