//! Where the ports of the named ports' PCI function hold what: the wall's capabilities say so, the device answers there. The legacy
//! interface lies at the start (virtio 1.2 §4.1.4.8), the modern one's structures behind it.

/// How many ports both interfaces need. A function with fewer has the legacy one only.
pub const PORTS: u16 = 0x80;
/// The device's own configuration in the legacy interface, without MSI-X (§5.3.4).
pub const LEGACY_CONFIGURATION: u16 = 0x14;
/// The same in the modern interface.
pub const CONFIGURATION: u16 = 0x20;
/// Its length.
pub const CONFIGURATION_BYTES: u16 = 12;
/// Where every queue is kicked (§4.1.4.4).
pub const NOTIFY: u16 = 0x30;
/// The interrupt's status (§4.1.4.5).
pub const ISR: u16 = 0x34;
/// The common configuration (§4.1.4.3).
pub const COMMON: u16 = 0x40;
/// Its length.
pub const COMMON_BYTES: u16 = 0x38;
