//! The secure partition's memory, laid out on the host: boot information, kernel, apps and every translation table. All
//! addresses are fixed here; neither the kernel nor any app can change a table, as no table is mapped.

use std::string::String;
use std::vec::Vec;

use bulkhead_abi::boot::{
    AppInfo, BOOT_MAGIC, BOOT_VERSION, BootInfo, Capability, MAX_APP_DEVICES, MAX_APP_IRQS, MAX_APPS, MAX_CAPS, Range,
    flags,
};
use bulkhead_abi::wall;
use bulkhead_hypervisor_core::paging::{ADDRESS_LIMIT, Access, ENTRIES, Format, TableMemory, map};
use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use zerocopy::{FromZeros, IntoBytes};

use crate::build::FlattenError;

const PAGE: u64 = 4096;
/// The partition is a multiple of this.
const BLOCK: u64 = 2 << 20;

/// An app of the manifest, its numbers resolved by the policy.
#[derive(Clone, Debug)]
pub struct App {
    /// Name, at most 16 bytes.
    pub name: String,
    /// Its program: a static ELF file linked at [`wall::APP_VA`].
    pub program: Vec<u8>,
    /// Its subject.
    pub subject: u16,
    /// The object it serves, or `NO_OBJECT`.
    pub serves: u16,
    /// 0 is the highest.
    pub priority: u8,
    /// CPU time a period; 0: no limit of its own.
    pub budget_us: u32,
    /// The period.
    pub period_us: u32,
    /// Starts after a fault.
    pub restart_limit: u32,
    /// `bulkhead_abi::boot::flags`.
    pub flags: u32,
    /// Interrupts of guest devices it may raise.
    pub irqs: Vec<u32>,
    /// Devices that it drives: registers (whole pages) and INTID, 0 for none.
    pub devices: Vec<(Range, u32)>,
    /// What it may call.
    pub caps: Vec<Capability>,
    /// Stack, a multiple of 4 KiB.
    pub stack_bytes: u64,
}

/// Lays the partition out. The image starts at [`wall::SECURE_IPA`].
///
/// # Errors
/// The rule that a program or the manifest breaks.
pub fn secure_image(kernel: &[u8], apps: &[App], policy_bytes: usize) -> Result<Vec<u8>, FlattenError> {
    if apps.len() > MAX_APPS {
        return Err(FlattenError("more apps than the kernel has slots"));
    }
    let mut image = Image { bytes: std::vec![0; to_usize(wall::KERNEL_OFFSET)] };
    let kernel = Program::open(kernel, wall::KERNEL_IMAGE)?;
    let text = image.place(&kernel.text);
    let rodata = image.place(&kernel.rodata);
    let data = image.place(&kernel.data);
    image.grow(kernel.zero_bytes);
    let stack_guard = data + kernel.data.len() as u64 + kernel.zero_bytes - wall::KERNEL_STACK_BYTES - PAGE;
    let mut maps = std::vec![
        (0, wall::KERNEL_OFFSET, Access::KernelReadOnly),
        (text, kernel.text.len() as u64, Access::KernelCode),
        (rodata, kernel.rodata.len() as u64, Access::KernelReadOnly),
        (data, stack_guard - data, Access::KernelData),
        (stack_guard + PAGE, wall::KERNEL_STACK_BYTES, Access::KernelData),
    ];
    let mut info = BootInfo::new_zeroed();
    for (index, app) in apps.iter().enumerate() {
        let placed = place_app(&mut image, app, index as u64 + 1, policy_bytes)?;
        maps.push((placed.data_from, placed.data_bytes, Access::KernelReadOnly));
        maps.push((placed.data_to, placed.zero_at + placed.zero_bytes - placed.data_to, Access::KernelData));
        info.apps[index] = placed;
    }
    let mut tables = Tables::at(image.end());
    for (offset, bytes, access) in maps.into_iter().filter(|&(_, bytes, _)| bytes != 0) {
        let from = (wall::KERNEL_VA + offset) % ADDRESS_LIMIT;
        tables.map(from, wall::SECURE_IPA + offset, bytes, access)?;
    }
    info.kernel_root = wall::SECURE_IPA + image.place(&tables.bytes());
    info.magic = BOOT_MAGIC;
    info.version = BOOT_VERSION;
    info.memory_bytes = image.end().next_multiple_of(BLOCK);
    info.policy_bytes = policy_bytes as u64;
    info.app_count = u32::try_from(apps.len()).unwrap_or(u32::MAX);
    let head = image.bytes.get_mut(..size_of::<BootInfo>()).ok_or(FlattenError("no room for the boot information"))?;
    head.copy_from_slice(info.as_bytes());
    Ok(image.bytes)
}

