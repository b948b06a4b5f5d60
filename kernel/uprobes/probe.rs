// SPDX-License-Identifier: GPL-2.0

//! A registered consumer: its state, its counts, and its attachments to processes.
//!
//! # The life of a probe
//!
//! ```text
//!                registered                unregistered, or disarmed by the handler guard
//!   Disabled ----------------> Enabled or --------------------------------> Disabled,
//!      |                        Filtered                                    for good
//!      |                                                                       ^
//!      +-----------------------------------------------------------------------+
//!                            the registration has failed
//! ```
//!
//! A hit does not call the handlers of a disabled probe. [`Probe::detach`] disables the probe
//! before it removes the chain entries of the probe, and with the last entry of a chain the
//! breakpoint.
//!
//! # Locks
//!
//! `Probe::attachments` is held while the probe is attached to a process, and while it is detached
//! from all of them. Two callers may detach it, the owner and the worker that [`Probe::disarm`]
//! queues: the lock ensures that neither returns before the text is restored. The lock must not be
//! held while text is faulted in, because a userfaultfd or a FUSE server that the probed process
//! controls may serve the fault. [`attach`](crate::registration::attach) starts over after a fault.

use crate::consumer::{
    Consumer,
    HandlerMask,
    ProbeSpec, //
};

use kernel::{
    bindings,
    counter::Counter,
    impl_has_work, new_mutex, new_work,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow,
        DirectArc,
        Mutex, //
    },
    uprobes::{
        Detection,
        ProbeCounts, //
    },
    workqueue::{
        self,
        Work,
        WorkItem, //
    },
};

/// State of a probe: the hits at which its handlers are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum ProbeState {
    /// At all hits. The probe has no filter.
    Enabled,
    /// At hits of the threads that the filter accepts.
    Filtered,
    /// At no hit.
    Disabled,
}

const ENABLED: i32 = ProbeState::Enabled as i32;
const FILTERED: i32 = ProbeState::Filtered as i32;
const DISABLED: i32 = ProbeState::Disabled as i32;

/// Attachment of a probe to one process.
pub(crate) trait Attachment: Send + Sync {
    /// Returns whether the process has exited or has called `execve()` since.
    fn is_over(&self) -> bool;

    /// Removes the chain entries of the probe, which has the number `id`. Handlers may still be
    /// executing when this returns.
    fn detach(&self, id: u64);
}

/// Number of the next consumer, of a process or of a file.
static LAST_ID: Atomic<i64> = Atomic::new(1);

/// Returns the number of a new consumer.
pub(crate) fn new_id() -> u64 {
    LAST_ID.fetch_add(1, Relaxed) as u64
}

/// Number of probes that follow `fork()`. Every `fork()` reads it, to return early if there are
/// none.
static FOLLOWING: Atomic<i64> = Atomic::new(0);

/// Returns whether any probe follows `fork()`.
#[inline]
pub(crate) fn any_follows() -> bool {
    FOLLOWING.load(Relaxed) != 0
}

/// Counts a probe in [`FOLLOWING`] for as long as the probe exists.
struct Following(());

impl Following {
    fn new() -> Self {
        FOLLOWING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        FOLLOWING.fetch_sub(1, Relaxed);
    }
}

/// A registered consumer.
#[pin_data]
pub(crate) struct Probe {
    /// Number of the probe. Probes that are registered later have higher numbers.
    pub(crate) id: u64,
    pub(crate) handlers: HandlerMask,
    pub(crate) spec: ProbeSpec,
    following: Option<Following>,
    consumer: DirectArc<dyn Consumer>,
    state: Atomic<i32>,
    pub(crate) hits: Counter,
    pub(crate) returns: Counter,
    pub(crate) misses: Counter,
    /// How returns are detected, as an `enum uprobe_detection`.
    detection: Atomic<u32>,
    /// An instruction after which the walk cannot follow the function; see [`Detection`].
    walk_end: Atomic<usize>,
    /// Attachments to processes; `None` once the probe has been detached.
    #[pin]
    attachments: Mutex<Option<KVec<Arc<dyn Attachment>>>>,
    /// Whether a handler has unregistered the probe. The worker then calls
    /// [`Consumer::unregistered`].
    unregistered_by_handler: Atomic<bool>,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Probe { self.work }
}

