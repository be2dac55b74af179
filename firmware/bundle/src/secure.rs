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
use elf::abi::{EM_AARCH64, EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use zerocopy::{FromZeros, IntoBytes};

use crate::build::FlattenError;

const PAGE: u64 = 4096;
/// The partition is a multiple of this.
const BLOCK: u64 = 2 << 20;

/// What the partition runs on: the programs' instructions and the format of the translation tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// EL1 and EL0 of AArch64: each half of the address space has its own root.
    Aarch64,
    /// Rings 0 and 3 of x86-64: every app's root holds the kernel's half too.
    X86_64,
}

impl Architecture {
    const fn format(self) -> Format {
        match self {
            Self::Aarch64 => Format::Aarch64,
            Self::X86_64 => Format::LongMode,
        }
    }

    const fn elf_machine(self) -> u16 {
        match self {
            Self::Aarch64 => EM_AARCH64,
            Self::X86_64 => EM_X86_64,
        }
    }

    /// Where the kernel's half lies in its tables: at the root's start, or at its end (a root of 48 bits' addresses).
    const fn in_kernel_tables(self, address: u64) -> u64 {
        match self {
            Self::Aarch64 => address % ADDRESS_LIMIT,
            Self::X86_64 => address % (1 << 48),
        }
    }

    /// What an app's root holds beside the table's address: on AArch64 the ASID, of the app's number from 1.
    const fn root_bits(self, number: u64) -> u64 {
        match self {
            Self::Aarch64 => number << 48,
            Self::X86_64 => 0,
        }
    }
}

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
    /// x86-64: ports that it drives.
    pub ports: Vec<Range>,
    /// What it may call.
    pub caps: Vec<Capability>,
    /// Stack, a multiple of 4 KiB.
    pub stack_bytes: u64,
}

/// Lays the partition out. The image starts at [`wall::SECURE_IPA`].
///
/// # Errors
/// The rule that a program or the manifest breaks.
pub fn secure_image(
    architecture: Architecture,
    kernel: &[u8],
    apps: &[App],
    policy_bytes: usize,
) -> Result<Vec<u8>, FlattenError> {
    if apps.len() > MAX_APPS {
        return Err(FlattenError("more apps than the kernel has slots"));
    }
    let mut image = Image { bytes: std::vec![0; to_usize(wall::KERNEL_OFFSET)] };
    let kernel = Program::open(architecture, kernel, wall::KERNEL_IMAGE)?;
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
        let mut placed = place_app(&mut image, architecture, app, policy_bytes)?;
        maps.push((placed.data_from, placed.data_bytes, Access::KernelReadOnly));
        maps.push((placed.data_to, placed.zero_at + placed.zero_bytes - placed.data_to, Access::KernelData));
        placed.root |= architecture.root_bits(index as u64 + 1);
        info.apps[index] = placed;
    }
    let mut tables = Tables::at(architecture, image.end());
    for (offset, bytes, access) in maps.into_iter().filter(|&(_, bytes, _)| bytes != 0) {
        let from = architecture.in_kernel_tables(wall::KERNEL_VA + offset);
        tables.map(from, wall::SECURE_IPA + offset, bytes, access)?;
    }
    info.kernel_root = wall::SECURE_IPA + image.place(&tables.bytes());
    if architecture == Architecture::X86_64 {
        // The kernel's half hangs from the last entry, and all share the tables below it.
        let half = tables.read(0, ENTRIES - 1);
        for app in &info.apps[..apps.len()] {
            image.write(app.root - wall::SECURE_IPA + (ENTRIES as u64 - 1) * 8, half)?;
        }
    }
    info.magic = BOOT_MAGIC;
    info.version = BOOT_VERSION;
    info.memory_bytes = image.end().next_multiple_of(BLOCK);
    info.policy_bytes = policy_bytes as u64;
    info.app_count = u32::try_from(apps.len()).unwrap_or(u32::MAX);
    let head = image.bytes.get_mut(..size_of::<BootInfo>()).ok_or(FlattenError("no room for the boot information"))?;
    head.copy_from_slice(info.as_bytes());
    Ok(image.bytes)
}

