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

/// The longest instruction there is.
pub const MAX_INSN_SIZE: usize = bindings::MAX_INSN_SIZE as usize;

/// Which instruction set bytes are decoded as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 32-bit code.
    Bits32,
    /// 64-bit code.
    Bits64,
}

impl Mode {
    /// What a thread with these registers executes, if its instruction and stack pointers are
    /// linear addresses: if not, it uses segments from a local descriptor table.
    #[inline]
    pub fn of(regs: &PtRegs) -> Option<Self> {
        if regs.is_64bit() {
            Some(Self::Bits64)
        } else if regs.is_code_flat() && regs.is_stack_flat() {
            Some(Self::Bits32)
        } else {
            None
        }
    }

    /// A code segment that is enough for [`Mode::of`] to say that it is this mode, if there is one.
    pub fn sure_segment(self) -> Option<u16> {
        match self {
            // The stack segment counts as well.
            Self::Bits32 => None,
            // CAST: Selectors have 16 bits.
            Self::Bits64 => Some(bindings::__USER_CS as u16),
        }
    }

    /// What the threads of a process execute, unless they switch by themselves.
    pub fn of_mm(mm: &Mm) -> Self {
        // SAFETY: `mm` is valid; what is read does not change after `execve()`.
        if unsafe { bindings::is_64bit_mm(mm.as_raw()) } {
            Self::Bits64
        } else {
            Self::Bits32
        }
    }
}

/// A decoded instruction.
///
/// The decoder knows where the parts of an instruction are and how long they are. It does not
/// know every undefined opcode: that decoding succeeds does not mean that the CPU would.
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

    /// Length in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        self.0.length.into()
    }

    /// Legacy prefixes, without repetitions; unused places are zero.
    #[inline]
    pub fn prefixes(&self) -> [u8; 4] {
        field_bytes(&self.0.prefixes)
    }

    /// The REX prefix, or the two bytes of a REX2 prefix.
    #[inline]
    pub fn rex(&self) -> ([u8; 4], usize) {
        field(&self.0.rex_prefix)
    }

    /// The VEX, EVEX or XOP prefix and its length, which is 0 if there is none.
    #[inline]
    pub fn vex(&self) -> ([u8; 4], usize) {
        // SAFETY: Both members of the union are the same plain type, zeroed by the decoder.
        field(unsafe { &self.0.__bindgen_anon_1.vex_prefix })
    }

    /// The bytes of the opcode, escape bytes included, and how many they are.
    #[inline]
    pub fn opcode(&self) -> ([u8; 4], usize) {
        field(&self.0.opcode)
    }

    /// The ModRM byte.
    #[inline]
    pub fn modrm(&self) -> Option<u8> {
        first(&self.0.modrm)
    }

    /// The SIB byte.
    #[inline]
    pub fn sib(&self) -> Option<u8> {
        first(&self.0.sib)
    }

    /// The displacement, sign-extended.
    #[inline]
    pub fn displacement(&self) -> i32 {
        value(&self.0.displacement)
    }

    /// Offset of the displacement from the start of the instruction.
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

    /// The (first) immediate operand, sign-extended from its size.
    #[inline]
    pub fn immediate(&self) -> i32 {
        // SAFETY: All members of the union are the same plain type, zeroed by the decoder.
        value(unsafe { &self.0.__bindgen_anon_2.immediate })
    }

    /// All of an immediate operand of eight bytes.
    #[inline]
    pub fn immediate64(&self) -> Option<u64> {
        // SAFETY: As above.
        let upper = unsafe { &self.0.__bindgen_anon_3.immediate2 };
        // Shorter ones are second operands.
        (upper.nbytes == 4)
            .then(|| u64::from(self.immediate() as u32) | (u64::from(value(upper) as u32) << 32))
    }

    /// Bytes of an address: 2, 4 or 8.
    #[inline]
    pub fn address_size(&self) -> u8 {
        self.0.addr_bytes
    }

    /// Whether the bytes start with the escape sequence by which a hypervisor is asked to emulate
    /// an instruction; to the CPU it is `ud2`.
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
