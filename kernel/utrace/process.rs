// SPDX-License-Identifier: GPL-2.0

//! Engines on every present and future thread of a process.
//!
//! Each thread has its own engine, all with the same callbacks and data. A new thread gets its
//! engine from the thread that creates it. [`ProcessEngines::attach_to_threads`] explains why no
//! thread is missed.

use crate::{
    attach::{
        self,
        AttachRequest, //
    },
    control,
    engine::{
        Engine,
        EngineSpec, //
    },
    hooks::Active,
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    current,
    new_condvar,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        barrier::{
            smp_mb,
            Full, //
        },
        Arc,
        CondVar,
        SpinLock, //
    },
    task::Task,
    threads::{
        self,
        Group, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    utrace_types::Events, //
};

/// The engines of a process, and the state that they share.
#[pin_data]
pub(crate) struct ProcessEngines {
    group: Group,
    spec: EngineSpec,
    events: Events,
    /// The source of a new thread's [`Active`], which is cloned where locks may be held.
    pub(crate) active: Active,
    stopped: Atomic<bool>,
    #[pin]
    use_: SpinLock<UseCount>,
    /// Notified when [`UseCount::live`] falls.
    #[pin]
    fell: CondVar,
}

/// The uses of the callbacks and of the data.
struct UseCount {
    /// The number of [`UseGuard`]s.
    live: usize,
    /// The data has been released, or the last `UseGuard` is to release it.
    over: bool,
}

// SAFETY: By the invariants of `EngineSpec`, any thread may use its callbacks and data.
unsafe impl Send for ProcessEngines {}
// SAFETY: By the invariants of `EngineSpec`, any thread may use its callbacks and data.
unsafe impl Sync for ProcessEngines {}

/// A use of the data: a thread has an engine of it, in its list or, until the end of a callback,
/// in [`Called::removed`](thread::Called).
///
/// # Invariants
///
/// The value is counted in [`UseCount::live`].
pub(crate) struct UseGuard(Arc<ProcessEngines>);

impl UseGuard {
    /// Returns `None` if the data has been released.
    pub(crate) fn new(shared: &Arc<ProcessEngines>) -> Option<Self> {
        let mut in_use = shared.use_.lock();
        if in_use.over && in_use.live == 0 {
            return None;
        }
        in_use.live += 1;
        drop(in_use);
        // INVARIANT: `live` was incremented above.
        Some(Self(shared.clone()))
    }
}

impl Drop for UseGuard {
    fn drop(&mut self) {
        let mut in_use = self.0.use_.lock();
        // By the type invariants, this does not underflow.
        in_use.live = in_use.live.saturating_sub(1);
        let release = in_use.over && in_use.live == 0;
        self.0.fell.notify_all();
        drop(in_use);
        if release {
            self.0.spec.release();
        }
    }
}

impl ProcessEngines {
    /// Stops inheritance: threads created after this get no engine from their creator.
    fn stop(&self) {
        self.stopped.store(true, Relaxed);
        // Pairs with `is_stopped`. This sets the flag, and the caller then walks the threads.
        // There, the child gets the engine, and then the flag is read. At least one of the two sees
        // the other.
        smp_mb(Full);
    }

    fn is_stopped(&self) -> bool {
        smp_mb(Full);
        self.stopped.load(Relaxed)
    }

    /// Attaches an engine to one thread. Fails with `EEXIST` if it has one of these already.
    fn attach_to(self: &Arc<Self>, task: &Task) -> Result<Arc<Engine>> {
        let request = AttachRequest {
            flags: kernel::bindings::UTRACE_ATTACH_CREATE,
            spec: self.spec,
            events: self.events,
        };
        attach::attach(task, request, Some(self.clone()))
    }
}

/// Attaches an engine to every thread of the process of `task`, and to each thread that these
/// create.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ESRCH` if every thread exits. `EPERM` for a kernel thread. `EINTR` if the caller has been
/// killed. `ENOMEM` if there is no memory.
pub(crate) fn attach(task: &Task, spec: EngineSpec, events: Events) -> Result<Arc<ProcessEngines>> {
    if task.is_kernel_thread() {
        return Err(EPERM);
    }
    let process = Arc::pin_init(
        try_pin_init!(ProcessEngines {
            group: Group::from_task(task).ok_or(ESRCH)?,
            spec,
            events,
            active: Active::new(),
            stopped: Atomic::new(false),
            use_ <- new_spinlock!(UseCount {
                live: 0,
                over: false,
            }),
            fell <- new_condvar!(),
        }? Error),
        GFP_KERNEL,
    )?;
    match process.attach_to_threads() {
        Ok(()) => Ok(process),
        Err(error) => {
            process.end();
            Err(error)
        }
    }
}

/// The result of a walk over the threads of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WalkResult {
    /// All threads had an engine already.
    Complete,
    /// Some threads had none before.
    Lacking,
}

impl ProcessEngines {
    /// Walks over the threads until a walk finds an engine on all of them. These threads had it
    /// when the walk began, because only an earlier walk or their creator can have attached it. So
    /// every thread that is created after that has a creator with an engine, and inherits one.
    ///
    /// The number of walks is not bounded, because a process may create and end threads faster than
    /// a walk reaches them. The caller can be killed between two walks.
    fn attach_to_threads(self: &Arc<Self>) -> Result {
        while self.walk()? == WalkResult::Lacking {
            if Task::is_current_killed() {
                return Err(EINTR);
            }
        }
        Ok(())
    }

