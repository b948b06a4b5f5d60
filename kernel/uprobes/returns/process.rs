// SPDX-License-Identifier: GPL-2.0

//! The return probes of a process.

use crate::{
    client::Returning,
    entry::ReturnPoint,
    probepoint::Probepoint,
    returns::{
        breakpoints::{
            Breakpoints,
            Kind,
            ReturnBreakpoint, //
        },
        instance::{
            Caller,
            Instance, //
        },
        instances::Instances,
        limits::Memory,
        walk::Walked, //
    },
    stack::{
        self,
        peek_word,
        word_size, //
    },
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
        tasks_trace::{
            self,
            Guard,
            Map, //
        },
        Arc,
        Mutex, //
    },
    threads::ThreadGroup, //
};
use ubp::Vaddr;

/// A function that has return probes.
pub(crate) struct Function {
    probepoint: Arc<Probepoint>,
    /// The return instructions that have breakpoints, in the order of addresses.
    exits: KVec<Vaddr>,
    /// Whether the function returns by no other instruction.
    is_followed: bool,
}

impl Function {
    /// Returns whether the function begins at an address, and its text is still there.
    #[inline(always)]
    pub(crate) fn is_at(&self, entry: usize) -> bool {
        self.probepoint.at.as_usize() == entry && !self.probepoint.is_gone()
    }
}

/// The entry of a function that has return probes.
pub(crate) struct Entrance {
    returns: Arc<Returns>,
    /// The first byte of the function.
    at: usize,
    is_followed: bool,
}

impl Entrance {
    /// Returns the instance of a call by the current thread, which is at the entry.
    #[inline(always)]
    fn instance(&self, caller: Caller, regs: &PtRegs) -> Result<Instance> {
        Ok(Instance {
            location: regs.sp(),
            return_address: stack::return_address(regs)?,
            function: self.at,
            caller,
        })
    }

    /// Only of a function that is not followed is it asked whether the thread has ended.
    fn caller(&self, generation: u64) -> Caller {
        match self.is_followed {
            true => Caller::any_thread(generation),
            false => Caller::current(generation),
        }
    }

    // Begins anew, so that `reached` need not keep anything across the call.
    #[inline(never)]
    fn reached_slowly(&self, generation: u64, regs: &PtRegs, guard: &Guard) -> Result {
        let instance = self.instance(self.caller(generation), regs)?;
        if !self.is_followed {
            self.returns
                .need_return_address(instance.return_address, guard)?;
        }
        let returns = &self.returns;
        let dropped = |dead: &Instance| returns.left(dead, &instance, guard);
        returns
            .instances
            .push(instance, &returns.memory, guard, dropped)
    }
}

impl ReturnPoint for Entrance {
    #[inline]
    fn reached(&self, generation: u64, regs: &mut PtRegs, guard: &Guard) -> Result {
        if self.is_followed {
            let instance = self.instance(Caller::any_thread(generation), regs)?;
            if self.returns.instances.push_lockless(instance, guard) {
                return Ok(());
            }
        }
        self.reached_slowly(generation, regs, guard)
    }
}

/// A function that a thread returns from, and the newest consumer that is called for that.
type Called<'a> = (&'a Function, u64);

/// The return probes of a process.
#[pin_data]
pub(crate) struct Returns {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// By the addresses of their entries.
    #[pin]
    functions: Map<Arc<Function>>,
    #[pin]
    breakpoints: Breakpoints,
    #[pin]
    instances: Instances,
    memory: Memory,
    /// Held while a function is added.
    #[pin]
    adding: Mutex<()>,
}

