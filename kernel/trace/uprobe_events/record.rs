// SPDX-License-Identifier: GPL-2.0

//! Consumers of an enabled probe, one for each usage: the trace buffers and perf.
//!
//! For tracing, arguments in registers are recorded directly at the hit, with interrupts disabled,
//! because that is faster. Perf is called in task context, because its BPF programs may sleep.
//!
//! # Lifetimes
//!
//! Preemption or interrupts are disabled while an entry is written, which holds off RCU's grace
//! periods. The link of a file to the event is freed after such a grace period. Filters, triggers
//! and the file itself are freed when `tracepoint_synchronize_unregister()` has returned, which
//! waits for a grace period of Tasks Trace RCU; each of these includes one of RCU. The kernel's own
//! probes rely on the same.
//!
//! In an RCU read-side critical section in which the probe is live, it is linked to its event. The
//! array of BPF programs, and the programs, are freed after a grace period of Tasks Trace RCU,
//! because they may sleep. Perf frees its lists when `tracepoint_synchronize_unregister()` has
//! returned; disabled preemption here counts as an RCU reader.
//!
//! C headers: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h),
//! [`include/linux/trace_events.h`](srctree/include/linux/trace_events.h) and
//! [`include/linux/bpf.h`](srctree/include/linux/bpf.h)

use crate::{
    enable::Usage,
    entry::{
        Assembly,
        Contents,
        Direct,
        ProbeKind, //
    },
    probe::EventProbe, //
};
use core::{
    mem::{
        size_of,
        MaybeUninit, //
    },
    ptr, //
};
use kernel::{
    alloc::AllocError,
    bindings,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    ptregs::PtRegs,
    sync::{
        tasks_trace,
        Arc,
        ArcBorrow, //
    },
    types::NotThreadSafe, //
};
use uprobes::{
    Consumer,
    HandlerMask, //
    ProbeSpec,
    Registration,
};

/// Inserts a probe, with the consumer for `usage`.
pub(crate) fn register(probe: ArcBorrow<'_, EventProbe>, usage: Usage) -> Result<Registration> {
    let target = &probe.target;
    let spec = ProbeSpec {
        size: target.size,
        ..ProbeSpec::at(target.addr)
    };
    let is_direct = probe.kind == ProbeKind::Hit && probe.args.plan().is_direct;
    let consumer: Arc<dyn Consumer> = match usage {
        Usage::Trace if is_direct => Arc::new(DirectRecorder(probe.into()), GFP_KERNEL)?,
        Usage::Trace => Arc::new(Recorder(probe.into()), GFP_KERNEL)?,
        Usage::Perf => Arc::new(Profiler(probe.into()), GFP_KERNEL)?,
    };

    uprobes::register(&target.process, spec, consumer)
}

/// Records hits in the trace buffers, with interrupts disabled. All arguments are in the registers.
struct DirectRecorder(Arc<EventProbe>);

impl Consumer for DirectRecorder {
    fn handlers(&self) -> HandlerMask {
        HandlerMask::INTERRUPT
    }

    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        if let Some(entry) = Direct::new(&self.0, regs.ip(), regs) {
            // SAFETY: Only uprobes calls this, with interrupts disabled.
            unsafe { self.0.record(entry) };
        }
        self.0.hits.increment();
    }
}

/// Records hits and returns in the trace buffers, in task context.
struct Recorder(Arc<EventProbe>);

impl Consumer for Recorder {
    fn handlers(&self) -> HandlerMask {
        handlers_in_task(&self.0)
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.0.count(Usage::Trace, self.0.record_in_task(regs));
    }

    fn returned(&self, regs: &mut PtRegs) {
        self.0.count(Usage::Trace, self.0.record_in_task(regs));
    }
}

/// Reports hits and returns to perf.
struct Profiler(Arc<EventProbe>);

impl Consumer for Profiler {
    fn handlers(&self) -> HandlerMask {
        handlers_in_task(&self.0)
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.0.count(Usage::Perf, self.0.profile(regs));
    }

    fn returned(&self, regs: &mut PtRegs) {
        self.0.count(Usage::Perf, self.0.profile(regs));
    }
}

fn handlers_in_task(probe: &EventProbe) -> HandlerMask {
    match probe.kind {
        ProbeKind::Hit => HandlerMask::TASK,
        ProbeKind::Return => HandlerMask::RETURNED,
    }
}

impl EventProbe {
    /// Counts a hit or a return.
    fn count(&self, usage: Usage, delivered: Result<(), AllocError>) {
        match delivered {
            // If the event is traced as well, the recorder counts the hit.
            Ok(()) if usage == Usage::Perf && self.is_live(Usage::Trace) => (),
            Ok(()) => self.hits.increment(),
            Err(AllocError) => self.unrecorded.increment(),
        }
    }

    /// Records a hit or a return in the current task in the trace buffers for which the event is
    /// enabled. May sleep.
    ///
    /// # Errors
    ///
    /// Returns an error if the hit was lost because there was no memory to assemble the entry in.
    fn record_in_task(&self, regs: &PtRegs) -> Result<(), AllocError> {
        if let Some(entry) = Direct::new(self, regs.ip(), regs) {
            let _no_preemption = NoPreemption::new();
            // SAFETY: `_no_preemption` keeps preemption disabled.
            unsafe { self.record(entry) };
            return Ok(());
        }
        if !self.is_live(Usage::Trace) {
            return Ok(());
        }
        Assembly::new(self, regs.ip(), regs).with_entry(|entry| {
            let _no_preemption = NoPreemption::new();
            // SAFETY: `_no_preemption` keeps preemption disabled.
            unsafe { self.record(entry) };
        })
    }

