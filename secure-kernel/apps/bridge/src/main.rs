//! The bridge app: what the guest has as a device becomes calls of services. It serves one device, and runs once for each: the virtio
//! console, each of whose ports is a service, or a 16550, whose lines name theirs. Only the console's needs guest memory.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "guest memory and the policy are memory that the bundle maps for this app")]

use bulkhead_abi::boot::{BootInfo, Range, flags};
use bulkhead_abi::wall;
use bulkhead_app_bridge::{addressed, answer, ports, question, say};
use bulkhead_devices::{Console, Interface, Line, MAX_PORTS, OutOfRange, SharedMem, Uart};
use bulkhead_model::{Policy, method};
use bulkhead_user::{self as user, Call, Event, NOTIFY_GUEST_RESET, Reply, Request, Status, log};
use bulkhead_wire::port::LineWriter;

/// Guest memory through the window; the ranges are the wall's.
struct Window {
    ranges: &'static [Range],
}

impl Window {
    /// The address in the window of a range that is all guest memory.
    fn place(&self, at: u64, length: usize) -> Result<u64, OutOfRange> {
        let end = at.checked_add(length as u64).ok_or(OutOfRange)?;
        let is_inside = |range: &Range| at >= range.base && end <= range.base + range.bytes;
        if self.ranges.iter().any(is_inside) { Ok(wall::GUEST_WINDOW + at) } else { Err(OutOfRange) }
    }
}

impl SharedMem for Window {
    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.place(from, into.len())?;
        for (index, byte) in (0..).zip(into) {
            // SAFETY: the whole range is guest memory, which the wall maps at the window for good. Volatile: the guest may
            // change it at any time; each byte is fetched once, and any value is a byte.
            *byte = unsafe { ((from + index) as *const u8).read_volatile() };
        }
        Ok(())
    }

    fn write(&mut self, to: u64, from: &[u8]) -> Result<(), OutOfRange> {
        let to = self.place(to, from.len())?;
        for (index, &byte) in (0..).zip(from) {
            // SAFETY: as for `read`; no Rust object lives in guest memory.
            unsafe { ((to + index) as *mut u8).write_volatile(byte) };
        }
        Ok(())
    }
}

/// Lines served before the guest goes on; more follow in the next turn.
const LINES: usize = 8;

/// What the guest has.
#[expect(clippy::large_enum_variant, reason = "there is one, made once, and no heap")]
enum Device {
    /// The named ports, and the service of each.
    Console(Console, [u16; MAX_PORTS], Window),
    Serial(Uart),
}

struct Bridge {
    device: Device,
    policy: Policy<'static>,
    info: &'static BootInfo,
    interrupt: u32,
}

impl Bridge {
    /// An access of the guest to the device's registers.
    fn access(&mut self, request: &Request) -> Reply {
        let [offset, size, value, ..] = request.message.words;
        let is_read = match request.message.method {
            method::READ => true,
            method::WRITE => false,
            _ => return Reply::error(Status::Unknown),
        };
        let read = match &mut self.device {
            Device::Console(console, ..) if is_read => return Reply::ok(&[console.read(offset, size)]),
            Device::Console(console, _, window) => {
                console.write(window, offset, size, value);
                None
            }
            Device::Serial(uart) if is_read => Some(uart.read(offset, size)),
            Device::Serial(uart) => {
                uart.write(offset, size, value);
                None
            }
        };
        self.serve_lines();
        read.map_or(Reply::ok(&[]), |value| Reply::ok(&[value]))
    }

    /// Turns waiting lines into calls. A guest that sends more than a turn's worth is served in turns.
    fn serve_lines(&mut self) {
        for _ in 0..LINES {
            match &mut self.device {
                Device::Console(console, services, window) => {
                    let Some((port, line)) = console.take_line(window) else { break };
                    let object = services.get(port).copied().unwrap_or(u16::MAX);
                    let answer = self.serve_line(Some(object), &line);
                    if let (Some(mut line), Device::Console(console, _, window)) = (answer, &mut self.device) {
                        console.send(window, port, line.finish());
                    }
                }
                Device::Serial(uart) => {
                    let Some(line) = uart.take_line() else { break };
                    let answer = self.serve_line(None, &line);
                    if let (Some(mut line), Device::Serial(uart)) = (answer, &mut self.device) {
                        uart.send(line.finish());
                    }
                }
            }
        }
        let is_raised = match &mut self.device {
            Device::Console(console, ..) => console.take_interrupt(),
            Device::Serial(uart) => uart.take_interrupt(),
        };
        if is_raised {
            user::raise_guest_interrupt(self.interrupt);
        }
    }

    /// The answer to a line for a service, or that names its own.
    fn serve_line(&self, service: Option<u16>, line: &Line) -> Option<LineWriter> {
        if line.is_too_long {
            return Some(say(format_args!("malformed line-too-long")));
        }
        let named = match service {
            Some(object) => Ok((object, line.bytes())),
            None => addressed(&self.policy, line.bytes(), |object| is_device(self.info, object)),
        };
        let (object, line) = match named {
            Ok(named) => named,
            Err(answer) => return answer,
        };
        match question(&self.policy, object, line) {
            Ok(question) => {
                let arguments = question.arguments.get(..question.count).unwrap_or_default();
                let result = Call { object, method: question.method, arguments }.send_for_guest();
                Some(answer(&self.policy, object, &question, result))
            }
            Err(answer) => answer,
        }
    }
}

/// Whether an object is a device of the guest's, and no service.
fn is_device(info: &BootInfo, object: u16) -> bool {
    info.apps.iter().any(|app| app.flags & flags::DEVICE != 0 && app.serves == object)
}

#[unsafe(no_mangle)]
extern "C" fn app_main(place: usize) -> ! {
    // SAFETY: the bundle maps the boot information read only at this address for every app.
    let info = unsafe { &*(wall::APP_BOOT_VA as *const BootInfo) };
    let length = usize::try_from(info.policy_bytes).unwrap_or(0);
    // SAFETY: the bundle maps the policy's pages read only at this address for this app, and nobody writes to them.
    let Ok(policy) = Policy::open(unsafe { core::slice::from_raw_parts(wall::POLICY as *const u8, length) }) else {
        log!("the policy does not verify");
        user::exit(3)
    };
    let Some(own) = info.apps.get(place) else { user::exit(4) };
    let (has_ports, is_pci) = (own.flags & flags::DEVICE_PORTS != 0, own.flags & flags::DEVICE_PCI != 0);
    let device = if has_ports && !is_pci {
        Device::Serial(Uart::new())
    } else {
        let named = || ports(&policy, |object| is_device(info, object));
        let mut services = [u16::MAX; MAX_PORTS];
        services.iter_mut().zip(named()).for_each(|(slot, (object, _))| *slot = object);
        let interface = if is_pci { Interface::Pci } else { Interface::Mmio };
        let ranges = info.guest_ranges.get(..info.guest_range_count as usize).unwrap_or_default();
        Device::Console(Console::new(interface, named().map(|(_, name)| name)), services, Window { ranges })
    };
    let mut bridge = Bridge { device, policy, info, interrupt: own.irqs[0] };
    user::serve(|event| match event {
        Event::Request(request) => bridge.access(&request),
        Event::Notification(bits) => {
            if bits & NOTIFY_GUEST_RESET != 0 {
                match &mut bridge.device {
                    Device::Console(console, ..) => console.reset(),
                    Device::Serial(uart) => uart.reset(),
                }
            }
            bridge.serve_lines();
            Reply::ok(&[])
        }
    })
}
