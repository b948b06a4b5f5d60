// SPDX-License-Identifier: GPL-2.0

//! Plans: how an instruction is resumed.

use super::{
    choose::{
        memory_op,
        register_op, //
    },
    decode::Decoded,
    in_memory::InMemory,
    in_registers::{
        InRegisters,
        RegisterOp, //
    },
    step::{
        Boost,
        XolStep, //
    },
    Mode,
    Plan,
    MAX_INSN_SIZE, //
};
use crate::{
    Refusal,
    Vaddr,
    Width, //
};

/// The plan by which an instruction is resumed.
///
/// The fastest way is a boosted copy in a slot: the thread is sent to the slot, the CPU executes
/// the copy, and the thread comes back by itself. Instructions are emulated if they would behave
/// differently in a slot, if there is no slot, or if the thread is being stepped.
#[derive(Clone, Copy)]
pub enum ResumePlan {
    /// By changing the saved registers. This always works.
    Emulate(InRegisters),
    /// By changing the saved registers; or in a slot, if there is one.
    EmulateOrBoost(InRegisters, XolStep),
    /// By changing the saved registers and accessing memory; or in a slot, if there is one from
    /// which the thread comes back by itself. If the access fails, or would not do everything that
    /// the CPU does, the instruction is stepped, so that the CPU raises the exact exception.
    EmulateOrStep(InMemory, XolStep),
    /// By a copy in a slot, followed by a jump to the next instruction: there is no second trap. If
    /// the thread is being stepped anyway, it is stepped through the copy.
    Boost(XolStep),
    /// By stepping a copy in a slot.
    Step(XolStep),
}

impl ResumePlan {
    pub(super) fn new(
        insn: &Decoded,
        bytes: &[u8; MAX_INSN_SIZE],
        at: Vaddr,
    ) -> Result<Self, Refusal> {
        let width = match insn.mode {
            Mode::Bits32 => Width::W32,
            Mode::Bits64 => Width::W64,
        };
        let next = width.truncate(at.as_usize().wrapping_add(insn.len.into()));
        let target = width.truncate(next.wrapping_add(sign_extend(insn.immediate)));
        if insn.is_relative_branch() && !stays_in_user_space(at.as_usize(), target) {
            return Err(Refusal::TargetOutOfRange);
        }

        let step = XolStep::new(insn, bytes, at, width, next, target);
        let boost = step.boost();
        if let Some(op) = register_op(insn, next, target) {
            let emulation = InRegisters { op, next };
            return Ok(if emulation.may_be_in_slot() && boost == Boost::Always {
                Self::EmulateOrBoost(emulation, step)
            } else {
                Self::Emulate(emulation)
            });
        }
        Ok(match memory_op(insn, next, target) {
            Some(op) => Self::EmulateOrStep(InMemory { op, width, next }, step),
            None if boost == Boost::Always => Self::Boost(step),
            None => Self::Step(step),
        })
    }

    /// Returns the form in which the instruction is executed in a slot, if it may be.
    #[inline]
    pub fn step(&self) -> Option<&XolStep> {
        match self {
            Self::Emulate(_) => None,
            Self::EmulateOrBoost(_, step)
            | Self::EmulateOrStep(_, step)
            | Self::Boost(step)
            | Self::Step(step) => Some(step),
        }
    }

    /// Returns whether every hit needs the slot. With other plans, a hit needs a slot only if the
    /// emulation cannot be exact, for example because it would fault.
    pub fn needs_slot(&self) -> bool {
        match self {
            Self::Emulate(_) | Self::EmulateOrBoost(..) | Self::EmulateOrStep(..) => false,
            Self::Boost(_) | Self::Step(_) => true,
        }
    }

    /// Returns whether a slot makes hits faster, although none is necessary.
    pub fn gains_by_slot(&self) -> bool {
        match self {
            Self::EmulateOrBoost(..) => true,
            Self::EmulateOrStep(_, step) => step.boost() != Boost::Never,
            Self::Emulate(_) | Self::Boost(_) | Self::Step(_) => false,
        }
    }

    /// Returns the kind of the plan, without its details.
    pub fn kind(&self) -> Plan {
        match self {
            Self::Emulate(_) | Self::EmulateOrBoost(..) | Self::EmulateOrStep(..) => Plan::Emulate,
            Self::Boost(_) => Plan::Boost,
            Self::Step(_) => Plan::Step,
        }
    }
}

/// The part of a plan that [`ProbedInsn::emulate_fast`](super::ProbedInsn::emulate_fast) uses.
// An explicit tag, so that reading the tag takes no calculation.
#[repr(u8)]
#[derive(Clone, Copy)]
pub(super) enum FastPath {
    Nop {
        next: usize,
    },
    Emulate(InRegisters),
    /// If there is a slot.
    Boost,
    /// If there is a slot, and no shadow stack.
    BoostUnshadowed,
    Other,
}

impl FastPath {
    pub(super) fn new(plan: &ResumePlan) -> Self {
        match plan {
            ResumePlan::Emulate(emulation) => match emulation.op {
                RegisterOp::Nop => Self::Nop {
                    next: emulation.next,
                },
                _ => Self::Emulate(*emulation),
            },
            ResumePlan::Boost(_) | ResumePlan::EmulateOrBoost(..) => Self::Boost,
            ResumePlan::EmulateOrStep(_, step) => match step.boost() {
                Boost::Always => Self::Boost,
                Boost::Unshadowed => Self::BoostUnshadowed,
                Boost::Never => Self::Other,
            },
            ResumePlan::Step(_) => Self::Other,
        }
    }
}

/// Sign-extends a 32-bit value.
pub(super) const fn sign_extend(value: i32) -> usize {
    value as isize as usize
}

/// Returns whether a jump between the two addresses certainly stays within user space.
///
/// A jump to a non-canonical address raises an exception at the jump itself, which the emulation
/// would not. User space ends at 2^47 or, with five levels of page tables, at 2^56: in either case
/// a jump out of it crosses a multiple of 2^47.
fn stays_in_user_space(at: usize, target: usize) -> bool {
    const SHIFT: u32 = 47;
    at >> SHIFT == target >> SHIFT
}
