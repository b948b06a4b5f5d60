// SPDX-License-Identifier: GPL-2.0

//! Owners of engines.

use super::{
    action::{
        Progress,
        Request, //
    },
    events::Events,
    examine::Stopped,
    ops::OPS,
    shared::Shared,
    Engine,
};

use crate::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    task::Task,
};

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// An engine on a thread, to be controlled. Dropping it does not detach the engine.
///
/// # Invariants
///
/// `raw` was attached to `task`, with [`OPS`], and a reference to it is owned.
pub struct OnThread {
    task: ARef<Task>,
    raw: NonNull<bindings::utrace_engine>,
}

// SAFETY: A reference to an engine may be used, and dropped, by any thread.
unsafe impl Send for OnThread {}
// SAFETY: As above.
unsafe impl Sync for OnThread {}

impl OnThread {
    fn attach(task: &Task, shared: &Arc<Shared>) -> Result<Self> {
        let data = Shared::into_data(shared.clone());
        // SAFETY: The task is valid; the callbacks are there forever, and the data until they are
        // told to release it.
        let engine = Self::new(task, unsafe {
            bindings::utrace_attach_task(
                task.as_ptr(),
                bindings::UTRACE_ATTACH_CREATE as c_int,
                &OPS,
                data,
            )
        });
        if engine.is_err() {
            // SAFETY: It is of `into_data`. There is no engine that it could be the data of.
            drop(unsafe { Shared::from_data(data) });
        }
        engine
    }

    /// Finds an engine that was attached to a process.
    fn find(task: &Task, shared: &Arc<Shared>) -> Result<Self> {
        let flags = bindings::UTRACE_ATTACH_MATCH_OPS | bindings::UTRACE_ATTACH_MATCH_DATA;
        // SAFETY: The task is valid. No engine is made: the data is compared only.
        Self::new(task, unsafe {
            bindings::utrace_attach_task(
                task.as_ptr(),
                flags as c_int,
                &OPS,
                Arc::as_ptr(shared).cast_mut().cast(),
            )
        })
    }

    fn new(task: &Task, raw: *mut bindings::utrace_engine) -> Result<Self> {
        let raw = NonNull::new(from_err_ptr(raw)?).ok_or(EINVAL)?;
        // INVARIANT: `utrace_attach_task()` returns a reference, to an engine as it was asked for.
        Ok(Self {
            task: task.into(),
            raw,
        })
    }

    pub(super) fn as_raw(&self) -> (*mut bindings::task_struct, *mut bindings::utrace_engine) {
        (self.task.as_ptr(), self.raw.as_ptr())
    }

    /// The thread.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Has something become of the thread. Does not wait for it, nor sleep.
    ///
    /// # Errors
    ///
    /// `ESRCH`: the engine has been detached, or the thread is dead. `EINVAL`: a report, or a step,
    /// for an engine that is not told of [`Events::QUIESCE`]. `EOPNOTSUPP`: the CPU cannot step.
    pub fn control(&self, request: Request) -> Result<Progress> {
        let (task, engine) = self.as_raw();
        // SAFETY: By the type invariants both are valid.
        Progress::from_ret(unsafe { bindings::utrace_control(task, engine, request as u32) })
    }

    /// Changes what the engine is told of. Does not sleep.
    ///
    /// With [`Progress::Underway`] a method is executing for an event that is not among them any
    /// more; see [`OnThread::barrier`].
    ///
    /// # Errors
    ///
    /// `ESRCH`: the engine has been detached, or the thread is dead. `EALREADY`: the thread is
    /// dying, and it is too late for a change that concerns its death.
    pub fn set_events(&self, events: Events) -> Result<Progress> {
        let (task, engine) = self.as_raw();
        // SAFETY: By the type invariants both are valid.
        Progress::from_ret(unsafe { bindings::utrace_set_events(task, engine, events.bits()) })
    }

