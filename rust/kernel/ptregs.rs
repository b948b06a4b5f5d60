// SPDX-License-Identifier: GPL-2.0

//! Saved registers of a user thread.
//!
//! C header: [`arch/x86/include/asm/ptrace.h`](srctree/arch/x86/include/asm/ptrace.h)

use crate::{
    bindings,
    prelude::*,
    types::Opaque, //
};

use core::mem::offset_of;

/// Bits of the flags register.
pub mod flags {
    /// Carry.
    pub const CF: usize = 1 << 0;
    /// Parity of the low byte.
    pub const PF: usize = 1 << 2;
    /// Carry out of the low nibble.
    pub const AF: usize = 1 << 4;
    /// Zero.
    pub const ZF: usize = 1 << 6;
    /// Sign.
    pub const SF: usize = 1 << 7;
    /// Trap after each instruction.
    pub const TF: usize = 1 << 8;
    /// Interrupts enabled.
    pub const IF: usize = 1 << 9;
    /// Direction of string instructions.
    pub const DF: usize = 1 << 10;
    /// Overflow.
    pub const OF: usize = 1 << 11;
    /// I/O privilege level.
    pub const IOPL: usize = 3 << 12;
    /// Nested task.
    pub const NT: usize = 1 << 14;
    /// Resume: instruction breakpoints are ignored for one instruction.
    pub const RF: usize = 1 << 16;
    /// Virtual 8086 mode.
    pub const VM: usize = 1 << 17;
    /// Alignment check.
    pub const AC: usize = 1 << 18;
    /// Identification: user mode can change this bit if the CPU has `cpuid`.
    pub const ID: usize = 1 << 21;
}

/// Offsets of the general-purpose registers in `struct pt_regs`, indexed by register number.
const GPR_OFFSETS: [u8; 16] = [
    offset_of!(bindings::pt_regs, ax) as u8,
    offset_of!(bindings::pt_regs, cx) as u8,
    offset_of!(bindings::pt_regs, dx) as u8,
    offset_of!(bindings::pt_regs, bx) as u8,
    offset_of!(bindings::pt_regs, sp) as u8,
    offset_of!(bindings::pt_regs, bp) as u8,
    offset_of!(bindings::pt_regs, si) as u8,
    offset_of!(bindings::pt_regs, di) as u8,
    offset_of!(bindings::pt_regs, r8) as u8,
    offset_of!(bindings::pt_regs, r9) as u8,
    offset_of!(bindings::pt_regs, r10) as u8,
    offset_of!(bindings::pt_regs, r11) as u8,
    offset_of!(bindings::pt_regs, r12) as u8,
    offset_of!(bindings::pt_regs, r13) as u8,
    offset_of!(bindings::pt_regs, r14) as u8,
    offset_of!(bindings::pt_regs, r15) as u8,
];

// `sp` is the last of these fields, so all offsets fit in a byte.
static_assert!(offset_of!(bindings::pt_regs, sp) <= u8::MAX as usize);

/// Number of the stack pointer among the general-purpose registers.
pub const GPR_SP: u8 = 4;

/// Number of the frame pointer among the general-purpose registers.
pub const GPR_BP: u8 = 5;

/// The `struct pt_regs` of a thread that entered the kernel from user mode.
///
/// The general-purpose registers have their numbers in the instruction set: 0 to 15 are `ax`, `cx`,
/// `dx`, `bx`, `sp`, `bp`, `si`, `di`, `r8` to `r15`.
///
/// # Invariants
///
/// While the reference exists, the wrapped `struct pt_regs` is fully saved and holds the registers
/// of a user thread that stays in the kernel, and no one else accesses them.
#[repr(transparent)]
pub struct PtRegs(Opaque<bindings::pt_regs>);

impl PtRegs {
    /// Wraps a pointer to saved registers.
    ///
    /// # Safety
    ///
    /// For the lifetime `'a`, `ptr` must point to a valid, fully saved `struct pt_regs` of a user
    /// thread, which must only be accessed through the returned reference.
    #[inline]
    pub unsafe fn from_raw_mut<'a>(ptr: *mut bindings::pt_regs) -> &'a mut Self {
        // INVARIANT: The caller guarantees that the registers are fully saved, belong to a user
        // thread, and are not accessed otherwise.
        //
        // SAFETY: `PtRegs` is transparent over `struct pt_regs`, and the caller guarantees that
        // `ptr` is valid and exclusively ours for `'a`.
        unsafe { &mut *ptr.cast() }
    }

    /// Creates registers for a test: all zero except for the segments.
    #[cfg(CONFIG_KUNIT)]
    pub fn for_test(is_64bit: bool) -> Self {
        let mut raw: bindings::pt_regs = pin_init::zeroed();
        let code = if is_64bit {
            bindings::__USER_CS
        } else {
            bindings::__USER32_CS
        };
        raw.__bindgen_anon_1.csx = code.into();
        raw.__bindgen_anon_2.ssx = bindings::__USER_DS.into();
        // INVARIANT: No one else has a pointer to `raw`, and no thread returns to user mode with
        // it.
        Self(Opaque::new(raw))
    }

