// SPDX-License-Identifier: GPL-2.0

//! Record of a thread for file probes: `task_struct::utask`, the work to do before the thread
//! returns to user mode, and the cookies of sessions.
//!
//! Only the thread itself accesses its record. It is allocated by the first hit of a file probe, or
//! when the thread maps a file that has probes. It is freed when the thread gives up its address
//! space.

use super::{
    counter,
    probe::FileProbe,
    table, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::AllocError,
    bindings,
    mm::{
        virt::VmaRef,
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    task::Task,
    types::Opaque, //
};
use ubp::Vaddr;

/// A call of a function for which the return handler of a session consumer has to be called.
struct Session {
    /// Location of the return address on the stack.
    location: usize,
    /// Address of the function.
    function: usize,
    /// Number of the consumer.
    consumer: u64,
    cookie: u64,
}

/// Maximum number of sessions of a thread. C's uprobes allow 64 calls.
const MAX_SESSIONS: usize = 1024;

/// The record of a thread.
#[repr(C)]
struct Thread {
    /// The first field, so that `task_struct::utask` points to it. Consumers keep what they need
    /// during a call in `vaddr`.
    utask: Opaque<bindings::uprobe_task>,
    work: Opaque<bindings::callback_head>,
    is_queued: bool,
    /// The value of [`counter::sequence`] when the thread has copied its address space last.
    copied_at: u64,
    sessions: KVec<Session>,
}

/// Returns the record of the current thread.
///
/// # Invariants
///
/// `task_struct::utask` is null, or owns a `KBox<Thread>`, which is pinned. Only the thread itself
/// changes it, except that `fork()` sets it to null before the new thread runs.
fn current() -> Option<NonNull<Thread>> {
    // SAFETY: The current task is valid, and only the current thread accesses the field.
    NonNull::new(unsafe { (*Task::current_raw()).utask }.cast())
}

/// Allocates the record of the current thread, unless it has one.
///
/// Context: may sleep.
#[inline]
pub(super) fn allocate() -> Result<(), AllocError> {
    match current() {
        Some(_) => Ok(()),
        None => allocate_new().map(|_| ()),
    }
}

#[cold]
fn allocate_new() -> Result<NonNull<Thread>, AllocError> {
    let new = KBox::new(
        Thread {
            utask: Opaque::zeroed(),
            work: Opaque::zeroed(),
            is_queued: false,
            copied_at: u64::MAX,
            sessions: KVec::new(),
        },
        GFP_KERNEL,
    )?;
    let new = NonNull::from(KBox::leak(new));
    // INVARIANT: The task owns the record, which is not moved.
    // SAFETY: The current task is valid, and only the current thread accesses the field.
    unsafe { (*Task::current_raw()).utask = new.as_ptr().cast() };
    Ok(new)
}

/// Frees the record of the current thread.
///
/// Context: may sleep.
pub(crate) fn free_current() {
    let Some(thread) = current() else { return };
    // INVARIANT: Null owns nothing.
    // SAFETY: The current task is valid, and only the current thread accesses the field. Work that
    // is queued is taken back, so that the record is not used any more.
    unsafe {
        (*Task::current_raw()).utask = core::ptr::null_mut();
        if (*thread.as_ptr()).is_queued {
            bindings::task_work_cancel(Task::current_raw(), (*thread.as_ptr()).work.get());
        }
        drop(KBox::from_raw(thread.as_ptr()));
    }
}

/// Called when the current thread begins to copy its address space in `fork()`.
///
/// Context: the mmap lock of the address space is held for writing.
pub(crate) fn copying(mm: &Mm, copy: &Mm) {
    if table::is_empty() {
        return;
    }
    if mm.has_uprobes() {
        copy.set_has_uprobes();
    }
    if !ubp::is_probed(mm) {
        return;
    }
    if let Some(thread) = current().or_else(|| allocate_new().ok()) {
        // SAFETY: Only the current thread accesses its record.
        unsafe { (*thread.as_ptr()).copied_at = counter::sequence() };
    }
}

/// Returns the value of [`counter::sequence`] when the current thread has copied its address space
/// last.
pub(super) fn copied_at() -> u64 {
    // SAFETY: Only the current thread accesses its record.
    current().map_or(u64::MAX, |thread| unsafe { (*thread.as_ptr()).copied_at })
}

/// Calls `f` with the sessions of the current thread.
fn with_sessions<R>(f: impl FnOnce(&mut KVec<Session>) -> R) -> Option<R> {
    let mut thread = current()?;
    // SAFETY: Only the current thread accesses its record, and `f` does not call anything that
    // does.
    Some(f(unsafe { &mut thread.as_mut().sessions }))
}

/// Forgets the sessions that a call of the function at `function`, with its return address at
/// `location`, ends when it begins or returns: the sessions of calls deeper in the stack, which
/// have ended without a return, and those of the function at the same location.
#[inline]
pub(super) fn end_sessions(location: usize, function: usize) {
    with_sessions(|sessions| {
        while sessions.last().is_some_and(|it| it.location < location) {
            sessions.pop();
        }
        end_here(sessions, location, function);
    });
}

/// Forgets the sessions of a function at a location, which are among the last ones.
fn end_here(sessions: &mut KVec<Session>, location: usize, function: usize) {
    let mut at = sessions.len();
    while let Some(session) = at.checked_sub(1).and_then(|last| sessions.get(last)) {
        if session.location != location {
            return;
        }
        at -= 1;
        if session.function != function {
            continue;
        }
        // Mostly it is the last one, for which nothing has to be moved.
        match at + 1 == sessions.len() {
            true => sessions.truncate(at),
            false => drop(sessions.remove(at)),
        }
    }
}

/// Records that a session consumer wants the return of a call.
///
/// # Errors
///
/// `ENOSPC`: the thread has too many sessions. `ENOMEM`.
pub(super) fn add_session(location: usize, function: usize, consumer: u64, cookie: u64) -> Result {
    let session = Session {
        location,
        function,
        consumer,
        cookie,
    };
    with_sessions(|sessions| {
        if sessions.len() >= MAX_SESSIONS {
            return Err(ENOSPC);
        }
        Ok(sessions.push(session, GFP_KERNEL)?)
    })
    .unwrap_or(Err(ENOMEM))
}

/// Returns the cookie of a consumer for the call of a function that has its return address at
/// `location`, if the consumer wants the return.
pub(super) fn session_cookie(location: usize, function: usize, consumer: u64) -> Option<u64> {
    with_sessions(|sessions| {
        let is_it = |it: &&Session| {
            it.location == location && it.function == function && it.consumer == consumer
        };
        sessions.iter().rev().find(is_it).map(|it| it.cookie)
    })
    .flatten()
}

/// Called when the current process has mapped a file: queues work that places the probes of the
/// file, if it has any.
///
/// Context: the mmap lock is held for writing.
pub(crate) fn mapped(vma: &VmaRef) {
    if table::is_empty() || Task::is_current_worker() {
        return;
    }
    let task = kernel::current!();
    // In the address space of another process, mappings are only split or merged, which have their
    // breakpoints already.
    let is_own = task.mm().is_some_and(|mm| mm.as_raw() == vma.mm().as_raw());
    let (Some(inode), true) = (vma.inode(), is_own) else {
        return;
    };
    let is_probed = if vma.is_file_text() {
        vma.file_range()
            .is_some_and(|(start, end)| table::next(inode, start, end).is_some())
    } else {
        // The mapping may have reference counters.
        vma.is_file_data() && table::next(inode, 0, u64::MAX).is_some()
    };
    if is_probed {
        vma.mm().set_has_uprobes();
        queue();
    }
}

/// Queues work that places probes in the current process before the thread returns to user mode.
/// If there is no memory, the process does not get the probes.
fn queue() {
    let Some(thread) = current().or_else(|| allocate_new().ok()) else {
        no_memory();
        return;
    };
    // SAFETY: Only the current thread accesses its record. `work` is in the record, which
    // `free_current()` frees after it has taken the work back.
    unsafe {
        let thread = thread.as_ptr();
        if (*thread).is_queued {
            return;
        }
        let work = (*thread).work.get();
        (*work).func = Some(work_function);
        let mode = bindings::task_work_notify_mode_TWA_RESUME;
        // A thread that exits does not execute the mapping.
        (*thread).is_queued = bindings::task_work_add(Task::current_raw(), work, mode) == 0;
    }
}

#[cold]
fn no_memory() {
    kernel::pr_warn_once!("no memory for the probes of a file that has been mapped\n");
}

/// # Safety
///
/// Must be called as task work, in the thread that [`queue`] has queued it for.
unsafe extern "C" fn work_function(_head: *mut bindings::callback_head) {
    if let Some(thread) = current() {
        // SAFETY: Only the current thread accesses its record.
        unsafe { (*thread.as_ptr()).is_queued = false };
    }
    if let Some(mm) = kernel::current!().mm() {
        place_all(&ARef::from(mm));
    }
}

/// Places the probes of all files that an address space maps, and increments reference counters.
///
/// Context: may sleep, and wait for page faults.
pub(super) fn place_all(mm: &ARef<MmWithUser>) {
    let (mut text, mut counters) = (KVVec::new(), KVVec::new());
    if find_all(mm, &mut text, &mut counters).is_err() {
        no_memory();
    }
    for (probe, at) in text {
        if probe.place(mm, at) == Err(EINTR) {
            return;
        }
    }
    for probe in counters {
        probe.count(mm);
    }
}

/// Adds the probes of the files that an address space maps to `text`, with their addresses, and
/// those that have a reference counter there to `counters`.
fn find_all(
    mm: &MmWithUser,
    text: &mut KVVec<(Arc<FileProbe>, Vaddr)>,
    counters: &mut KVVec<Arc<FileProbe>>,
) -> Result {
    let mmap = mm.mmap_read_lock();
    for vma in mmap.vmas() {
        let (Some(inode), Some((start, end))) = (vma.inode(), vma.file_range()) else {
            continue;
        };
        if vma.is_file_text() {
            table::for_each(inode, start, end, |probe| {
                let Some(at) = vma.address_of(probe.offset) else {
                    return Ok(());
                };
                Ok(text.push((probe, Vaddr::new(at)), GFP_KERNEL)?)
            })?;
        } else if vma.is_file_data() {
            table::for_each(inode, 0, u64::MAX, |probe| {
                if probe.counter_offset == 0 || vma.address_of(probe.counter_offset).is_none() {
                    return Ok(());
                }
                Ok(counters.push(probe, GFP_KERNEL)?)
            })?;
        }
    }
    Ok(())
}
