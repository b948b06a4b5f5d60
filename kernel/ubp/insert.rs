// SPDX-License-Identifier: GPL-2.0

//! Inserting breakpoints into the text of a process, and taking them out.

use crate::{
    access,
    area::Slot,
    breakpoint::{
        Breakpoint,
        OnHit,
        State, //
    },
    private_text::{
        self,
        fault_in_to_read,
        Code,
        Displaced,
        Restored,
        Stopped, //
    },
    space::Space,
};

use kernel::{
    mm::{
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
    Insn,
    Mode,
    PlanKind,
    Refusal,
    Vaddr, //
};

/// A breakpoint that has been inserted, until [`Inserted::remove`].
///
/// Dropping it leaves the breakpoint where it is.
#[must_use = "a breakpoint stays until it is removed"]
pub struct Inserted {
    mm: ARef<Mm>,
    bp: Arc<Breakpoint>,
}

/// Why a breakpoint cannot be inserted.
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    /// Because of the instruction.
    Insn(Refusal),
    /// For another reason.
    Errno(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Insn(refusal) => refusal.errno(),
            Refused::Errno(error) => error,
        }
    }
}

/// Reads the instruction at an address as the program has it: without the breakpoints that are in
/// it, or follow it closely.
fn read_original(mmap: &MmapWrite<'_>, at: Vaddr) -> Result<Code> {
    let mut code = private_text::read(mmap, at)?;
    if let Some(space) = Space::of(mmap.mm()) {
        access::hide(space, at.as_usize(), code.as_mut_bytes());
    }
    Ok(code)
}

fn decode(mmap: &MmapWrite<'_>, at: Vaddr) -> Result<Insn, Refused> {
    private_text::text_vma(mmap, at)?;
    let code = read_original(mmap, at)?;
    match analyze(code.as_bytes(), at, Mode::of_mm(mmap.mm())) {
        Err(Refusal::CutOff) => Err(code.cut_off()),
        analyzed => analyzed.map_err(Refused::Insn),
    }
}

/// Says whether a breakpoint could be inserted, as [`insert`] does. Whether there is a breakpoint
/// of this crate already makes no difference.
///
/// Context: may sleep.
pub fn check(mm: &MmWithUser, at: Vaddr) -> Result<(), Refused> {
    loop {
        {
            let mmap = mm.mmap_write_lock_killable()?;
            if let Some(space) = Space::of(mm) {
                let guard = tasks_trace::read_lock();
                if space.present(at, &guard).is_some() {
                    return Ok(());
                }
            }
            match decode(&mmap, at) {
                Err(Refused::Errno(EAGAIN)) => (),
                decoded => return decoded.map(|_| ()),
            }
        }
        fault_in_to_read(mm, at)?;
    }
}

