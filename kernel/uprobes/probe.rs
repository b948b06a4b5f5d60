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

use crate::{
    client::{
        Client,
        Spot,
        Wants, //
    },
    follow::Following,
    presence::Presence,
    process::Process,
    registry, //
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
    presences: Mutex<Option<KVec<Presence>>>,
    #[pin]
    work: Work<Self>,
}

/// The client of a probe that has no handlers.
struct Nobody;

impl Client for Nobody {}

impl_has_work! {
    impl HasWork<Self> for Probe { self.work }
}

impl Probe {
    pub(crate) fn new(client: Arc<dyn Client>, spot: Spot) -> Result<Arc<Self>> {
        let (hits, returns, misses) = (Counter::new()?, Counter::new()?, Counter::new()?);
        Arc::pin_init(
            pin_init!(Self {
                id: registry::new_id(),
                wants: client.wants(),
                spot,
                following: spot.follow.then(Following::new),
                client: client.into(),
                gate: Atomic::new(Gate::Closed as i32),
                hits,
                returns,
                misses,
                presences <- new_mutex!(Some(KVec::new())),
                work <- new_work!("uprobes::Probe"),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes one for the places where this crate itself has something to do: nobody is called.
    pub(crate) fn internal() -> Result<Arc<Self>> {
        Self::new(Arc::new(Nobody, GFP_KERNEL)?, Spot::at(ubp::Vaddr::new(0)))
    }

    /// Puts the probe in a process.
    ///
    /// # Errors
    ///
    /// As of [`register`](crate::register); and `ESRCH` if it has been taken out.
    pub(crate) fn enter(self: &Arc<Self>, process: &Process) -> Result {
        let mut presences = self.presences.lock();
        let presences = (*presences).as_mut().ok_or(ESRCH)?;
        // Those of processes that have ended hold nothing but memory.
        presences.retain(|presence| !presence.is_over());
        presences.reserve(1, GFP_KERNEL)?;
        let presence = Presence::new(process, self)?;
        Ok(presences.push(presence, GFP_KERNEL)?)
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
            // It can only be queued already if somebody else was faster.
            let _ = workqueue::system_unbound().enqueue(Arc::from(this));
        }
        was_live
    }

    /// Takes the probe out wherever it is. Handlers may still be executing.
    ///
    /// Context: may sleep.
    pub(crate) fn take_out(&self) {
        self.silence();
        let presences = self.presences.lock().take();
        for presence in presences.iter().flatten() {
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
    }
}
