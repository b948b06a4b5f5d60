// SPDX-License-Identifier: GPL-2.0

//! Looking at a thread that is stopped, and changing its registers.

use crate::{
    engine::Engine,
    thread::{
        self,
        Entry,
        Phase,
        State, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    ptregs::flags,
    siglock::Siglock,
    task::Task, //
};

/// Which stop of a thread it is: another number is another stop.
pub(crate) type StopNumber = usize;

/// Evidence that a thread is stopped, and stays so as long as this, and the lock of the thread,
/// are held.
enum Held<'a> {
    /// By us: by the protocol of stops it does not leave while the lock of the thread is held.
    Stop,
    /// By job control. It leaves with `siglock` held, and stops by us next.
    GroupStop(#[expect(dead_code, reason = "held, not used")] Siglock<'a>),
}

/// The thread is stopped, and this engine wants it to be.
fn held<'a>(task: &'a Task, state: &State, engine: &Engine) -> Result<Held<'a>> {
    if !thread::is_of(engine.thread(), task) {
        return Err(ESRCH);
    }
    let at = state.find(engine).ok_or(ESRCH)?;
    if state.phase >= Phase::Dying {
        return Err(ESRCH);
    }
    if !state.engines.get(at).is_some_and(Entry::wants_stop) {
        return Err(EINVAL);
    }
    if state.stopped {
        return Ok(Held::Stop);
    }
    let siglock = task.lock_signals().ok_or(ESRCH)?;
    if siglock.in_group_stop() {
        Ok(Held::GroupStop(siglock))
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
/// `EINVAL`: the engine has not asked for a stop. `EAGAIN`: the thread has not stopped yet, or was
/// woken. `ESRCH`: the engine is detached.
pub(crate) fn prepare(task: &Task, engine: &Engine) -> Result<StopNumber> {
    let stop = {
        let state = engine.thread().state.lock();
        held(task, &state, engine)?;
        state.stops
    };
    if task.wait_inactive_in_stop() {
        Ok(stop)
    } else {
        Err(EAGAIN)
    }
}

/// Whether the thread has been in the stop ever since [`prepare`].
///
/// Context: does not sleep.
///
/// # Errors
///
/// `EAGAIN`: it has not. `EINVAL` and `ESRCH` as with [`prepare`].
pub(crate) fn finish(task: &Task, engine: &Engine, stop: StopNumber) -> Result {
    let state = engine.thread().state.lock();
    held(task, &state, engine)?;
    if state.stops == stop {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}

/// The user-mode registers of a thread that is stopped.
///
/// They are accessed word by word, without a reference: UBP may exchange the instruction pointer
/// from another CPU at the same time.
#[derive(Clone, Copy)]
struct UserRegs<'a> {
    task: &'a Task,
    words: *mut usize,
}

const WORDS: usize = size_of::<bindings::pt_regs>() / size_of::<usize>();

impl UserRegs<'_> {
    /// Returns a copy. TF is hidden if it is set for a debugger or an engine.
    fn get(self) -> bindings::pt_regs {
        let mut regs: bindings::pt_regs = pin_init::zeroed();
        let to = (&raw mut regs).cast::<usize>();
        for at in 0..WORDS {
            // SAFETY: Both pointers are to `WORDS` words; those of the thread are valid while
            // `self` lives.
            unsafe { to.add(at).write(self.words.add(at).read_volatile()) };
        }
        // SAFETY: The task is valid.
        if unsafe { bindings::task_forced_tf(self.task.as_ptr()) } {
            regs.flags &= !flags::TF;
        }
        regs
    }

    /// Replaces them. TF stays set if it is set for a debugger or an engine, and is the program's
    /// from now on if it is set here.
    fn set(self, mut regs: bindings::pt_regs) {
        // SAFETY: The task is valid, and does not return to user mode while `self` lives.
        unsafe {
            if regs.flags & flags::TF != 0 {
                bindings::clear_task_forced_tf(self.task.as_ptr());
            } else if bindings::task_forced_tf(self.task.as_ptr()) {
                regs.flags |= flags::TF;
            }
        }
        let from = (&raw const regs).cast::<usize>();
        for at in 0..WORDS {
            // SAFETY: As in `get`: both are `WORDS` words, valid while `self` lives.
            unsafe { self.words.add(at).write_volatile(from.add(at).read()) };
        }
    }
}

/// Calls `f` with the user-mode registers of a thread that `engine` has stopped. The thread cannot
/// leave the stop, or a group stop, during the call.
///
/// Context: does not sleep; neither may `f`.
///
/// # Errors
///
/// As with [`prepare`].
fn with_regs<R>(task: &Task, engine: &Engine, f: impl FnOnce(UserRegs<'_>) -> R) -> Result<R> {
    let state = engine.thread().state.lock();
    let held = held(task, &state, engine)?;
    // SAFETY: A thread that has engines and has not been reaped has its stack, and on it the
    // registers. It does not touch them while `held` and `state` are held.
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
/// As with [`prepare`].
pub(crate) fn get_regs(task: &Task, engine: &Engine) -> Result<bindings::pt_regs> {
    with_regs(task, engine, |own| own.get())
}

/// Changes the user-mode registers of a thread that `engine` has stopped, within what user mode
/// could do: of the flags only those that a debugger can change as well.
///
/// Context: does not sleep.
///
/// # Errors
///
/// As with [`prepare`]; also `EINVAL` for another code or stack segment.
pub(crate) fn set_regs(task: &Task, engine: &Engine, regs: &bindings::pt_regs) -> Result {
    with_regs(task, engine, |own| {
        let (mut new, old) = (*regs, own.get());
        // SAFETY: All bits of these unions are the numbers that they are read as.
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

/// The flags that user mode may change, and a debugger for it.
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
