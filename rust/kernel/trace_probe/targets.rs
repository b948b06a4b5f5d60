// SPDX-License-Identifier: GPL-2.0

//! Perf events that are open on an event, and the probes that they need.
//!
//! A perf event counts in one thread, and in those that inherit it, or in all threads. A probe is
//! in place for perf while a perf event is open that counts in the process of the probe. Otherwise
//! a user who may count in his own thread only could have breakpoints inserted into the processes
//! of others.
//!
//! An event lists its perf events. The list and the field of `struct perf_event` by which they are
//! linked are those that C's uprobes use for the same purpose.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::{
    class::Siblings,
    lock::EventsLocked,
    usage::Usage,
    Probe,
    ProbeEvent, //
};
use crate::{
    bindings,
    prelude::*,
    task::Task, //
};
use core::ptr;

/// The perf events that are open on an event.
///
/// # Invariants
///
/// The event exists for `'a`, and `event_mutex`, which protects the list, is held.
#[derive(Clone, Copy)]
pub(super) struct PerfEvents<'a> {
    event: *mut bindings::trace_probe_event,
    locked: &'a EventsLocked,
}

impl<'a> PerfEvents<'a> {
    /// Returns those of `event`.
    ///
    /// # Safety
    ///
    /// `event` must exist for `'a`.
    pub(super) unsafe fn of(
        event: *mut bindings::trace_probe_event,
        locked: &'a EventsLocked,
    ) -> Self {
        // INVARIANT: By the safety requirements, and because `locked` is borrowed.
        Self { event, locked }
    }

    /// Returns whether one of them counts in the process of a probe.
    pub(super) fn need<T: ProbeEvent>(&self, probe: &Probe<T>) -> bool {
        // SAFETY: By the type invariants.
        if unsafe { bindings::trace_probe_perf_everywhere(self.event) } {
            return true;
        }
        // SAFETY: By the type invariants the event and its list exist, and the list does not
        // change. A perf event holds a reference to its target.
        unsafe {
            let head = bindings::trace_probe_perf_targets(self.event);
            let mut link = (*head).next;
            while !ptr::eq(link, head) {
                // CAST: `Task` is a transparent wrapper.
                let target = &*bindings::trace_probe_perf_target(link).cast::<Task>();
                if probe.place().is_in_process_of(target) {
                    return true;
                }
                link = (*link).next;
            }
        }
        false
    }

    /// Lists a perf event that is being opened, and puts the probes in place that it needs.
    ///
    /// # Errors
    ///
    /// As of [`Probe::start_all`]; the perf event is not listed then.
    ///
    /// # Safety
    ///
    /// `perf` must be a perf event that is being opened on the event, which is one of probes of
    /// type `T`.
    pub(super) unsafe fn open<T: ProbeEvent>(self, perf: *mut bindings::perf_event) -> Result {
        // SAFETY: By the safety requirements and the type invariants.
        let (probes, inherited) = unsafe {
            bindings::trace_probe_perf_open(self.event, perf);
            (
                Siblings::<T>::new(self.event, self.locked),
                bindings::trace_probe_perf_inherited(perf),
            )
        };
        // The perf event that it was inherited from stays open for longer. Either the new thread is
        // one of the same process, or there is no probe in the new process.
        if inherited {
            return Ok(());
        }
        let needed = |probe: &Probe<T>| self.need(probe);
        Probe::start_all(probes, Usage::Perf, needed, self.locked).inspect_err(|_| {
            // SAFETY: By the safety requirements; the perf event has been listed above.
            unsafe { self.close::<T>(perf) }
        })
    }

    /// Takes a perf event off the list, and takes the probes away that no other one needs.
    ///
    /// # Safety
    ///
    /// `perf` must have been listed by [`PerfEvents::open`], with the same `T`.
    pub(super) unsafe fn close<T: ProbeEvent>(self, perf: *mut bindings::perf_event) {
        // SAFETY: By the safety requirements and the type invariants.
        let (probes, inherited) = unsafe {
            bindings::trace_probe_perf_close(self.event, perf);
            (
                Siblings::<T>::new(self.event, self.locked),
                bindings::trace_probe_perf_inherited(perf),
            )
        };
        if !inherited {
            let needless = probes.filter(|probe| !self.need(&**probe));
            Probe::stop(needless, Usage::Perf, self.locked);
        }
    }
}
