// SPDX-License-Identifier: GPL-2.0

//! Registering and unregistering.

use crate::{
    client::{
        Client,
        Spot, //
    },
    probe::{
        Counts,
        Probe, //
    },
    process::Process, //
};

use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    workqueue::{
        self,
        Work,
        WorkItem, //
    },
};

/// A client at an address of a process. Dropping it unregisters.
///
/// When the drop returns, the client is called no more, nor will be. In a handler one cannot wait
/// for handlers: there it returns at once, in any context, and the client, which stays allocated,
/// is not called for hits that begin afterwards. [`Client::ended`] says when none is executing.
///
/// Context of the drop: may sleep, except in a handler.
#[must_use = "dropping it unregisters"]
pub struct Registration(Option<Pin<KBox<Registered>>>);

#[pin_data]
struct Registered {
    probe: Arc<Probe>,
    /// Ends it, if a handler cannot.
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Registered { self.work }
}

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
/// instruction cannot be probed. `EOPNOTSUPP`: the function is also left by a jump. `EFAULT`: the
/// text cannot be read, or ends within the instruction. `EINTR`: the caller has been killed, or has
/// got a signal while it was waiting for whoever serves the userfaultfd of the text. `ENOMEM`.
pub fn register(process: &Process, spot: Spot, client: Arc<dyn Client>) -> Result<Registration> {
    if client.wants().is_nothing() {
        return Err(EINVAL);
    }
    let probe = Probe::new(client, spot)?;
    let shared = probe.clone();
    let registered = KBox::pin_init(
        pin_init!(Registered {
            probe: shared,
            work <- new_work!("uprobes::Registered"),
        }),
        GFP_KERNEL,
    )?;
    // Until it is live no hit calls the client, so that nothing has to be waited for if this fails.
    // But a process that was created meanwhile may have found it, and have it.
    probe.enter(process).inspect_err(|_| probe.take_out())?;
    probe.go_live();
    Ok(Registration(Some(registered)))
}

impl Registration {
    /// Unregisters several at once, for one wait.
    ///
    /// Context: may sleep, except in a handler.
    pub fn unregister_all(registrations: impl Iterator<Item = Registration>) {
        let mut any = false;
        for mut registration in registrations {
            // Handlers may be executing: the client is kept by the list that they read, until the
            // grace period is over, so that the others may go.
            any |= registration.remove();
        }
        if any {
            ubp::wait_for_hits();
        }
    }

    /// What has come of the probe so far.
    pub fn counts(&self) -> Counts {
        self.0
            .as_ref()
            .map_or(Counts::default(), |registered| registered.probe.counts())
    }

    /// Takes the client out, or has it taken out. Returns whether handlers are to be waited for.
    fn remove(&mut self) -> bool {
        let Some(registered) = self.0.take() else {
            return false;
        };
        if ubp::is_in_hit() {
            registered.probe.silence();
            workqueue::system_unbound().enqueue(registered);
            return false;
        }
        registered.probe.take_out();
        true
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.remove() {
            ubp::wait_for_hits();
        }
    }
}

impl WorkItem for Registered {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        this.probe.take_out();
        ubp::wait_for_hits();
        this.probe.client().ended();
    }
}