fn place_app(image: &mut Image, app: &App, asid: u64, policy_bytes: usize) -> Result<AppInfo, FlattenError> {
    let program = Program::open(&app.program, wall::APP_VA)?;
    let (text, rodata) = (image.place(&program.text), image.place(&program.rodata));
    let data_from = image.place(&program.data);
    let data_to = image.place(&program.data);
    let data_bytes = program.data.len() as u64;
    let zero_at = image.grow(program.zero_bytes + app.stack_bytes);
    let mut tables = Tables::at(image.end());
    let mut at = wall::APP_VA;
    let live = data_bytes + program.zero_bytes;
    for (offset, bytes, access) in [
        (text, program.text.len() as u64, Access::AppCode),
        (rodata, program.rodata.len() as u64, Access::AppReadOnly),
        (data_to, live, Access::AppData),
    ] {
        if bytes != 0 {
            tables.map(at, wall::SECURE_IPA + offset, bytes, access)?;
        }
        at += bytes;
    }
    let stack = wall::SECURE_IPA + zero_at + program.zero_bytes;
    tables.map(wall::APP_STACK_TOP - app.stack_bytes, stack, app.stack_bytes, Access::AppData)?;
    tables.map(wall::APP_BOOT_VA, wall::SECURE_IPA, wall::KERNEL_OFFSET, Access::AppReadOnly)?;
    let mut window = |flag, base, bytes: u64, access| match app.flags & flag {
        0 => Ok(()),
        _ => tables.map(base, base, bytes, access),
    };
    window(flags::AUDIT, wall::AUDIT_RING, bulkhead_abi::audit::RING_BYTES as u64, Access::AppReadOnly)?;
    window(flags::POLICY, wall::POLICY, (policy_bytes as u64).next_multiple_of(PAGE), Access::AppReadOnly)?;
    window(flags::GUEST_MEMORY, wall::GUEST_WINDOW, ADDRESS_LIMIT - wall::GUEST_WINDOW, Access::AppData)?;
    for (range, _) in &app.devices {
        let place = wall::DEVICE_WINDOW + range.base;
        tables.map(place, place, range.bytes, Access::AppDevice)?;
    }
    let mut info = AppInfo::new_zeroed();
    info.root = (wall::SECURE_IPA + image.place(&tables.bytes())) | asid << 48;
    info.entry = wall::APP_VA;
    (info.data_from, info.data_to, info.data_bytes) = (data_from, data_to, data_bytes);
    (info.zero_at, info.zero_bytes) = (zero_at, program.zero_bytes + app.stack_bytes);
    (info.budget_us, info.period_us, info.restart_limit) = (app.budget_us, app.period_us, app.restart_limit);
    (info.flags, info.subject, info.serves, info.priority) = (app.flags, app.subject, app.serves, app.priority);
    let name = app.name.as_bytes();
    if name.len() > info.name.len()
        || app.caps.len() > MAX_CAPS
        || app.irqs.len() > MAX_APP_IRQS
        || app.devices.len() > MAX_APP_DEVICES
    {
        return Err(FlattenError("an app's name, capabilities, interrupts or devices are too many for its row"));
    }
    info.name.iter_mut().zip(name).for_each(|(slot, &byte)| *slot = byte);
    info.caps.iter_mut().zip(&app.caps).for_each(|(slot, &capability)| *slot = capability);
    info.irqs.iter_mut().zip(&app.irqs).for_each(|(slot, &irq)| *slot = irq);
    for ((slot, irq), &(range, intid)) in info.devices.iter_mut().zip(&mut info.device_irqs).zip(&app.devices) {
        (*slot, *irq) = (range, intid);
    }
    info.cap_count = u8::try_from(app.caps.len()).unwrap_or(0);
    info.irq_count = u8::try_from(app.irqs.len()).unwrap_or(0);
    Ok(info)
}

