//! The split virtqueue, device side (virtio 1.2 §2.7), without indirect descriptors and event indices, which are not offered.

use crate::memory::{OutOfRange, SharedMem};

/// The most entries of a queue.
pub const QUEUE_MAX: u16 = 64;
/// The most buffers of one chain, and its most bytes: what a console driver needs, with room.
const PARTS: usize = 16;
const CHAIN_BYTES: u64 = 1 << 20;

/// The driver broke the ring's rules: the device stops until it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl From<OutOfRange> for Broken {
    fn from(_: OutOfRange) -> Self {
        Self
    }
}

/// A queue as the driver set it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) size: u16,
    pub(crate) is_ready: bool,
    /// Guest-physical addresses of the three parts.
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    next_available: u16,
    next_used: u16,
}

/// A buffer of the guest.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    address: u64,
    bytes: u32,
}

/// A chain of buffers, each fetched once: all readable or all writable by the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    head: u16,
    parts: [Part; PARTS],
    count: usize,
    is_writable: bool,
    bytes: u64,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// `used.flags`: the device does not want to be told of new buffers.
const NO_NOTIFY: u16 = 1;

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            size: QUEUE_MAX,
            is_ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
            next_available: 0,
            next_used: 0,
        }
    }

    /// Takes the next chain that the driver made available.
    pub(crate) fn pop(&mut self, memory: &impl SharedMem) -> Result<Option<Chain>, Broken> {
        if !self.is_ready {
            return Ok(None);
        }
        let index = memory.read_u16(at(self.available, 2)?)?;
        let waiting = index.wrapping_sub(self.next_available);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.size {
            return Err(Broken);
        }
        let slot = u64::from(self.next_available % self.size);
        let head = memory.read_u16(at(self.available, 4 + slot * 2)?)?;
        let chain = self.chain(memory, head)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(chain))
    }

    /// Walks a chain: at most [`PARTS`] steps, so that a loop ends.
    fn chain(&self, memory: &impl SharedMem, head: u16) -> Result<Chain, Broken> {
        let mut chain = Chain { head, parts: [Part::default(); PARTS], count: 0, is_writable: false, bytes: 0 };
        let mut index = head;
        for (place, part) in chain.parts.iter_mut().enumerate() {
            if index >= self.size {
                return Err(Broken);
            }
            let mut row = [0; 16];
            memory.read(at(self.descriptors, u64::from(index) * 16)?, &mut row)?;
            let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = row;
            part.address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
            part.bytes = u32::from_le_bytes([l0, l1, l2, l3]);
            let flags = u16::from_le_bytes([f0, f1]);
            let is_writable = flags & WRITE != 0;
            if flags & INDIRECT != 0 || place > 0 && is_writable != chain.is_writable {
                return Err(Broken);
            }
            chain.is_writable = is_writable;
            chain.bytes += u64::from(part.bytes);
            chain.count = place + 1;
            if chain.bytes > CHAIN_BYTES {
                return Err(Broken);
            }
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = u16::from_le_bytes([n0, n1]);
        }
        Err(Broken)
    }

    /// Gives a chain back, with how many bytes were written to it.
    pub(crate) fn push(&mut self, memory: &mut impl SharedMem, chain: &Chain, written: u32) -> Result<(), Broken> {
        let slot = u64::from(self.next_used % self.size);
        let mut row = [0; 8];
        row[..4].copy_from_slice(&u32::from(chain.head).to_le_bytes());
        row[4..].copy_from_slice(&written.to_le_bytes());
        memory.write(at(self.used, 4 + slot * 8)?, &row)?;
        self.next_used = self.next_used.wrapping_add(1);
        memory.write_u16(at(self.used, 2)?, self.next_used)?;
        Ok(())
    }

    /// Says whether the device wants a kick for new buffers.
    pub(crate) fn want_kicks(&self, memory: &mut impl SharedMem, wants: bool) -> Result<(), Broken> {
        if !self.is_ready {
            return Ok(());
        }
        Ok(memory.write_u16(self.used, if wants { 0 } else { NO_NOTIFY })?)
    }
}

impl Chain {
    /// Whether the device may write to it (and not read).
    pub(crate) const fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Copies from `offset` on; returns how many bytes, 0 at the end.
    pub(crate) fn read(&self, memory: &impl SharedMem, offset: u64, into: &mut [u8]) -> Result<usize, Broken> {
        let Some((address, left)) = self.place(offset) else { return Ok(0) };
        let count = into.len().min(usize::try_from(left).map_err(|_| Broken)?);
        let into = into.get_mut(..count).ok_or(Broken)?;
        memory.read(address, into)?;
        Ok(count)
    }

    /// Copies to it from its start; returns how many bytes fitted.
    pub(crate) fn write(&self, memory: &mut impl SharedMem, from: &[u8]) -> Result<u32, Broken> {
        let mut written = 0;
        while let Some((address, left)) = self.place(written as u64).filter(|_| written < from.len()) {
            let count = (from.len() - written).min(usize::try_from(left).map_err(|_| Broken)?);
            memory.write(address, from.get(written..written + count).ok_or(Broken)?)?;
            written += count;
        }
        u32::try_from(written).map_err(|_| Broken)
    }

    /// The guest address of a byte of the chain, and how many follow in its buffer, itself included.
    fn place(&self, offset: u64) -> Option<(u64, u64)> {
        let mut skip = offset;
        for part in self.parts.iter().take(self.count) {
            let bytes = u64::from(part.bytes);
            if skip < bytes {
                return Some((part.address.checked_add(skip)?, bytes - skip));
            }
            skip -= bytes;
        }
        None
    }
}

fn at(base: u64, offset: u64) -> Result<u64, Broken> {
    base.checked_add(offset).ok_or(Broken)
}
