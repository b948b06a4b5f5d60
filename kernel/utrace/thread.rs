// SPDX-License-Identifier: GPL-2.0

//! The engines of one thread, and how events reach them.
//!
//! # The life of an engine on a thread
//!
//! ```text
//!            attach()                    event                    method returns
//! (nothing) ----------> attached/idle ----------> attached/called ---------------> attached/idle
//!                            |                        |      | Action::Detach
//!                            | detach()               |      v
//!                            v                        |   (nothing)
//!                        (nothing)                    | detach() by another task
//!                                                     v
//!                                        detached/called --- method returns ---> (nothing)
//!                                        detach() waits here
//! ```
//!
//! A thread that exits has no engines afterwards, and takes no new ones.

use crate::{
    active::activate,
    engine::{
        Action,
        Engine, //
    },
};

use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    static_key::Enabled,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        barrier::smp_mb,
        Arc,
        CondVar,
        Mutex, //
    },
    task::Task,
};

use core::ptr;

/// One engine on one thread.
struct Attached {
    /// Ascends in the order of attachment, and is never reused on a thread.
    id: u64,
    engine: Arc<dyn Engine>,
    /// A new thread gets the engine too; the flag says whether it is still to.
    follow: Option<Arc<Following>>,
    /// The thread is to report when it returns to user mode.
    quiesce: bool,
}

/// Whether an engine that follows into new threads still does.
pub(crate) struct Following {
    stopped: Atomic<bool>,
    _active: Enabled,
}

impl Following {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                stopped: Atomic::new(false),
                _active: activate(),
            },
            GFP_KERNEL,
        )?)
    }

    /// From here on, no thread takes the engine by birth.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        // Pairs with `is_stopped`: of "the flag is set, then the threads are walked" here, and "the
        // child has the engine, then the flag is read" there, one sees the other.
        smp_mb(Full);
    }

    fn is_stopped(&self) -> bool {
        smp_mb(Full);
        self.stopped.load(Relaxed)
    }
}

struct State {
    engines: KVec<Attached>,
    next_id: u64,
    /// The engine whose method is being called.
    called: Option<u64>,
    exited: bool,
}

/// What utrace knows of a thread.
#[pin_data]
pub(crate) struct Thread {
    #[pin]
    state: Mutex<State>,
    #[pin]
    idle: CondVar,
}

/// `task_struct::utrace`.
///
/// # Invariants
///
/// The pointer that it holds is null, or of an `Arc<Thread>` that it owns until [`free`].
fn slot(task: &Task) -> &Atomic<*mut c_void> {
    // SAFETY: The field is written by atomic operations only, once the task can be found; it
    // lives as long as the task.
    unsafe { Atomic::from_ptr((&raw mut (*task.as_ptr()).utrace).cast()) }
}

/// Returns what utrace knows of `task`, if it had an engine ever.
fn get(task: &Task) -> Option<&Thread> {
    let thread = slot(task).load(Acquire).cast::<Thread>();
    // SAFETY: By the invariants of `slot` it is a valid `Thread`, that lives as long as the task.
    unsafe { thread.as_ref() }
}

fn get_or_create(task: &Task) -> Result<&Thread> {
    if let Some(thread) = get(task) {
        return Ok(thread);
    }
    let new = Arc::pin_init(
        pin_init!(Thread {
            state <- new_mutex!(State {
                engines: KVec::new(),
                next_id: 0,
                called: None,
                exited: false,
            }),
            idle <- new_condvar!(),
        }),
        GFP_KERNEL,
    )?;
    let raw = Arc::into_raw(new).cast_mut().cast::<c_void>();
    if slot(task).cmpxchg(ptr::null_mut(), raw, Full).is_err() {
        // SAFETY: Of `into_raw` above, and it was not stored.
        drop(unsafe { Arc::from_raw(raw.cast::<Thread>()) });
    }
    get(task).ok_or(ESRCH)
}

/// Frees what utrace knows of a task.
///
/// # Safety
///
/// No other reference to `task` exists.
pub(crate) unsafe fn free(task: &Task) {
    let raw = slot(task).xchg(ptr::null_mut(), Full).cast::<Thread>();
    if !raw.is_null() {
        // SAFETY: By the invariants of `slot` this is its `Arc`.
        drop(unsafe { Arc::from_raw(raw) });
    }
}

/// Attaches an engine to one thread.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EEXIST`: it is attached already. `EPERM`: the thread never goes to user mode. `ESRCH`: the
/// thread exits. `ENOMEM`.
pub fn attach(task: &Task, engine: Arc<dyn Engine>) -> Result {
    let follow = Following::new()?;
    follow.stop();
    attach_following(task, engine, follow)
}

pub(crate) fn attach_following(
    task: &Task,
    engine: Arc<dyn Engine>,
    follow: Arc<Following>,
) -> Result {
    if task.is_worker() {
        return Err(EPERM);
    }
    let thread = get_or_create(task)?;
    let mut state = thread.state.lock();
    // `entry::exit` looks for a `Thread` after PF_EXITING was set, with a barrier in between, as
    // there is one here (the exchange in `get_or_create`): either it finds this one, or the flag
    // is seen here.
    if state.exited || task.is_exiting() {
        return Err(ESRCH);
    }
    if state
        .engines
        .iter()
        .any(|at| Arc::ptr_eq(&at.engine, &engine))
    {
        return Err(EEXIST);
    }
    let id = state.next_id;
    state.engines.push(
        Attached {
            id,
            engine,
            follow: Some(follow),
            quiesce: false,
        },
        GFP_KERNEL,
    )?;
    state.next_id = id.wrapping_add(1);
    Ok(())
}

