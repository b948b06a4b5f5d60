// SPDX-License-Identifier: GPL-2.0

//! Emulation of instructions that only change registers. This emulation cannot fail.

use super::{
    alu::{
        Binary,
        Comparison,
        Condition,
        FlagChange,
        Unary, //
    },
    operand::{
        Address,
        OperandValue,
        Register, //
    }, //
};
use kernel::ptregs::{
    flags,
    PtRegs, //
};

/// An instruction that only changes registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RegisterOp {
    Nop,
    Move {
        to: Register,
        from: OperandValue,
    },
    MoveIf {
        condition: Condition,
        to: Register,
        from: Register,
    },
    /// Sets the register to 1 if the condition holds, else to 0.
    SetIf {
        condition: Condition,
        to: Register,
    },
    Exchange(Register, Register),
    LoadAddress {
        to: Register,
        address: Address,
    },
    Binary {
        op: Binary,
        to: Register,
        from: OperandValue,
    },
    Compare {
        op: Comparison,
        first: Register,
        second: OperandValue,
    },
    Unary {
        op: Unary,
        to: Register,
    },
    Flag {
        flag: usize,
        change: FlagChange,
    },
    Jump {
        target: usize,
    },
    Branch {
        condition: Condition,
        target: usize,
    },
    /// Branches unless the count reaches zero, or the zero flag differs from `zero`.
    Loop {
        count: Register,
        zero: Option<bool>,
        target: usize,
    },
    BranchIfCountZero {
        count: Register,
        target: usize,
    },
}

/// The emulation of an instruction that only changes registers.
#[derive(Clone, Copy)]
pub struct InRegisters {
    pub(super) op: RegisterOp,
    pub(super) next: usize,
}

impl InRegisters {
    /// Returns whether the instruction has an effect, and can have it from a slot.
    pub(super) fn may_be_in_slot(&self) -> bool {
        match self.op {
            RegisterOp::Nop
            | RegisterOp::Jump { .. }
            | RegisterOp::Loop { .. }
            | RegisterOp::BranchIfCountZero { .. } => false,
            RegisterOp::Branch { .. }
            | RegisterOp::Move { .. }
            | RegisterOp::MoveIf { .. }
            | RegisterOp::SetIf { .. }
            | RegisterOp::Exchange(..)
            | RegisterOp::LoadAddress { .. }
            | RegisterOp::Binary { .. }
            | RegisterOp::Compare { .. }
            | RegisterOp::Unary { .. }
            | RegisterOp::Flag { .. } => true,
        }
    }

    /// Executes the instruction, and returns whether it has branched.
    #[inline(never)]
    pub(super) fn execute(&self, regs: &mut PtRegs) -> bool {
        let target = match self.op {
            RegisterOp::Nop => None,
            RegisterOp::Move { to, from } => {
                move_value(to, from, regs);
                None
            }
            RegisterOp::MoveIf {
                condition,
                to,
                from,
            } => {
                let holds = condition.holds(regs.flags());
                // The register is written, and its upper half cleared, in either case.
                move_value(
                    to,
                    OperandValue::Register(if holds { from } else { to }),
                    regs,
                );
                None
            }
            RegisterOp::SetIf { condition, to } => {
                let value = usize::from(condition.holds(regs.flags()));
                move_value(to, OperandValue::Immediate(value), regs);
                None
            }
            RegisterOp::Exchange(a, b) => {
                let (old_a, old_b) = (a.get(regs), b.get(regs));
                a.set(regs, old_b);
                b.set(regs, old_a);
                None
            }
            RegisterOp::LoadAddress { to, ref address } => {
                load_address(to, address, regs);
                None
            }
            RegisterOp::Binary { op, to, from } => {
                binary(op, to, from.get(regs), regs);
                None
            }
            RegisterOp::Compare { op, first, second } => {
                compare(op, first, second, regs);
                None
            }
            RegisterOp::Unary { op, to } => {
                unary(op, to, regs);
                None
            }
            RegisterOp::Flag { flag, change } => {
                regs.set_flags(change.execute(flag, regs.flags()));
                None
            }
            RegisterOp::Jump { target } => Some(target),
            RegisterOp::Branch { condition, target } => {
                condition.holds(regs.flags()).then_some(target)
            }
            RegisterOp::Loop {
                count,
                zero,
                target,
            } => {
                let is_zero = regs.flags() & flags::ZF != 0;
                count.set(regs, count.get(regs).wrapping_sub(1));
                let goes_on = count.get(regs) != 0 && zero.unwrap_or(is_zero) == is_zero;
                goes_on.then_some(target)
            }
            RegisterOp::BranchIfCountZero { count, target } => {
                (count.get(regs) == 0).then_some(target)
            }
        };
        regs.set_ip(target.unwrap_or(self.next));
        target.is_some()
    }
}

// Separate functions, so that none of them has to save registers for another.

#[inline(never)]
fn move_value(to: Register, from: OperandValue, regs: &mut PtRegs) {
    to.set(regs, from.get(regs));
}

#[inline(never)]
fn load_address(to: Register, address: &Address, regs: &mut PtRegs) {
    to.set(regs, address.get(regs));
}

#[inline(never)]
fn compare(op: Comparison, first: Register, second: OperandValue, regs: &mut PtRegs) {
    let (a, b) = (first.get(regs), second.get(regs));
    regs.set_flags(op.execute(a, b, first.width(), regs.flags()));
}

#[inline(never)]
fn unary(op: Unary, to: Register, regs: &mut PtRegs) {
    let (result, bits) = op.execute(to.get(regs), to.width(), regs.flags());
    to.set(regs, result);
    regs.set_flags(bits);
}

/// Executes an operation with `value` as the second operand.
#[inline(never)]
pub(super) fn binary(op: Binary, to: Register, value: usize, regs: &mut PtRegs) {
    let (result, bits) = op.execute(to.get(regs), value, to.width(), regs.flags());
    to.set(regs, result);
    regs.set_flags(bits);
}
