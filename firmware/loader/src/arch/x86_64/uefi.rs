//! What UEFI firmware hands over, asked for while it is still there; then it is left behind for good.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use bulkhead_loader::x86_64::uefi::BUNDLE;
use uefi_raw::Handle;
use uefi_raw::table::system::SystemTable;

use super::firmware::Firmware;
use super::{Choice, Found, Output, Root, ground};

/// What the loader is started with.
pub(crate) struct BootChain(Firmware);

/// Called on the loader's own stack.
pub(super) extern "efiapi" fn entered(image: Handle, table: *mut SystemTable) -> ! {
    crate::start(BootChain(Firmware::new(image, table)))
}

impl BootChain {
    /// Asks for everything, and leaves the firmware. What can be refused is refused before, as long as its screen can say why.
    pub(super) fn found(&self, out: &mut Output) -> Result<Found, String> {
        let firmware = &self.0;
        let image = firmware.image().ok_or("the firmware does not say where the loader lies")?;
        ground::prepare(image)?;
        let mut found = Found {
            map: firmware.memory_map().map_err(|error| error.to_string())?,
            root: Root::At(firmware.root().unwrap_or_default()),
            bundle: firmware.bundle()?,
            last: firmware.last_policy(),
            busy: Vec::from([image]),
            remedy: alloc::format!("{BUNDLE} is missing on the volume that the loader was started from"),
        };
        // The map as it is with the bundle in memory.
        found.map = firmware.memory_map().map_err(|error| error.to_string())?;
        let choice = Choice::make(&found, out)?;
        choice.rehearse()?;
        if !choice.parts.is_last && !firmware.remember(&choice.parts.running) {
            let _ = writeln!(out, "loader: the firmware does not remember this policy for the next start");
        }
        found.map = firmware.leave()?;
        ground::stand();
        Ok(found)
    }
}
