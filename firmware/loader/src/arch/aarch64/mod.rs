//! AArch64: a Linux-style Image that is started at EL2 with the device tree's address in x0.

use alloc::string::{String, ToString};
use core::arch::{asm, global_asm};
use core::fmt::{self, Write};

use bulkhead_bundle::kernel::StoredKernel;
use bulkhead_hypervisor_core::plan::{Range, StoredPart, console, machine};
use bulkhead_loader::aarch64::layout::{self, Start};
use bulkhead_loader::aarch64::tree::{self, GuestView, Machine};
use bulkhead_loader::last::Last;
use bulkhead_loader::wall::Sizes;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;

use crate::{Never, Parts, copy, enter, memory};

// The header is that of Documentation/arch/arm64/booting: branch, text_offset 0, image_size, flags (little-endian,
// 4 KiB pages, placed anywhere), magic. The image relocates itself: it is linked at 0.
global_asm!(
    r#"
    .section .text.entry, "ax"
    .global _start
_start:
    b     entry
    .long 0
    .quad 0
    .quad image_bytes
    .quad 0xa
    .quad 0, 0, 0
    .long 0x644d5241
    .long 0
entry:
    msr   daifset, #0xf
    adrp  x1, bss_start
    add   x1, x1, :lo12:bss_start
    adrp  x2, image_end
    add   x2, x2, :lo12:image_end
1:  stp   xzr, xzr, [x1], #16
    cmp   x1, x2
    b.lo  1b
    adr   x3, _start
    adrp  x1, rela_start
    add   x1, x1, :lo12:rela_start
    adrp  x2, rela_end
    add   x2, x2, :lo12:rela_end
2:  cmp   x1, x2
    b.hs  3f
    ldp   x4, x5, [x1]
    ldr   x6, [x1, #16]
    add   x6, x6, x3
    str   x6, [x3, x4]
    add   x1, x1, #24
    b     2b
3:  adrp  x1, stack_top
    add   x1, x1, :lo12:stack_top
    mov   sp, x1
    mov   x1, x3
    adrp  x2, image_end
    add   x2, x2, :lo12:image_end
    bl    {main}
    .section .bss.stack, "aw", %nobits
    .balign 4096
    .skip 65536
stack_top:
    "#,
    main = sym entered,
);

/// The largest device tree that is looked at.
const TREE_MAX: usize = 2 << 20;

/// The policies that are for this machine.
pub(crate) const POLICY_MACHINE: u32 = bulkhead_model::machine::AARCH64;
/// Its name.
pub(crate) const NAME: &str = "aarch64";

/// What the loader is started with.
pub(crate) struct BootChain {
    tree: u64,
    own: Range,
}

extern "C" fn entered(tree: u64, image_base: u64, image_end: u64) -> ! {
    crate::start(BootChain { tree, own: Range { base: image_base, bytes: image_end - image_base } })
}

/// Learns the machine, places everything and jumps.
pub(crate) fn boot(chain: BootChain, out: &mut Output) -> Result<Never, String> {
    let blob = read_tree(chain.tree)?;
    let fdt = Fdt::new(blob).map_err(|error| alloc::format!("the device tree is damaged: {error}"))?;
    let tree = DeviceTree::from_fdt(&fdt);
    *out = Output::first_pl011(&tree);
    let level = current_el();
    if level != 2 {
        return Err(alloc::format!("started at EL{level}: the wall needs EL2 (QEMU: -M virt,virtualization=on)"));
    }
    let machine = tree::machine(&tree).map_err(|error| error.to_string())?;
    *out = Output::for_machine(&machine);
    let parts = Parts::open(memory(machine.bundle), &machine.facts(), Last::NoMemory)?;
    let kernel = StoredKernel::open(parts.kernel).ok_or("the guest's kernel is cut")?;
    let (kernel_offset, image_size) =
        layout::image_header(kernel.header).ok_or("the guest's kernel is no AArch64 Image (no ARM\\x64 at byte 56)")?;
    let guest = Start {
        kernel: kernel.image_bytes,
        kernel_memory: image_size.max(kernel.image_bytes),
        kernel_offset,
        initrd: parts.initrd.len() as u64,
        tree: blob.len() as u64 + 4096,
    };
    let sizes = Sizes {
        secure: parts.info.memory_bytes,
        policy: parts.policy.len() as u64,
        hypervisor: parts.hypervisor.memory_bytes(),
        parts: [kernel.stream.len() as u64, guest.initrd, guest.tree, 0, 0, 0, 0, 0],
    };
    let layout = layout::plan(machine.ram, &sizes, &guest).map_err(|error| error.to_string())?;
    let wall = layout.wall;
    for (what, busy) in [
        ("loader", chain.own),
        ("bundle", machine.bundle),
        ("device tree", Range { base: chain.tree, bytes: blob.len() as u64 }),
    ] {
        if !wall.taken.is_disjoint(busy) {
            return Err(alloc::format!("too little memory: the {what} lies where the wall must go"));
        }
    }
    let view = GuestView {
        ram: layout.guest_ram,
        initrd: layout.initrd,
        command_line: parts.line,
        resources: parts.resources,
    };
    let guest_tree = tree::guest_tree(&tree, &view);
    if guest_tree.len() as u64 > layout.tree.bytes {
        return Err("the guest's device tree is larger than the machine's".to_string());
    }
    let [stored_kernel, stored_initrd, stored_tree, ..] = wall.parts;
    copy(kernel.stream, stored_kernel.base);
    copy(parts.initrd, stored_initrd.base);
    copy(&guest_tree, stored_tree.base);
    let guest_ram = [layout.guest_ram];
    parts.place(&wall, &parts.info(&guest_ram, counter_rate()));
    let mut plan = parts.plan(&wall, &guest_ram, out);
    plan.machine = machine::AARCH64;
    plan.ticks_per_second = counter_rate();
    plan.parts[0] = StoredPart { stored: stored_kernel, target: layout.kernel, encoding: 1 };
    plan.parts[1] = StoredPart { stored: stored_initrd, target: layout.initrd, encoding: 0 };
    plan.parts[2] = StoredPart { stored: stored_tree, target: layout.tree, encoding: 0 };
    plan.guest_entry = layout.kernel.base;
    plan.guest_argument = layout.tree.base;
    plan.gicd = machine.gicd;
    plan.gicr = Range { base: machine.gicr.base, bytes: 0x2_0000 };
    plan.cpu_count = machine.cpu_count;
    plan.timer_intid = 26;
    plan.guest_timer_intid = 27;
    plan.console = Range { base: out.base, bytes: 0x200 };
    plan.psci_smc = u64::from(machine.psci_smc);
    enter(out, &parts, &wall, &plan)
}

/// Hands the machine over: caches clean, interrupts masked, MMU off, the plan's address in x0.
pub(crate) fn jump(entry: u64, plan: u64) -> ! {
    // SAFETY: the hypervisor's image was copied, relocated and zeroed, and is entered at its first byte (the flat image's
    // rule). The MMU is off, so no line of it is in a data cache but by speculation; old instructions are forgotten.
    unsafe {
        asm!(
            "dsb sy", "ic iallu", "dsb sy", "isb", "br {entry}",
            entry = in(reg) entry, in("x0") plan, options(noreturn)
        )
    }
}

/// Powers the machine off; where that fails, waits for ever.
pub(crate) fn stop() -> ! {
    power_off();
    loop {
        // SAFETY: waiting changes no state.
        unsafe { asm!("wfi") };
    }
}

fn read_tree(address: u64) -> Result<&'static [u8], String> {
    if address == 0 || !address.is_multiple_of(8) {
        return Err("no device tree in x0".to_string());
    }
    // SAFETY: the boot protocol puts a device tree at x0, at least 8 bytes long; nobody writes to it while we run.
    let head = unsafe { core::slice::from_raw_parts(address as *const u8, 8) };
    let size = head.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    let size = usize::try_from(size).unwrap_or(0);
    if head.first_chunk() != Some(&[0xd0, 0x0d, 0xfe, 0xed]) || size > TREE_MAX {
        return Err("no device tree in x0".to_string());
    }
    // SAFETY: as above; the length is the one that its header states, bounded.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, size) })
}

