// SPDX-License-Identifier: GPL-2.0

//! Registration of probes: attaches consumers to processes, and detaches them.

use crate::{
    consumer::{
        Consumer,
        ProbeSpec, //
    },
    entry::ChainEntry,
    probe::{
        Attachment,
        Probe,
        ProbeState, //
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
    mm::MmWithUser,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        UniqueArc, //
    },
    threads::ThreadGroup,
    uprobes::{
        Detection,
        ProbeCounts, //
    },
};
use ubp::Vaddr;

/// Owner of a probe. Dropping it unregisters the probe.
///
/// When the drop returns, no handler of the consumer is executing or will be called, and the text
/// is restored. A handler cannot wait for handlers, so the drop in a handler returns at once. Hits
/// that begin afterwards do not call the consumer. A worker calls [`Consumer::unregistered`] when
/// no handler is executing any more. The consumer stays allocated until then.
///
/// Context of the drop: may sleep; in a handler: any.
#[must_use = "dropping it unregisters"]
pub struct Registration(Option<Arc<Probe>>);

/// Registers a consumer in a process. Handlers may be called before this returns. After it has
/// returned, each thread of the process that is about to execute the instruction calls them.
///
/// Context: may sleep; takes `mmap_lock` of the process. Handlers may call it in task context.
///
/// # Errors
///
/// `EINVAL`: the address is not executable or not in a private mapping, or the consumer has no
/// handler, or the size is not that of a whole function. `E2BIG`: the size is more than a megabyte.
/// `ESRCH`: the process is exiting, or has called `execve()`. `EEXIST`: a foreign breakpoint.
/// `EPERM`: the instruction cannot be probed. `EFAULT`: the text cannot be read, or ends within the
/// instruction. `EINTR`: the caller has been killed, or has got a signal while waiting for a
/// userfaultfd. `ENOMEM`.
pub fn register(
    process: &Process,
    spec: ProbeSpec,
    consumer: Arc<dyn Consumer>,
) -> Result<Registration> {
    Ok(Registration(Some(register_probe(process, spec, consumer)?)))
}

/// Registers a consumer, as [`register`] does. The caller must pass the probe to
/// [`unregister_probes`].
pub(crate) fn register_probe(
    process: &Process,
    spec: ProbeSpec,
    consumer: Arc<dyn Consumer>,
) -> Result<Arc<Probe>> {
    if consumer.handlers().is_empty() {
        return Err(EINVAL);
    }
    let probe = Probe::new(consumer, spec)?;
    // On failure there are no handlers to wait for, because the probe is still disabled. It must be
    // detached nevertheless, because a child that the process has created by `fork()` since may
    // have inherited it.
    attach(&probe, process).inspect_err(|_| probe.detach())?;
    probe.enable();
    Ok(probe)
}

/// Unregisters several probes, and waits once for the handlers that are executing. For a handler,
/// which cannot wait, a worker unregisters them.
///
/// Context: may sleep; in a handler: any.
pub(crate) fn unregister_probes(probes: impl Iterator<Item = Arc<Probe>>) {
    let mut any = false;
    for probe in probes {
        if ubp::is_in_hit() {
            Probe::unregister_later(probe);
        } else {
            // The reference may be dropped while handlers are executing, because the chain in which
            // a hit has found the consumer keeps it until the grace period is over.
            probe.detach();
            any = true;
        }
    }
    if any {
        ubp::wait_for_hits();
    }
}

impl Registration {
    /// Unregisters several probes with a single wait.
    ///
    /// Context: may sleep; in a handler: any.
    pub fn unregister_all(registrations: impl Iterator<Item = Registration>) {
        unregister_probes(registrations.filter_map(|mut registration| registration.0.take()));
    }

    /// Returns the counts of the probe.
    pub fn counts(&self) -> ProbeCounts {
        self.0
            .as_ref()
            .map_or(ProbeCounts::default(), |probe| probe.counts())
    }

    /// Returns how returns of the function are detected, in the process to which the probe was
    /// attached last. Returns `None` if the consumer has no return handler.
    pub fn detection(&self) -> Option<Detection> {
        self.0.as_ref()?.detection()
    }

    /// Returns whether the [handler guard](crate::guard) has disarmed the probe. Its consumer is
    /// not called any more.
    pub fn is_disarmed(&self) -> bool {
        // Only the handler guard disables a probe that has an owner.
        self.0
            .as_ref()
            .is_some_and(|probe| probe.state() == ProbeState::Disabled)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        unregister_probes(self.0.take().into_iter());
    }
}

