// SPDX-License-Identifier: GPL-2.0

//! UBP: breakpoints in the text of a process.
//!
//! A [`Breakpoint`] is at an address of one process, and only this process sees it. Threads that
//! are about to execute the instruction at the address call its [`Handler`]. The instruction is
//! then emulated, or executed from a copy in a slot, as [`Plan`] describes. Dropping the breakpoint
//! restores the text.
//!
//! A breakpoint goes with its text, for example on exec, exit or `munmap()`. A process made by
//! `fork()` has no breakpoints.
//!
//! An address can have only one breakpoint, and this module does not check permissions. Uprobes
//! support several consumers at an address and check permissions.
//!
//! # Examples
//!
//! A breakpoint that counts its hits:
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
//! # // A kernel thread has no text in user space.
//! # assert_eq!(count(current!(), 0x1000).err(), Some(ESRCH));
//! ```
//!
//! The analysis of an instruction:
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
//! # Ownership
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

pub use crate::insn::Plan;
pub use analysis::{
    analyze,
    Analysis,
    Refused, //
};
pub use breakpoint::Breakpoint;

/// The action that remains after [`Handler::hit_in_interrupt`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Then {
    /// Nothing remains, and the thread may resume.
    Resume,
    /// [`Handler::hit`] must be called for this hit.
    Task,
}

/// The handler of a breakpoint, which a thread calls when it hits the breakpoint.
///
/// When a method is called, the instruction pointer is at the breakpoint. The method may change the
/// registers. If it changes the instruction pointer, the thread resumes there, and the displaced
/// instruction is not executed.
///
/// All threads that execute in the address space call the methods, and several threads may call
/// them at a time. After `vfork()` and `clone(CLONE_VM)`, some of these threads may belong to
/// another process.
#[vtable]
pub trait Handler: Send + Sync + 'static {
    /// Called first, with interrupts disabled. Must neither sleep nor access memory that may fault.
    ///
    /// A handler without this method behaves as if the method returned [`Then::Task`].
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) -> Then {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called in the context of the thread, as in a system call: may sleep and access user memory.
    fn hit(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Checks whether a breakpoint could be inserted at an address of a process. A breakpoint of UBP at
/// the address is not an error.
///
/// Context: may sleep; takes the mmap lock of the process.
///
/// # Errors
///
/// As for [`Breakpoint::insert`].
pub fn validate(task: &Task, at: usize) -> Result {
    // SAFETY: `task` is valid for the duration of the call because it is borrowed.
    to_result(unsafe { crate::bindings::ubp_validate_insn_addr(task.as_ptr(), at) })
}

/// Returns whether the caller has been called by a handler of a breakpoint.
pub fn in_handler() -> bool {
    // SAFETY: The current task is valid, and only the current thread accesses its `ubp` state.
    unsafe { (*Task::current_raw()).ubp.in_hit }
}
