//! I/O ports: which the hardware opens, which mean power, and what the policy is asked about the rest.

use bulkhead_abi::Message;
use bulkhead_model::{method, object};

use super::PortAccess;
use crate::plan::{DEVICES, Device, Ports, X86};

/// PCI configuration: the address register.
pub const PCI_ADDRESS: u16 = 0xcf8;
/// PCI configuration: the data register, four bytes.
pub const PCI_DATA: u16 = 0xcfc;
/// The reset control register of Intel's chip sets.
const RESET_CONTROL: u16 = 0xcf9;
/// The keyboard controller's command register.
const KEYBOARD: u16 = 0x64;
/// System control port A: address line 20, fast reset.
const SYSTEM_CONTROL: u16 = 0x92;

/// What of the machine's power a write would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It goes off, or sleeps.
    Off,
    /// It starts anew.
    Reset,
}

/// Whether a port is looked at whatever the policy opens: power, system management, PCI configuration, the interrupt controllers
/// whose vectors are needed.
#[must_use]
pub fn is_watched(port: u16, x86: &X86) -> bool {
    let wide = u32::from(port);
    let is_at = |base: u32, count: u32| base != 0 && wide.wrapping_sub(base) < count;
    matches!(port, KEYBOARD | SYSTEM_CONTROL | 0xcf8..=0xcff | 0x20 | 0x21 | 0xa0 | 0xa1)
        || is_at(x86.pm1a_control, 2)
        || is_at(x86.smi_command, 1)
        || is_at(x86.reset_port, 1)
}

/// Whether the hardware may give a port to the guest without an exit. The bitmap's bit of each byte of an access is asked (SDM 3
/// §26.1.3), so that an access over the end of what is open exits.
#[must_use]
pub fn is_open(port: u16, x86: &X86) -> bool {
    is_declared(&x86.guest_ports, port, 1) && !is_watched(port, x86)
}

/// The same for the secure side. Which app reaches which of them, its kernel says.
#[must_use]
pub fn is_open_to_apps(port: u16, x86: &X86) -> bool {
    is_declared(&x86.secure_ports, port, 1) && !is_watched(port, x86)
}

/// Whether all ports of an access lie in one declared range.
#[must_use]
pub fn is_declared(ranges: &[Ports], port: u16, bytes: u8) -> bool {
    let wide = u32::from(port);
    ranges.iter().any(|range| wide >= range.first && wide + u32::from(bytes) <= range.first + range.count)
}

/// The device among the plan's that has all ports of an access, where it is no PCI function, and its register.
#[must_use]
pub fn served(devices: &[Device; DEVICES], port: u16, bytes: u8) -> Option<(usize, u64)> {
    devices.iter().enumerate().filter(|(_, device)| device.is_ports != 0 && device.function == 0).find_map(
        |(place, device)| {
            let register = u64::from(port).checked_sub(device.range.base)?;
            (register + u64::from(bytes) <= device.range.bytes).then_some((place, register))
        },
    )
}

/// What a write of `value` would do to the machine's power.
#[must_use]
pub fn power(access: PortAccess, value: u32, x86: &X86) -> Option<Power> {
    let bytes = value.to_le_bytes();
    // The byte that goes to a port, if the access reaches it.
    let byte_at = |port: u32| {
        let place = port.checked_sub(u32::from(access.port)).filter(|place| *place < u32::from(access.bytes))?;
        bytes.get(usize::try_from(place).ok()?).copied()
    };
    if access.is_in {
        return None;
    }
    // SLP_EN is bit 13 of PM1a_CNT (ACPI 6.5 §4.8.3.2.1).
    if x86.pm1a_control != 0 && byte_at(x86.pm1a_control + 1).is_some_and(|high| high >> 5 & 1 != 0) {
        return Some(Power::Off);
    }
    // Four bytes at PCI's address register are that register, not its neighbour.
    let is_address = access.port == PCI_ADDRESS && access.bytes == 4;
    let resets = !is_address && byte_at(RESET_CONTROL.into()).is_some_and(|value| value >> 2 & 1 != 0)
        || byte_at(SYSTEM_CONTROL.into()).is_some_and(|value| value & 1 != 0)
        || byte_at(KEYBOARD.into()).is_some_and(|value| value & 0xf0 == 0xf0 && value & 1 == 0)
        || x86.reset_port != 0 && x86.reset_port != u32::from(RESET_CONTROL) && byte_at(x86.reset_port).is_some();
    resets.then_some(Power::Reset)
}

/// The call that the policy decides on.
#[must_use]
pub const fn message(access: PortAccess, value: u64) -> Message {
    let (method, len, value) = if access.is_in { (method::READ, 2, 0) } else { (method::WRITE, 3, value) };
    Message { object: object::PORT, method, len, words: [access.port as u64, access.bytes as u64, value, 0, 0, 0] }
}

