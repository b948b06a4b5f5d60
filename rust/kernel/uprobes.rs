// SPDX-License-Identifier: GPL-2.0

//! uprobes: probes at addresses of a process.
//!
//! A [`Probe`] is at an address of one process and affects no other process. Threads of the process
//! call its [`Handler`] when they are about to execute the instruction there, or return from the
//! function that begins there. Any number of probes may be at one address: their handlers are
//! called in the order of their registration. When the owner of the last one drops it, the text is
//! restored.
//!
//! Probes end with the process and its text: by exec, exit, `munmap()` and the like. A process
//! created by `fork()` has none, except for probes that [follow](Target::follow_fork).
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
//!     uprobes::{Handler, Probe, Target}, //
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
//!     Probe::register(Target::from_pid(pid, at), Counting(Atomic::new(0)))
//! }
//! # // There is no such process.
//! # assert_eq!(count(i32::MAX, 0x1000).err(), Some(ESRCH));
//! ```
//!
//! A closure that makes every call of a function return 0:
//!
//! ```
//! use kernel::{
//!     prelude::*,
//!     task::Task,
//!     uprobes::{Probe, Target}, //
//! };
//!
//! fn fail(task: &Task, function: usize) -> Result<Probe> {
//!     // Register 0 is AX.
//!     Probe::register_return_fn(Target::from_task(task, function), |regs| regs.set_gpr(0, 0))
//! }
//! # // A thread of the kernel has no text in user space.
//! # assert_eq!(fail(current!(), 0x1000).err(), Some(EINVAL));
//! ```
//!
//! # References
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

mod detection;
mod function;
mod probe;
mod target;

pub use crate::ubp::in_handler;
pub use detection::Detection;
pub use probe::{
    AnyHandler,
    Probe,
    ProbeCounts, //
};
pub use target::Target;

/// Handler of a probe.
///
/// The methods get the registers of the thread, and may change them. At a hit the instruction
/// pointer is the address of the probed instruction. If a method changes it, the thread continues
/// at the new address and the instruction is not executed; the handlers of other probes are still
/// called.
///
/// The methods are called for all threads of the process, concurrently, and possibly before
/// [`Probe::register`] has returned. A method may drop probes, including its own.
#[vtable]
pub trait Handler: Send + Sync + 'static {
    /// Called at a hit in the context of the thread, as a system call is: may sleep and access user
    /// memory.
    fn hit(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called at a hit before [`Handler::hit`], with interrupts disabled. Must neither sleep nor
    /// access memory that may fault.
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when the function that begins at the probe returns, in the context of the thread.
    ///
    /// The registers are as after the return: the instruction pointer is the return address, and
    /// the stack pointer is above the return address and the arguments that the function pops.
    fn returned(&self, _regs: &mut PtRegs) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns whether the probe fires for a thread, which is the current one. Called before each
    /// of the other methods, also with interrupts disabled: must not sleep.
    ///
    /// Without this method the probe fires for each thread.
    fn fires_for(&self, _thread: &Task) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
