// SPDX-License-Identifier: GPL-2.0

//! Probes: how they come into being, and how they go.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::{
    args::Args,
    command::{
        Command,
        Problem, //
    },
    linked::Linked,
    lock::EventsLocked,
    usage::{
        Usage,
        Uses, //
    },
    ProbeEvent, //
};
use crate::{
    bindings,
    prelude::*,
    str::CStr,
    sync::{
        Arc,
        ArcBorrow,
        UniqueArc, //
    },
    types::Opaque,
};

/// Most arguments that an event can have.
const MAX_ARGS: usize = bindings::MAX_TRACE_ARGS as usize;

/// One probe of an event. Several may have the event in common.
///
/// # Invariants
///
/// - While `node` is on the list of dynamic events, the list owns a reference to the probe.
/// - The probe is linked to its event from the beginning until it is taken off that list.
/// - `uses` has the event, for any usage, only while the probe is linked to it, and the probe is
///   unlinked only when an RCU grace period has passed since it has been taken away there.
#[repr(C)]
pub struct Probe<T: ProbeEvent> {
    pub(super) node: Opaque<bindings::dyn_event>,
    pub(super) args: Args,
    place: T,
    uses: Uses<T::Enabled>,
}

// SAFETY: `node` is protected by `event_mutex`; all else is `Send`.
unsafe impl<T: ProbeEvent> Send for Probe<T> {}

// SAFETY: As above, and all else is `Sync`.
unsafe impl<T: ProbeEvent> Sync for Probe<T> {}

impl<T: ProbeEvent> Probe<T> {
    /// Makes a probe, and its event if there is none of that name.
    ///
    /// The arguments are the words of `command` from `first` on. On failure the error log says
    /// why, and nothing is left behind.
    pub fn create(
        command: &Command<'_>,
        group: &CStr,
        event: &CStr,
        place: T,
        first: usize,
    ) -> Result {
        let len = command.len().saturating_sub(first);
        if len > MAX_ARGS {
            return Err(command.reject(first, 0, Problem::TooManyArguments, E2BIG));
        }

        let mut args = Args::new(place.kind(), group, event, len)?;
        args.parse(command, first)?;
        if place.file_base().is_none() {
            args.refuse_file_offsets(command, first)?;
        }

        let probe = Self::new(args, place)?;
        EventsLocked::with(|locked| Self::publish(probe, command, locked))
    }

    /// Gives the parts of a probe their place in memory, where they find each other.
    fn new(args: Args, place: T) -> Result<Arc<Self>> {
        // INVARIANT: The probe is linked to an event of its own, and on no list.
        let mut probe = UniqueArc::new(
            Self {
                node: Opaque::uninit(),
                args,
                place,
                uses: Uses::new(),
            },
            GFP_KERNEL,
        )?;

        let owner = (&raw const *probe).cast();
        probe.args.set_owner(owner);
        // SAFETY: The node is ours, and stays where it is.
        unsafe { bindings::dyn_event_init(probe.node.get(), T::event_type().as_ptr()) };
        Ok(probe.into())
    }

    /// Makes the probe one of its event, and lists it.
    fn publish(probe: Arc<Self>, command: &Command<'_>, locked: &EventsLocked) -> Result {
        // SAFETY: A new probe is linked to an event, and nobody else can change that yet.
        let new = unsafe { Linked::new(&*probe, locked) };

        match T::event_type().find(&new, locked) {
            Some(other) => new.append_to(&other, command)?,
            None => new.register(command)?,
        }

        let listed = Arc::into_raw(probe.clone());
        // INVARIANT: The list owns the reference that was just made.
        // SAFETY: The node is initialised and on no list, and the events are locked.
        unsafe { bindings::dyn_event_add(probe.node.get(), new.call()) };

        // If the event was there before, and enabled, then so is the new probe.
        let started = Usage::ALL
            .into_iter()
            .filter(|&usage| new.is_needed_for(usage))
            .try_for_each(|usage| Self::start(probe.as_arc_borrow(), usage, locked));

        started.inspect_err(|_| {
            // SAFETY: The probe was listed above.
            unsafe { Self::take_out(listed, locked) };
        })?;
        while let Some(over) = new.replaced() {
            // SAFETY: Siblings are listed, and the new probe is the event's as well.
            unsafe { Self::take_out(&*over, locked) };
        }
        Ok(())
    }

    /// Takes a probe away, off the list of dynamic events and out of its event.
    ///
    /// # Safety
    ///
    /// The probe must be listed. If it is the last of its event, the event must not be registered
    /// any more. The list's reference is gone afterwards.
    unsafe fn take_out(probe: *const Self, locked: &EventsLocked) {
        // SAFETY: By the safety requirements the list owns a reference, which it gives up below.
        let borrowed = unsafe { ArcBorrow::from_raw(probe) };
        for usage in Usage::ALL {
            Self::stop(core::iter::once(borrowed), usage, locked);
        }
        // SAFETY: By the safety requirements, and the probe has just been stopped.
        unsafe { Self::retire(probe, locked) };
    }

