// SPDX-License-Identifier: GPL-2.0

//! A hit is recorded: an entry is written to the trace buffers.
//!
//! # What keeps a file while an entry is written
//!
//! Preemption or interrupts are disabled meanwhile, so that RCU's grace periods do not end: the
//! link of a file to the event is freed after one of these. Filters, triggers and the file itself
//! go when `tracepoint_synchronize_unregister()` has returned, which waits for a grace period of
//! Tasks Trace RCU, and there is one of RCU in each of these. The probes of the kernel itself rely
//! on the same.
//!
//! C header: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h)

use super::{
    contents::{
        Contents,
        Fetched, //
    },
    usage::Usage,
    Probe,
    ProbeEvent, //
};
use crate::{
    alloc::AllocError,
    bindings,
    ffi::c_ulong,
    ptregs::PtRegs,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::NotThreadSafe, //
};
use core::mem::MaybeUninit;

impl<T: ProbeEvent> Probe<T> {
    /// Records a hit of the current task, or a return, in the trace buffers for which the event is
    /// enabled. `at` is the address of the probed instruction, or that which is returned to. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// An error means that the hit was lost, as there was no memory to put the entry together.
    #[inline]
    pub fn trace(&self, at: usize, regs: &PtRegs) -> Result<(), AllocError> {
        if self.args.is_direct() {
            let _no_preemption = NoPreemption::new();
            // SAFETY: There is no preemption.
            unsafe { self.record(self.direct(at, regs)) };
            return Ok(());
        }
        if !self.is_live(Usage::Trace) {
            return Ok(());
        }
        self.source(at, regs).with_entry(|entry| {
            let _no_preemption = NoPreemption::new();
            // SAFETY: There is no preemption.
            unsafe { self.record(Fetched(entry)) };
        })
    }

    /// Writes an entry to the trace buffers.
    ///
    /// # Safety
    ///
    /// Preemption or interrupts are disabled.
    #[inline(always)]
    unsafe fn record(&self, contents: impl Contents) {
        let Some(event) = self.live_event(Usage::Trace) else {
            return;
        };

        // SAFETY: The probe is live, and so linked to its event while there is no preemption, which
        // also keeps each link, once found, and its file.
        unsafe {
            let files = bindings::trace_probe_files(event);
            let first = bindings::list_next_rcu(files);

            // Most events have one. Nothing is to be kept while that is written to.
            if first != files && bindings::list_next_rcu(first) == files {
                let file = bindings::trace_probe_file(first);
                if bindings::trace_probe_is_plain(file) {
                    return write_plain(file, contents);
                }
            }
            write_to_all(files, first, contents);
        }
    }
}

/// A probe the arguments of which can be had in any context.
///
/// # Invariants
///
/// They are all in the registers.
pub struct DirectProbe<T: ProbeEvent>(Arc<Probe<T>>);

impl<T: ProbeEvent> DirectProbe<T> {
    /// Returns the probe, if it is one.
    pub fn new(probe: ArcBorrow<'_, Probe<T>>) -> Option<Self> {
        // INVARIANT: They do not change any more.
        probe.args.is_direct().then(|| Self(probe.into()))
    }

    /// Returns the probe.
    #[inline]
    pub fn probe(&self) -> &Probe<T> {
        &self.0
    }

    /// Records a hit of the current task, at the instruction that the registers are at, in the
    /// trace buffers for which the event is enabled.
    ///
    /// # Safety
    ///
    /// Interrupts are disabled.
    // A function of its own would take as many instructions as some of what it does.
    #[inline(always)]
    pub unsafe fn trace_hit(&self, regs: &PtRegs) {
        // SAFETY: By the safety requirements.
        unsafe { self.0.record(self.0.direct_hit(regs)) };
    }
}

/// Writes an entry to the buffers of the files from that of `link` on, if any.
///
/// # Safety
///
/// There must have been no preemption since `link` was found, nor must there be. It must be on the
/// list `files` of an event, or be that, and the entry one of this event.
#[inline(never)]
unsafe fn write_to_all(
    files: *mut bindings::list_head,
    mut link: *mut bindings::list_head,
    contents: impl Contents,
) {
    while link != files {
        // SAFETY: By the safety requirements, for this link and those after it.
        unsafe {
            let file = bindings::trace_probe_file(link);
            if bindings::trace_probe_is_plain(file) {
                write_plain(file, contents);
            } else {
                write_special(file, contents);
            }
            link = bindings::list_next_rcu(link);
        }
    }
}

/// Writes an entry to the buffer of a file that nobody wants more of.
///
/// # Safety
///
/// There must be no preemption. `file` must exist, and be a file of the event that the entry is of,
/// and have been plain since there was no preemption.
// Its arguments are not to be in memory for a call.
#[inline(always)]
unsafe fn write_plain(file: *mut bindings::trace_event_file, contents: impl Contents) {
    // SAFETY: By the safety requirements; that there is no preemption keeps the buffer.
    let (buffer, event) = unsafe {
        let buffer = bindings::trace_probe_buffer(file);
        let len = contents.len() as c_ulong;
        (buffer, bindings::ring_buffer_lock_reserve(buffer, len))
    };
    if event.is_null() {
        return;
    }
    // SAFETY: There is the room that was asked for, and the reservation is ours to commit.
    unsafe {
        contents.store(bindings::trace_probe_plain_entry(file, event).cast());
        bindings::trace_event_commit_plain(buffer, event, file);
    }
}

/// As [`write_plain`], for a file with triggers or a filter, which have their say, and for what is
/// noted in an entry when the thread is about to be preempted.
///
/// # Safety
///
/// There must be no preemption. `file` must exist, and be a file of the event that the entry is of.
unsafe fn write_special(file: *mut bindings::trace_event_file, contents: impl Contents) {
    let mut slot = MaybeUninit::<bindings::trace_event_buffer>::uninit();

    // SAFETY: By the safety requirements; `slot` is for the function to initialise.
    let entry = unsafe {
        bindings::trace_probe_reserve(slot.as_mut_ptr(), file, contents.len() as c_ulong)
    };
    if entry.is_null() {
        return;
    }
    // SAFETY: There is the room that was asked for, and the reservation is ours to commit.
    unsafe {
        contents.store(entry.cast());
        bindings::trace_event_buffer_commit(slot.as_mut_ptr());
    }
}

/// Keeps the current task from being preempted.
pub(super) struct NoPreemption(NotThreadSafe);

impl NoPreemption {
    #[inline]
    pub(super) fn new() -> Self {
        // SAFETY: What is disabled here is enabled again by `drop()`.
        unsafe { bindings::preempt_disable_notrace() };
        Self(NotThreadSafe)
    }
}

impl Drop for NoPreemption {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Disabled by `new()`, in the same task.
        unsafe { bindings::preempt_enable_notrace() };
    }
}
