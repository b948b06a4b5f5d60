// SPDX-License-Identifier: GPL-2.0

//! Owners of engines.

use super::{
    examine::Stopped,
    ops::OPS,
    request::{
        Progress,
        Request, //
    },
    shared::EngineShared,
    Engine,
    Events, //
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
    task::Task, //
};

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// An engine on a thread, to control the thread with. Dropping it does not detach the engine.
///
/// # Invariants
///
/// `raw` was attached to `task` with [`OPS`], and this value owns a reference to it.
pub struct OnThread {
    task: ARef<Task>,
    raw: NonNull<bindings::utrace_engine>,
}

// SAFETY: Any thread may use an engine, and drop a reference to it.
unsafe impl Send for OnThread {}
// SAFETY: Several threads may use an engine at the same time.
unsafe impl Sync for OnThread {}

impl OnThread {
    fn attach(task: &Task, shared: &Arc<EngineShared>) -> Result<Self> {
        let data = EngineShared::into_data(shared.clone());
        // SAFETY: `task` is valid because it is a reference. `OPS` is a static, and the reference
        // that `data` is stays valid until `release()`.
        let engine = Self::new(task, unsafe {
            bindings::utrace_attach_task(
                task.as_ptr(),
                bindings::UTRACE_ATTACH_CREATE as c_int,
                &OPS,
                data,
            )
        });
        if engine.is_err() {
            // SAFETY: `data` is from `into_data`, and no engine was attached that could own it.
            drop(unsafe { EngineShared::from_data(data) });
        }
        engine
    }

    /// Finds the engine of a process on the thread `task`.
    fn find(task: &Task, shared: &Arc<EngineShared>) -> Result<Self> {
        let flags = bindings::UTRACE_ATTACH_MATCH_OPS | bindings::UTRACE_ATTACH_MATCH_DATA;
        // SAFETY: `task` is valid because it is a reference. Without `UTRACE_ATTACH_CREATE` no
        // engine is attached, and the data is only compared.
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
        // INVARIANT: `utrace_attach_task()` returns a reference to an engine with `OPS` on `task`.
        Ok(Self {
            task: task.into(),
            raw,
        })
    }

    pub(super) fn as_raw(&self) -> (*mut bindings::task_struct, *mut bindings::utrace_engine) {
        (self.task.as_ptr(), self.raw.as_ptr())
    }

    /// Returns the thread.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Requests an action for the thread. Neither waits for it nor sleeps.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the engine has been detached, or the thread is dead. `EINVAL` for a report or a
    /// step without [`Events::QUIESCE`] enabled. `EOPNOTSUPP` if the CPU cannot step.
    pub fn control(&self, request: Request) -> Result<Progress> {
        let (task, engine) = self.as_raw();
        // SAFETY: By the type invariants, `task` and `engine` are valid, with a reference held to
        // each.
        Progress::from_ret(unsafe { bindings::utrace_control(task, engine, request as u32) })
    }

    /// Changes the events that are enabled for the engine. Does not sleep.
    ///
    /// [`Progress::Underway`] means that a method is executing for an event that is not enabled any
    /// more; see [`OnThread::barrier`].
    ///
    /// # Errors
    ///
    /// `ESRCH` if the engine has been detached, or the thread is dead. `EALREADY` if the thread is
    /// dying, and it is too late for a change that concerns its death.
    pub fn set_events(&self, events: Events) -> Result<Progress> {
        let (task, engine) = self.as_raw();
        // SAFETY: By the type invariants, `task` and `engine` are valid, with a reference held to
        // each.
        Progress::from_ret(unsafe { bindings::utrace_set_events(task, engine, events.bits()) })
    }

    /// Waits for all methods of the engine that are executing when this is called. A method that
    /// calls this does not wait for itself.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the engine has been detached, and no method is executing. `ERESTARTSYS` if a
    /// signal is pending.
    pub fn barrier(&self) -> Result {
        let (task, engine) = self.as_raw();
        // SAFETY: By the type invariants, `task` and `engine` are valid, with a reference held to
        // each.
        to_result(unsafe { bindings::utrace_barrier(task, engine) })
    }

    /// Calls `look` with the thread, which this engine must have stopped.
    ///
    /// Context: may sleep, until the thread is off its CPU.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the engine has not stopped the thread. `EAGAIN` if the thread has continued in
    /// between, for example because it was killed: the result of `look` would be meaningless.
    /// `ESRCH` if the engine has been detached, or the thread is dead.
    pub fn examine<R>(&self, look: impl FnOnce(&mut Stopped<'_>) -> R) -> Result<R> {
        let (task, engine) = self.as_raw();
        let mut examiner = bindings::utrace_examiner::default();
        // SAFETY: By the type invariants, `task` and `engine` are valid, with a reference held to
        // each. `examiner` is a local variable.
        to_result(unsafe { bindings::utrace_prepare_examine(task, engine, &mut examiner) })?;
        let seen = look(&mut Stopped::new(self));
        // SAFETY: By the type invariants, `task` and `engine` are valid. `examiner` was initialized
        // by `utrace_prepare_examine()`.
        to_result(unsafe { bindings::utrace_finish_examine(task, engine, &mut examiner) })?;
        Ok(seen)
    }
}

impl Drop for OnThread {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, this value owns a reference to the engine, which it gives
        // back.
        unsafe { bindings::utrace_engine_put(self.raw.as_ptr()) };
    }
}