fn place_app(
    image: &mut Image,
    architecture: Architecture,
    app: &App,
    policy_bytes: usize,
) -> Result<AppInfo, FlattenError> {
    let program = Program::open(architecture, &app.program, wall::APP_VA)?;
    let (text, rodata) = (image.place(&program.text), image.place(&program.rodata));
    let data_from = image.place(&program.data);
    let data_to = image.place(&program.data);
    let data_bytes = program.data.len() as u64;
    let zero_at = image.grow(program.zero_bytes + app.stack_bytes);
    let mut tables = Tables::at(architecture, image.end());
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
    info.root = wall::SECURE_IPA + image.place(&tables.bytes());
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
        || app.ports.len() > MAX_APP_DEVICES
    {
        return Err(FlattenError("an app's name, capabilities, interrupts, devices or ports are too many for its row"));
    }
    info.name.iter_mut().zip(name).for_each(|(slot, &byte)| *slot = byte);
    info.caps.iter_mut().zip(&app.caps).for_each(|(slot, &capability)| *slot = capability);
    info.irqs.iter_mut().zip(&app.irqs).for_each(|(slot, &irq)| *slot = irq);
    for ((slot, irq), &(range, intid)) in info.devices.iter_mut().zip(&mut info.device_irqs).zip(&app.devices) {
        (*slot, *irq) = (range, intid);
    }
    info.ports.iter_mut().zip(&app.ports).for_each(|(slot, &ports)| *slot = ports);
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

    /// Changes the word at an offset.
    fn write(&mut self, offset: u64, word: u64) -> Result<(), FlattenError> {
        let at = to_usize(offset);
        let slot = self.bytes.get_mut(at..at + 8).ok_or(FlattenError("a table lies outside the partition"))?;
        slot.copy_from_slice(&word.to_le_bytes());
        Ok(())
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
    fn open(architecture: Architecture, file: &[u8], base: u64) -> Result<Self, FlattenError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| FlattenError("not an ELF file"))?;
        if elf.ehdr.e_machine != architecture.elf_machine() {
            return Err(FlattenError("a program for another architecture"));
        }
        if elf.ehdr.e_type != ET_EXEC {
            return Err(FlattenError("a program that has to be relocated"));
        }
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
    format: Format,
    tables: Vec<[u64; ENTRIES]>,
    base: u64,
}

impl Tables {
    fn at(architecture: Architecture, offset: u64) -> Self {
        Self { format: architecture.format(), tables: std::vec![[0; ENTRIES]], base: wall::SECURE_IPA + offset }
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
        self.format
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

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_hypervisor_core::paging::translate;
    use elf::abi::{ET_DYN, PF_R};

    const BOTH: [Architecture; 2] = [Architecture::Aarch64, Architecture::X86_64];

    /// A static program of three segments: code, read-only data, and data with zeros behind it.
    fn program(machine: u16, kind: u16, base: u64, zeros: u64) -> Vec<u8> {
        let mut file = std::vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &kind.to_le_bytes());
        put(18, &machine.to_le_bytes());
        put(20, &1_u32.to_le_bytes());
        put(24, &base.to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(52, &64_u16.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &3_u16.to_le_bytes());
        let data = 64 + 3 * 56;
        for (rights, at, zeros) in [(PF_R | PF_X, 0, 0), (PF_R, 1, 0), (PF_R | PF_W, 2, zeros)] {
            file.extend_from_slice(&PT_LOAD.to_le_bytes());
            file.extend_from_slice(&rights.to_le_bytes());
            for word in [data + at * PAGE, base + at * PAGE, base + at * PAGE, PAGE, PAGE + zeros, PAGE] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        }
        file.resize(to_usize(data + 3 * PAGE), 0x5a);
        file
    }

    fn app(architecture: Architecture, name: &str) -> App {
        App {
            name: name.into(),
            program: program(architecture.elf_machine(), ET_EXEC, wall::APP_VA, 2 * PAGE),
            subject: 2,
            serves: bulkhead_abi::boot::NO_OBJECT,
            priority: 0,
            budget_us: 0,
            period_us: 0,
            restart_limit: 1,
            flags: flags::GUEST_MEMORY | flags::AUDIT | flags::POLICY,
            irqs: Vec::new(),
            devices: std::vec![(Range { base: 0x901_0000, bytes: PAGE }, 34)],
            ports: Vec::new(),
            caps: Vec::new(),
            stack_bytes: 4 * PAGE,
        }
    }

    fn kernel(architecture: Architecture) -> Vec<u8> {
        let zeros = 4 * PAGE + PAGE + wall::KERNEL_STACK_BYTES;
        program(architecture.elf_machine(), ET_EXEC, wall::KERNEL_IMAGE, zeros)
    }

    /// A partition as the MMU sees it: its bytes, walked from a root.
    struct Walked<'a> {
        architecture: Architecture,
        image: &'a [u8],
        root: u64,
    }

