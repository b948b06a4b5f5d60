// SPDX-License-Identifier: GPL-2.0

//! A hit is recorded: an entry is written to the trace buffers.
//!
//! # What keeps a file while an entry is written
//!
//! Preemption is disabled meanwhile, so that RCU's grace periods do not end: a file's link to the
//! event is freed after one of these. Filters, triggers and the file itself go when
//! `tracepoint_synchronize_unregister()` has returned, which waits for a grace period of Tasks
//! Trace RCU, and there is one of RCU in each of these. The probes of the kernel itself rely on the
//! same.
//!
//! C header: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h)

use super::{
    contents::{
        Contents,
        Fetched, //
    },
    plan::Plan,
    usage::Usage,
    Probe,
    ProbeEvent, //
};
use crate::{
    alloc::AllocError,
    bindings,
    ffi::c_ulong,
    ptregs::PtRegs,
    types::NotThreadSafe, //
};
use core::{
    mem::MaybeUninit,
    ptr, //
};

impl<T: ProbeEvent> Probe<T> {
    /// Whether [`Probe::trace_directly`] records hits of this probe.
    pub fn is_direct(&self) -> bool {
        matches!(self.args.plan(), Plan::Direct(_))
    }

    /// Records a hit of the current task, or a return, in the trace buffers for which the event is
    /// enabled. `at` is the address of the probed instruction, or that which is returned to. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// An error means that the hit was lost, as there was no memory to put the entry together.
    #[inline]
    pub fn trace(&self, at: usize, regs: &PtRegs) -> Result<(), AllocError> {
        if self.trace_directly(at, regs) || !self.is_live(Usage::Trace) {
            return Ok(());
        }
        self.source(at, regs)
            .with_entry(|entry| self.record(&Fetched(entry)))
    }

    /// Does the same without sleeping, in any context, if all arguments are in the registers.
    /// Returns whether they are.
    // A function of its own would take as many instructions as some of what it does.
    #[inline(always)]
    pub fn trace_directly(&self, at: usize, regs: &PtRegs) -> bool {
        let Plan::Direct(stores) = self.args.plan() else {
            return false;
        };

        self.record(&self.direct(at, stores, regs));
        true
    }

    /// Writes an entry to the trace buffers.
    #[inline]
    fn record(&self, contents: &impl Contents) {
        let _no_preemption = NoPreemption::new();
        if !self.is_live(Usage::Trace) {
            return;
        }

        let tp = self.args.as_ptr();
        // SAFETY: The probe is live, and so linked to its event while preemption is disabled, which
        // also keeps each link, once found, and its file.
        unsafe {
            let link = bindings::trace_probe_next_link_rcu(tp, ptr::null_mut());

            if !link.is_null() {
                write((*link).file, contents);
                let next = bindings::trace_probe_next_link_rcu(tp, link);
                if !next.is_null() {
                    write_to_others(tp, next, contents);
                }
            }
        }
    }
}

/// Writes an entry to the buffers of the files from that of `link` on. Most events have but one.
///
/// # Safety
///
/// Preemption must be disabled, since `link` was found. It must be one of the event of `tp`, and
/// the entry one of this event.
#[cold]
unsafe fn write_to_others(
    tp: *mut bindings::trace_probe,
    mut link: *mut bindings::event_file_link,
    contents: &impl Contents,
) {
    while !link.is_null() {
        // SAFETY: By the safety requirements, for this link and those after it.
        unsafe {
            write((*link).file, contents);
            link = bindings::trace_probe_next_link_rcu(tp, link);
        }
    }
}

/// Writes an entry to the buffer of a file. The file's triggers and filter have their say.
///
/// # Safety
///
/// Preemption must be disabled. `file` must exist, and be a file of the event that the entry is of.
// To call it, and to have its arguments in memory, would take a tenth of its instructions.
#[inline(always)]
unsafe fn write(file: *mut bindings::trace_event_file, contents: &impl Contents) {
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
        bindings::trace_probe_commit(slot.as_ptr());
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