/// Owner of an engine that is attached to a thread.
///
/// Dropping it detaches the engine and waits. After the drop no method of the engine is executing
/// or will be called, on any thread, except one that the caller is in. Nor is there anything left
/// then that would execute code of the engine's module.
///
/// The drop may sleep, as long as a method of the engine does. A method of this engine may drop it.
/// Methods of two engines must not each drop the other engine's owner, because they would wait for
/// each other.
#[must_use = "dropping it detaches the engine"]
pub struct Attached<T: Engine> {
    on: OnThread,
    shared: Arc<EngineShared>,
    engine: Arc<T>,
}

/// Attaches an engine to a thread, and enables `T::EVENTS`. The engine misses an event that is
/// being reported at the moment.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EPERM` if the thread never goes to user mode. `ESRCH` if the thread exits. `ENOMEM` if there is
/// no memory.
///
/// # Examples
///
/// Dropping the owner detaches the engine, so the compiler warns about an unused owner:
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
/// The owner gives no access to registers, because the thread may be running. The engine's methods
/// do, and [`Stopped`]:
///
/// ```ignore,compile_fail,E0599
/// # use kernel::{prelude::*, utrace::{Attached, Engine}};
/// # fn jump<T: Engine>(attached: &Attached<T>) {
/// attached.regs().set_ip(0);
/// # }
/// ```
pub fn attach<T: Engine>(task: &Task, engine: Arc<T>) -> Result<Attached<T>> {
    let shared = EngineShared::new(engine.clone())?;
    let attached = Attached {
        on: OnThread::attach(task, &shared)?,
        shared,
        engine,
    };
    match attached.set_events(T::EVENTS) {
        Ok(_) => Ok(attached),
        // The thread has just begun to exit.
        Err(e) if e == EALREADY => Err(ESRCH),
        Err(e) => Err(e),
    }
}

impl<T: Engine> Attached<T> {
    /// Returns the engine.
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
        // SAFETY: By the type invariants of `OnThread`, `task` and `engine` are valid.
        unsafe { bindings::utrace_detach(task, engine) };
        // SAFETY: `shared` was closed, and `utrace_detach()` has waited for all callbacks, except
        // one that the caller is in.
        unsafe { self.shared.end() };
    }
}

/// Owner of an engine that is attached to all present and future threads of a process.
///
/// Dropping it detaches the engine, as for [`Attached`].
///
/// # Invariants
///
/// `raw` came from `utrace_attach_process()`, and only this value detaches it.
#[must_use = "dropping it detaches the engine"]
pub struct AttachedProcess<T: Engine> {
    raw: NonNull<bindings::utrace_process>,
    shared: Arc<EngineShared>,
    engine: Arc<T>,
}

// SAFETY: Any thread may detach from a process; the other fields are `Send`.
unsafe impl<T: Engine> Send for AttachedProcess<T> {}
// SAFETY: A shared reference gives no access that changes `raw`; the other fields are `Sync`.
unsafe impl<T: Engine> Sync for AttachedProcess<T> {}

/// Attaches an engine to all threads of the process of `task`, and to each thread that these
/// create, and enables `T::EVENTS`.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EPERM` for a kernel thread. `ESRCH` if every thread exits. `ENOMEM` if there is no memory.
pub fn attach_process<T: Engine>(task: &Task, engine: Arc<T>) -> Result<AttachedProcess<T>> {
    let shared = EngineShared::new(engine.clone())?;
    let raw = process(task, T::EVENTS, &shared)?;
    // INVARIANT: `raw` is from `utrace_attach_process()`, and this value is its only owner.
    Ok(AttachedProcess {
        raw,
        shared,
        engine,
    })
}

fn process(
    task: &Task,
    events: Events,
    shared: &Arc<EngineShared>,
) -> Result<NonNull<bindings::utrace_process>> {
    let data = EngineShared::into_data(shared.clone());
    // SAFETY: `task` is valid because it is a reference. `OPS` is a static, and the reference that
    // `data` is stays valid until `release()`.
    let process = from_err_ptr(unsafe {
        bindings::utrace_attach_process(task.as_ptr(), events.bits(), &OPS, data)
    });
    match process {
        Ok(process) => NonNull::new(process).ok_or(EINVAL),
        Err(error) => {
            // SAFETY: `data` is from `into_data`. Threads that already had an engine have been
            // detached from, and no callback is executing.
            drop(unsafe { EngineShared::from_data(data) });
            Err(error)
        }
    }
}

impl<T: Engine> AttachedProcess<T> {
    /// Returns the engine.
    pub fn engine(&self) -> &Arc<T> {
        &self.engine
    }

    /// Returns the engine on one thread, to control that thread.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the engine is not attached to that thread. `EPERM` if the thread never goes to
    /// user mode.
    pub fn on_thread(&self, task: &Task) -> Result<OnThread> {
        OnThread::find(task, &self.shared)
    }
}

impl<T: Engine> Drop for AttachedProcess<T> {
    fn drop(&mut self) {
        self.shared.close();
        // SAFETY: By the type invariants, `raw` is from `utrace_attach_process()` and not detached
        // yet.
        unsafe { bindings::utrace_detach_process(self.raw.as_ptr()) };
        // SAFETY: `shared` was closed, and `utrace_detach_process()` has waited for all callbacks,
        // except one that the caller is in.
        unsafe { self.shared.end() };
    }
}
