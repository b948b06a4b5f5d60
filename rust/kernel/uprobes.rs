// SPDX-License-Identifier: GPL-2.0

//! uprobes: probes at addresses of a process.
//!
//! A [`Probe`] is at an address of one process, which alone notices it. It has a [`Handler`], which
//! is called by the threads of the process that are about to execute the instruction there, or that
//! return from the function that begins there. Any number of probes may be at one address: their
//! handlers are called in the order of their registration. When the owner of the last one drops it,
//! the text is restored.
//!
//! Probes end with the process and its text: by exec, exit, `munmap()` and the like. A process made
//! by `fork()` has none, unless they have been told to [follow](Spot::follow_fork).
//!
//! # Examples
//!
//! A probe that counts:
//!
//! ```
//! use kernel::{
//!     prelude::*,
//!     ptregs::PtRegs,
//!     sync::atomic::{Atomic, Relaxed},
//!     uprobes::{Handler, Probe, Spot}, //
//! };
//!
//! struct Counting(Atomic<i64>);
//!
//! #[vtable]
//! impl Handler for Counting {
//!     fn hit_in_interrupt(&self, _regs: &mut PtRegs) {
//!         self.0.fetch_add(1, Relaxed);
//!     }
//! }
//!
//! fn count(pid: i32, at: usize) -> Result<Probe<Counting>> {
//!     Probe::register(Spot::of_pid(pid, at), Counting(Atomic::new(0)))
//! }
//! # // There is no such process.
//! # assert_eq!(count(i32::MAX, 0x1000).err(), Some(ESRCH));
//! ```
//!
//! Every call of a function returns 0, by a closure:
//!
//! ```
//! use kernel::{
//!     prelude::*,
//!     task::Task,
//!     uprobes::{Probe, Spot}, //
//! };
//!
//! fn fail(task: &Task, function: usize) -> Result<Probe> {
//!     // Register 0 is AX.
//!     Probe::register_return_fn(Spot::of_task(task, function), |regs| regs.set_gpr(0, 0))
//! }
//! # // A thread of the kernel has no text in user space.
//! # assert_eq!(fail(current!(), 0x1000).err(), Some(EINVAL));
//! ```
//!
//! # Who holds what
//!
//! ```text
//!  Probe<H> ----> Inner<H>: struct uprobe, H
//!                    ^
//!  uprobes' own -----'  (raw, until unregister_uprobe() has returned;
//!                        in a handler: until `unregistered` has been called)
//! ```
//!
//! C header: [`include/linux/uprobes.h`](srctree/include/linux/uprobes.h)

use crate::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*,
    ptregs::PtRegs,
    task::Task, //
};

mod function;
mod probe;
mod spot;

pub use crate::ubp::in_handler;
pub use probe::{
    AnyHandler,
    Counts,
    Probe, //
};
pub use spot::Spot;

/// Who is called when a thread hits a probe.
///
/// The methods get the registers of the thread, and may change them. At a hit the instruction
/// pointer is that of the probed instruction; if a method moves it, the thread goes on there, and
/// the instruction is not executed; the handlers of other probes are still called.
///
/// They are called for all threads of the process, several at a time, and possibly before
/// [`Probe::register`] has returned. A method may drop probes, its own as well.
#[vtable]
pub trait Handler: Send + Sync + 'static {
    /// Called in the context of the thread, as a system call is: may sleep, and access user memory.
    fn hit(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called before that, with interrupts disabled. Must neither sleep nor access memory that may
    /// fault.
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the function that begins at the probe returns, in the context of the thread.
    ///
    /// The instruction pointer is at the instruction that returns; or, if it is not known how the
    /// function returns, which it is if its [size](Spot::size) is, where it has returned to.
    fn returned(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Says whether the probe is to fire for a thread, the current one. Asked before each of the
    /// others, also with interrupts disabled: must not sleep.
    ///
    /// Without this method the probe fires for each thread.
    fn fires_for(&self, _thread: &Task) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
