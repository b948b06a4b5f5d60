// SPDX-License-Identifier: GPL-2.0

//! utrace: engines on threads.
//!
//! An [`Engine`] is an in-kernel user's interest in threads: a type with a method for each event.
//! [`attach`] attaches an engine to one thread, [`attach_process`] to every present and future
//! thread of a process. Both return an owner of the attachment. Dropping the owner detaches the
//! engine, and no method of the engine is called afterwards.
//!
//! The concept, the events, their order and the actions are from Roland McGrath's utrace of 2009.
//! Its rules for callbacks are types here:
//!
//! - A thread's registers are accessible only through a [`Report`], or in [`OnThread::examine`]
//!   while the engine keeps the thread stopped.
//! - The work done when a zombie is reaped must not sleep. It is an [`AtReap`], which contains no
//!   code of the engine.
//! - An attachment that is not kept ends at once, and the compiler warns about it.
//! - An engine that does not decide about a signal or a system call leaves the decision of the
//!   engines before it in place.
//!
//! # Examples
//!
//! An engine that counts the programs that a process executes:
//!
//! ```
//! use kernel::{
//!     prelude::*,
//!     sync::{
//!         atomic::{Atomic, Relaxed},
//!         Arc, //
//!     },
//!     task::Task,
//!     utrace::{
//!         attach_process, Action, AttachedProcess, Engine, Events, Image, Report, //
//!     },
//! };
//!
//! struct Counting(Atomic<i64>);
//!
//! impl Engine for Counting {
//!     const EVENTS: Events = Events::EXEC;
//!
//!     fn exec(&self, _report: &mut Report<'_>, _image: &Image<'_>) -> Action {
//!         self.0.fetch_add(1, Relaxed);
//!         Action::Resume
//!     }
//! }
//!
//! fn count(task: &Task) -> Result<AttachedProcess<Counting>> {
//!     let engine = Arc::new(Counting(Atomic::new(0)), GFP_KERNEL)?;
//!     attach_process(task, engine)
//! }
//! # // Kernel threads accept no engines.
//! # assert_eq!(count(current!()).err(), Some(EPERM));
//! ```
//!
//! # Ownership
//!
//! ```text
//!  Attached, AttachedProcess ---> Arc<T: Engine> <------.
//!      |        |                                       | until the owner goes
//!      |        `--------> EngineShared ----------------'
//!      v                     ^
//!  C: struct utrace_engine --'  (data)
//! ```
//!
//! # Locks
//!
//! Methods of an engine are called without locks. The only lock inside is a spinlock for the
//! pending work at reap, in which no other lock nests.
//!
//! C header: [`include/linux/utrace.h`](srctree/include/linux/utrace.h)

use crate::{
    str::CStr,
    task::{
        CurrentTask,
        Task, //
    },
    uaccess::UserPtr, //
};

mod examine;
mod exit;
mod handle;
mod ops;
mod reap;
mod report;
mod request;
mod shared;
mod signal;
mod tests;

pub use crate::utrace_types::{
    Action,
    Disposition,
    Event,
    Events, //
};
#[cfg(CONFIG_X86_64)]
pub use examine::Registers;
pub use examine::Stopped;
pub use exit::{
    Death,
    DeathNotify,
    JobControl,
    JobControlChange,
    WaitStatus, //
};
pub use handle::{
    attach,
    attach_process,
    Attached,
    AttachedProcess,
    OnThread, //
};
pub use reap::AtReap;
pub use report::{
    CloneFlags,
    Exit,
    Image,
    Report,
    Syscall,
    SyscallEntry,
    SyscallExit, //
};
pub use request::{
    Progress,
    Request, //
};
pub use signal::{
    NoSignal,
    Signal,
    SignalEvent, //
};

/// An in-kernel user's interest in threads.
///
/// Each method is an event, and is called if the event is enabled for the engine. The returned
/// [`Action`] decides how the thread continues. Except for [`Engine::reaped`], the thread of the
/// event calls the method itself, with no lock held. A method may sleep, but only for a short time,
/// because the thread waits for it, and so does `SIGKILL`. It may attach, control and detach
/// engines, itself included; an engine that is attached during an event misses that event.
///
/// Engines are called in the order in which they were attached, [`Engine::syscall_entry`] in the
/// reverse order.
///
/// All threads of a process share the same engine object.
#[allow(unused_variables)]
pub trait Engine: Send + Sync + 'static {
    /// The events that are enabled when the engine is attached.
    const EVENTS: Events;

    /// An event is about to be reported. If `before` is `None`, the thread is about to return to
    /// user mode after a report was requested.
    ///
    /// If [`Engine::EVENTS`] contain a signal and the thread reports from the signal code,
    /// [`Engine::signal`] is called instead, with [`SignalEvent::Report`] or [`SignalEvent::Step`].
    fn quiesce(&self, report: &mut Report<'_>, before: Option<Event>) -> Action {
        Action::Resume
    }

    /// The thread has taken a signal other than `SIGKILL` from the queue.
    ///
    /// [`Action::Interrupt`] and [`Action::Report`] have the effect of [`Action::Resume`] here.
    fn signal(&self, report: &mut Report<'_>, event: SignalEvent<'_>) -> Action {
        Action::Resume
    }

    /// The thread has created `child`, which has not run yet. Engines may be attached to it.
    fn clone(&self, report: &mut Report<'_>, flags: CloneFlags, child: &Task) -> Action {
        Action::Resume
    }

    /// The process has a new image and this is its only thread. The old image is gone.
    fn exec(&self, report: &mut Report<'_>, image: &Image<'_>) -> Action {
        Action::Resume
    }

    /// The thread begins to exit; it still has its memory and files. [`Action::Stop`] takes effect
    /// at once, unless the thread was killed.
    fn exit(&self, report: &mut Report<'_>, exit: &mut Exit<'_>) -> Action {
        Action::Resume
    }

    /// The last thread of the process exits. It still has its memory and files, but they cannot be
    /// reached through its PID any more.
    fn last_exit(&self, thread: &CurrentTask, status: WaitStatus) {}

    /// The thread is dead: a zombie, if there is a parent to wait for it. Returns the work to do
    /// when the zombie is gone, for which no code of the engine is called; see [`AtReap`].
    fn death(&self, thread: &CurrentTask, death: Death) -> AtReap {
        AtReap::Nothing
    }

    /// The zombie of `thread` is gone, and the engine returned [`AtReap::Report`] from
    /// [`Engine::death`]. A worker calls this some time later. It may sleep.
    fn reaped(&self, thread: &Task) {}

    /// The thread is about to execute a system call. [`Action::Stop`] takes effect at once; when
    /// the thread continues, the engines are called again.
    fn syscall_entry(&self, entry: &mut SyscallEntry<'_>) -> Action {
        Action::Resume
    }

    /// The thread returns from a system call.
    fn syscall_exit(&self, exit: &mut SyscallExit<'_>) -> Action {
        Action::Resume
    }

    /// Job control has stopped or continued the process.
    fn jctl(&self, report: &mut Report<'_>, jctl: JobControl) -> Action {
        Action::Resume
    }

    /// The kernel has copied the file name `name` from `at` in a system call. Must not sleep for
    /// long.
    fn path(&self, thread: &CurrentTask, at: UserPtr, name: &CStr) {}
}
