//! The three address spaces: the hypervisor's own, the guest's memory, the secure partition's memory. Static tables, filled once by the
//! pure builder from the machine plan.
#![expect(unsafe_code, reason = "page tables are read by the MMU behind the compiler's back")]

use core::cell::UnsafeCell;

use bulkhead_abi::wall;
use bulkhead_hypervisor_core::paging::{Access, ENTRIES, Format, MapError, PAGE_BYTES, TableMemory, map};
use bulkhead_hypervisor_core::plan::{MachinePlan, Range, console};

use crate::arch::STACK_BYTES;

/// The tables' addresses.
pub(crate) struct Roots {
    pub(crate) own: u64,
    pub(crate) guest: u64,
    pub(crate) secure: u64,
}

/// Builds all three: the hypervisor's in one format, the partitions' in the other.
///
/// # Errors
/// What could not be mapped; a plan that was validated does not lead here but for a lack of tables.
pub(crate) fn build(plan: &MachinePlan, own: Format, partitions: Format) -> Result<Roots, MapError> {
    Ok(Roots {
        own: fill(&OWN, own, |tables| map_own(tables, plan))?,
        guest: fill(&GUEST, partitions, |tables| map_guest(tables, plan))?,
        secure: fill(&SECURE, partitions, |tables| map_secure(tables, plan))?,
    })
}

/// Tables of each space: the root, and enough for a machine's holes and its single pages.
const TABLES: usize = 24;

/// A set of tables; the first is the root.
#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u64; ENTRIES]; TABLES]>);

// SAFETY: one CPU, and `Tables` is made only in `build`, which runs once for each pool before the guest starts.
unsafe impl Sync for Pool {}

static OWN: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));
static GUEST: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));
static SECURE: Pool = Pool(UnsafeCell::new([[0; ENTRIES]; TABLES]));

/// Where they lie.
#[cfg(all(feature = "watch", target_arch = "x86_64"))]
pub(crate) fn pools() -> [Range; 3] {
    [&OWN, &GUEST, &SECURE].map(|pool| Range { base: pool.0.get() as u64, bytes: size_of::<Pool>() as u64 })
}

/// A pool while it is being filled.
struct Tables {
    entries: &'static mut [[u64; ENTRIES]; TABLES],
    used: usize,
    format: Format,
}

impl TableMemory for Tables {
    fn format(&self) -> Format {
        self.format
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
        // The hypervisor is mapped at its own addresses: one in the image is a physical one.
        self.entries.as_ptr() as u64 + table as u64 * 4096
    }
    fn at(&self, address: u64) -> Option<usize> {
        let table = usize::try_from(address.checked_sub(self.entries.as_ptr() as u64)? / 4096).ok()?;
        (table < self.used).then_some(table)
    }
}

fn fill(
    pool: &'static Pool,
    format: Format,
    add: impl Fn(&mut Tables) -> Result<(), MapError>,
) -> Result<u64, MapError> {
    // SAFETY: `build` runs once and asks for each pool once, so this is the only reference; the MMU does not walk the
    // pool before it has been returned.
    let entries = unsafe { &mut *pool.0.get() };
    let mut tables = Tables { entries, used: 1, format };
    add(&mut tables)?;
    Ok(tables.address(0))
}

fn map_own(tables: &mut Tables, plan: &MachinePlan) -> Result<(), MapError> {
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
    for page in plan.x86.pages() {
        same(page, Access::HypervisorDevice)?;
    }
    for range in plan.x86.guest_rom {
        same(range, Access::HypervisorReadOnly)?;
    }
    if matches!(plan.console_kind, console::VIRTIO_EMERGENCY | console::PL011) {
        same(Range { base: plan.console.base & !0xfff, bytes: 0x1000 }, Access::HypervisorDevice)?;
    }
    Ok(())
}

fn map_guest(tables: &mut Tables, plan: &MachinePlan) -> Result<(), MapError> {
    for range in plan.guest_ram.iter().filter(|range| range.bytes != 0) {
        map(tables, range.base, range.base, range.bytes, Access::Stage2Ram)?;
    }
    for range in plan.guest_mmio.iter().filter(|range| range.bytes != 0) {
        let access = if plan.x86.is_watched(*range) { Access::Stage2Watched } else { Access::Stage2Device };
        map(tables, range.base, range.base, range.bytes, access)?;
    }
    for range in plan.x86.guest_rom.iter().filter(|range| range.bytes != 0) {
        map(tables, range.base, range.base, range.bytes, Access::Stage2Rom)?;
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
