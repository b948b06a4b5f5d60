// SPDX-License-Identifier: GPL-2.0

//! Registering and unregistering.

use crate::{
    client::{
        Client,
        Spot, //
    },
    presence,
    probe::{
        Counts,
        Gate,
        Probe, //
    },
    process::Process, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A client at an address of a process. Dropping it unregisters.
///
/// When the drop returns, the client is called no more, nor will be, and the text is the program's
/// again. A handler cannot wait for handlers: there the drop returns at once, in any context, and
/// the client, which stays allocated, is not called for hits that begin afterwards.
/// [`Client::ended`] says when none is executing.
///
/// Context of the drop: may sleep, except in a handler.
#[must_use = "dropping it unregisters"]
pub struct Registration(Option<Arc<Probe>>);

/// Registers a client at a spot of a process. From when it returns, at the latest, each thread of
/// the process that is about to execute the instruction there calls the client first.
///
/// Context: may sleep; takes `mmap_lock` of the process. Handlers may call it in task context.
///
/// # Errors
///
/// `EINVAL`: the address is not mapped, not executable, or not of the process alone (a shared
/// mapping), or the client wants no handler, or the size is not that of a function that returns.
/// `ESRCH`: the process exits, or has a new image. `EEXIST`: a foreign breakpoint. `EPERM`: the
/// instruction cannot be probed. `EOPNOTSUPP`: the function of the given size is also left by a
/// jump, or calls a part of itself. `EFAULT`: the text cannot be read, or ends within the
/// instruction. `EINTR`: the caller has been killed, or has got a signal while it was waiting for
/// the server of the text's userfaultfd. `ENOMEM`.
pub fn register(process: &Process, spot: Spot, client: Arc<dyn Client>) -> Result<Registration> {
    Ok(Registration(Some(register_probe(process, spot, client)?)))
}

/// Registers a client, as [`register`] does. The caller must end the probe by [`end_all`].
pub(crate) fn register_probe(
    process: &Process,
    spot: Spot,
    client: Arc<dyn Client>,
) -> Result<Arc<Probe>> {
    if client.wants().is_nothing() {
        return Err(EINVAL);
    }
    let probe = Probe::new(client, spot)?;
    // Until it is live no hit calls the client, so that nothing has to be waited for if this fails.
    // But a process that the probed one has created since may have it already.
    presence::enter(&probe, process).inspect_err(|_| probe.take_out())?;
    probe.go_live();
    Ok(probe)
}

/// Unregisters several probes, with one wait for the handlers that are executing; in a handler,
/// which cannot wait, has a worker do it.
///
/// Context: may sleep, except in a handler.
pub(crate) fn end_all(probes: impl Iterator<Item = Arc<Probe>>) {
    let mut any = false;
    for probe in probes {
        if ubp::is_in_hit() {
            Probe::end_later(probe);
        } else {
            // Handlers may be executing: the list that they were found on keeps the client until
            // the grace period is over, so the reference may go.
            probe.take_out();
            any = true;
        }
    }
    if any {
        ubp::wait_for_hits();
    }
}

impl Registration {
    /// Unregisters several at once, for one wait.
    ///
    /// Context: may sleep, except in a handler.
    pub fn unregister_all(registrations: impl Iterator<Item = Registration>) {
        end_all(registrations.filter_map(|mut registration| registration.0.take()));
    }

    /// What has come of the probe so far.
    pub fn counts(&self) -> Counts {
        self.0
            .as_ref()
            .map_or(Counts::default(), |probe| probe.counts())
    }

    /// Returns whether the probe has been disarmed, because a handler has misbehaved (see
    /// [`contain`](crate::contain)): the client is called no more.
    pub fn is_disarmed(&self) -> bool {
        // Nothing else closes the gate of a probe whose registration has not been dropped.
        self.0
            .as_ref()
            .is_some_and(|probe| probe.gate() == Gate::Closed)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        end_all(self.0.take().into_iter());
    }
}
