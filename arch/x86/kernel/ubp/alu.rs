// SPDX-License-Identifier: GPL-2.0

//! Arithmetic and logic: results, flags, and conditions on the flags.
//!
//! Every function takes the whole flags register and returns its value after the operation. Bits
//! that the instruction does not write are unchanged.

use crate::Width;
use kernel::ptregs::flags::{
    AF,
    CF,
    OF,
    PF,
    SF,
    ZF, //
};

/// The status flags.
const STATUS: usize = CF | PF | AF | ZF | SF | OF;

/// A condition on the flags: the low four bits of a conditional opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Condition(u8);

impl Condition {
    pub(super) const fn new(opcode: u8) -> Self {
        Self(opcode & 15)
    }

    /// Returns whether the condition holds with these flags.
    #[inline]
    pub(super) const fn holds(self, bits: usize) -> bool {
        /// For each pair of conditions, the flags of which at least one must be set.
        const ANY_OF: [usize; 8] = [OF, CF, ZF, CF | ZF, SF, PF, LESS, LESS | ZF];
        /// A bit that stands for "sign and overflow differ".
        const LESS: usize = 1 << 63;

        // Move both flags to the position of `LESS`.
        let differ = (bits << (63 - SF.trailing_zeros())) ^ (bits << (63 - OF.trailing_zeros()));
        let bits = (bits & !LESS) | (differ & LESS);
        let any = bits & ANY_OF[(self.0 >> 1) as usize & 7] != 0;
        // The lowest bit of the opcode negates the condition.
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
    /// Returns the flags after the comparison.
    #[inline]
    pub(super) const fn execute(self, a: usize, b: usize, width: Width, flags: usize) -> usize {
        let op = match self {
            Self::Cmp => Binary::Sub,
            Self::Test => Binary::And,
        };
        op.execute(a, b, width, flags).1
    }
}

/// An operation on two operands that writes its result to the first.
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
    /// Returns the result, and the flags after the operation.
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
    /// Returns the result, and the flags after the operation.
    #[inline]
    pub(super) const fn execute(self, a: usize, width: Width, flags: usize) -> (usize, usize) {
        match self {
            Self::Neg => Binary::Sub.execute(0, a, width, flags),
            Self::Not => (width.truncate(!a), flags),
            // INC and DEC leave the carry flag unchanged.
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

/// A change of a single flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FlagChange {
    Clear,
    Set,
    Complement,
}

impl FlagChange {
    /// Returns `flags` with the change applied to `flag`.
    #[inline]
    pub(super) const fn execute(self, flag: usize, flags: usize) -> usize {
        match self {
            Self::Clear => flags & !flag,
            Self::Set => flags | flag,
            Self::Complement => flags ^ flag,
        }
    }
}

/// Returns 1 if a byte has an even number of bits set, else 0.
#[inline]
const fn even_parity(byte: usize) -> usize {
    /// The parity of each value of a half byte.
    const OF_HALVES: usize = 0b1001_0110_0110_1001;

    OF_HALVES >> ((byte ^ (byte >> 4)) & 15) & 1
}

/// Returns the sum and its status flags.
#[inline]
const fn add(a: usize, b: usize, carry: bool, width: Width) -> (usize, usize) {
    let sum = a.wrapping_add(b).wrapping_add(carry as usize);
    // A bit position carries if both bits are set, or if one is set and the sum's bit is clear.
    let carries = (a & b) | ((a | b) & !sum);
    let overflows = (a ^ sum) & (b ^ sum);
    with_status(sum, carries, overflows, width)
}

/// Returns the difference and its status flags.
#[inline]
const fn subtract(a: usize, b: usize, borrow: bool, width: Width) -> (usize, usize) {
    let difference = a.wrapping_sub(b).wrapping_sub(borrow as usize);
    let borrows = (!a & b) | ((!a | b) & difference);
    let overflows = (a ^ b) & (a ^ difference);
    with_status(difference, borrows, overflows, width)
}

/// Returns the result of a bitwise operation and its status flags.
///
/// The manuals leave the auxiliary carry flag undefined. Processors, and QEMU, clear it.
#[inline]
const fn logic(result: usize, width: Width) -> (usize, usize) {
    with_status(result, 0, 0, width)
}

/// Truncates a result, and adds its status flags. Each bit of `carries` is set if the result's bit
/// produced a carry or borrow. The highest bit of `overflows` is set if the sign is wrong.
#[inline]
const fn with_status(
    result: usize,
    carries: usize,
    overflows: usize,
    width: Width,
) -> (usize, usize) {
    let result = width.truncate(result);
    let highest = width.bits() - 1;
    // This has no branches, because they could be mispredicted.
    let status = ((carries >> highest) & 1) * CF
        | even_parity(result) * PF
        | ((carries >> 3) & 1) * AF
        | (result == 0) as usize * ZF
        | ((result >> highest) & 1) * SF
        | ((overflows >> highest) & 1) * OF;
    (result, status)
}
