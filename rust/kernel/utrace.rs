// SPDX-License-Identifier: GPL-2.0

//! utrace: engines on threads.
//!
//! An [`Engine`] is an in-kernel user's interest in threads: a type with a method for each event.
//! [`attach`] puts one on a thread, [`attach_process`] on every thread of a process and on those to
//! come. What they return owns the attachment: when it is dropped, the engine is detached, and
//! nothing of it is called any more.
//!
//! The idea, the events, their order and the actions are those of Roland McGrath's utrace of 2009,
//! whose rules for callbacks are types here:
//!
//! - The registers of a thread can be touched while it is in a [`Report`], or in
//!   [`OnThread::examine`], which is while this engine keeps it stopped. There is no other way.
//! - What is done when a zombie goes must not sleep. It is an [`AtReap`], which has no code of the
//!   engine's.
//! - An attachment that is not kept ends at once, and the compiler says so.
//! - What an engine does not decide stays as the engines before it have left it.
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
//! # // A thread of the kernel has no engines.
//! # assert_eq!(count(current!()).err(), Some(EPERM));
//! ```
//!
//! # Who holds what
//!
//! ```text
//!  Attached, AttachedProcess ---> Arc<T: Engine> <------.
//!      |        |                                       | until the owner goes
//!      |        `--------> Shared ----------------------'
//!      v                     ^
//!  C: struct utrace_engine --'  (data)
//! ```
//!
//! # Locks
//!
//! Methods of an engine are called without locks. Inside is one, a spinlock for what is due when
//! zombies go, in which nothing else nests.
//!
//! C header: [`include/linux/utrace.h`](srctree/include/linux/utrace.h)

use crate::{
    str::CStr,
    task::{
        CurrentTask,
        Task, //
    },
    uaccess::UserPtr,
};

mod action;
mod events;
mod examine;
mod exit;
mod handle;
mod ops;
mod reap;
mod report;
mod shared;
mod signal;
mod tests;

pub use action::{
    Action,
    Progress,
    Request, //
};
pub use events::{
    Event,
    Events, //
};
#[cfg(CONFIG_X86_64)]
pub use examine::Registers;
pub use examine::Stopped;
pub use exit::{
    Change,
    Death,
    JobControl,
    Mourner,
    WaitStatus, //
};
pub use handle::{
    attach,
    attach_process,
    attach_process_for,
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
pub use signal::{
    Disposition,
    NoSignal,
    Occasion,
    Signal, //
};

/// The interest of an in-kernel user in threads.
///
/// Each method is an event, and is called if that is among those that the engine is told of; what
/// it returns is to become of the thread. Except for [`Engine::reaped`] it is called in the thread
/// that the event is of, with no lock held. It may sleep, for a short time: the thread waits for
/// it, and so does `SIGKILL`. It may attach, control and detach engines, itself included; one that
/// is attached meanwhile misses the event.
///
/// Engines are called in the order in which they were attached, [`Engine::syscall_entry`] in the
/// reverse.
///
/// The engine of a process is the same object for all of its threads.
#[allow(unused_variables)]
pub trait Engine: Send + Sync + 'static {
    /// What the engine is told of when it is attached.
    const EVENTS: Events;

    /// Something is about to be reported, or, with `before` being nothing, the thread is about to
    /// return to user mode after it was to report.
    ///
    /// An engine whose [`Engine::EVENTS`] have a signal is told by [`Engine::signal`], as
    /// [`Occasion::Report`] or [`Occasion::Step`], if the report is made where signals are handled.
    fn quiesce(&self, report: &mut Report<'_>, before: Option<Event>) -> Action {
        Action::Resume
    }

    /// A signal, other than `SIGKILL`, was taken from the queue.
    ///
    /// [`Action::Interrupt`] and [`Action::Report`] are no different from [`Action::Resume`] here.
    fn signal(&self, report: &mut Report<'_>, occasion: Occasion<'_>) -> Action {
        Action::Resume
    }

    /// The thread has created `child`, which has not run. Engines can be attached to it.
    fn clone(&self, report: &mut Report<'_>, flags: CloneFlags, child: &Task) -> Action {
        Action::Resume
    }

    /// The process has a new image; nothing of the old one is left. This is its only thread.
    fn exec(&self, report: &mut Report<'_>, image: &Image<'_>) -> Action {
        Action::Resume
    }

    /// The thread begins to exit; its memory and files are there. [`Action::Stop`] takes effect at
    /// once, unless the thread was killed.
    fn exit(&self, report: &mut Report<'_>, exit: &mut Exit<'_>) -> Action {
        Action::Resume
    }

    /// The last thread of the process exits. Its memory and files are there, but cannot be reached
    /// by its number any more.
    fn last_exit(&self, thread: &CurrentTask, status: WaitStatus) {}

    /// The thread is dead: a zombie, if there is a parent to wait for it. Says what is to be done
    /// when the zombie is gone, for which nothing of the engine's is called; see [`AtReap`].
    fn death(&self, thread: &CurrentTask, death: Death) -> AtReap {
        AtReap::Nothing
    }

    /// The zombie of `thread` is gone, as [`AtReap::Report`] asked to be told. Called by a worker,
    /// some time later. It may sleep.
    fn reaped(&self, thread: &Task) {}

    /// The thread is about to execute a system call. [`Action::Stop`] takes effect at once;
    /// afterwards the engines are called again.
    fn syscall_entry(&self, entry: &mut SyscallEntry<'_>) -> Action {
        Action::Resume
    }

    /// The thread returns from a system call.
    fn syscall_exit(&self, exit: &mut SyscallExit<'_>) -> Action {
        Action::Resume
    }

    /// Job control has stopped the process, or has it go on.
    fn jctl(&self, report: &mut Report<'_>, jctl: JobControl) -> Action {
        Action::Resume
    }

    /// In a system call the kernel has copied the file name `name` from `at`. Must not sleep for
    /// long.
    fn path(&self, thread: &CurrentTask, at: UserPtr, name: &CStr) {}
}
