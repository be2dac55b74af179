//! The bridge app: the guest's virtio console, each of whose ports is a service. The only app that maps guest memory.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "guest memory and the policy are memory that the bundle maps for this app")]

use bulkhead_abi::boot::{BootInfo, Range, flags};
use bulkhead_abi::wall;
use bulkhead_app_bridge::{answer, ports, question, say};
use bulkhead_devices::{Console, Interface, Line, MAX_PORTS, OutOfRange, SharedMem};
use bulkhead_model::{Policy, method};
use bulkhead_user::{self as user, Call, Event, NOTIFY_GUEST_RESET, Reply, Request, Status, log};

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

struct Bridge {
    console: Console,
    window: Window,
    policy: Policy<'static>,
    /// The service of each port.
    services: [u16; MAX_PORTS],
    interrupt: u32,
}

impl Bridge {
    /// An access of the guest to the device's registers.
    fn access(&mut self, request: &Request) -> Reply {
        let [offset, size, value, ..] = request.message.words;
        match request.message.method {
            method::READ => Reply::ok(&[self.console.read(offset, size)]),
            method::WRITE => {
                self.console.write(&mut self.window, offset, size, value);
                self.serve_lines();
                Reply::ok(&[])
            }
            _ => Reply::error(Status::Unknown),
        }
    }

    /// Turns waiting lines into calls. A guest that sends more than a turn's worth is served in turns.
    fn serve_lines(&mut self) {
        for _ in 0..LINES {
            let Some((port, line)) = self.console.take_line(&mut self.window) else { break };
            self.serve_line(port, &line);
        }
        if self.console.take_interrupt() {
            user::raise_guest_interrupt(self.interrupt);
        }
    }

    fn serve_line(&mut self, port: usize, line: &Line) {
        let object = self.services.get(port).copied().unwrap_or(u16::MAX);
        let asked = if line.is_too_long {
            Err(Some(say(format_args!("malformed line-too-long"))))
        } else {
            question(&self.policy, object, line.bytes())
        };
        let line = match asked {
            Ok(question) => {
                let arguments = question.arguments.get(..question.count).unwrap_or_default();
                let result = Call { object, method: question.method, arguments }.send_for_guest();
                Some(answer(&self.policy, object, &question, result))
            }
            Err(answer) => answer,
        };
        if let Some(mut line) = line {
            self.console.send(&mut self.window, port, line.finish());
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn app_main() -> ! {
    // SAFETY: the bundle maps the boot information read only at this address for every app.
    let info = unsafe { &*(wall::APP_BOOT_VA as *const BootInfo) };
    let length = usize::try_from(info.policy_bytes).unwrap_or(0);
    // SAFETY: the bundle maps the policy's pages read only at this address for this app, and nobody writes to them.
    let Ok(policy) = Policy::open(unsafe { core::slice::from_raw_parts(wall::POLICY as *const u8, length) }) else {
        log!("the policy does not verify");
        user::exit(3)
    };
    let own = info.apps.iter().find(|app| app.name.starts_with(b"bridge\0"));
    let (own_object, interrupt) = own.map_or((u16::MAX, 0), |app| (app.serves, app.irqs[0]));
    let has_ports = own.is_some_and(|app| app.flags & flags::DEVICE_PORTS != 0);
    let interface = if has_ports { Interface::LegacyPci } else { Interface::Mmio };
    let mut services = [u16::MAX; MAX_PORTS];
    services.iter_mut().zip(ports(&policy, own_object)).for_each(|(slot, (object, _))| *slot = object);
    let console = Console::new(interface, ports(&policy, own_object).map(|(_, name)| name));
    let window = Window { ranges: info.guest_ranges.get(..info.guest_range_count as usize).unwrap_or_default() };
    let mut bridge = Bridge { console, window, policy, services, interrupt };
    user::serve(|event| match event {
        Event::Request(request) => bridge.access(&request),
        Event::Notification(bits) => {
            if bits & NOTIFY_GUEST_RESET != 0 {
                bridge.console.reset();
            }
            bridge.serve_lines();
            Reply::ok(&[])
        }
    })
}
