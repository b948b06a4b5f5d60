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
        /// Of each pair of conditions: flags of which one must be set.
        const ANY_OF: [usize; 8] = [OF, CF, ZF, CF | ZF, SF, PF, LESS, LESS | ZF];
        /// In place of a flag: that sign and overflow differ.
        const LESS: usize = 1 << 63;

        // Both moved to where that is.
        let differ = (bits << (63 - SF.trailing_zeros())) ^ (bits << (63 - OF.trailing_zeros()));
        let bits = (bits & !LESS) | (differ & LESS);
        let any = bits & ANY_OF[(self.0 >> 1) as usize & 7] != 0;
        // The lowest bit of the opcode negates.
        any != (self.0 & 1 != 0)
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

/// Whether a byte has an even number of bits set, as 0 or 1.
#[inline]
const fn even_parity(byte: usize) -> usize {
    /// The same of each half byte.
    const OF_HALVES: usize = 0b1001_0110_0110_1001;

    OF_HALVES >> ((byte ^ (byte >> 4)) & 15) & 1
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
    let highest = width.bits() - 1;
    // There are no branches in this, which could be mispredicted.
    let status = ((carries >> highest) & 1) * CF
        | even_parity(result) * PF
        | ((carries >> 3) & 1) * AF
        | (result == 0) as usize * ZF
        | ((result >> highest) & 1) * SF
        | ((overflows >> highest) & 1) * OF;
    (result, status)
}