    /// Waits until no method of the engine is executing that was when this was called. Within a
    /// method, it does not wait for that.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `ESRCH`: the engine has been detached, and no method is executing. `ERESTARTSYS`: there is a
    /// signal.
    pub fn barrier(&self) -> Result {
        let (task, engine) = self.as_raw();
        // SAFETY: By the type invariants both are valid.
        to_result(unsafe { bindings::utrace_barrier(task, engine) })
    }

    /// Calls `look` with the thread, which this engine has stopped.
    ///
    /// Context: may sleep, until the thread is off its CPU.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the engine has not stopped the thread. `EAGAIN`: the thread has gone on meanwhile,
    /// killed perhaps: what `look` has seen means nothing. `ESRCH`: the engine has been detached,
    /// or the thread is dead.
    pub fn examine<R>(&self, look: impl FnOnce(&mut Stopped<'_>) -> R) -> Result<R> {
        let (task, engine) = self.as_raw();
        let mut examiner = bindings::utrace_examiner::default();
        // SAFETY: By the type invariants both are valid, as is the examiner.
        to_result(unsafe { bindings::utrace_prepare_examine(task, engine, &mut examiner) })?;
        let seen = look(&mut Stopped::new(self));
        // SAFETY: As above.
        to_result(unsafe { bindings::utrace_finish_examine(task, engine, &mut examiner) })?;
        Ok(seen)
    }
}

impl Drop for OnThread {
    fn drop(&mut self) {
        // SAFETY: By the type invariants a reference is owned.
        unsafe { bindings::utrace_engine_put(self.raw.as_ptr()) };
    }
}

/// An engine that is attached to a thread, and its owner.
///
/// Dropping this detaches the engine, and waits: after the drop no method of it is executing or
/// will be called, on whatever thread, but one that the caller is within. Nor is there anything
/// left then that would execute code of the engine's module.
///
/// The drop may sleep, for as long as a method of the engine does. It may happen in a method of
/// this engine. Methods of two engines must not each drop the other's owner: they would wait for
/// each other.
#[must_use = "dropping it detaches the engine"]
pub struct Attached<T: Engine> {
    on: OnThread,
    shared: Arc<Shared>,
    engine: Arc<T>,
}

/// Attaches an engine to a thread. It is told of `T::EVENTS`, but not of one that is being reported
/// at the moment.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EPERM`: the thread never goes to user mode. `ESRCH`: the thread exits. `ENOMEM`.
///
/// # Examples
///
/// An engine is detached when its owner goes, so the owner cannot be overlooked:
///
/// ```ignore,compile_fail,unused_must_use
/// # #![deny(unused_must_use)]
/// # use kernel::{prelude::*, sync::Arc, task::Task, utrace::{self, Engine}};
/// # fn watch<T: Engine>(task: &Task, engine: Arc<T>) -> Result {
/// utrace::attach(task, engine)?;
/// # Ok(())
/// # }
/// ```
///
/// It has no registers to give, as the thread is running for all that is known. They are in what
/// an engine's method is given, and in [`Stopped`]:
///
/// ```ignore,compile_fail,E0599
/// # use kernel::{prelude::*, utrace::{Attached, Engine}};
/// # fn jump<T: Engine>(attached: &Attached<T>) {
/// attached.regs().set_ip(0);
/// # }
/// ```
pub fn attach<T: Engine>(task: &Task, engine: Arc<T>) -> Result<Attached<T>> {
    let shared = Shared::new(engine.clone())?;
    let attached = Attached {
        on: OnThread::attach(task, &shared)?,
        shared,
        engine,
    };
    match attached.set_events(T::EVENTS) {
        Ok(_) => Ok(attached),
        // It begins to exit this moment.
        Err(e) if e == EALREADY => Err(ESRCH),
        Err(e) => Err(e),
    }
}

impl<T: Engine> Attached<T> {
    /// The engine.
    pub fn engine(&self) -> &Arc<T> {
        &self.engine
    }
}

impl<T: Engine> Deref for Attached<T> {
    type Target = OnThread;