impl Returns {
    pub(crate) fn new(group: ThreadGroup, mm: &Mm) -> Result<Arc<Self>> {
        let breakpoints = Breakpoints::new(group);
        Arc::pin_init(
            try_pin_init!(Self {
                group,
                mm: ARef::from(mm),
                functions <- Map::new(BUILT_IN),
                breakpoints <- breakpoints,
                instances <- Instances::new(),
                memory: Memory::new(),
                adding <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    /// Removes all return breakpoints: no return is detected any more.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        self.breakpoints.close();
    }

    /// Inserts breakpoints at the return instructions of a function. Returns whether no return
    /// passes by them.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the text of one is absent; see [`probepoint::place`](crate::probepoint::place).
    pub(crate) fn insert_breakpoints(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        walked: &Walked,
    ) -> Result<bool> {
        let mut is_followed = walked.complete;
        for exit in &walked.exits {
            match self.breakpoints.add(self, mm, *exit, Kind::Instruction) {
                Ok(()) => (),
                Err(EAGAIN) => return Err(EAGAIN),
                // Breakpoints at the return addresses detect the returns by it.
                Err(_) => is_followed = false,
            }
        }
        Ok(is_followed)
    }

    /// Returns the entry of the function at a probepoint. The caller must have inserted the
    /// breakpoints, by [`Returns::insert_breakpoints`], which has returned `is_followed`.
    pub(crate) fn entrance(
        self: &Arc<Self>,
        probepoint: &Arc<Probepoint>,
        walked: &Walked,
        is_followed: bool,
    ) -> Result<Arc<dyn ReturnPoint>> {
        let function = self.function(probepoint, walked, is_followed)?;
        let entrance = Entrance {
            returns: self.clone(),
            at: probepoint.at.as_usize(),
            is_followed: function.is_followed,
        };
        Ok(Arc::new(entrance, GFP_KERNEL)?)
    }

    fn function(
        &self,
        probepoint: &Arc<Probepoint>,
        walked: &Walked,
        is_followed: bool,
    ) -> Result<Arc<Function>> {
        let at = probepoint.at.as_usize();
        let _adding = self.adding.lock();
        let known = self.functions.get(at, &tasks_trace::read_lock()).cloned();
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.probepoint, probepoint)) {
            return Ok(known);
        }
        let mut exits = KVec::new();
        exits.extend_from_slice(&walked.exits, GFP_KERNEL)?;
        exits.sort_unstable();
        let function = Function {
            probepoint: probepoint.clone(),
            exits,
            is_followed,
        };
        let function = Arc::new(function, GFP_KERNEL)?;
        for exit in &function.exits {
            self.breakpoints.set_function(*exit, &function)?;
        }
        // A known function at the address is one whose text has been unmapped.
        self.functions.remove(at);
        self.functions.insert(at, function.clone(), GFP_KERNEL)?;
        Ok(function)
    }

    /// Returns the function of an instance, if it returns by the instruction at `breakpoint`, which
    /// mostly knows it.
    #[inline(always)]
    fn left_by<'a>(
        &'a self,
        breakpoint: &'a ReturnBreakpoint,
        instance: &Instance,
        guard: &'a Guard,
    ) -> Option<Called<'a>> {
        let function = match breakpoint.function_at(instance.function, guard) {
            Some(function) => function,
            None => self.function_with_exit(instance.function, breakpoint.at(), guard)?,
        };
        Some((function, instance.caller.generation()))
    }

    /// Returns the function at `entry`, if it returns by the instruction at `exit`.
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

    /// Inserts a breakpoint at a return address of the current thread, unless there is one.
    ///
    /// If the text there is not in memory, this call is a miss: the thread is within a hit, and all
    /// unregistrations wait for hits, so it must not wait for a server of faults, which the probed
    /// process may control. The next call from there tries again.
    #[inline(never)]
    fn need_return_address(self: &Arc<Self>, address: usize, guard: &Guard) -> Result {
        if self.breakpoints.is_return_address(address, guard)? {
            return Ok(());
        }
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let kind = Kind::Address(&self.memory);
        self.breakpoints.add(self, &mm, Vaddr::new(address), kind)
    }

    /// The current thread is at a return instruction. Functions that were entered last return
    /// first; a tail call leaves several instances at one location.
    #[inline(never)]
    pub(crate) fn returning_from(
        &self,
        breakpoint: &ReturnBreakpoint,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let location = regs.sp();
        let left = |instance: &Instance| self.left_by(breakpoint, instance, guard);
        while let Some(popped) = self.instances.pop(location, guard, left) {
            let how_at = (Returning::From, breakpoint.at().as_usize());
            self.notify(popped.found, how_at, regs, guard);
            if !popped.any_left {
                break;
            }
        }
    }

    /// As [`Returns::returning_from`], for the usual case that one instance is at the location, in
    /// its bucket. Returns whether it was so.
    #[inline(always)]
    pub(crate) fn returning_from_lockless(
        &self,
        breakpoint: &ReturnBreakpoint,
        regs: &mut PtRegs,
        guard: &Guard,
    ) -> bool {
        let left = |instance: &Instance| self.left_by(breakpoint, instance, guard);
        let Some((Function { probepoint, .. }, generation)) =
            self.instances.pop_lockless(regs.sp(), guard, left)
        else {
            return false;
        };
        if let Some(clients) = probepoint.clients(guard) {
            let at = breakpoint.at().as_usize();
            clients.returning_inline(self.group, generation, at, regs);
        }
        true
    }

    /// The current thread is at a return address.
    #[inline(never)]
    pub(crate) fn returned_to(&self, at: usize, regs: &mut PtRegs, guard: &Guard) {
        let Some(mode) = Mode::of(regs) else { return };
        let top = regs.sp().wrapping_sub(word_size(mode));
        while let Some(called) = self.pop_returned(mode, top, at, guard) {
            self.notify(called, (Returning::To, at), regs, guard);
        }
    }

    fn notify(
        &self,
        (function, generation): Called<'_>,
        how_at: (Returning, usize),
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        if let Some(clients) = function.probepoint.clients(guard) {
            clients.returned(self.group, generation, how_at, regs);
        }
    }

    /// The call of `dead` was left, by the time of that of `new` with the same location.
    ///
    /// If its function is followed, and has not returned, the thread left it in another way. Else
    /// the function may have gone on, in a circle of tail calls, to the function that is entered
    /// now in the same way: its return is a miss, since it cannot be told from that of the new
    /// call.
    #[cold]
    fn left(&self, dead: &Instance, new: &Instance, guard: &Guard) {
        if dead.return_address != new.return_address {
            return;
        }
        let Some(function) = self.functions.get(dead.function, guard) else {
            return;
        };
        if !function.is_followed && dead.caller.is_alive() {
            if let Some(clients) = function.probepoint.clients(guard) {
                clients.missed(self.group, dead.caller.generation());
            }
        }
    }

    /// Takes out the instance of the call from which the current thread has returned. Its stack
    /// pointer is just above `top`.
    fn pop_returned<'a>(
        &'a self,
        mode: Mode,
        top: usize,
        address: usize,
        guard: &'a Guard,
    ) -> Option<Called<'a>> {
        let called = |instance: &Instance| {
            let function = self.functions.get(instance.function, guard)?;
            // The thread may have ended within the function, and its stack be another one's now.
            let is_here = instance.return_address == address
                && !function.is_followed
                && instance.caller.is_alive();
            is_here.then_some((&**function, instance.caller.generation()))
        };
        let pop = |location| Some(self.instances.pop(location, guard, called)?.found);
        pop(top).or_else(|| {
            // Functions that pop their arguments leave the stack pointer further up: functions of
            // 32-bit code that return a structure, and those of some compilers at run time. The
            // return address is still at its location, because nothing has been pushed since.
            let lowest = top.saturating_sub(MAX_POPPED);
            let is_here = |instance: &Instance| called(instance).is_some();
            let location = self.instances.highest(top, lowest, guard, is_here)?;
            if peek_word(location, mode) != Ok(address) {
                return None;
            }
            pop(location)
        })
    }
}

/// Bytes of arguments that a function may pop for its return to be detected.
const MAX_POPPED: usize = 512;
