// SPDX-License-Identifier: GPL-2.0

//! Freeing slots that have no breakpoint any more, and the areas that have no slot in use.
//!
//! A thread that executes a copy in a slot leaves no trace of that while it does: it has got there
//! by a change of its instruction pointer, and comes back by a jump. So it can only be found by its
//! instruction pointer, which has to be in the kernel for that:
//!
//! 1. The retired slots are noted. Breakpoints that would send threads there have been freed, and
//!    with them, by the grace period before that, the hits that had found them.
//! 2. The threads are kept out of user mode. Each that has its instruction pointer in one of the
//!    slots gets the one that the program knows. If that is the instruction itself, it has not been
//!    executed yet, and will be executed in its place, where there is no breakpoint any more; if
//!    there is one again, that has come later, and is hit.
//! 3. The slots are free, and areas without taken slots are unmapped.
//!
//! A thread may be about to change its instruction pointer itself, on its way out: hence the
//! exchange, which then fails, in step 2.
//!
//! This is done by a worker some time after the first slot was retired, for all of them at once.

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

/// How long slots are collected before they are reclaimed together.
fn delay() -> Jiffies {
    msecs_to_jiffies(20)
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Space { self.reclaim }
}

/// Has the retired slots of an address space reclaimed. Does not sleep.
pub(crate) fn soon(mm: &Mm) {
    let guard = tasks_trace::read_lock();
    if let Some(space) = Space::arc_of_any(mm, &guard) {
        again(space.clone());
    }
}

fn again(space: Arc<Space>) {
    // If it is queued already, it will see what is retired by now.
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

/// # Errors
///
/// `ENOMEM`: nothing has been done.
fn reclaim(space: &Space, mm: &ARef<MmWithUser>) -> Result {
    let mmap = mm.mmap_write_lock();
    let _changes = space.changes.lock();
    let guard = tasks_trace::read_lock();
    let mut retired = KVec::new();
    for area in space.areas_in(0, usize::MAX, &guard) {
        retired.push((area.clone(), area.retired()), GFP_KERNEL)?;
    }
    drop(guard);

    let users = space.users(mm);
    let quiesced = quiesce_mm(users, space.utrace())?;
    move_threads_out(users, &quiesced, |ip| {
        let (area, slots) = retired
            .iter()
            .find(|(area, _)| ip.wrapping_sub(area.base()) < kernel::page::PAGE_SIZE)?;
        let place = area.is_in(slots, ip).then(|| area.place(ip)).flatten()?;
        Some(place.stream().as_usize())
    });
    drop(quiesced);

    for (area, slots) in &retired {
        area.free_retired(slots);
        area.unmap_if_free(space, &mmap);
    }
    Ok(())
}

/// Changes the instruction pointers of threads as `f` says.
///
/// The walk may miss a thread that is being created. Such a thread is in no slot, because its
/// creator was in a system call, and UBP puts no system-call instruction into a slot.
fn move_threads_out(users: Users<'_>, _quiesced: &Quiesced, f: impl Fn(usize) -> Option<usize>) {
    users.for_each(|thread| {
        // SAFETY: `Users` leaves kernel threads out. The thread is in the kernel, and stays there,
        // by the invariants of `Quiesced`.
        let moved = unsafe { thread.user_ip() }.and_then(|ip| Some((ip, f(ip)?)));
        if let Some((ip, to)) = moved {
            // SAFETY: As for `user_ip()`.
            unsafe { thread.exchange_user_ip(ip, to) };
        }
    });
}