    fn deref(&self) -> &Self::Target {
        &self.on
    }
}

impl<T: Engine> Drop for Attached<T> {
    fn drop(&mut self) {
        self.shared.close();
        let (task, engine) = self.on.as_raw();
        // SAFETY: By the type invariants of `OnThread` both are valid.
        unsafe { bindings::utrace_detach(task, engine) };
        // SAFETY: It was closed, and `utrace_detach()` waits for callbacks, but not for one that it
        // is called by.
        unsafe { self.shared.end() };
    }
}

/// An engine that is attached to all threads of a process, those to come included, and its owner.
///
/// Dropping this detaches the engine, as it is with [`Attached`].
///
/// # Invariants
///
/// `raw` came from `utrace_attach_process()`, and is this one's to detach.
#[must_use = "dropping it detaches the engine"]
pub struct AttachedProcess<T: Engine> {
    raw: NonNull<bindings::utrace_process>,
    shared: Arc<Shared>,
    engine: Arc<T>,
}

// SAFETY: A process may be detached from by any thread; the rest is `Send` and `Sync`.
unsafe impl<T: Engine> Send for AttachedProcess<T> {}
// SAFETY: As above; there is nothing that a shared reference could change.
unsafe impl<T: Engine> Sync for AttachedProcess<T> {}

/// Attaches an engine to all threads of the process that `task` is of, and to each that one of them
/// creates. It is told of `T::EVENTS`.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EPERM`: a kernel thread. `ESRCH`: every thread exits. `ENOMEM`.
pub fn attach_process<T: Engine>(task: &Task, engine: Arc<T>) -> Result<AttachedProcess<T>> {
    attach_process_for(task, T::EVENTS, engine)
}

/// The same as [`attach_process`], but the engine is told of other events.
pub fn attach_process_for<T: Engine>(
    task: &Task,
    events: Events,
    engine: Arc<T>,
) -> Result<AttachedProcess<T>> {
    let shared = Shared::new(engine.clone())?;
    let raw = process(task, events, &shared)?;
    // INVARIANT: Nobody else has it.
    Ok(AttachedProcess {
        raw,
        shared,
        engine,
    })
}

fn process(
    task: &Task,
    events: Events,
    shared: &Arc<Shared>,
) -> Result<NonNull<bindings::utrace_process>> {
    let data = Shared::into_data(shared.clone());
    // SAFETY: The task is valid; the callbacks are there forever, and the data until they are told
    // to release it.
    let process = from_err_ptr(unsafe {
        bindings::utrace_attach_process(task.as_ptr(), events.bits(), &OPS, data)
    });
    match process {
        Ok(process) => NonNull::new(process).ok_or(EINVAL),
        Err(error) => {
            // SAFETY: It is of `into_data`. Those threads that had an engine already have been
            // detached from, and no callback is executing.
            drop(unsafe { Shared::from_data(data) });
            Err(error)
        }
    }
}

impl<T: Engine> AttachedProcess<T> {
    /// The engine.
    pub fn engine(&self) -> &Arc<T> {
        &self.engine
    }

    /// Returns the engine as it is on one thread, to control it there.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT`: it is not attached to that thread. `EPERM`: the thread never goes to user mode.
    pub fn on_thread(&self, task: &Task) -> Result<OnThread> {
        OnThread::find(task, &self.shared)
    }
}

impl<T: Engine> Drop for AttachedProcess<T> {
    fn drop(&mut self) {
        self.shared.close();
        // SAFETY: By the type invariants.
        unsafe { bindings::utrace_detach_process(self.raw.as_ptr()) };
        // SAFETY: It was closed, and `utrace_detach_process()` waits for callbacks, but not for one
        // that it is called by.
        unsafe { self.shared.end() };
    }
}
