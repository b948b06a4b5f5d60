// SPDX-License-Identifier: GPL-2.0

//! Reclaim of slots that have no breakpoint any more, and of areas that have no slot in use.
//!
//! A thread that executes a copy in a slot leaves no other trace than its instruction pointer: the
//! kernel has sent it there by a change of the instruction pointer, and a jump takes it back. The
//! instruction pointer can only be read while the thread is in the kernel. Therefore reclaim takes
//! three steps:
//!
//! 1. The worker records the retired slots. Their breakpoints have been freed, after a grace period
//!    that has waited for all hits of these breakpoints, so no thread can be sent to the slots any
//!    more.
//! 2. The worker keeps the threads out of user mode. If a thread's instruction pointer is in one of
//!    the slots, the worker replaces it by the original ip. If this is the displaced instruction,
//!    the thread has not executed it yet, and will execute it in its place, which has no breakpoint
//!    any more. If there is a new breakpoint, the thread hits it.
//! 3. The worker frees the slots, and unmaps areas without taken slots.
//!
//! In step 2, a thread may be about to change its instruction pointer itself on its way to user
//! mode. The worker therefore uses an atomic exchange, which fails in this case.
//!
//! The worker runs some time after the first slot was retired, for all retired slots at once.

use crate::space::Space;

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        tasks_trace,
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Jiffies, //
    },
    workqueue::{
        self,
        impl_has_delayed_work,
        WorkItem, //
    },
};
use utrace::{
    quiesce_mm,
    Quiesced,
    Users, //
};

/// Returns the time in which retired slots are collected before they are reclaimed together.
fn delay() -> Jiffies {
    msecs_to_jiffies(20)
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Space { self.reclaim }
}

/// Schedules the reclaim of the retired slots of an address space. Does not sleep.
pub(crate) fn soon(mm: &Mm) {
    let guard = tasks_trace::read_lock();
    if let Some(space) = Space::arc_from_any_mm(mm, &guard) {
        again(space.clone());
    }
}

fn again(space: Arc<Space>) {
    // A reclaim that is already queued will see all slots that are retired by now.
    let _ = workqueue::system_long().enqueue_delayed(space, delay());
}

impl WorkItem for Space {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let Some(mm) = this.mm.mmget_not_zero() else {
            return;
        };
        if !matches!(mm.with_kthread(|| reclaim(&this, &mm)), Ok(Ok(()))) {
            again(this);
        }
    }
}

/// Reclaims the retired slots of an address space.
///
/// # Errors
///
/// `ENOMEM`: no slot has been reclaimed.
fn reclaim(space: &Space, mm: &ARef<MmWithUser>) -> Result {
    let mmap = mm.mmap_write_lock();
    let changes = space.changes.lock();
    let guard = tasks_trace::read_lock();
    let mut retired = KVec::new();
    for area in space.areas_in(0, usize::MAX, &guard) {
        retired.push((area.clone(), area.retired()), GFP_KERNEL)?;
    }
    drop(guard);

    let users = space.users(mm);
    let quiesced = quiesce_mm(users, space.utrace())?;
    fixup_user_ips(users, &quiesced, |ip| {
        let (area, slots) = retired
            .iter()
            .find(|(area, _)| ip.wrapping_sub(area.base()) < kernel::page::PAGE_SIZE)?;
        let position = area.is_in(slots, ip).then(|| area.position(ip)).flatten()?;
        Some(position.original_ip().as_usize())
    });
    drop(quiesced);

    for (area, slots) in &retired {
        area.free_retired(slots);
        area.unmap_if_free(space, &mmap, &changes);
    }
    Ok(())
}

/// Changes the instruction pointers of threads as `f` says.
///
/// The walk may miss a thread that is being created. Such a thread is in no slot, because its
/// creator was in a system call, and UBP puts no system-call instruction into a slot.
fn fixup_user_ips(users: Users<'_>, _quiesced: &Quiesced, f: impl Fn(usize) -> Option<usize>) {
    users.for_each(|thread| {
        // SAFETY: `Users` skips kernel threads. By the invariants of `Quiesced`, the thread is in
        // the kernel and does not return to user mode during the call.
        let moved = unsafe { thread.user_ip() }.and_then(|ip| Some((ip, f(ip)?)));
        if let Some((ip, to)) = moved {
            // SAFETY: `thread` is not a kernel thread, because `Users` skips these. By the
            // invariants of `Quiesced`, it does not return to user mode during the call.
            unsafe { thread.exchange_user_ip(ip, to) };
        }
    });
}