    /// Writes an entry to the trace buffers for which the event is enabled.
    ///
    /// # Safety
    ///
    /// Preemption or interrupts must be disabled.
    #[inline(always)]
    unsafe fn record(&self, contents: impl Contents) {
        let Some(event) = self.live_event(Usage::Trace) else {
            return;
        };

        // SAFETY: The probe is live, and so is linked to its event while preemption is disabled.
        // That also keeps each link, once found, and its file.
        unsafe {
            let files = bindings::trace_probe_files(event);
            let mut link = bindings::list_next_rcu(files);

            while link != files {
                write(bindings::trace_probe_file(link), contents);
                link = bindings::list_next_rcu(link);
            }
        }
    }
}

/// Writes an entry to the buffer of a file, subject to the file's triggers and filter.
///
/// # Safety
///
/// Preemption must be disabled. `file` must exist and be a file of the event that the entry is of.
#[inline(always)]
unsafe fn write(file: *mut bindings::trace_event_file, contents: impl Contents) {
    let mut slot = MaybeUninit::<bindings::trace_event_buffer>::uninit();

    // SAFETY: By the safety requirements `file` exists. The function initialises `slot`.
    let entry = unsafe {
        bindings::trace_probe_reserve(slot.as_mut_ptr(), file, contents.len() as c_ulong)
    };
    if entry.is_null() {
        return;
    }
    // SAFETY: The reservation has the requested room, and is committed only here.
    unsafe {
        contents.store(entry.cast());
        bindings::trace_event_buffer_commit(slot.as_mut_ptr());
    }
}

/// Delivery to perf, and to the BPF programs that are attached through it.
impl EventProbe {
    /// Reports a hit or a return in the current task to perf, if the BPF programs let it pass.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Returns an error if the hit was lost because there was no memory to assemble the entry in.
    fn profile(&self, regs: &mut PtRegs) -> Result<(), AllocError> {
        // The programs may change the registers.
        let at = regs.ip();

        // Nothing is fetched for a thread that perf does not count in.
        if !self.pass_programs(regs) || !self.is_awaited() {
            return Ok(());
        }
        if let Some(entry) = Direct::new(self, at, regs) {
            self.submit(entry, regs);
            return Ok(());
        }
        Assembly::new(self, at, regs).with_entry(|entry| self.submit(entry, regs))
    }

    /// Runs the programs, which may change the registers. Returns whether all let the hit pass.
    #[inline]
    fn pass_programs(&self, regs: &mut PtRegs) -> bool {
        let _guard = tasks_trace::read_lock();

        let programs = self.with_event(|call| {
            // SAFETY: The event exists, and `_guard` is the critical section that the function
            // needs.
            unsafe { bindings::trace_probe_programs(call) }
        });
        match programs {
            Some(programs) if !programs.is_null() => {
                // SAFETY: The array and the programs stay valid until the end of the critical
                // section in which the array was found. `regs` is borrowed exclusively.
                unsafe {
                    bindings::trace_probe_run_programs(programs, regs.as_ptr(), self.address())
                }
            }
            _ => true,
        }
    }

    /// Returns whether a perf event counts on this CPU at the moment.
    #[inline]
    fn is_awaited(&self) -> bool {
        self.with_event(|call| {
            // SAFETY: The event exists and is enabled for perf, so that it has lists.
            !unsafe { bindings::trace_probe_perf_list(call) }.is_null()
        })
        .unwrap_or(false)
    }

    /// Gives an entry to the perf events that count on this CPU.
    fn submit(&self, contents: impl Contents, regs: &PtRegs) {
        self.with_event(|call| {
            let len = contents.len() + size_of::<u32>();
            // In perf's buffer a 32-bit length precedes the entry, and both together are aligned.
            let size = len.next_multiple_of(size_of::<u64>()) - size_of::<u32>();
            let mut context: c_int = 0;

            // CAST: `size` fits, because an entry has a few thousand bytes at most.
            // SAFETY: The event exists and is enabled for perf, so that there are lists and
            // buffers. They belong to this CPU, because preemption is disabled. The entry has
            // `size` bytes of room, and the bytes that `contents` does not write are zero.
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

    /// Calls `f` with the event, with preemption disabled, if the event is enabled for perf.
    #[inline]
    fn with_event<R>(&self, f: impl FnOnce(*mut bindings::trace_event_call) -> R) -> Option<R> {
        let _no_preemption = NoPreemption::new();

        let event = self.live_event(Usage::Perf)?;
        // SAFETY: The probe is live, and so is linked to its event while preemption is disabled.
        Some(f(unsafe { &raw mut (*event).call }))
    }
}

/// Disables preemption of the current task.
struct NoPreemption(NotThreadSafe);

impl NoPreemption {
    #[inline]
    fn new() -> Self {
        // SAFETY: `drop()` enables preemption again.
        unsafe { bindings::preempt_disable_notrace() };
        Self(NotThreadSafe)
    }
}

impl Drop for NoPreemption {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new()` disabled preemption in the same task.
        unsafe { bindings::preempt_enable_notrace() };
    }
}
