// SPDX-License-Identifier: GPL-2.0

//! A client that is registered: what all the places where it is called share.
//!
//! # The life of a probe
//!
//! ```text
//!            everything is in place         unregistered, or a handler has misbehaved
//!   Silent ----------------------------> Live ---------------------------------> Silent, for good
//!      |                                                                           ^
//!      +---------------------------------------------------------------------------+
//!            the registration has failed
//! ```
//!
//! A hit passes over a probe that is silent. What it has in lists of clients, and with the last one
//! there the breakpoint, is taken out by [`Probe::take_out`], afterwards.
//!
//! # Locks
//!
//! `Probe::presences` is held while the probe is put into a process, and while it is taken out of
//! all of them. Two callers may take it out, the registrar and the worker that [`Probe::disarm`]
//! queues: the lock ensures that neither returns before the text is restored. The lock is never
//! held while text is faulted in, because a userfaultfd or a FUSE server answers that, which the
//! probed process may control: [`enter`](crate::presence::enter) begins anew after it.

use crate::{
    client::{
        Client,
        Spot,
        Wants, //
    }, //
};

use kernel::{
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
    workqueue::{
        self,
        Work,
        WorkItem, //
    },
};

/// What has come of a probe so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it fired.
    pub hits: usize,
    /// How often [`Client::returned`] was called.
    pub returns: usize,
    /// How often it should have fired, or returns should have been noticed, and could not be.
    pub misses: usize,
}

/// Which hits come to the handlers of a probe: what it is in the states above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Gate {
    /// All: it is live, and has no filter.
    Open,
    /// It is live, and its filter says.
    Guarded,
    /// None: it is silent.
    Closed,
}

const OPEN: i32 = Gate::Open as i32;
const GUARDED: i32 = Gate::Guarded as i32;

/// A probe in one process.
pub(crate) trait Presence: Send + Sync {
    /// Returns whether the process has exited, or has another image.
    fn is_over(&self) -> bool;

    /// Takes the probe with this number out. Handlers may still be executing.
    fn take_out(&self, id: u64);
}

static LAST_ID: Atomic<i64> = Atomic::new(0);

/// How many probes there are that follow. Read at every `fork()`.
static FOLLOWING: Atomic<i64> = Atomic::new(0);

/// Returns whether there are probes that follow `fork()`.
#[inline]
pub(crate) fn any_follows() -> bool {
    FOLLOWING.load(Relaxed) != 0
}

/// Counts a probe that follows, while it exists.
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

/// A registered client.
#[pin_data]
pub(crate) struct Probe {
    /// Higher than that of any probe that was registered before.
    pub(crate) id: u64,
    pub(crate) wants: Wants,
    pub(crate) spot: Spot,
    following: Option<Following>,
    client: DirectArc<dyn Client>,
    gate: Atomic<i32>,
    pub(crate) hits: Counter,
    pub(crate) returns: Counter,
    pub(crate) misses: Counter,
    /// The processes in which it is; nothing any more once it has been taken out.
    #[pin]
    presences: Mutex<Option<KVec<Arc<dyn Presence>>>>,
    /// A handler has unregistered the probe: the worker calls [`Client::ended`].
    ended_by_handler: Atomic<bool>,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Probe { self.work }
}

impl Probe {
    pub(crate) fn new(client: Arc<dyn Client>, spot: Spot) -> Result<Arc<Self>> {
        let (hits, returns, misses) = (Counter::new()?, Counter::new()?, Counter::new()?);
        Arc::pin_init(
            pin_init!(Self {
                id: LAST_ID.fetch_add(1, Relaxed) as u64,
                wants: client.wants(),
                spot,
                following: spot.follow.then(Following::new),
                client: client.into(),
                gate: Atomic::new(Gate::Closed as i32),
                hits,
                returns,
                misses,
                presences <- new_mutex!(Some(KVec::new())),
                ended_by_handler: Atomic::new(false),
                work <- new_work!("uprobes::Probe"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds a presence, which `enter` makes unless the probe has been taken out.
    ///
    /// # Errors
    ///
    /// `ESRCH`: it has been taken out. Else as of `enter`.
    pub(crate) fn add_presence(&self, enter: impl FnOnce() -> Result<Arc<dyn Presence>>) -> Result {
        let mut presences = self.presences.lock();
        let presences = (*presences).as_mut().ok_or(ESRCH)?;
        // Those of processes that have ended hold nothing but memory.
        presences.retain(|presence| !presence.is_over());
        presences.reserve(1, GFP_KERNEL)?;
        Ok(presences.push(enter()?, GFP_KERNEL)?)
    }

    /// Whether it follows `fork()`.
    pub(crate) fn follows(&self) -> bool {
        self.following.is_some()
    }

    #[inline]
    pub(crate) fn client(&self) -> &dyn Client {
        &*self.client
    }

    /// Everything is in place.
    pub(crate) fn go_live(&self) {
        let gate = if self.wants.filter {
            Gate::Guarded
        } else {
            Gate::Open
        };
        self.gate.store(gate as i32, Release);
    }

    /// Whether all are let through to the handlers.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.gate.load(Acquire) == OPEN
    }

    /// Who is let through to the handlers.
    pub(crate) fn gate(&self) -> Gate {
        match self.gate.load(Acquire) {
            OPEN => Gate::Open,
            GUARDED => Gate::Guarded,
            _ => Gate::Closed,
        }
    }

    /// Hits pass over the probe from now on. Returns whether they did not do so before.
    ///
    /// Context: any.
    pub(crate) fn silence(&self) -> bool {
        self.gate.xchg(Gate::Closed as i32, Full) != Gate::Closed as i32
    }

    /// Silences the probe, and has it taken out in a while. Returns as [`Probe::silence`].
    ///
    /// Context: any; the caller may be one of its handlers.
    pub(crate) fn disarm(this: ArcBorrow<'_, Self>) -> bool {
        let was_live = this.silence();
        if was_live {
            Self::queue(Arc::from(this));
        }
        was_live
    }

    /// Silences the probe, and has it taken out in a while. [`Client::ended`] is called when no
    /// handler of it is executing any more.
    ///
    /// Context: any; the caller is a handler, and no other caller ends the probe.
    pub(crate) fn end_later(this: Arc<Self>) {
        this.silence();
        this.ended_by_handler.store(true, Relaxed);
        Self::queue(this);
    }

    fn queue(this: Arc<Self>) {
        // If the work is pending already, queueing it again orders what has been stored before it
        // against the work function, as `queue_work()` guarantees.
        let _ = workqueue::system_dfl().enqueue(this);
    }

    /// Takes the probe out wherever it is. The text is restored when this returns, also if another
    /// caller is about to do it. Handlers may still be executing.
    ///
    /// Context: may sleep.
    pub(crate) fn take_out(&self) {
        self.silence();
        let mut presences = self.presences.lock();
        for presence in presences.take().iter().flatten() {
            presence.take_out(self.id);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            hits: self.hits.sum(),
            returns: self.returns.sum(),
            misses: self.misses.sum(),
        }
    }
}

impl WorkItem for Probe {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.take_out();
        if this.ended_by_handler.xchg(false, Full) {
            ubp::wait_for_hits();
            this.client().ended();
        }
    }
}