/// Detaches an engine from one thread. When it returns, no method is called for that thread, nor
/// will be, unless the caller is within one.
///
/// Context: may sleep. Returns whether the engine was attached.
pub fn detach(task: &Task, engine: &Arc<dyn Engine>) -> bool {
    let Some(thread) = get(task) else {
        return false;
    };
    let mut state = thread.state.lock();
    let found = state
        .engines
        .iter()
        .position(|at| Arc::ptr_eq(&at.engine, engine));
    let Some(found) = found else {
        return false;
    };
    let Ok(gone) = state.engines.remove(found) else {
        return false;
    };
    if !ptr::eq(task.as_ptr(), Task::current_raw()) {
        while state.called == Some(gone.id) {
            thread.idle.wait(&mut state);
        }
    }
    drop(state);
    true
}

/// Has the thread call [`Engine::quiesce`] when it next returns to user mode. Does not wake it.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ESRCH`: the engine is not attached.
pub fn request_quiesce(task: &Task, engine: &Arc<dyn Engine>) -> Result {
    let thread = get(task).ok_or(ESRCH)?;
    let mut state = thread.state.lock();
    let at = state
        .engines
        .iter_mut()
        .find(|at| Arc::ptr_eq(&at.engine, engine))
        .ok_or(ESRCH)?;
    at.quiesce = true;
    drop(state);
    task.notify_resume();
    Ok(())
}

/// Which engines of a thread an event is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    All,
    /// Those that asked for a report before the return to user mode.
    Quiescing,
}

/// Calls `event` with each engine of the current thread that is in the audience, in the order of
/// attachment.
pub(crate) fn report(task: &Task, audience: Audience, event: impl Fn(&dyn Engine) -> Action) {
    let Some(thread) = get(task) else { return };
    let mut state = thread.state.lock();
    // Engines that are attached meanwhile miss the event.
    let end = state.next_id;
    let mut next = 0;
    loop {
        let found = state
            .engines
            .iter_mut()
            .find(|at| at.id >= next && at.id < end && (audience == Audience::All || at.quiesce));
        let Some(at) = found else { break };
        at.quiesce = false;
        let (id, engine) = (at.id, at.engine.clone());
        state.called = Some(id);
        drop(state);

        let action = event(&*engine);

        state = thread.state.lock();
        state.called = None;
        thread.idle.notify_all();
        if action == Action::Detach {
            if let Some(at) = state.engines.iter().position(|at| at.id == id) {
                drop(state.engines.remove(at));
            }
        }
        next = id.wrapping_add(1);
    }
}

/// Gives `child` the engines of `parent`, its creator, that follow into new threads.
///
/// An engine that cannot be attached for want of memory is missing from the child; the events of
/// the other threads still reach it.
pub(crate) fn inherit(parent: &Task, child: &Task) {
    let Some(thread) = get(parent) else { return };
    let mut next = 0;
    loop {
        let state = thread.state.lock();
        let Some(at) = state.engines.iter().find(|at| at.id >= next) else {
            break;
        };
        next = at.id.wrapping_add(1);
        let Some(follow) = at.follow.clone() else {
            continue;
        };
        let engine = at.engine.clone();
        drop(state);

        if follow.is_stopped() {
            continue;
        }
        if attach_following(child, engine.clone(), follow.clone()).is_ok() && follow.is_stopped() {
            // `Attachment::drop` may have passed the child already.
            detach(child, &engine);
        }
    }
}

/// The current thread exits: it has no engines from here on.
pub(crate) fn exited(task: &Task) {
    let Some(thread) = get(task) else { return };
    let mut state = thread.state.lock();
    state.exited = true;
    let gone = core::mem::replace(&mut state.engines, KVec::new());
    drop(state);
    drop(gone);
}

#[cfg(CONFIG_UTRACE_KUNIT_TEST)]
#[kunit_tests(utrace_thread)]
mod tests {
    use super::*;

    use kernel::current;

    struct Idle;

    impl Engine for Idle {}

    #[test]
    fn kernel_threads_take_no_engine() -> Result {
        // KUnit runs in a kernel thread.
        let engine: Arc<dyn Engine> = Arc::new(Idle, GFP_KERNEL)?;
        let task = current!();
        assert_eq!(attach(task, engine.clone()), Err(EPERM));
        assert!(!detach(task, &engine));
        assert_eq!(request_quiesce(task, &engine), Err(ESRCH));
        assert!(crate::attach_process(task, engine).is_err());
        Ok(())
    }

    #[test]
    fn kernel_threads_cannot_be_quiesced() {
        let task = current!();
        assert!(matches!(crate::quiesce(task), Err(e) if e == ESRCH));
    }

    #[test]
    fn an_engine_that_stopped_following_stays_stopped() -> Result {
        let following = Following::new()?;
        assert!(!following.is_stopped());
        following.stop();
        assert!(following.is_stopped());
        Ok(())
    }
}
