//! What the guest sees of CPUID (SDM 2 "CPUID", APM 3 appendix E): an allow-list of leaves and bits. What is not listed here, of
//! this CPU or of a newer one, is zero.

use bulkhead_wire::call::FEATURES_BITS;

/// EAX, EBX, ECX, EDX.
pub type Registers = [u32; 4];

/// The hypervisor's own leaves: "BulkheadWall", and what it offers.
pub const HYPERVISOR: u32 = 0x4000_0000;
/// The last of them.
const HYPERVISOR_LAST: u32 = HYPERVISOR + 1;
/// KVM's interface to its guests (Linux Documentation/virt/kvm/x86/cpuid.rst), behind the wall's own, without one of its features: a kernel that finds
/// it looks no further, and knows that it may use an x2APIC though nothing remaps interrupts (docs/decisions/0024).
const PARAVIRTUAL: u32 = 0x4000_0100;
/// The highest basic and extended leaf that is shown.
const BASIC_LAST: u32 = 0xd;
const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_LAST: u32 = 0x8000_0008;

/// What depends on the guest's state or on its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// CR4.OSXSAVE as the guest set it.
    pub has_osxsave: bool,
    /// [`DEADLINE`] and [`X2APIC`], as far as the policy gives them to it and the CPU has them.
    pub given: u32,
}

/// Leaf 1, ECX: SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND. Not: MONITOR, VMX, SMX,
/// SpeedStep, x2APIC, performance monitors.
const FEATURES_ECX: u32 = bits(&[0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// The local APIC's timer at a time of the TSC.
pub const DEADLINE: u32 = 1 << 24;
/// The local APIC's registers as MSRs.
pub const X2APIC: u32 = 1 << 21;
const OSXSAVE: u32 = 1 << 27;
/// Told to the guest: it runs beneath a hypervisor.
const IS_GUEST: u32 = 1 << 31;
/// Leaf 1, EDX: FPU VME DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 SS. Not: machine check,
/// debug store, thermal control, several threads.
const FEATURES_EDX: u32 = bits(&[0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 19, 23, 24, 25, 26, 27]);
/// Leaf 7, EBX: FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT CLWB SHA.
const EXTENDED_FEATURES_EBX: u32 = bits(&[0, 3, 5, 7, 8, 9, 10, 18, 19, 20, 23, 24, 29]);
/// Leaf 7, ECX: UMIP.
const EXTENDED_FEATURES_ECX: u32 = bits(&[2]);
/// Leaf 0x8000_0001, ECX: LAHF, LZCNT, SSE4A, misaligned SSE, prefetch.
const AMD_ECX: u32 = bits(&[0, 5, 6, 7, 8]);
/// Leaf 0x8000_0001, EDX: what leaf 1 has too, SYSCALL, NX, MMX extensions, FXSR optimisation, 1 GiB pages, RDTSCP, long mode.
const AMD_EDX: u32 = bits(&[0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 17, 20, 22, 23, 24, 25, 26, 27, 29]);
/// XCR0: x87, SSE, AVX.
const STATES: u32 = 7;

const fn bits(list: &[u32]) -> u32 {
    let (mut all, mut at) = (0, 0);
    while at < list.len() {
        all |= 1 << list[at];
        at += 1;
    }
    all
}

/// The registers as the guest sees them. `cpu` asks the CPU itself for a leaf.
#[must_use]
#[inline(always)]
pub fn filter(leaf: u32, subleaf: u32, context: Context, cpu: impl Fn(u32, u32) -> Registers) -> Registers {
    let shown = match leaf {
        0..=BASIC_LAST => true,
        EXTENDED..=EXTENDED_LAST => true,
        HYPERVISOR => return NAME,
        _ => return own(leaf),
    };
    if shown { masked(leaf, subleaf, context, cpu(leaf, subleaf)) } else { [0; 4] }
}

/// The first of the hypervisor's own leaves.
const NAME: Registers = named(HYPERVISOR_LAST, b"BulkheadWall");

/// The others; zero for what does not exist.
#[inline(never)]
const fn own(leaf: u32) -> Registers {
    #[expect(clippy::cast_possible_truncation, reason = "few bits")]
    match leaf {
        HYPERVISOR_LAST => [FEATURES_BITS as u32, 0, 0, 0],
        PARAVIRTUAL => named(PARAVIRTUAL + 1, b"KVMKVMKVM\0\0\0"),
        _ => [0; 4],
    }
}

/// A leaf that names an interface, and its last leaf.
const fn named(last: u32, text: &[u8; 12]) -> Registers {
    const fn word(text: &[u8; 12], at: usize) -> u32 {
        u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]])
    }
    [last, word(text, 0), word(text, 4), word(text, 8)]
}

