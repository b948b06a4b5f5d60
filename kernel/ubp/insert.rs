// SPDX-License-Identifier: GPL-2.0

//! Insertion of breakpoints into the text of a process, and their removal.

use crate::{
    area::XolSlot,
    breakpoint::{
        Breakpoint,
        BreakpointOwner,
        BreakpointState, //
    },
    space::{
        Changes,
        Space, //
    },
    text::{
        self,
        fault_in_to_read,
        Displaced,
        Restored,
        ThreadsStopped, //
    },
};

use kernel::{
    mm::{
        virt::VmaRef,
        write::MmapWrite,
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        tasks_trace,
        Arc, //
    },
    task::Task,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
};
use ubp_arch::{
    analyze,
    Mode,
    Plan,
    ProbedInsn,
    Refusal,
    Vaddr, //
};

/// A breakpoint that is inserted until [`Inserted::remove`].
///
/// Dropping it does not remove the breakpoint.
#[must_use = "a breakpoint stays until it is removed"]
pub struct Inserted {
    mm: ARef<Mm>,
    bp: Arc<Breakpoint>,
}

/// The reason why a breakpoint cannot be inserted.
#[derive(Clone, Copy, Debug)]
pub enum InsertError {
    /// The instruction cannot be probed.
    Refused(Refusal),
    /// Another error.
    Errno(Error),
}

