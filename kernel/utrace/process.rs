// SPDX-License-Identifier: GPL-2.0

//! An engine on every thread of a process, and on those to come.
//!
//! Each thread has one of its own, all with the same callbacks and data. A thread gets it from the
//! thread that creates it. None is missed: see [`Attachment::attach_to_threads`].

use crate::{
    active::Active,
    control,
    engine::{
        Client,
        Engine,
        Owner, //
    },
    event::Events,
    thread::{
        self,
        How,
        Thread, //
    },
};

use kernel::{
    current, new_condvar, new_spinlock,
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
};

/// What the engines of a process share.
#[pin_data]
pub(crate) struct Following {
    client: Client,
    events: Events,
    /// A thread that is created takes its own from here, where locks may be held.
    pub(crate) active: Active,
    stopped: Atomic<bool>,
    #[pin]
    use_: SpinLock<Use>,
    /// Woken when [`Use::live`] falls.
    #[pin]
    fell: CondVar,
}

/// Whether the client, its callbacks and its data, is in use.
struct Use {
    /// How many [`Live`]s there are.
    live: usize,
    /// The client has been told that its data is not used any more, or it is for the last `Live`
    /// to tell it.
    over: bool,
}

// SAFETY: What the pointers of a `Client` lead to may be used by any thread.
unsafe impl Send for Following {}
// SAFETY: As above.
unsafe impl Sync for Following {}

/// Evidence that the client is in use: a thread has an engine of it, in its list or, until the end
/// of a callback, in [`Called::removed`](thread::Called).
///
/// # Invariants
///
/// It is counted.
pub(crate) struct Live(Arc<Following>);

impl Live {
    /// Returns nothing if the client is gone.
    pub(crate) fn new(following: &Arc<Following>) -> Option<Self> {
        let mut in_use = following.use_.lock();
        if in_use.over && in_use.live == 0 {
            return None;
        }
        in_use.live += 1;
        drop(in_use);
        // INVARIANT: Counted just now.
        Some(Self(following.clone()))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut in_use = self.0.use_.lock();
        // By the type invariants it is not zero.
        in_use.live = in_use.live.saturating_sub(1);
        let release = in_use.over && in_use.live == 0;
        self.0.fell.notify_all();
        drop(in_use);
        if release {
            self.0.client.release();
        }
    }
}

impl Following {
    /// From here on, no thread takes an engine by birth.
    fn stop(&self) {
        self.stopped.store(true, Relaxed);
        // Pairs with `is_stopped`: of "the flag is set, then the threads are walked" here, and "the
        // child has the engine, then the flag is read" there, one sees the other.
        smp_mb(Full);
    }

    fn is_stopped(&self) -> bool {
        smp_mb(Full);
        self.stopped.load(Relaxed)
    }

    /// Attaches an engine to one thread, if it has none of these yet.
    fn attach_to(following: &Arc<Self>, task: &Task) -> Result<Arc<Engine>> {
        let how = How {
            flags: kernel::bindings::UTRACE_ATTACH_CREATE,
            client: following.client,
            events: following.events,
        };
        thread::attach(task, how, Owner::Process(following.clone()))
    }
}

/// The engines of a process.
pub(crate) struct Attachment {
    group: Group,
    following: Arc<Following>,
}

/// Attaches an engine to every thread of the process that `task` is of, and to each that one of
/// them creates.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ESRCH`: every thread exits. `EPERM`: a kernel thread. `EINTR`: the caller has been killed.
/// `ENOMEM`.
pub(crate) fn attach(task: &Task, client: Client, events: Events) -> Result<Attachment> {
    if task.is_kernel_thread() {
        return Err(EPERM);
    }
    let attachment = Attachment {
        group: Group::of(task).ok_or(ESRCH)?,
        following: Arc::pin_init(
            pin_init!(Following {
                client,
                events,
                active: Active::new(),
                stopped: Atomic::new(false),
                use_ <- new_spinlock!(Use {
                    live: 0,
                    over: false,
                }),
                fell <- new_condvar!(),
            }),
            GFP_KERNEL,
        )?,
    };
    match attachment.attach_to_threads() {
        Ok(()) => Ok(attachment),
        Err(error) => {
            attachment.end();
            Err(error)
        }
    }
}

/// What a walk over the threads of a process has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// All have an engine.
    Complete,
    /// Some had none before.
    Lacking,
}

impl Attachment {
    /// Walks over the threads until a walk finds all of them with an engine. They had it when the
    /// walk began, because only an earlier walk, and birth, gives it to them. So each thread that
    /// is born from then on is born of one that has it.
    ///
    /// The number of walks has no bound, since a process may create and end threads faster than a
    /// walk reaches them. The caller can be killed between two walks.
    fn attach_to_threads(&self) -> Result {
        while self.walk()? == Found::Lacking {
            if Task::is_current_killed() {
                return Err(EINTR);
            }
        }
        Ok(())
    }

