// SPDX-License-Identifier: GPL-2.0

//! State that an attachment's owner and the C API share.

use super::{
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
    signal::SignalEvent,
    Action,
    Engine,
    Event,
    Events, //
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
    uaccess::UserPtr, //
};

use core::cell::UnsafeCell;

/// [`Engine`] as a trait object.
pub(super) trait Callbacks: Send + Sync {
    fn has_signal_events(&self) -> bool;
    fn quiesce(&self, report: &mut Report<'_>, before: Option<Event>) -> Action;
    fn signal(&self, report: &mut Report<'_>, event: SignalEvent<'_>) -> Action;
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
    fn has_signal_events(&self) -> bool {
        T::EVENTS.intersect(Events::SIGNALS)
    }

    fn quiesce(&self, report: &mut Report<'_>, before: Option<Event>) -> Action {
        Engine::quiesce(self, report, before)
    }

    fn signal(&self, report: &mut Report<'_>, event: SignalEvent<'_>) -> Action {
        Engine::signal(self, report, event)
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

/// State that an attachment's owner and the C API share: `utrace_engine::data`.
///
/// # Invariants
///
/// `callbacks` changes only once, to `None`, in [`EngineShared::end`].
#[pin_data]
pub(super) struct EngineShared {
    /// Set when the owner is being dropped. No method of the engine may be called any more.
    over: Atomic<bool>,
    callbacks: UnsafeCell<Option<Arc<dyn Callbacks>>>,
    #[pin]
    pub(super) reaps: Reaps,
}

// SAFETY: `Callbacks` and `Reaps` are `Send` and `Sync`. The SAFETY comments in
// `EngineShared::callbacks` and `EngineShared::end` explain why accesses to `callbacks` do not
// race.
unsafe impl Send for EngineShared {}
// SAFETY: `Callbacks` and `Reaps` are `Sync`, and accesses to `callbacks` do not race.
unsafe impl Sync for EngineShared {}

impl EngineShared {
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

    /// Prevents callbacks that begin after this from calling a method of the engine.
    pub(super) fn close(&self) {
        self.over.store(true, Release);
        // Orders the store before the caller's check for executing callbacks.
        barrier::smp_mb(barrier::Full);
    }

    /// Drops the engine, and cancels the pending work at reap. May sleep.
    ///
    /// # Safety
    ///
    /// Must be called only once, after [`EngineShared::close`] and after waiting for the callbacks
    /// that were executing then. Only the current thread may be in a callback.
    pub(super) unsafe fn end(&self) {
        self.reaps.cancel();
        // SAFETY: `EngineShared::callbacks` does not access it when `over` is set. The caller has
        // waited for all callbacks that saw it unset, except one that the current thread may be in,
        // which has finished reading it.
        let callbacks = unsafe { (*self.callbacks.get()).take() };
        drop(callbacks);
    }

    /// Returns the engine, for a callback to call its methods, or `None` if it is closed.
    ///
    /// # Safety
    ///
    /// Must be called in a callback, by the thread that executes it.
    pub(super) unsafe fn callbacks(&self) -> Option<Arc<dyn Callbacks>> {
        if self.is_over() {
            return None;
        }
        // SAFETY: This callback has seen `over` unset, so the caller of `EngineShared::end` waits
        // for it first.
        unsafe { (*self.callbacks.get()).clone() }
    }

    /// Converts a reference to the data of an engine with [`OPS`](super::ops::OPS).
    pub(super) fn into_data(this: Arc<Self>) -> *mut c_void {
        Arc::into_raw(this).cast_mut().cast()
    }

    /// Takes the reference back from an engine that was not attached, or is released.
    ///
    /// # Safety
    ///
    /// `data` must be from [`EngineShared::into_data`], and must not have been taken back before.
    pub(super) unsafe fn from_data(data: *mut c_void) -> Arc<Self> {
        // SAFETY: The caller ensures that `data` is from `into_data` and owns the reference.
        unsafe { Arc::from_raw(data.cast_const().cast::<Self>()) }
    }
}
