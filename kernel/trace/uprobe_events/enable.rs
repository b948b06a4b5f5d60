// SPDX-License-Identifier: GPL-2.0

//! Insertion of the probes of an enabled event, for tracing and for perf.
//!
//! For tracing, all probes of the event are inserted. For perf, a probe is inserted while a perf
//! event is open that counts in the process of the probe; a perf event counts in one thread and the
//! threads that inherit it, or in all threads. Otherwise a user with permission to count only in
//! the user's own thread could have breakpoints inserted into the processes of others.
//!
//! An event lists its perf events. C's uprobes use the same list, and the same field of
//! `struct perf_event` as its link, for the same purpose.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use crate::{
    probe::EventProbe,
    record,
    trace_event::{
        EventsLocked,
        LockedSlot,
        TraceEvent, //
    },
};
use core::ptr;
use kernel::{
    bindings,
    ffi::{
        c_uint,
        c_ulong, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        ArcBorrow, //
    },
    task::Task,
    uprobes::Detection, //
};
use uprobes::Registration;

/// Usage that an event is enabled for. It can be enabled for both at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Hits are recorded in the trace buffers of the files that are enabled.
    Trace,
    /// Hits go to perf, and to the BPF programs that are attached there.
    Perf,
}

impl Usage {
    /// All usages.
    pub(crate) const ALL: [Self; 2] = [Self::Trace, Self::Perf];

    /// Returns the flag that an event has while it is enabled for this usage.
    pub(crate) fn flag(self) -> c_uint {
        match self {
            Self::Trace => bindings::TP_FLAG_TRACE,
            Self::Perf => bindings::TP_FLAG_PROFILE,
        }
    }
}

/// State of a probe for one [`Usage`].
pub(crate) struct UsageState {
    /// The event, while the probe is live for this usage.
    live: Atomic<usize>,
    /// The registration of the probe, while it is inserted for this usage.
    registration: LockedSlot<Registration>,
    /// The state of RCU when the event was removed from `live`.
    stopped: LockedSlot<c_ulong>,
}

impl UsageState {
    pub(crate) fn new() -> Self {
        Self {
            live: Atomic::new(0),
            registration: LockedSlot::new(),
            stopped: LockedSlot::new(),
        }
    }

    /// Returns the event, if the probe is live for this usage.
    #[inline]
    fn event(&self) -> Option<*mut bindings::trace_probe_event> {
        match self.live.load(Acquire) {
            0 => None,
            event => Some(event as *mut bindings::trace_probe_event),
        }
    }

    /// Marks the probe as live.
    fn set_live(&self, event: TraceEvent<'_>) {
        self.live.store(event.as_ptr() as usize, Release);
    }

    /// Marks the probe as not live, after it was removed or could not be inserted.
    fn set_dead(&self, locked: &EventsLocked) {
        if self.event().is_some() {
            self.live.store(0, Release);
            // SAFETY: No preconditions.
            let now = unsafe { bindings::get_state_synchronize_rcu() };
            self.stopped.replace(Some(now), locked);
        }
    }

    /// Waits until no RCU reader sees the event, after the probe was marked as not live.
    pub(crate) fn synchronize(&self, locked: &EventsLocked) {
        if let Some(stopped) = self.stopped.replace(None, locked) {
            // SAFETY: This may sleep, because the holder of `event_mutex` may.
            unsafe { bindings::cond_synchronize_rcu(stopped) };
        }
    }
}

impl EventProbe {
    #[inline]
    pub(crate) fn state(&self, usage: Usage) -> &UsageState {
        match usage {
            Usage::Trace => &self.trace,
            Usage::Perf => &self.perf,
        }
    }

    /// Returns whether the event is enabled for `usage`. If so, the probe stays linked to its event
    /// until the end of an RCU read-side critical section around the call.
    #[inline]
    pub(crate) fn is_live(&self, usage: Usage) -> bool {
        self.live_event(usage).is_some()
    }

    /// Returns the event, if the probe is live.
    #[inline]
    pub(crate) fn live_event(&self, usage: Usage) -> Option<*mut bindings::trace_probe_event> {
        self.state(usage).event()
    }

    /// Calls `f` with the registration of the probe for a usage, if it is inserted.
    fn inspect<R>(
        &self,
        usage: Usage,
        f: impl FnOnce(&Registration) -> R,
        locked: &EventsLocked,
    ) -> Option<R> {
        self.state(usage).registration.inspect(f, locked)
    }

    /// Returns the number of hits or returns that were lost to the trace while the event was
    /// enabled, plus those that were lost to perf while it was enabled for perf.
    pub(crate) fn misses(&self, locked: &EventsLocked) -> usize {
        let before = self
            .unrecorded
            .sum()
            .wrapping_add(self.undetected.load(Relaxed));

        // The sums wrap, as the counters do.
        Usage::ALL
            .into_iter()
            .filter_map(|usage| {
                self.inspect(usage, |inserted| inserted.counts().misses as usize, locked)
            })
            .fold(before, usize::wrapping_add)
    }

    /// Returns how returns are detected, if the probe is an enabled return probe.
    pub(crate) fn detection(&self, locked: &EventsLocked) -> Option<Detection> {
        Usage::ALL
            .into_iter()
            .find_map(|usage| self.inspect(usage, Registration::detection, locked)?)
    }

