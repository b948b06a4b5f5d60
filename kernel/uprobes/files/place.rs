// SPDX-License-Identifier: GPL-2.0

//! A file probe at an address of an address space.

use super::{
    probe::FileProbe,
    thread, //
};
use crate::{
    entry::{
        EndedCall,
        FilePlace,
        ReturnPoint, //
    },
    probepoint::{
        self,
        Probepoint, //
    },
    process::{
        ProbedProcessRef,
        Process,
        ReturnProbesRef, //
    },
    returns::ReturnSites, //
};

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::Guard,
        Arc,
        Mutex, //
    },
    threads::ThreadGroup, //
};
use ubp::Vaddr;

/// The return probes of a process that has called the function at a place.
struct PreparedReturns {
    group: ThreadGroup,
    /// Dropped first, because the process owns the return probes.
    _returns: ReturnProbesRef,
    process: ProbedProcessRef,
}

/// A file probe at an address of an address space.
#[pin_data]
pub(super) struct Place {
    probe: Arc<FileProbe>,
    mm: ARef<Mm>,
    at: Vaddr,
    /// Whether the last user of the address space has gone.
    has_ended: Atomic<bool>,
    /// Mostly of one process. Threads that share the address space by `vfork()` belong to others.
    /// `None`: the place has been closed.
    #[pin]
    returns: Mutex<Option<KVec<PreparedReturns>>>,
}

impl Place {
    pub(super) fn new(probe: &Arc<FileProbe>, mm: &Mm, at: Vaddr) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                probe: probe.clone(),
                mm: ARef::from(mm),
                at,
                has_ended: Atomic::new(false),
                returns <- new_mutex!(Some(KVec::new())),
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn mm(&self) -> &Mm {
        &self.mm
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    /// Gives up the return probes. The drop of a place does not do so, because a chain may drop the
    /// last reference, after a grace period, where nothing may sleep.
    ///
    /// Context: may sleep.
    pub(super) fn close(&self) {
        let returns = self.returns.lock().take();
        drop(returns);
    }

    /// Removes the place if the filters confirm the answer of all handlers that it is not needed.
    ///
    /// Context: may sleep.
    #[cold]
    fn unwanted(&self) {
        if !self.probe.is_wanted_in(&self.mm) {
            self.probe.queue_removal();
        }
    }

    /// Prepares the detection of returns, as [`FilePlace::prepare_returns`] does. `EAGAIN`: text is
    /// absent.
    fn try_prepare(
        &self,
        process: &Process,
        mm: &ARef<MmWithUser>,
        probepoint: &Arc<Probepoint>,
        sites: &ReturnSites,
    ) -> Result<Arc<dyn ReturnPoint>> {
        let group = process.group();
        let process = ProbedProcessRef::new(process)?;
        let returns = process.return_probes()?;
        let probes = returns.get()?;
        let detection = sites.insert(&probes, mm)?;
        let (entry, _) = sites.function_entry(&probes, probepoint, detection)?;
        let mut prepared = self.returns.lock();
        let prepared = (*prepared).as_mut().ok_or(ESRCH)?;
        prepared.retain(|it| !it.process.is_over());
        if prepared.iter().any(|it| it.group == group) {
            return Ok(entry);
        }
        let prepared_here = PreparedReturns {
            group,
            _returns: returns,
            process,
        };
        prepared.push(prepared_here, GFP_KERNEL)?;
        Ok(entry)
    }
}

impl FilePlace for Place {
    fn wants_returns(&self) -> &Arc<Atomic<bool>> {
        &self.probe.wants_returns
    }

    fn hit(&self, regs: &mut PtRegs, guard: &Guard) {
        if thread::allocate().is_err() {
            return;
        }
        let consumers = self.probe.consumers(guard);
        let mut is_unwanted = !consumers.is_empty();
        for consumer in consumers {
            is_unwanted &= consumer.hit(regs).0.is_removal();
        }
        if is_unwanted {
            self.unwanted();
        }
    }

    fn hit_for_return(&self, at: usize, regs: &mut PtRegs, guard: &Guard) -> Option<u64> {
        if thread::allocate().is_err() {
            return None;
        }
        let consumers = self.probe.consumers(guard);
        let location = regs.sp();
        thread::end_sessions(location, at);
        let mut wanted: Option<u64> = None;
        let mut is_unwanted = !consumers.is_empty();
        for consumer in consumers {
            let (answer, cookie) = consumer.hit(regs);
            is_unwanted &= answer.is_removal();
            if !consumer.wants_returns || !answer.wants_return() {
                continue;
            }
            // The return handler of a session is only called with what its handler has left.
            let is_recorded = !consumer.is_session()
                || thread::add_session(location, at, consumer.id, cookie).is_ok();
            if is_recorded {
                wanted = wanted.max(Some(consumer.id));
            }
        }
        if is_unwanted {
            self.unwanted();
        }
        wanted.filter(|_| regs.ip() == at)
    }

    fn returned(&self, ended: EndedCall, regs: &mut PtRegs, guard: &Guard) {
        let EndedCall {
            function,
            location,
            generation,
        } = ended;
        if thread::allocate().is_err() {
            return;
        }
        for consumer in self.probe.consumers(guard) {
            if !consumer.wants_returns || consumer.id > generation {
                continue;
            }
            let cookie = match consumer.is_session() {
                false => None,
                true => match thread::session_cookie(location, function, consumer.id) {
                    None => continue,
                    cookie => cookie,
                },
            };
            consumer.returned(function, regs, cookie);
        }
        thread::end_sessions(location, function);
    }

    fn prepare_returns(&self) -> Result<Arc<dyn ReturnPoint>> {
        let probepoint = self.probe.probepoint(&self.mm, self.at).ok_or(ESRCH)?;
        let process = Process::from_task(kernel::current!())?;
        let mm = process.mm()?;
        let mut sites = ReturnSites::find(&mm, self.at, None)?;
        loop {
            match self.try_prepare(&process, &mm, &probepoint, &sites) {
                Err(EAGAIN) => sites.fault_in(&mm)?,
                prepared => return prepared,
            }
        }
    }

    fn inherit(&self, copy: &ARef<MmWithUser>) {
        self.probe.inherit(&self.mm, copy, self.at);
    }

    fn lost(&self) {
        self.probe.queue_removal();
    }

    fn space_ended(&self) {
        self.has_ended.store(true, Relaxed);
        self.probe.queue_removal();
    }
}

/// Calls `f` for each file probe in an address space.
fn for_each(mm: &Mm, mut f: impl FnMut(&dyn FilePlace)) {
    probepoint::for_each(mm, |probepoint| {
        if let Some(place) = probepoint.read(|chain| chain.file().cloned()) {
            f(&*place);
        }
    });
}

/// Adds the file probes of an address space to a copy of it, which `fork()` has made and which no
/// thread has executed yet. The filters of the consumers are not asked: perf expects that a child
/// inherits its parent's breakpoints.
///
/// Context: may sleep, and wait for page faults.
pub(crate) fn inherit(mm: &Mm, copy: &ARef<MmWithUser>) {
    for_each(mm, |place| place.inherit(copy));
    // The parent may have mapped a file for which the work has not been done yet.
    if copy.has_uprobes() {
        thread::place_all(copy);
    }
}

/// Has the places of an address space forgotten that has no user any more.
///
/// Context: may sleep. The caller may hold any lock; see [`files`](super).
pub(crate) fn space_ended(mm: &Mm) {
    for_each(mm, |place| place.space_ended());
}
