// SPDX-License-Identifier: GPL-2.0

//! A breakpoint, and what it counts.

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

/// How often the handlers have been called.
pub(crate) struct Counts {
    active: Atomic<i32>,
    task: Atomic<i64>,
    interrupt: Atomic<i64>,
}

impl Counts {
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

/// Where hits are counted.
#[derive(Clone, Copy)]
pub(crate) enum Contexts {
    Nowhere,
    Task,
    Interrupt,
    Both,
    /// In task context, where the thread gets a signal as well.
    Forcing,
}

impl Contexts {
    /// Of `UBP_TEST_TASK` and so on.
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

/// Handlers in no context: all that happens at a hit is that the instruction is executed.
struct Nothing;

#[vtable]
impl Handler for Nothing {}

/// A handler in task context only.
struct InTask(Arc<Counts>);

#[vtable]
impl Handler for InTask {
    fn hit(&self, _regs: &mut PtRegs) {
        self.0.count(&self.0.task);
    }
}

/// A handler in interrupt context only, which then calls for the other one in vain.
struct InInterrupt(Arc<Counts>);

#[vtable]
impl Handler for InInterrupt {
    fn hit_in_interrupt(&self, _regs: &mut PtRegs) -> Then {
        self.0.count(&self.0.interrupt);
        Then::Task
    }
}

/// Handlers in both contexts.
struct InBoth(Arc<Counts>);

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
/// does not set the trap number leaves the same: a signal of the kernel, and the number replaced.
struct Forcing(Arc<Counts>);

#[vtable]
impl Handler for Forcing {
    fn hit(&self, _regs: &mut PtRegs) {
        self.0.count(&self.0.task);
        force_fault(0, false);
    }
}

/// A breakpoint with one of the handlers.
enum Any {
    Nothing(Breakpoint<Nothing>),
    InTask(Breakpoint<InTask>),
    InInterrupt(Breakpoint<InInterrupt>),
    InBoth(Breakpoint<InBoth>),
    Forcing(Breakpoint<Forcing>),
}

/// A breakpoint, and what it counts. Dropping it takes the breakpoint out.
pub(crate) struct Placed {
    breakpoint: Any,
    counts: Arc<Counts>,
}

impl Placed {
    /// Inserts a breakpoint. Fails as [`Breakpoint::insert`] does.
    pub(crate) fn insert(task: &Task, at: usize, contexts: Contexts) -> Result<Self> {
        let counts = Arc::new(Counts::new(), GFP_KERNEL)?;
        let to = counts.clone();
        let breakpoint = match contexts {
            Contexts::Nowhere => Any::Nothing(Breakpoint::insert(task, at, Nothing)?),
            Contexts::Task => Any::InTask(Breakpoint::insert(task, at, InTask(to))?),
            Contexts::Interrupt => Any::InInterrupt(Breakpoint::insert(task, at, InInterrupt(to))?),
            Contexts::Both => Any::InBoth(Breakpoint::insert(task, at, InBoth(to))?),
            Contexts::Forcing => Any::Forcing(Breakpoint::insert(task, at, Forcing(to))?),
        };
        Ok(Self { breakpoint, counts })
    }

    pub(crate) fn plan(&self) -> Plan {
        match &self.breakpoint {
            Any::Nothing(breakpoint) => breakpoint.plan(),
            Any::InTask(breakpoint) => breakpoint.plan(),
            Any::InInterrupt(breakpoint) => breakpoint.plan(),
            Any::InBoth(breakpoint) => breakpoint.plan(),
            Any::Forcing(breakpoint) => breakpoint.plan(),
        }
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}