    /// Returns whether the probe has been disarmed because of a misbehaving handler while the event
    /// is enabled.
    pub(crate) fn is_disarmed(&self, locked: &EventsLocked) -> bool {
        Usage::ALL.into_iter().any(|usage| {
            self.inspect(usage, Registration::is_disarmed, locked)
                .unwrap_or(false)
        })
    }

    /// Inserts the probes of an event that are `needed` and are not inserted yet.
    ///
    /// A process that has exited, or has executed another program, does not prevent the insertion
    /// of the other probes. C's uprobes treat a file that no process maps in the same way.
    ///
    /// # Errors
    ///
    /// [`ESRCH`] if the processes of all probes are over, otherwise as for [`uprobes::register`].
    /// The caller must [stop](Self::stop) the probes that have been started.
    pub(crate) fn start_all(
        event: TraceEvent<'_>,
        usage: Usage,
        needed: impl Fn(&Self) -> bool,
    ) -> Result {
        let mut result = Err(ESRCH);
        for probe in event.probes() {
            let started = if probe.is_live(usage) {
                Ok(())
            } else if needed(&probe) {
                Self::start(probe, usage, event)
            } else if probe.target.process.is_over() {
                Err(ESRCH)
            } else {
                Ok(())
            };
            match started {
                Ok(()) => result = Ok(()),
                Err(ESRCH) => (),
                Err(error) => return Err(error),
            }
        }
        result
    }

    /// Inserts a listed probe of `event`. From then on hits go to the consumer for `usage`.
    pub(crate) fn start(probe: ArcBorrow<'_, Self>, usage: Usage, event: TraceEvent<'_>) -> Result {
        let state = probe.state(usage);

        // INVARIANT: The probe is linked to the event.
        state.set_live(event);
        let registration =
            record::register(probe, usage).inspect_err(|_| state.set_dead(event.locked()))?;
        state
            .registration
            .replace(Some(registration), event.locked());
        Ok(())
    }

    /// Removes the probes that are inserted for a usage, and waits until no hit is being handled.
    pub(crate) fn stop<'a>(
        probes: impl Iterator<Item = ArcBorrow<'a, Self>> + Clone,
        usage: Usage,
        locked: &EventsLocked,
    ) {
        let registrations = probes.clone().filter_map(|probe| {
            let registration = probe.state(usage).registration.replace(None, locked)?;

            probe
                .undetected
                .add(registration.counts().misses as usize, Relaxed);
            Some(registration)
        });
        Registration::unregister_all(registrations);
        probes.for_each(|probe| probe.state(usage).set_dead(locked));
    }
}

/// The perf events that are open on an event.
impl TraceEvent<'_> {
    /// Returns whether a probe of the event must be inserted for a usage.
    pub(crate) fn needs(self, probe: &EventProbe, usage: Usage) -> bool {
        self.is_enabled_for(usage)
            && match usage {
                Usage::Trace => true,
                Usage::Perf => self.perf_needs(probe),
            }
    }

    /// Returns whether an open perf event counts in the process of a probe.
    fn perf_needs(self, probe: &EventProbe) -> bool {
        let event = self.as_ptr();

        // SAFETY: By the type invariants the event exists, and `event_mutex` is held, so that the
        // list does not change. A perf event holds a reference to its target.
        unsafe {
            if bindings::trace_probe_perf_everywhere(event) {
                return true;
            }
            let head = bindings::trace_probe_perf_targets(event);
            let mut link = (*head).next;
            while !ptr::eq(link, head) {
                // CAST: `Task` is a transparent wrapper.
                let thread = &*bindings::trace_probe_perf_target(link).cast::<Task>();
                if probe.target.process.has_thread(thread) {
                    return true;
                }
                link = (*link).next;
            }
        }
        false
    }

    /// Lists a perf event that is being opened, and inserts the probes that it needs.
    ///
    /// # Errors
    ///
    /// As for [`EventProbe::start_all`]; on failure the perf event is not listed.
    ///
    /// # Safety
    ///
    /// `perf` must be a perf event that is being opened on the event.
    pub(crate) unsafe fn open_perf(self, perf: *mut bindings::perf_event) -> Result {
        // SAFETY: By the type invariants the event exists and `event_mutex` is held. By the safety
        // requirements `perf` is being opened.
        let inherited = unsafe {
            bindings::trace_probe_perf_open(self.as_ptr(), perf);
            bindings::trace_probe_perf_inherited(perf)
        };
        // The perf event that an inherited one comes from stays open for longer. Either the new
        // thread belongs to the same process, or there is no probe in the new process.
        if inherited {
            return Ok(());
        }
        EventProbe::start_all(self, Usage::Perf, |probe| self.perf_needs(probe)).inspect_err(|_| {
            // SAFETY: The perf event has been listed above.
            unsafe { self.close_perf(perf) }
        })
    }

    /// Takes a perf event off the list, and removes the probes that no other one needs.
    ///
    /// # Safety
    ///
    /// `perf` must have been listed by [`TraceEvent::open_perf`].
    pub(crate) unsafe fn close_perf(self, perf: *mut bindings::perf_event) {
        // SAFETY: By the type invariants the event exists and `event_mutex` is held. By the safety
        // requirements `perf` is listed.
        let inherited = unsafe {
            bindings::trace_probe_perf_close(self.as_ptr(), perf);
            bindings::trace_probe_perf_inherited(perf)
        };
        if !inherited {
            let needless = self.probes().filter(|probe| !self.perf_needs(probe));
            EventProbe::stop(needless, Usage::Perf, self.locked());
        }
    }
}