    /// Takes a probe off the list of dynamic events and out of its event.
    ///
    /// # Safety
    ///
    /// The probe must be listed and not live. If it is the last of its event, the event must not
    /// be registered any more. The list's reference is gone afterwards.
    pub(super) unsafe fn retire(probe: *const Self, locked: &EventsLocked) {
        // INVARIANT: The list gives its reference to us.
        // SAFETY: By the safety requirements the list owns one.
        let probe = unsafe { Arc::from_raw(probe) };

        // SAFETY: The node is on the list, and the events are locked.
        unsafe { bindings::dyn_event_remove(probe.node.get()) };
        for usage in Usage::ALL {
            if let Some(stopped) = probe.uses.of(usage).stopped.replace(None, locked) {
                // SAFETY: This may sleep, like whoever locked the events.
                unsafe { bindings::cond_synchronize_rcu(stopped) };
            }
        }
        // INVARIANT: No usage has the event, and since that is so a grace period has passed.
        // SAFETY: The probe is linked, as it was listed, and the events are locked.
        unsafe { bindings::trace_probe_unlink(probe.args.as_ptr()) };
    }

    /// The place of the probe.
    #[inline]
    pub fn place(&self) -> &T {
        &self.place
    }

    /// Whether there is somebody to tell of a hit. For as long as an RCU read-side critical section
    /// that this is called in lasts, the probe is then linked to its event.
    #[inline]
    pub fn is_live(&self, usage: Usage) -> bool {
        self.live_event(usage).is_some()
    }

    /// The event, if so.
    #[inline]
    pub(super) fn live_event(&self, usage: Usage) -> Option<*mut bindings::trace_probe_event> {
        self.uses.of(usage).event()
    }

    /// Looks at what keeps the probe in place, if it is.
    pub(super) fn inspect<R>(
        &self,
        usage: Usage,
        f: impl FnOnce(&T::Enabled) -> R,
        locked: &EventsLocked,
    ) -> Option<R> {
        self.uses.of(usage).enabled.inspect(f, locked)
    }

    /// Puts those of the probes of an event in place that are `needed` and are not in place yet.
    ///
    /// A process that is over does not keep the probes of others from being put in place, as a file
    /// that no process maps does not keep C's uprobes.
    ///
    /// # Errors
    ///
    /// [`ESRCH`] if the processes of all probes are over, otherwise as of [`ProbeEvent::enable`].
    /// The caller must [stop](Self::stop) those that have been started.
    pub(super) fn start_all<'a>(
        probes: impl Iterator<Item = ArcBorrow<'a, Self>>,
        usage: Usage,
        needed: impl Fn(&Self) -> bool,
        locked: &EventsLocked,
    ) -> Result
    where
        T: 'a,
    {
        let mut result = Err(ESRCH);
        for probe in probes {
            let started = if probe.is_live(usage) {
                Ok(())
            } else if needed(&probe) {
                Self::start(probe, usage, locked)
            } else if probe.place.is_over() {
                Err(ESRCH)
            } else {
                Ok(())
            };
            match started {
                Ok(()) => result = Ok(()),
                Err(ESRCH) => (),
                Err(error) => return Err(error),
            }
        }
        result
    }

    /// Puts a listed probe in place.
    fn start(probe: ArcBorrow<'_, Self>, usage: Usage, locked: &EventsLocked) -> Result {
        // INVARIANT: Listed probes are linked.
        let event = probe.args.event();
        probe.uses.of(usage).set_event(Some(event));
        match T::enable(probe, usage) {
            Ok(enabled) => {
                probe.uses.of(usage).enabled.replace(Some(enabled), locked);
                Ok(())
            }
            Err(error) => {
                probe.set_dead(usage, locked);
                Err(error)
            }
        }
    }

    /// Takes probes away that are in place for a usage, and waits until no hit is being handled.
    pub(super) fn stop<'a>(
        probes: impl Iterator<Item = ArcBorrow<'a, Self>> + Clone,
        usage: Usage,
        locked: &EventsLocked,
    ) where
        T: 'a,
    {
        T::disable(
            probes
                .clone()
                .filter_map(|probe| probe.uses.of(usage).enabled.replace(None, locked)),
        );
        probes.for_each(|probe| probe.set_dead(usage, locked));
    }

    /// Ends what [`Self::start`] began, except for what it put in place.
    fn set_dead(&self, usage: Usage, locked: &EventsLocked) {
        let used = self.uses.of(usage);

        if used.event().is_some() {
            used.set_event(None);
            // SAFETY: No preconditions.
            let now = unsafe { bindings::get_state_synchronize_rcu() };
            used.stopped.replace(Some(now), locked);
        }
    }
}
