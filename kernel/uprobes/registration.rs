// SPDX-License-Identifier: GPL-2.0

//! Registering clients, and unregistering them.

use crate::{
    client::{
        Client,
        Entry, //
    },
    probepoint::{
        Added,
        Probepoint, //
    },
    process::Process,
    registry,
    watch::Watched, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};
use ubp::Vaddr;

/// A client at an address of a process. Dropping it unregisters.
///
/// When the drop returns, the client is called no more, nor will be. In a handler one cannot wait
/// for handlers: there, it returns at once, and the client, which stays allocated, is not called
/// for hits that begin afterwards.
///
/// Context of the drop: may sleep.
#[must_use = "dropping it unregisters"]
pub struct Registration {
    id: u64,
    probepoint: Arc<Probepoint>,
    _watched: Watched,
    /// Whether the probepoint has been told.
    removed: bool,
}

/// Registers a client at an address of a process. From when it returns, at the latest, each thread
/// of the process that is about to execute the instruction there calls the client first.
///
/// Context: may sleep; takes `mmap_lock` of the process.
///
/// # Errors
///
/// `EINVAL`: the address is not mapped, not executable, or not of the process alone (a shared
/// mapping), or the client wants neither handler. `ESRCH`: the process exits, or has a new image.
/// `EEXIST`: a foreign breakpoint. `EPERM`: the instruction cannot be probed. `EFAULT`: the text
/// cannot be read, or ends within the instruction. `EINTR`: the caller has been killed, or has got
/// a signal while it was waiting for whoever serves the userfaultfd of the text. `ENOMEM`.
pub fn register(
    process: &Arc<Process>,
    at: Vaddr,
    client: Arc<dyn Client>,
) -> Result<Registration> {
    if !client.wants_task() && !client.wants_interrupt() {
        return Err(EINVAL);
    }
    let mm = process.mm()?;
    let watched = Watched::new(process)?;
    let id = registry::new_id();
    let entry = Entry::new(id, process.group(), client);
    let probepoint = loop {
        let probepoint = registry::probepoint(&mm, at)?;
        match probepoint.add(&mm, entry.clone()) {
            Ok(Added::Yes) => break probepoint,
            Ok(Added::Dead) => (),
            // No lock is held while others are waited for, on whom a handler, or the exit of the
            // process, might be waiting.
            Err(EAGAIN) => ubp::fault_in(&mm, at)?,
            Err(error) => {
                // The client may have been published, and found by a thread that had hit an earlier
                // breakpoint at the address.
                ubp::wait_for_hits();
                return Err(error);
            }
        }
    };
    let registration = Registration {
        id,
        probepoint,
        _watched: watched,
        removed: false,
    };
    // An exec or exit that came before the client was added did not see it.
    if registration._watched.is_over() {
        return Err(ESRCH);
    }
    Ok(registration)
}

impl Registration {
    /// Unregisters several at once, for one wait.
    ///
    /// Context: may sleep.
    pub fn unregister_all(registrations: impl Iterator<Item = Registration>) {
        let mut last = None;
        for mut registration in registrations {
            registration.remove();
            // Handlers may be executing: the client is kept by the list that they read, until the
            // grace period is over, so that the others may go.
            last = Some(registration);
        }
        if last.is_some() {
            ubp::wait_for_hits();
        }
    }

    fn remove(&mut self) {
        if !self.removed {
            self.removed = true;
            self.probepoint.retain(|entry| entry.id != self.id);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.removed {
            self.remove();
            ubp::wait_for_hits();
        }
    }
}
