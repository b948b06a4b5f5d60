// SPDX-License-Identifier: GPL-2.0

//! What user-space breakpoints need to know about one instruction.
//!
//! A breakpoint displaces the instruction that it is written over. This crate decides, when the
//! breakpoint is registered, how that instruction is to be made up for on a hit, and does it on
//! each hit:
//!
//! - [`analyze`] turns the bytes at an address into an [`Insn`], or says why they cannot be probed
//!   ([`Refusal`]).
//! - [`Insn::emulate`] does what the instruction does by changing the saved registers, and memory.
//!   If it cannot, it gives the [`Step`] by which the CPU executes a copy of the instruction.
//! - [`Step`] says what the copy looks like in a slot, and takes the thread there
//!   ([`Step::begin`]) and back ([`Step::finish`], [`Step::abort`]). Of most instructions the
//!   copy ends with a jump to the next one, so that nothing has to be done after it.
//!
//! All decisions are made by [`analyze`]. A hit executes what was decided: it does not allocate,
//! cannot panic, and takes no lock.
//!
//! The crate knows nothing of processes, of how text is written or of where slots come from. What
//! it needs of the thread that hit, besides its registers, goes through the [`Thread`] trait,
//! which tests implement with a mock.

mod addr;
mod refusal;
mod thread;

#[cfg(CONFIG_X86_64)]
#[path = "../../../arch/x86/kernel/ubp/x86.rs"]
mod x86;

pub use addr::{
    SlotAddr,
    Vaddr, //
};
pub use refusal::Refusal;
pub use thread::{
    CurrentThread,
    Fault,
    Thread,
    Width, //
};

#[cfg(CONFIG_X86_64)]
pub use x86::{
    analyze,
    flow,
    is_at_copy,
    length,
    Depth,
    Flow,
    Flowed,
    InMemory,
    InRegisters,
    Insn,
    Mode,
    Plan,
    Step,
    StepState,
    BREAKPOINT,
    BREAKPOINT_SIZE,
    MAX_INSN_SIZE,
    SLOT_SIZE, //
};

/// Prefix of what the tests print.
#[cfg(CONFIG_UBP_KUNIT_TEST)]
const __LOG_PREFIX: &[u8] = b"ubp_arch\0";

/// How an instruction is resumed, for those who need not know how that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanKind {
    /// By the kernel, unless that proves impossible at a hit; or as the next, if there is room for
    /// a slot and that is faster.
    Emulate,
    /// By a copy in a slot, from where the thread goes on by itself.
    Boost,
    /// By stepping a copy in a slot.
    Step,
}

/// What [`Insn::emulate_at_once`] has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the thread has to be resumed one way or the other"]
pub enum AtOnce {
    /// The instruction has been executed: the thread may return to user mode.
    Done,
    /// Nothing: the CPU must execute the instruction in a slot, from which the thread comes back by
    /// itself.
    Boost,
    /// Nothing: that is for [`Insn::emulate`].
    Other,
}

/// How far [`Insn::emulate`] got.
#[must_use = "the thread has to be resumed one way or the other"]
pub enum Emulated<'a> {
    /// The instruction has been executed: the thread may return to user mode.
    Done {
        /// The thread was stepping (by itself or for a debugger): it expects a trap now.
        deliver_trap: bool,
    },
    /// Nothing has been changed: the CPU itself must execute the instruction, in a slot, from which
    /// it comes back by itself.
    Boost(&'a Step),
    /// As before, but the thread must be stepped: [`Step::begin`].
    Step(&'a Step),
}

/// How far the thread got in its slot, says [`Step::finish`].
#[must_use = "the thread has to be resumed one way or the other"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finished {
    /// The instruction has been executed and the thread is out of the slot.
    Done {
        /// The thread was stepping (by itself or for a debugger): it expects a trap now.
        deliver_trap: bool,
    },
    /// The thread stays in the slot, and goes on stepping. A repeated instruction has done one of
    /// its iterations; or the kernel cannot correct what the instruction has pushed, because the
    /// memory has gone in the meantime, and has taken the push back.
    Again,
    /// The same, but the CPU has pushed to a shadow stack as well, which the kernel cannot take
    /// back. The thread is at the instruction: it must get the signal of this fault.
    Fault(Fault),
}

/// The operand of an instruction cannot be reached from the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfReach;
