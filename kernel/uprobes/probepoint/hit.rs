// SPDX-License-Identifier: GPL-2.0

//! A hit of a probepoint's breakpoint.

use super::{
    registry,
    Probepoint, //
};
use crate::{
    chain::{
        ChainContexts,
        HandlerChain,
        HitPath, //
    },
    consumer::HandlerKind,
    entry::GroupFunction,
    guard::HandlerGuard,
    single::{
        SingleConsumer,
        SingleFunction,
        SingleReturnPoint, //
    },
};

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::{
        atomic::Relaxed,
        DirectArc, //
    },
    task::Task,
    threads::ThreadGroup,
    time::{
        delay::fsleep,
        Delta, //
    },
};
use ubp::{
    BreakpointOwner,
    Hit,
    Resumed,
    Vaddr, //
};

impl Probepoint {
    // The functions for the hit paths are not inlined, so that each saves only the registers that
    // it needs. They take `hit` and `regs` as `BreakpointOwner::hit` does, so that it can tail-call
    // them.

    /// Handles a hit that has no other fast path. Both calls are tail calls.
    #[inline(never)]
    fn hit_other<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        chain: &'h HandlerChain,
        contexts: &'h ChainContexts,
    ) -> Resumed {
        match contexts.is_single_file {
            true => self.hit_file(hit, regs, chain),
            false => self.hit_chain(hit, regs, chain, contexts),
        }
    }

    /// Handles a hit by calling the handlers of the chain.
    #[inline(never)]
    fn hit_chain<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        chain: &'h HandlerChain,
        contexts: &'h ChainContexts,
    ) -> Resumed {
        let group = Task::current_group();
        if chain.is_unprepared(group) {
            let at = self.at;
            return hit.restart_after(move || prepare_returns(at, group));
        }
        if !chain.hit_in_interrupt(contexts, group, true, regs) {
            return hit.resume(regs);
        }
        hit.in_task(regs, move |regs, guard| {
            chain.hit_in_task(contexts, self.at.as_usize(), group, regs, guard);
        })
    }

    /// Handles a hit for a single consumer with a handler for task context.
    #[inline(never)]
    fn hit_single<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        single: &'h SingleConsumer,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, move |regs, _| {
            single.call(group, HandlerGuard::new(false), HandlerKind::Task, regs);
        })
    }

    /// Handles a hit for a single consumer at the entry of a function.
    #[inline(never)]
    fn hit_function<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        function: &'h SingleFunction,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, move |regs, guard| {
            function.enter(self.at.as_usize(), group, regs, guard);
        })
    }

    /// Handles a hit for a single return breakpoint.
    #[inline(never)]
    fn hit_return_point<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        point: &'h SingleReturnPoint,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, move |regs, guard| {
            point.reached(group, regs, guard);
        })
    }

    /// Handles a hit for the probe of a file and nothing else.
    #[inline(never)]
    fn hit_file<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs, chain: &'h HandlerChain) -> Resumed {
        if chain.file_wants_returns() {
            return self.hit_file_for_return(hit, regs, chain);
        }
        hit.in_task(regs, move |regs, guard| chain.hit_file(regs, guard))
    }

    /// Handles a hit for the probe of a file and nothing else, if it has return consumers.
    #[inline(never)]
    fn hit_file_for_return<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        chain: &'h HandlerChain,
    ) -> Resumed {
        let group = Task::current_group();
        let at = self.at;
        let Some(function) = chain.file_function(group) else {
            return hit.restart_after(move || prepare_returns(at, group));
        };
        hit.in_task(regs, move |regs, guard| {
            chain.hit_file_for_return(at.as_usize(), function, regs, guard);
        })
    }
}

/// Prepares the detection of returns in the current thread's process of the function at `at`, where
/// the thread has hit the probe of a file.
#[cold]
fn prepare_returns(at: Vaddr, group: ThreadGroup) {
    let task = kernel::current!();
    let Some(mm) = task.mm() else { return };
    let Some(probepoint) = registry::find(mm, at) else {
        return;
    };
    let Some(place) = probepoint.read(|chain| chain.file().cloned()) else {
        return;
    };
    let entry = match place.prepare_returns() {
        // The thread gets the signal first.
        Err(EINTR) => return,
        prepared => prepared.ok().map(DirectArc::from),
    };
    // If the returns cannot be detected, this is remembered as well, so that the next hit does not
    // try again.
    if probepoint
        .add_function(GroupFunction { group, entry })
        .is_err()
    {
        // The cgroup of the process is full. The thread waits for memory, as in a page fault, but
        // returns to user mode now and then, where it can be killed.
        fsleep(Delta::from_millis(1));
    }
}

// SAFETY: `hit`, and each function that it calls for a hit path, consumes the `Hit` last, and
// returns the `Resumed` that it gets for it.
unsafe impl BreakpointOwner for Probepoint {
    #[inline]
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed {
        let Some(chain) = self.chain.read_in(hit.read_token()) else {
            return hit.remove(regs);
        };
        match chain.hit_path() {
            HitPath::SingleInInterrupt(single) => {
                let handler_guard = HandlerGuard::new(true);
                let group = Task::current_group();
                single.call(group, handler_guard, HandlerKind::Interrupt, regs);
                hit.resume(regs)
            }
            HitPath::SingleFunction(function) => self.hit_function(hit, regs, function),
            HitPath::SingleReturnPoint(point) => self.hit_return_point(hit, regs, point),
            HitPath::SingleInTask(single) => self.hit_single(hit, regs, single),
            HitPath::Chain(contexts) => self.hit_other(hit, regs, chain, contexts),
        }
    }

    fn removed(&self) {
        self.gone.store(true, Relaxed);
    }
}
