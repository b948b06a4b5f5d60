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

/// Evidence that the client is in use: an engine of it is in the list of a thread, or a callback is
/// executing.
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
/// `ESRCH`: every thread exits. `EPERM`: a kernel thread. `ENOMEM`.
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
    /// Walks over the threads until a walk finds all of them with an engine. Those had it when the
    /// walk began, as nothing but an earlier walk, and birth, gives it to them; so whoever is born
    /// from then on is born of one that has it.
    fn attach_to_threads(&self) -> Result {
        while self.walk()? == Found::Lacking {}
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
        // Threads that are born from here on take no engine, or give it back themselves.
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
        // Engines that a thread has given up itself, and those of threads that are being reaped.
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
    let called = state.called.as_ref();
    called.is_some_and(|called| called.following == Arc::as_ptr(following))
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

/// Gives `child` the engines that its creator, of which `parent` is, has for the process.
///
/// An engine that cannot be attached for want of memory is missing from the child; the events of
/// the other threads still reach it.
pub(crate) fn inherit(parent: &Thread, child: &Task) {
    let mut next = 0;
    while let Some((id, following)) = next_following(parent, next) {
        next = id.wrapping_add(1);
        if following.is_stopped() {
            continue;
        }
        if let Ok(engine) = Following::attach_to(&following, child) {
            if following.is_stopped() {
                // `Attachment::drop` may have passed the child already.
                control::detach(child, &engine);
            }
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
