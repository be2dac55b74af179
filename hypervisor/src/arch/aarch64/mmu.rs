//! EL2's own address space and the guest's stage 2: static tables, filled once by the pure builder.
#![expect(unsafe_code, reason = "page tables are read by the MMU behind the compiler's back")]

use core::arch::asm;
use core::cell::UnsafeCell;

use bulkhead_abi::wall;
use bulkhead_hypervisor_core::paging::{Access, ENTRIES, Format, MAIR_EL2, MapError, PAGE_BYTES, TableMemory, map};
use bulkhead_hypervisor_core::plan::{MachinePlan, Range, console};

use super::instr;
use super::vectors::STACK_BYTES;

const TABLES: usize = 16;

/// A set of tables; the first is the root.
#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u64; ENTRIES]; TABLES]>);

// SAFETY: one CPU, and `Tables` is made only in `build`, which runs once for each pool before the guest starts.
unsafe impl Sync for Pool {}

static EL2: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));
static GUEST: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));
static SECURE: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));

/// VTTBR_EL2 of each partition: its tables and its VMID (Arm ARM D17.2.158).
#[derive(Clone, Copy)]
pub(crate) struct Stage2 {
    pub(crate) guest: u64,
    pub(crate) secure: u64,
}

/// A pool while it is being filled.
struct Tables {
    entries: &'static mut [[u64; ENTRIES]; TABLES],
    used: usize,
}

impl TableMemory for Tables {
    fn format(&self) -> Format {
        Format::Aarch64
    }
    fn read(&self, table: usize, entry: usize) -> u64 {
        self.entries.get(table).and_then(|table| table.get(entry)).copied().unwrap_or(0)
    }
    fn write(&mut self, table: usize, entry: usize, value: u64) {
        if let Some(slot) = self.entries.get_mut(table).and_then(|table| table.get_mut(entry)) {
            *slot = value;
        }
    }
    fn take(&mut self) -> Option<usize> {
        (self.used < TABLES).then(|| {
            self.used += 1;
            self.used - 1
        })
    }
    fn address(&self, table: usize) -> u64 {
        // EL2 is identity-mapped: an address in the image is a physical one.
        self.entries.as_ptr() as u64 + table as u64 * 4096
    }
    fn at(&self, address: u64) -> Option<usize> {
        let table = usize::try_from(address.checked_sub(self.entries.as_ptr() as u64)? / 4096).ok()?;
        (table < self.used).then_some(table)
    }
}

/// Builds all address spaces and turns EL2's MMU on.
///
/// # Errors
/// What could not be mapped; a plan that was validated does not lead here but for a lack of tables.
pub(crate) fn build(plan: &MachinePlan) -> Result<Stage2, MapError> {
    let el2 = fill(&EL2, |tables| map_el2(tables, plan))?;
    let guest = fill(&GUEST, |tables| map_guest(tables, plan))?;
    let secure = fill(&SECURE, |tables| map_secure(tables, plan))?;
    enable(el2);
    // T0SZ 25, SL0 1, write-back inner shareable walks, 4 KiB, PS 40 bits (Arm ARM D17.2.157).
    instr::write_vtcr_el2(0x8002_3559);
    let stage2 = Stage2 { guest: 1 << 48 | guest, secure: 2 << 48 | secure };
    instr::write_vttbr_el2(stage2.guest);
    Ok(stage2)
}

fn fill(pool: &'static Pool, add: impl Fn(&mut Tables) -> Result<(), MapError>) -> Result<u64, MapError> {
    // SAFETY: `build` runs once and asks for each pool once, so this is the only reference; the MMU does not walk the
    // pool before it has been returned.
    let entries = unsafe { &mut *pool.0.get() };
    let mut tables = Tables { entries, used: 1 };
    add(&mut tables)?;
    Ok(tables.address(0))
}

