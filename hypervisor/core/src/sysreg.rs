//! What the guest gets from a trapped system register, when the policy says nothing else about it.
//!
//! Feature (ID) registers are filtered: what the wall does not give, the guest does not see. Debug and performance
//! registers read as zero and ignore writes (an undefined instruction there stops Debian before it has a vector
//! table). All else is undefined to the guest.

use bulkhead_abi::Message;
use bulkhead_model::{method, object};

/// What the shell does about the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A read gives this value; a write is ignored.
    Emulate(u64),
    /// A feature register: pass the hardware's value through [`filter`].
    Feature,
    /// A write to ICC_SGI1R_EL1.
    SendSgi,
    /// The guest gets an undefined-instruction exception.
    Undefined,
}

/// The call that the policy decides on.
#[must_use]
#[inline]
pub const fn message(encoding: u16, is_read: bool, value: u64) -> Message {
    let (method, len, value) = if is_read { (method::READ, 1, 0) } else { (method::WRITE, 2, value) };
    Message { object: object::SYSREG, method, len, words: [encoding as u64, value, 0, 0, 0, 0] }
}

impl Action {
    /// What is done instead when the policy refuses: features are hidden and nothing is sent. What emulates nothing stays.
    #[must_use]
    pub const fn refused(self) -> Self {
        match self {
            Self::Feature | Self::SendSgi => Self::Emulate(0),
            other => other,
        }
    }
}

