// SPDX-License-Identifier: GPL-2.0

//! A hit is told to perf, and to the BPF programs that are attached through it.
//!
//! # What keeps what is used
//!
//! The probe is linked to its event in an RCU read-side critical section in which it is live. The
//! array of programs, and the programs, are freed after a grace period of Tasks Trace RCU, as they
//! may sleep. Perf frees its lists when `tracepoint_synchronize_unregister()` has returned, which
//! waits for one, and with it for one of RCU, as preemption being disabled is to us.
//!
//! C headers: [`include/linux/trace_events.h`](srctree/include/linux/trace_events.h) and
//! [`include/linux/bpf.h`](srctree/include/linux/bpf.h)

use super::{
    contents::{
        Contents,
        Fetched, //
    },
    record::NoPreemption,
    usage::Usage,
    Probe,
    ProbeEvent, //
};
use crate::{
    alloc::AllocError,
    bindings,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    ptregs::PtRegs,
    sync::tasks_trace, //
};
use core::{
    mem::size_of,
    ptr, //
};

impl<T: ProbeEvent> Probe<T> {
    /// Tells perf of a hit of the current task, or of a return, if the BPF programs let it pass.
    /// `at` is the address of the probed instruction, or that which is returned to. May sleep.
    ///
    /// # Errors
    ///
    /// An error means that the hit was lost, as there was no memory to put the entry together.
    pub fn profile(&self, at: usize, regs: &mut PtRegs) -> Result<(), AllocError> {
        // Nothing is fetched for a thread that perf does not count in.
        if !self.pass_programs(regs) || !self.is_awaited() {
            return Ok(());
        }
        if self.args.is_direct() {
            self.submit(self.direct(at, regs), regs);
            return Ok(());
        }
        self.source(at, regs)
            .with_entry(|entry| self.submit(Fetched(entry), regs))
    }

    /// Runs the programs, which may change the registers. Returns whether all let the hit pass.
    #[inline]
    fn pass_programs(&self, regs: &mut PtRegs) -> bool {
        let _guard = tasks_trace::read_lock();

        let programs = self.with_event(|call| {
            // SAFETY: The event exists, and we are in the critical section that it takes.
            unsafe { bindings::trace_probe_programs(call) }
        });
        match programs {
            Some(programs) if !programs.is_null() => {
                // SAFETY: The array and the programs are kept by the critical section, in which it
                // was found. The registers are ours to give.
                unsafe {
                    bindings::trace_probe_run_programs(
                        programs,
                        regs.as_ptr(),
                        self.place().address(),
                    )
                }
            }
            _ => true,
        }
    }

    /// Whether a perf event counts on this CPU, now.
    #[inline]
    fn is_awaited(&self) -> bool {
        self.with_event(|call| {
            // SAFETY: The event exists, and is enabled for perf, so that it has lists.
            !unsafe { bindings::trace_probe_perf_list(call) }.is_null()
        })
        .unwrap_or(false)
    }

    /// Gives an entry to the perf events that count on this CPU.
    fn submit(&self, contents: impl Contents, regs: &PtRegs) {
        self.with_event(|call| {
            let len = contents.len() + size_of::<u32>();
            // In perf's buffer a number comes before it, and both together are aligned.
            let size = len.next_multiple_of(size_of::<u64>()) - size_of::<u32>();
            let mut context: c_int = 0;

            // CAST, where `size` is one: An entry has a few thousand bytes at most.
            // SAFETY: The event exists, and is enabled for perf, so that there are lists, and
            // buffers, which are those of this CPU: preemption is disabled. There is room for what
            // was asked for, and what the contents leave of it is zero.
            unsafe {
                let list = bindings::trace_probe_perf_list(call);
                if list.is_null() {
                    return;
                }
                let entry = bindings::perf_trace_buf_alloc(
                    size as c_int,
                    ptr::null_mut(),
                    &raw mut context,
                );
                if entry.is_null() {
                    return;
                }
                contents.store(entry.cast::<u8>());
                bindings::trace_probe_perf_submit(
                    call,
                    entry.cast::<c_void>(),
                    size as c_int,
                    context,
                    regs.as_ptr(),
                    list,
                );
            }
        });
    }

    /// Calls `f` with the event, with preemption disabled, if it is enabled for perf.
    #[inline]
    fn with_event<R>(&self, f: impl FnOnce(*mut bindings::trace_event_call) -> R) -> Option<R> {
        let _no_preemption = NoPreemption::new();

        let event = self.live_event(Usage::Perf)?;
        // SAFETY: The probe is live, and so linked to its event while preemption is disabled.
        Some(f(unsafe { &raw mut (*event).call }))
    }
}
