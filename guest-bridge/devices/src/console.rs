//! The virtio console with named ports (virtio 1.2 §5.3): each port carries lines. Port 0 exists for the numbering only.

use bulkhead_wire::console::{CONFIGURATION, CONFIGURATION_BYTES, LEGACY_CONFIGURATION};

use crate::line::Line;
use crate::memory::SharedMem;
use crate::transport::{Effect, Interface, Transport};
use crate::virtqueue::{Broken, Chain, Queue};

/// The most named ports.
pub const MAX_PORTS: usize = 8;
/// Port 0 and control, then two for each named port.
const QUEUES: usize = 4 + 2 * MAX_PORTS;
/// VIRTIO_CONSOLE_F_MULTIPORT.
const MULTIPORT: u64 = 1 << 1;
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;
/// Chains served in one access; more wait for the next.
const CHAINS: usize = 64;
/// Bytes of output that wait for the guest to post buffers.
const OUTPUT: usize = 1024;

/// Events of the control queue (§5.3.6.2).
mod event {
    pub(super) const DEVICE_READY: u16 = 0;
    pub(super) const PORT_ADD: u16 = 1;
    pub(super) const PORT_READY: u16 = 3;
    pub(super) const PORT_OPEN: u16 = 6;
    pub(super) const PORT_NAME: u16 = 7;
}

/// One named port.
#[derive(Debug)]
struct Port {
    name: [u8; 24],
    name_length: usize,
    is_open: bool,
    /// Messages that wait for a control buffer.
    must_add: bool,
    must_name: bool,
    must_open: bool,
    /// The line that is coming in.
    line: Line,
    /// A chain that holds more than the line, and how much of it was read.
    rest: Option<(Chain, u64)>,
    output: [u8; OUTPUT],
    output_length: usize,
}

impl Port {
    const fn new() -> Self {
        Self {
            name: [0; 24],
            name_length: 0,
            is_open: false,
            must_add: false,
            must_name: false,
            must_open: false,
            line: Line::EMPTY,
            rest: None,
            output: [0; OUTPUT],
            output_length: 0,
        }
    }

    /// The next message that the driver has to get about this port: event, bytes, length.
    fn message(&self, id: usize) -> Option<(u16, [u8; 32], usize)> {
        let event = match self {
            Self { must_add: true, .. } => event::PORT_ADD,
            Self { must_name: true, .. } => event::PORT_NAME,
            Self { must_open: true, .. } => event::PORT_OPEN,
            _ => return None,
        };
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&u32::try_from(id).ok()?.to_le_bytes());
        bytes[4..6].copy_from_slice(&event.to_le_bytes());
        bytes[6] = 1;
        if event != event::PORT_NAME {
            return Some((event, bytes, 8));
        }
        bytes[8..].copy_from_slice(&self.name);
        Some((event, bytes, 8 + self.name_length))
    }

    const fn has_said(&mut self, event: u16) {
        match event {
            event::PORT_ADD => self.must_add = false,
            event::PORT_NAME => self.must_name = false,
            _ => self.must_open = false,
        }
    }

    /// Forgets all but its name.
    fn reset(&mut self) {
        *self = Self { name: self.name, name_length: self.name_length, ..Self::new() };
    }

    /// The guest closed it: half a line and the answer nobody waits for are dropped.
    fn close(&mut self) {
        self.is_open = false;
        self.line = Line::EMPTY;
        self.output_length = 0;
    }
}

/// The device.
#[derive(Debug)]
pub struct Console {
    transport: Transport<QUEUES>,
    ports: [Port; MAX_PORTS],
    port_count: usize,
    /// The interrupt line is to be raised.
    must_interrupt: bool,
}

