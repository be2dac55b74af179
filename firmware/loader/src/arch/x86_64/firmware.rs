//! Calls to UEFI firmware (UEFI 2.10), each once: they are sound until its boot services are left, which happens here.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use bulkhead_hypervisor_core::plan::{Range, console};
use bulkhead_loader::last::{Last, RAN_BYTES, Ran};
use bulkhead_loader::wall::PAGE;
use bulkhead_loader::x86_64::map::Entry;
use bulkhead_loader::x86_64::uefi::{self, BUNDLE, MAX_MAP_BYTES, UefiError};
use uefi_raw::protocol::file_system::{FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::{AllocateType, BootServices, MemoryType};
use uefi_raw::table::runtime::{ResetType, RuntimeServices, VariableAttributes};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status, guid};

use super::Output;

/// The system table while boot services can be called; null before and after.
static PRESENT: AtomicPtr<SystemTable> = AtomicPtr::new(ptr::null_mut());

/// Where the memory map is written to: nothing is allocated between reading it and leaving.
#[repr(align(8))]
struct MapSpace(UnsafeCell<[u8; MAX_MAP_BYTES]>);
// SAFETY: one CPU; only `read_map` uses the space.
unsafe impl Sync for MapSpace {}
static MAP_SPACE: MapSpace = MapSpace(UnsafeCell::new([0; MAX_MAP_BYTES]));

/// The variable of the last policy: kept without power, and gone for whatever runs after boot services.
const VARIABLE: &str = "BulkheadPolicy";
/// Its namespace, made up once for it.
const OWN: Guid = guid!("6f0c1d3e-5a7b-4c0e-9b57-2f8f4f6d9a21");
const KEPT: VariableAttributes = VariableAttributes::NON_VOLATILE.union(VariableAttributes::BOOTSERVICE_ACCESS);

/// How often the map may change between reading it and leaving.
const ATTEMPTS: usize = 8;
/// The most that is asked for at once: some firmwares fail on more.
const READ_BYTES: usize = 1 << 20;

/// The firmware while it is there.
pub(super) struct Firmware {
    image: Handle,
    table: *mut SystemTable,
}

impl Firmware {
    /// Of what the entry point got (§4.1).
    pub(super) fn new(image: Handle, table: *mut SystemTable) -> Self {
        PRESENT.store(table, Ordering::Relaxed);
        Self { image, table }
    }

    /// Boot services (§4.4).
    fn services(&self) -> &BootServices {
        // SAFETY: firmware gave the system table to the entry point (§4.1), and it and its services stay where they are until
        // `leave`, which is the last to ask.
        unsafe { &*(*self.table).boot_services }
    }

    /// Runtime services (§4.5), while boot services are there too.
    fn runtime(&self) -> &RuntimeServices {
        // SAFETY: as for `services`.
        unsafe { &*(*self.table).runtime_services }
    }

    /// A protocol of a handle (§7.3.7).
    fn protocol<T>(&self, handle: Handle, name: &Guid) -> Option<NonNull<T>> {
        let mut found: *mut c_void = ptr::null_mut();
        // SAFETY: both pointers are to places of our own; handles come from firmware, which checks them.
        let status = unsafe { (self.services().handle_protocol)(handle, name, &raw mut found) };
        if status == Status::SUCCESS { NonNull::new(found.cast()) } else { None }
    }

    fn loaded(&self) -> Option<NonNull<LoadedImageProtocol>> {
        self.protocol(self.image, &LoadedImageProtocol::GUID)
    }

    /// Where this program lies (§9.1).
    pub(super) fn image(&self) -> Option<Range> {
        // SAFETY: the protocol's structure is the firmware's, and stays as long as the program is loaded.
        let loaded = unsafe { self.loaded()?.read() };
        let range = Range { base: loaded.image_base.addr() as u64, bytes: loaded.image_size.next_multiple_of(PAGE) };
        let own = MAP_SPACE.0.get().addr() as u64;
        range.holds(Range { base: own, bytes: MAX_MAP_BYTES as u64 }).then_some(range)
    }

    /// Where ACPI's root pointer lies (§4.6).
    pub(super) fn root(&self) -> Option<u64> {
        // SAFETY: as for `services`.
        let (first, count) = unsafe {
            let table = &*self.table;
            (table.configuration_table, table.number_of_configuration_table_entries)
        };
        let tables = (0..if first.is_null() { 0 } else { count }).map(|index| {
            // SAFETY: the firmware says that its list has so many entries.
            let entry = unsafe { first.add(index).read_unaligned() };
            (entry.vendor_guid.to_bytes(), entry.vendor_table.addr() as u64)
        });
        uefi::root(tables)
    }

