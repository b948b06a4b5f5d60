// SPDX-License-Identifier: GPL-2.0

//! Keeping every thread that shares a process's memory out of user mode.
//!
//! A thread is quiesced if it is in the kernel and cannot leave without passing the gate. What a
//! thread does in the kernel meanwhile is no matter: one that sleeps in a system call is left
//! asleep, so that no call returns `EINTR` because of this.
//!
//! # Protocol
//!
//! 1. The gate is put in the list.
//! 2. Each thread that uses the address space gets `TIF_NOTIFY_RESUME`, without being woken or
//!    interrupted. The walk holds RCU only. Of a thread that becomes visible, and then looks at the
//!    list (`clone_locked`), and of this walk, which comes after the gate was put in the list, one
//!    sees the other.
//! 3. Each CPU is looked at, with its run queue locked. One that executes such a thread takes an
//!    interrupt, and this is waited for. On one that does not, a thread that is switched to later
//!    sees its flag, because the lock orders the switch after step 2.
//!
//! Then every thread is in the kernel: one that was executing in user mode has been interrupted;
//! one that was not has the flag still before it. On the way out the flag leads it to
//! [`pass_gate`], where it waits until the gate is gone. A thread that clears the flag just before
//! step 2 looks at the list after that, or gets the flag again.
//!
//! Workers, which use an address space but never go to user mode, are left alone: nothing would
//! clear the flag of a kernel thread.
//!
//! SIGKILL gets through: a killed thread passes, and dies before it reaches user mode.
//!
//! The wait is in the exit path, where a thread holds no lock that the holder of a [`Quiesced`]
//! may need: `mmap_lock`, for one, may be held. What a thread of the process itself would have to
//! do, such as serve a userfaultfd or a FUSE mount, must not be waited for, nor memory be allocated
//! in a way that may wait for it.

use crate::{
    active::Active,
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

/// A process whose threads are kept out of user mode.
#[pin_data]
struct Gate {
    mm: ARef<Mm>,
    #[pin]
    gone: Completion,
}

// Taken with `siglock` held, which interrupts take too: hence with interrupts disabled.
kernel::sync::global_lock! {
    // SAFETY: `init` is called before anything else can reach the list.
    unsafe(uninit) static GATES: SpinLockIrq<KVec<Arc<Gate>>> = KVec::new();
}

/// Whether there are gates in the list. Changed with the list locked.
///
/// Each `clone()`, and each return to user mode with `TIF_NOTIFY_RESUME` set, looks at this before
/// it takes the lock.
static ANY_GATE: Atomic<bool> = Atomic::new(false);

/// Initialises the list of gates.
///
/// # Safety
///
/// Called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: By the requirement on the caller.
    unsafe { GATES.init() };
}

/// Evidence that every thread that uses an address space is in the kernel, and stays there for as
/// long as this lives. The holder itself, if it is such a thread, is in the kernel too.
///
/// # Invariants
///
/// The gate is in the list, and steps 1 to 3 of the protocol have been done.
#[must_use = "if unused, the threads resume at once"]
pub struct Quiesced {
    gate: Arc<Gate>,
    _active: Active,
}

/// Waits until every thread that shares the memory of `task`'s process is out of user mode, as
/// [`quiesce_mm`] does.
///
/// Context: as of [`Active::new`].
///
/// # Errors
///
/// `ESRCH`: the process exits, or is the kernel's. `ENOMEM`.
pub fn quiesce(task: &Task) -> Result<Quiesced> {
    let active = Active::new();
    let group = Group::of(task)
        .filter(|_| !task.is_kernel_thread())
        .ok_or(ESRCH)?;
    let mm = group.get_mm().ok_or(ESRCH)?;
    quiesce_mm(Users::new(&mm, Some(&group)), &active)
}

/// Waits until every thread that uses an address space is out of user mode, which takes an
/// interrupt at most, and keeps them out.
///
/// Several at a time, by several tasks, are possible; the threads resume after the last one.
///
/// Context: may sleep, for memory; must not be called from an interrupt, or with a spinlock held.
/// `mmap_lock` may be held.
///
/// # Errors
///
/// `ENOMEM`.
pub fn quiesce_mm(users: Users<'_>, active: &Active) -> Result<Quiesced> {
    let mut executing = CpumaskVar::new_zero(GFP_KERNEL)?;
    let active = active.try_clone()?;
    let gate = raise(users.mm())?;
    // From here on the drop of this takes the gate down.
    //
    // INVARIANT: Step 1 is done. The value is not handed out before steps 2 and 3 are.
    let quiesced = Quiesced {
        gate,
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

/// Step 1.
fn raise(mm: &MmWithUser) -> Result<Arc<Gate>> {
    let gate = Arc::pin_init(
        pin_init!(Gate {
            mm: ARef::from(&**mm),
            gone <- Completion::new(),
        }),
        GFP_KERNEL,
    )?;
    let mut reserve: KVec<Arc<Gate>> = KVec::new();
    loop {
        let mut gates = GATES.lock();
        if gates.push_within_capacity(gate.clone()).is_ok() {
            ANY_GATE.store(true, Relaxed);
            return Ok(gate);
        }
        // The list grows outside of the lock, and never shrinks.
        if reserve.capacity() > gates.len() {
            for old in gates.drain_all() {
                // There is room: the capacity was compared.
                let _ = reserve.push_within_capacity(old);
            }
            core::mem::swap(&mut *gates, &mut reserve);
            continue;
        }
        let wanted = gates.len().wrapping_add(4).wrapping_mul(2);
        drop(gates);
        reserve.reserve(wanted, GFP_KERNEL)?;
    }
}

impl Quiesced {
    /// Returns the address space whose users are out of user mode.
    pub fn mm(&self) -> &Mm {
        &self.gate.mm
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        let mut gates = GATES.lock();
        let at = gates.iter().position(|gate| Arc::ptr_eq(gate, &self.gate));
        let gone = at.and_then(|at| gates.remove(at).ok());
        ANY_GATE.store(!gates.is_empty(), Relaxed);
        drop(gates);
        drop(gone);
        self.gate.gone.complete_all();
    }
}

/// Returns a gate that `task` would have to pass.
///
/// The caller has a full barrier between what tells it to look, or tells the walk of step 2 of
/// `task`, and this.
fn gate_of(task: &Task) -> Option<Arc<Gate>> {
    if !ANY_GATE.load(Relaxed) {
        return None;
    }
    GATES
        .lock()
        .iter()
        .find(|gate| task.uses(&gate.mm))
        .cloned()
}

/// Waits until no gate is raised for the current thread, which is on its way to user mode, or it
/// has been killed.
///
/// If step 2 sets the flag before `resume_user_mode_work()` clears it, this sees the gate, because
/// of the barrier there behind the clearing; if after, the flag leads the thread here again.
pub(crate) fn pass_gate(task: &Task) {
    // A worker that never goes to user mode has nothing to wait for.
    if task.is_worker() {
        return;
    }
    while let Some(gate) = gate_of(task) {
        if gate.gone.wait_killable().is_err() {
            return;
        }
    }
}

/// `child` has become visible, and has not run: it must not miss a gate.
pub(crate) fn clone_locked(child: &Task) {
    if child.is_worker() {
        return;
    }
    // Pairs with the barrier in `quiesce_mm`: either the gate is seen here, or `child` there.
    smp_mb(Full);
    if gate_of(child).is_some() {
        child.notify_resume_later();
    }
}
