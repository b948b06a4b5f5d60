// SPDX-License-Identifier: GPL-2.0

//! Noticing that functions return whose size is not known.
//!
//! Nothing that belongs to the program is changed: neither return addresses on stacks, nor shadow
//! stacks. When a thread enters the function, it is noted where on the stack the return address is
//! ([`Frame`]). That the function returns is noticed by breakpoints, with this process's
//! [`Returns`] as their client, of two kinds:
//!
//! - At the *exits*, the return instructions that [`ubp::explore`] has found when the probe was
//!   registered. A thread that is about to execute one, with the stack pointer at the place that
//!   was noted, returns from the function.
//! - If there may be others than those that were found, also at the *site*: the address that is
//!   returned to, as it is on the stack at the entry. A thread that comes there with the stack
//!   pointer just above the place has returned from the function; or it has left it before in
//!   another way, and comes by a jump.
//!
//! The breakpoints stay for as long as the process has return probes.
//!
//! What is noted belongs to the stack, not to the thread: a coroutine may go on in another thread.
//! What was called and has not returned, as after `longjmp()`, an exception, or the death of the
//! thread, is found out by the place on the stack being used for another call.
//!
//! # What is noticed, and what not
//!
//! - A function that ends by jumping to another one (a tail call) returns when that returns.
//! - If the stack has been moved meanwhile, as Go's are, the return is not noticed.
//! - If not all exits are known, and a function was left by an exception or `longjmp()`, or its
//!   thread ended in it, and a thread then comes to where it would have returned to, with the same
//!   stack pointer, by a jump or from another function, then that is taken for its return.
//!
//! Where the size of the function is known, none of this is needed: see [`crate::client::Spot`].
//!
//! # Locks
//!
//! `Returns::client`, a mutex, is held while a breakpoint is added, so that none is added after the
//! last return probe has gone. The state of probepoints nests inside.

use crate::{
    client::{
        Client,
        Returning, //
    },
    clients::{
        Entry,
        Role, //
    },
    frames::{
        Frame,
        Frames, //
    },
    probe::Probe,
    probepoint::{
        self,
        Probepoint, //
    },
};

use kernel::{
    insn::Mode,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::{
            self,
            Guard,
            Map, //
        },
        Arc,
        Mutex, //
    },
    threads::ThreadGroup,
    uaccess::UserPtr,
    user_thread, //
};
use ubp::{
    Explored,
    Vaddr, //
};

/// An address where a function may be noticed to return.
#[derive(Clone)]
enum Place {
    Probed(Arc<Probepoint>),
    /// There can be no breakpoint.
    Refused,
}

impl Place {
    /// Takes the probe with this number out.
    fn take_out(&self, id: u64) {
        if let Self::Probed(probepoint) = self {
            probepoint.retain(|entry| entry.probe.id != id);
        }
    }
}

/// A function that has return probes.
struct Function {
    probepoint: Arc<Probepoint>,
    exits: KVec<Vaddr>,
    /// Whether it has no others.
    complete: bool,
}

/// The return probes of a process.
#[pin_data]
pub(crate) struct Returns {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// By their addresses.
    #[pin]
    functions: Map<Function>,
    #[pin]
    places: Map<Place>,
    #[pin]
    frames: Frames,
    /// Whether there are, or were, functions that are noticed where they return to. Set before the
    /// first call of one can be noted.
    has_sites: Atomic<bool>,
    /// What the places are registered as; nothing when the last return probe has gone.
    #[pin]
    client: Mutex<Option<Arc<Probe>>>,
}

/// Called at the places.
struct AtPlace(Arc<Returns>);

impl Client for AtPlace {
    fn hit(&self, regs: &mut PtRegs) {
        self.0.came_to(regs);
    }
}

