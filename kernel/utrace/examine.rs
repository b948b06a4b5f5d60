// SPDX-License-Identifier: GPL-2.0

//! Examination of stopped threads, and changes of their registers.

use crate::{
    engine::Engine,
    jobctl,
    thread::{
        self,
        AttachedEngine,
        Phase,
        ThreadState, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    ptregs::flags,
    siglock::Siglock,
    task::Task, //
};

/// The number of a thread's stop. Each stop has a different number.
pub(crate) type StopNumber = usize;

/// A guard that keeps a thread stopped, together with the lock of the thread.
enum StopGuard<'a> {
    /// Stopped by utrace. By the protocol of stops, the thread does not leave while the lock of the
    /// thread is held.
    Stop,
    /// Stopped by job control. The thread needs `siglock` to leave, and enters a utrace stop next.
    GroupStop(#[expect(dead_code, reason = "held, not used")] Siglock<'a>),
}

/// Returns the guard, if the thread is stopped and this engine wants it stopped.
fn stop_guard<'a>(task: &'a Task, state: &ThreadState, engine: &Engine) -> Result<StopGuard<'a>> {
    if !thread::is_of(engine.thread(), task) {
        return Err(ESRCH);
    }
    let at = state.find(engine).ok_or(ESRCH)?;
    if state.phase >= Phase::Dying {
        return Err(ESRCH);
    }
    if !state
        .engines
        .get(at)
        .is_some_and(AttachedEngine::is_stop_requested)
    {
        return Err(EINVAL);
    }
    if state.stopped {
        return Ok(StopGuard::Stop);
    }
    let siglock = task.lock_signals().ok_or(ESRCH)?;
    if siglock.in_group_stop() {
        Ok(StopGuard::GroupStop(siglock))
    } else {
        Err(EAGAIN)
    }
}

/// Waits until a thread that `engine` has stopped is off its CPU.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EINVAL` if the engine has not requested a stop. `EAGAIN` if the thread has not stopped yet, or
/// was woken. `ESRCH` if the engine is detached.
pub(crate) fn prepare(task: &Task, engine: &Engine) -> Result<StopNumber> {
    let stop = {
        let state = engine.thread().state.lock();
        stop_guard(task, &state, engine)?;
        state.stops
    };
    if jobctl::wait_inactive_in_stop(task) {
        Ok(stop)
    } else {
        Err(EAGAIN)
    }
}

/// Checks that the thread has been in the same stop since [`prepare`].
///
/// Context: does not sleep.
///
/// # Errors
///
/// `EAGAIN` if it has not. `EINVAL` and `ESRCH` as for [`prepare`].
pub(crate) fn finish(task: &Task, engine: &Engine, stop: StopNumber) -> Result {
    let state = engine.thread().state.lock();
    stop_guard(task, &state, engine)?;
    if state.stops == stop {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}

/// The user-mode registers of a stopped thread.
///
/// They are accessed word by word, without a reference, because UBP may exchange the instruction
/// pointer from another CPU at the same time.
#[derive(Clone, Copy)]
struct UserRegs<'a> {
    task: &'a Task,
    words: *mut usize,
}

const WORDS: usize = size_of::<bindings::pt_regs>() / size_of::<usize>();

impl UserRegs<'_> {
    /// Returns a copy. TF is hidden if it is set on behalf of a debugger or an engine.
    fn get(self) -> bindings::pt_regs {
        let mut regs: bindings::pt_regs = pin_init::zeroed();
        let to = (&raw mut regs).cast::<usize>();
        for at in 0..WORDS {
            // SAFETY: Both pointers are to `WORDS` words. `regs` is a local variable, and the
            // thread's registers are valid while `self` lives.
            unsafe { to.add(at).write(self.words.add(at).read_volatile()) };
        }
        // SAFETY: `task` is valid because it is a reference.
        if unsafe { bindings::task_forced_tf(self.task.as_ptr()) } {
            regs.flags &= !flags::TF;
        }
        regs
    }

    /// Replaces the registers. TF stays set if it is set on behalf of a debugger or an engine. If
    /// it is set in `regs`, it belongs to the program from now on.
    fn set(self, mut regs: bindings::pt_regs) {
        // SAFETY: `task` is valid, and does not return to user mode while `self` lives.
        unsafe {
            if regs.flags & flags::TF != 0 {
                bindings::clear_task_forced_tf(self.task.as_ptr());
            } else if bindings::task_forced_tf(self.task.as_ptr()) {
                regs.flags |= flags::TF;
            }
        }
        let from = (&raw const regs).cast::<usize>();
        for at in 0..WORDS {
            // SAFETY: Both pointers are to `WORDS` words. `regs` is a local variable, and the
            // thread's registers are valid while `self` lives.
            unsafe { self.words.add(at).write_volatile(from.add(at).read()) };
        }
    }
}

/// Calls `f` with the user-mode registers of a thread that `engine` has stopped. The thread cannot
/// leave the stop, or a group stop, during the call.
///
/// Context: does not sleep; `f` must not sleep either.
///
/// # Errors
///
/// As for [`prepare`].
fn with_regs<R>(task: &Task, engine: &Engine, f: impl FnOnce(UserRegs<'_>) -> R) -> Result<R> {
    let state = engine.thread().state.lock();
    let held = stop_guard(task, &state, engine)?;
    // SAFETY: A thread that has engines and has not been reaped has its stack, which contains the
    // registers. The thread does not access them while `held` and `state` are held.
    let words = unsafe { bindings::task_user_regs(task.as_ptr()) }.cast();
    let result = f(UserRegs { task, words });
    drop(held);
    Ok(result)
}

/// Returns the user-mode registers of a thread that `engine` has stopped.
///
/// Context: does not sleep.
///
/// # Errors
///
/// As for [`prepare`].
pub(crate) fn get_regs(task: &Task, engine: &Engine) -> Result<bindings::pt_regs> {
    with_regs(task, engine, |own| own.get())
}

/// Changes the user-mode registers of a thread that `engine` has stopped, as far as user mode could
/// change them. Of the flags, only the ones that a debugger can change are changed.
///
/// Context: does not sleep.
///
/// # Errors
///
/// As for [`prepare`]; also `EINVAL` for a different code or stack segment.
pub(crate) fn set_regs(task: &Task, engine: &Engine, regs: &bindings::pt_regs) -> Result {
    with_regs(task, engine, |own| {
        let (mut new, old) = (*regs, own.get());
        // SAFETY: Any bits are a valid number, and the union fields are read as numbers.
        let (segments, old_segments) = unsafe {
            (
                (new.__bindgen_anon_1.csx, new.__bindgen_anon_2.ssx),
                (old.__bindgen_anon_1.csx, old.__bindgen_anon_2.ssx),
            )
        };
        if segments != old_segments {
            return Err(EINVAL);
        }
        new.flags = (new.flags & USER_FLAGS) | (old.flags & !USER_FLAGS);
        own.set(new);
        Ok(())
    })?
}

/// The flags that user mode may change, and a debugger on its behalf.
const USER_FLAGS: c_ulong = flags::CF
    | flags::PF
    | flags::AF
    | flags::ZF
    | flags::SF
    | flags::TF
    | flags::DF
    | flags::OF
    | flags::RF
    | flags::AC;
