//! The modern interface of virtio over PCI (virtio 1.2 §4.1.4): its structures lie in ports, behind the legacy one's registers. What is written
//! goes to the register of virtio-mmio that means the same: there is one state machine.

use bulkhead_wire::console::{COMMON, COMMON_BYTES, ISR, NOTIFY};

use crate::transport::{Effect, Half, Transport, half};
use crate::virtqueue::Queue;

/// There is no MSI-X to give a vector of.
const NO_VECTOR: u32 = 0xffff;
const STATUS: u64 = 0x14;

impl<const QUEUES: usize> Transport<QUEUES> {
    /// A register of the common configuration, or the interrupt's status, which is cleared by being read; `None` for what is none, or is read
    /// in another size than its own.
    pub(crate) fn read_modern(&mut self, offset: u64, bytes: u64) -> Option<u32> {
        if (offset, bytes) == (ISR.into(), 1) {
            return Some(core::mem::take(&mut self.interrupt));
        }
        let [of_device, of_driver] = self.feature_select;
        let queue = |tell: fn(&Queue) -> u64| self.queue().map_or(0, tell);
        Some(match (common(offset)?, bytes) {
            (0x00, 4) => of_device,
            (0x04, 4) => half(self.features, of_device),
            (0x08, 4) => of_driver,
            (0x0c, 4) => half(self.accepted, of_driver),
            (0x10 | 0x1a, 2) => NO_VECTOR,
            (0x12, 2) => u32::try_from(self.queue_count).ok()?,
            (STATUS, 1) => self.status,
            // The configuration's generation: it never changes. Where a queue is kicked: all at one place.
            (0x15, 1) | (0x1e, 2) => 0,
            (0x16, 2) => self.queue_select,
            (0x18, 2) => half(queue(|queue| queue.size.into()), 0),
            (0x1c, 2) => half(queue(|queue| queue.is_ready.into()), 0),
            (at @ (0x20 | 0x24), 4) => half(queue(|queue| queue.descriptors), (at == 0x24).into()),
            (at @ (0x28 | 0x2c), 4) => half(queue(|queue| queue.available), (at == 0x2c).into()),
            (at @ (0x30 | 0x34), 4) => half(queue(|queue| queue.used), (at == 0x34).into()),
            _ => return None,
        })
    }

    pub(crate) fn write_modern(&mut self, offset: u64, bytes: u64, value: u32) -> Effect {
        let register = match (common(offset), bytes) {
            (None, 2) if offset == NOTIFY.into() => 0x50,
            (Some(0x00), 4) => 0x14,
            (Some(0x08), 4) => 0x24,
            (Some(0x0c), 4) => 0x20,
            (Some(STATUS), 1) => 0x70,
            (Some(0x16), 2) => 0x30,
            (Some(0x18), 2) => 0x38,
            (Some(0x1c), 2) => 0x44,
            (Some(at @ (0x20 | 0x24)), 4) => 0x60 + at,
            (Some(at @ (0x28 | 0x2c)), 4) => 0x68 + at,
            (Some(at @ (0x30 | 0x34)), 4) => 0x70 + at,
            _ => return Effect::Nothing,
        };
        let is_reset = register == 0x70 && value == 0;
        if is_reset || self.is_driven_by(Half::Modern) { self.write(register, value) } else { Effect::Nothing }
    }
}

fn common(offset: u64) -> Option<u64> {
    offset.checked_sub(COMMON.into()).filter(|&offset| offset < COMMON_BYTES.into())
}
