// SPDX-License-Identifier: GPL-2.0

//! Decoding, emulation and stepping of one displaced instruction.
//!
//! A breakpoint displaces the instruction that it overwrites. This crate decides how to execute the
//! displaced instruction when the breakpoint is registered, and executes it on each hit:
//!
//! - [`analyze`] turns the bytes at an address into a [`ProbedInsn`], or returns why they cannot be
//!   probed ([`Refusal`]).
//! - [`ProbedInsn::emulate`] executes the instruction by changing the saved registers and memory.
//!   If it cannot, it returns the [`XolStep`] by which the CPU executes a copy of the instruction.
//! - [`XolStep`] describes the copy in a slot, sends the thread to the slot ([`XolStep::begin`])
//!   and takes it back ([`XolStep::finish`], [`XolStep::abort`]). For most instructions the copy
//!   ends with a jump to the next instruction, so that nothing is left to do after it.
//!
//! [`analyze`] makes all decisions. A hit only executes them: it does not allocate, cannot panic,
//! and takes no lock.
//!
//! The crate does not depend on processes, on how text is written, or on how slots are allocated.
//! It accesses the thread, besides its registers, through the [`ThreadAccess`] trait, which tests
//! implement with a mock.

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
    ThreadAccess,
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
    FlowStep,
    InMemory,
    InRegisters,
    Mode,
    Plan,
    ProbedInsn,
    ResumePlan,
    StepState,
    XolStep,
    BREAKPOINT,
    BREAKPOINT_SIZE,
    MAX_INSN_SIZE,
    SLOT_SIZE, //
};

/// Prefix of messages printed by the tests.
#[cfg(CONFIG_UBP_KUNIT_TEST)]
const __LOG_PREFIX: &[u8] = b"ubp_arch\0";

/// The result of [`ProbedInsn::emulate_fast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the thread has to be resumed one way or the other"]
pub enum EmulatedFast {
    /// The instruction has been executed, and the thread may return to user mode.
    Done,
    /// Nothing has been done. The CPU must execute the instruction in a slot, which ends with a
    /// jump back to the program.
    Boost,
    /// Nothing has been done. The caller must use [`ProbedInsn::emulate`].
    Other,
}

/// The result of [`ProbedInsn::emulate`].
#[must_use = "the thread has to be resumed one way or the other"]
pub enum Emulated<'a> {
    /// The instruction has been executed, and the thread may return to user mode.
    Done {
        /// Whether the thread was stepping (by itself or for a debugger), and expects a trap now.
        deliver_trap: bool,
    },
    /// Nothing has been changed. The CPU must execute the instruction in a slot, which ends with a
    /// jump back to the program.
    Boost(&'a XolStep),
    /// Nothing has been changed. The thread must be stepped in a slot: see [`XolStep::begin`].
    Step(&'a XolStep),
}

/// The result of [`XolStep::finish`].
#[must_use = "the thread has to be resumed one way or the other"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finished {
    /// The instruction has been executed, and the thread has left the slot.
    Done {
        /// Whether the thread was stepping (by itself or for a debugger), and expects a trap now.
        deliver_trap: bool,
    },
    /// The thread stays in the slot and continues stepping. Either a repeated instruction has done
    /// one of its iterations; or the kernel cannot correct the value that the instruction has
    /// pushed, because the memory has gone since, and has undone the push.
    Again,
    /// The kernel cannot correct the value that the instruction has pushed, because the memory has
    /// gone since, and cannot undo it, because the CPU has also pushed to a shadow stack. The
    /// thread is at the instruction, and must get the signal of this fault.
    Fault(Fault),
}

/// The operand of an instruction cannot be reached from the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfReach;
