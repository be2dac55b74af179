//! A device's state that every transport shows (virtio 1.2 §2.1, §3.1), and the register set of virtio-mmio, version 2 (§4.2.2).

use crate::virtqueue::{QUEUE_MAX, Queue};

/// VIRTIO_F_VERSION_1 (bit 32): without it the device does not work.
const VERSION_1: u64 = 1 << 32;
const MAGIC: u32 = 0x7472_6976;
/// "BHUL".
const VENDOR: u32 = 0x4c55_4842;

const FEATURES_OK: u32 = 8;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 64;

/// What a write to a register asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// A queue was kicked.
    Kick(u16),
    /// A queue was made ready, or taken away.
    Ready(u16),
    /// The driver reset the device.
    Reset,
}

/// How the guest reaches the device's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Memory: virtio-mmio, version 2.
    Mmio,
    /// Ports of a PCI function: the legacy interface and the modern one.
    Pci,
}

/// The interface of a device, where there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Legacy,
    Modern,
}

/// Registers and queues.
#[derive(Debug)]
pub(crate) struct Transport<const QUEUES: usize> {
    pub(crate) interface: Interface,
    /// The half by which the driver drives the device: the first that it wrote to since the last reset.
    driven_by: Option<Half>,
    device: u32,
    pub(crate) features: u64,
    pub(crate) accepted: u64,
    pub(crate) feature_select: [u32; 2],
    pub(crate) queue_select: u32,
    pub(crate) status: u32,
    pub(crate) interrupt: u32,
    pub(crate) queues: [Queue; QUEUES],
    pub(crate) queue_count: usize,
}

impl<const QUEUES: usize> Transport<QUEUES> {
    pub(crate) const fn new(interface: Interface, device: u32, features: u64, queue_count: usize) -> Self {
        let driven_by = match interface {
            Interface::Mmio => Some(Half::Modern),
            Interface::Pci => None,
        };
        Self {
            interface,
            driven_by,
            device,
            features: features | VERSION_1,
            accepted: 0,
            feature_select: [0; 2],
            queue_select: 0,
            status: 0,
            interrupt: 0,
            queues: [Queue::new(); QUEUES],
            queue_count,
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.interface, self.device, self.features, self.queue_count);
    }

    /// Whether a write to a register of this half counts. Those of the other half are dropped until the next reset, which either can ask for: no
    /// queue is set up by two sets of rules.
    pub(crate) fn is_driven_by(&mut self, half: Half) -> bool {
        *self.driven_by.get_or_insert(half) == half
    }

    /// The driver is done with its set-up and the device works. A legacy driver may use the device as soon as it knows how to.
    pub(crate) const fn is_live(&self) -> bool {
        let wanted = match self.driven_by {
            Some(Half::Legacy) => DRIVER,
            _ => DRIVER_OK,
        };
        self.status & wanted != 0 && self.status & NEEDS_RESET == 0
    }

    /// The driver broke a rule: the device stops and says so.
    pub(crate) const fn fail(&mut self) {
        self.status |= NEEDS_RESET;
        // Bit 1: the configuration (here, the status) changed.
        self.interrupt |= 2;
    }

    /// Buffers were used: bit 0 of InterruptStatus.
    pub(crate) const fn raise(&mut self) {
        self.interrupt |= 1;
    }

    /// A register below the configuration space.
    pub(crate) fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => MAGIC,
            0x04 => 2,
            0x08 => self.device,
            0x0c => VENDOR,
            0x10 => half(self.features, self.feature_select[0]),
            0x34 => self.queue().map_or(0, |_| u32::from(QUEUE_MAX)),
            0x44 => self.queue().is_some_and(|queue| queue.is_ready).into(),
            0x60 => self.interrupt,
            0x70 => self.status,
            _ => 0,
        }
    }

    pub(crate) fn write(&mut self, offset: u64, value: u32) -> Effect {
        let is_negotiating = self.status & FEATURES_OK == 0;
        match offset {
            0x14 => self.feature_select[0] = value,
            0x24 => self.feature_select[1] = value,
            0x20 if is_negotiating => self.accepted = with_half(self.accepted, self.feature_select[1], value),
            0x30 => self.queue_select = value,
            0x50 if self.is_live() => return u16::try_from(value).map_or(Effect::Nothing, Effect::Kick),
            0x64 => self.interrupt &= !value,
            0x70 => return self.write_status(value),
            0x44 => return self.write_ready(value),
            _ => self.write_queue(offset, value),
        }
        Effect::Nothing
    }

    /// FEATURES_OK stays only if the driver accepted what is needed and nothing that was not offered (§3.1.1).
    fn write_status(&mut self, value: u32) -> Effect {
        if value == 0 {
            return Effect::Reset;
        }
        let is_acceptable = self.accepted & !self.features == 0 && self.accepted & VERSION_1 != 0;
        let value = if is_acceptable { value } else { value & !(FEATURES_OK | DRIVER_OK) };
        // Bits are set one by one, and only a reset clears them.
        self.status |= value & 0x8f;
        Effect::Nothing
    }

    fn write_ready(&mut self, value: u32) -> Effect {
        let (select, is_live) = (self.queue_select, self.is_live());
        let Some(queue) = self.queue_mut().filter(|_| !is_live) else { return Effect::Nothing };
        queue.is_ready = value & 1 != 0;
        match u16::try_from(select) {
            Ok(number) if queue.is_ready => Effect::Ready(number),
            _ => Effect::Nothing,
        }
    }

    /// Size and addresses of a queue that is not ready yet.
    fn write_queue(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.queue_mut().filter(|queue| !queue.is_ready) else { return };
        match offset {
            0x38 => {
                if let Ok(size) = u16::try_from(value)
                    && size.is_power_of_two()
                    && size <= QUEUE_MAX
                {
                    queue.size = size;
                }
            }
            0x80 | 0x84 => queue.descriptors = with_half(queue.descriptors, (offset == 0x84).into(), value),
            0x90 | 0x94 => queue.available = with_half(queue.available, (offset == 0x94).into(), value),
            0xa0 | 0xa4 => queue.used = with_half(queue.used, (offset == 0xa4).into(), value),
            _ => {}
        }
    }

    pub(crate) fn queue(&self) -> Option<&Queue> {
        let index = usize::try_from(self.queue_select).ok()?;
        self.queues.get(index).filter(|_| index < self.queue_count)
    }

    pub(crate) fn queue_mut(&mut self) -> Option<&mut Queue> {
        let index = usize::try_from(self.queue_select).ok()?;
        let count = self.queue_count;
        self.queues.get_mut(index).filter(|_| index < count)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "halves of 64 bits")]
pub(crate) const fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

const fn with_half(value: u64, select: u32, half: u32) -> u64 {
    match select {
        0 => value >> 32 << 32 | half as u64,
        1 => value & 0xffff_ffff | (half as u64) << 32,
        _ => value,
    }
}
