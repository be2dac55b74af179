//! The state of the partition that was left: one name for a field of the VMCS (SDM 3 appendix B) and of the VMCB (APM 2 appendix B).
#![expect(unsafe_code, reason = "a VMCB is written by the CPU behind the compiler's back")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use bulkhead_hypervisor_core::x86::svm;

use super::instr;

/// A page that hardware reads or writes.
#[repr(C, align(4096))]
pub(crate) struct Page<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: one CPU; its Rust side reads and writes by volatile accesses of single fields, or once before the hardware uses it.
unsafe impl<const BYTES: usize> Sync for Page<BYTES> {}

impl<const BYTES: usize> Page<BYTES> {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([0; BYTES]))
    }

    /// Its address, which is a physical one too: the wall is mapped at its own addresses.
    pub(crate) fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Its bytes, to be filled.
    ///
    /// # Safety
    /// No other reference to them is in use.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that there is no other")]
    pub(crate) unsafe fn bytes(&self) -> &mut [u8; BYTES] {
        // SAFETY: by this function's own contract.
        unsafe { &mut *self.0.get() }
    }
}

/// The VMCB of the partition that runs, or 0: VMX, whose current VMCS it is.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// Whether the back end is SVM.
#[inline(always)]
pub(crate) fn is_svm() -> bool {
    CURRENT.load(Ordering::Relaxed) != 0
}

/// Whose fields are meant. A handler of one back end names its own, so that nothing is asked at run time.
#[derive(Clone, Copy)]
pub(crate) enum Control {
    /// The current VMCS.
    Vmcs,
    /// The VMCB at this address.
    Vmcb(u64),
}

impl Control {
    /// Of the partition that runs, or was left.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        match CURRENT.load(Ordering::Relaxed) {
            0 => Self::Vmcs,
            address => Self::Vmcb(address),
        }
    }

    /// As [`Control::current`], of SVM's own handlers.
    #[inline(always)]
    pub(crate) fn current_vmcb() -> Self {
        Self::Vmcb(CURRENT.load(Ordering::Relaxed))
    }
}

/// Makes a VMCB the one that [`Field`] names.
#[inline(always)]
pub(crate) fn set_current(vmcb: u64) {
    CURRENT.store(vmcb, Ordering::Relaxed);
}

/// A field by its encoding in a VMCS, and by offset and width in a VMCB.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    vmcs: u32,
    vmcb: u16,
    bytes: u8,
}

const fn field(vmcs: u32, vmcb: u16, bytes: u8) -> Field {
    Field { vmcs, vmcb, bytes }
}

pub(crate) const RIP: Field = field(0x681e, 0x578, 8);
pub(crate) const RSP: Field = field(0x681c, 0x5d8, 8);
pub(crate) const RFLAGS: Field = field(0x6820, 0x570, 8);
pub(crate) const CR0: Field = field(0x6800, 0x558, 8);
pub(crate) const CR3: Field = field(0x6802, 0x550, 8);
pub(crate) const CR4: Field = field(0x6804, 0x548, 8);
pub(crate) const EFER: Field = field(0x2806, 0x4d0, 8);
pub(crate) const PAT: Field = field(0x2804, 0x668, 8);
pub(crate) const DR7: Field = field(0x681a, 0x560, 8);
/// Interruptibility: bits 0 and 1 (VMX), bit 0 (SVM): the instruction after `sti` and `mov ss` runs before any interrupt.
pub(crate) const SHADOW: Field = field(0x4824, 0x068, 4);
/// An event to be delivered at the next entry; a valid one has bit 31.
pub(crate) const EVENT: Field = field(0x4016, 0x0a8, 4);
/// Its error code.
pub(crate) const EVENT_ERROR: Field = field(0x4018, 0x0ac, 4);
/// What was being delivered when the partition was left; valid with bit 31.
pub(crate) const DELIVERING: Field = field(0x4408, 0x088, 4);
/// Its error code.
pub(crate) const DELIVERING_ERROR: Field = field(0x440a, 0x08c, 4);
/// The four bytes of a VMCB whose last is CPL; a VMCS has none.
pub(crate) const CPL: Field = field(0, 0x4c8, 4);
/// Base of GDT and IDT, and their limits.
pub(crate) const GDT_BASE: Field = field(0x6816, 0x468, 8);
pub(crate) const GDT_LIMIT: Field = field(0x4810, 0x464, 4);
pub(crate) const IDT_BASE: Field = field(0x6818, 0x488, 8);
pub(crate) const IDT_LIMIT: Field = field(0x4812, 0x484, 4);

/// A segment register: selector, attributes, limit, base.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    index: u8,
    vmcb: u16,
}

pub(crate) const ES: Segment = Segment { index: 0, vmcb: 0x400 };
pub(crate) const CS: Segment = Segment { index: 1, vmcb: 0x410 };
pub(crate) const SS: Segment = Segment { index: 2, vmcb: 0x420 };
pub(crate) const DS: Segment = Segment { index: 3, vmcb: 0x430 };
pub(crate) const FS: Segment = Segment { index: 4, vmcb: 0x440 };
pub(crate) const GS: Segment = Segment { index: 5, vmcb: 0x450 };
pub(crate) const LDTR: Segment = Segment { index: 6, vmcb: 0x470 };
pub(crate) const TR: Segment = Segment { index: 7, vmcb: 0x490 };

