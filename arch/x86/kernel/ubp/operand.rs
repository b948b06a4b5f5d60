// SPDX-License-Identifier: GPL-2.0

//! Operands of emulated instructions: their locations and values.

use super::{
    decode::{
        Decoded,
        Prefixes, //
    },
    plan::sign_extend,
    Mode, //
};
use crate::Width;
use kernel::ptregs::PtRegs;

/// A general-purpose register, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Register {
    /// The low bits of a register, as many as `width` has.
    Low { number: u8, width: Width },
    /// The second byte of one of the first four registers: `ah`, `ch`, `dh`, `bh`.
    SecondByte { number: u8 },
}

impl Register {
    pub(super) const fn width(self) -> Width {
        match self {
            Self::Low { width, .. } => width,
            Self::SecondByte { .. } => Width::W8,
        }
    }

    /// Returns the value of the register, zero-extended.
    #[inline]
    pub(super) fn get(self, regs: &PtRegs) -> usize {
        match self {
            Self::Low { number, width } => width.truncate(regs.gpr(number)),
            Self::SecondByte { number } => Width::W8.truncate(regs.gpr(number) >> 8),
        }
    }

    /// Writes the low bits of `value` to the register.
    ///
    /// A write of 32 bits clears the upper half of the register; a narrower write leaves the other
    /// bits unchanged.
    #[inline]
    pub(super) fn set(self, regs: &mut PtRegs, value: usize) {
        let (number, mask, value) = match self {
            Self::Low {
                number,
                width: width @ (Width::W32 | Width::W64),
            } => return regs.set_gpr(number, width.truncate(value)),
            Self::Low {
                number,
                width: width @ (Width::W8 | Width::W16),
            } => (number, width.truncate(usize::MAX), width.truncate(value)),
            Self::SecondByte { number } => (number, 0xff00, Width::W8.truncate(value) << 8),
        };
        let rest = regs.gpr(number) & !mask;
        regs.set_gpr(number, rest | value);
    }
}

/// An operand that is read without accessing memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OperandValue {
    Register(Register),
    /// The register, sign-extended.
    Signed(Register),
    /// The sign bit of the register, in all bits.
    SignOf(Register),
    Immediate(usize),
}

impl OperandValue {
    #[inline]
    pub(super) fn get(self, regs: &PtRegs) -> usize {
        match self {
            Self::Register(register) => register.get(regs),
            Self::Signed(register) => signed(register, regs) as usize,
            Self::SignOf(register) => (signed(register, regs) >> (isize::BITS - 1)) as usize,
            Self::Immediate(value) => value,
        }
    }
}

#[inline]
fn signed(register: Register, regs: &PtRegs) -> isize {
    register.width().sign_extend(register.get(regs)) as isize
}

/// The result of the address calculation from the ModRM and SIB bytes and the displacement: the
/// offset of a memory operand in its segment, or the value that `lea` loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) base: Option<u8>,
    pub(super) index: Option<u8>,
    pub(super) scale: u8,
    /// The displacement, plus the address of the next instruction if it is relative to that.
    pub(super) displacement: usize,
    pub(super) is_32bit: bool,
}

impl Address {
    #[inline]
    pub(super) fn get(&self, regs: &PtRegs) -> usize {
        let base = self.base.map_or(0, |n| regs.gpr(n));
        let index = self.index.map_or(0, |n| regs.gpr(n));
        let sum = base
            .wrapping_add(index.wrapping_shl(self.scale.into()))
            .wrapping_add(self.displacement);
        if self.is_32bit {
            Width::W32.truncate(sum)
        } else {
            sum
        }
    }
}

/// A memory operand in 64-bit code, in a segment that starts at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) address: Address,
    pub(super) width: Width,
}

/// Returns the size of the operands, for opcodes with a form for bytes, which is even.
pub(super) fn width_by_opcode(insn: &Decoded) -> Width {
    if insn.opcode & 1 == 0 {
        Width::W8
    } else {
        insn.width()
    }
}

/// Returns the size of the operand that MOVZX or MOVSX extends.
pub(super) fn extended_width(insn: &Decoded) -> Width {
    if insn.opcode & 1 == 0 {
        Width::W8
    } else {
        Width::W16
    }
}

/// Returns the immediate operand. It is as wide as the other operand, or sign-extended to that
/// width.
pub(super) fn immediate(insn: &Decoded) -> OperandValue {
    OperandValue::Immediate(match insn.immediate64 {
        Some(value) => value as usize,
        None => sign_extend(insn.immediate),
    })
}

/// Returns the register that an instruction encodes as `number`.
pub(super) fn register(insn: &Decoded, number: u8, width: Width) -> Register {
    // With any REX prefix, these numbers encode the low bytes of the registers 4 to 7.
    if width == Width::W8 && insn.rex == 0 && matches!(number, 4..=7) {
        Register::SecondByte { number: number - 4 }
    } else {
        Register::Low { number, width }
    }
}

/// Returns the operand in the `reg` field.
pub(super) fn reg(insn: &Decoded, width: Width) -> Option<Register> {
    Some(register(insn, insn.reg(insn.modrm?), width))
}

/// Returns the operand in the `rm` field, if it is a register.
pub(super) fn rm(insn: &Decoded, width: Width) -> Option<Register> {
    let modrm = insn.modrm.filter(|modrm| modrm.is_register())?;
    Some(register(insn, insn.rm(modrm), width))
}

/// Returns the operand in the `rm` field, if it is in memory at an address that can be evaluated.
pub(super) fn word(insn: &Decoded, next: usize, width: Width) -> Option<Word> {
    // The base of the segment is not known in 32-bit code and with FS and GS.
    if insn.mode != Mode::Bits64 || insn.prefixes.any(Prefixes::FS_GS) {
        return None;
    }
    Some(Word {
        address: address(insn, next)?,
        width,
    })
}

/// Returns the address that the ModRM and SIB bytes and the displacement encode, if `rm` is not a
/// register.
pub(super) fn address(insn: &Decoded, next: usize) -> Option<Address> {
    let modrm = insn.modrm.filter(|modrm| !modrm.is_register())?;
    // 16-bit addresses have a different encoding, and are rare.
    if insn.address_size == 2 {
        return None;
    }

    let displacement = sign_extend(insn.displacement);
    let no_base = modrm.mode() == 0 && (insn.sib.unwrap_or(modrm.0) & 7) == 5;
    let (base, index, scale) = match insn.sib {
        None => (Some(insn.rm(modrm)), None, 0),
        Some(sib) => {
            let base = (sib & 7) | ((insn.rex & 1) << 3);
            // Number 4 without REX.X means that there is no index.
            let index = ((sib >> 3) & 7) | ((insn.rex & 2) << 2);
            (Some(base), (index != 4).then_some(index), sib >> 6)
        }
    };
    Some(Address {
        base: if no_base { None } else { base },
        index,
        scale,
        displacement: if insn.is_ip_relative() {
            next.wrapping_add(displacement)
        } else {
            displacement
        },
        is_32bit: insn.address_size == 4,
    })
}
