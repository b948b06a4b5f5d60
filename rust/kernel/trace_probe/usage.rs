// SPDX-License-Identifier: GPL-2.0

//! What events are enabled for.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::lock::LockedSlot;
use crate::{
    bindings,
    ffi::{
        c_uint,
        c_ulong, //
    },
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
};
use core::ptr;

/// What an event is enabled for. It can be for both at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Hits are recorded in the trace buffers of the files that are enabled.
    Trace,
    /// Hits go to perf, and to the BPF programs that are attached there.
    Perf,
}

impl Usage {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Trace, Self::Perf];

    /// What an event has among its flags while it is enabled for this.
    pub(super) fn flag(self) -> c_uint {
        match self {
            Self::Trace => bindings::TP_FLAG_TRACE,
            Self::Perf => bindings::TP_FLAG_PROFILE,
        }
    }
}

/// What a probe has for a [`Usage`].
pub(super) struct Use<E> {
    /// The event, while there is somebody to tell of a hit.
    live: Atomic<usize>,
    /// What keeps the probe in place.
    pub(super) enabled: LockedSlot<E>,
    /// The state of RCU when the event was taken away.
    pub(super) stopped: LockedSlot<c_ulong>,
}

impl<E> Use<E> {
    fn new() -> Self {
        Self {
            live: Atomic::new(0),
            enabled: LockedSlot::new(),
            stopped: LockedSlot::new(),
        }
    }

    /// The event, if there is somebody to tell of a hit.
    #[inline]
    pub(super) fn event(&self) -> Option<*mut bindings::trace_probe_event> {
        match self.live.load(Acquire) {
            0 => None,
            event => Some(event as *mut bindings::trace_probe_event),
        }
    }

    /// Says which event there is, or that there is nobody to tell.
    pub(super) fn set_event(&self, event: Option<*mut bindings::trace_probe_event>) {
        let event = event.unwrap_or(ptr::null_mut());
        self.live.store(event as usize, Release);
    }
}

/// What a probe has for each [`Usage`].
pub(super) struct Uses<E> {
    trace: Use<E>,
    perf: Use<E>,
}

impl<E> Uses<E> {
    pub(super) fn new() -> Self {
        Self {
            trace: Use::new(),
            perf: Use::new(),
        }
    }

    #[inline]
    pub(super) fn of(&self, usage: Usage) -> &Use<E> {
        match usage {
            Usage::Trace => &self.trace,
            Usage::Perf => &self.perf,
        }
    }
}
