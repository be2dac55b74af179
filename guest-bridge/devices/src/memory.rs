//! Guest memory as a device sees it.

/// A range is not all guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// Memory that the guest writes to at any time: it is copied from and to, never borrowed.
pub trait SharedMem {
    /// Copies from guest-physical address `from`.
    ///
    /// # Errors
    /// [`OutOfRange`] if any byte of the range is not guest memory; nothing may be relied on then.
    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), OutOfRange>;

    /// Copies to guest-physical address `to`.
    ///
    /// # Errors
    /// [`OutOfRange`] if any byte of the range is not guest memory; nothing was written then.
    fn write(&mut self, to: u64, from: &[u8]) -> Result<(), OutOfRange>;

    /// A 16-bit little-endian number.
    ///
    /// # Errors
    /// As [`SharedMem::read`].
    fn read_u16(&self, from: u64) -> Result<u16, OutOfRange> {
        let mut bytes = [0; 2];
        self.read(from, &mut bytes).map(|()| u16::from_le_bytes(bytes))
    }

    /// Writes a 16-bit little-endian number.
    ///
    /// # Errors
    /// As [`SharedMem::write`].
    fn write_u16(&mut self, to: u64, value: u16) -> Result<(), OutOfRange> {
        self.write(to, &value.to_le_bytes())
    }
}
