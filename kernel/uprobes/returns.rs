// SPDX-License-Identifier: GPL-2.0

//! Noticing that functions return whose size is not known.
//!
//! Nothing that belongs to the program is changed: neither return addresses on stacks, nor shadow
//! stacks. When a thread enters the function, it is noted where on the stack the return address is
//! ([`Frame`]). That the function returns is noticed by breakpoints at places of two kinds:
//!
//! - At the *exits*, the return instructions that [`ubp::explore`] has found when the probe was
//!   registered. A thread that is about to execute one, with the stack pointer at the place that
//!   was noted, returns from the function.
//! - If there may be others than those that were found, also at the *site*: the address that is
//!   returned to, as it is on the stack at the entry. A thread that comes there with the stack
//!   pointer just above the place has returned from the function; or it has left it before in
//!   another way, and comes by a jump.
//!
//! The breakpoints stay for as long as the process has return probes. In the lists of clients, a
//! [`Place`](crate::places::Place) stands for those of the functions that return there.
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

use crate::{
    client::Returning,
    frames::{
        Frame,
        Frames, //
    },
    places::{
        Kind,
        Place,
        Places, //
    },
    probepoint::Probepoint,
    BUILT_IN, //
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

/// A function that has return probes.
pub(crate) struct Function {
    probepoint: Arc<Probepoint>,
    /// In the order of addresses.
    exits: KVec<Vaddr>,
}

impl Function {
    /// Whether it is at an address, and its text has not gone.
    #[inline(always)]
    pub(crate) fn is_at(&self, entry: usize) -> bool {
        self.probepoint.at.as_usize() == entry && !self.probepoint.is_gone()
    }
}

/// Whether all exits of a function are known, and have breakpoints.
///
/// ```text
///   Unknown ---> All ---> Some
///      |                   ^
///      +-------------------+
/// ```
///
/// Several processes may share the text; they find the same exits, but not all may have found
/// memory for their breakpoints. Once there are but some for one, returns are also noticed by where
/// they go to.
pub(crate) struct Exits(Atomic<i32>);

impl Exits {
    const UNKNOWN: i32 = 0;
    const ALL: i32 = 1;
    const SOME: i32 = 2;

    pub(crate) const fn new() -> Self {
        Self(Atomic::new(Self::UNKNOWN))
    }

    /// Whether no return can be noticed but at an exit.
    #[inline(always)]
    fn are_all_known(&self) -> bool {
        self.0.load(Relaxed) == Self::ALL
    }

    fn set(&self, complete: bool) {
        if complete {
            let _ = self.0.cmpxchg(Self::UNKNOWN, Self::ALL, Relaxed);
        } else {
            self.0.store(Self::SOME, Relaxed);
        }
    }
}

/// The function that a thread enters.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) at: usize,
    pub(crate) exits: &'a Exits,
}

impl Here<'_> {
    /// What is noted of a call by the current thread.
    #[inline(always)]
    fn frame(&self, newest: u64, regs: &PtRegs) -> Result<Frame> {
        Ok(Frame {
            slot: regs.sp(),
            site: return_address(regs)?,
            function: self.at,
            newest,
        })
    }
}

/// A function that has been called, and the newest of the probes that are to be told.
type Called<'a> = (&'a Function, u64);

/// The return probes of a process.
#[pin_data]
pub(crate) struct Returns {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// By their addresses.
    #[pin]
    functions: Map<Arc<Function>>,
    #[pin]
    places: Places,
    #[pin]
    frames: Frames,
    /// Held while a function is added.
    #[pin]
    adding: Mutex<()>,
}

