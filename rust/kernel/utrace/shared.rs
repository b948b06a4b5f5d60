// SPDX-License-Identifier: GPL-2.0

//! What an attachment's owner and the C API share.

use super::{
    action::Action,
    events::{
        Event,
        Events, //
    },
    exit::{
        Death,
        JobControl,
        WaitStatus, //
    },
    reap::{
        AtReap,
        Reaps, //
    },
    report::{
        CloneFlags,
        Exit,
        Image,
        Report,
        SyscallEntry,
        SyscallExit, //
    },
    signal::Occasion,
    Engine,
};

use crate::{
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        barrier,
        Arc, //
    },
    task::{
        CurrentTask,
        Task, //
    },
    uaccess::UserPtr,
};

use core::cell::UnsafeCell;

/// [`Engine`], for any engine alike.
pub(super) trait Callbacks: Send + Sync {
    fn wants_signals(&self) -> bool;
    fn quiesce(&self, report: &mut Report<'_>, before: Option<Event>) -> Action;
    fn signal(&self, report: &mut Report<'_>, occasion: Occasion<'_>) -> Action;
    fn clone(&self, report: &mut Report<'_>, flags: CloneFlags, child: &Task) -> Action;
    fn exec(&self, report: &mut Report<'_>, image: &Image<'_>) -> Action;
    fn exit(&self, report: &mut Report<'_>, exit: &mut Exit<'_>) -> Action;
    fn last_exit(&self, thread: &CurrentTask, status: WaitStatus);
    fn death(&self, thread: &CurrentTask, death: Death) -> AtReap;
    fn reaped(&self, thread: &Task);
    fn syscall_entry(&self, entry: &mut SyscallEntry<'_>) -> Action;
    fn syscall_exit(&self, exit: &mut SyscallExit<'_>) -> Action;
    fn jctl(&self, report: &mut Report<'_>, jctl: JobControl) -> Action;
    fn path(&self, thread: &CurrentTask, at: UserPtr, name: &CStr);
}

impl<T: Engine> Callbacks for T {
    fn wants_signals(&self) -> bool {
        T::EVENTS.intersect(Events::SIGNALS)
    }

    fn quiesce(&self, report: &mut Report<'_>, before: Option<Event>) -> Action {
        Engine::quiesce(self, report, before)
    }

    fn signal(&self, report: &mut Report<'_>, occasion: Occasion<'_>) -> Action {
        Engine::signal(self, report, occasion)
    }

    fn clone(&self, report: &mut Report<'_>, flags: CloneFlags, child: &Task) -> Action {
        Engine::clone(self, report, flags, child)
    }

    fn exec(&self, report: &mut Report<'_>, image: &Image<'_>) -> Action {
        Engine::exec(self, report, image)
    }

    fn exit(&self, report: &mut Report<'_>, exit: &mut Exit<'_>) -> Action {
        Engine::exit(self, report, exit)
    }

    fn last_exit(&self, thread: &CurrentTask, status: WaitStatus) {
        Engine::last_exit(self, thread, status)
    }

    fn death(&self, thread: &CurrentTask, death: Death) -> AtReap {
        Engine::death(self, thread, death)
    }

    fn reaped(&self, thread: &Task) {
        Engine::reaped(self, thread)
    }

    fn syscall_entry(&self, entry: &mut SyscallEntry<'_>) -> Action {
        Engine::syscall_entry(self, entry)
    }

    fn syscall_exit(&self, exit: &mut SyscallExit<'_>) -> Action {
        Engine::syscall_exit(self, exit)
    }

    fn jctl(&self, report: &mut Report<'_>, jctl: JobControl) -> Action {
        Engine::jctl(self, report, jctl)
    }

    fn path(&self, thread: &CurrentTask, at: UserPtr, name: &CStr) {
        Engine::path(self, thread, at, name)
    }
}

/// What an attachment's owner and the C API share: `utrace_engine::data`.
///
/// # Invariants
///
/// `callbacks` changes once, to nothing, in [`Shared::end`].
#[pin_data]
pub(super) struct Shared {
    /// The owner is being dropped: no method of the engine is to be called any more.
    over: Atomic<bool>,
    callbacks: UnsafeCell<Option<Arc<dyn Callbacks>>>,
    #[pin]
    pub(super) reaps: Reaps,
}

// SAFETY: `Callbacks` are `Send` and `Sync`, and so are `Reaps`; access to `callbacks` is ordered
// as argued in `Shared::callbacks` and `Shared::end`.
unsafe impl Send for Shared {}
// SAFETY: As above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(callbacks: Arc<dyn Callbacks>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                over: Atomic::new(false),
                callbacks: UnsafeCell::new(Some(callbacks)),
                reaps <- Reaps::new(),
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Has callbacks that begin from here on call no method of the engine.
    pub(super) fn close(&self) {
        self.over.store(true, Release);
        // What comes next asks which callbacks are executing.
        barrier::smp_mb(barrier::Full);
    }

    /// Gives up the engine. What is due when zombies go is not done any more. May sleep.
    ///
    /// # Safety
    ///
    /// Called once, after [`Shared::close`], and after waiting for the callbacks that were
    /// executing then; only the current thread may be within one.
    pub(super) unsafe fn end(&self) {
        self.reaps.cancel();
        // SAFETY: `Shared::callbacks` does not access it once it has seen that `over` is set. All
        // callbacks that had not seen it are over, by the requirement on the caller; or it is one
        // that the current thread is within, which has read it.
        let callbacks = unsafe { (*self.callbacks.get()).take() };
        drop(callbacks);
    }

    /// Returns the engine, to call its methods in a callback, unless it is over.
    ///
    /// # Safety
    ///
    /// Called in a callback, by the thread that executes it.
    pub(super) unsafe fn callbacks(&self) -> Option<Arc<dyn Callbacks>> {
        if self.is_over() {
            return None;
        }
        // SAFETY: `Shared::end` waits for this callback, as it has begun without `over` seen.
        unsafe { (*self.callbacks.get()).clone() }
    }

    /// Turns a reference into the data of an engine with [`OPS`](super::ops::OPS).
    pub(super) fn into_data(this: Arc<Self>) -> *mut c_void {
        Arc::into_raw(this).cast_mut().cast()
    }

    /// Takes the reference back from an engine that was not made.
    ///
    /// # Safety
    ///
    /// `data` is of [`Shared::into_data`], and nothing has taken it back before.
    pub(super) unsafe fn from_data(data: *mut c_void) -> Arc<Self> {
        // SAFETY: By the requirement on the caller.
        unsafe { Arc::from_raw(data.cast_const().cast::<Self>()) }
    }
}
