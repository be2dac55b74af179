//! The loader's image: a Linux-style AArch64 Image that is started at EL2 with the device tree's address in x0. It
//! checks the bundle, places the wall and the guest's start image, and jumps to the hypervisor. Then it is gone.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "entry, raw memory and the jump to the hypervisor")]

extern crate alloc;

use alloc::string::{String, ToString};
use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr;

use bulkhead_abi::boot::{BootInfo, MAX_GUEST_RANGES};
use bulkhead_bundle::flat::Flat;
use bulkhead_bundle::kernel::StoredKernel;
use bulkhead_bundle::{Bundle, Kind, Resource, ResourceKind, Settings};
use bulkhead_hypervisor_core::plan::{
    Device, MAX_INTERRUPTS, MAX_RANGES, MachinePlan, PLAN_MAGIC, PLAN_VERSION, Range, StoredPart, console,
};
use bulkhead_loader::layout::{self, Layout, Sizes};
use bulkhead_loader::require;
use bulkhead_loader::tree::{self, GuestView, Machine};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;
use linked_list_allocator::LockedHeap;
use zerocopy::{FromBytes, FromZeros};

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
    main = sym loader_main,
);

const HEAP_BYTES: usize = 1 << 20;

#[repr(align(16))]
struct HeapSpace(core::cell::UnsafeCell<[u8; HEAP_BYTES]>);
// SAFETY: one CPU; only the allocator uses the space.
unsafe impl Sync for HeapSpace {}

static HEAP_SPACE: HeapSpace = HeapSpace(core::cell::UnsafeCell::new([0; HEAP_BYTES]));
#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// The most memory that a secure partition may have.
const SECURE_MAX: u64 = 64 << 20;
/// The largest device tree that is looked at.
const TREE_MAX: usize = 2 << 20;

extern "C" fn loader_main(tree_address: u64, image_base: u64, image_end: u64) -> ! {
    // SAFETY: the space is static, used by nothing else, and initialised once, here.
    unsafe { HEAP.lock().init(HEAP_SPACE.0.get().cast(), HEAP_BYTES) };
    let mut out = Output { kind: console::NONE, base: 0 };
    let own = Range { base: image_base, bytes: image_end - image_base };
    let why = match boot(tree_address, own, &mut out) {
        Ok(never) => match never {},
        Err(why) => why,
    };
    let _ = writeln!(out, "loader: {why}; stopped");
    power_off();
    loop {
        // SAFETY: waiting changes no state.
        unsafe { asm!("wfi") };
    }
}

enum Never {}

