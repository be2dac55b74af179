//! The loader's image: it checks the bundle, places the wall and the guest's start image, and jumps to the hypervisor.
//! Then it is gone. How it is started, and how it learns what the machine is, is `arch`'s.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "entry, raw memory and the jump to the hypervisor")]

extern crate alloc;

mod arch;

use alloc::string::{String, ToString};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::ptr;

use bulkhead_abi::boot::{self, BootInfo, MAX_GUEST_RANGES};
use bulkhead_bundle::flat::Flat;
use bulkhead_bundle::{Bundle, Kind, Resource, Settings};
use bulkhead_hypervisor_core::plan::{MachinePlan, PLAN_MAGIC, PLAN_VERSION, Range, console};
use bulkhead_loader::last::{Last, Ran};
use bulkhead_loader::misfit::Misfit;
use bulkhead_loader::require::{self, Facts};
use bulkhead_loader::resources;
use bulkhead_loader::wall::Wall;
use linked_list_allocator::LockedHeap;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use arch::Output;

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

enum Never {}

/// Where the entry of each architecture ends up, once.
fn start(chain: arch::BootChain) -> ! {
    // SAFETY: the space is static, used by nothing else, and initialised once, here.
    unsafe { HEAP.lock().init(HEAP_SPACE.0.get().cast(), HEAP_BYTES) };
    let mut out = Output { kind: console::NONE, base: 0 };
    let why = match arch::boot(chain, &mut out) {
        Ok(never) => match never {},
        Err(why) => why,
    };
    let _ = writeln!(out, "loader: {why}; stopped");
    arch::stop()
}

/// The bundle's parts, each checked against its hash.
struct Parts {
    hypervisor: Flat<'static>,
    /// As it is stored: see `bulkhead_bundle::kernel`.
    kernel: &'static [u8],
    initrd: &'static [u8],
    line: &'static str,
    resources: &'static [Resource],
    secure: &'static [u8],
    policy: &'static [u8],
    /// The policy as it is remembered, and what is remembered.
    running: Ran,
    last: Last,
    /// It is known to be the last one.
    is_last: bool,
    required: &'static str,
    settings: Settings,
    info: BootInfo,
}

impl Parts {
    /// Checks the parts' hashes, that the machine is one that the policy may run on, and that none that is later ran on it.
    fn open(bundle: &'static [u8], machine: &Facts, last: Last) -> Result<Self, String> {
        let bundle = Bundle::open(bundle).map_err(|error| error.to_string())?;
        let part = |kind| bundle.part(kind).map_err(|error| error.to_string());
        let required = core::str::from_utf8(part(Kind::Requirements)?).map_err(|_| "the requirements are not UTF-8")?;
        require::check(required, machine).map_err(|unmet| unmet.to_string())?;
        let secure = part(Kind::Secure)?;
        let (info, _) = BootInfo::read_from_prefix(secure).map_err(|_| "the secure partition's image is cut")?;
        if info.memory_bytes > SECURE_MAX || (secure.len() as u64) > info.memory_bytes {
            return Err("the secure partition's image does not fit its memory".to_string());
        }
        let policy = part(Kind::Policy)?;
        let table = bulkhead_model::Policy::verify(policy)
            .map_err(|error| alloc::format!("the policy is damaged: {}", error.word()))?;
        if !table.is_for(arch::POLICY_MACHINE) {
            return Err(alloc::format!(
                "the policy was compiled for another kind of machine; compile it for {}",
                arch::NAME
            ));
        }
        let digest = *bundle.digest(Kind::Policy).ok_or("the bundle holds no policy")?;
        let running = Ran { revision: table.revision, digest };
        Ok(Self {
            hypervisor: Flat::open(part(Kind::Hypervisor)?).ok_or("the hypervisor's image is no flat image")?,
            kernel: part(Kind::GuestKernel)?,
            initrd: part(Kind::GuestInitrd)?,
            line: core::str::from_utf8(part(Kind::GuestCommandLine)?)
                .map_err(|_| "the guest's command line is not UTF-8")?,
            resources: <[Resource]>::ref_from_bytes(part(Kind::GuestResources)?)
                .map_err(|_| "the guest's resources are cut")?,
            secure,
            policy,
            running,
            last,
            is_last: last.is(&running).map_err(|older| older.to_string())?,
            required,
            settings: Settings::read_from_bytes(part(Kind::Settings)?).map_err(|_| "the settings are cut")?,
            info,
        })
    }