/// The partition's memory as it grows, page by page.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn end(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Appends whole pages; returns their offset.
    fn place(&mut self, bytes: &[u8]) -> u64 {
        let at = self.end();
        self.bytes.extend_from_slice(bytes);
        self.grow(0);
        at
    }

    /// Appends zeros up to a page's end; returns the offset of the first.
    fn grow(&mut self, bytes: u64) -> u64 {
        let at = self.end();
        self.bytes.resize(to_usize((at + bytes).next_multiple_of(PAGE)), 0);
        at
    }
}

/// The segments of a static ELF file, each padded to whole pages.
struct Program {
    text: Vec<u8>,
    rodata: Vec<u8>,
    data: Vec<u8>,
    /// Zeroed data after `data`, whole pages.
    zero_bytes: u64,
}

impl Program {
    fn open(file: &[u8], base: u64) -> Result<Self, FlattenError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| FlattenError("not an ELF file"))?;
        let segments = elf.segments().ok_or(FlattenError("no program headers"))?;
        let mut program = Self { text: Vec::new(), rodata: Vec::new(), data: Vec::new(), zero_bytes: 0 };
        let mut next = base;
        for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz != 0) {
            let part = match segment.p_flags & (PF_W | PF_X) {
                PF_X => &mut program.text,
                0 => &mut program.rodata,
                PF_W => &mut program.data,
                _ => return Err(FlattenError("a segment is both writable and executable")),
            };
            if segment.p_vaddr != next || !part.is_empty() {
                return Err(FlattenError("the segments do not follow each other from the fixed address"));
            }
            let bytes = elf.segment_data(&segment).map_err(|_| FlattenError("a segment lies outside the file"))?;
            part.extend_from_slice(bytes);
            part.resize(part.len().next_multiple_of(to_usize(PAGE)), 0);
            let file_bytes = part.len() as u64;
            if segment.p_flags & PF_W != 0 {
                program.zero_bytes = segment.p_memsz.next_multiple_of(PAGE).saturating_sub(file_bytes);
            }
            next += file_bytes;
        }
        if program.text.is_empty() { Err(FlattenError("no code")) } else { Ok(program) }
    }
}

/// Translation tables under construction, which will lie at an offset of the partition.
struct Tables {
    tables: Vec<[u64; ENTRIES]>,
    base: u64,
}

impl Tables {
    fn at(offset: u64) -> Self {
        Self { tables: std::vec![[0; ENTRIES]], base: wall::SECURE_IPA + offset }
    }

    fn map(&mut self, from: u64, to: u64, bytes: u64, access: Access) -> Result<(), FlattenError> {
        map(self, from, to, bytes, access).map_err(|_| FlattenError("two parts of an address space overlap"))
    }

    fn bytes(&self) -> Vec<u8> {
        self.tables.as_bytes().to_vec()
    }
}

impl TableMemory for Tables {
    fn format(&self) -> Format {
        Format::Aarch64
    }
    fn read(&self, table: usize, entry: usize) -> u64 {
        self.tables.get(table).and_then(|table| table.get(entry)).copied().unwrap_or(0)
    }
    fn write(&mut self, table: usize, entry: usize, value: u64) {
        if let Some(slot) = self.tables.get_mut(table).and_then(|table| table.get_mut(entry)) {
            *slot = value;
        }
    }
    fn take(&mut self) -> Option<usize> {
        self.tables.push([0; ENTRIES]);
        Some(self.tables.len() - 1)
    }
    fn address(&self, table: usize) -> u64 {
        self.base + table as u64 * PAGE
    }
    fn at(&self, address: u64) -> Option<usize> {
        let table = usize::try_from(address.checked_sub(self.base)? / PAGE).ok()?;
        (table < self.tables.len()).then_some(table)
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
