// SPDX-License-Identifier: GPL-2.0

//! Quiesced processes: every thread that shares the memory of the process is kept out of user mode.
//!
//! A thread is quiesced if it is in the kernel and cannot return to user mode before the
//! [`Quiescence`] ends. It may execute in the kernel, or sleep: a thread that sleeps in a system
//! call is not woken, so no system call returns `EINTR` because of this.
//!
//! # Protocol
//!
//! 1. The quiescence is added to the list.
//! 2. Each thread that uses the address space gets `TIF_NOTIFY_RESUME`, without being woken or
//!    interrupted. The walk over the threads holds RCU only. A new thread becomes visible and then
//!    reads the list (`clone_locked`); the quiescence is added to the list before the walk. So the
//!    new thread sees the quiescence, or the walk sees the thread.
//! 3. Each CPU is checked, with its run queue locked. A CPU that executes such a thread gets an
//!    interrupt, and the caller waits for the interrupt. On any other CPU, a thread that is
//!    switched to later sees its flag, because the lock orders the switch after step 2.
//!
//! After this every thread is in the kernel: a thread that was executing in user mode has been
//! interrupted, and any other thread has yet to test the flag. On the way to user mode the flag
//! leads the thread to [`wait_while_quiesced`], where it waits until the quiescence has ended. A
//! thread that clears the flag just before step 2 reads the list after that; otherwise it gets the
//! flag again.
//!
//! Workers use an address space but never go to user mode. They are left alone, because a kernel
//! thread never clears the flag.
//!
//! A killed thread does not wait, and dies before it reaches user mode.
//!
//! Threads wait in the exit path, where a thread holds no lock that the holder of a [`Quiesced`]
//! may need. So the holder may hold `mmap_lock`, for example. It must not wait for anything that a
//! thread of the process has to do, such as serving a userfaultfd or a FUSE mount, and must not
//! allocate memory in a way that may wait for it.

use crate::{
    hooks::Active,
    users::Users, //
};

use kernel::{
    cpumask::CpumaskVar,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    smp,
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
        Completion, //
    },
    task::Task,
    threads::{
        self,
        Group, //
    },
};

/// An address space. Its users are kept out of user mode.
#[pin_data]
struct Quiescence {
    mm: ARef<Mm>,
    #[pin]
    ended: Completion,
}

// `siglock` may be held when this is taken. Interrupts take `siglock` too, so this disables
// interrupts.
kernel::sync::global_lock! {
    // SAFETY: `init` is called before any code can reach the list.
    unsafe(uninit) static QUIESCENCES: SpinLockIrq<KVec<Arc<Quiescence>>> = KVec::new();
}

/// Set while there are quiescences in the list. Changed with the list locked.
///
/// Each `clone()`, and each return to user mode with `TIF_NOTIFY_RESUME` set, reads this before it
/// takes the lock.
static ANY_QUIESCENCE: Atomic<bool> = Atomic::new(false);

/// Initialises the list of quiescences.
///
/// # Safety
///
/// Must be called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller ensures that this is called once, before any access to the list.
    unsafe { QUIESCENCES.init() };
}

/// A guard that keeps every thread that uses an address space in the kernel. The holder itself, if
/// it is such a thread, is in the kernel too.
///
/// # Invariants
///
/// The quiescence is in the list, and steps 1 to 3 of the protocol are done.
#[must_use = "if unused, the threads resume at once"]
pub struct Quiesced {
    quiescence: Arc<Quiescence>,
    _active: Active,
}

/// Waits until every thread that shares the memory of `task`'s process is out of user mode, as
/// [`quiesce_mm`] does.
///
/// Context: as for [`Active::new`].
///
/// # Errors
///
/// `ESRCH` if the process exits, or is a kernel thread. `ENOMEM` if there is no memory.
pub fn quiesce(task: &Task) -> Result<Quiesced> {
    let active = Active::new();
    let group = Group::from_task(task)
        .filter(|_| !task.is_kernel_thread())
        .ok_or(ESRCH)?;
    let mm = group.get_mm().ok_or(ESRCH)?;
    quiesce_mm(Users::new(&mm, Some(&group)), &active)
}

