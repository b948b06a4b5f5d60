// SPDX-License-Identifier: GPL-2.0

//! Inserted breakpoints and the counts of their hits.

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    task::Task,
    trap::force_fault,
    ubp::{
        Breakpoint,
        Handler,
        Plan,
        Then, //
    }, //
};

/// The number of calls of the handlers.
pub(crate) struct HitCounts {
    active: Atomic<i32>,
    task: Atomic<i64>,
    interrupt: Atomic<i64>,
}

impl HitCounts {
    fn new() -> Self {
        Self {
            active: Atomic::new(0),
            task: Atomic::new(0),
            interrupt: Atomic::new(0),
        }
    }

    fn count(&self, hits: &Atomic<i64>) {
        self.active.fetch_add(1, Relaxed);
        hits.fetch_add(1, Relaxed);
        self.active.fetch_sub(1, Relaxed);
    }

    pub(crate) fn active(&self) -> i32 {
        self.active.load(Relaxed)
    }

    pub(crate) fn task_hits(&self) -> i64 {
        self.task.load(Relaxed)
    }

    pub(crate) fn interrupt_hits(&self) -> i64 {
        self.interrupt.load(Relaxed)
    }
}

/// The contexts in which hits are counted.
#[derive(Clone, Copy)]
pub(crate) enum Contexts {
    Nowhere,
    Task,
    Interrupt,
    Both,
    /// In task context, where the handler also sends the thread a signal.
    Forcing,
}

impl Contexts {
    /// Returns the contexts for `UBP_TEST_TASK` and the other flags.
    pub(crate) fn from_flags(flags: u32) -> Result<Self> {
        Ok(match flags {
            0 => Self::Nowhere,
            1 => Self::Task,
            2 => Self::Interrupt,
            3 => Self::Both,
            4 => Self::Forcing,
            _ => return Err(EINVAL),
        })
    }
}

/// A handler without methods: at a hit, the instruction is executed, and nothing else happens.
struct NoHandler;

#[vtable]
impl Handler for NoHandler {}

/// A handler in task context only.
struct InTask(Arc<HitCounts>);

#[vtable]
impl Handler for InTask {
    fn hit(&self, _regs: &mut PtRegs) {
        self.0.count(&self.0.task);
    }
}

/// A handler in interrupt context only. It requests a call in task context, which has no effect.
struct InInterrupt(Arc<HitCounts>);

#[vtable]
impl Handler for InInterrupt {
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) -> Then {
        self.0.count(&self.0.interrupt);
        Then::Task
    }
}

/// Handlers in both contexts.
struct InBoth(Arc<HitCounts>);

#[vtable]
impl Handler for InBoth {
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) -> Then {
        self.0.count(&self.0.interrupt);
        Then::Task
    }

    fn hit(&self, _regs: &mut PtRegs) {
        self.0.count(&self.0.task);
    }
}

/// A handler in task context that forces a signal. An exception of the displaced instruction that
/// does not set the trap number has the same effect: a signal of the kernel, and the replaced
/// number.
struct Forcing(Arc<HitCounts>);

#[vtable]
impl Handler for Forcing {
    fn hit(&self, _regs: &mut PtRegs) {
        self.0.count(&self.0.task);
        force_fault(0, false);
    }
}

/// A breakpoint with one of the handlers.
enum Any {
    NoHandler(Breakpoint<NoHandler>),
    InTask(Breakpoint<InTask>),
    InInterrupt(Breakpoint<InInterrupt>),
    InBoth(Breakpoint<InBoth>),
    Forcing(Breakpoint<Forcing>),
}

/// A breakpoint and the counts of its hits. Dropping it removes the breakpoint.
pub(crate) struct Placed {
    breakpoint: Any,
    counts: Arc<HitCounts>,
}

impl Placed {
    /// Inserts a breakpoint. Fails as [`Breakpoint::insert`] does.
    pub(crate) fn insert(task: &Task, at: usize, contexts: Contexts) -> Result<Self> {
        let counts = Arc::new(HitCounts::new(), GFP_KERNEL)?;
        let to = counts.clone();
        let breakpoint = match contexts {
            Contexts::Nowhere => Any::NoHandler(Breakpoint::insert(task, at, NoHandler)?),
            Contexts::Task => Any::InTask(Breakpoint::insert(task, at, InTask(to))?),
            Contexts::Interrupt => Any::InInterrupt(Breakpoint::insert(task, at, InInterrupt(to))?),
            Contexts::Both => Any::InBoth(Breakpoint::insert(task, at, InBoth(to))?),
            Contexts::Forcing => Any::Forcing(Breakpoint::insert(task, at, Forcing(to))?),
        };
        Ok(Self { breakpoint, counts })
    }

    pub(crate) fn plan(&self) -> Plan {
        match &self.breakpoint {
            Any::NoHandler(breakpoint) => breakpoint.plan(),
            Any::InTask(breakpoint) => breakpoint.plan(),
            Any::InInterrupt(breakpoint) => breakpoint.plan(),
            Any::InBoth(breakpoint) => breakpoint.plan(),
            Any::Forcing(breakpoint) => breakpoint.plan(),
        }
    }

    pub(crate) fn counts(&self) -> &Arc<HitCounts> {
        &self.counts
    }
}