impl Segment {
    const fn of(self, group: u32, wide: bool, vmcb: u16, bytes: u8) -> Field {
        let step = self.index as u32 * 2;
        field(group + step, self.vmcb + vmcb, if wide { 8 } else { bytes })
    }

    /// Type, S, DPL, P in bits 0 to 7; AVL, L, D, G in bits 8 to 11.
    #[inline(always)]
    pub(crate) fn attributes(self, control: Control) -> u16 {
        let raw = self.of(0x4814, false, 2, 2).read_in(control);
        #[expect(clippy::cast_possible_truncation, reason = "twelve bits")]
        match control {
            Control::Vmcs => (raw & 0xff | raw >> 4 & 0xf00) as u16,
            Control::Vmcb(_) => raw as u16 & 0xfff,
        }
    }

    /// Its base.
    #[inline(always)]
    pub(crate) fn base(self, control: Control) -> u64 {
        self.of(0x6806, true, 8, 8).read_in(control)
    }

    /// Sets all of it. An absent segment is unusable in a VMCS (bit 16).
    pub(crate) fn set(self, selector: u16, base: u64, limit: u32, attributes: u16) {
        self.of(0x0800, false, 0, 2).write(selector.into());
        self.of(0x6806, true, 8, 8).write(base);
        self.of(0x4800, false, 4, 4).write(limit.into());
        let attributes = u64::from(attributes);
        let unusable = if attributes & 0x80 == 0 { 1 << 16 } else { 0 };
        let wide = attributes & 0xff | attributes >> 8 << 12 | unusable;
        self.of(0x4814, false, 2, 2).write(if is_svm() { attributes } else { wide });
    }
}

impl Field {
    /// Its value. One copy for all: which back end it is, is asked there, and ways that are short name theirs.
    #[inline(never)]
    pub(crate) fn read(self) -> u64 {
        self.read_in(Control::current())
    }

    /// Changes it; as [`Field::read`].
    #[inline(never)]
    pub(crate) fn write(self, value: u64) {
        self.write_in(Control::current(), value);
    }

    /// Its value there.
    #[inline(always)]
    pub(crate) fn read_in(self, control: Control) -> u64 {
        match control {
            Control::Vmcs => instr::vmread(self.vmcs),
            Control::Vmcb(vmcb) => read_vmcb(vmcb + u64::from(self.vmcb), self.bytes),
        }
    }

    /// Changes it there.
    #[inline(always)]
    pub(crate) fn write_in(self, control: Control, value: u64) {
        match control {
            Control::Vmcs => instr::vmwrite(self.vmcs, value),
            Control::Vmcb(vmcb) => write_vmcb(vmcb, self.vmcb, self.bytes, value),
        }
    }
}

#[inline(always)]
fn read_vmcb(at: u64, bytes: u8) -> u64 {
    // SAFETY: `CURRENT` is a VMCB of the image's own, the offset is one of the constants above, aligned to its width.
    unsafe {
        match bytes {
            2 => (at as *const u16).read_volatile().into(),
            4 => (at as *const u32).read_volatile().into(),
            _ => (at as *const u64).read_volatile(),
        }
    }
}

/// The clean bits (APM 2 §15.15.3): every exit sets them all (`entry.rs`), and a write takes that of its part away.
const CLEAN: u16 = 0xc0;

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "cut to the field's width")]
fn write_vmcb(vmcb: u64, offset: u16, bytes: u8, value: u64) {
    let (at, part) = (vmcb + u64::from(offset), svm::part(offset));
    // SAFETY: as for `read_vmcb`; the CPU reads the field at the next VMRUN.
    unsafe {
        match bytes {
            2 => (at as *mut u16).write_volatile(value as u16),
            4 => (at as *mut u32).write_volatile(value as u32),
            _ => (at as *mut u64).write_volatile(value),
        }
        if part != 0 {
            let clean = (vmcb + u64::from(CLEAN)) as *mut u32;
            clean.write_volatile(clean.read_volatile() & !part);
        }
    }
}

/// A field of the current VMCB that a VMCS lacks.
#[inline(always)]
pub(crate) fn vmcb(offset: u16) -> u64 {
    read_vmcb(CURRENT.load(Ordering::Relaxed) + u64::from(offset), 8)
}

/// Writes 32 bits of the current VMCB.
#[inline(always)]
pub(crate) fn set_vmcb32(offset: u16, value: u32) {
    write_vmcb(CURRENT.load(Ordering::Relaxed), offset, 4, value.into());
}

/// Writes 64 bits of the current VMCB.
#[inline(always)]
pub(crate) fn set_vmcb(offset: u16, value: u64) {
    write_vmcb(CURRENT.load(Ordering::Relaxed), offset, 8, value);
}