/// Waits until every thread that uses an address space is out of user mode, which takes an
/// interrupt at most, and keeps these threads out.
///
/// Several tasks may quiesce an address space at the same time. The threads resume when the last
/// [`Quiesced`] is dropped.
///
/// Context: may sleep, for memory; must not be called from an interrupt, or with a spinlock held.
/// `mmap_lock` may be held.
///
/// # Errors
///
/// `ENOMEM` if there is no memory.
pub fn quiesce_mm(users: Users<'_>, active: &Active) -> Result<Quiesced> {
    let mut executing = CpumaskVar::new_zero(GFP_KERNEL)?;
    let active = active.try_clone()?;
    let quiescence = begin(users.mm())?;
    // Dropping this removes the quiescence, also on errors.
    //
    // INVARIANT: Step 1 is done. The value is returned only after steps 2 and 3.
    let quiesced = Quiesced {
        quiescence,
        _active: active,
    };
    // Pairs with the barrier in `clone_locked`.
    smp_mb(Full);
    users.for_each(|thread| thread.notify_resume_later());
    threads::cpus_executing(&mut executing, |task| {
        task.uses(users.mm()) && !task.is_worker()
    });
    smp::interrupt_cpus(&executing);
    Ok(quiesced)
}

/// Adds a quiescence to the list, which is step 1.
fn begin(mm: &MmWithUser) -> Result<Arc<Quiescence>> {
    let quiescence = Arc::pin_init(
        pin_init!(Quiescence {
            mm: ARef::from(&**mm),
            ended <- Completion::new(),
        }),
        GFP_KERNEL,
    )?;
    let mut reserve: KVec<Arc<Quiescence>> = KVec::new();
    loop {
        let mut quiescences = QUIESCENCES.lock();
        if quiescences.push_within_capacity(quiescence.clone()).is_ok() {
            ANY_QUIESCENCE.store(true, Relaxed);
            return Ok(quiescence);
        }
        // The list is allocated without the lock held, and never shrinks.
        if reserve.capacity() > quiescences.len() {
            for old in quiescences.drain_all() {
                // `reserve` has room, as its capacity was compared with the length.
                let _ = reserve.push_within_capacity(old);
            }
            core::mem::swap(&mut *quiescences, &mut reserve);
            continue;
        }
        let wanted = quiescences.len().wrapping_add(4).wrapping_mul(2);
        drop(quiescences);
        reserve.reserve(wanted, GFP_KERNEL)?;
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        let mut quiescences = QUIESCENCES.lock();
        let at = quiescences
            .iter()
            .position(|quiescence| Arc::ptr_eq(quiescence, &self.quiescence));
        let gone = at.and_then(|at| quiescences.remove(at).ok());
        ANY_QUIESCENCE.store(!quiescences.is_empty(), Relaxed);
        drop(quiescences);
        drop(gone);
        self.quiescence.ended.complete_all();
    }
}

/// Returns a quiescence of the address space that `task` uses.
///
/// There must be a full barrier between the event that makes the caller look at the list, or makes
/// the walk of step 2 find `task`, and this call.
fn quiescence_of(task: &Task) -> Option<Arc<Quiescence>> {
    if !ANY_QUIESCENCE.load(Relaxed) {
        return None;
    }
    QUIESCENCES
        .lock()
        .iter()
        .find(|quiescence| task.uses(&quiescence.mm))
        .cloned()
}

/// Waits until there is no quiescence for the current thread, which is on its way to user mode, or
/// until the thread is killed.
///
/// If step 2 sets the flag before `resume_user_mode_work()` clears it, this sees the quiescence,
/// because a barrier follows the clearing there. If step 2 sets it afterwards, the flag leads the
/// thread here again.
pub(crate) fn wait_while_quiesced(task: &Task) {
    // Workers never go to user mode.
    if task.is_worker() {
        return;
    }
    while let Some(quiescence) = quiescence_of(task) {
        if quiescence.ended.wait_killable().is_err() {
            return;
        }
    }
}

/// Ensures that `child`, which has become visible and has not run, does not miss a quiescence.
pub(crate) fn clone_locked(child: &Task) {
    if child.is_worker() {
        return;
    }
    // Pairs with the barrier in `quiesce_mm`: either this sees the quiescence, or the walk there
    // sees `child`.
    smp_mb(Full);
    if quiescence_of(child).is_some() {
        child.notify_resume_later();
    }
}