    /// Attaches an engine to each current thread.
    fn walk(self: &Arc<Self>) -> Result<WalkResult> {
        let mut found = None;
        // Exiting threads create no threads any more.
        for thread in threads_of(&self.group, |thread| {
            !thread.is_exiting() && !thread.is_worker()
        })? {
            match self.attach_to(&thread) {
                Ok(_) => found = Some(WalkResult::Lacking),
                Err(e) if e == EEXIST => found = found.or(Some(WalkResult::Complete)),
                // The thread exits now, but may have created a thread since the list was made.
                Err(e) if e == ESRCH => found = Some(WalkResult::Lacking),
                Err(e) => return Err(e),
            }
        }
        found.ok_or(ESRCH)
    }

    /// Detaches all engines. When this returns, no callback is executing or will be, except one
    /// that the caller is in.
    fn end(self: &Arc<Self>) {
        self.stop();
        // Threads that are created after this get no engine, or `complete_inheritance` detaches it.
        let threads = loop {
            match threads_of(&self.group, |_| true) {
                Ok(threads) => break threads,
                // The list takes a few kilobytes at most, so memory for it will become available.
                Err(_) => fsleep(Delta::from_millis(1)),
            }
        };
        for task in threads {
            while let Some(engine) = engine_of(&task, self) {
                control::detach(&task, &engine);
            }
        }
        // This waits for engines that threads have detached themselves, for engines of threads that
        // are being reaped or created, and for the callbacks of both. If the caller is in a
        // callback, the engine of that callback stays until the callback returns.
        let own = usize::from(is_called_by_current(self));
        let mut in_use = self.use_.lock();
        while in_use.live > own {
            self.fell.wait(&mut in_use);
        }
    }

    /// Detaches all engines, and releases the data. If the caller is in a callback, the
    /// data is released when that callback returns.
    pub(crate) fn detach(self: Arc<Self>) {
        self.end();
        let mut in_use = self.use_.lock();
        in_use.over = true;
        let release = in_use.live == 0;
        drop(in_use);
        if release {
            self.spec.release();
        }
    }
}

/// Returns whether the caller is in a callback of one of the engines.
fn is_called_by_current(shared: &Arc<ProcessEngines>) -> bool {
    let task = current!();
    let Some(thread) = thread::get(task) else {
        return false;
    };
    let state = thread.state.lock();
    state.is_in_callback_of(shared)
}

/// Returns the engine of an attachment on a thread.
fn engine_of(task: &Task, shared: &Arc<ProcessEngines>) -> Option<Arc<Engine>> {
    let thread = thread::get(task)?;
    let state = thread.state.lock();
    state
        .engines
        .iter()
        .find(|entry| is_of(&entry.engine, shared))
        .map(|entry| entry.engine.clone())
}

pub(crate) fn is_of(engine: &Engine, shared: &Arc<ProcessEngines>) -> bool {
    engine
        .process_engines()
        .is_some_and(|own| Arc::ptr_eq(own, shared))
}

/// Attaches the process's engines that `parent`, the creator of `child`, has and `child` lacks.
///
/// # Errors
///
/// `ENOMEM` if `child` may lack some of them.
pub(crate) fn inherit(parent: &Thread, child: &Task) -> Result {
    if child.is_worker() {
        return Ok(());
    }
    let mut next = 0;
    while let Some((id, shared)) = next_shared(parent, next) {
        next = id.wrapping_add(1);
        if shared.is_stopped() || engine_of(child, &shared).is_some() {
            continue;
        }
        match shared.attach_to(child) {
            Err(e) if e == ENOMEM => return Err(e),
            // Any other error means that the attachment is over.
            Ok(_) | Err(_) => (),
        }
    }
    Ok(())
}

/// Completes [`inherit`], which was called before other threads could find `child`.
///
/// Since then, an attachment may have begun: its walks attached an engine to `parent` but did not
/// find the child. Another may have ended, which did not find the child either. From now on walks
/// find it.
pub(crate) fn complete_inheritance(parent: &Thread, child: &Task) {
    // The clone cannot fail any more. The memory is a few hundred bytes, for an attachment that
    // began during the clone.
    while inherit(parent, child).is_err() {
        fsleep(Delta::from_millis(1));
    }
    let Some(thread) = thread::get(child) else {
        return;
    };
    let mut next = 0;
    while let Some((id, shared)) = next_shared(thread, next) {
        next = id.wrapping_add(1);
        if !shared.is_stopped() {
            continue;
        }
        if let Some(engine) = engine_of(child, &shared) {
            control::detach(child, &engine);
        }
    }
}

fn next_shared(parent: &Thread, next: u64) -> Option<(u64, Arc<ProcessEngines>)> {
    let state = parent.state.lock();
    let engine = &state
        .engines
        .iter()
        .find(|entry| entry.engine.id() >= next && entry.engine.process_engines().is_some())?
        .engine;
    Some((engine.id(), engine.process_engines()?.clone()))
}

/// Returns references to the current threads of a process for which `wanted` returns true.
fn threads_of(group: &Group, wanted: impl Fn(&Task) -> bool) -> Result<KVec<ARef<Task>>> {
    let mut list = KVec::new();
    loop {
        let mut missing = 0;
        threads::tasklist().for_each_thread(group, |thread| {
            if !wanted(thread) {
                return;
            }
            // No allocation is possible under the lock.
            if list.push_within_capacity(ARef::from(thread)).is_err() {
                missing += 1;
            }
        });
        if missing == 0 {
            return Ok(list);
        }
        let wanted = list.len() + missing + 8;
        list.clear();
        list.reserve(wanted, GFP_KERNEL)?;
    }
}