fn boot(tree_address: u64, own: Range, out: &mut Output) -> Result<Never, String> {
    let blob = read_tree(tree_address)?;
    let fdt = Fdt::new(blob).map_err(|error| alloc::format!("the device tree is damaged: {error}"))?;
    let tree = DeviceTree::from_fdt(&fdt);
    *out = Output::first_pl011(&tree);
    let level = current_el();
    if level != 2 {
        return Err(alloc::format!("started at EL{level}: the wall needs EL2 (QEMU: -M virt,virtualization=on)"));
    }
    let machine = tree::machine(&tree).map_err(|error| error.to_string())?;
    *out = Output::for_machine(&machine);
    let bundle = Bundle::open(memory(machine.bundle)).map_err(|error| error.to_string())?;
    let part = |kind| bundle.part(kind).map_err(|error| error.to_string());
    let required = core::str::from_utf8(part(Kind::Requirements)?).map_err(|_| "the requirements are not UTF-8")?;
    require::check(required, &machine).map_err(|unmet| unmet.to_string())?;
    let hypervisor = Flat::open(part(Kind::Hypervisor)?).ok_or("the hypervisor's image is no flat image")?;
    let kernel = StoredKernel::open(part(Kind::GuestKernel)?).ok_or("the guest's kernel is cut")?;
    let initrd = part(Kind::GuestInitrd)?;
    let line =
        core::str::from_utf8(part(Kind::GuestCommandLine)?).map_err(|_| "the guest's command line is not UTF-8")?;
    let resources =
        <[Resource]>::ref_from_bytes(part(Kind::GuestResources)?).map_err(|_| "the guest's resources are cut")?;
    let (secure, policy) = (part(Kind::Secure)?, part(Kind::Policy)?);
    let settings = Settings::read_from_bytes(part(Kind::Settings)?).map_err(|_| "the settings are cut")?;
    let (info, _) = BootInfo::read_from_prefix(secure).map_err(|_| "the secure partition's image is cut")?;
    if info.memory_bytes > SECURE_MAX || (secure.len() as u64) > info.memory_bytes {
        return Err("the secure partition's image does not fit its memory".to_string());
    }
    let (kernel_offset, image_size) =
        layout::image_header(kernel.header).ok_or("the guest's kernel is no AArch64 Image (no ARM\\x64 at byte 56)")?;
    let sizes = Sizes {
        secure: info.memory_bytes,
        policy: policy.len() as u64,
        hypervisor: hypervisor.memory_bytes(),
        stored_kernel: kernel.stream.len() as u64,
        kernel: kernel.image_bytes,
        kernel_memory: image_size.max(kernel.image_bytes),
        kernel_offset,
        initrd: initrd.len() as u64,
        tree: blob.len() as u64 + 4096,
    };
    let layout = layout::plan(machine.ram, &sizes).map_err(|error| error.to_string())?;
    for (what, busy) in [
        ("loader", own),
        ("bundle", machine.bundle),
        ("device tree", Range { base: tree_address, bytes: blob.len() as u64 }),
    ] {
        if overlaps(layout.taken, busy) {
            return Err(alloc::format!("too little memory: the {what} lies where the wall must go"));
        }
    }
    let view = GuestView { ram: layout.guest_ram, initrd: layout.initrd, command_line: line, resources };
    let guest_tree = tree::guest_tree(&tree, &view);
    if guest_tree.len() as u64 > layout.tree.bytes {
        return Err("the guest's device tree is larger than the machine's".to_string());
    }
    copy(kernel.stream, layout.stored_kernel.base);
    copy(initrd, layout.stored_initrd.base);
    copy(&guest_tree, layout.stored_tree.base);
    zero(layout.audit);
    zero(layout.secure);
    copy(secure, layout.secure.base);
    copy(zerocopy::IntoBytes::as_bytes(&with_guest(info, &layout)), layout.secure.base);
    zero(layout.policy);
    copy(policy, layout.policy.base);
    bulkhead_model::Policy::verify(memory(Range { base: layout.policy.base, bytes: policy.len() as u64 }))
        .map_err(|error| alloc::format!("the policy is damaged: {}", error.word()))?;
    zero(layout.hypervisor);
    copy(hypervisor.segments, layout.hypervisor.base);
    for place in hypervisor.relocations {
        let value = layout.hypervisor.base + place.addend;
        copy(&value.to_le_bytes(), layout.hypervisor.base + place.offset);
    }
    let mut plan = machine_plan(&machine, &layout, &hypervisor, resources, out);
    plan.policy_bytes = policy.len() as u64;
    plan.secure_root = info.kernel_root;
    plan.period_us = settings.period_us;
    plan.budget_us = settings.budget_us;
    plan.call_limit_us = settings.call_limit_us;
    plan.restart_limit = settings.restart_limit;
    plan.validate().map_err(|error| layout::Misfit { plan: &plan, error }.to_string())?;
    let _ = writeln!(
        out,
        "loader: bundle checked; {} KiB for the wall, {} MiB for the guest",
        layout.taken.bytes >> 10,
        layout.guest_ram.bytes >> 20
    );
    let _ = write!(out, "loader: policy SHA-256 ");
    for byte in bundle.digest(Kind::Policy).into_iter().flatten() {
        let _ = write!(out, "{byte:02x}");
    }
    let _ = writeln!(out);
    enter(&layout, &plan)
}

/// The boot information with the guest's memory in it.
fn with_guest(mut info: BootInfo, layout: &Layout) -> BootInfo {
    let guest = bulkhead_abi::boot::Range { base: layout.guest_ram.base, bytes: layout.guest_ram.bytes };
    info.guest_ranges = [bulkhead_abi::boot::Range::default(); MAX_GUEST_RANGES];
    info.guest_ranges[0] = guest;
    info.guest_range_count = 1;
    info
}

