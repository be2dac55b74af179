//! The legacy interface of virtio over PCI (virtio 1.2 §4.1.4.8, virtio 0.9.5 §2.2): registers in ports, a queue as one area
//! of guest memory. Drivers from Linux 2.6.25 on know it; what they may do before DRIVER_OK, they may do here (§3.1.2).

use bulkhead_wire::console::LEGACY_CONFIGURATION;

use crate::transport::{Effect, Half, Transport, half};
use crate::virtqueue::{QUEUE_MAX, Queue};

/// A queue's address is told in pages of this size, and its used ring begins at one.
const PAGE: u64 = 4096;

impl<const QUEUES: usize> Transport<QUEUES> {
    /// A register below the configuration; `None` for what is none, or is read in another size than its own. The interrupt's
    /// status is cleared by being read.
    pub(crate) fn read_legacy(&mut self, offset: u64, bytes: u64) -> Option<u32> {
        Some(match (offset, bytes) {
            (0x00, 4) => half(self.features, 0),
            (0x04, 4) => half(self.accepted, 0),
            (0x08, 4) => {
                self.queue().filter(|queue| queue.is_ready).map_or(0, |queue| half(queue.descriptors / PAGE, 0))
            }
            (0x0c, 2) => self.queue().map_or(0, |_| QUEUE_MAX.into()),
            (0x0e, 2) => self.queue_select,
            (0x10, 2) => 0,
            (0x12, 1) => self.status,
            (0x13, 1) => core::mem::take(&mut self.interrupt),
            _ => return None,
        })
    }

    pub(crate) fn write_legacy(&mut self, offset: u64, bytes: u64, value: u32) -> Effect {
        let is_reset = (offset, bytes) == (0x12, 1) && value & 0xff == 0;
        if is_reset || offset >= LEGACY_CONFIGURATION.into() || !self.is_driven_by(Half::Legacy) {
            return if is_reset { Effect::Reset } else { Effect::Nothing };
        }
        match (offset, bytes) {
            // There is no FEATURES_OK to refuse with: what was not offered is not accepted.
            (0x04, 4) => self.accepted = u64::from(value) & self.features,
            (0x08, 4) => return self.write_area(value),
            (0x0e, 2) => self.queue_select = value & 0xffff,
            (0x10, 2) if self.is_live() => return u16::try_from(value).map_or(Effect::Nothing, Effect::Kick),
            (0x12, 1) => self.status |= value & 0x87,
            _ => {}
        }
        Effect::Nothing
    }

    /// Where the selected queue lies: descriptors, the available ring with its event word, and at the next page the used ring
    /// (§2.7.2). Zero takes a queue away; one that is there stays where it is.
    fn write_area(&mut self, page: u32) -> Effect {
        let select = self.queue_select;
        let Some(queue) = self.queue_mut().filter(|queue| page == 0 || !queue.is_ready) else { return Effect::Nothing };
        let (descriptors, size) = (u64::from(page) * PAGE, u64::from(QUEUE_MAX));
        let available = descriptors + 16 * size;
        *queue = Queue::new();
        queue.is_ready = page != 0;
        (queue.descriptors, queue.available) = (descriptors, available);
        queue.used = (available + 2 * (3 + size)).next_multiple_of(PAGE);
        u16::try_from(select).map_or(Effect::Nothing, Effect::Ready)
    }
}
