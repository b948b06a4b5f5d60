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
//! 2. Each thread gets `TIF_NOTIFY_RESUME`, without being woken. A thread born from here on gets
//!    it from its parent (`clone_locked`), which holds `tasklist_lock` for that as the walk does,
//!    so that none is missed. Workers, which never go to user mode, do not get it: they would keep
//!    it for ever, because they do not pass the gate.
//! 3. Each CPU on which one of them executes takes an interrupt, and this is waited for.
//!
//! Then every thread is in the kernel: one that was executing in user mode has been interrupted;
//! one that was not has the flag still before it. On the way out the flag leads it to
//! [`pass_gate`], where it waits until the gate is gone. A thread that clears the flag just before
//! step 2 looks at the list after that, or gets the flag again.
//!
//! SIGKILL gets through: a killed thread passes, and dies before it reaches user mode.
//!
//! The wait is in the exit path, where a thread holds no lock that the holder of a [`Quiesced`]
//! may need: `mmap_lock`, for one, may be held. What a thread of the process itself would have to
//! do, such as serve a userfaultfd or a FUSE mount, must not be waited for, nor memory be allocated
//! in a way that may wait for it.

use crate::active::activate;

use kernel::{
    cpumask::CpumaskVar,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    smp,
    static_key::Enabled,
    sync::{
        aref::ARef,
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
    _active: Enabled,
}

/// Waits until every thread that shares the memory of `task`'s process is out of user mode, as
/// [`quiesce_mm`] does.
///
/// # Errors
///
/// `ESRCH`: the process exits, or is the kernel's. `ENOMEM`.
pub fn quiesce(task: &Task) -> Result<Quiesced> {
    let mm = Group::of(task)
        .filter(|_| !task.is_kernel_thread())
        .and_then(|group| group.get_mm())
        .ok_or(ESRCH)?;
    quiesce_mm(&mm)
}

/// Waits until every thread that uses an address space is out of user mode, which takes an
/// interrupt at most, and keeps them out.
///
/// Several at a time, by several tasks, are possible; the threads resume after the last one.
///
/// Context: may sleep, for memory; must not be called from an interrupt, or with a spinlock held.
///
/// # Errors
///
/// `ENOMEM`.
pub fn quiesce_mm(mm: &MmWithUser) -> Result<Quiesced> {
    let mut running = CpumaskVar::new_zero(GFP_KERNEL)?;
    let active = activate();
    let gate = raise(mm)?;
    // From here on the drop of this takes the gate down, also on the way out by an error.
    //
    // INVARIANT: Step 1 is done. The value is not handed out before steps 2 and 3 are.
    let quiesced = Quiesced {
        gate,
        _active: active,
    };

    let guard = threads::tasklist();
    guard.for_each(|thread| {
        if thread.uses(mm) && !thread.is_worker() {
            thread.notify_resume();
            // Pairs with the barriers in `schedule()`: if the thread is not seen executing, it
            // sees the flag when it does.
            smp_mb(Full);
            if let Some(cpu) = thread.running_on() {
                running.set(cpu);
            }
        }
    });
    drop(guard);
    smp::interrupt_cpus(&running);
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
        drop(gates);
        drop(gone);
        self.gate.gone.complete_all();
    }
}

/// Returns a gate that `task` would have to pass.
fn gate_of(task: &Task) -> Option<Arc<Gate>> {
    GATES
        .lock()
        .iter()
        .find(|gate| task.uses(&gate.mm))
        .cloned()
}

/// Waits until no gate is raised for the current thread, which is on its way to user mode, or it
/// has been killed.
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

/// `child` becomes visible, under `tasklist_lock`: it must not miss a gate.
pub(crate) fn clone_locked(child: &Task) {
    if !child.is_worker() && gate_of(child).is_some() {
        child.notify_resume();
    }
}
