//! Whether the CPU can hold the wall: VMX with EPT and unrestricted guest (SDM 3 §A), or SVM with nested paging
//! (APM 2 §15).

use core::fmt;

use bulkhead_hypervisor_core::plan::machine;

/// What was read of the CPU; registers that it does not have are 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// CPUID.1:ECX.
    pub features: u32,
    /// CPUID.80000001H:ECX.
    pub extended: u32,
    /// IA32_FEATURE_CONTROL (3AH).
    pub feature_control: u64,
    /// IA32_VMX_PROCBASED_CTLS (482H).
    pub primary_controls: u64,
    /// IA32_VMX_PROCBASED_CTLS2 (48BH).
    pub secondary_controls: u64,
    /// VM_CR (C001_0114H).
    pub vm_cr: u64,
    /// CPUID.8000000AH:EDX.
    pub svm_features: u32,
    /// IA32_APIC_BASE (1BH).
    pub apic_base: u64,
}

impl Cpu {
    /// VMX is there.
    #[must_use]
    pub const fn has_vmx(&self) -> bool {
        self.features & 1 << 5 != 0
    }

    /// SVM is there.
    #[must_use]
    pub const fn has_svm(&self) -> bool {
        self.extended & 1 << 2 != 0
    }

    /// Which machine it makes.
    ///
    /// # Errors
    /// [`CpuError`] says what is missing.
    pub const fn machine(&self) -> Result<u32, CpuError> {
        const X2APIC: u64 = 1 << 10;
        if self.apic_base & X2APIC != 0 {
            return Err(CpuError::X2Apic);
        }
        if self.has_vmx() {
            return self.vmx();
        }
        if self.has_svm() {
            return self.svm();
        }
        if self.features & 1 << 31 != 0 { Err(CpuError::DoesNotNest) } else { Err(CpuError::NoVirtualization) }
    }

    const fn vmx(&self) -> Result<u32, CpuError> {
        const LOCKED: u64 = 1;
        const OUTSIDE_SMX: u64 = 1 << 2;
        if self.feature_control & LOCKED != 0 && self.feature_control & OUTSIDE_SMX == 0 {
            return Err(CpuError::VmxDisabled);
        }
        // Primary bit 31: secondary controls; of those 1: EPT, 7: unrestricted guest (SDM 3 §25.6.2).
        if !may_set(self.primary_controls, 31) || !may_set(self.secondary_controls, 1) {
            return Err(CpuError::NoEpt);
        }
        if may_set(self.secondary_controls, 7) { Ok(machine::VMX) } else { Err(CpuError::NoUnrestrictedGuest) }
    }

    const fn svm(&self) -> Result<u32, CpuError> {
        const DISABLED: u64 = 1 << 4;
        if self.vm_cr & DISABLED != 0 {
            return Err(CpuError::SvmDisabled);
        }
        if self.svm_features & 1 == 0 { Err(CpuError::NoNestedPaging) } else { Ok(machine::SVM) }
    }
}

/// Whether a control may be set: in the capability's upper half (SDM 3 §A.3).
const fn may_set(capability: u64, bit: u32) -> bool {
    capability >> 32 & 1 << bit != 0
}

/// Why a CPU cannot hold the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// Neither VMX nor SVM.
    NoVirtualization,
    /// The local APIC's registers are not in memory (SDM 3 §11.12).
    X2Apic,
    /// Neither, and beneath another hypervisor.
    DoesNotNest,
    /// The firmware locked VMX away.
    VmxDisabled,
    /// The firmware locked SVM away.
    SvmDisabled,
    /// VMX without EPT.
    NoEpt,
    /// VMX without unrestricted guest.
    NoUnrestrictedGuest,
    /// SVM without nested paging.
    NoNestedPaging,
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoVirtualization => "the CPU has neither VMX nor SVM: the wall needs one of them",
            Self::DoesNotNest => {
                "already beneath a hypervisor that does not nest: neither VMX nor SVM is shown (QEMU: -cpu EPYC,+svm,+npt; KVM: load its module with nested=1, -cpu host)"
            }
            Self::X2Apic => "the firmware left the local APIC in x2APIC mode: the wall needs its registers in memory (firmware setup: x2APIC off)",
            Self::VmxDisabled => "VMX is disabled by the firmware (FEATURE_CONTROL is locked): enable virtualization (Intel VT-x) in its setup",
            Self::SvmDisabled => "SVM is disabled by the firmware (VM_CR.SVMDIS): enable virtualization (SVM, AMD-V) in its setup",
            Self::NoEpt => "the CPU's VMX has no extended page tables (EPT): the wall needs them",
            Self::NoUnrestrictedGuest => "the CPU's VMX has no unrestricted guest: the wall needs it",
            Self::NoNestedPaging => "the CPU's SVM has no nested paging: the wall needs it (QEMU: -cpu EPYC,+svm,+npt)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: Cpu = Cpu {
        features: 1 << 5,
        extended: 0,
        feature_control: 5,
        primary_controls: 1 << 63,
        secondary_controls: 1 << 33 | 1 << 39,
        vm_cr: 0,
        svm_features: 0,
        apic_base: 0,
    };
    const AMD: Cpu = Cpu { features: 1 << 31, extended: 1 << 2, svm_features: 1, ..NEITHER };
    const NEITHER: Cpu = Cpu {
        features: 0,
        extended: 0,
        feature_control: 0,
        primary_controls: 0,
        secondary_controls: 0,
        vm_cr: 0,
        svm_features: 0,
        apic_base: 0,
    };

    #[test]
    fn both_vendors_are_taken_bare_and_beneath_a_hypervisor_that_nests() {
        assert_eq!(INTEL.machine(), Ok(machine::VMX));
        assert_eq!(
            Cpu { feature_control: 0, ..INTEL }.machine(),
            Ok(machine::VMX),
            "not locked yet: the loader locks it"
        );
        assert_eq!(AMD.machine(), Ok(machine::SVM));
        assert_eq!(Cpu { apic_base: 0xfee0_0900, ..AMD }.machine(), Ok(machine::SVM));
    }

    #[test]
    fn each_lack_has_its_refusal() {
        let refused = [
            (NEITHER, CpuError::NoVirtualization),
            (Cpu { features: 1 << 31, ..NEITHER }, CpuError::DoesNotNest),
            (Cpu { apic_base: 0xfee0_0d00, ..AMD }, CpuError::X2Apic),
            (Cpu { feature_control: 1, ..INTEL }, CpuError::VmxDisabled),
            (Cpu { feature_control: 3, ..INTEL }, CpuError::VmxDisabled),
            (Cpu { primary_controls: 1 << 31, ..INTEL }, CpuError::NoEpt),
            (Cpu { secondary_controls: 1 << 39, ..INTEL }, CpuError::NoEpt),
            (Cpu { secondary_controls: 1 << 33, ..INTEL }, CpuError::NoUnrestrictedGuest),
            (Cpu { vm_cr: 1 << 4, ..AMD }, CpuError::SvmDisabled),
            (Cpu { svm_features: 2, ..AMD }, CpuError::NoNestedPaging),
        ];
        for (cpu, why) in refused {
            assert_eq!(cpu.machine(), Err(why));
        }
    }
}