/// Inserts a breakpoint. From when it returns, at the latest, threads that execute the instruction
/// at `at` call `owner`.
///
/// Context: may sleep; takes `mmap_lock`.
///
/// # Errors
///
/// `EINVAL`: the address is not executable memory of this process alone. `EEXIST`: there is a
/// breakpoint, this crate's or another's. `EPERM`: the instruction cannot be probed. `EFAULT`: the
/// text cannot be read, or ends within the instruction. `EINTR`: the caller has been killed.
/// `ENOMEM`. `EAGAIN`: the text must be faulted in first, with [`fault_in`](crate::fault_in), or
/// the program has changed it since it was decoded.
pub fn insert(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    owner: Arc<dyn OnHit>,
) -> Result<Inserted, Refused> {
    let space = Space::get_or_create(mm)?;
    let mmap = mm.mmap_write_lock_killable()?;
    let _changes = space.changes.lock();
    let there = space.present(at, &tasks_trace::read_lock()).cloned();
    if let Some(bp) = there {
        if !bp.is_abandoned() {
            return Err(EEXIST.into());
        }
        take_out(space, &mmap, mm, &bp)?;
    }
    heal(space, &mmap, mm, at)?;
    let insn = decode(&mmap, at)?;
    let on_stack = private_text::text_vma(&mmap, at)?.is_growing_stack();
    let page = mmap.private_page(at.as_usize())?;
    let bp = Breakpoint::new(insn, owner, on_stack);
    let bp = Arc::new(bp, GFP_KERNEL).map_err(Error::from)?;
    if insn.plan().needs_slot() {
        make_slot(space, &mmap, &bp)?;
    } else if insn.plan().gains_by_slot() {
        // There may be no room near the text. Then it is emulated.
        let _ = make_slot(space, &mmap, &bp);
    }

    // What may be in the map at this address is of text that is gone.
    space.map.remove(at.as_usize());
    let armed = private_text::arm(
        space,
        &mmap,
        bp.insn(),
        page,
        || space.map.insert(at.as_usize(), bp.clone(), GFP_KERNEL),
        || Stopped::threads_of(space, mm),
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

/// Prepares the copy of an instruction, if there is none yet. `changes` is held.
fn make_slot(space: &Space, mmap: &MmapWrite<'_>, bp: &Breakpoint) -> Result {
    let step = bp.insn().plan().step();
    if let (Some(step), None) = (step, bp.slot()) {
        bp.set_slot(Slot::new(space, mmap, bp.insn(), step)?);
    }
    Ok(())
}

/// Prepares the copy of an instruction that has turned out to need one.
///
/// # Errors
///
/// `ENOENT`: the text holds something else by now. `EINTR`: the caller has been killed. `ENOMEM`.
#[cold]
pub(crate) fn make_slot_late(space: &Space, mm: &MmWithUser, bp: &Breakpoint) -> Result {
    let mmap = mm.mmap_write_lock_killable()?;
    let _changes = space.changes.lock();
    match bp.state() {
        State::Armed => make_slot(space, &mmap, bp),
        State::Covered | State::Outdated | State::Lost | State::Gone => Err(ENOENT),
    }
}

impl Inserted {
    /// Returns how the displaced instruction is executed.
    pub fn plan(&self) -> PlanKind {
        self.bp.insn().plan().kind()
    }

    /// Takes the breakpoint out. Threads that have hit it before may still be calling its owner;
    /// a Tasks Trace RCU grace period later none does.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// If the page cannot be had, the breakpoint stays, which gets hit and calls its owner. The
    /// next hit for which that calls [`Hit::remove`](crate::Hit::remove) tries again, and so does
    /// [`insert`] at its address. `ENOMEM`: there was no memory for about a second, or until the
    /// caller was killed. The caller must not wait for longer, because the cgroup of the process
    /// may be full for good, and the reference to the address space keeps its memory.
    pub fn remove(&self) -> Result {
        let Some(mm) = self.mm.mmget_not_zero() else {
            return Ok(());
        };
        let Some(space) = Space::of(&mm) else {
            return Ok(());
        };
        let try_once = || {
            let mmap = mm.mmap_write_lock();
            let _changes = space.changes.lock();
            take_out(space, &mmap, &mm, &self.bp)
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

/// How long [`Inserted::remove`] waits for memory.
const MEMORY_WAIT: Delta = Delta::from_secs(1);

/// Takes out a breakpoint that cannot be resumed: the thread then executes the instruction in its
/// place. Whoever owns the breakpoint gets no more hits.
pub(crate) fn disarm(space: &Space, mm: &MmWithUser, bp: &Arc<Breakpoint>) -> Result {
    let mm = ARef::from(mm);
    let mmap = mm.mmap_write_lock_killable()?;
    let _changes = space.changes.lock();
    take_out(space, &mmap, &mm, bp)
}

/// Restores the text of a breakpoint, and removes it from the map. `changes` is held.
fn take_out(
    space: &Space,
    mmap: &MmapWrite<'_>,
    mm: &ARef<MmWithUser>,
    bp: &Arc<Breakpoint>,
) -> Result {
    let at = bp.at();
    if let Some(displaced) = Displaced::new(bp) {
        let restored =
            private_text::restore(space, mmap, &displaced, || Stopped::threads_of(space, mm))?;
        bp.set_gone();
        if restored == Restored::Written && !is_page_probed(space, at) {
            private_text::give_back_page(mmap, at);
        }
    } else if bp.state() == State::Covered {
        // What is there is a debugger's.
        bp.set_gone();
    }
    // There may be another breakpoint by now, if this one was gone.
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

/// Returns whether there is a breakpoint in the page of an address.
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
/// That of the first one that stays, as of `MmapWrite::own_page`. The caller must not wait for
/// memory, because it holds `mmap_lock`, and because the OOM killer may have chosen the current
/// thread, whose exit would give memory back.
pub(crate) fn take_out_range(
    space: &Space,
    mmap: &MmapWrite<'_>,
    start: usize,
    end: usize,
) -> Result {
    let mm = ARef::from(mmap.mm());
    let _changes = space.changes.lock();
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
        all = all.and(take_out(space, mmap, &mm, &bp));
    }
}

/// A thread has executed the `int3` of a breakpoint that takes no hits: takes it out, if that is
/// why, so that the thread can go on with the text as it is.
pub(crate) fn take_out_executed(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr) -> Result {
    let _changes = space.changes.lock();
    let there = space.known(at, &tasks_trace::read_lock()).cloned();
    match there {
        Some(bp) if matches!(bp.state(), State::Outdated | State::Lost) => {
            take_out(space, mmap, &ARef::from(mmap.mm()), &bp)
        }
        _ => Ok(()),
    }
}

/// Restores the text where the program has put a copy of text with a breakpoint, which has lost the
/// original text. `changes` is held.
fn heal(space: &Space, mmap: &MmapWrite<'_>, mm: &ARef<MmWithUser>, at: Vaddr) -> Result {
    let there = space.known(at, &tasks_trace::read_lock()).cloned();
    match there {
        Some(bp) if bp.state() == State::Lost => take_out(space, mmap, mm, &bp),
        _ => Ok(()),
    }
}