fn machine_plan(
    machine: &Machine,
    layout: &Layout,
    image: &Flat<'_>,
    resources: &[Resource],
    out: &Output,
) -> MachinePlan {
    let mut plan = MachinePlan::new_zeroed();
    plan.magic = PLAN_MAGIC;
    plan.version = PLAN_VERSION;
    plan.taken = layout.taken;
    plan.image = layout.hypervisor;
    plan.image_text_bytes = image.header.text_bytes;
    plan.image_rodata_bytes = image.header.rodata_bytes;
    plan.store = layout.store;
    plan.audit = layout.audit;
    plan.guest_ram[0] = layout.guest_ram;
    plan.secure = layout.secure;
    plan.policy = layout.policy;
    let of_kind = |kind| resources.iter().filter(move |resource| resource.kind == kind as u32);
    for (slot, resource) in plan.guest_mmio.iter_mut().zip(of_kind(ResourceKind::Passthrough)).take(MAX_RANGES) {
        *slot = Range { base: resource.base, bytes: resource.bytes };
    }
    for (slot, resource) in
        plan.guest_interrupts.iter_mut().zip(of_kind(ResourceKind::Passthrough)).take(MAX_INTERRUPTS)
    {
        *slot = resource.intid;
    }
    for (slot, resource) in plan.secure_mmio.iter_mut().zip(of_kind(ResourceKind::Driven)) {
        *slot = Range { base: resource.base, bytes: resource.bytes };
    }
    for (slot, resource) in plan.secure_interrupts.iter_mut().zip(of_kind(ResourceKind::Driven)) {
        *slot = resource.intid;
    }
    for (slot, resource) in plan.devices.iter_mut().zip(of_kind(ResourceKind::Served)) {
        let range = Range { base: resource.base, bytes: resource.bytes };
        let object = u16::try_from(resource.object).unwrap_or(u16::MAX);
        *slot = Device { range, object, reserved: 0, intid: resource.intid };
    }
    plan.parts[0] = StoredPart { stored: layout.stored_kernel, target: layout.kernel, encoding: 1 };
    plan.parts[1] = StoredPart { stored: layout.stored_initrd, target: layout.initrd, encoding: 0 };
    plan.parts[2] = StoredPart { stored: layout.stored_tree, target: layout.tree, encoding: 0 };
    plan.guest_entry = layout.kernel.base;
    plan.guest_dtb = layout.tree.base;
    plan.gicd = machine.gicd;
    plan.gicr = Range { base: machine.gicr.base, bytes: 0x2_0000 };
    plan.cpu_count = machine.cpu_count;
    plan.timer_intid = 26;
    plan.guest_timer_intid = 27;
    plan.console_kind = out.kind;
    plan.console = Range { base: out.base, bytes: 0x200 };
    plan.psci_smc = u64::from(machine.psci_smc);
    plan
}

/// Hands the machine over: the plan in its page, caches clean, interrupts masked, MMU off.
fn enter(layout: &Layout, plan: &MachinePlan) -> ! {
    copy(zerocopy::IntoBytes::as_bytes(plan), layout.plan.base);
    // SAFETY: the hypervisor's image was copied, relocated and zeroed above, entered at its first byte (the flat image's
    // rule). The MMU is off, so no line of it is in a data cache but by speculation; old instructions are forgotten.
    unsafe {
        asm!(
            "dsb sy", "ic iallu", "dsb sy", "isb", "br {entry}",
            entry = in(reg) layout.hypervisor.base, in("x0") layout.plan.base, options(noreturn)
        )
    }
}

fn overlaps(a: Range, b: Range) -> bool {
    a.base < b.base.saturating_add(b.bytes) && b.base < a.base.saturating_add(a.bytes)
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

/// The memory of a range that the boot chain filled and nobody writes to while we run.
fn memory(range: Range) -> &'static [u8] {
    let bytes = usize::try_from(range.bytes).unwrap_or(0);
    // SAFETY: the device tree says that this range holds the RAM disk, in memory; the MMU is off, every address is valid.
    unsafe { core::slice::from_raw_parts(range.base as *const u8, bytes) }
}

fn copy(from: &[u8], to: u64) {
    // SAFETY: `to` lies in the region that `layout::plan` reserved for these bytes, checked to be disjoint from the loader,
    // the bundle and the device tree.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
}

fn zero(range: Range) {
    // SAFETY: as for `copy`.
    unsafe { ptr::write_bytes(range.base as *mut u8, 0, usize::try_from(range.bytes).unwrap_or(0)) };
}

fn current_el() -> u64 {
    let level: u64;
    // SAFETY: reading CurrentEL has no effect.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack)) };
    level >> 2
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
struct Output {
    kind: u32,
    base: u64,
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

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    power_off();
    loop {
        // SAFETY: waiting changes no state.
        unsafe { asm!("wfi") };
    }
}