impl Returns {
    pub(crate) fn new(group: ThreadGroup, mm: &Mm) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            try_pin_init!(Self {
                group,
                mm: ARef::from(mm),
                functions <- Map::new(),
                places <- Map::new(),
                frames <- Frames::new(),
                has_sites: Atomic::new(false),
                client <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let probe = Probe::internal(Arc::new(AtPlace(this.clone()), GFP_KERNEL)?)?;
        probe.go_live();
        *this.client.lock() = Some(probe);
        Ok(this)
    }

    /// Takes all breakpoints out: no return is noticed any more.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        let Some(probe) = self.client.lock().take() else {
            return;
        };
        probe.silence();
        let guard = tasks_trace::read_lock();
        for (_, place) in self.places.range(0..=usize::MAX, &guard) {
            place.take_out(probe.id);
        }
    }

    /// From now on calls of the function at a probepoint are expected to return.
    pub(crate) fn add_function(&self, mm: &MmWithUser, probepoint: &Arc<Probepoint>) -> Result {
        let at = probepoint.at.as_usize();
        let known = |guard: &Guard| {
            let function = self.functions.get(at, guard);
            function.is_some_and(|it| Arc::ptr_eq(&it.probepoint, probepoint))
        };
        if known(&tasks_trace::read_lock()) {
            return Ok(());
        }
        let Explored {
            exits,
            mut complete,
        } = ubp::explore(mm, probepoint.at)?;
        for exit in &exits {
            // Those that cannot be probed are noticed by where they return to.
            complete &= self.add_place(mm, *exit).is_ok();
        }
        if !complete {
            self.has_sites.store(true, Relaxed);
        }
        let function = Function {
            probepoint: probepoint.clone(),
            exits,
            complete,
        };
        let _changes = self.client.lock();
        if known(&tasks_trace::read_lock()) {
            return Ok(());
        }
        // One that is there is of text that has gone.
        self.functions.remove(at);
        self.functions.insert(at, function, GFP_KERNEL)
    }

    /// The current thread, whose registers are `regs`, enters the function at `function`, which has
    /// return probes up to `newest`.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// Its return will not be noticed.
    #[inline]
    pub(crate) fn expect(&self, function: usize, newest: u64, regs: &PtRegs) -> Result {
        let slot = regs.sp();
        let site = return_address(regs)?;
        let guard = tasks_trace::read_lock();
        let by_exit = self.functions.get(function, &guard).ok_or(ENOENT)?.complete;
        if !by_exit && !self.has_place(site, &guard)? {
            let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
            self.add_place(&mm, Vaddr::new(site))?;
        }
        self.frames.push(Frame {
            slot,
            site,
            function,
            newest,
            by_exit,
        })
    }

    /// Whether there is a breakpoint at an address; an error if there can be none.
    #[inline]
    fn has_place(&self, at: usize, guard: &Guard) -> Result<bool> {
        match self.places.get(at, guard) {
            Some(Place::Probed(probepoint)) => Ok(!probepoint.is_gone()),
            Some(Place::Refused) => Err(EPERM),
            None => Ok(false),
        }
    }

    #[cold]
    fn add_place(&self, mm: &MmWithUser, at: Vaddr) -> Result {
        let client = self.client.lock();
        let probe = client.as_ref().ok_or(ESRCH)?;
        if self.has_place(at.as_usize(), &tasks_trace::read_lock())? {
            return Ok(());
        }
        // One that is there has gone with its text, and there is another text by now.
        self.places.remove(at.as_usize());
        let entry = Entry::new(probe.clone(), self.group, Role::Hit(None));
        let (place, result) = match probepoint::place(mm, at, &entry) {
            Ok(probepoint) => (Place::Probed(probepoint), Ok(())),
            // These may not be so the next time.
            Err(error) if matches!(error, ENOMEM | EINTR | EAGAIN) => return Err(error),
            Err(error) => (Place::Refused, Err(error)),
        };
        let id = probe.id;
        self.places
            .insert(at.as_usize(), place.clone(), GFP_KERNEL)
            .inspect_err(|_| place.take_out(id))?;
        result
    }

    /// The current thread has come to a place.
    #[inline]
    fn came_to(&self, regs: &mut PtRegs) {
        let at = regs.ip();
        let Some(mode) = Mode::of(regs) else { return };
        let guard = tasks_trace::read_lock();
        // Those that were entered last return first; a tail call leaves several in one place. What
        // has returned to here comes before what is going to return from here.
        let top = regs.sp().wrapping_sub(word_size(mode));
        if self.has_sites.load(Relaxed) {
            while let Some(frame) = self.pop_returned(mode, top, at) {
                self.tell(&frame, (Returning::To, at), regs, &guard);
            }
        }
        let is_exit = |frame: &Frame| {
            let function = self.functions.get(frame.function, &guard);
            let at = Vaddr::new(at);
            function.is_some_and(|function| function.exits.iter().any(|exit| *exit == at))
        };
        while let Some(frame) = self.frames.pop(regs.sp(), is_exit) {
            self.tell(&frame, (Returning::From, at), regs, &guard);
        }
    }

    fn tell(&self, frame: &Frame, at: (Returning, usize), regs: &mut PtRegs, guard: &Guard) {
        if let Some(function) = self.functions.get(frame.function, guard) {
            let probepoint = &function.probepoint;
            probepoint.returned(self.group, frame.newest, at, regs, guard);
        }
    }

    /// Takes out the call from which the current thread has returned, whose stack pointer is just
    /// above `top`.
    #[inline]
    fn pop_returned(&self, mode: Mode, top: usize, site: usize) -> Option<Frame> {
        let returns_here = |frame: &Frame| frame.site == site && !frame.by_exit;
        self.frames
            .pop(top, returns_here)
            .or_else(|| self.pop_below(mode, top, site))
    }

    /// Functions that take their arguments off the stack leave the stack pointer further up: those
    /// of 32-bit code that return a structure, and those of some compilers at run time. The return
    /// address is still where it was, as nothing has been pushed since.
    fn pop_below(&self, mode: Mode, top: usize, site: usize) -> Option<Frame> {
        let returns_here = |frame: &Frame| frame.site == site && !frame.by_exit;
        let lowest = top.saturating_sub(MAX_TAKEN_OFF);
        let slot = self.frames.highest(top, lowest, returns_here)?;
        if read_word(slot, mode) != Ok(site) {
            return None;
        }
        self.frames.pop(slot, returns_here)
    }
}

