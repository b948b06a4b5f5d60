// SPDX-License-Identifier: GPL-2.0

//! One of those who are called at a probepoint.

use crate::{
    places::Place,
    probe::Probe,
    returns::Returns, //
};

use kernel::{
    sync::Arc,
    threads::ThreadGroup, //
};

/// What a probepoint is to a probe.
#[derive(Clone)]
pub(crate) enum Role {
    /// Where it is. If it wants returns, and they are found by the address that is returned to,
    /// this is who finds them.
    Hit(Option<Arc<Returns>>),
    /// An instruction by which the function returns.
    Exit,
    /// A place where functions of other probes are noticed to return.
    Place(Arc<Place>),
}

/// A probe, and for which process.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) probe: Arc<Probe>,
    pub(crate) group: ThreadGroup,
    pub(crate) role: Role,
    /// Whether it is called with interrupts disabled.
    pub(crate) is_for_interrupt: bool,
    pub(crate) in_task: InTask,
}

/// When there is something to do for an entry in task context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InTask {
    Nothing,
    First,
    /// When it is known whether a function is entered here: it may be left by the same instruction.
    Last,
}

impl Entry {
    pub(crate) fn new(probe: Arc<Probe>, group: ThreadGroup, role: Role) -> Self {
        let (is_for_interrupt, in_task) = match &role {
            Role::Hit(None) if !probe.wants.task => (probe.wants.interrupt, InTask::Nothing),
            Role::Hit(_) => (probe.wants.interrupt, InTask::First),
            Role::Exit => (false, InTask::First),
            Role::Place(_) => (false, InTask::Last),
        };
        Self {
            probe,
            group,
            role,
            is_for_interrupt,
            in_task,
        }
    }
}
