//! Why the guest was left: ESR_EL2 decoded into a closed set (Arm ARM D17.2.37, "ESR_EL2").

/// A trapped access to guest-physical memory that the CPU described in full (ISV = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAccess {
    /// Width in bytes: 1, 2, 4 or 8.
    pub bytes: u8,
    /// The general register read or written, 31 for the zero register.
    pub register: u8,
    /// A store.
    pub is_write: bool,
    /// A load that sign-extends.
    pub is_signed: bool,
    /// The register is 64 bits wide.
    pub is_64_bit: bool,
}

impl MemoryAccess {
    /// A loaded value as the register shall hold it: cut to the width, then zero- or sign-extended.
    #[must_use]
    pub const fn extend(&self, value: u64) -> u64 {
        let shift = 64 - self.bytes as u32 * 8;
        let value = value << shift;
        let value = if self.is_signed { (value.cast_signed() >> shift).cast_unsigned() } else { value >> shift };
        if self.is_64_bit { value } else { value & 0xffff_ffff }
    }
}

/// The reasons for which a partition is left synchronously.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `wfi` or `wfe` (EC 0x01).
    Wait,
    /// `hvc` from AArch64 (EC 0x16), with its immediate.
    Hvc(u16),
    /// `smc` from AArch64 (EC 0x17), with its immediate.
    Smc(u16),
    /// `mrs`/`msr` of a trapped system register (EC 0x18).
    SystemRegister {
        /// op0<<14 | op1<<11 | CRn<<7 | CRm<<3 | op2.
        encoding: u16,
        /// `mrs`.
        is_read: bool,
        /// The general register, 31 for the zero register.
        register: u8,
    },
    /// Stage-2 fault of a data access (EC 0x24) with a full description.
    Data(MemoryAccess),
    /// Stage-2 fault of a data access without one: a pair, write-back, exclusive, cache or table-walk access.
    DataUndescribed,
    /// Stage-2 fault of an instruction fetch (EC 0x20).
    Fetch,
    /// Anything else: the exception class.
    Other(u8),
}

impl Exit {
    /// Whether it is [`Exit::Hvc`]: the exit that matters most is told by its class alone.
    #[must_use]
    #[inline(always)]
    pub const fn is_hvc(esr: u64) -> bool {
        esr >> 26 & 0x3f == 0x16
    }

    /// The access, if it is [`Exit::Data`].
    #[must_use]
    #[inline(always)]
    pub const fn described(esr: u64) -> Option<MemoryAccess> {
        match Self::decode(esr) {
            Self::Data(access) => Some(access),
            _ => None,
        }
    }

    /// Decodes ESR_EL2. Never fails: what is not known is [`Exit::Other`].
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out by position")]
    pub const fn decode(esr: u64) -> Self {
        let class = (esr >> 26 & 0x3f) as u8;
        match class {
            0x01 => Self::Wait,
            0x16 => Self::Hvc(esr as u16),
            0x17 => Self::Smc(esr as u16),
            0x18 => Self::SystemRegister {
                encoding: system_register(esr),
                is_read: esr & 1 != 0,
                register: (esr >> 5 & 0x1f) as u8,
            },
            0x20 => Self::Fetch,
            // ISV bit 24; S1PTW bit 7 and CM bit 8 describe no access of the guest's own instruction.
            0x24 if esr >> 24 & 1 == 0 || esr >> 7 & 3 != 0 => Self::DataUndescribed,
            0x24 => Self::Data(MemoryAccess {
                bytes: 1 << (esr >> 22 & 3),
                register: (esr >> 16 & 0x1f) as u8,
                is_write: esr >> 6 & 1 != 0,
                is_signed: esr >> 21 & 1 != 0,
                is_64_bit: esr >> 15 & 1 != 0,
            }),
            _ => Self::Other(class),
        }
    }
}

/// ISS of EC 0x18: Op0 bits 20-21, Op2 17-19, Op1 14-16, CRn 10-13, Rt 5-9, CRm 1-4, direction 0.
#[expect(clippy::cast_possible_truncation, reason = "sixteen bits")]
const fn system_register(iss: u64) -> u16 {
    let (op0, op2, op1) = (iss >> 20 & 3, iss >> 17 & 7, iss >> 14 & 7);
    let (crn, crm) = (iss >> 10 & 15, iss >> 1 & 15);
    (op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2) as u16
}

/// The guest-physical address of a stage-2 fault: HPFAR_EL2 holds bits 12 and up, FAR_EL2 the rest (Arm ARM D17.2.61).
#[must_use]
pub const fn fault_address(hpfar: u64, far: u64) -> u64 {
    (hpfar & 0xfff_ffff_fff0) << 8 | far & 0xfff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_carry_their_immediate() {
        assert_eq!(Exit::decode(0x16 << 26 | 1 << 25), Exit::Hvc(0));
        assert_eq!(Exit::decode(0x17 << 26 | 1 << 25 | 0xbeef), Exit::Smc(0xbeef));
    }

    #[test]
    fn a_described_store_is_decoded_and_an_undescribed_one_is_told_apart() {
        let store = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 5 << 16 | 1 << 6;
        let Exit::Data(access) = Exit::decode(store) else { panic!("not described") };
        assert_eq!((access.bytes, access.register, access.is_write), (4, 5, true));
        assert_eq!(Exit::decode(store & !(1 << 24)), Exit::DataUndescribed);
        assert_eq!(Exit::decode(store | 1 << 7), Exit::DataUndescribed, "a table walk");
    }

    #[test]
    fn loads_are_extended_as_the_instruction_says() {
        let access = MemoryAccess { bytes: 1, register: 0, is_write: false, is_signed: true, is_64_bit: false };
        assert_eq!(access.extend(0x1_80), 0xffff_ff80);
        assert_eq!(MemoryAccess { is_64_bit: true, ..access }.extend(0x80), 0xffff_ffff_ffff_ff80);
        assert_eq!(MemoryAccess { is_signed: false, bytes: 8, is_64_bit: true, ..access }.extend(u64::MAX), u64::MAX);
    }

    #[test]
    fn system_register_encodings_are_those_of_the_manual() {
        // mrs x3, ID_AA64PFR0_EL1: S3_0_C0_C4_0
        let esr = 0x18 << 26 | 3 << 20 | 3 << 5 | 4 << 1 | 1;
        let expected = Exit::SystemRegister { encoding: 3 << 14 | 4 << 3, is_read: true, register: 3 };
        assert_eq!(Exit::decode(esr), expected);
    }

    #[test]
    fn fault_addresses_join_page_and_offset() {
        assert_eq!(fault_address(0x0008_0000 << 4 >> 4, 0xffff_0000_1234_5678), 0x0800_0678);
    }

    #[test]
    fn every_class_decodes_to_something() {
        for class in 0..64 {
            let _ = Exit::decode(class << 26 | 0x1ff_ffff);
        }
        assert_eq!(Exit::decode(0x3f << 26), Exit::Other(0x3f));
    }
}
