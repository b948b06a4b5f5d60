// SPDX-License-Identifier: GPL-2.0

//! Probes that follow `fork()`: a process that a probed one creates has them from its first
//! instruction.
//!
//! The child belongs to the same registration, so it is unregistered with it, and what it creates
//! is followed in turn. Calls that had not returned when it was created are not known of in it.

use crate::{
    probe::Probe,
    process::Process,
    registry, //
};

use kernel::{
    mm::Mm,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    task::Task,
    threads::ThreadGroup, //
};

/// How many probes there are that follow. Read at every `fork()`.
static FOLLOWING: Atomic<i64> = Atomic::new(0);

/// Counts a probe that follows, while it exists.
pub(crate) struct Following(());

impl Following {
    pub(crate) fn new() -> Self {
        FOLLOWING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        FOLLOWING.fetch_sub(1, Relaxed);
    }
}

/// The current thread has created the process of `child`, which has not run.
///
/// Context: may sleep.
pub(crate) fn inherit(child: &Task) {
    if FOLLOWING.load(Relaxed) == 0 {
        return;
    }
    let parent = kernel::current!();
    let Some(mm) = parent.mm() else { return };
    let group = Task::current_group();
    let Ok(process) = Process::of(child) else {
        return;
    };
    // In the order of their registration: that is the order of their calls.
    let mut last = None;
    while let Some(probe) = next_after(last, mm, group) {
        last = Some(probe.id);
        join(&probe, &process);
    }
}

/// Returns the oldest probe, of those newer than `last`, that follows the process.
fn next_after(last: Option<u64>, mm: &Mm, group: ThreadGroup) -> Option<Arc<Probe>> {
    let mut next: Option<Arc<Probe>> = None;
    registry::for_each_probepoint(mm, |probepoint| {
        probepoint.read(|clients| {
            for entry in clients.iter() {
                let probe = &entry.probe;
                if entry.group == group
                    && probe.follows()
                    && last.is_none_or(|last| probe.id > last)
                    && next.as_ref().is_none_or(|next| probe.id < next.id)
                {
                    next = Some(probe.clone());
                }
            }
        });
    });
    next
}

/// Puts a probe in a child as well. If that fails, the child goes without.
fn join(probe: &Arc<Probe>, child: &Arc<Process>) {
    if probe.enter(child).is_err() {
        probe.misses.increment();
    }
}
