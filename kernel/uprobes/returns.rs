// SPDX-License-Identifier: GPL-2.0

//! Noticing that functions return.
//!
//! Nothing that belongs to the program is changed: neither return addresses on stacks, nor shadow
//! stacks. When a thread enters the function, the return address is read from the stack, and a
//! breakpoint is put at the instruction there, a *return site*, with this process's [`Returns`] as
//! a client. It stays for as long as the process has return probes. What is noted of the call is
//! where on the stack the return address is ([`Frame`]). A thread that comes to the site with the
//! stack pointer just above that has returned from the function; others, who come by a jump, or
//! deeper in a recursion, have not.
//!
//! What is noted belongs to the stack, not to the thread: a coroutine may go on in another thread.
//! What was called and has not returned, as after `longjmp()`, an exception, or the death of the
//! thread, is found out by the place on the stack being used for another return address.
//!
//! # What is noticed, and what not
//!
//! - A function that ends by jumping to another one (a tail call) returns when that returns.
//! - If a function was left by an exception or `longjmp()`, and then the same call instruction, an
//!   indirect one, calls another function with the same stack pointer, which is not probed: the
//!   return of that is taken for the function's.
//! - If the stack has been moved meanwhile, as Go's are, the return is not noticed.
//!
//! Where the size of the function is known, none of this is needed: see [`crate::client::Spot`].
//!
//! # Locks
//!
//! `Returns::sites_probe`, a mutex, is held while a site is added, so that none is added after the
//! last return probe has gone. The state of probepoints nests inside.

use crate::{
    client::Client,
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
        tasks_trace::{
            self,
            Map, //
        },
        Arc,
        Mutex, //
    },
    threads::ThreadGroup,
    uaccess::UserPtr,
    user_thread, //
};
use ubp::Vaddr;

/// Where a function may return to.
enum Site {
    Probed(Arc<Probepoint>),
    /// There can be no breakpoint.
    Refused,
}

/// The return probes of a process.
#[pin_data]
pub(crate) struct Returns {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// By the address of the function.
    #[pin]
    functions: Map<Arc<Probepoint>>,
    #[pin]
    sites: Map<Site>,
    #[pin]
    frames: Frames,
    /// What the sites are registered as; nothing when the last return probe has gone.
    #[pin]
    sites_probe: Mutex<Option<Arc<Probe>>>,
}

/// Called at return sites.
struct AtSite(Arc<Returns>);

impl Client for AtSite {
    fn hit(&self, regs: &mut PtRegs) {
        self.0.came_to(regs);
    }
}

impl Returns {
    pub(crate) fn new(group: ThreadGroup, mm: &Mm) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                group,
                mm: ARef::from(mm),
                functions <- Map::new(),
                sites <- Map::new(),
                frames <- Frames::new(),
                sites_probe <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let client = Arc::new(AtSite(this.clone()), GFP_KERNEL)?;
        let probe = Probe::internal(client)?;
        probe.go_live();
        *this.sites_probe.lock() = Some(probe);
        Ok(this)
    }

    /// Takes all sites out: no return is noticed any more.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        let Some(probe) = self.sites_probe.lock().take() else {
            return;
        };
        probe.silence();
        let mut next = 0;
        loop {
            let guard = tasks_trace::read_lock();
            let Some((at, site)) = self.sites.first(next..=usize::MAX, &guard) else {
                return;
            };
            if let Site::Probed(probepoint) = site {
                probepoint.retain(|entry| entry.probe.id != probe.id);
            }
            match at.checked_add(1) {
                Some(after) => next = after,
                None => return,
            }
        }
    }

    /// From now on calls of the function at a probepoint are expected to return.
    pub(crate) fn add_function(&self, probepoint: &Arc<Probepoint>) -> Result {
        let _changes = self.sites_probe.lock();
        let at = probepoint.at.as_usize();
        let known = self
            .functions
            .get(at, &tasks_trace::read_lock())
            .is_some_and(|there| Arc::ptr_eq(there, probepoint));
        if known {
            return Ok(());
        }
        // One that is there is of text that has gone.
        self.functions.remove(at);
        self.functions.insert(at, probepoint.clone(), GFP_KERNEL)
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
        let site = read_word(slot, Mode::of(regs).ok_or(EINVAL)?)?;
        let is_there = match self.sites.get(site, &tasks_trace::read_lock()) {
            Some(Site::Probed(probepoint)) => !probepoint.is_gone(),
            Some(Site::Refused) => return Err(EPERM),
            None => false,
        };
        if !is_there {
            self.add_site(site)?;
        }
        self.frames.push(Frame {
            slot,
            site,
            function,
            newest,
        })
    }

    #[cold]
    fn add_site(&self, site: usize) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let guard = self.sites_probe.lock();
        let probe = guard.as_ref().ok_or(ESRCH)?;
        let known = match self.sites.get(site, &tasks_trace::read_lock()) {
            Some(Site::Probed(probepoint)) => Some(!probepoint.is_gone()),
            Some(Site::Refused) => return Err(EPERM),
            None => None,
        };
        match known {
            Some(true) => return Ok(()),
            // The breakpoint has gone with its text, and there is another text by now.
            Some(false) => drop(self.sites.remove(site)),
            None => (),
        }
        let entry = Entry::new(probe.clone(), self.group, Role::Hit(None));
        match probepoint::place(&mm, Vaddr::new(site), &entry) {
            Ok(probepoint) => self.sites.insert(site, Site::Probed(probepoint), GFP_KERNEL),
            // These may not be so the next time.
            Err(error) if matches!(error, ENOMEM | EINTR | EAGAIN) => Err(error),
            Err(error) => {
                self.sites.insert(site, Site::Refused, GFP_KERNEL)?;
                Err(error)
            }
        }
    }

    /// The current thread has come to a site.
    #[inline]
    fn came_to(&self, regs: &mut PtRegs) {
        let site = regs.ip();
        let Some(mode) = Mode::of(regs) else { return };
        let top = regs.sp().wrapping_sub(word_size(mode));
        // Those that were entered last return first; a tail call leaves several in one place.
        while let Some(frame) = self.pop(mode, top, site) {
            let guard = tasks_trace::read_lock();
            if let Some(probepoint) = self.functions.get(frame.function, &guard) {
                probepoint.returned(self.group, frame.newest, site, regs, &guard);
            }
        }
    }

    /// Takes out the call from which the current thread has returned, whose stack pointer is just
    /// above `top`.
    #[inline]
    fn pop(&self, mode: Mode, top: usize, site: usize) -> Option<Frame> {
        self.frames
            .pop(top, site)
            .or_else(|| self.pop_below(mode, top, site))
    }

    /// Functions that take their arguments off the stack leave the stack pointer further up: those
    /// of 32-bit code that return a structure, and those of some compilers at run time. The return
    /// address is still where it was, as nothing has been pushed since.
    fn pop_below(&self, mode: Mode, top: usize, site: usize) -> Option<Frame> {
        let slot = self
            .frames
            .highest(top, top.saturating_sub(MAX_TAKEN_OFF), site)?;
        if read_word(slot, mode) != Ok(site) {
            return None;
        }
        self.frames.pop(slot, site)
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