fn current_el() -> u64 {
    let level: u64;
    // SAFETY: reading CurrentEL has no effect.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack)) };
    level >> 2
}

fn counter_rate() -> u64 {
    let rate: u64;
    // SAFETY: reading CNTFRQ_EL0 has no effect.
    unsafe { asm!("mrs {}, CNTFRQ_EL0", out(reg) rate, options(nomem, nostack)) };
    rate
}

/// PSCI SYSTEM_OFF by the conduit that this level has (DEN 0022 §5.8): `smc` at EL2, `hvc` at EL1.
fn power_off() {
    // SAFETY: the call ends the machine or changes x0-x17 only (SMCCC).
    unsafe {
        if current_el() == 2 {
            asm!("smc #0", inout("x0") 0x8400_0008_u64 => _, clobber_abi("C"));
        } else {
            asm!("hvc #0", inout("x0") 0x8400_0008_u64 => _, clobber_abi("C"));
        }
    }
}

/// Where messages go; the same choice is handed on to the hypervisor.
pub(crate) struct Output {
    pub(crate) kind: u32,
    pub(crate) base: u64,
}

impl Output {
    fn first_pl011(tree: &DeviceTree) -> Self {
        match tree::pl011(tree) {
            Some(range) => Self { kind: console::PL011, base: range.base },
            None => Self { kind: console::NONE, base: 0 },
        }
    }

    /// A virtio console that is not the guest's, if the machine has one; else the UART.
    fn for_machine(machine: &Machine) -> Self {
        let is_console = |range: &&Range| {
            // SAFETY: the device tree names virtio-mmio registers here; DeviceID (offset 8) is read only (virtio 1.2 §4.2.2).
            unsafe { ((range.base + 8) as *const u32).read_volatile() == 3 }
        };
        match machine.virtio.iter().find(is_console) {
            Some(range) => Self { kind: console::VIRTIO_EMERGENCY, base: range.base },
            None => machine
                .pl011
                .map_or(Self { kind: console::NONE, base: 0 }, |range| Self { kind: console::PL011, base: range.base }),
        }
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let register = match self.kind {
            console::VIRTIO_EMERGENCY => self.base + 0x108,
            console::PL011 => self.base,
            _ => return Ok(()),
        };
        for byte in text.bytes() {
            // SAFETY: the device tree names this device; a 32-bit write to its data register sends one byte.
            unsafe { (register as *mut u32).write_volatile(u32::from(byte)) };
        }
        Ok(())
    }
}
