// SPDX-License-Identifier: GPL-2.0

//! utrace: engines on threads, and every thread of a process stopped.
//!
//! An engine is an in-kernel user's interest in a thread: callbacks, and data for them. It is
//! attached to one thread, or to all of a process's, those to come included, and is told of events:
//! from clone to reap, signals, system calls, job control, and quiesce, which is the thread on its
//! way to user mode after it was asked to report. Through it a thread is stopped, stepped, looked
//! at, and let go on. [`quiesce_mm`] keeps every thread that uses an address space out of user
//! mode for as long as the returned [`Quiesced`] lives; functions that need this take one as an
//! argument.
//!
//! C's interface is `include/linux/utrace.h`. Rust's is `kernel::utrace`, built on C's, so that it
//! is there for modules too; this crate itself only offers what the layers above need besides.
//!
//! # Data model
//!
//! - `task_struct::utrace` points to the [`thread::Thread`] of a task that has, or had, an engine.
//!   It is set once. The task owns a reference, as does each engine.
//! - `task_struct::utrace_flags` is what the engines of a task together want to be told of, for the
//!   call sites. It is written under the lock of the thread.
//! - A `Thread` holds the list of its engines, in the order in which they were attached. An
//!   [`engine::Engine`] is the `struct utrace_engine` that C knows, with what is ours behind it.
//!   Its references are the list's, and those that its owner has.
//! - A [`process::Attachment`] is an engine on each thread of a process. It owns nothing in the
//!   threads: new ones copy from the thread that creates them.
//! - A [`quiesce::Gate`] is a process whose threads are kept out of user mode. The gates that are
//!   raised at the moment are in one list; there are few, for a short time.
//!
//! # Locks
//!
//! - `Thread::state`, a spinlock: the list of engines, and all else that is known of the thread. No
//!   callback is called, and no engine dropped, with it held.
//! - `siglock`, of the rest of the kernel: `task_struct::jobctl`. Nests inside `Thread::state`.
//! - `tasklist_lock`: the walk over the threads of a process for [`process::Attachment`], and the
//!   birth of threads. The list of gates nests inside.
//! - The list of gates, a spinlock with interrupts disabled: innermost.
//! - `cpu_hotplug_lock`, of the rest of the kernel: switching the call sites on. `mmap_lock` nests
//!   inside, so an [`Active`] is made before `mmap_lock` is taken.
//!
//! Callbacks are called in the context of the thread that the event is of, holding no lock; only
//! `report_reap()` may be called by another one. They may sleep, and attach, control and detach
//! engines, themselves included. `utrace_control()`, `utrace_set_events()` and what concerns
//! registers do not sleep; what attaches, detaches for certain or waits does.
//!
//! # Costs
//!
//! While no engine is attached and no gate is raised, in the whole system, each call site is a
//! NOP (a static branch), but for stores when a task is created, and loads and branches when one
//! exits, is reaped and is freed. System calls have a bit in a word that is looked at anyway, and
//! so has `get_signal()`. In a thread without engines, while others have some, a call site that is
//! not on the way of a system call costs a load and a branch more. Of these, `clone()`, exit and a
//! return to user mode with `TIF_NOTIFY_RESUME` set are a call each, and `clone()` and exit have a
//! barrier in it. Only while a gate is raised, `clone()` and such a return take a lock that all
//! processes share.
//!
//! Raising a gate takes time in proportion to the threads of the process, and to the CPUs. If other
//! processes use the address space too, it does so in proportion to all threads of the system, with
//! nothing but RCU held for that.

mod active;
mod api;
mod control;
mod engine;
mod entry;
mod event;
mod examine;
mod lifecycle;
mod process;
mod quiesce;
mod report;
mod resume;
mod signal;
mod step;
mod stop;
mod syscall;
mod thread;
mod users;

pub use active::Active;
pub use quiesce::{
    quiesce,
    quiesce_mm,
    Quiesced, //
};
pub use step::{
    hold_steps,
    release_steps,
    step_trap, //
};
pub use users::Users;
