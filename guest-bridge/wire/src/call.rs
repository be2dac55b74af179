//! The register call. Owner of the ids: vendor-specific hypervisor service (SMCCC §6, OEN 6), fast calls.

/// SMCCC "Call UID" of the vendor hypervisor service. Out: w0-w3 = [`UID`].
pub const CALL_UID: u32 = 0x8600_ff01;
/// SMCCC "Revision". Out: x0 = major, x1 = minor.
pub const REVISION: u32 = 0x8600_ff03;
/// Feature bits of this wall. Out: x0 = [`FEATURES_BITS`]. Also the null call: it does nothing else.
pub const FEATURES: u32 = 0xc600_0000;
/// Calls a service. In: x1 = header (object | method << 16 | length << 32), x2-x7 = words.
/// Out: x0 = status (`bulkhead_abi::Status`), x1-x6 = reply words, zero where the reply is shorter or there is none;
/// when refused (`Denied`), x1 = the rule, 0xffff if no rule names the call.
pub const SERVICE_CALL: u32 = 0xc600_0001;
/// Describes the n-th service that the policy lets the guest call. In: x1 = n.
/// Out: x0 = 0 and x1 = object | method count << 16, x2-x4 = name, zero-padded; x0 = `Unknown` past the last.
pub const SERVICE_INFO: u32 = 0xc600_0002;

/// UID of Bulkhead's hypervisor service: 62756c6b-6865-4164-8000-77616c6c0001, as SMCCC §6.2 packs a UUID in four words.
pub const UID: [u32; 4] = [0x6b6c_7562, 0x6441_6568, 0x6177_0080, 0x0100_6c6c];
/// ABI revision: major changes break, minor ones add.
pub const REVISION_MAJOR: u64 = 1;
/// ABI revision, minor.
pub const REVISION_MINOR: u64 = 0;

/// [`FEATURES`] bit: [`SERVICE_CALL`] and [`SERVICE_INFO`] exist.
pub const FEATURE_SERVICE_CALL: u64 = 1 << 0;
/// [`FEATURES`] bit: a device with named ports exists.
pub const FEATURE_PORTS: u64 = 1 << 1;
/// What this version offers.
pub const FEATURES_BITS: u64 = FEATURE_SERVICE_CALL | FEATURE_PORTS;