    impl Walked<'_> {
        fn entry(&self, address: u64) -> u64 {
            let at = to_usize(address - wall::SECURE_IPA);
            u64::from_le_bytes(self.image[at..at + 8].try_into().unwrap())
        }
    }

    impl TableMemory for Walked<'_> {
        fn format(&self) -> Format {
            self.architecture.format()
        }
        fn read(&self, table: usize, entry: usize) -> u64 {
            let table = if table == 0 { self.root } else { table as u64 * PAGE };
            self.entry(table + entry as u64 * 8)
        }
        fn write(&mut self, _: usize, _: usize, _: u64) {}
        fn take(&mut self) -> Option<usize> {
            None
        }
        fn address(&self, table: usize) -> u64 {
            table as u64 * PAGE
        }
        fn at(&self, address: u64) -> Option<usize> {
            Some(to_usize(address / PAGE))
        }
    }

    /// What an address space allows at an address: the page behind it, and the rights.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Page {
        at: u64,
        is_user: bool,
        is_written: bool,
        is_executed: bool,
    }

    impl Page {
        fn of(architecture: Architecture, (at, bits): (u64, u64)) -> Self {
            let bit = |number: u32| bits >> number & 1 != 0;
            match architecture {
                Architecture::Aarch64 => {
                    Self { at, is_user: bit(6), is_written: !bit(7), is_executed: !bit(53) || !bit(54) }
                }
                Architecture::X86_64 => Self { at, is_user: bit(2), is_written: bit(1), is_executed: !bit(63) },
            }
        }
    }

    struct Partition {
        architecture: Architecture,
        image: Vec<u8>,
        info: BootInfo,
    }

    impl Partition {
        fn new(architecture: Architecture) -> Self {
            let apps = [app(architecture, "one"), app(architecture, "two")];
            let image = secure_image(architecture, &kernel(architecture), &apps, 5000).unwrap();
            let (info, _) = zerocopy::FromBytes::read_from_prefix(&image).unwrap();
            Self { architecture, image, info }
        }

        /// What the whole of one half maps: `root` from its first page, the kernel's half from its own.
        fn pages(&self, root: u64, from: u64, bytes: u64) -> Vec<Page> {
            let root = root & 0xffff_ffff_f000;
            let walked = Walked { architecture: self.architecture, image: &self.image, root };
            let all = (0..bytes / PAGE).filter_map(|page| translate(&walked, from + page * PAGE));
            all.map(|hit| Page::of(self.architecture, hit)).collect()
        }

        /// The kernel's half, seen from the kernel's root or, on x86-64, from an app's.
        fn kernel_pages(&self, root: u64) -> Vec<Page> {
            let from = self.architecture.in_kernel_tables(wall::KERNEL_VA);
            self.pages(root, from, self.info.memory_bytes)
        }

        /// An app's image, stack, boot information, and the first pages of its windows.
        fn app_pages(&self, app: &AppInfo) -> Vec<Page> {
            let windows = [wall::AUDIT_RING, wall::POLICY, wall::GUEST_WINDOW, wall::DEVICE_WINDOW + 0x901_0000];
            let mut pages = self.pages(app.root, 0, 16 << 20);
            pages.extend(windows.iter().flat_map(|&window| self.pages(app.root, window, PAGE)));
            pages
        }

        fn apps(&self) -> &[AppInfo] {
            &self.info.apps[..2]
        }
    }

    #[test]
    fn code_is_not_written_and_data_not_executed_in_any_half() {
        for architecture in BOTH {
            let partition = Partition::new(architecture);
            let kernel = partition.kernel_pages(partition.info.kernel_root);
            assert_eq!(kernel.iter().filter(|page| page.is_executed).count(), 1, "{architecture:?}");
            for app in partition.apps() {
                let pages = partition.app_pages(app);
                assert_eq!(pages.iter().filter(|page| page.is_executed).count(), 1, "{architecture:?}");
                assert!(pages.iter().chain(&kernel).all(|page| !(page.is_executed && page.is_written)));
            }
        }
    }

    #[test]
    fn apps_reach_their_own_pages_and_none_of_the_kernel() {
        for architecture in BOTH {
            let partition = Partition::new(architecture);
            let kernel = partition.kernel_pages(partition.info.kernel_root);
            assert!(kernel.len() > 16 && kernel.iter().all(|page| !page.is_user), "{architecture:?}");
            let [one, two] = partition.apps() else { panic!() };
            // Code, read-only data, data and zeros 5, stack 4, boot information 16, one of each window.
            let pages = partition.app_pages(one);
            assert_eq!((pages.len(), pages.iter().all(|page| page.is_user)), (5 + 4 + 16 + 4, true));
            let written = |app| {
                let of_partition = |page: &Page| page.is_written && page.at < wall::AUDIT_RING;
                partition.app_pages(app).into_iter().filter(of_partition).map(|page| page.at).collect::<Vec<_>>()
            };
            assert_eq!(written(one).len(), 3 + 4);
            assert!(written(one).iter().all(|at| !written(two).contains(at)), "no app writes to another's memory");
        }
    }

    #[test]
    fn no_table_is_mapped_anywhere() {
        for architecture in BOTH {
            let partition = Partition::new(architecture);
            let mut tables = Vec::new();
            for root in partition.apps().iter().map(|app| app.root).chain([partition.info.kernel_root]) {
                let walked = Walked { architecture, image: &partition.image, root: root & 0xffff_ffff_f000 };
                let levels = if architecture == Architecture::Aarch64 { 2 } else { 3 };
                collect(&walked, walked.root, levels, &mut tables);
            }
            let mut mapped = partition.kernel_pages(partition.info.kernel_root);
            mapped.extend(partition.apps().iter().flat_map(|app| partition.app_pages(app)));
            assert!(tables.len() > 9 && mapped.iter().all(|page| !tables.contains(&page.at)), "{architecture:?}");
        }
    }

    /// The tables below `table`, which has `levels` levels of tables below it.
    fn collect(walked: &Walked<'_>, table: u64, levels: u32, tables: &mut Vec<u64>) {
        tables.push(table);
        for entry in (0..ENTRIES as u64).map(|entry| walked.entry(table + entry * 8)) {
            let is_table = match walked.architecture {
                Architecture::Aarch64 => entry & 3 == 3,
                Architecture::X86_64 => entry & 0x81 == 1,
            };
            if is_table && levels > 0 {
                collect(walked, entry & 0xffff_ffff_f000, levels - 1, tables);
            }
        }
    }

    #[test]
    fn every_root_of_x86_64_maps_the_kernel_alike_and_names_no_asid() {
        let partition = Partition::new(Architecture::X86_64);
        let own = partition.kernel_pages(partition.info.kernel_root);
        assert_eq!(partition.pages(partition.info.kernel_root, 0, 16 << 20), [], "the kernel's root has no app's half");
        for app in partition.apps() {
            assert_eq!(partition.kernel_pages(app.root), own);
            assert_eq!(app.root % PAGE, 0);
            assert!(app.root < 1 << 48);
        }
    }

    #[test]
    fn the_roots_of_aarch64_carry_the_asids_and_keep_the_halves_apart() {
        let partition = Partition::new(Architecture::Aarch64);
        let asids: Vec<u64> = partition.apps().iter().map(|app| app.root >> 48).collect();
        assert_eq!(asids, [1, 2]);
        assert!(partition.apps().iter().all(|app| partition.kernel_pages(app.root).is_empty()));
    }

    #[test]
    fn the_page_below_the_kernel_s_stack_is_not_mapped() {
        for architecture in BOTH {
            let partition = Partition::new(architecture);
            let stack = wall::KERNEL_OFFSET + 3 * PAGE + 4 * PAGE + PAGE;
            let at = |offset| {
                let from = architecture.in_kernel_tables(wall::KERNEL_VA + offset);
                partition.pages(partition.info.kernel_root, from, PAGE).len()
            };
            assert_eq!((at(stack - 2 * PAGE), at(stack - PAGE), at(stack)), (1, 0, 1));
        }
    }

    #[test]
    fn an_apps_row_tells_its_ports_and_has_room_for_two() {
        let ports = [Range { base: 0x70, bytes: 2 }, Range { base: 0x80, bytes: 1 }, Range { base: 0x300, bytes: 8 }];
        let build = |count: usize| {
            let app = App { ports: ports[..count].to_vec(), ..app(Architecture::X86_64, "one") };
            secure_image(Architecture::X86_64, &kernel(Architecture::X86_64), &[app], 5000)
        };
        let image = build(2).unwrap();
        let (info, _): (BootInfo, _) = zerocopy::FromBytes::read_from_prefix(&image).unwrap();
        assert_eq!((&info.apps[0].ports[..], info.apps[0].devices[0].base), (&ports[..2], 0x901_0000));
        assert!(build(3).is_err_and(|error| error.0.contains("too many for its row")));
    }

    #[test]
    fn programs_of_another_architecture_or_that_must_be_relocated_are_refused() {
        for (architecture, other) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
            let build = |program| {
                let app = App { program, ..app(architecture, "one") };
                secure_image(architecture, &kernel(architecture), &[app], 5000).map(|_| ()).map_err(|error| error.0)
            };
            let own = architecture.elf_machine();
            assert_eq!(build(program(own, ET_EXEC, wall::APP_VA, 0)), Ok(()));
            let foreign = build(program(other.elf_machine(), ET_EXEC, wall::APP_VA, 0));
            assert_eq!(foreign, Err("a program for another architecture"));
            let moved = build(program(own, ET_DYN, wall::APP_VA, 0));
            assert_eq!(moved, Err("a program that has to be relocated"));
        }
    }
}
