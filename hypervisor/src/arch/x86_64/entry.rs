//! Entry from the loader, and the way into a partition and out of it: restore the general registers, enter, save them, call one function.
//! A partition's registers lie where the stack pointer is while it runs, so that leaving it stores them with pushes alone.
#![expect(unsafe_code, reason = "entry and exits are assembly")]

use core::arch::global_asm;
use core::cell::UnsafeCell;

use bulkhead_hypervisor_core::x86::svm;

/// The hypervisor's stack: the last pages of the image.
pub(crate) const STACK_BYTES: u64 = 0x1_0000;

/// A partition's general registers, in the order of the register call: RAX, RDI, RSI, RDX, RCX, R8-R13; then R14, R15, RBX, RBP. RSP is
/// in the VMCS or VMCB.
#[repr(C, align(16))]
pub(crate) struct Frame {
    registers: [u64; 15],
    /// SVM: the VMCB's physical address.
    control: u64,
    /// What is called when the partition was left.
    handler: Option<Handler>,
    /// Keeps the size a multiple of 16.
    reserved: u64,
}

/// Called with the registers of the partition that was left; returns those of the one to enter.
pub(crate) type Handler = extern "C" fn(&mut Frame) -> *mut Frame;

const _: () = assert!(core::mem::offset_of!(Frame, control) == 120 && core::mem::offset_of!(Frame, handler) == 128);

/// Where each number of SDM 2 table 3-1 (RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 …) lies in a frame; RSP does not.
const PLACES: [usize; 16] = [0, 4, 3, 13, usize::MAX, 14, 2, 1, 5, 6, 7, 8, 9, 10, 11, 12];

impl Frame {
    /// All zero; `control` is the VMCB of SVM.
    pub(crate) const fn new() -> Self {
        Self { registers: [0; 15], control: 0, handler: None, reserved: 0 }
    }

    /// Says what leaves lead to, and the VMCB.
    pub(crate) fn bind(&mut self, handler: Handler, control: u64) {
        (self.handler, self.control) = (Some(handler), control);
    }

    /// The n-th register of a call.
    #[inline(always)]
    pub(crate) fn get(&self, register: usize) -> u64 {
        self.registers.get(register).copied().unwrap_or(0)
    }

    /// Writes the n-th register of a call.
    #[inline(always)]
    pub(crate) fn set(&mut self, register: usize, value: u64) {
        if let Some(slot) = self.registers.get_mut(register) {
            *slot = value;
        }
    }

    /// The words of a register call.
    #[inline(always)]
    pub(crate) const fn words(&self) -> &[u64; 6] {
        match self.registers.split_at(2).1.first_chunk() {
            Some(words) => words,
            // There are 13 registers from the second on.
            None => &[0; 6],
        }
    }

    /// The first twelve, of a call of the secure kernel.
    #[inline(always)]
    pub(crate) const fn call(&mut self) -> &mut [u64; 12] {
        match self.registers.first_chunk_mut() {
            Some(registers) => registers,
            None => unreachable!(),
        }
    }

    /// The register of a number in the instruction set's own order; RSP is 0 here.
    pub(crate) fn numbered(&self, number: u8) -> u64 {
        PLACES.get(usize::from(number)).map_or(0, |&place| self.get(place))
    }

    /// Writes it; RSP is left alone.
    pub(crate) fn set_numbered(&mut self, number: u8, value: u64) {
        if let Some(&place) = PLACES.get(usize::from(number)) {
            self.set(place, value);
        }
    }

    /// All registers zero, as at power-on.
    pub(crate) fn clear(&mut self) {
        self.registers = [0; 15];
    }
}

/// A frame that both the hypervisor and the exit path reach.
pub(crate) struct Place(UnsafeCell<Frame>);

// SAFETY: one CPU; a frame is reached by the handler that it was passed to, or through `Place::get` where no handler holds it.
unsafe impl Sync for Place {}

impl Place {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(Frame::new()))
    }

    /// Where it is, for the exit path.
    #[inline(always)]
    pub(crate) const fn pointer(&self) -> *mut Frame {
        self.0.get()
    }

    /// The frame.
    ///
    /// # Safety
    /// No handler holds it, and no other reference from here is in use.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that there is no other")]
    #[inline(always)]
    pub(crate) unsafe fn get(&self) -> &mut Frame {
        // SAFETY: by this function's own contract.
        unsafe { &mut *self.0.get() }
    }
}

/// The guest's registers.
pub(crate) static GUEST_FRAME: Place = Place::new();
/// The secure partition's.
pub(crate) static SECURE_FRAME: Place = Place::new();

unsafe extern "C" {
    /// Where VMX comes to when a partition is left; never called.
    pub(crate) fn vmx_exit();
    /// Enters the frame in RAX by VMX; never returns.
    pub(crate) fn vmx_enter();
    /// Enters the frame in RAX by SVM; never returns.
    pub(crate) fn svm_enter();
}

global_asm!(
    r#"
    .section .text.entry, "ax"
    .global _start
_start:                                 // rdi: the MachinePlan
    cli
    cld
    lea   rsp, [rip + stack_top]
    xor   ebp, ebp
    call  {main}
    ud2

    .macro store                        // rsp: the end of the registers; rax: the partition's own
    push  rbp
    push  rbx
    push  r15
    push  r14
    push  r13
    push  r12
    push  r11
    push  r10
    push  r9
    push  r8
    push  rcx
    push  rdx
    push  rsi
    push  rdi
    push  rax
    mov   rdi, rsp
    lea   rsp, [rip + stack_top]
    call  [rdi + 128]
    .endm
    .macro restore                      // rsp: the registers behind rax
    pop   rdi
    pop   rsi
    pop   rdx
    pop   rcx
    pop   r8
    pop   r9
    pop   r10
    pop   r11
    pop   r12
    pop   r13
    pop   r14
    pop   r15
    pop   rbx
    pop   rbp
    .endm

    .text
    .balign 16
    .global vmx_exit
vmx_exit:                               // HOST_RSP: the end of the partition's registers
    store
    .global vmx_enter
vmx_enter:                              // rax: the frame to enter
    mov   rsp, rax
    pop   rax
    restore
    vmresume
    vmlaunch                            // the first time
    call  {refused}

    .balign 16
    .global svm_enter
svm_enter:                              // rax: the frame to enter
    mov   rsp, rax
    mov   rcx, [rsp + 120]
    pop   rax
    mov   [rcx + 0x5f8], rax            // the VMCB holds RAX
    restore
    mov   rax, [rsp]
    vmrun rax
    .global svm_left
svm_left:
    mov   dword ptr [rax + 0xc0], {clean}
    mov   rax, [rax + 0x5f8]
    store
    jmp   svm_enter

    .section .stack, "aw", %nobits
    .balign 4096
    .skip {stack_bytes}
    .global stack_top
stack_top:
    "#,
    stack_bytes = const STACK_BYTES,
    clean = const svm::CLEAN,
    main = sym crate::run::hypervisor_main,
    refused = sym super::vmx::entry_refused,
);