    /// The bundle's file, read into memory below 4 GiB; `None` if it is not there.
    pub(super) fn bundle(&self) -> Result<Option<Range>, String> {
        let Some(file) = self.open_bundle() else { return Ok(None) };
        let bytes = file.bytes().ok_or_else(|| alloc::format!("the bundle ({BUNDLE}) cannot be read"))?;
        let pages = uefi::pages(bytes).map_err(|error| error.to_string())?;
        let mut base = u64::from(u32::MAX);
        // SAFETY: the address is a place of our own (§7.2.1).
        let status = unsafe {
            (self.services().allocate_pages)(AllocateType::MAX_ADDRESS, MemoryType::LOADER_DATA, pages, &raw mut base)
        };
        if status != Status::SUCCESS || base == 0 {
            return Err(UefiError::NoRoom(bytes).to_string());
        }
        let mut done = 0;
        while done < bytes {
            let wanted = usize::try_from(bytes - done).unwrap_or(READ_BYTES).min(READ_BYTES);
            // SAFETY: the pages from `base` on are ours, and `done + wanted` bytes lie within them.
            let read = unsafe { file.read((base + done) as *mut c_void, wanted) };
            match read {
                Some(read @ 1..) if read <= wanted => done += read as u64,
                _ => return Err(alloc::format!("the bundle ({BUNDLE}) cannot be read: {done} of {bytes} bytes")),
            }
        }
        Ok(Some(Range { base, bytes }))
    }

    fn open_bundle(&self) -> Option<File> {
        let name: [u16; BUNDLE.len() + 1] = units(BUNDLE);
        // SAFETY: as for `image`.
        let device = unsafe { self.loaded()?.read() }.device_handle;
        let system: NonNull<SimpleFileSystemProtocol> = self.protocol(device, &SimpleFileSystemProtocol::GUID)?;
        let mut root = ptr::null_mut();
        // SAFETY: the protocol's functions get their own structure, and a place of ours for the answer (§13.4.2).
        let status = unsafe { (system.as_ref().open_volume)(system.as_ptr(), &raw mut root) };
        let root = NonNull::new(root).filter(|_| status == Status::SUCCESS)?;
        let mut file = ptr::null_mut();
        // SAFETY: as above; the name ends with a zero (§13.5.2).
        let status = unsafe {
            (root.as_ref().open)(root.as_ptr(), &raw mut file, name.as_ptr(), FileMode::READ, FileAttribute::empty())
        };
        NonNull::new(file).filter(|_| status == Status::SUCCESS).map(File)
    }

    /// What it remembers of the last start (§8.2): a variable that only what runs before the guest can read or write.
    pub(super) fn last_policy(&self) -> Last {
        let (mut bytes, mut length, mut attributes) = ([0; RAN_BYTES], RAN_BYTES, VariableAttributes::empty());
        // SAFETY: the name ends with a zero, and the other pointers are to places of our own, of the length that is told.
        let status = unsafe {
            (self.runtime().get_variable)(
                variable().as_ptr(),
                &OWN,
                &raw mut attributes,
                &raw mut length,
                bytes.as_mut_ptr(),
            )
        };
        match status {
            Status::NOT_FOUND => Last::Nothing,
            Status::SUCCESS => Last::read(bytes.get(..length).unwrap_or_default(), attributes == KEPT),
            // Longer than ours, or a fault of the firmware.
            _ => Last::Damaged,
        }
    }

    /// Writes down what starts now. False: the firmware does not take it.
    pub(super) fn remember(&self, running: &Ran) -> bool {
        let set = |attributes: VariableAttributes, bytes: &[u8]| {
            let name = variable();
            // SAFETY: as for `last_policy`; firmware copies the bytes.
            unsafe { (self.runtime().set_variable)(name.as_ptr(), &OWN, attributes, bytes.len(), bytes.as_ptr()) }
        };
        let bytes = running.bytes();
        // One with other attributes has to go first: no bytes, and no access, delete it.
        set(KEPT, &bytes) == Status::SUCCESS || {
            let _ = set(VariableAttributes::empty(), &[]);
            set(KEPT, &bytes) == Status::SUCCESS
        }
    }

    /// The memory map as it is now.
    pub(super) fn memory_map(&self) -> Result<Vec<Entry>, UefiError> {
        let (bytes, descriptor_bytes, _) = self.read_map().ok_or(UefiError::Map)?;
        uefi::memory_map(bytes, descriptor_bytes)
    }

