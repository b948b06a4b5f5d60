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
//! probed process may control: [`Probe::enter`] begins anew after it.

use crate::{
    client::{
        Client,
        Spot,
        Wants, //
    },
    follow::Following,
    presence::{
        Presence,
        Wanted, //
    },
    process::Process,
    registry, //
};

use kernel::{
    counter::Counter,
    impl_has_work,
    mm::MmWithUser,
    new_mutex, new_work,
    prelude::*,
    sync::{
        aref::ARef,
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
    /// A handler has unregistered the probe: the worker calls [`Client::ended`].
    ended_by_handler: Atomic<bool>,
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
                ended_by_handler: Atomic::new(false),
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
    /// Context: may sleep. Text that is absent is faulted in with no lock held.
    ///
    /// # Errors
    ///
    /// As of [`register`](crate::register); and `ESRCH` if it has been taken out.
    pub(crate) fn enter(self: &Arc<Self>, process: &Process) -> Result {
        let mm = process.mm()?;
        let mut wanted = Wanted::find(&mm, self)?;
        loop {
            match self.try_to_enter(process, &mm, &wanted) {
                Err(EAGAIN) => wanted.fault_in(&mm)?,
                entered => return entered,
            }
        }
    }

    /// # Errors
    ///
    /// `EAGAIN`: text is absent, and nothing of the probe is in the process. Else as of
    /// [`Probe::enter`].
    fn try_to_enter(
        self: &Arc<Self>,
        process: &Process,
        mm: &ARef<MmWithUser>,
        wanted: &Wanted,
    ) -> Result {
        let mut presences = self.presences.lock();
        let presences = (*presences).as_mut().ok_or(ESRCH)?;
        // Those of processes that have ended hold nothing but memory.
        presences.retain(|presence| !presence.is_over());
        presences.reserve(1, GFP_KERNEL)?;
        let presence = Presence::new(process, mm, self, wanted)?;
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