/// The instructions at which a probe needs breakpoints.
struct ProbeSites {
    /// The probed instruction.
    at: Vaddr,
    /// Those of the function there, if the consumer has a return handler.
    returns: Option<ReturnSites>,
}

impl ProbeSites {
    /// Finds the instructions of a probe, as [`ReturnSites::find`] does.
    fn find(mm: &MmWithUser, probe: &Probe) -> Result<Self> {
        let (handlers, spec) = (probe.handlers, probe.spec);
        let returns = match handlers.returned {
            true => Some(ReturnSites::find(mm, spec.at, spec.size)?),
            false => None,
        };
        Ok(Self {
            at: spec.at,
            returns,
        })
    }

    /// Faults in the text of all instructions, as [`ReturnSites::fault_in`] does.
    fn fault_in(&mut self, mm: &MmWithUser) -> Result {
        match &mut self.returns {
            Some(returns) => returns.fault_in(mm),
            None => ubp::fault_in(mm, self.at),
        }
    }
}

/// Attaches a probe to a process.
///
/// Context: may sleep. Absent text is faulted in with no lock held.
///
/// # Errors
///
/// As for [`register`]; also `ESRCH` if the probe has been detached.
pub(crate) fn attach(probe: &Arc<Probe>, process: &Process) -> Result {
    let mm = process.mm()?;
    let mut sites = ProbeSites::find(&mm, probe)?;
    loop {
        let attached = probe.add_attachment(|| {
            // Allocated first, so that a failure need not undo the attachment: dropping a
            // `ProbeAttachment` does not detach the probe.
            let room = UniqueArc::new_uninit(GFP_KERNEL)?;
            let attachment = ProbeAttachment::new(process, &mm, probe, &sites)?;
            let attachment: Arc<ProbeAttachment> = room.write(attachment).into();
            Ok(attachment)
        });
        match attached {
            Err(EAGAIN) => sites.fault_in(&mm)?,
            attached => return attached,
        }
    }
}

/// Attachment of a probe to one process: the probepoints that have the probe in their chains.
struct ProbeAttachment {
    probepoints: KVec<Arc<Probepoint>>,
    returns: Option<ReturnProbesRef>,
    process: ProbedProcessRef,
}

impl ProbeAttachment {
    /// Attaches a probe to a process, which has the address space `mm`.
    ///
    /// # Errors
    ///
    /// As for [`register`]; no probepoint of the process has the probe then. `EAGAIN`: text is
    /// absent, which the caller must fault in with no lock held.
    fn new(
        process: &Process,
        mm: &ARef<MmWithUser>,
        probe: &Arc<Probe>,
        sites: &ProbeSites,
    ) -> Result<Self> {
        let probed = ProbedProcessRef::new(process)?;
        let returns = match sites.returns {
            Some(_) => Some(probed.return_probes()?),
            None => None,
        };
        let mut this = Self {
            probepoints: KVec::new(),
            returns,
            process: probed,
        };
        let placed = this.place_probe(mm, process.group(), probe, sites);
        // An exec or exit that was reported before the entries were added has not removed them.
        let placed = match placed {
            Ok(()) if this.is_over() => Err(ESRCH),
            placed => placed,
        };
        placed.inspect_err(|_| this.detach(probe.id))?;
        Ok(this)
    }

    fn place_probe(
        &mut self,
        mm: &ARef<MmWithUser>,
        group: ThreadGroup,
        probe: &Arc<Probe>,
        sites: &ProbeSites,
    ) -> Result {
        let entry = |function_entry| ChainEntry::new(probe.clone(), group, function_entry);
        let (Some(returns), Some(return_sites)) = (&self.returns, &sites.returns) else {
            return self.place(mm, sites.at, |_| Ok(entry(None)));
        };
        let returns = returns.get()?;
        let detection = return_sites.insert(&returns, mm)?;
        self.place(mm, sites.at, |probepoint| {
            let (function_entry, detection) =
                return_sites.function_entry(&returns, probepoint, detection)?;
            probe.set_detection(detection);
            Ok(entry(Some(function_entry)))
        })
    }

    fn place(
        &mut self,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        entry: impl Fn(&Arc<Probepoint>) -> Result<ChainEntry>,
    ) -> Result {
        self.probepoints.reserve(1, GFP_KERNEL)?;
        let probepoint = probepoint::place(mm, at, entry)?;
        Ok(self.probepoints.push(probepoint, GFP_KERNEL)?)
    }
}

impl Attachment for ProbeAttachment {
    fn is_over(&self) -> bool {
        self.process.is_over()
    }

    fn detach(&self, id: u64) {
        for probepoint in &self.probepoints {
            probepoint.remove_probe(id);
        }
    }
}