    /// Its bytes, the length of a descriptor, and the key that leaving asks for (§7.2.3).
    fn read_map(&self) -> Option<(&[u8], usize, usize)> {
        let (mut bytes, mut key, mut descriptor_bytes, mut version) = (MAX_MAP_BYTES, 0, 0, 0);
        let space = MAP_SPACE.0.get();
        // SAFETY: the space has `bytes` bytes, and nothing else refers to it: earlier answers were read to their end.
        let status = unsafe {
            (self.services().get_memory_map)(
                &raw mut bytes,
                space.cast(),
                &raw mut key,
                &raw mut descriptor_bytes,
                &raw mut version,
            )
        };
        if status != Status::SUCCESS {
            return None;
        }
        // SAFETY: as above; whoever gets the reference reads it before the next call.
        let space = unsafe { &*space };
        Some((space.get(..bytes)?, descriptor_bytes, key))
    }

    /// Ends boot services (§7.4.6): memory and devices are ours from here on. The memory map is the last one.
    pub(super) fn leave(&self) -> Result<Vec<Entry>, String> {
        PRESENT.store(ptr::null_mut(), Ordering::Relaxed);
        for _ in 0..ATTEMPTS {
            let Some((bytes, descriptor_bytes, key)) = self.read_map() else { continue };
            // SAFETY: the key is that of the map as it is; on failure nothing but reading the map and leaving is tried again.
            if unsafe { (self.services().exit_boot_services)(self.image, key) } == Status::SUCCESS {
                return uefi::memory_map(bytes, descriptor_bytes).map_err(|error| error.to_string());
            }
        }
        Err("the firmware does not end its boot services".to_string())
    }
}

fn variable() -> [u16; VARIABLE.len() + 1] {
    units(VARIABLE)
}

/// A name as firmware takes it: letters of 16 bits, and a zero at the end, as N is longer than the name.
fn units<const N: usize>(name: &str) -> [u16; N] {
    let mut units = [0; N];
    units.iter_mut().zip(name.encode_utf16()).for_each(|(slot, unit)| *slot = unit);
    units
}

/// The bundle's file (§13.5). It stays open: leaving ends everything.
struct File(NonNull<FileProtocolV1>);

impl File {
    /// How long it is.
    fn bytes(&self) -> Option<u64> {
        const END: u64 = u64::MAX;
        let (file, mut end) = (self.0.as_ptr(), 0);
        // SAFETY: the file is open, and its functions get it and a place of ours (§13.5.11, §13.5.12).
        let states = unsafe {
            let functions = self.0.as_ref();
            [
                (functions.set_position)(file, END),
                (functions.get_position)(file, &raw mut end),
                (functions.set_position)(file, 0),
            ]
        };
        states.iter().all(|status| *status == Status::SUCCESS).then_some(end)
    }

    /// Reads on, at most so many bytes; how many there were.
    ///
    /// # Safety
    /// So many bytes from `to` on are the caller's, and nothing refers to them.
    unsafe fn read(&self, to: *mut c_void, mut bytes: usize) -> Option<usize> {
        // SAFETY: the file is open; `to` is as the caller promises (§13.5.5).
        let status = unsafe { (self.0.as_ref().read)(self.0.as_ptr(), &raw mut bytes, to) };
        (status == Status::SUCCESS).then_some(bytes)
    }
}

/// Writes to the firmware's console, as long as there is one.
pub(super) fn say(text: &str) {
    let table = PRESENT.load(Ordering::Relaxed);
    if table.is_null() {
        return;
    }
    // SAFETY: boot services are there, and with them the console (§12.4).
    let console = unsafe { (*table).stdout };
    let mut units = text.chars().flat_map(|letter| [(letter == '\n').then_some('\r'), Some(letter)]).flatten();
    loop {
        // Zero at the end; letters beyond the basic plane are not in our messages.
        let mut piece = [0_u16; 64];
        let slots = piece.iter_mut().take(63);
        let count = slots.zip(&mut units).map(|(slot, letter)| *slot = letter as u16).count();
        if count == 0 || console.is_null() {
            return;
        }
        // SAFETY: as above; the piece ends with a zero.
        let _ = unsafe { ((*console).output_string)(console, piece.as_ptr()) };
    }
}

/// Powers the machine off by the firmware, as long as it is there.
pub(super) fn power_off() {
    const SECONDS: usize = 10;
    let table = PRESENT.swap(ptr::null_mut(), Ordering::Relaxed);
    if table.is_null() {
        return;
    }
    // SAFETY: boot services are there, and runtime services are always (§7.5.2, §8.5.1).
    unsafe {
        // Where the screen is all that says why, somebody has to have read it.
        if Output::find().kind == console::NONE {
            let _ = ((*(*table).boot_services).stall)(SECONDS * 1_000_000);
        }
        ((*(*table).runtime_services).reset_system)(ResetType::SHUTDOWN, Status::LOAD_ERROR, 0, ptr::null())
    }
}