impl Returns {
    pub(crate) fn new(group: ThreadGroup, mm: &Mm) -> Result<Arc<Self>> {
        let places = Places::new(group)?;
        Arc::pin_init(
            try_pin_init!(Self {
                group,
                mm: ARef::from(mm),
                functions <- Map::new(BUILT_IN),
                places <- places,
                frames <- Frames::new(),
                adding <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    /// No return is noticed any more.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    /// From now on calls of the function at a probepoint are expected to return, by the exits that
    /// `explored` has.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the text of an exit is absent; see
    /// [`probepoint::place`](crate::probepoint::place). `ENOMEM`.
    pub(crate) fn add_function(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        probepoint: &Arc<Probepoint>,
        explored: &Explored,
    ) -> Result {
        let at = probepoint.at.as_usize();
        let known = |guard: &Guard| {
            let function = self.functions.get(at, guard);
            function.is_some_and(|it| Arc::ptr_eq(&it.probepoint, probepoint))
        };
        if known(&tasks_trace::read_lock()) {
            return Ok(());
        }
        let mut exits = KVec::new();
        exits.extend_from_slice(&explored.exits, GFP_KERNEL)?;
        exits.sort_unstable();
        let mut complete = explored.complete;
        for exit in &exits {
            match self.places.add(self, mm, *exit, Kind::Exit) {
                Ok(()) => (),
                Err(EAGAIN) => return Err(EAGAIN),
                // Returns by an exit that cannot be probed are noticed by where they return to.
                Err(_) => complete = false,
            }
        }
        let function = Function {
            probepoint: probepoint.clone(),
            exits,
        };
        let function = Arc::new(function, GFP_KERNEL)?;
        let _adding = self.adding.lock();
        if known(&tasks_trace::read_lock()) {
            return Ok(());
        }
        for exit in &function.exits {
            self.places.set_function(*exit, &function)?;
        }
        // Before others find it in the map, who do not wait for the lock.
        probepoint.exits().set(complete);
        // One that is there is of text that has gone.
        self.functions.remove(at);
        self.functions.insert(at, function, GFP_KERNEL)
    }

    /// The current thread, whose registers are `regs`, enters the function `here`, which has
    /// return probes up to `newest`.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// Its return will not be noticed.
    // Where more is to be done than to take a seat, this begins anew, so that nothing need be kept
    // for that.
    #[inline(always)]
    pub(crate) fn expect(
        self: &Arc<Self>,
        here: Here<'_>,
        newest: u64,
        regs: &PtRegs,
        guard: &Guard,
    ) -> Result {
        let frame = here.frame(newest, regs)?;
        if here.exits.are_all_known() && self.frames.take_seat(frame, guard) {
            return Ok(());
        }
        self.expect_otherwise(here, newest, regs, guard)
    }

    #[inline(never)]
    fn expect_otherwise(
        self: &Arc<Self>,
        here: Here<'_>,
        newest: u64,
        regs: &PtRegs,
        guard: &Guard,
    ) -> Result {
        let frame = here.frame(newest, regs)?;
        if !here.exits.are_all_known() {
            self.need_site(frame.site, guard)?;
        }
        self.frames.push(frame, guard)
    }

    /// What has been called with a frame, if it has an exit at `at`, where `place` is, which mostly
    /// knows it.
    #[inline(always)]
    fn left_by<'a>(
        &'a self,
        place: &'a Place,
        at: usize,
        frame: &Frame,
        guard: &'a Guard,
    ) -> Option<Called<'a>> {
        let function = match place.function_at(frame.function, guard) {
            Some(function) => function,
            None => self.function_with_exit(frame.function, Vaddr::new(at), guard)?,
        };
        Some((function, frame.newest))
    }

    /// The function at `entry`, if it has that exit.
    #[inline(never)]
    fn function_with_exit<'a>(
        &'a self,
        entry: usize,
        exit: Vaddr,
        guard: &'a Guard,
    ) -> Option<&'a Function> {
        let function = self.functions.get(entry, guard)?;
        let is_exit = function.exits.binary_search(&exit).is_ok();
        is_exit.then_some(function)
    }

    /// Sees to it that there is a breakpoint at a site of the current thread.
    ///
    /// If the text of the site is absent, this call is missed: the thread is within a hit, and all
    /// unregistrations wait for hits, so it must not wait for whoever serves the fault, which the
    /// probed process may control. The next call from there tries again.
    #[inline(never)]
    fn need_site(self: &Arc<Self>, site: usize, guard: &Guard) -> Result {
        if self.places.is_site(site, guard)? {
            return Ok(());
        }
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        self.places.add(self, &mm, Vaddr::new(site), Kind::Site)
    }

