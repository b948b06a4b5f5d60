// SPDX-License-Identifier: GPL-2.0

//! Probes that follow `fork()`: the child process has them from its first instruction on.
//!
//! The child belongs to the registration of the parent, so the owner unregisters both at once. A
//! child of the child is followed in turn. The return of a call that the parent made before the
//! `fork()` is not detected in the child.

use crate::{
    files,
    probe::{
        any_follows,
        Probe, //
    },
    probepoint,
    process::Process,
    registration, //
};

use kernel::{
    mm::Mm,
    prelude::*,
    sync::Arc,
    task::Task,
    threads::ThreadGroup, //
};

/// Attaches the probes that follow the current process to the process of `child`, which the current
/// thread has created and which has not run yet.
///
/// Context: may sleep.
pub(crate) fn inherit(child: &Task) {
    let parent = kernel::current!();
    let Some(mm) = parent.mm() else { return };
    // A process that has just mapped a file with probes has no breakpoints yet, and is marked.
    if !ubp::is_probed(mm) && !mm.has_uprobes() {
        return;
    }
    // After vfork() the child executes in the address space of the parent.
    if let Some(copy) = child.get_mm().filter(|copy| copy.as_raw() != mm.as_raw()) {
        files::inherit(mm, &copy);
    }
    if !any_follows() {
        return;
    }
    let probes = following(mm, Task::current_group());
    if probes.is_empty() {
        return;
    }
    let process = Process::from_task(child);
    for probe in &probes {
        let child = process.as_ref().map_err(|error| *error);
        // On failure the child does not have the probe.
        if child
            .and_then(|child| registration::attach(probe, child))
            .is_err()
        {
            probe.misses.increment();
        }
    }
}

/// Returns the probes that follow a process, in the order of their registration, so that the chains
/// of the child have the same order.
fn following(mm: &Mm, group: ThreadGroup) -> KVec<Arc<Probe>> {
    let mut found = KVec::<Arc<Probe>>::new();
    probepoint::for_each(mm, |probepoint| {
        probepoint.read(|chain| {
            let of_group = chain.iter().filter(|entry| entry.group == group);
            for entry in of_group.filter(|entry| entry.probe.follows()) {
                // Without memory for the list, the child does not have the probe.
                if add(&mut found, &entry.probe).is_err() {
                    entry.probe.misses.increment();
                }
            }
        });
    });
    found
}

/// Adds a probe to a list in the order of numbers, unless the list has it.
fn add(list: &mut KVec<Arc<Probe>>, probe: &Arc<Probe>) -> Result {
    if let Err(at) = list.binary_search_by_key(&probe.id, |there| there.id) {
        list.reserve(1, GFP_KERNEL)?;
        list.insert_within_capacity(at, probe.clone())
            .map_err(|_| ENOMEM)?;
    }
    Ok(())
}
