// SPDX-License-Identifier: GPL-2.0

//! A probe in one process.

use crate::{
    entry::{
        Entry,
        Role, //
    },
    probe::Probe,
    probepoint::{
        self,
        Probepoint,
        Text, //
    },
    process::Process,
    watch::{
        UsedReturns,
        Watched, //
    },
};

use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    threads::ThreadGroup, //
};
use ubp::{
    Explored,
    Vaddr, //
};

/// The instructions of a process at which a probe is wanted.
///
/// They are found before any lock is taken, because the text that says where they are may have to
/// be faulted in.
pub(crate) struct Wanted {
    /// The probed instruction, for hits or for entries of the function.
    entry: Option<Vaddr>,
    /// The instructions by which a function of known size returns.
    exits: KVec<Vaddr>,
    /// How the function at `entry` returns, if its size is not known.
    explored: Option<Explored>,
}

impl Wanted {
    /// Context: may sleep; takes `mmap_lock`. No lock is held that another process may wait for.
    ///
    /// # Errors
    ///
    /// As of [`register`](crate::register).
    pub(crate) fn find(mm: &MmWithUser, probe: &Probe) -> Result<Self> {
        let (wants, spot) = (probe.wants, probe.spot);
        let by_site = wants.returned && spot.size.is_none();
        Ok(Self {
            entry: (wants.task || wants.interrupt || by_site).then_some(spot.at),
            exits: match spot.size {
                Some(size) if wants.returned => ubp::exits(mm, spot.at, size)?,
                _ => KVec::new(),
            },
            explored: match by_site {
                true => Some(ubp::explore(mm, spot.at)?),
                false => None,
            },
        })
    }

    /// Faults in the text of all the instructions. Drops an exit if its text cannot be faulted in,
    /// because breakpoints at the return addresses detect the returns by it.
    ///
    /// Context: may sleep, for as long as a server of userfaults or of a file system makes the
    /// caller wait. No lock is held.
    ///
    /// # Errors
    ///
    /// As of [`ubp::fault_in`].
    pub(crate) fn fault_in(&mut self, mm: &MmWithUser) -> Result {
        for at in Iterator::chain(self.entry.iter(), &self.exits) {
            ubp::fault_in(mm, *at)?;
        }
        let Some(explored) = &mut self.explored else {
            return Ok(());
        };
        let mut result = Ok(());
        explored
            .exits
            .retain(|exit| match ubp::fault_in(mm, *exit) {
                Ok(()) => true,
                Err(error) => {
                    if error == EINTR {
                        result = Err(EINTR);
                    }
                    explored.complete = false;
                    false
                }
            });
        result
    }
}

/// Where a probe is called in one process.
pub(crate) struct Presence {
    places: KVec<Arc<Probepoint>>,
    returns: Option<UsedReturns>,
    watched: Watched,
}

impl Presence {
    /// Puts a probe in a process, whose address space `mm` is.
    ///
    /// # Errors
    ///
    /// As of [`register`](crate::register); nothing of the probe is in the process then. `EAGAIN`:
    /// text is absent, which the caller must fault in with no lock held.
    pub(crate) fn new(
        process: &Process,
        mm: &ARef<MmWithUser>,
        probe: &Arc<Probe>,
        wanted: &Wanted,
    ) -> Result<Self> {
        let watched = Watched::new(process)?;
        let returns = match wanted.explored {
            Some(_) => Some(watched.use_returns()?),
            None => None,
        };
        let mut this = Self {
            places: KVec::new(),
            returns,
            watched,
        };
        let placed = this.place_all(mm, process.group(), probe, wanted);
        // An exec or exit that came before the client was added did not see it.
        let placed = match placed {
            Ok(()) if this.is_over() => Err(ESRCH),
            placed => placed,
        };
        placed.inspect_err(|_| this.take_out(probe.id))?;
        Ok(this)
    }

    fn place_all(
        &mut self,
        mm: &ARef<MmWithUser>,
        group: ThreadGroup,
        probe: &Arc<Probe>,
        wanted: &Wanted,
    ) -> Result {
        let returns = self.returns.as_ref().map(|used| used.returns().clone());
        if let Some(at) = wanted.entry {
            let entry = Entry::new(probe.clone(), group, Role::Hit(returns.clone()));
            let probepoint = self.place(mm, at, &entry)?;
            if let (Some(returns), Some(explored)) = (returns, &wanted.explored) {
                returns.add_function(mm, &probepoint, explored)?;
            }
        }
        let entry = Entry::new(probe.clone(), group, Role::Exit);
        for exit in &wanted.exits {
            self.place(mm, *exit, &entry)?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        entry: &Entry,
    ) -> Result<Arc<Probepoint>> {
        self.places.reserve(1, GFP_KERNEL)?;
        let probepoint = probepoint::place(mm, at, entry)?;
        self.places.push(probepoint.clone(), GFP_KERNEL)?;
        Ok(probepoint)
    }

    /// Whether the process has exited, or has another image.
    pub(crate) fn is_over(&self) -> bool {
        self.watched.is_over()
    }

    /// Takes the probe with this number out. Handlers may still be executing.
    pub(crate) fn take_out(&self, id: u64) {
        for probepoint in &self.places {
            probepoint.retain(Text::Restored, |entry| entry.probe.id != id);
        }
    }
}