impl From<Error> for InsertError {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

impl From<InsertError> for Error {
    fn from(refused: InsertError) -> Self {
        match refused {
            InsertError::Refused(refusal) => refusal.errno(),
            InsertError::Errno(error) => error,
        }
    }
}

fn decode(mmap: &MmapWrite<'_>, at: Vaddr) -> Result<ProbedInsn, InsertError> {
    let code = text::read(mmap, at)?;
    match analyze(code.as_bytes(), at, Mode::from_mm(mmap.mm())) {
        Err(Refusal::CutOff) => Err(code.cut_off()),
        analyzed => analyzed.map_err(InsertError::Refused),
    }
}

/// Checks whether [`insert`] could insert a breakpoint. An existing breakpoint of this crate is not
/// an error.
///
/// Context: may sleep.
pub fn check(mm: &MmWithUser, at: Vaddr) -> Result<(), InsertError> {
    loop {
        {
            let mmap = mm.mmap_write_lock_killable()?;
            if let Some(space) = Space::from_mm(mm) {
                let guard = tasks_trace::read_lock();
                if space.present(at, &guard).is_some() {
                    return Ok(());
                }
            }
            match decode(&mmap, at) {
                Err(InsertError::Errno(EAGAIN)) => (),
                decoded => return decoded.map(|_| ()),
            }
        }
        fault_in_to_read(mm, at)?;
    }
}

/// Inserts a breakpoint. Threads that execute the instruction at `at` call `owner`, at the latest
/// when this function has returned.
///
/// Context: may sleep; takes `mmap_lock`.
///
/// # Errors
///
/// `EINVAL`: the address is not executable memory of this process alone. `EEXIST`: there is a
/// breakpoint already, of this crate or a foreign one. `EPERM`: the instruction cannot be probed.
/// `EFAULT`: the text cannot be read, or ends within the instruction. `EINTR`: the caller has been
/// killed. `ENOMEM`. `EAGAIN`: the text must be faulted in first, with
/// [`fault_in`](crate::fault_in), or the program has changed it since it was decoded. `EBUSY`: a
/// `fork()` is making the address space. `ENOENT`: `is_wanted` does not hold for the mapping of the
/// address.
pub fn insert(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    owner: Arc<dyn BreakpointOwner>,
    is_wanted: impl FnOnce(&VmaRef) -> bool,
) -> Result<Inserted, InsertError> {
    if Space::is_copy(mm) {
        return Err(EBUSY.into());
    }
    let space = Space::get_or_create(mm)?;
    let mmap = mm.mmap_write_lock_killable()?;
    if mmap
        .vma_lookup(at.as_usize())
        .is_some_and(|vma| !is_wanted(vma))
    {
        return Err(ENOENT.into());
    }
    let changes = space.changes.lock();
    // The text may hold the `int3` of a breakpoint that could not be removed, or of a lost one,
    // which the program has put there with a copy of its text.
    let there = space.known(at, &tasks_trace::read_lock()).cloned();
    if let Some(bp) = there {
        if bp.state() != BreakpointState::Lost && !bp.is_abandoned() {
            return Err(EEXIST.into());
        }
        take_out(space, &mmap, &changes, mm, &bp)?;
    }
    let insn = decode(&mmap, at)?;
    let on_stack = text::text_vma(&mmap, at)?.is_growing_stack();
    let page = mmap.private_page(at.as_usize())?;
    let bp = Breakpoint::new(insn, owner, on_stack);
    let bp = Arc::new(bp, GFP_KERNEL).map_err(Error::from)?;
    if insn.plan().needs_slot() {
        make_slot(space, &mmap, &changes, &bp)?;
    } else if insn.plan().gains_by_slot() {
        // There may be no room near the text. The instruction is then emulated.
        let _ = make_slot(space, &mmap, &changes, &bp);
    }

    // A breakpoint that is still in the map at this address belongs to text that has gone.
    space.map.remove(at.as_usize());
    let armed = text::arm(
        space,
        &mmap,
        bp.insn(),
        page,
        || space.map.insert(at.as_usize(), bp.clone(), GFP_KERNEL),
        || ThreadsStopped::threads_of(space, mm),
    );
    if let Err(error) = armed {
        space.map.remove(at.as_usize());
        return Err(error.into());
    }
    Ok(Inserted {
        mm: ARef::from(&***mm),
        bp,
    })
}

/// Prepares the copy of an instruction, if there is none yet.
fn make_slot(
    space: &Space,
    mmap: &MmapWrite<'_>,
    changes: &Changes<'_>,
    bp: &Breakpoint,
) -> Result {
    let step = bp.insn().plan().step();
    if let (Some(step), None) = (step, bp.slot()) {
        bp.set_slot(XolSlot::new(space, mmap, changes, bp.insn(), step)?);
    }
    Ok(())
}

/// Prepares the copy of an instruction that has turned out to need one.
///
/// # Errors
///
/// `ENOENT`: the text has changed since. `EINTR`: the caller has been killed. `ENOMEM`.
#[cold]
pub(crate) fn make_slot_late(space: &Space, mm: &MmWithUser, bp: &Breakpoint) -> Result {
    let mmap = mm.mmap_write_lock_killable()?;
    let changes = space.changes.lock();
    match bp.state() {
        BreakpointState::Armed => make_slot(space, &mmap, &changes, bp),
        BreakpointState::Overwritten
        | BreakpointState::Stale
        | BreakpointState::Lost
        | BreakpointState::Removed => Err(ENOENT),
    }
}

impl Inserted {
    /// Returns how the displaced instruction is executed.
    pub fn plan(&self) -> Plan {
        self.bp.insn().plan().kind()
    }

    /// Returns the number of bytes of arguments that the displaced instruction pops, if it is a
    /// return instruction.
    pub fn return_release(&self) -> Option<usize> {
        self.bp.insn().return_release()
    }

