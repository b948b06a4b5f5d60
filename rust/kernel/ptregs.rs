// SPDX-License-Identifier: GPL-2.0

//! Registers of a user thread, as saved on entry to the kernel.
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
    /// That this bit can be changed says that there is `cpuid`.
    pub const ID: usize = 1 << 21;
}

/// Where in `struct pt_regs` the general-purpose registers are, by their numbers.
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

// They fit: this is the last of all.
static_assert!(offset_of!(bindings::pt_regs, sp) <= u8::MAX as usize);

/// Number of the stack pointer among the general-purpose registers.
pub const GPR_SP: u8 = 4;

/// Number of the frame pointer among the general-purpose registers.
pub const GPR_BP: u8 = 5;

/// The `struct pt_regs` of a thread that entered the kernel from user mode.
///
/// The general-purpose registers go by their numbers in the instruction set: 0 to 15 are `ax`,
/// `cx`, `dx`, `bx`, `sp`, `bp`, `si`, `di`, `r8` to `r15`.
///
/// # Invariants
///
/// The wrapped `struct pt_regs` is fully saved and holds the registers of a user thread which
/// stays in the kernel, and whose registers nobody else accesses, while the reference exists.
#[repr(transparent)]
pub struct PtRegs(Opaque<bindings::pt_regs>);

impl PtRegs {
    /// Wraps a pointer to saved registers.
    ///
    /// # Safety
    ///
    /// For the lifetime `'a`, `ptr` must point to a valid, fully saved `struct pt_regs` of a user
    /// thread, which nothing accesses except through the returned reference.
    #[inline]
    pub unsafe fn from_raw_mut<'a>(ptr: *mut bindings::pt_regs) -> &'a mut Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: `PtRegs` is transparent over `struct pt_regs`, and by the safety requirements
        // `ptr` is valid and exclusively ours for `'a`.
        unsafe { &mut *ptr.cast() }
    }

    /// Makes up the registers of a thread for a test: all zero but for the segments.
    #[cfg(CONFIG_KUNIT)]
    pub fn made_up(is_64bit: bool) -> Self {
        let mut raw: bindings::pt_regs = pin_init::zeroed();
        let code = if is_64bit {
            bindings::__USER_CS
        } else {
            bindings::__USER32_CS
        };
        raw.__bindgen_anon_1.csx = code.into();
        raw.__bindgen_anon_2.ssx = bindings::__USER_DS.into();
        // INVARIANT: Nobody else knows of `raw`, and no thread returns to user mode with it.
        Self(Opaque::new(raw))
    }

    /// Returns the registers with which the current thread entered the kernel.
    ///
    /// # Safety
    ///
    /// The current thread entered the kernel from user mode, its registers are fully saved, and no
    /// other reference to them is used while this one is.
    #[inline]
    pub unsafe fn of_current<'a>() -> &'a mut Self {
        // SAFETY: By the requirement on the caller.
        unsafe { Self::from_raw_mut(bindings::current_user_regs()) }
    }

    /// Returns a pointer to the wrapped `struct pt_regs`.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::pt_regs {
        self.0.get()
    }

    /// Shared view of the C structure.
    #[inline]
    fn raw(&self) -> &bindings::pt_regs {
        // SAFETY: By the type invariants the structure is valid, and initialised, and not written
        // to while `self` is borrowed.
        unsafe { &*self.0.get() }
    }

    /// Exclusive view of the C structure.
    #[inline]
    fn raw_mut(&mut self) -> &mut bindings::pt_regs {
        // SAFETY: By the type invariants the structure is valid, and `self` is borrowed mutably.
        unsafe { &mut *self.0.get() }
    }

    /// Instruction pointer.
    #[inline]
    pub fn ip(&self) -> usize {
        self.raw().ip
    }

    /// Sets the instruction pointer.
    #[inline]
    pub fn set_ip(&mut self, ip: usize) {
        self.raw_mut().ip = ip;
    }

    /// Stack pointer.
    #[inline]
    pub fn sp(&self) -> usize {
        self.raw().sp
    }

    /// Sets the stack pointer.
    #[inline]
    pub fn set_sp(&mut self, sp: usize) {
        self.raw_mut().sp = sp;
    }

    /// Flags register; see [`flags`].
    #[inline]
    pub fn flags(&self) -> usize {
        self.raw().flags
    }

    /// Sets the flags register.
    ///
    /// The caller must leave the bits that user mode cannot change (interrupts, I/O privilege) as
    /// they were.
    #[inline]
    pub fn set_flags(&mut self, flags: usize) {
        self.raw_mut().flags = flags;
    }

    /// Whether the thread executes 64-bit code.
    #[inline]
    pub fn is_64bit(&self) -> bool {
        // SAFETY: By the type invariants the registers are valid; they are only read.
        unsafe { bindings::user_64bit_mode(self.as_ptr()) }
    }

    /// Selector of the code segment.
    #[inline]
    pub fn code_segment(&self) -> u16 {
        // SAFETY: Every way to look at this union is an initialised integer of the same slot.
        unsafe { self.raw().__bindgen_anon_1.cs }
    }

    /// Selector of the stack segment.
    #[inline]
    pub fn stack_segment(&self) -> u16 {
        // SAFETY: Every way to look at this union is an initialised integer of the same slot.
        unsafe { self.raw().__bindgen_anon_2.ss }
    }

    /// Whether the code segment is one in which an instruction pointer is a linear address: the
    /// kernel's own for 64-bit or for 32-bit processes, not one from a local descriptor table.
    #[inline]
    pub fn is_code_flat(&self) -> bool {
        self.is_64bit() || u32::from(self.code_segment()) == bindings::__USER32_CS
    }

    /// Whether a stack pointer is a linear address.
    #[inline]
    pub fn is_stack_flat(&self) -> bool {
        self.is_64bit() || u32::from(self.stack_segment()) == bindings::__USER_DS
    }

    /// Where general-purpose register number `n` is, of which the low four bits count.
    #[inline]
    fn gpr_ptr(&self, n: u8) -> *mut usize {
        let offset = GPR_OFFSETS[usize::from(n & 15)];
        // SAFETY: It is the offset of a field.
        unsafe { self.0.get().byte_add(offset.into()) }.cast()
    }

    /// General-purpose register number `n`, of which the low four bits count.
    #[inline]
    pub fn gpr(&self, n: u8) -> usize {
        // SAFETY: By the type invariants the structure is initialised, and not written to while
        // `self` is borrowed.
        unsafe { self.gpr_ptr(n).read() }
    }

    /// Sets general-purpose register number `n`, of which the low four bits count.
    ///
    /// Outside of 64-bit code the upper half becomes zero, as no such thread can see or set it.
    #[inline]
    pub fn set_gpr(&mut self, n: u8, value: usize) {
        let value = if self.is_64bit() {
            value
        } else {
            value & u32::MAX as usize
        };
        // SAFETY: By the type invariants the structure is valid, and `self` is borrowed mutably.
        unsafe { self.gpr_ptr(n).write(value) };
    }

    /// Makes the CPU forget that the thread entered by an instruction such as `int3`.
    ///
    /// With FRED, returning to user mode with the trap flag set would otherwise trap at once,
    /// before an instruction has been executed. Without FRED this does nothing.
    #[inline]
    pub fn forget_software_event(&mut self) {
        // SAFETY: By the type invariants the registers are valid, and `self` is exclusive.
        unsafe { bindings::ptregs_forget_software_event(self.as_ptr()) }
    }
}
