// SPDX-License-Identifier: GPL-2.0

//! utrace: engines on threads, and quiesced processes.
//!
//! An engine is an in-kernel user's interest in a thread: callbacks, and data for them. It is
//! attached to one thread, or to all present and future threads of a process. Its callbacks are
//! called for events: from clone to reap, signals, system calls, job control, and quiesce, which is
//! reported on the thread's way to user mode after a report was requested. The owner of an engine
//! can stop, step, examine and resume the thread. [`quiesce_mm`] keeps every thread that uses an
//! address space out of user mode as long as the returned [`Quiesced`] lives; functions that need
//! this take one as an argument.
//!
//! The C API is `include/linux/utrace.h`. The Rust API is `kernel::utrace`, which is built on the C
//! API so that modules can use it too. This crate only offers what the layers above need besides.
//!
//! # Data model
//!
//! - `task_struct::utrace` points to the [`thread::Thread`] of a task that has, or had, an engine.
//!   It is set once. The task owns a reference, as does each engine.
//! - `task_struct::utrace_flags` is the union of the events of all engines of a task, for the call
//!   sites. It is written under the lock of the thread.
//! - A `Thread` contains the list of its engines, in the order in which they were attached. An
//!   [`engine::Engine`] is the `struct utrace_engine` of C code, followed by private fields. The
//!   list holds a reference to it, and so may its owner.
//! - A [`process::ProcessEngines`] has an engine on each thread of a process. It owns nothing in
//!   the threads: new threads copy the engine from the thread that creates them.
//! - A [`quiesce::Quiescence`] is an address space with its users kept out of user mode. All
//!   current quiescences are in one list; there are few of them, for a short time.
//!
//! # Locks
//!
//! - `Thread::state`, a spinlock: the list of engines, and the rest of the thread's state. No
//!   callback is called, and no engine is dropped, with it held.
//! - `siglock`, of the rest of the kernel: `task_struct::jobctl`. Nests inside `Thread::state`.
//! - `tasklist_lock`: the walk over the threads of a process for [`process::ProcessEngines`], and
//!   the creation of threads. The list of quiescences nests inside.
//! - The list of quiescences, a spinlock with interrupts disabled: innermost.
//! - `cpu_hotplug_lock`, of the rest of the kernel: switching the call sites on. `mmap_lock` nests
//!   inside, so an [`Active`] must be made before `mmap_lock` is taken.
//!
//! The thread of an event calls the callbacks, holding no lock; only `report_reap()` may be called
//! by another thread. Callbacks may sleep, and may attach, control and detach engines, themselves
//! included. `utrace_control()`, `utrace_set_events()` and the functions for registers do not
//! sleep. The functions that attach, wait, or detach for certain do.
//!
//! # Costs
//!
//! While no engine is attached and no quiescence exists, in the whole system, each call site is a
//! NOP (a static branch), except for stores when a task is created, and loads and branches when one
//! exits, is reaped and is freed. System calls have a bit in a word that they test anyway, and so
//! has `get_signal()`. While other threads have engines, each call site outside of system calls
//! costs a thread without engines a load and a branch more. Of these, `clone()`, exit and a return
//! to user mode with `TIF_NOTIFY_RESUME` set are a call each, and `clone()` and exit contain a
//! barrier. Only while a quiescence exists, `clone()` and such a return take a lock that all
//! processes share.
//!
//! Adding a quiescence takes time in proportion to the threads of the process, and to the CPUs. If
//! other processes use the address space too, it takes time in proportion to all threads of the
//! system, with only RCU held.

mod attach;
mod c_api;
mod control;
mod engine;
mod examine;
mod hooks;
mod jobctl;
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

pub use hooks::{
    Active,
    UtraceCallSites, //
};
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
