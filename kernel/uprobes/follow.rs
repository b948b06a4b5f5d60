// SPDX-License-Identifier: GPL-2.0

//! Probes that follow `fork()`: a process that a probed one creates has them from its first
//! instruction.
//!
//! The child belongs to the same registration, so it is unregistered with it, and what it creates
//! is followed in turn. Calls that had not returned when it was created are not known of in it.

use crate::{
    presence,
    probe::{
        any_follows,
        Probe, //
    },
    probepoint,
    process::Process, //
};

use kernel::{
    mm::Mm,
    prelude::*,
    sync::Arc,
    task::Task,
    threads::ThreadGroup, //
};

/// The current thread has created the process of `child`, which has not run.
///
/// Context: may sleep.
pub(crate) fn inherit(child: &Task) {
    if !any_follows() {
        return;
    }
    let parent = kernel::current!();
    let Some(mm) = parent.mm() else { return };
    // Most processes that fork have no probes, though another process has one that follows.
    if !ubp::is_probed(mm) {
        return;
    }
    let probes = following(mm, Task::current_group());
    if probes.is_empty() {
        return;
    }
    let process = Process::of(child);
    for probe in &probes {
        let joined = process.as_ref().map_err(|error| *error);
        // If that fails, the child goes without.
        if joined
            .and_then(|child| presence::enter(probe, child))
            .is_err()
        {
            probe.misses.increment();
        }
    }
}

/// Returns the probes that follow a process, in the order of their registration: that is the order
/// in which the child's are called.
fn following(mm: &Mm, group: ThreadGroup) -> KVec<Arc<Probe>> {
    let mut found = KVec::<Arc<Probe>>::new();
    probepoint::for_each(mm, |probepoint| {
        probepoint.read(|clients| {
            let of_group = clients.iter().filter(|entry| entry.group == group);
            for entry in of_group.filter(|entry| entry.probe.follows()) {
                // The child goes without those that there is no memory for.
                if add(&mut found, &entry.probe).is_err() {
                    entry.probe.misses.increment();
                }
            }
        });
    });
    found
}

/// Adds a probe to a list in the order of their numbers, unless it is there.
fn add(list: &mut KVec<Arc<Probe>>, probe: &Arc<Probe>) -> Result {
    if let Err(at) = list.binary_search_by_key(&probe.id, |there| there.id) {
        list.reserve(1, GFP_KERNEL)?;
        list.insert_within_capacity(at, probe.clone())
            .map_err(|_| ENOMEM)?;
    }
    Ok(())
}