    /// Returns the registers with which the current thread entered the kernel.
    ///
    /// # Safety
    ///
    /// The current thread must have entered the kernel from user mode, its registers must be fully
    /// saved, and no other reference to them may be used while the returned one is.
    #[inline]
    pub unsafe fn from_current<'a>() -> &'a mut Self {
        // SAFETY: `current_user_regs()` returns the registers of the current thread. The caller
        // guarantees that the thread came from user mode, that its registers are fully saved, and
        // that no other reference to them is used.
        unsafe { Self::from_raw_mut(bindings::current_user_regs()) }
    }

    /// Returns a pointer to the wrapped `struct pt_regs`.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::pt_regs {
        self.0.get()
    }

    /// Returns a shared reference to the C structure.
    #[inline]
    fn raw(&self) -> &bindings::pt_regs {
        // SAFETY: By the type invariants, the structure is valid and initialised, and no one writes
        // to it while `self` is borrowed.
        unsafe { &*self.0.get() }
    }

    /// Returns an exclusive reference to the C structure.
    #[inline]
    fn raw_mut(&mut self) -> &mut bindings::pt_regs {
        // SAFETY: By the type invariants, the structure is valid, and `self` is borrowed mutably.
        unsafe { &mut *self.0.get() }
    }

    /// Returns the instruction pointer.
    #[inline]
    pub fn ip(&self) -> usize {
        self.raw().ip
    }

    /// Sets the instruction pointer.
    #[inline]
    pub fn set_ip(&mut self, ip: usize) {
        self.raw_mut().ip = ip;
    }

    /// Returns the stack pointer.
    #[inline]
    pub fn sp(&self) -> usize {
        self.raw().sp
    }

    /// Sets the stack pointer.
    #[inline]
    pub fn set_sp(&mut self, sp: usize) {
        self.raw_mut().sp = sp;
    }

    /// Returns the flags register; see [`flags`].
    #[inline]
    pub fn flags(&self) -> usize {
        self.raw().flags
    }

    /// Sets the flags register.
    ///
    /// The caller must not change the bits that user mode cannot change (interrupts, I/O
    /// privilege).
    #[inline]
    pub fn set_flags(&mut self, flags: usize) {
        self.raw_mut().flags = flags;
    }

    /// Returns whether the thread executes 64-bit code.
    #[inline]
    pub fn is_64bit(&self) -> bool {
        // SAFETY: By the type invariants, the registers are valid; `user_64bit_mode()` only reads
        // them.
        unsafe { bindings::user_64bit_mode(self.as_ptr()) }
    }

    /// Returns the selector of the code segment.
    #[inline]
    pub fn code_segment(&self) -> u16 {
        // SAFETY: Each member of this union is an initialised integer in the same place.
        unsafe { self.raw().__bindgen_anon_1.cs }
    }

    /// Returns the selector of the stack segment.
    #[inline]
    pub fn stack_segment(&self) -> u16 {
        // SAFETY: Each member of this union is an initialised integer in the same place.
        unsafe { self.raw().__bindgen_anon_2.ss }
    }

    /// Returns whether instruction pointers in the code segment are linear addresses: the segment
    /// is the kernel's own for 64-bit or 32-bit processes, not one from a local descriptor table.
    #[inline]
    pub fn is_code_flat(&self) -> bool {
        self.is_64bit() || u32::from(self.code_segment()) == bindings::__USER32_CS
    }

    /// Returns whether stack pointers are linear addresses.
    #[inline]
    pub fn is_stack_flat(&self) -> bool {
        self.is_64bit() || u32::from(self.stack_segment()) == bindings::__USER_DS
    }

    /// Returns a pointer to general-purpose register `n`; only the low four bits of `n` count.
    #[inline]
    fn gpr_ptr(&self, n: u8) -> *mut usize {
        let offset = GPR_OFFSETS[usize::from(n & 15)];
        // SAFETY: `GPR_OFFSETS` only holds offsets of fields, so the pointer stays within the
        // structure.
        unsafe { self.0.get().byte_add(offset.into()) }.cast()
    }

    /// Returns general-purpose register `n`; only the low four bits of `n` count.
    #[inline]
    pub fn gpr(&self, n: u8) -> usize {
        // SAFETY: By the type invariants, the structure is initialised, and no one writes to it
        // while `self` is borrowed.
        unsafe { self.gpr_ptr(n).read() }
    }

    /// Sets general-purpose register `n`; only the low four bits of `n` count.
    ///
    /// Outside of 64-bit code the upper half becomes zero, because such a thread can neither see
    /// nor set it.
    #[inline]
    pub fn set_gpr(&mut self, n: u8, value: usize) {
        let value = if self.is_64bit() {
            value
        } else {
            value & u32::MAX as usize
        };
        // SAFETY: By the type invariants, the structure is valid, and `self` is borrowed mutably.
        unsafe { self.gpr_ptr(n).write(value) };
    }

    /// Makes the CPU forget that the thread entered by an instruction such as `int3`.
    ///
    /// With FRED, a return to user mode with the trap flag set would otherwise trap at once, before
    /// the thread executes an instruction. Without FRED this does nothing.
    #[inline]
    pub fn forget_software_event(&mut self) {
        // SAFETY: By the type invariants, the registers are valid, and `self` is borrowed mutably.
        unsafe { bindings::ptregs_forget_software_event(self.as_ptr()) }
    }
}
