//! x86-64: what both back ends share. Exits of VMX and of SVM decode into the same [`Exit`]; what the guest sees of CPUID,
//! of model-specific registers, of its interrupt controllers is decided here.

pub mod apic;
pub mod control;
pub mod cpuid;
pub mod decode;
pub mod event;
pub mod fetch;
pub mod msr;
pub mod pci;
pub mod pic;
pub mod port;
pub mod svm;
pub mod timer;
pub mod vmx;
pub mod walk;

/// An `in` or `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The first port.
    pub port: u16,
    /// 1, 2 or 4.
    pub bytes: u8,
    /// `in`.
    pub is_in: bool,
}

impl PortAccess {
    /// RAX after an `in` gave a value: one of 1 or 2 bytes keeps what lies above, one of 4 clears it (SDM 1 §3.4.1.1).
    #[must_use]
    pub const fn merge(&self, rax: u64, value: u64) -> u64 {
        match self.bytes {
            1 => rax & !0xff | value & 0xff,
            2 => rax & !0xffff | value & 0xffff,
            _ => value & 0xffff_ffff,
        }
    }

    /// What an `out` writes of RAX.
    #[must_use]
    pub const fn cut(&self, rax: u64) -> u64 {
        rax & match self.bytes {
            1 => 0xff,
            2 => 0xffff,
            _ => 0xffff_ffff,
        }
    }

    /// One past the last port; an access may run over the end of the port space.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.port as u32 + self.bytes as u32
    }
}

/// Why a partition was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `vmcall` or `vmmcall`.
    Call,
    /// `cpuid`.
    Cpuid,
    /// `in` or `out`.
    Port(PortAccess),
    /// `ins` or `outs`.
    PortString,
    /// `rdmsr`.
    ReadMsr,
    /// `wrmsr`.
    WriteMsr,
    /// An access to memory that is not mapped so for the partition.
    Memory(u64),
    /// A move to a control register, or `clts`, `lmsw`.
    Control(control::Access),
    /// `xsetbv`.
    SetXcr,
    /// `wbinvd` or `invd`.
    Caches,
    /// A non-maskable interrupt: on SVM the wall's time source.
    Nmi,
    /// An interrupt of the machine, which the partition does not take.
    Interrupt,
    /// An exception of the guest that the wall looks at before it is the guest's: its vector.
    Exception(u8),
    /// The preemption timer.
    Timer,
    /// The partition can take an interrupt.
    Window,
    /// A triple fault.
    Shutdown,
    /// INIT.
    Init,
    /// An instruction that the partition does not have: undefined there.
    Undefined,
    /// An instruction or event that the partition may not have: a general protection fault there.
    Protected,
    /// `hlt` of a partition that must not halt, or `pause` and the like: it is stepped over.
    Idle,
    /// The CPU refused the partition's state.
    BadState,
    /// Anything else: the number of the exit.
    Other(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_of_a_port_keeps_what_its_width_keeps() {
        let access = |bytes| PortAccess { port: 0x60, bytes, is_in: true };
        assert_eq!(access(1).merge(u64::MAX, 0x1234), 0xffff_ffff_ffff_ff34);
        assert_eq!(access(2).merge(u64::MAX, 0x1_1234), 0xffff_ffff_ffff_1234);
        assert_eq!(access(4).merge(u64::MAX, 0x1_1234), 0x1_1234);
        assert_eq!(access(2).cut(0x12_3456), 0x3456);
        assert_eq!(PortAccess { port: 0xffff, bytes: 4, is_in: true }.end(), 0x1_0003);
    }
}
