// SPDX-License-Identifier: GPL-2.0

//! Return probes of a process.

use crate::{
    entry::{
        EndedCall,
        ReturnPoint, //
    },
    probepoint::Probepoint,
    returns::{
        breakpoints::{
            Breakpoints,
            Kind,
            ReturnBreakpoint, //
        },
        function::{
            Called,
            Function,
            ANY_GENERATION, //
        },
        instance::{
            Caller,
            Instance, //
        },
        instances::Instances,
        limits::Memory,
        page::Popped,
        view::View,
        walk::Walked, //
    },
    stack::{
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
    uprobes::Detection, //
};
use ubp::Vaddr;

mod calls;

/// The entry of a function that has return probes.
pub(crate) struct FunctionEntry {
    returns: Arc<ReturnProbes>,
    /// Address of the first byte of the function.
    at: usize,
    is_followed: bool,
    /// The function is followed, and its code is 64-bit code. UBP reports no hits of threads in
    /// another mode than that of the process.
    is_fast: bool,
}

impl FunctionEntry {
    /// Returns the instance of a call by the current thread, which is at the entry.
    // Inlined into the fast path of an entry, where `mode` is constant.
    #[inline(always)]
    fn instance(&self, caller: Caller, mode: Mode, regs: &PtRegs) -> Result<Instance> {
        let location = regs.sp();
        Ok(Instance {
            location,
            return_address: peek_word(location, mode)?,
            function: self.at,
            caller,
        })
    }

    /// Returns the caller for an instance. Only instances of functions that are not followed need
    /// the thread, to check whether it has ended.
    fn caller(&self, generation: u64) -> Caller {
        match self.is_followed {
            true => Caller::any_thread(generation),
            false => Caller::current(generation),
        }
    }

    // Not inlined, and starts over, so that `reached` does not save registers for it.
    #[inline(never)]
    fn reached_slowpath(&self, generation: u64, regs: &PtRegs, guard: &Guard) -> Result {
        let mode = Mode::from_regs(regs).ok_or(EINVAL)?;
        let instance = self.instance(self.caller(generation), mode, regs)?;
        if !self.is_followed {
            self.returns
                .need_return_address(instance.return_address, guard)?;
        }
        let returns = &self.returns;
        let dropped = |dead: &Instance| returns.count_dropped(dead, &instance, guard);
        returns
            .instances
            .push(instance, &returns.memory, guard, dropped)
    }
}

impl ReturnPoint for FunctionEntry {
    #[inline]
    fn reached(&self, generation: u64, regs: &mut PtRegs, guard: &Guard) -> Result {
        if self.is_fast {
            let instance = self.instance(Caller::any_thread(generation), Mode::Bits64, regs)?;
            if self.returns.instances.push_lockless(instance, guard) {
                return Ok(());
            }
        }
        self.reached_slowpath(generation, regs, guard)
    }
}

/// The return point for the entry of a function that owns its return instructions. It does nothing,
/// because there are no instances.
struct OwnerEntry;

impl ReturnPoint for OwnerEntry {
    fn reached(&self, _generation: u64, _regs: &mut PtRegs, _guard: &Guard) -> Result {
        Ok(())
    }
}

/// Number of functions that are prepared between two searches for those that have gone.
const SWEEP: i32 = 128;

/// The return probes of a process.
#[pin_data]
pub(crate) struct ReturnProbes {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// The functions, by the addresses of their entries.
    #[pin]
    functions: Map<Arc<Function>>,
    #[pin]
    breakpoints: Breakpoints,
    #[pin]
    instances: Instances,
    memory: Memory,
    /// Number of functions that have been prepared, to remove those that have gone now and then.
    prepared: Atomic<i32>,
    /// Held while a function is added.
    #[pin]
    adding: Mutex<()>,
}

impl ReturnProbes {
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
                prepared: Atomic::new(0),
                adding <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    /// Removes all return breakpoints. No return is detected afterwards.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        self.breakpoints.close();
    }

    /// Inserts breakpoints at the return instructions of a function. Returns how its returns are
    /// detected.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the text of an instruction is absent; see
    /// [`probepoint::place`](crate::probepoint::place).
    pub(crate) fn insert_breakpoints(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        walked: &Walked,
    ) -> Result<Detection> {
        // A process may map and unmap a file with probes for ever.
        if self.prepared.fetch_add(1, Relaxed) % SWEEP == SWEEP - 1 {
            self.remove_gone();
        }
        let mut detection = walked.detection;
        for return_insn in &walked.return_insns {
            match self
                .breakpoints
                .add(self, mm, *return_insn, Kind::Instruction)
            {
                Ok(()) => (),
                Err(EAGAIN) => return Err(EAGAIN),
                // Breakpoints at the return addresses detect the returns by this instruction.
                Err(_) => {
                    detection = Detection::ReturnAddress {
                        walk_end: return_insn.as_usize(),
                    }
                }
            }
        }
        Ok(detection)
    }

    /// Returns the return point for the entry of the function at a probepoint. The caller must have
    /// called [`ReturnProbes::insert_breakpoints`], which has returned `detection`. Also returns
    /// how the returns are detected, which differs from `detection` if another probe has added the
    /// function before, or if another function owns a return instruction.
    pub(crate) fn function_entry(
        self: &Arc<Self>,
        probepoint: &Arc<Probepoint>,
        walked: &Walked,
        detection: Detection,
    ) -> Result<(Arc<dyn ReturnPoint>, Detection)> {
        let function = self.function(probepoint, walked, detection)?;
        if function.owns_return_insns() {
            return Ok((Arc::new(OwnerEntry, GFP_KERNEL)?, function.detection));
        }
        let is_64bit = Mode::from_mm(&self.mm) == Mode::Bits64;
        let function_entry = FunctionEntry {
            returns: self.clone(),
            at: probepoint.at.as_usize(),
            is_followed: function.is_followed(),
            is_fast: function.is_followed() && is_64bit,
        };
        Ok((Arc::new(function_entry, GFP_KERNEL)?, function.detection))
    }

    fn function(
        &self,
        probepoint: &Arc<Probepoint>,
        walked: &Walked,
        detection: Detection,
    ) -> Result<Arc<Function>> {
        let at = probepoint.at.as_usize();
        let _adding = self.adding.lock();
        let known = self.functions.get(at, &tasks_trace::read_lock()).cloned();
        let known = known.filter(|known| Arc::ptr_eq(&known.probepoint, probepoint));
        // The probe that was registered first decides how returns are detected, also for threads
        // that are inside.
        let function = match known {
            Some(known) => known,
            None => self.add_function(probepoint, walked, detection)?,
        };
        // Also of a known function, because an earlier registration may have failed here.
        for return_insn in &function.return_insns {
            match function.owns_return_insns() {
                true => self.breakpoints.set_owner(*return_insn, &function)?,
                false => self.breakpoints.set_function(*return_insn, &function)?,
            }
        }
        Ok(function)
    }

    /// Adds a function to the map. The caller must hold `adding`.
    fn add_function(
        &self,
        probepoint: &Arc<Probepoint>,
        walked: &Walked,
        detection: Detection,
    ) -> Result<Arc<Function>> {
        let at = probepoint.at.as_usize();
        let is_shared = |at: &Vaddr| self.breakpoints.has_owner(*at);
        let detection = match detection {
            Detection::OwnReturnInsns if walked.return_insns.iter().any(is_shared) => {
                Detection::ReturnInsns
            }
            detection => detection,
        };
        let mut return_insns = KVec::new();
        return_insns.extend_from_slice(&walked.return_insns, GFP_KERNEL)?;
        return_insns.sort_unstable();
        let function = Function {
            probepoint: probepoint.clone(),
            return_insns,
            detection,
            may_reenter: walked.may_reenter,
        };
        let function = Arc::new(function, GFP_KERNEL)?;
        // The map may have a function of text that has been unmapped.
        self.functions.remove(at);
        self.functions.insert(at, function.clone(), GFP_KERNEL)?;
        Ok(function)
    }

    /// Returns the function at `entry`, if it returns by the instruction at `breakpoint`.
    // Inlined into the fast path of a return: the breakpoint mostly knows the function.
    #[inline(always)]
    fn function_left_by<'a>(
        &'a self,
        breakpoint: &'a ReturnBreakpoint,
        entry: usize,
        guard: &'a Guard,
    ) -> Option<&'a Function> {
        match breakpoint.function_at(entry, guard) {
            Some(function) => Some(function),
            None => self.function_with_return_insn(entry, breakpoint.at(), guard),
        }
    }

    /// Returns the function at `entry`, if it returns by the instruction at `return_insn`.
    // Not inlined, to keep the lookup out of the fast path of a return.
    #[inline(never)]
    fn function_with_return_insn<'a>(
        &'a self,
        entry: usize,
        return_insn: Vaddr,
        guard: &'a Guard,
    ) -> Option<&'a Function> {
        let function = self.functions.get(entry, guard)?;
        let is_known = function.return_insns.binary_search(&return_insn).is_ok();
        is_known.then_some(function)
    }

    /// Inserts a breakpoint at a return address of the current thread, unless there is one.
    ///
    /// If the text there is absent, this call is a miss. The thread is in a hit, for which all
    /// unregistrations wait, so it must not wait for the server of a userfaultfd, which the probed
    /// process may control. The next call from there tries again.
    // Not inlined: most calls are of followed functions.
    #[inline(never)]
    fn need_return_address(self: &Arc<Self>, address: usize, guard: &Guard) -> Result {
        if self.breakpoints.is_return_address(address, guard)? {
            return Ok(());
        }
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let kind = Kind::Address(&self.memory);
        self.breakpoints.add(self, &mm, Vaddr::new(address), kind)
    }

    /// Reports the return by a return instruction, which pops `bytes` bytes of arguments and which
    /// the current thread is about to execute. With tail calls, several functions return at once,
    /// and the one that was entered last is reported first. The owner of the instruction returns in
    /// any case, because it has no instances.
    // Not inlined, to keep the loop out of the fast path.
    #[inline(never)]
    pub(crate) fn returned_by(
        &self,
        breakpoint: &ReturnBreakpoint,
        bytes: usize,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let location = regs.sp();
        let owner = breakpoint.owner(guard);
        let left = |instance: &Instance| {
            let function = self.function_left_by(breakpoint, instance.function, guard)?;
            Some((function, instance.caller.generation()))
        };
        let mut popped = self.instances.pop(location, guard, left);
        if popped.is_none() && owner.is_none() {
            return;
        }
        let view = View::enter(bytes, regs);
        let mut notify = |called: Called<'_>| match &view {
            Some(view) => self.notify(called, location, view.return_address(), regs, guard),
            None => self.miss(called, guard),
        };
        // The owner has been entered last, by a tail call if at all.
        if let Some(owner) = owner {
            notify((owner, ANY_GENERATION));
        }
        while let Some(Popped { found, any_left }) = popped {
            notify(found);
            popped = match any_left {
                true => self.instances.pop(location, guard, left),
                false => None,
            };
        }
        if let Some(view) = view {
            view.leave(regs);
        }
    }

    /// Removes the instance at a location, if it is the only one there, and its function returns by
    /// the instruction at `breakpoint`. Returns the function.
    // Inlined because it is the fast path of a return.
    #[inline(always)]
    pub(crate) fn take_only<'a>(
        &'a self,
        breakpoint: &'a ReturnBreakpoint,
        location: usize,
        guard: &'a Guard,
    ) -> Option<Called<'a>> {
        let only = self.instances.only(location, guard)?;
        let generation = only.caller().generation();
        let function = self.function_left_by(breakpoint, only.function(), guard)?;
        only.remove().then_some((function, generation))
    }

    /// Calls the return handlers of a function. The current thread has executed the instruction at
    /// `breakpoint`, and has returned to `at`.
    // Inlined because it is the fast path of a return.
    #[inline(always)]
    pub(crate) fn notify_fastpath(
        &self,
        (Function { probepoint, .. }, generation): Called<'_>,
        breakpoint: &ReturnBreakpoint,
        at: usize,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        if let Some(chain) = probepoint.handler_chain(guard) {
            let ended = |regs: &PtRegs| EndedCall {
                function: probepoint.at.as_usize(),
                location: breakpoint.location_before(regs),
                generation,
            };
            chain.returned_fastpath(self.group, at, generation, ended, regs, guard);
        }
    }

    /// Reports the returns to the return address `at`, where the current thread is.
    // Not inlined, to keep the loop out of the fast path.
    #[inline(never)]
    pub(crate) fn returned_to(&self, at: usize, regs: &mut PtRegs, guard: &Guard) {
        let Some(mode) = Mode::from_regs(regs) else {
            return;
        };
        let top = regs.sp().wrapping_sub(word_size(mode));
        while let Some((called, location)) = self.pop_returned(mode, top, at, guard) {
            self.notify(called, location, at, regs, guard);
        }
    }

    fn notify(
        &self,
        (function, generation): Called<'_>,
        location: usize,
        at: usize,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let probepoint = &function.probepoint;
        if let Some(chain) = probepoint.handler_chain(guard) {
            let ended = EndedCall {
                function: probepoint.at.as_usize(),
                location,
                generation,
            };
            chain.returned(self.group, at, ended, regs, guard);
        }
    }

    #[cold]
    fn miss(&self, (function, generation): Called<'_>, guard: &Guard) {
        if let Some(chain) = function.probepoint.handler_chain(guard) {
            chain.missed(self.group, generation);
        }
    }
}
