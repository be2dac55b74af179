//! Control registers: which writes a guest may make, and what it sees of those bits that stay the wall's.

use super::walk::{LMA, Regime};

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
    /// `mov` from CR`register` to the general register of this number; of CR0 only.
    Read {
        /// Which general register.
        target: u8,
        /// How many bytes of it are written: 4 clear the upper half.
        bytes: u8,
    },
    /// `clts`.
    ClearTaskSwitched,
    /// `lmsw`.
    LoadMachineStatus(u16),
    /// The CPU does not tell; the instruction does.
    Untold,
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
    /// VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP FSGSBASE PCIDE OSXSAVE SMEP SMAP: what a guest may set, if its CPU has it. All
    /// else, of this CPU or of a newer one, faults.
    pub const OPEN: u64 = 0x37_0fff;
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

/// The CR4 that a CPU has, of what a guest may set: CPUID's leaves 1 and 7 tell (SDM 3 §2.5).
#[must_use]
pub fn cr4_of([_, _, c1, _]: [u32; 4], [_, b7, c7, _]: [u32; 4]) -> u64 {
    let features = [(c7, 2, 11), (b7, 0, 16), (c1, 17, 17), (c1, 26, 18), (b7, 7, 20), (b7, 20, 21)];
    features
        .into_iter()
        .filter(|(word, bit, _)| word >> bit & 1 == 0)
        .fold(cr4::OPEN, |all, (_, _, place)| all & !(1 << place))
}

/// Whether a guest may write a value into CR4 (SDM 3 §2.5, §4.1.2; APM 2 §3.1.3): `open` is what it may set, and its way of paging goes on.
#[must_use]
pub const fn fits_cr4(now: &Regime, value: u64, open: u64) -> bool {
    let is_long = now.efer & LMA != 0;
    let sets_contexts = value & !now.cr4 & cr4::PCIDE != 0;
    value & !open == 0
        && (!is_long || value & cr4::PAE != 0)
        && (value & cr4::PCIDE == 0 || is_long)
        && !(sets_contexts && now.cr3 & 0xfff != 0)
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
    fn cr4_takes_what_is_open_and_the_cpu_has_and_goes_with_the_paging() {
        assert_eq!(cr4_of([u32::MAX; 4], [u32::MAX; 4]), cr4::OPEN);
        assert_eq!(cr4_of([0; 4], [0; 4]), 0x7ff, "a CPU with none of the later ones");
        assert_eq!(cr4_of([0, 0, 1 << 17, 0], [0; 4]), 0x7ff | cr4::PCIDE);
        let long = Regime { cr0: cr0::PG | cr0::PE, cr3: 0x1000, cr4: cr4::PAE, efer: LMA };
        let legacy = Regime { cr4: 0, efer: 0, ..long };
        for bit in 0..64 {
            assert_eq!(fits_cr4(&long, cr4::PAE | 1 << bit, cr4::OPEN), cr4::OPEN >> bit & 1 != 0, "bit {bit}");
        }
        assert!(!fits_cr4(&long, cr4::PAE | cr4::PCIDE, 0x7ff), "the CPU has none");
        assert!(!fits_cr4(&long, cr4::PSE, cr4::OPEN), "PAE stays on in long mode");
        assert!(
            fits_cr4(&legacy, cr4::PSE, cr4::OPEN) && !fits_cr4(&legacy, cr4::PCIDE, cr4::OPEN),
            "contexts are of long mode"
        );
        let one = Regime { cr3: 0x1001, ..long };
        assert!(!fits_cr4(&one, cr4::PAE | cr4::PCIDE, cr4::OPEN), "a context is in use");
        let on = Regime { cr4: cr4::PAE | cr4::PCIDE, ..one };
        assert!(fits_cr4(&on, cr4::PAE | cr4::PCIDE | cr4::OSXSAVE, cr4::OPEN), "they were on");
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
