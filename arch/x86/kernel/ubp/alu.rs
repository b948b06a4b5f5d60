// SPDX-License-Identifier: GPL-2.0

//! Arithmetic and logic: results, flags, and what conditions make of the flags.
//!
//! Every function takes the flags register as it was before and gives all of it as it is after,
//! with the bits unchanged that the instruction does not write.

use crate::Width;
use kernel::ptregs::flags::{
    AF,
    CF,
    OF,
    PF,
    SF,
    ZF, //
};

/// The flags that say something about a result.
const STATUS: usize = CF | PF | AF | ZF | SF | OF;

/// A condition on the flags: the low four bits of the opcodes that have one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Condition(u8);

impl Condition {
    pub(super) const fn new(opcode: u8) -> Self {
        Self(opcode & 15)
    }

    /// Whether it holds with these flags.
    #[inline]
    pub(super) const fn holds(self, bits: usize) -> bool {
        let less = (bits & SF != 0) != (bits & OF != 0);
        let positive = match self.0 >> 1 {
            0 => bits & OF != 0,
            1 => bits & CF != 0,
            2 => bits & ZF != 0,
            3 => bits & (CF | ZF) != 0,
            4 => bits & SF != 0,
            5 => bits & PF != 0,
            6 => less,
            _ => less || bits & ZF != 0,
        };
        // The lowest bit of the opcode negates.
        positive != (self.0 & 1 != 0)
    }
}

/// An operation on two operands that only sets flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Cmp,
    Test,
}

impl Comparison {
    /// The flags after it.
    #[inline]
    pub(super) const fn execute(self, a: usize, b: usize, width: Width, flags: usize) -> usize {
        let op = match self {
            Self::Cmp => Binary::Sub,
            Self::Test => Binary::And,
        };
        op.execute(a, b, width, flags).1
    }
}

/// An operation on two operands, of which the first receives the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Binary {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
}

impl Binary {
    /// The result, and the flags after it.
    #[inline]
    pub(super) const fn execute(
        self,
        a: usize,
        b: usize,
        width: Width,
        flags: usize,
    ) -> (usize, usize) {
        let carry = flags & CF != 0;
        let (result, status) = match self {
            Self::Add => add(a, b, false, width),
            Self::Adc => add(a, b, carry, width),
            Self::Sub => subtract(a, b, false, width),
            Self::Sbb => subtract(a, b, carry, width),
            Self::Or => logic(a | b, width),
            Self::And => logic(a & b, width),
            Self::Xor => logic(a ^ b, width),
        };
        (result, (flags & !STATUS) | status)
    }
}

/// An operation on one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unary {
    Inc,
    Dec,
    Neg,
    Not,
}

impl Unary {
    /// The result, and the flags after it.
    #[inline]
    pub(super) const fn execute(self, a: usize, width: Width, flags: usize) -> (usize, usize) {
        match self {
            Self::Neg => Binary::Sub.execute(0, a, width, flags),
            Self::Not => (width.truncate(!a), flags),
            // These two leave the carry flag.
            Self::Inc => {
                let (result, after) = Binary::Add.execute(a, 1, width, flags);
                (result, (after & !CF) | (flags & CF))
            }
            Self::Dec => {
                let (result, after) = Binary::Sub.execute(a, 1, width, flags);
                (result, (after & !CF) | (flags & CF))
            }
        }
    }
}

/// What becomes of a single flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FlagChange {
    Clear,
    Set,
    Complement,
}

impl FlagChange {
    /// The flags with this done to `flag`.
    #[inline]
    pub(super) const fn execute(self, flag: usize, flags: usize) -> usize {
        match self {
            Self::Clear => flags & !flag,
            Self::Set => flags | flag,
            Self::Complement => flags ^ flag,
        }
    }
}

/// `bit` if the condition holds.
const fn when(condition: bool, bit: usize) -> usize {
    if condition {
        bit
    } else {
        0
    }
}

const fn highest_bit(width: Width) -> usize {
    1 << (width.bytes() * 8 - 1)
}

/// The sum and its status flags.
#[inline]
const fn add(a: usize, b: usize, carry: bool, width: Width) -> (usize, usize) {
    let sum = a.wrapping_add(b).wrapping_add(carry as usize);
    // Out of a bit is carried what is in both, or in one of them and has not stayed in the sum.
    let carries = (a & b) | ((a | b) & !sum);
    let overflows = (a ^ sum) & (b ^ sum);
    with_status(sum, carries, overflows, width)
}

/// The difference and its status flags.
#[inline]
const fn subtract(a: usize, b: usize, borrow: bool, width: Width) -> (usize, usize) {
    let difference = a.wrapping_sub(b).wrapping_sub(borrow as usize);
    let borrows = (!a & b) | ((!a | b) & difference);
    let overflows = (a ^ b) & (a ^ difference);
    with_status(difference, borrows, overflows, width)
}

/// The status flags of a bitwise operation.
///
/// The manuals leave the auxiliary carry flag undefined. Processors, and QEMU, clear it.
#[inline]
const fn logic(result: usize, width: Width) -> (usize, usize) {
    with_status(result, 0, 0, width)
}

/// Cuts down a result, and adds its status flags. `carries` has a bit for each bit of the result
/// out of which something has been carried or borrowed, and the highest bit of `overflows` says
/// whether the sign is wrong.
#[inline]
const fn with_status(
    result: usize,
    carries: usize,
    overflows: usize,
    width: Width,
) -> (usize, usize) {
    let result = width.truncate(result);
    let highest = highest_bit(width);
    let low_byte = Width::W8.truncate(result);
    let status = when(carries & highest != 0, CF)
        | when(low_byte.count_ones() % 2 == 0, PF)
        | when(carries & 8 != 0, AF)
        | when(result == 0, ZF)
        | when(result & highest != 0, SF)
        | when(overflows & highest != 0, OF);
    (result, status)
}