/// Bytes of arguments that a function may take off the stack for its return to be noticed.
const MAX_TAKEN_OFF: usize = 512;

#[inline]
fn word_size(mode: Mode) -> usize {
    match mode {
        Mode::Bits32 => size_of::<u32>(),
        Mode::Bits64 => size_of::<usize>(),
    }
}

/// Reads a word of the current thread's stack.
#[inline]
fn read_word(at: usize, mode: Mode) -> Result<usize> {
    let ptr = UserPtr::from_addr(at);
    Ok(match mode {
        Mode::Bits32 => user_thread::read_u32(ptr)? as usize,
        Mode::Bits64 => user_thread::read_u64(ptr)? as usize,
    })
}

/// Returns what is on the top of the current thread's stack.
pub(crate) fn return_address(regs: &PtRegs) -> Result<usize> {
    read_word(regs.sp(), Mode::of(regs).ok_or(EINVAL)?)
}

/// Returns whether a frame may still be there: its place on the stack holds its return address.
///
/// Context: may sleep. The current thread is of the process.
pub(crate) fn may_be_alive(frame: &Frame) -> bool {
    let is_32bit = |mm: &MmWithUser| Mode::of_mm(mm) == Mode::Bits32;
    let mode = match kernel::current!().mm() {
        Some(mm) if is_32bit(mm) => Mode::Bits32,
        _ => Mode::Bits64,
    };
    read_word(frame.slot, mode) == Ok(frame.site)
}
