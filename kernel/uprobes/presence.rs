// SPDX-License-Identifier: GPL-2.0

//! A probe in one process.

use crate::{
    entry::{
        Entry,
        Role, //
    },
    probe::{
        self,
        Probe, //
    },
    probepoint::{
        self,
        Probepoint, //
    },
    process::Process,
    returns::{
        return_instructions,
        walk,
        Walked, //
    },
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
        Arc,
        UniqueArc, //
    },
    threads::ThreadGroup, //
};
use ubp::Vaddr;

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
    walked: Option<Walked>,
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
                Some(size) if wants.returned => return_instructions(mm, spot.at, size)?,
                _ => KVec::new(),
            },
            walked: match by_site {
                true => Some(walk(mm, spot.at)?),
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
        let Some(walked) = &mut self.walked else {
            return Ok(());
        };
        let mut result = Ok(());
        walked.exits.retain(|exit| match ubp::fault_in(mm, *exit) {
            Ok(()) => true,
            Err(error) => {
                if error == EINTR {
                    result = Err(EINTR);
                }
                walked.complete = false;
                false
            }
        });
        result
    }
}

/// Puts a probe in a process.
///
/// Context: may sleep. Text that is absent is faulted in with no lock held.
///
/// # Errors
///
/// As of [`register`](crate::register); and `ESRCH` if the probe has been taken out.
pub(crate) fn enter(probe: &Arc<Probe>, process: &Process) -> Result {
    let mm = process.mm()?;
    let mut wanted = Wanted::find(&mm, probe)?;
    loop {
        let entered = probe.add_presence(|| {
            // First, because a presence that is made removes nothing when it is dropped.
            let room = UniqueArc::new_uninit(GFP_KERNEL)?;
            let presence = Presence::new(process, &mm, probe, &wanted)?;
            let presence: Arc<Presence> = room.write(presence).into();
            Ok(presence)
        });
        match entered {
            Err(EAGAIN) => wanted.fault_in(&mm)?,
            entered => return entered,
        }
    }
}

/// Where a probe is called in one process.
struct Presence {
    probepoints: KVec<Arc<Probepoint>>,
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
    fn new(
        process: &Process,
        mm: &ARef<MmWithUser>,
        probe: &Arc<Probe>,
        wanted: &Wanted,
    ) -> Result<Self> {
        let watched = Watched::new(process)?;
        let returns = match wanted.walked {
            Some(_) => Some(watched.use_returns()?),
            None => None,
        };
        let mut this = Self {
            probepoints: KVec::new(),
            returns,
            watched,
        };
        let placed = this.place_all(mm, process.group(), probe, wanted);
        // An exec or exit that came before the client was added did not see it.
        let placed = match placed {
            Ok(()) if probe::Presence::is_over(&this) => Err(ESRCH),
            placed => placed,
        };
        placed.inspect_err(|_| probe::Presence::take_out(&this, probe.id))?;
        Ok(this)
    }

    fn place_all(
        &mut self,
        mm: &ARef<MmWithUser>,
        group: ThreadGroup,
        probe: &Arc<Probe>,
        wanted: &Wanted,
    ) -> Result {
        let entry = |role| Entry::new(probe.clone(), group, role);
        let returns = match &self.returns {
            Some(used) => Some(used.returns()?),
            None => None,
        };
        if let Some(at) = wanted.entry {
            match returns.as_ref().zip(wanted.walked.as_ref()) {
                Some((returns, walked)) => {
                    let is_followed = returns.insert_breakpoints(mm, walked)?;
                    self.place(mm, at, |probepoint| {
                        let entrance = returns.entrance(probepoint, walked, is_followed)?;
                        Ok(entry(Role::Hit(Some(entrance))))
                    })?;
                }
                None => self.place(mm, at, |_| Ok(entry(Role::Hit(None))))?,
            }
        }
        for exit in &wanted.exits {
            self.place(mm, *exit, |_| Ok(entry(Role::Exit)))?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        entry: impl Fn(&Arc<Probepoint>) -> Result<Entry>,
    ) -> Result {
        self.probepoints.reserve(1, GFP_KERNEL)?;
        let probepoint = probepoint::place(mm, at, entry)?;
        Ok(self.probepoints.push(probepoint, GFP_KERNEL)?)
    }
}

impl probe::Presence for Presence {
    fn is_over(&self) -> bool {
        self.watched.is_over()
    }

    fn take_out(&self, id: u64) {
        for probepoint in &self.probepoints {
            probepoint.remove_probe(id);
        }
    }
}