    /// Attaches an engine to each thread that there is now.
    fn walk(&self) -> Result<Found> {
        let mut found = None;
        // Those that exit create nothing any more.
        for thread in threads_of(&self.group, |thread| {
            !thread.is_exiting() && !thread.is_worker()
        })? {
            match Following::attach_to(&self.following, &thread) {
                Ok(_) => found = Some(Found::Lacking),
                Err(e) if e == EEXIST => found = found.or(Some(Found::Complete)),
                // It exits now, but may have created a thread since the list was made.
                Err(e) if e == ESRCH => found = Some(Found::Lacking),
                Err(e) => return Err(e),
            }
        }
        found.ok_or(ESRCH)
    }

    /// Detaches all engines. When it returns, no callback is executing, nor will be, unless the
    /// caller is one.
    fn end(&self) {
        self.following.stop();
        // Threads that are born from here on get no engine, or `complete_inheritance` detaches it.
        let threads = loop {
            match threads_of(&self.group, |_| true) {
                Ok(threads) => break threads,
                // The list is a few kilobytes at most; memory for it comes back.
                Err(_) => fsleep(Delta::from_millis(1)),
            }
        };
        for task in threads {
            while let Some(engine) = engine_of(&task, &self.following) {
                control::detach(&task, &engine);
            }
        }
        // This waits for engines that threads have detached themselves, for those of threads that
        // are being reaped or created, and for callbacks of either. The engine of the caller's
        // own callback stays until that returns.
        let own = usize::from(is_called_by_current(&self.following));
        let mut in_use = self.following.use_.lock();
        while in_use.live > own {
            self.following.fell.wait(&mut in_use);
        }
    }

    /// Detaches all engines, and lets the client have its data back. From within a callback, that
    /// comes when it returns.
    pub(crate) fn detach(self) {
        self.end();
        let mut in_use = self.following.use_.lock();
        in_use.over = true;
        let release = in_use.live == 0;
        drop(in_use);
        if release {
            self.following.client.release();
        }
    }
}

/// Whether the caller is a callback of one of the engines.
fn is_called_by_current(following: &Arc<Following>) -> bool {
    let task = current!();
    let Some(thread) = thread::get(task) else {
        return false;
    };
    let state = thread.state.lock();
    state.is_in_callback_of(following)
}

/// The engine that a thread has of a process's.
fn engine_of(task: &Task, following: &Arc<Following>) -> Option<Arc<Engine>> {
    let thread = thread::get(task)?;
    let state = thread.state.lock();
    state
        .engines
        .iter()
        .find(|entry| is_of(&entry.engine, following))
        .map(|entry| entry.engine.clone())
}

pub(crate) fn is_of(engine: &Engine, following: &Arc<Following>) -> bool {
    engine
        .following()
        .is_some_and(|own| Arc::ptr_eq(own, following))
}

/// Gives `child` the engines of its process that `parent`, its creator, has and that it lacks.
///
/// # Errors
///
/// `ENOMEM`: it may lack some of them.
pub(crate) fn inherit(parent: &Thread, child: &Task) -> Result {
    if child.is_worker() {
        return Ok(());
    }
    let mut next = 0;
    while let Some((id, following)) = next_following(parent, next) {
        next = id.wrapping_add(1);
        if following.is_stopped() || engine_of(child, &following).is_some() {
            continue;
        }
        match Following::attach_to(&following, child) {
            Err(e) if e == ENOMEM => return Err(e),
            // Otherwise an error says that the attachment is over.
            Ok(_) | Err(_) => (),
        }
    }
    Ok(())
}

/// Completes what [`inherit`] has done to `child` before other threads could find it.
///
/// An attachment may have begun since: its walks gave an engine to `parent`, and did not find the
/// child. One may have ended since, which did not find the child either. From here on walks find
/// it.
pub(crate) fn complete_inheritance(parent: &Thread, child: &Task) {
    // It is too late to fail. The memory is a few hundred bytes, for an attachment that began
    // during the clone.
    while inherit(parent, child).is_err() {
        fsleep(Delta::from_millis(1));
    }
    let Some(thread) = thread::get(child) else {
        return;
    };
    let mut next = 0;
    while let Some((id, following)) = next_following(thread, next) {
        next = id.wrapping_add(1);
        if !following.is_stopped() {
            continue;
        }
        if let Some(engine) = engine_of(child, &following) {
            control::detach(child, &engine);
        }
    }
}

fn next_following(parent: &Thread, next: u64) -> Option<(u64, Arc<Following>)> {
    let state = parent.state.lock();
    let engine = &state
        .engines
        .iter()
        .find(|entry| entry.engine.id() >= next && entry.engine.following().is_some())?
        .engine;
    Some((engine.id(), engine.following()?.clone()))
}

/// Returns references to the threads that a process has now, those that are `wanted`.
fn threads_of(group: &Group, wanted: impl Fn(&Task) -> bool) -> Result<KVec<ARef<Task>>> {
    let mut list = KVec::new();
    loop {
        let mut missing = 0;
        threads::tasklist().for_each_thread(group, |thread| {
            if !wanted(thread) {
                return;
            }
            // No allocation under the lock.
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
