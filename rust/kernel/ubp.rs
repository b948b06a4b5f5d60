// SPDX-License-Identifier: GPL-2.0

//! UBP: breakpoints in the text of a process.
//!
//! A [`Breakpoint`] is at an address of one process, which alone sees it. It has a [`Handler`],
//! which is called by the threads that are about to execute the instruction there. The instruction
//! is then emulated, or executed from a copy in a slot, as [`Plan`] says. When the owner of the
//! breakpoint drops it, the text is restored.
//!
//! Breakpoints end with the text that they are in: by exec, exit, `munmap()` and the like. A
//! process made by `fork()` has none.
//!
//! Several users cannot have breakpoints at one address, nor does anything here care who may do
//! this to whom. For that there are uprobes.
//!
//! # Examples
//!
//! A breakpoint that counts:
//!
//! ```
//! use kernel::{
//!     prelude::*,
//!     ptregs::PtRegs,
//!     sync::atomic::{Atomic, Relaxed},
//!     task::Task,
//!     ubp::{Breakpoint, Handler, Then}, //
//! };
//!
//! struct Counting(Atomic<i64>);
//!
//! #[vtable]
//! impl Handler for Counting {
//!     fn hit_in_interrupt(&self, _regs: &mut PtRegs) -> Then {
//!         self.0.fetch_add(1, Relaxed);
//!         Then::Resume
//!     }
//! }
//!
//! fn count(task: &Task, at: usize) -> Result<Breakpoint<Counting>> {
//!     Breakpoint::insert(task, at, Counting(Atomic::new(0)))
//! }
//! # // A thread of the kernel has no text in user space.
//! # assert_eq!(count(current!(), 0x1000).err(), Some(ESRCH));
//! ```
//!
//! What would become of an instruction:
//!
//! ```
//! use kernel::{
//!     insn::Mode,
//!     prelude::*,
//!     ubp::{analyze, Plan}, //
//! };
//!
//! // PUSH RBP.
//! let push = analyze(&[0x55], 0x1000, Mode::Bits64);
//! assert_eq!(push.length(), Some(1));
//! assert_eq!(push.plan(), Ok(Plan::Emulate));
//!
//! // SYSCALL.
//! let syscall = analyze(&[0x0f, 0x05], 0x1000, Mode::Bits64);
//! assert_eq!(syscall.length(), Some(2));
//! assert_eq!(syscall.plan().err().map(|refused| refused.errno()), Some(EPERM));
//! ```
//!
//! # Who holds what
//!
//! ```text
//!  Breakpoint<H> ---> Inner<H>: struct ubp_bkpt, H
//!                          ^
//!  UBP's own --------------'  (raw, until ubp_remove_bkpt() has returned)
//! ```
//!
//! C header: [`include/linux/ubp.h`](srctree/include/linux/ubp.h)

use crate::{
    error::{
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    prelude::*,
    ptregs::PtRegs,
    task::Task, //
};

mod analysis;
mod breakpoint;

pub use analysis::{
    analyze,
    Analysis,
    Plan,
    Refused, //
};
pub use breakpoint::Breakpoint;

/// What is left to do after [`Handler::hit_in_interrupt`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Then {
    /// Nothing: the thread may go on.
    Resume,
    /// [`Handler::hit`] is to be called for this hit.
    Task,
}

/// Who is called when a thread hits a breakpoint.
///
/// Both methods find the instruction pointer at the breakpoint, and may change the registers. If a
/// method moves the instruction pointer, the thread goes on there, and the displaced instruction is
/// not executed.
///
/// They are called for all threads that execute in the address space, several at a time. After
/// `vfork()` and `clone(CLONE_VM)` some of those may be another process's.
#[vtable]
pub trait Handler: Send + Sync + 'static {
    /// Called first, with interrupts disabled. Must neither sleep nor access memory that may fault.
    ///
    /// Without this method it is as if it returned [`Then::Task`].
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) -> Then {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called in the context of the thread, as a system call is: may sleep, and access user memory.
    fn hit(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Says whether there could be a breakpoint at an address of a process, or UBP has one there.
///
/// Context: may sleep; takes the mmap lock of the process.
///
/// # Errors
///
/// As of [`Breakpoint::insert`].
pub fn validate(task: &Task, at: usize) -> Result {
    // SAFETY: The task is valid.
    to_result(unsafe { crate::bindings::ubp_validate_insn_addr(task.as_ptr(), at) })
}

/// Says whether the caller has been called by a handler of a breakpoint.
pub fn in_handler() -> bool {
    // SAFETY: The current task is valid, and only it accesses its own state.
    unsafe { (*Task::current_raw()).ubp.in_hit }
}
