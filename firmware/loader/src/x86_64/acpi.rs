//! What ACPI's static tables say of the machine (ACPI 6.5 §5.2). No byte code is run.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bulkhead_hypervisor_core::plan::Range;

use super::{number, u32_at};

/// The machine's memory, as far as tables may lie in it.
pub trait Physical {
    /// The bytes at an address; `None` where no table can lie.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// What the tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acpi {
    /// The local APIC's page.
    pub local_apic: u64,
    /// How many CPUs can be used.
    pub cpu_count: u32,
    /// The I/O APICs: register page and first global interrupt.
    pub io_apics: Vec<(u64, u32)>,
    /// ISA interrupts that come by another global interrupt than their own number: (ISA, global).
    pub overrides: Vec<(u8, u32)>,
    /// The HPET's page; 0 if there is none.
    pub hpet: u64,
    /// The power management control register, a port; 0 if there is none.
    pub pm1a_control: u32,
    /// The port whose write raises a system management interrupt; 0 if there is none.
    pub smi_command: u32,
    /// The reset register, if it is a port; else 0.
    pub reset_port: u32,
    /// What goes into SLP_TYP to power the machine off, if the DSDT says so in the usual form.
    pub off_type: Option<u8>,
    /// Where PCI configuration space lies in memory.
    pub pci_config: Vec<Range>,
    /// Whether there is an IOMMU: Intel's (table DMAR) or AMD's (IVRS).
    pub has_iommu: bool,
    /// Whether there is a TPM (table TPM2, or TCPA for the older kind).
    pub has_tpm: bool,
    /// The tables that tell of registers in memory.
    pub told: Vec<Told>,
}

/// A table that tells of registers in memory, which a guest may have or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where the table lies.
    pub table: u64,
    /// The registers; none for an IOMMU, which is never a guest's.
    pub registers: Vec<Range>,
}

/// Why the tables cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiError {
    /// No root pointer, or a damaged one.
    Root,
    /// A table is damaged or out of reach.
    Table([u8; 4]),
    /// A table that the wall needs is missing.
    Missing(&'static str),
    /// There is no I/O APIC.
    NoIoApic,
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("no ACPI: its root pointer is missing or damaged"),
            Self::Table(name) => write!(f, "the ACPI table '{}' is damaged", name.escape_ascii()),
            Self::Missing(name) => write!(f, "the ACPI table '{name}' is missing"),
            Self::NoIoApic => f.write_str(
                "the machine has no I/O APIC (ACPI names none): the wall needs one (firmware setup: APIC mode)",
            ),
        }
    }
}

/// The longest table that is looked at.
const MAX_TABLE: usize = 1 << 20;
/// The most tables.
const MAX_TABLES: usize = 256;
const HEADER_BYTES: usize = 36;
/// IA-PC HPET 1.0a §2.2: as much as all registers take.
const HPET_BYTES: u64 = 1024;
/// The name of a table that a guest is not told of. No specification has it, so that nobody looks into it.
const NOBODYS: &[u8; 4] = b"NONE";
/// The bytes of a header that a new name changes: name, length, revision, sum (§5.2.6).
pub const NAMED_BYTES: usize = 10;

