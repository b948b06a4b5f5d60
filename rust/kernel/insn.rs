// SPDX-License-Identifier: GPL-2.0

//! The kernel's x86 instruction decoder.
//!
//! C header: [`arch/x86/include/asm/insn.h`](srctree/arch/x86/include/asm/insn.h)

use crate::{
    bindings,
    error::to_result,
    mm::Mm,
    prelude::*,
    ptregs::PtRegs, //
};
use core::mem::MaybeUninit;

/// Length of the longest instruction.
pub const MAX_INSN_SIZE: usize = bindings::MAX_INSN_SIZE as usize;

/// The way in which an instruction that a breakpoint displaces is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// By the kernel, or in a slot that ends with a jump back to the program, whichever is faster;
    /// if this is impossible at a hit, for example because memory is not accessible, by a
    /// single-step in a slot.
    Emulate,
    /// In a slot that ends with a jump back to the program.
    Boost,
    /// In a slot, by a single-step, which costs a second trap.
    Step,
}

/// The mode in which bytes are decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 32-bit code.
    Bits32,
    /// 64-bit code.
    Bits64,
}

impl Mode {
    /// Returns the mode in which a thread with these registers executes, if its instruction and
    /// stack pointers are linear addresses. Otherwise, the thread uses segments from a local
    /// descriptor table.
    #[inline]
    pub fn from_regs(regs: &PtRegs) -> Option<Self> {
        if regs.is_64bit() {
            Some(Self::Bits64)
        } else if regs.is_code_flat() && regs.is_stack_flat() {
            Some(Self::Bits32)
        } else {
            None
        }
    }

    /// Returns the code segment that alone makes [`Mode::from_regs`] return this mode, if there is
    /// one.
    pub fn sure_segment(self) -> Option<u16> {
        match self {
            // The mode also depends on the stack segment.
            Self::Bits32 => None,
            // CAST: Selectors have 16 bits.
            Self::Bits64 => Some(bindings::__USER_CS as u16),
        }
    }

    /// Returns the mode in which the threads of a process execute, unless they switch by
    /// themselves.
    pub fn from_mm(mm: &Mm) -> Self {
        // SAFETY: `mm` is valid because it is borrowed; its mode does not change after `execve()`.
        if unsafe { bindings::is_64bit_mm(mm.as_raw()) } {
            Self::Bits64
        } else {
            Self::Bits32
        }
    }
}

/// A decoded instruction.
///
/// The decoder finds the parts of an instruction and their lengths. It does not know every
/// undefined opcode: the CPU may fail to decode an instruction that the decoder accepts.
pub struct Insn(bindings::insn);

impl Insn {
    /// Decodes the instruction that `bytes` begin with.
    ///
    /// Fails with `ENODATA` if `bytes` end before the instruction does, or if the instruction is
    /// longer than [`MAX_INSN_SIZE`]; with `EINVAL` if the encoding is invalid.
    pub fn decode(bytes: &[u8], mode: Mode) -> Result<Self> {
        let mut insn = MaybeUninit::<bindings::insn>::uninit();
        let mode = match mode {
            Mode::Bits32 => bindings::insn_mode_INSN_MODE_32,
            Mode::Bits64 => bindings::insn_mode_INSN_MODE_64,
        };
        let len = bytes.len().min(MAX_INSN_SIZE) as c_int;

        // SAFETY: `insn` is valid for writes, and `bytes` for reads of `len` bytes.
        to_result(unsafe {
            bindings::insn_decode(insn.as_mut_ptr(), bytes.as_ptr().cast(), len, mode)
        })?;
        // SAFETY: `insn_decode()` zeroes and then fills the structure.
        Ok(Self(unsafe { insn.assume_init() }))
    }

    /// Returns the length in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        self.0.length.into()
    }

    /// Returns the legacy prefixes, without repetitions; unused elements are zero.
    #[inline]
    pub fn prefixes(&self) -> [u8; 4] {
        field_bytes(&self.0.prefixes)
    }

    /// Returns the REX prefix, or the two bytes of a REX2 prefix, and the length.
    #[inline]
    pub fn rex(&self) -> ([u8; 4], usize) {
        field(&self.0.rex_prefix)
    }

    /// Returns the VEX, EVEX or XOP prefix and its length, which is 0 if there is none.
    #[inline]
    pub fn vex(&self) -> ([u8; 4], usize) {
        // SAFETY: Both members of the union are the same plain type, zeroed by the decoder.
        field(unsafe { &self.0.__bindgen_anon_1.vex_prefix })
    }

    /// Returns the bytes of the opcode, including escape bytes, and their number.
    #[inline]
    pub fn opcode(&self) -> ([u8; 4], usize) {
        field(&self.0.opcode)
    }

    /// Returns the ModRM byte.
    #[inline]
    pub fn modrm(&self) -> Option<u8> {
        first(&self.0.modrm)
    }

    /// Returns the SIB byte.
    #[inline]
    pub fn sib(&self) -> Option<u8> {
        first(&self.0.sib)
    }

    /// Returns the displacement, sign-extended.
    #[inline]
    pub fn displacement(&self) -> i32 {
        value(&self.0.displacement)
    }

    /// Returns the offset of the displacement from the start of the instruction.
    #[inline]
    pub fn displacement_offset(&self) -> usize {
        let parts = [
            self.0.prefixes.nbytes,
            self.0.rex_prefix.nbytes,
            self.vex().1 as u8,
            self.0.opcode.nbytes,
            self.0.modrm.nbytes,
            self.0.sib.nbytes,
        ];
        parts.iter().map(|n| usize::from(*n)).sum()
    }

    /// Returns the (first) immediate operand, sign-extended from its size.
    #[inline]
    pub fn immediate(&self) -> i32 {
        // SAFETY: All members of the union are the same plain type, zeroed by the decoder.
        value(unsafe { &self.0.__bindgen_anon_2.immediate })
    }

    /// Returns the whole of an immediate operand of eight bytes.
    #[inline]
    pub fn immediate64(&self) -> Option<u64> {
        // SAFETY: All members of the union are the same plain type, zeroed by the decoder.
        let upper = unsafe { &self.0.__bindgen_anon_3.immediate2 };
        // Shorter fields are second operands.
        (upper.nbytes == 4)
            .then(|| u64::from(self.immediate() as u32) | (u64::from(value(upper) as u32) << 32))
    }

    /// Returns the size of an address in bytes: 2, 4 or 8.
    #[inline]
    pub fn address_size(&self) -> u8 {
        self.0.addr_bytes
    }

    /// Returns whether the bytes start with the escape sequence that asks a hypervisor to emulate
    /// an instruction. The CPU executes it as `ud2`.
    #[inline]
    pub fn has_emulate_prefix(&self) -> bool {
        self.0.emulate_prefix_size != 0
    }
}

#[inline]
fn field_bytes(field: &bindings::insn_field) -> [u8; 4] {
    // SAFETY: Both members of the union are plain integers of the same size.
    unsafe { field.__bindgen_anon_1.bytes }
}

#[inline]
fn field(field: &bindings::insn_field) -> ([u8; 4], usize) {
    (field_bytes(field), field.nbytes.into())
}

#[inline]
fn first(field: &bindings::insn_field) -> Option<u8> {
    (field.nbytes != 0).then(|| field_bytes(field)[0])
}

#[inline]
fn value(field: &bindings::insn_field) -> i32 {
    // SAFETY: Both members of the union are plain integers of the same size.
    unsafe { field.__bindgen_anon_1.value }
}