    /// The current thread is about to execute an exit. Those that were entered last return first; a
    /// tail call leaves several in one place.
    #[inline(never)]
    pub(crate) fn returning_from(
        &self,
        place: &Place,
        slot: usize,
        at: usize,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let left = |frame: &Frame| self.left_by(place, at, frame, guard);
        while let Some(popped) = self.frames.pop(slot, guard, left) {
            self.tell(popped.found, (Returning::From, at), regs, guard);
            if !popped.any_left {
                break;
            }
        }
    }

    /// The current thread may be about to execute an exit. Returns whether it is one of the only
    /// function whose call is noted in the place, in a seat; then everything has been done.
    #[inline(always)]
    pub(crate) fn returning_from_seat(
        &self,
        place: &Place,
        at: usize,
        regs: &mut PtRegs,
        guard: &Guard,
    ) -> bool {
        let slot = regs.sp();
        let left = |frame: &Frame| self.left_by(place, at, frame, guard);
        let Some((Function { probepoint, .. }, newest)) = self.frames.leave_seat(slot, guard, left)
        else {
            return false;
        };
        probepoint.returning_inline(self.group, newest, at, regs, guard);
        true
    }

    /// The current thread has come to a site.
    #[inline(never)]
    pub(crate) fn returned_to(&self, at: usize, regs: &mut PtRegs, guard: &Guard) {
        let Some(mode) = Mode::of(regs) else { return };
        let top = regs.sp().wrapping_sub(word_size(mode));
        while let Some(called) = self.pop_returned(mode, top, at, guard) {
            self.tell(called, (Returning::To, at), regs, guard);
        }
    }

    fn tell(
        &self,
        (function, newest): Called<'_>,
        how_at: (Returning, usize),
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        (function.probepoint).returned(self.group, newest, how_at, regs, guard);
    }

    /// Takes out the call from which the current thread has returned, whose stack pointer is just
    /// above `top`.
    fn pop_returned<'a>(
        &'a self,
        mode: Mode,
        top: usize,
        site: usize,
        guard: &'a Guard,
    ) -> Option<Called<'a>> {
        let called = |frame: &Frame| {
            let function = self.functions.get(frame.function, guard)?;
            let is_here = frame.site == site && !function.probepoint.exits().are_all_known();
            is_here.then_some((&**function, frame.newest))
        };
        let pop = |slot| Some(self.frames.pop(slot, guard, called)?.found);
        pop(top).or_else(|| {
            // Functions that take their arguments off the stack leave the stack pointer further up:
            // those of 32-bit code that return a structure, and those of some compilers at run
            // time. The return address is still where it was, as nothing has been pushed since.
            let lowest = top.saturating_sub(MAX_TAKEN_OFF);
            let is_here = |frame: &Frame| called(frame).is_some();
            let slot = self.frames.highest(top, lowest, guard, is_here)?;
            if read_word(slot, mode) != Ok(site) {
                return None;
            }
            pop(slot)
        })
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
#[inline(always)]
pub(crate) fn return_address(regs: &PtRegs) -> Result<usize> {
    read_word(regs.sp(), Mode::of(regs).ok_or(EINVAL)?)
}

/// Reads a word of the current thread's stack, if its page is mapped.
fn peek_word(at: usize, mode: Mode) -> Result<usize> {
    let ptr = UserPtr::from_addr(at);
    Ok(match mode {
        Mode::Bits32 => user_thread::peek::<u32>(ptr)? as usize,
        Mode::Bits64 => user_thread::peek::<u64>(ptr)? as usize,
    })
}

/// Of the current thread's process.
fn current_mode() -> Mode {
    match kernel::current!().mm() {
        Some(mm) => Mode::of_mm(mm),
        None => Mode::Bits64,
    }
}

/// Returns whether a frame may still be there: its place on the stack holds its return address.
///
/// Context: may sleep. The current thread is of the process.
pub(crate) fn may_be_alive(frame: &Frame) -> bool {
    read_word(frame.slot, current_mode()) == Ok(frame.site)
}

/// Returns whether a frame can be seen to be there, as [`may_be_alive`] does, without sleeping.
pub(crate) fn is_seen_alive(frame: &Frame) -> bool {
    peek_word(frame.slot, current_mode()) == Ok(frame.site)
}