/// The call that stands for a change of power.
#[must_use]
pub const fn power_message(power: Power) -> Message {
    let method = match power {
        Power::Off => method::POWER_OFF,
        Power::Reset => method::POWER_RESET,
    };
    Message { object: object::POWER, method, len: 0, words: [0; 6] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{MAX_PORTS, Range};

    fn machine() -> X86 {
        let mut ports = [Ports::default(); MAX_PORTS];
        ports[0] = Ports { first: 0x3f8, count: 8 };
        ports[1] = Ports { first: 0x600, count: 0x30 };
        ports[2] = Ports { first: 0x60, count: 8 };
        X86 { guest_ports: ports, pm1a_control: 0x604, smi_command: 0xb2, reset_port: 0xcf9, ..X86::default() }
    }

    const fn write(port: u16, bytes: u8) -> PortAccess {
        PortAccess { port, bytes, is_in: false }
    }

    #[test]
    fn what_is_declared_is_open_and_its_neighbours_are_not() {
        let x86 = machine();
        assert!(is_open(0x3f8, &x86) && is_open(0x3ff, &x86));
        assert!(!is_open(0x3f7, &x86) && !is_open(0x400, &x86));
        assert!(is_declared(&x86.guest_ports, 0x3fe, 2) && !is_declared(&x86.guest_ports, 0x3ff, 2), "over the end");
        assert!(!is_declared(&x86.guest_ports, 0xffff, 4), "over the end of all ports");
    }

    #[test]
    fn an_access_to_a_served_device_lies_within_it_as_a_whole() {
        let mut devices = [Device::default(); DEVICES];
        let range = |base, bytes| Range { base, bytes };
        devices[0] = Device { range: range(0x2f8, 8), ..Device::default() };
        devices[1] = Device { range: range(0xc040, 0x40), is_ports: 1, function: 30 << 3, ..Device::default() };
        assert_eq!(served(&devices, 0x2f8, 1), None, "it lies in memory");
        devices[2] = Device { range: range(0x2f8, 8), is_ports: 1, ..Device::default() };
        assert_eq!((served(&devices, 0x2f8, 4), served(&devices, 0x2ff, 1)), (Some((2, 0)), Some((2, 7))));
        for (port, bytes) in [(0x2f7, 1), (0x2f7, 2), (0x2ff, 2), (0x2fd, 4), (0x300, 1), (0xc040, 1), (0xffff, 4)] {
            assert_eq!(served(&devices, port, bytes), None, "{port:#x}, {bytes}");
        }
    }

    #[test]
    fn apps_get_their_ports_but_none_of_power_and_configuration() {
        let mut x86 = machine();
        x86.secure_ports[0] = Ports { first: 0x70, count: 2 };
        x86.secure_ports[1] = Ports { first: 0xcf0, count: 0x20 };
        assert!(is_open_to_apps(0x70, &x86) && is_open_to_apps(0x71, &x86) && is_open_to_apps(0xcf7, &x86));
        for port in [0x6f, 0x72, 0x3f8, 0xcf8, 0xcf9, 0xcff] {
            assert!(!is_open_to_apps(port, &x86), "{port:#x}");
        }
        assert!(!is_open(0x70, &x86), "they are not the guest's");
    }

    #[test]
    fn power_and_configuration_are_looked_at_even_where_they_are_declared() {
        let x86 = machine();
        assert!(!is_open(0x64, &x86) && is_open(0x60, &x86));
        assert!(!is_open(0x604, &x86) && !is_open(0x605, &x86) && is_open(0x606, &x86));
    }

    #[test]
    fn every_way_to_the_power_is_seen() {
        let x86 = machine();
        assert_eq!(power(write(0x604, 2), 0x2000, &x86), Some(Power::Off));
        assert_eq!(power(write(0x605, 1), 0x20, &x86), Some(Power::Off), "the high byte alone");
        assert_eq!(power(write(0x604, 2), 0x0001, &x86), None, "no sleep");
        assert_eq!(power(write(0x64, 1), 0xfe, &x86), Some(Power::Reset));
        assert_eq!(power(write(0x64, 1), 0xf0, &x86), Some(Power::Reset), "pulses the reset line too");
        assert_eq!(power(write(0x64, 1), 0xd1, &x86), None);
        assert_eq!(power(write(0x92, 1), 3, &x86), Some(Power::Reset));
        assert_eq!(power(write(0x92, 1), 2, &x86), None);
        assert_eq!(power(write(0xcf9, 1), 6, &x86), Some(Power::Reset));
        assert_eq!(power(write(0xcf8, 2), 0x0610, &x86), Some(Power::Reset), "through its neighbour");
        assert_eq!(power(write(0xcf8, 4), 0x8000_0610, &x86), None, "an address of PCI configuration");
        assert_eq!(power(PortAccess { port: 0x64, bytes: 1, is_in: true }, 0xfe, &x86), None);
    }
}