/// Packs the fields of a system register's name, S`op0`_`op1`_C`crn`_C`crm`_`op2`.
#[must_use]
pub const fn encoding(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// ICC_SGI1R_EL1.
pub const ICC_SGI1R_EL1: u16 = encoding(3, 0, 12, 11, 5);
/// ID_AA64PFR0_EL1.
pub const ID_AA64PFR0_EL1: u16 = encoding(3, 0, 0, 4, 0);
/// ID_AA64PFR1_EL1.
pub const ID_AA64PFR1_EL1: u16 = encoding(3, 0, 0, 4, 1);
/// ID_AA64DFR0_EL1.
pub const ID_AA64DFR0_EL1: u16 = encoding(3, 0, 0, 5, 0);
/// ID_AA64ISAR0_EL1.
pub const ID_AA64ISAR0_EL1: u16 = encoding(3, 0, 0, 6, 0);
/// ID_AA64ISAR1_EL1.
pub const ID_AA64ISAR1_EL1: u16 = encoding(3, 0, 0, 6, 1);
/// ID_AA64MMFR0_EL1.
pub const ID_AA64MMFR0_EL1: u16 = encoding(3, 0, 0, 7, 0);
/// ID_AA64MMFR1_EL1.
pub const ID_AA64MMFR1_EL1: u16 = encoding(3, 0, 0, 7, 1);

/// Decides on an access by the register's place in the encoding space (Arm ARM D17.1, D12).
#[must_use]
pub const fn decide(encoding: u16, is_read: bool) -> Action {
    let (op0, op1) = (encoding >> 14, encoding >> 11 & 7);
    let (crn, crm) = (encoding >> 7 & 15, encoding >> 3 & 15);
    if encoding == ICC_SGI1R_EL1 {
        return if is_read { Action::Undefined } else { Action::SendSgi };
    }
    match (op0, op1, crn) {
        // Group 3 of the feature registers: S3_0_C0_C1..C7_x.
        (3, 0, 0) if crm >= 1 && crm <= 7 => {
            if is_read {
                Action::Feature
            } else {
                Action::Undefined
            }
        }
        // Debug: all of op0 = 2 (breakpoints, watchpoints, MDSCR, OS lock).
        (2, _, _) => Action::Emulate(0),
        // Performance monitors: S3_3_C9_C12..C14, S3_0_C9_C14, event counters S3_3_C14_C8..C15.
        (3, 3, 9) if crm >= 12 && crm <= 14 => Action::Emulate(0),
        (3, 0, 9) if crm == 14 => Action::Emulate(0),
        (3, 3, 14) if crm >= 8 => Action::Emulate(0),
        // ACTLR_EL1 (HCR_EL2.TACR).
        (3, 0, 1) if encoding == self::encoding(3, 0, 1, 0, 1) => Action::Emulate(0),
        _ => Action::Undefined,
    }
}

/// A feature register's value as the guest may see it. Registers that are not listed read as zero: a feature
/// of a CPU newer than this code stays hidden.
#[must_use]
pub const fn filter(encoding: u16, hardware: u64) -> u64 {
    match encoding {
        // EL0/EL1 states, FP, SIMD and the GIC interface (bits 24-27), without EL2, EL3, RAS, SVE, SEL2, MPAM, AMU, DIT, CSV.
        // EL2 (bits 8-11) and EL3 (12-15) read as not there.
        ID_AA64PFR0_EL1 => hardware & 0x0fff_00ff,
        // Only SSBS (bits 4-7): no BTI, MTE, RAS fraction, SME.
        ID_AA64PFR1_EL1 => hardware & 0xf0,
        // Debug architecture and the fewest breakpoints; PMU, trace and statistical profiling hidden.
        ID_AA64DFR0_EL1 => hardware & 0xf,
        // Instructions without state: AES, SHA, CRC, atomics, RDM, dot product and so on. TME (24-27) hidden.
        ID_AA64ISAR0_EL1 => hardware & !(0xf << 24),
        // DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, I8MM; pointer authentication (4-11, 24-31) and LS64 (60-63) hidden.
        ID_AA64ISAR1_EL1 => hardware & 0x00ff_ffff_00ff_f00f,
        // Physical range, ASID bits, granules; ECV (60-63) and FGT (56-59) hidden.
        ID_AA64MMFR0_EL1 => hardware & 0x00ff_ffff_ffff_ffff,
        // Hardware A/D updates, PAN and so on; VHE (8-11), XNX, TWED, limited ordering hidden.
        ID_AA64MMFR1_EL1 => hardware & 0x00f0_00ff,
        // AArch32 at EL0: S3_0_C0_C1_x and C2_x describe it (PFR0/1, MMFRs, ISARs, MVFRs in C3).
        _ if is_aarch32_feature(encoding) => hardware,
        _ => 0,
    }
}

/// AArch32's feature registers: CRm 1 and 2 (but ID_DFR0, op2 = 2, and ID_AFR0) and MVFR0-2 in CRm 3.
const fn is_aarch32_feature(encoding: u16) -> bool {
    let (crm, op2) = (encoding >> 3 & 15, encoding & 7);
    encoding >> 7 == self::encoding(3, 0, 0, 0, 0) >> 7
        && match crm {
            1 => op2 != 2 && op2 != 3,
            2 => true,
            3 => op2 <= 2,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_without_a_provision_are_hidden_and_the_plain_ones_are_kept() {
        assert_eq!(filter(ID_AA64PFR0_EL1, 0x1111_1111_1111_2222), 0x0111_0022, "no EL2, EL3, RAS, SVE");
        assert_eq!(filter(ID_AA64ISAR1_EL1, u64::MAX) & 0xff0, 0, "no pointer authentication");
        assert_eq!(filter(ID_AA64DFR0_EL1, 0x1030_5106) >> 4, 0, "no PMU, no breakpoints beyond the first");
        assert_eq!(filter(ID_AA64MMFR0_EL1, 0x1124), 0x1124);
        assert_eq!(filter(encoding(3, 0, 0, 4, 4), u64::MAX), 0, "SVE's own register");
        assert_eq!(filter(encoding(3, 0, 0, 7, 7), u64::MAX), 0, "one that does not exist yet");
    }

    #[test]
    fn feature_registers_are_read_and_never_written() {
        assert_eq!(decide(ID_AA64MMFR0_EL1, true), Action::Feature);
        assert_eq!(decide(ID_AA64MMFR0_EL1, false), Action::Undefined);
    }

    #[test]
    fn debug_and_performance_registers_read_as_zero() {
        assert_eq!(decide(encoding(2, 0, 0, 2, 2), false), Action::Emulate(0), "MDSCR_EL1");
        assert_eq!(decide(encoding(3, 3, 9, 14, 0), false), Action::Emulate(0), "PMUSERENR_EL0");
        assert_eq!(decide(encoding(3, 3, 14, 15, 7), true), Action::Emulate(0), "PMCCFILTR_EL0");
    }

    #[test]
    fn software_interrupts_are_sent_and_everything_else_is_undefined() {
        assert_eq!(decide(ICC_SGI1R_EL1, false), Action::SendSgi);
        assert_eq!(decide(ICC_SGI1R_EL1, true), Action::Undefined);
        assert_eq!(decide(encoding(3, 0, 12, 11, 6), false), Action::Undefined, "ICC_ASGI1R_EL1");
        assert_eq!(decide(encoding(3, 4, 1, 1, 0), true), Action::Undefined, "HCR_EL2");
        assert_eq!(decide(encoding(3, 3, 14, 2, 0), true), Action::Undefined, "CNTP_TVAL_EL0");
        assert_eq!(decide(encoding(3, 1, 11, 0, 0), true), Action::Undefined, "implementation defined");
    }
}
