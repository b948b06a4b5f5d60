// SPDX-License-Identifier: GPL-2.0

//! utrace: engines on threads, and every thread of a process stopped.
//!
//! An [`Engine`] is an in-kernel user's interest in a thread. It is attached to one thread, or
//! with [`attach_process`] to all of a process's, those to come included, and is told of events:
//! clone, exec, exit, and quiesce, which is the thread on its way to user mode after it was asked
//! to report. [`quiesce`] keeps every thread that shares a process's memory out of user mode for
//! as long as the returned [`Quiesced`] lives; functions that need this take one as an argument.
//!
//! # Data model
//!
//! - `task_struct::utrace` points to the [`thread::Thread`] of a task that has, or had, an engine.
//!   It is set once, and freed with the task.
//! - A `Thread` holds the list of its engines, in the order in which they were attached.
//! - A [`process::Attachment`] is an engine on all threads of a process. It owns nothing in the
//!   threads: new ones copy from the thread that creates them.
//! - A [`quiesce::Gate`] is a process whose threads are kept out of user mode. The gates that are
//!   raised at the moment are in one list; there are few, for a short time.
//!
//! # Locks
//!
//! - `Thread::state`, a mutex: the list of engines. Nothing but allocation is done under it; it
//!   is not held while an engine is called.
//! - `tasklist_lock`: walks over threads, and their birth. The list of gates nests inside.
//! - The list of gates, a spinlock with interrupts disabled: innermost.
//!
//! An engine is called in the context of the thread that the event is of, holding no lock. It may
//! sleep, and attach and detach engines, itself included.
//!
//! # Costs
//!
//! While no engine is attached and no gate is raised, in the whole system, each call site is a
//! NOP (a static branch, in `include/linux/utrace.h`); but for a store when a task is created, and
//! a load and a branch when it is freed.

mod active;
#[cfg(CONFIG_UPROBES_TEST)]
mod counting;
mod engine;
mod entry;
mod process;
mod quiesce;
mod thread;

pub use engine::{
    Action,
    Engine,
    Exit, //
};
pub use process::{
    attach_process,
    Attachment, //
};
pub use quiesce::{
    quiesce,
    quiesce_mm,
    Quiesced, //
};
pub use thread::{
    attach,
    detach,
    request_quiesce, //
};