    /// Removes the breakpoint and restores the text. Threads that have hit it before may still be
    /// calling its owner, until a Tasks Trace RCU grace period has elapsed.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// If the page is unavailable, the breakpoint stays, and threads still hit it and call its
    /// owner. The next hit for which the owner calls [`Hit::remove`](crate::Hit::remove) tries
    /// again, and so does [`insert`] at its address. `ENOMEM`: there was no memory for about a
    /// second, or until the caller was killed. The caller must not wait for longer, because the
    /// cgroup of the process may be full permanently, and the reference to the address space keeps
    /// its memory.
    pub fn remove(&self) -> Result {
        let Some(found) = self.mm.mmget_not_zero() else {
            return Ok(());
        };
        // The caller may hold locks that are needed when the last user of an address space goes.
        // Dropped after `mm`, so that this user never is the last one.
        let _user = MmWithUser::into_mmput_async(found.clone());
        let mm = found;
        let Some(space) = Space::from_mm(&mm) else {
            return Ok(());
        };
        let try_once = || {
            let mmap = mm.mmap_write_lock();
            let changes = space.changes.lock();
            take_out(space, &mmap, &changes, &mm, &self.bp)
        };
        let mut removed = try_once();
        let start = Instant::<Monotonic>::now();
        while removed == Err(ENOMEM) && start.elapsed() < MEMORY_WAIT && !Task::is_current_killed()
        {
            fsleep(Delta::from_millis(1));
            removed = try_once();
        }
        removed.inspect_err(|_| self.bp.abandon())
    }
}

/// The time for which [`Inserted::remove`] waits for memory.
const MEMORY_WAIT: Delta = Delta::from_secs(1);

/// Removes a breakpoint that cannot be resumed, so that the thread executes the instruction in its
/// place. The owner of the breakpoint gets no more hits.
pub(crate) fn disarm(space: &Space, mm: &MmWithUser, bp: &Arc<Breakpoint>) -> Result {
    let mm = ARef::from(mm);
    let mmap = mm.mmap_write_lock_killable()?;
    let changes = space.changes.lock();
    take_out(space, &mmap, &changes, &mm, bp)
}

/// Restores the text of a breakpoint, and removes the breakpoint from the map.
fn take_out(
    space: &Space,
    mmap: &MmapWrite<'_>,
    _changes: &Changes<'_>,
    mm: &ARef<MmWithUser>,
    bp: &Arc<Breakpoint>,
) -> Result {
    let at = bp.at();
    if let Some(displaced) = Displaced::new(bp) {
        let restored = text::restore(space, mmap, &displaced, || {
            ThreadsStopped::threads_of(space, mm)
        })?;
        bp.set_removed();
        if restored == Restored::Written && !is_page_probed(space, at) {
            text::give_back_page(mmap, at);
        }
    } else if bp.state() == BreakpointState::Overwritten {
        // The text at the address is a debugger's.
        bp.set_removed();
    }
    // If this breakpoint was removed, there may be another one at the address by now.
    let guard = tasks_trace::read_lock();
    let is_ours = space
        .map
        .get(at.as_usize(), &guard)
        .is_some_and(|other| Arc::ptr_eq(other, bp));
    drop(guard);
    if is_ours {
        space.map.remove(at.as_usize());
    }
    Ok(())
}

/// Returns whether there is an armed breakpoint in the page of an address.
pub(crate) fn is_page_probed(space: &Space, at: Vaddr) -> bool {
    let guard = tasks_trace::read_lock();
    let start = at.page().as_usize();
    let end = start.saturating_add(kernel::page::PAGE_SIZE);
    let probed = space.armed_in(start, end, &guard).next().is_some();
    probed
}

/// Removes each breakpoint within `start..end` whose text can be restored.
///
/// # Errors
///
/// The error for the first breakpoint that stays, as returned by `MmapWrite::own_page`. The caller
/// must not wait for memory, because it holds `mmap_lock`, and because the OOM killer may have
/// chosen the current thread, and the exit of this thread would free memory.
pub(crate) fn take_out_range(
    space: &Space,
    mmap: &MmapWrite<'_>,
    start: usize,
    end: usize,
) -> Result {
    let mm = ARef::from(mmap.mm());
    let changes = space.changes.lock();
    let mut next = start;
    let mut all = Ok(());
    loop {
        let there = space
            .known_in(next, end, &tasks_trace::read_lock())
            .next()
            .cloned();
        let Some(bp) = there else {
            return all;
        };
        next = bp.at().as_usize().saturating_add(1);
        all = all.and(take_out(space, mmap, &changes, &mm, &bp));
    }
}

/// Removes a stale or lost breakpoint after a thread has executed its `int3`, so that the thread
/// can continue with the text as it is.
pub(crate) fn take_out_executed(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr) -> Result {
    let changes = space.changes.lock();
    let there = space.known(at, &tasks_trace::read_lock()).cloned();
    match there {
        Some(bp) if matches!(bp.state(), BreakpointState::Stale | BreakpointState::Lost) => {
            take_out(space, mmap, &changes, &ARef::from(mmap.mm()), &bp)
        }
        _ => Ok(()),
    }
}