fn map_el2(tables: &mut Tables, plan: &MachinePlan) -> Result<(), MapError> {
    let image = plan.image;
    let data = plan.image_text_bytes + plan.image_rodata_bytes;
    let mut same = |range: Range, access| match range.bytes {
        0 => Ok(()),
        bytes => map(tables, range.base, range.base, bytes, access),
    };
    same(Range { base: image.base, bytes: plan.image_text_bytes }, Access::HypervisorCode)?;
    same(
        Range { base: image.base + plan.image_text_bytes, bytes: plan.image_rodata_bytes },
        Access::HypervisorReadOnly,
    )?;
    // The page below the stack stays unmapped: an overflow faults instead of writing over the tables.
    let stack = image.base + image.bytes.saturating_sub(STACK_BYTES);
    let data = image.base + data;
    same(Range { base: data, bytes: stack.saturating_sub(data + PAGE_BYTES) }, Access::HypervisorData)?;
    same(Range { base: stack, bytes: STACK_BYTES }, Access::HypervisorData)?;
    same(plan.policy, Access::HypervisorReadOnly)?;
    same(plan.store, Access::HypervisorReadOnly)?;
    same(plan.audit, Access::HypervisorData)?;
    for range in plan.guest_ram {
        same(range, Access::HypervisorData)?;
    }
    same(plan.gicd, Access::HypervisorDevice)?;
    same(plan.gicr, Access::HypervisorDevice)?;
    if plan.console_kind != console::NONE {
        same(Range { base: plan.console.base & !0xfff, bytes: 0x1000 }, Access::HypervisorDevice)?;
    }
    Ok(())
}

fn map_guest(tables: &mut Tables, plan: &MachinePlan) -> Result<(), MapError> {
    for range in plan.guest_ram.iter().filter(|range| range.bytes != 0) {
        map(tables, range.base, range.base, range.bytes, Access::Stage2Ram)?;
    }
    for range in plan.guest_mmio.iter().filter(|range| range.bytes != 0) {
        map(tables, range.base, range.base, range.bytes, Access::Stage2Device)?;
    }
    Ok(())
}

/// The secure partition's own addresses (`bulkhead_abi::wall`). What its tasks may reach of them is up to its stage 1, which
/// the bundle fixed.
fn map_secure(tables: &mut Tables, plan: &MachinePlan) -> Result<(), MapError> {
    map(tables, wall::SECURE_IPA, plan.secure.base, plan.secure.bytes, Access::Stage2Ram)?;
    map(tables, wall::AUDIT_RING, plan.audit.base, plan.audit.bytes, Access::Stage2ReadOnly)?;
    map(tables, wall::POLICY, plan.policy.base, plan.policy.bytes, Access::Stage2ReadOnly)?;
    for range in plan.secure_mmio.iter().filter(|range| range.bytes != 0) {
        map(tables, wall::DEVICE_WINDOW + range.base, range.base, range.bytes, Access::Stage2Device)?;
    }
    for range in plan.guest_ram.iter().filter(|range| range.bytes != 0) {
        map(tables, wall::GUEST_WINDOW + range.base, range.base, range.bytes, Access::Stage2Data)?;
    }
    Ok(())
}

fn enable(root: u64) {
    // T0SZ 25, write-back inner shareable walks, 4 KiB, PS 40 bits, RES1 bits 23 and 31 (Arm ARM D17.2.146).
    let control: u64 = 1 << 31 | 1 << 23 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
    // M, C, I, SA, WXN and the RES1 bits (D17.2.118).
    let system: u64 = 0x30cd_1835;
    // SAFETY: the tables at `root` map this code, the stack and all data at their own addresses (identity), so the
    // instruction after the switch is the one that follows here; caches held nothing of the tables but clean lines,
    // as they were written with the MMU off.
    unsafe {
        asm!(
            "msr mair_el2, {mair}", "msr tcr_el2, {tcr}", "msr ttbr0_el2, {root}",
            "dsb sy", "tlbi alle2", "tlbi alle1", "ic iallu", "dsb sy", "isb",
            "msr sctlr_el2, {sctlr}", "isb",
            mair = in(reg) MAIR_EL2, tcr = in(reg) control, root = in(reg) root, sctlr = in(reg) system,
            options(nostack, preserves_flags)
        );
    }
}