    /// Puts everything but the guest's start image where the wall has its place.
    fn place(&self, wall: &Wall, info: &BootInfo) {
        zero(wall.audit);
        zero(wall.secure);
        copy(self.secure, wall.secure.base);
        copy(info.as_bytes(), wall.secure.base);
        zero(wall.policy);
        copy(self.policy, wall.policy.base);
        zero(wall.hypervisor);
        copy(self.hypervisor.segments, wall.hypervisor.base);
        for place in self.hypervisor.relocations {
            let value = wall.hypervisor.base + place.addend;
            copy(&value.to_le_bytes(), wall.hypervisor.base + place.offset);
        }
    }

    /// The boot information with what only the loader knows.
    fn info(&self, guest_ram: &[Range], ticks_per_second: u64) -> BootInfo {
        let mut info = self.info;
        info.ticks_per_second = ticks_per_second;
        info.guest_ranges = [boot::Range::default(); MAX_GUEST_RANGES];
        for (slot, range) in info.guest_ranges.iter_mut().zip(guest_ram) {
            *slot = boot::Range { base: range.base, bytes: range.bytes };
        }
        info.guest_range_count = u32::try_from(guest_ram.len()).unwrap_or(0);
        info
    }

    /// The plan, but for what only one architecture has.
    fn plan(&self, wall: &Wall, guest_ram: &[Range], out: &Output) -> MachinePlan {
        let mut plan = MachinePlan::new_zeroed();
        plan.magic = PLAN_MAGIC;
        plan.version = PLAN_VERSION;
        plan.taken = wall.taken;
        plan.image = wall.hypervisor;
        plan.image_text_bytes = self.hypervisor.header.text_bytes;
        plan.image_rodata_bytes = self.hypervisor.header.rodata_bytes;
        plan.store = wall.store;
        plan.audit = wall.audit;
        plan.secure = wall.secure;
        plan.secure_root = self.info.kernel_root;
        plan.policy = wall.policy;
        plan.policy_bytes = self.policy.len() as u64;
        plan.is_last_policy = self.is_last.into();
        plan.period_us = self.settings.period_us;
        plan.budget_us = self.settings.budget_us;
        plan.call_limit_us = self.settings.call_limit_us;
        plan.restart_limit = self.settings.restart_limit;
        plan.guest_ram.iter_mut().zip(guest_ram).for_each(|(slot, range)| *slot = *range);
        plan.console_kind = out.kind;
        plan
    }
}

/// The plan with what the policy gives away.
fn complete(parts: &Parts, plan: &MachinePlan) -> Result<MachinePlan, String> {
    let mut plan = *plan;
    resources::give(&mut plan, parts.resources).map_err(|error| error.to_string())?;
    plan.validate().map_err(|error| Misfit { plan: &plan, error }.to_string())?;
    Ok(plan)
}

/// What the policy gives away goes into the plan, the plan to its page, and the machine to the hypervisor.
fn enter(out: &mut Output, parts: &Parts, wall: &Wall, plan: &MachinePlan) -> Result<Never, String> {
    let plan = complete(parts, plan)?;
    let guest_bytes: u64 = plan.guest_ram.iter().map(|range| range.bytes).sum();
    let _ = writeln!(
        out,
        "loader: bundle checked; {} KiB for the wall, {} MiB for the guest",
        wall.taken.bytes >> 10,
        guest_bytes >> 20
    );
    let _ = write!(out, "loader: policy SHA-256 ");
    for byte in parts.running.digest {
        let _ = write!(out, "{byte:02x}");
    }
    let _ = writeln!(out);
    let _ = write!(out, "loader: policy revision {}; ", parts.running.revision);
    let _ = if parts.is_last { writeln!(out, "as at the last start") } else { writeln!(out, "{}", parts.last) };
    for grant in require::granted(parts.required) {
        let _ = writeln!(out, "loader: {grant}");
    }
    copy(plan.as_bytes(), wall.plan.base);
    arch::jump(wall.hypervisor.base, wall.plan.base)
}

/// The memory of a range that the boot chain filled and nobody writes to while we run.
fn memory(range: Range) -> &'static [u8] {
    let bytes = usize::try_from(range.bytes).unwrap_or(0);
    // SAFETY: the boot chain says that this range holds what it loaded, in memory; every address of it is valid as it is
    // (the MMU is off, or tables map addresses to themselves).
    unsafe { core::slice::from_raw_parts(range.base as *const u8, bytes) }
}

fn copy(from: &[u8], to: u64) {
    // SAFETY: `to` lies in the region that `layout::plan` reserved for these bytes, checked to be disjoint from the loader,
    // the bundle and what the boot chain hands over.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
}

fn zero(range: Range) {
    // SAFETY: as for `copy`.
    unsafe { ptr::write_bytes(range.base as *mut u8, 0, usize::try_from(range.bytes).unwrap_or(0)) };
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    arch::stop()
}
