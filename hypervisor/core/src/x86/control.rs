//! Control registers: which writes a guest may make, and what it sees of those bits that stay the wall's.

/// A trapped access to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `mov` to CR`register` from the general register of this number (0 RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, …).
    Write {
        /// Which control register.
        register: u8,
        /// Which general register.
        source: u8,
    },
    /// `clts`.
    ClearTaskSwitched,
    /// `lmsw`.
    LoadMachineStatus(u16),
}

/// CR0 (SDM 3 §2.5).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type: always 1.
    pub const ET: u64 = 1 << 4;
    /// Numeric errors are exceptions.
    pub const NE: u64 = 1 << 5;
    /// Write protect.
    pub const WP: u64 = 1 << 16;
    /// Not write through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
    /// All that are defined; the rest of the low half is ignored on a write, bits 32 and up fault.
    pub const DEFINED: u64 = PE | 1 << 1 | 1 << 2 | TS | ET | NE | WP | 1 << 18 | NW | CD | PG;
}

/// CR4 (SDM 3 §2.5).
pub mod cr4 {
    /// Physical address extension.
    pub const PAE: u64 = 1 << 5;
    /// Page-size extension.
    pub const PSE: u64 = 1 << 4;
    /// VMX instructions.
    pub const VMXE: u64 = 1 << 13;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE.
    pub const OSXSAVE: u64 = 1 << 18;
}

/// What a guest may write into CR0: the value it will see, or `None`: a general protection fault (SDM 3 §2.5, "MOV to CR0").
#[must_use]
pub const fn cr0(value: u64) -> Option<u64> {
    let is_illegal = value >> 32 != 0
        || value & cr0::PG != 0 && value & cr0::PE == 0
        || value & cr0::NW != 0 && value & cr0::CD == 0;
    if is_illegal { None } else { Some(value & cr0::DEFINED | cr0::ET) }
}

/// Whether a write to CR0 goes well with the guest's way of paging: PG is not cleared in 64-bit code or with PCIDs, and not set for
/// long mode without PAE or from a 64-bit segment (SDM 3 §2.5, §4.1, §10.8.5). The CPU would refuse to enter such a guest.
#[must_use]
pub const fn fits_paging(now: u64, value: u64, cr4: u64, has_lme: bool, has_long_code: bool) -> bool {
    let is_on = value & cr0::PG != 0;
    let was_on = now & cr0::PG != 0;
    match (was_on, is_on) {
        (true, false) => !has_long_code && cr4 & cr4::PCIDE == 0,
        (false, true) => !has_lme || cr4 & cr4::PAE != 0 && !has_long_code,
        _ => true,
    }
}

/// The CR0 that is in force for what a guest sees: caches stay on, numeric errors are exceptions.
#[must_use]
pub const fn effective_cr0(seen: u64) -> u64 {
    seen & !(cr0::CD | cr0::NW) | cr0::NE
}

/// Whether a guest may set XCR0 to a value: x87 always, SSE before AVX, nothing that the CPU lacks (SDM 1 §13.3).
#[must_use]
pub const fn xcr0(value: u64, supported: u64) -> bool {
    const X87: u64 = 1;
    const SSE: u64 = 2;
    const AVX: u64 = 4;
    value & !(supported & (X87 | SSE | AVX)) == 0 && value & X87 != 0 && (value & AVX == 0 || value & SSE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_stay_on_whatever_the_guest_sees() {
        let seen = cr0(0xc005_0033).expect("Linux writes this");
        assert_eq!(seen, 0xc005_0033);
        assert_eq!(effective_cr0(seen), 0x8005_0033);
        assert_eq!(effective_cr0(0x11) & cr0::NE, cr0::NE);
    }

    #[test]
    fn contradictions_fault() {
        assert_eq!(cr0(cr0::PG), None, "paging without protection");
        assert_eq!(cr0(cr0::NW | cr0::PE), None);
        assert_eq!(cr0(1 << 32), None);
        assert_eq!(cr0(cr0::PE | 1 << 6), Some(cr0::PE | cr0::ET), "an undefined bit of the low half is ignored");
    }

    #[test]
    fn paging_goes_on_and_off_only_where_the_cpu_would_let_it() {
        let (on, off) = (cr0::PG | cr0::PE, cr0::PE);
        assert!(fits_paging(off, on, cr4::PAE, true, false) && fits_paging(off, on, 0, false, false));
        assert!(!fits_paging(off, on, 0, true, false), "long mode without PAE");
        assert!(!fits_paging(off, on, cr4::PAE, true, true), "from a 64-bit segment");
        assert!(fits_paging(on, off, cr4::PAE, true, false), "from compatibility mode");
        assert!(!fits_paging(on, off, cr4::PAE, true, true), "in 64-bit code");
        assert!(!fits_paging(on, off, cr4::PAE | cr4::PCIDE, true, false), "with PCIDs");
        assert!(fits_paging(on, on | cr0::CD, cr4::PAE, true, true), "it stays on");
    }

    #[test]
    fn xcr0_takes_what_fits_together_and_the_cpu_has() {
        assert!(xcr0(7, 7) && xcr0(3, 7) && xcr0(1, 7));
        for bad in [0, 2, 5, 6, 0xf, 1 << 9 | 7] {
            assert!(!xcr0(bad, u64::MAX), "{bad:#x}");
        }
        assert!(!xcr0(7, 3), "the CPU has no AVX");
    }
}