impl Probe {
    /// Creates a probe, which is disabled.
    pub(crate) fn new(consumer: Arc<dyn Consumer>, spec: ProbeSpec) -> Result<Arc<Self>> {
        let (hits, returns, misses) = (Counter::new()?, Counter::new()?, Counter::new()?);
        Arc::pin_init(
            pin_init!(Self {
                id: new_id(),
                handlers: consumer.handlers(),
                spec,
                following: spec.follow.then(Following::new),
                consumer: consumer.into(),
                state: Atomic::new(DISABLED),
                detection: Atomic::new(bindings::uprobe_detection_UPROBE_NO_RETURNS),
                walk_end: Atomic::new(0),
                hits,
                returns,
                misses,
                attachments <- new_mutex!(Some(KVec::new())),
                unregistered_by_handler: Atomic::new(false),
                work <- new_work!("uprobes::Probe"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds the attachment that `attach` makes. Does not call `attach` for a probe that has been
    /// detached.
    ///
    /// # Errors
    ///
    /// `ESRCH`: the probe has been detached. Otherwise the error of `attach`.
    pub(crate) fn add_attachment(
        &self,
        attach: impl FnOnce() -> Result<Arc<dyn Attachment>>,
    ) -> Result {
        let mut attachments = self.attachments.lock();
        let attachments = (*attachments).as_mut().ok_or(ESRCH)?;
        // Drops attachments to processes that have ended, because they only take memory.
        attachments.retain(|attachment| !attachment.is_over());
        attachments.reserve(1, GFP_KERNEL)?;
        Ok(attachments.push(attach()?, GFP_KERNEL)?)
    }

    /// Returns whether the probe follows `fork()`.
    pub(crate) fn follows(&self) -> bool {
        self.following.is_some()
    }

    #[inline]
    pub(crate) fn consumer(&self) -> &dyn Consumer {
        &*self.consumer
    }

    /// Enables the probe. The caller must have attached it.
    pub(crate) fn enable(&self) {
        let state = if self.handlers.filter {
            FILTERED
        } else {
            ENABLED
        };
        self.state.store(state, Release);
    }

    /// Returns whether the probe fires for every thread, as [`ProbeState::Enabled`] says.
    #[inline]
    pub(crate) fn fires_for_all(&self) -> bool {
        self.state.load(Acquire) == ENABLED
    }

    pub(crate) fn state(&self) -> ProbeState {
        match self.state.load(Acquire) {
            ENABLED => ProbeState::Enabled,
            FILTERED => ProbeState::Filtered,
            _ => ProbeState::Disabled,
        }
    }

    /// Disables the probe: hits that begin afterwards do not call its handlers. Returns whether the
    /// probe was enabled.
    ///
    /// Context: any.
    pub(crate) fn disable(&self) -> bool {
        self.state.xchg(DISABLED, Full) != DISABLED
    }

    /// Disables the probe, and queues work that detaches it. Returns whether the probe was enabled.
    ///
    /// Context: any; the caller may be a handler of the probe.
    pub(crate) fn disarm(this: ArcBorrow<'_, Self>) -> bool {
        let was_enabled = this.disable();
        if was_enabled {
            Self::queue(Arc::from(this));
        }
        was_enabled
    }

    /// Disables the probe, and queues work that detaches it, waits for the handlers that are
    /// executing, and calls [`Consumer::unregistered`].
    ///
    /// Context: any. The caller must be a handler, and must be the only one to unregister the
    /// probe.
    pub(crate) fn unregister_later(this: Arc<Self>) {
        this.disable();
        this.unregistered_by_handler.store(true, Relaxed);
        Self::queue(this);
    }

    fn queue(this: Arc<Self>) {
        // If the work is pending already, `queue_work()` guarantees that the work function sees the
        // stores that come before this call.
        let _ = workqueue::system_dfl().enqueue(this);
    }

    /// Detaches the probe from all processes. The text is restored when this returns, even if
    /// another caller detaches the probe at the same time. Handlers may still be executing.
    ///
    /// Context: may sleep.
    pub(crate) fn detach(&self) {
        self.disable();
        let mut attachments = self.attachments.lock();
        for attachment in attachments.take().iter().flatten() {
            attachment.detach(self.id);
        }
    }

    /// Sets how the returns of the function are detected.
    pub(crate) fn set_detection(&self, detection: Detection) {
        let (raw, walk_end) = detection.into_raw();
        self.walk_end.store(walk_end, Relaxed);
        self.detection.store(raw, Relaxed);
    }

    pub(crate) fn detection(&self) -> Option<Detection> {
        Detection::from_raw(self.detection.load(Relaxed), self.walk_end.load(Relaxed))
    }

    pub(crate) fn counts(&self) -> ProbeCounts {
        ProbeCounts {
            hits: self.hits.sum() as u64,
            returns: self.returns.sum() as u64,
            misses: self.misses.sum() as u64,
        }
    }
}

impl WorkItem for Probe {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.detach();
        if this.unregistered_by_handler.xchg(false, Full) {
            ubp::wait_for_hits();
            this.consumer().unregistered();
        }
    }
}
