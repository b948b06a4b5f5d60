// SPDX-License-Identifier: GPL-2.0

//! The choice of how an instruction is resumed.

use super::{
    decode::Decoded,
    in_memory::InMemory,
    in_registers::{
        InRegisters,
        RegisterOp, //
    },
    select::{
        memory_op,
        register_op, //
    },
    step::{
        Boost,
        Step, //
    },
    Mode,
    MAX_INSN_SIZE, //
};
use crate::{
    PlanKind,
    Refusal,
    Vaddr,
    Width, //
};

/// How an instruction is resumed.
///
/// The fastest way is a copy in a slot from which the thread comes back by itself: the thread is
/// sent there, and the CPU does the rest. Emulations are for what would do something else in a
/// slot, for when there is none, and for threads that step.
#[derive(Clone, Copy)]
pub enum Plan {
    /// By changing the saved registers; that always works.
    Emulate(InRegisters),
    /// As before; or in a slot, if there is one.
    EmulateOrBoost(InRegisters, Step),
    /// By changing the saved registers and accessing memory; or in a slot, if there is one from
    /// which the thread comes back by itself. If the access fails, or would not be all that the CPU
    /// does, then by stepping, so that the CPU raises the exact exception.
    EmulateOrStep(InMemory, Step),
    /// By a copy in a slot, which a jump to the next instruction follows: there is no second trap.
    /// A thread that steps anyway is stepped through the copy.
    Boost(Step),
    /// By stepping a copy in a slot.
    Step(Step),
}

impl Plan {
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

        let step = Step::new(insn, bytes, at, width, next, target);
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

    /// The form in which it is executed in a slot, if it may be.
    #[inline]
    pub fn step(&self) -> Option<&Step> {
        match self {
            Self::Emulate(_) => None,
            Self::EmulateOrBoost(_, step)
            | Self::EmulateOrStep(_, step)
            | Self::Boost(step)
            | Self::Step(step) => Some(step),
        }
    }

    /// Whether every hit needs the slot. Otherwise one is needed if an emulation cannot be exact,
    /// as when it would fault.
    pub fn needs_slot(&self) -> bool {
        match self {
            Self::Emulate(_) | Self::EmulateOrBoost(..) | Self::EmulateOrStep(..) => false,
            Self::Boost(_) | Self::Step(_) => true,
        }
    }

    /// Whether it is faster with a slot, though it works without one.
    pub fn gains_by_slot(&self) -> bool {
        match self {
            Self::EmulateOrBoost(..) => true,
            Self::EmulateOrStep(_, step) => step.boost() != Boost::Never,
            Self::Emulate(_) | Self::Boost(_) | Self::Step(_) => false,
        }
    }

    /// What it is, for those who need not know more.
    pub fn kind(&self) -> PlanKind {
        match self {
            Self::Emulate(_) | Self::EmulateOrBoost(..) | Self::EmulateOrStep(..) => {
                PlanKind::Emulate
            }
            Self::Boost(_) => PlanKind::Boost,
            Self::Step(_) => PlanKind::Step,
        }
    }
}

/// What a plan is to [`Insn::emulate_at_once`](super::Insn::emulate_at_once).
// With a tag of its own, which takes no calculation to get at.
#[repr(u8)]
#[derive(Clone, Copy)]
pub(super) enum Quick {
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

impl Quick {
    pub(super) fn of(plan: &Plan) -> Self {
        match plan {
            Plan::Emulate(emulation) => match emulation.op {
                RegisterOp::Nop => Self::Nop {
                    next: emulation.next,
                },
                _ => Self::Emulate(*emulation),
            },
            Plan::Boost(_) | Plan::EmulateOrBoost(..) => Self::Boost,
            Plan::EmulateOrStep(_, step) => match step.boost() {
                Boost::Always => Self::Boost,
                Boost::Unshadowed => Self::BoostUnshadowed,
                Boost::Never => Self::Other,
            },
            Plan::Step(_) => Self::Other,
        }
    }
}

/// Fills the bits above with the highest one.
pub(super) const fn sign_extend(value: i32) -> usize {
    value as isize as usize
}

/// Whether a jump from one address to the other surely stays within user space.
///
/// A jump to an address that is not canonical raises an exception at the jump itself, which the
/// emulation would not. User space ends at 2^47 or, with five levels of page tables, at 2^56: in
/// either case a jump out of it crosses a multiple of 2^47.
fn stays_in_user_space(at: usize, target: usize) -> bool {
    const SHIFT: u32 = 47;
    at >> SHIFT == target >> SHIFT
}