fn masked(leaf: u32, subleaf: u32, context: Context, [a, b, c, d]: Registers) -> Registers {
    match leaf {
        0 => [a.min(BASIC_LAST), b, c, d],
        1 => {
            let osxsave = if context.has_osxsave { OSXSAVE } else { 0 };
            // One logical processor, number 0.
            [a, b & 0xffff | 1 << 16, c & FEATURES_ECX | context.given | osxsave | IS_GUEST, d & FEATURES_EDX]
        }
        2 | EXTENDED_FIRST_NAME..=0x8000_0006 => [a, b, c, d],
        // Caches, shared by one thread of one core.
        4 => [a & 0x3fff, b, c, d],
        // The local APIC's timer always runs.
        6 => [a & 1 << 2, 0, 0, 0],
        7 if subleaf == 0 => [0, b & EXTENDED_FEATURES_EBX, c & EXTENDED_FEATURES_ECX, 0],
        0xd if subleaf == 0 => [a & STATES, b, c, 0],
        // XSAVEOPT, XSAVEC, XGETBV with ECX 1.
        0xd if subleaf == 1 => [a & 7, b, 0, 0],
        0xd if subleaf == 2 => [a, b, c, d],
        EXTENDED => [a.min(EXTENDED_LAST), b, c, d],
        0x8000_0001 => [a, b, c & AMD_ECX, d & AMD_EDX],
        // A constant rate of the TSC.
        0x8000_0007 => [0, 0, 0, d & 1 << 8],
        // Sizes of addresses.
        0x8000_0008 => [a & 0xffff, 0, 0, 0],
        _ => [0; 4],
    }
}

const EXTENDED_FIRST_NAME: u32 = 0x8000_0002;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Context = Context { has_osxsave: false, given: 0 };

    fn all_ones(leaf: u32, subleaf: u32) -> Registers {
        filter(leaf, subleaf, PLAIN, |_, _| [u32::MAX; 4])
    }

    #[test]
    fn what_is_not_listed_is_zero_whatever_the_cpu_has() {
        for leaf in (0xe..0x100)
            .chain(0x4000_0002..0x4000_0100)
            .chain(0x4000_0101..0x4000_1000)
            .chain(0x8000_0009..0x8000_0100)
            .chain([0xc000_0000])
        {
            assert_eq!(all_ones(leaf, 0), [0; 4], "{leaf:#x}");
        }
        for leaf in [3, 5, 8, 9, 0xa, 0xb, 0xc] {
            assert_eq!(all_ones(leaf, 0), [0; 4], "{leaf:#x}");
        }
        assert_eq!((all_ones(7, 1), all_ones(0xd, 3)), ([0; 4], [0; 4]));
    }

    #[test]
    fn virtualisation_monitors_and_machine_checks_are_hidden() {
        let [_, _, c, d] = all_ones(1, 0);
        for bit in [3, 5, 6, 15, 21, 24, 27] {
            assert_eq!(c >> bit & 1, 0, "ECX bit {bit}");
        }
        for bit in [7, 14, 21, 22, 28, 29] {
            assert_eq!(d >> bit & 1, 0, "EDX bit {bit}");
        }
        assert_eq!(all_ones(0x8000_0001, 0)[2] >> 2 & 1, 0, "SVM");
        assert_eq!(c >> 31, 1, "beneath a hypervisor");
    }

    #[test]
    fn osxsave_is_the_guests_own_and_what_is_given_the_policys() {
        let shown = |context| filter(1, 0, context, |_, _| [u32::MAX; 4])[2];
        assert_eq!(shown(Context { has_osxsave: true, ..PLAIN }) >> 27 & 1, 1);
        for feature in [DEADLINE, X2APIC] {
            assert_eq!(shown(PLAIN) & feature, 0);
            assert_eq!(shown(Context { given: feature, ..PLAIN }) & (DEADLINE | X2APIC), feature);
        }
    }

    #[test]
    fn a_known_interface_without_any_feature_stands_behind_the_walls_own() {
        let [last, b, c, d] = all_ones(PARAVIRTUAL, 0);
        assert_eq!((last, [b, c, d].map(u32::to_le_bytes).concat()), (PARAVIRTUAL + 1, b"KVMKVMKVM\0\0\0".to_vec()));
        assert_eq!(all_ones(PARAVIRTUAL + 1, 0), [0; 4], "no feature of it");
    }

    #[test]
    fn the_wall_is_discovered_by_its_name() {
        let [last, b, c, d] = all_ones(HYPERVISOR, 0);
        assert_eq!(last, HYPERVISOR_LAST);
        let name: [[u8; 4]; 3] = [b, c, d].map(u32::to_le_bytes);
        assert_eq!(name.concat(), b"BulkheadWall");
        assert_eq!(u64::from(all_ones(HYPERVISOR_LAST, 0)[0]), FEATURES_BITS);
    }
}
