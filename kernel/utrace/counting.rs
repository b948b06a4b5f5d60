// SPDX-License-Identifier: GPL-2.0

//! An engine that counts its events, for the selftests. See `struct utrace_counts` in
//! `include/linux/utrace.h`.

use crate::{
    attach_process,
    request_quiesce,
    Action,
    Attachment,
    Engine,
    Exit, //
};

use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    task::Task,
    threads, //
};

/// How often each event has been reported.
struct Counting {
    clone_thread: Atomic<i64>,
    clone_process: Atomic<i64>,
    exec: Atomic<i64>,
    exit: Atomic<i64>,
    last_exit: Atomic<i64>,
    quiesce: Atomic<i64>,
}

fn count(event: &Atomic<i64>) -> Action {
    event.fetch_add(1, Relaxed);
    Action::Resume
}

impl Engine for Counting {
    fn clone(&self, _thread: &Task, _child: &Task, flags: u64) -> Action {
        if flags & u64::from(bindings::CLONE_THREAD) != 0 {
            count(&self.clone_thread)
        } else {
            count(&self.clone_process)
        }
    }

    fn exec(&self, _thread: &Task) -> Action {
        count(&self.exec)
    }

    fn exit(&self, _thread: &Task, exit: Exit) -> Action {
        if exit.last {
            self.last_exit.fetch_add(1, Relaxed);
        }
        count(&self.exit)
    }

    fn quiesce(&self, _thread: &Task) -> Action {
        count(&self.quiesce)
    }
}

struct Counter {
    engine: Arc<Counting>,
    _attachment: Attachment,
}

/// Attaches a counting engine to a process.
///
/// # Safety
///
/// May sleep.
#[export]
pub(crate) unsafe extern "C" fn utrace_count(
    pid: bindings::pid_t,
) -> *mut bindings::utrace_counter {
    let counter = (|| {
        if pid <= 0 {
            return Err(EINVAL);
        }
        let task = threads::find(pid).ok_or(ESRCH)?;
        let engine = Arc::new(
            Counting {
                clone_thread: Atomic::new(0),
                clone_process: Atomic::new(0),
                exec: Atomic::new(0),
                exit: Atomic::new(0),
                last_exit: Atomic::new(0),
                quiesce: Atomic::new(0),
            },
            GFP_KERNEL,
        )?;
        let counter = Counter {
            _attachment: attach_process(&task, engine.clone())?,
            engine,
        };
        Ok(KBox::new(counter, GFP_KERNEL)?)
    })();
    match counter {
        Ok(counter) => KBox::into_raw(counter).cast(),
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// `counter` is of [`utrace_count`], without an error, and has not ended during the call.
unsafe fn borrow<'a>(counter: *mut bindings::utrace_counter) -> &'a Counter {
    // SAFETY: By the requirement on the caller.
    unsafe { &*counter.cast() }
}

/// Returns the counts.
///
/// # Safety
///
/// As of [`borrow`]; `counts` is valid for writes.
#[export]
pub(crate) unsafe extern "C" fn utrace_counts(
    counter: *mut bindings::utrace_counter,
    counts: *mut bindings::utrace_counts,
) {
    // SAFETY: By the requirement on the caller.
    let engine = &unsafe { borrow(counter) }.engine;
    let now = bindings::utrace_counts {
        clone_thread: engine.clone_thread.load(Relaxed) as c_long,
        clone_process: engine.clone_process.load(Relaxed) as c_long,
        exec: engine.exec.load(Relaxed) as c_long,
        exit: engine.exit.load(Relaxed) as c_long,
        last_exit: engine.last_exit.load(Relaxed) as c_long,
        quiesce: engine.quiesce.load(Relaxed) as c_long,
    };
    // SAFETY: By the requirement on the caller.
    unsafe { counts.write(now) };
}

/// Has a thread report before it returns to user mode.
///
/// # Safety
///
/// As of [`borrow`].
#[export]
pub(crate) unsafe extern "C" fn utrace_count_report(
    counter: *mut bindings::utrace_counter,
    tid: bindings::pid_t,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let engine: Arc<dyn Engine> = unsafe { borrow(counter) }.engine.clone();
    let requested = threads::find(tid)
        .ok_or(ESRCH)
        .and_then(|task| request_quiesce(&task, &engine));
    match requested {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Detaches the engine.
///
/// # Safety
///
/// `counter` is of [`utrace_count`], without an error, and is not used again. May sleep.
#[export]
pub(crate) unsafe extern "C" fn utrace_count_end(counter: *mut bindings::utrace_counter) {
    // SAFETY: By the requirement on the caller it is of `KBox::into_raw`.
    drop(unsafe { KBox::from_raw(counter.cast::<Counter>()) });
}
