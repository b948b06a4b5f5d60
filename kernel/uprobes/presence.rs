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
        Probepoint, //
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
use ubp::Vaddr;

/// Where a probe is called in one process.
pub(crate) struct Presence {
    places: KVec<Arc<Probepoint>>,
    returns: Option<UsedReturns>,
    watched: Watched,
}

impl Presence {
    /// Puts a probe in a process.
    ///
    /// # Errors
    ///
    /// As of [`register`](crate::register); nothing of the probe is in the process then.
    pub(crate) fn new(process: &Process, probe: &Arc<Probe>) -> Result<Self> {
        let mm = process.mm()?;
        let watched = Watched::new(process)?;
        let by_site = probe.wants.returned && probe.spot.size.is_none();
        let returns = match by_site {
            true => Some(watched.use_returns()?),
            false => None,
        };
        let mut this = Self {
            places: KVec::new(),
            returns,
            watched,
        };
        let placed = this.place_all(&mm, process.group(), probe);
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
    ) -> Result {
        let spot = probe.spot;
        let returns = self.returns.as_ref().map(|used| used.returns().clone());
        if probe.wants.task || probe.wants.interrupt || returns.is_some() {
            let entry = Entry::new(probe.clone(), group, Role::Hit(returns.clone()));
            let probepoint = self.place(mm, spot.at, &entry)?;
            if let Some(returns) = returns {
                returns.add_function(mm, &probepoint)?;
            }
        }
        if let (true, Some(size)) = (probe.wants.returned, spot.size) {
            let entry = Entry::new(probe.clone(), group, Role::Exit);
            for exit in &ubp::exits(mm, spot.at, size)? {
                self.place(mm, *exit, &entry)?;
            }
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
            probepoint.retain(|entry| entry.probe.id != id);
        }
    }
}