/// Reads the tables that the root pointer leads to.
///
/// # Errors
/// [`AcpiError`]
pub fn read(rsdp: &[u8], memory: &impl Physical) -> Result<Acpi, AcpiError> {
    let mut acpi = Acpi::default();
    let (mut has_madt, mut has_fadt) = (false, false);
    for address in roots(rsdp, memory)? {
        let name = memory.bytes(address, 4).and_then(|name| name.first_chunk()).ok_or(AcpiError::Root)?;
        // Tables that are not needed are not looked into: firmware's mistakes there are none of ours.
        match name {
            b"APIC" => {
                madt(table(address, memory)?, &mut acpi).ok_or(AcpiError::Table(*name))?;
                has_madt = true;
            }
            b"FACP" => {
                fadt(table(address, memory)?, memory, &mut acpi).ok_or(AcpiError::Table(*name))?;
                has_fadt = true;
            }
            b"HPET" => {
                acpi.hpet = hpet(table(address, memory)?).ok_or(AcpiError::Table(*name))?;
                let registers = vec![Range { base: acpi.hpet, bytes: HPET_BYTES }];
                acpi.told.push(Told { table: address, registers });
            }
            b"MCFG" => {
                acpi.pci_config = mcfg(table(address, memory)?).ok_or(AcpiError::Table(*name))?;
                acpi.told.push(Told { table: address, registers: acpi.pci_config.clone() });
            }
            b"DMAR" | b"IVRS" => {
                acpi.has_iommu = true;
                acpi.told.push(Told { table: address, registers: Vec::new() });
            }
            b"TPM2" | b"TCPA" => acpi.has_tpm = true,
            _ => {}
        }
    }
    if !has_madt {
        return Err(AcpiError::Missing("APIC"));
    }
    if !has_fadt {
        return Err(AcpiError::Missing("FACP"));
    }
    if acpi.io_apics.is_empty() { Err(AcpiError::NoIoApic) } else { Ok(acpi) }
}

/// The tables' addresses: of the XSDT where there is one, else of the RSDT.
fn roots(rsdp: &[u8], memory: &impl Physical) -> Result<Vec<u64>, AcpiError> {
    let old = rsdp.get(..20).filter(|old| old.starts_with(b"RSD PTR ") && sum(old) == 0).ok_or(AcpiError::Root)?;
    let newer = || {
        let length = usize::try_from(u32_at(rsdp, 20)?).ok()?;
        rsdp.get(..length).filter(|bytes| length >= 36 && bytes.get(15) != Some(&0) && sum(bytes) == 0)
    };
    let xsdt = newer().and_then(|bytes| number(bytes, 24, 8)).filter(|&address| address != 0);
    let (address, width) = match xsdt {
        Some(address) => (address, 8),
        None => (number(old, 16, 4).ok_or(AcpiError::Root)?, 4),
    };
    let list = table(address, memory)?.get(HEADER_BYTES..).ok_or(AcpiError::Root)?;
    Ok(list.chunks_exact(width).take(MAX_TABLES).filter_map(|entry| number(entry, 0, width)).collect())
}

/// A whole table, its sum checked.
fn table(address: u64, memory: &impl Physical) -> Result<&[u8], AcpiError> {
    let header = memory.bytes(address, HEADER_BYTES).ok_or(AcpiError::Root)?;
    let name = header.first_chunk().copied().unwrap_or_default();
    let length = u32_at(header, 4).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| (HEADER_BYTES..=MAX_TABLE).contains(length)).ok_or(AcpiError::Table(name))?;
    memory.bytes(address, length).filter(|bytes| sum(bytes) == 0).ok_or(AcpiError::Table(name))
}