impl Console {
    /// A device with a port for each name; names beyond [`MAX_PORTS`] are dropped, longer ones than 24 bytes are cut.
    #[must_use]
    pub fn new<'a>(interface: Interface, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ports = [const { Port::new() }; MAX_PORTS];
        let mut port_count = 0;
        for (port, name) in ports.iter_mut().zip(names) {
            let name = name.as_bytes();
            port.name.iter_mut().zip(name).for_each(|(slot, &byte)| *slot = byte);
            port.name_length = name.len().min(port.name.len());
            port_count += 1;
        }
        Self {
            transport: Transport::new(interface, 3, MULTIPORT, 4 + 2 * port_count),
            ports,
            port_count,
            must_interrupt: false,
        }
    }

    /// As at power-on.
    pub fn reset(&mut self) {
        self.transport.reset();
        self.ports.iter_mut().for_each(Port::reset);
        self.must_interrupt = false;
    }

    /// The guest reads a register. What the interface does not have reads as all ones. (PCI: the interrupt's status is
    /// cleared by being read.)
    #[must_use]
    pub fn read(&mut self, offset: u64, bytes: u64) -> u64 {
        let (first, register) = match self.transport.interface {
            Interface::Mmio if bytes == 4 && offset.is_multiple_of(4) && offset < 0x100 => {
                (0x100, Some(self.transport.read(offset)))
            }
            Interface::Mmio => (0x100, None),
            Interface::Pci if is_legacy(offset) => {
                (LEGACY_CONFIGURATION.into(), self.transport.read_legacy(offset, bytes))
            }
            Interface::Pci => (CONFIGURATION.into(), self.transport.read_modern(offset, bytes)),
        };
        let configuration = || offset.checked_sub(first).and_then(|offset| self.configuration(offset, bytes));
        register.map(u64::from).or_else(configuration).unwrap_or(u64::MAX)
    }

    /// Columns and rows, which it has not; max_nr_ports; the emergency write register (§5.3.4). Legacy drivers read byte by byte.
    fn configuration(&self, offset: u64, bytes: u64) -> Option<u64> {
        let ports = (self.port_count as u64 + 1) << 32;
        let is_inside =
            matches!(bytes, 1 | 2 | 4) && offset.is_multiple_of(bytes) && offset < CONFIGURATION_BYTES.into();
        let word = if offset < 8 { ports } else { 0 };
        is_inside.then(|| word >> (8 * (offset % 8)) & ((1 << (8 * bytes)) - 1))
    }

    /// The guest writes a register. Lines that came in are fetched by [`Console::take_line`] afterwards.
    pub fn write(&mut self, memory: &mut impl SharedMem, offset: u64, bytes: u64, value: u64) {
        let Ok(value) = u32::try_from(value) else { return };
        let effect = match self.transport.interface {
            Interface::Mmio if bytes == 4 && offset.is_multiple_of(4) && offset < 0x100 => {
                self.transport.write(offset, value)
            }
            Interface::Mmio => Effect::Nothing,
            Interface::Pci if is_legacy(offset) => self.transport.write_legacy(offset, bytes, value),
            Interface::Pci => self.transport.write_modern(offset, bytes, value),
        };
        let done = match effect {
            Effect::Nothing => Ok(()),
            Effect::Reset => {
                self.reset();
                Ok(())
            }
            Effect::Ready(queue) => self.quieten(memory, queue.into()),
            Effect::Kick(queue) => self.kick(memory, queue.into()),
        };
        self.settle(done);
    }

    /// The driver broke a rule: the device stops until it is reset.
    fn settle(&mut self, done: Result<(), Broken>) {
        if done.is_err() {
            self.transport.fail();
            self.must_interrupt = true;
        }
    }

    /// Whether the interrupt is to be raised; the answer is given once.
    pub fn take_interrupt(&mut self) -> bool {
        core::mem::take(&mut self.must_interrupt)
    }

    /// A new queue has no chain of an old one, and receive queues need no kick for each buffer that is posted.
    fn quieten(&mut self, memory: &mut impl SharedMem, queue: usize) -> Result<(), Broken> {
        if let Some(port) = queue.checked_sub(4).and_then(|of_ports| self.ports.get_mut(of_ports / 2)) {
            port.rest = None;
        }
        let is_receive = queue != CONTROL_IN && queue.is_multiple_of(2);
        match self.transport.queues.get(queue) {
            Some(ring) if is_receive => ring.want_kicks(memory, false),
            _ => Ok(()),
        }
    }

    fn kick(&mut self, memory: &mut impl SharedMem, queue: usize) -> Result<(), Broken> {
        match queue {
            CONTROL_OUT => {
                self.control(memory)?;
                self.announce(memory)
            }
            CONTROL_IN => self.announce(memory),
            _ if queue >= 4 && queue.is_multiple_of(2) => self.flush(memory, queue / 2 - 2),
            _ => Ok(()),
        }
    }

    /// Serves the driver's control messages: id (u32), event, value (u16 each).
    fn control(&mut self, memory: &mut impl SharedMem) -> Result<(), Broken> {
        for _ in 0..CHAINS {
            let Some(chain) = pop(&mut self.transport.queues, CONTROL_OUT, memory)? else { break };
            let mut message = [0; 8];
            let count = if chain.is_writable() { 0 } else { chain.read(memory, 0, &mut message)? };
            if count == 8 {
                let [i0, i1, i2, i3, e0, e1, v0, v1] = message;
                let id = u32::from_le_bytes([i0, i1, i2, i3]);
                self.heed(id, u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1]));
            }
            self.give_back(memory, CONTROL_OUT, &chain, 0)?;
        }
        Ok(())
    }

    fn heed(&mut self, id: u32, event: u16, value: u16) {
        let known = self.port_count;
        if event == event::DEVICE_READY && value == 1 {
            self.ports.iter_mut().take(known).for_each(|port| port.must_add = true);
        }
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let Some(port) = index.filter(|&index| index < known).and_then(|index| self.ports.get_mut(index)) else {
            return;
        };
        match (event, value) {
            (event::PORT_READY, 1) => {
                port.must_name = true;
                port.must_open = true;
            }
            (event::PORT_OPEN, 0) => port.close(),
            (event::PORT_OPEN, _) => port.is_open = true,
            _ => {}
        }
    }

    /// Sends what the driver has to know, as far as it has posted buffers for it.
    fn announce(&mut self, memory: &mut impl SharedMem) -> Result<(), Broken> {
        for index in 0..self.port_count {
            while let Some((event, message, length)) =
                self.ports.get_mut(index).and_then(|port| port.message(index + 1))
            {
                let Some(chain) = pop(&mut self.transport.queues, CONTROL_IN, memory)? else { return Ok(()) };
                let message = message.get(..length).ok_or(Broken)?;
                let written = if chain.is_writable() { chain.write(memory, message)? } else { 0 };
                self.give_back(memory, CONTROL_IN, &chain, written)?;
                self.ports.iter_mut().skip(index).take(1).for_each(|port| port.has_said(event));
            }
        }
        Ok(())
    }

    /// The next whole line of any port whose last answer the guest has taken, with the port's number from 0.
    pub fn take_line(&mut self, memory: &mut impl SharedMem) -> Option<(usize, Line)> {
        if !self.transport.is_live() {
            return None;
        }
        for index in 0..self.port_count {
            match self.port_line(memory, index) {
                Ok(Some(line)) => return Some((index, line)),
                Ok(None) => {}
                Err(broken) => {
                    self.settle(Err(broken));
                    return None;
                }
            }
        }
        None
    }

    fn port_line(&mut self, memory: &mut impl SharedMem, index: usize) -> Result<Option<Line>, Broken> {
        let queue = 2 * index + 5;
        for _ in 0..CHAINS {
            let Some(port) = self.ports.get_mut(index).filter(|port| port.output_length == 0) else { return Ok(None) };
            let (chain, offset) = match port.rest.take() {
                Some(rest) => rest,
                None => match pop(&mut self.transport.queues, queue, memory)? {
                    Some(chain) => (chain, 0),
                    None => return Ok(None),
                },
            };
            let mut piece = [0; 64];
            let count =
                if chain.is_writable() || !port.is_open { 0 } else { chain.read(memory, offset, &mut piece)? };
            if count == 0 {
                self.give_back(memory, queue, &chain, 0)?;
                continue;
            }
            for (&byte, read) in piece.iter().zip(1_u64..).take(count) {
                if byte == b'\n' {
                    port.rest = Some((chain, offset + read));
                    let mut line = core::mem::replace(&mut port.line, Line::EMPTY);
                    line.drop_return();
                    return Ok(Some(line));
                }
                port.line.put(byte);
            }
            port.rest = Some((chain, offset + count as u64));
        }
        Ok(None)
    }

    /// Sends bytes to a port. False if the guest has not taken enough of what was sent before: nothing is sent then.
    pub fn send(&mut self, memory: &mut impl SharedMem, port: usize, bytes: &[u8]) -> bool {
        let Some(known) = self.ports.get_mut(port).filter(|port| port.is_open) else { return true };
        let Some(room) = known.output.get_mut(known.output_length..).and_then(|rest| rest.get_mut(..bytes.len()))
        else {
            return false;
        };
        room.copy_from_slice(bytes);
        known.output_length += bytes.len();
        let done = self.flush(memory, port);
        self.settle(done);
        true
    }

    /// Moves a port's output into the buffers that the guest posted; asks for a kick if there are too few.
    fn flush(&mut self, memory: &mut impl SharedMem, index: usize) -> Result<(), Broken> {
        let queue = 2 * index + 4;
        for _ in 0..CHAINS {
            let Some(port) = self.ports.get_mut(index).filter(|port| port.output_length > 0) else { break };
            let Some(chain) = pop(&mut self.transport.queues, queue, memory)? else {
                return self.transport.queues.get(queue).map_or(Ok(()), |ring| ring.want_kicks(memory, true));
            };
            let waiting = port.output.get(..port.output_length).unwrap_or_default();
            let written = if chain.is_writable() { chain.write(memory, waiting)? } else { 0 };
            let taken = usize::try_from(written).map_err(|_| Broken)?;
            port.output.copy_within(taken..port.output_length, 0);
            port.output_length -= taken;
            self.give_back(memory, queue, &chain, written)?;
        }
        Ok(())
    }

    fn give_back(
        &mut self,
        memory: &mut impl SharedMem,
        queue: usize,
        chain: &Chain,
        written: u32,
    ) -> Result<(), Broken> {
        self.transport.queues.get_mut(queue).ok_or(Broken)?.push(memory, chain, written)?;
        self.transport.raise();
        self.must_interrupt = true;
        Ok(())
    }
}

/// Whether a function's port belongs to the legacy interface.
const fn is_legacy(offset: u64) -> bool {
    offset < CONFIGURATION as u64
}

fn pop(queues: &mut [Queue], queue: usize, memory: &impl SharedMem) -> Result<Option<Chain>, Broken> {
    queues.get_mut(queue).map_or(Ok(None), |queue| queue.pop(memory))
}