/// The start of a table under a name that means nothing; the sum of the whole table stays 0.
#[must_use]
pub fn unnamed(mut start: [u8; NAMED_BYTES]) -> [u8; NAMED_BYTES] {
    let before = sum(&start);
    start[..4].copy_from_slice(NOBODYS);
    start[9] = start[9].wrapping_add(before.wrapping_sub(sum(&start)));
    start
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// §5.2.12.
fn madt(table: &[u8], acpi: &mut Acpi) -> Option<()> {
    acpi.local_apic = number(table, 36, 4)?;
    let mut rest = table.get(44..)?;
    while let Some(&[kind, length, ..]) = rest.first_chunk::<2>().map(|head| &head[..]) {
        let entry = rest.get(..usize::from(length)).filter(|entry| entry.len() >= 2)?;
        match kind {
            // A CPU that is enabled, or can be.
            0 if u32_at(entry, 4)? & 3 != 0 => acpi.cpu_count += 1,
            9 if u32_at(entry, 8)? & 3 != 0 => acpi.cpu_count += 1,
            1 => acpi.io_apics.push((number(entry, 4, 4)?, u32_at(entry, 8)?)),
            2 => acpi.overrides.push((*entry.get(3)?, u32_at(entry, 4)?)),
            5 => acpi.local_apic = number(entry, 4, 8)?,
            _ => {}
        }
        rest = rest.get(usize::from(length)..)?;
    }
    Some(())
}

/// §5.2.9. The extended address fields hold where they are not zero.
fn fadt(table: &[u8], memory: &impl Physical, acpi: &mut Acpi) -> Option<()> {
    acpi.smi_command = u32_at(table, 48)?;
    acpi.pm1a_control =
        port(table, 172).filter(|&port| port != 0).or(u32_at(table, 64)).filter(|port| *port <= 0xffff)?;
    let has_reset = u32_at(table, 112)? & 1 << 10 != 0;
    acpi.reset_port = port(table, 116).filter(|_| has_reset).unwrap_or(0);
    let dsdt = number(table, 140, 8).filter(|&address| address != 0).or(number(table, 40, 4));
    acpi.off_type = dsdt.and_then(|address| off_type(self::table(address, memory).ok()?));
    Some(())
}

/// A generic address (§5.2.3.2) that is a port.
fn port(table: &[u8], at: usize) -> Option<u32> {
    let is_port = *table.get(at)? == 1;
    number(table, at + 4, 8).filter(|address| is_port && *address <= 0xffff).and_then(|port| u32::try_from(port).ok())
}

/// The first number of the package `_S5_` (§7.4.2): NameOp, name (which may start at the root), PackageOp, its length, how
/// many, a constant.
fn off_type(dsdt: &[u8]) -> Option<u8> {
    let is_name =
        |at: &usize| dsdt.get(..*at).is_some_and(|before| before.ends_with(b"\x08") || before.ends_with(b"\x08\\"));
    let found = dsdt.windows(5).enumerate().filter(|(_, window)| window == b"_S5_\x12").map(|(at, _)| at);
    let package = dsdt.get(found.into_iter().find(is_name)? + 5..)?;
    let length_bytes = usize::from(package.first()? >> 6) + 1;
    match package.get(length_bytes + 1..)? {
        [constant @ (0 | 1), ..] => Some(*constant),
        [0x0a, value, ..] => Some(*value & 7),
        _ => None,
    }
}

/// IA-PC HPET specification §3.2.4: the registers' address.
fn hpet(table: &[u8]) -> Option<u64> {
    let is_memory = *table.get(40)? == 0;
    Some(if is_memory { number(table, 44, 8)? } else { 0 })
}

/// PCI Firmware Specification 3.3 §4.1.2: 1 MiB of registers a bus.
fn mcfg(table: &[u8]) -> Option<Vec<Range>> {
    let entry = |entry: &[u8]| {
        let (first, last) = (u64::from(*entry.get(10)?), u64::from(*entry.get(11)?));
        let base = number(entry, 0, 8)?.checked_add(first << 20)?;
        Some(Range { base, bytes: (last + 1).saturating_sub(first) << 20 })
    };
    table.get(44..)?.chunks_exact(16).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables at addresses.
    struct Fake(Vec<(u64, Vec<u8>)>);

    impl Physical for Fake {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            self.0.iter().find_map(|(base, bytes)| {
                bytes.get(usize::try_from(address.checked_sub(*base)?).ok()?..)?.get(..length)
            })
        }
    }

    fn sealed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        bytes[at] = 0;
        bytes[at] = 0_u8.wrapping_sub(sum(&bytes));
        bytes
    }

    fn table_of(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = name.to_vec();
        bytes.extend_from_slice(&u32::try_from(HEADER_BYTES + body.len()).unwrap().to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(body);
        sealed(bytes, 9)
    }

    fn madt_body(entries: &[&[u8]]) -> Vec<u8> {
        [&0xfee0_0000_u32.to_le_bytes()[..], &[0; 4], &entries.concat()].concat()
    }

    const CPU: &[u8] = &[0, 8, 0, 0, 1, 0, 0, 0];
    const OFF_CPU: &[u8] = &[0, 8, 1, 1, 0, 0, 0, 0];
    const IO_APIC: &[u8] = &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
    const PIT: &[u8] = &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0];

    fn fadt_body() -> Vec<u8> {
        let mut body = vec![0; 208];
        let mut put = |at: usize, bytes: &[u8]| body[at - HEADER_BYTES..][..bytes.len()].copy_from_slice(bytes);
        put(40, &0x5000_u32.to_le_bytes());
        put(48, &0xb2_u32.to_le_bytes());
        put(64, &0x604_u32.to_le_bytes());
        put(112, &(1_u32 << 10).to_le_bytes());
        put(116, &[1, 8, 0, 1, 0xf9, 0x0c, 0, 0]);
        body
    }

    fn rsdp(version: u8) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0BULKHD".to_vec();
        bytes.push(version);
        bytes.extend_from_slice(&0x1000_u32.to_le_bytes());
        bytes = sealed(bytes, 8);
        bytes.extend_from_slice(&36_u32.to_le_bytes());
        bytes.extend_from_slice(&0x2000_u64.to_le_bytes());
        bytes.resize(36, 0);
        sealed(bytes, 32)
    }

    fn machine(madt: &[&[u8]]) -> Fake {
        let hpet = [&[0; 4][..], &[0; 4], &0xfed0_0000_u64.to_le_bytes(), &[0; 4]].concat();
        let mcfg = [&[0; 8][..], &0xb000_0000_u64.to_le_bytes(), &[0, 0, 0, 255], &[0; 4]].concat();
        let places: Vec<u64> = (3..8).map(|page| page * 0x1000).collect();
        let list =
            |width: usize| places.iter().flat_map(|place| place.to_le_bytes()[..width].to_vec()).collect::<Vec<_>>();
        Fake(vec![
            (0x1000, table_of(b"RSDT", &list(4))),
            (0x2000, table_of(b"XSDT", &list(8))),
            (0x3000, table_of(b"APIC", &madt_body(madt))),
            (0x4000, table_of(b"FACP", &fadt_body())),
            (0x5000, table_of(b"DSDT", b"\x10\x05xxxx\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00")),
            (0x6000, table_of(b"HPET", &hpet)),
            (0x7000, table_of(b"MCFG", &mcfg)),
        ])
    }

    #[test]
    fn both_lists_lead_to_the_same_machine() {
        let machine = machine(&[CPU, OFF_CPU, IO_APIC, PIT]);
        let acpi = read(&rsdp(2), &machine).unwrap();
        assert_eq!(
            acpi,
            Acpi {
                local_apic: 0xfee0_0000,
                cpu_count: 1,
                io_apics: vec![(0xfec0_0000, 0)],
                overrides: vec![(0, 2)],
                hpet: 0xfed0_0000,
                pm1a_control: 0x604,
                smi_command: 0xb2,
                reset_port: 0xcf9,
                off_type: Some(5),
                pci_config: vec![Range { base: 0xb000_0000, bytes: 0x1000_0000 }],
                has_iommu: false,
                has_tpm: false,
                told: vec![
                    Told { table: 0x6000, registers: vec![Range { base: 0xfed0_0000, bytes: 0x400 }] },
                    Told { table: 0x7000, registers: vec![Range { base: 0xb000_0000, bytes: 0x1000_0000 }] },
                ],
            }
        );
        assert_eq!(read(&rsdp(0), &machine), Ok(acpi));
    }

    #[test]
    fn a_table_that_is_nobodys_stays_sound_and_is_found_no_more() {
        let mut machine = machine(&[CPU, IO_APIC]);
        let acpi = read(&rsdp(2), &machine).unwrap();
        for told in &acpi.told {
            let (_, bytes) = machine.0.iter_mut().find(|(base, _)| *base == told.table).unwrap();
            let start = unnamed(*bytes.first_chunk().unwrap());
            bytes[..NAMED_BYTES].copy_from_slice(&start);
            assert!(bytes.starts_with(b"NONE") && sum(bytes) == 0, "{:#x}", told.table);
            assert_eq!(bytes[4..9], start[4..9], "length and revision stay");
        }
        let left = read(&rsdp(2), &machine).unwrap();
        assert_eq!((left.hpet, left.pci_config.len(), left.told.len()), (0, 0, 0));
        assert_eq!((left.io_apics, left.pm1a_control), (acpi.io_apics, acpi.pm1a_control), "all else is told");
    }

    #[test]
    fn an_iommu_is_never_a_guests() {
        for name in [b"DMAR", b"IVRS"] {
            let mut machine = machine(&[CPU, IO_APIC]);
            machine.0[5].1 = table_of(name, &[]);
            let acpi = read(&rsdp(2), &machine).unwrap();
            assert_eq!((acpi.has_iommu, acpi.told[0].registers.len()), (true, 0));
        }
    }

    #[test]
    fn the_type_that_powers_off_is_found_in_its_usual_forms_and_nothing_else_is_taken_for_it() {
        assert_eq!(off_type(b"x\x08_S5_\x12\x06\x04\x0a\x05"), Some(5));
        assert_eq!(off_type(b"_S5_\x12..\x08\\_S5_\x12\x06\x04\x00\x00"), Some(0));
        assert_eq!(off_type(b"\x08_S5_\x12\x46\x00\x04\x01"), Some(1));
        assert_eq!(off_type(b"\x08_S5_\x12\x06\x04\x0b\x05\x00"), None);
        assert_eq!(
            (off_type(b"\x08_S5_\x12"), off_type(b"\x08_S4_\x12\x06\x04\x00"), off_type(b"")),
            (None, None, None)
        );
    }

    #[test]
    fn a_damaged_root_pointer_is_refused() {
        for at in 0..20 {
            let mut damaged = rsdp(0);
            damaged[at] ^= 0x40;
            assert_eq!(read(&damaged, &machine(&[IO_APIC])), Err(AcpiError::Root), "byte {at}");
        }
        assert_eq!(read(&[], &machine(&[IO_APIC])), Err(AcpiError::Root));
    }

    #[test]
    fn damage_to_a_table_that_is_needed_is_refused_by_its_name() {
        for at in 4..60 {
            let mut machine = machine(&[CPU, IO_APIC]);
            machine.0[2].1[at] ^= 0x80;
            assert_eq!(read(&rsdp(2), &machine), Err(AcpiError::Table(*b"APIC")), "byte {at}");
        }
        let text = AcpiError::Table(*b"A\x1bIC").to_string();
        assert_eq!(text, "the ACPI table 'A\\x1bIC' is damaged");
    }

    #[test]
    fn a_machine_without_an_io_apic_or_without_the_tables_is_refused() {
        assert_eq!(read(&rsdp(2), &machine(&[CPU])), Err(AcpiError::NoIoApic));
        for (missing, name) in [(2, "APIC"), (3, "FACP")] {
            let mut machine = machine(&[CPU, IO_APIC]);
            machine.0[missing].1 = table_of(b"NONE", &[]);
            assert_eq!(read(&rsdp(2), &machine), Err(AcpiError::Missing(name)));
        }
    }

    #[test]
    fn entries_of_length_zero_or_beyond_the_end_do_not_hang_and_are_refused() {
        for entry in [&[0_u8, 0][..], &[0, 1], &[1, 200, 0, 0], &[1, 3, 0]] {
            assert_eq!(read(&rsdp(2), &machine(&[IO_APIC, entry])), Err(AcpiError::Table(*b"APIC")), "{entry:?}");
        }
    }
}
