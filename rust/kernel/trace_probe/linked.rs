// SPDX-License-Identifier: GPL-2.0

//! Probes and their events, while nobody changes which is whose.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::{
    args,
    class,
    command::{
        Command,
        Problem, //
    },
    lock::EventsLocked,
    targets::PerfEvents,
    usage::Usage,
    Probe,
    ProbeEvent, //
};
use crate::{
    bindings,
    error::to_result,
    ffi::c_int,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    str::CStr,
    sync::Arc,
};
use core::ptr;

/// A probe that is linked to its event.
///
/// # Invariants
///
/// For `'a` the probe is linked to an event and the events are locked.
pub struct Linked<'a, T: ProbeEvent> {
    probe: &'a Probe<T>,
    _locked: &'a EventsLocked,
}

impl<'a, T: ProbeEvent> Linked<'a, T> {
    /// Looks at a probe.
    ///
    /// # Safety
    ///
    /// For `'a` the probe must be linked to an event.
    pub(super) unsafe fn new(probe: &'a Probe<T>, locked: &'a EventsLocked) -> Self {
        // INVARIANT: By the safety requirements, and as `locked` is borrowed.
        Self {
            probe,
            _locked: locked,
        }
    }

    /// The probe.
    pub fn probe(&self) -> &'a Probe<T> {
        self.probe
    }

    fn as_ptr(&self) -> *mut bindings::trace_probe {
        self.probe.args.as_ptr()
    }

    /// Name of the event.
    pub fn name(&self) -> &CStr {
        // SAFETY: By the type invariants there is an event. It has a name, which stays.
        unsafe { CStr::from_char_ptr(bindings::trace_probe_name(self.as_ptr())) }
    }

    /// Name of the event's group.
    pub fn group(&self) -> &CStr {
        // SAFETY: By the type invariants there is an event. It has a group, which stays.
        unsafe { CStr::from_char_ptr(bindings::trace_probe_group_name(self.as_ptr())) }
    }

    /// Whether the event is enabled, for whatever.
    pub(super) fn is_enabled(&self) -> bool {
        // SAFETY: By the type invariants there is an event.
        unsafe { bindings::trace_probe_is_enabled(self.as_ptr()) }
    }

    /// Returns whether the probe is to be in place for this.
    pub(super) fn is_needed_for(&self, usage: Usage) -> bool {
        // SAFETY: By the type invariants there is an event.
        let enabled = unsafe { bindings::trace_probe_test_flag(self.as_ptr(), usage.flag()) };
        match usage {
            Usage::Trace => enabled,
            // SAFETY: By the type invariants there is an event, for as long as the result is used.
            Usage::Perf => unsafe {
                enabled && PerfEvents::of(self.probe.args.event(), self._locked).need(self.probe)
            },
        }
    }

    /// Looks at what keeps the probe in place, if the event is enabled for this.
    pub fn inspect<R>(&self, usage: Usage, f: impl FnOnce(&T::Enabled) -> R) -> Option<R> {
        self.probe.inspect(usage, f, self._locked)
    }

    /// Whether the event has other probes.
    pub(super) fn has_sibling(&self) -> bool {
        // SAFETY: By the type invariants there is an event, and its list of probes stays.
        unsafe { bindings::trace_probe_has_sibling(self.as_ptr()) }
    }

    /// The event.
    pub(super) fn call(&self) -> *mut bindings::trace_event_call {
        // SAFETY: By the type invariants there is an event.
        unsafe { &raw mut (*self.probe.args.event()).call }
    }

    /// Writes the probe as a line that would make it.
    pub fn show(&self, m: &SeqFile) {
        let letter = self.probe.args.kind().letter();
        let place = self.probe.place();
        place.show_line(m, fmt!("{}:{}/{} ", letter, self.group(), self.name()));
        for arg in self.probe.args.as_slice() {
            // SAFETY: The arguments are parsed, and live as long as the probe.
            let (name, fetch) = unsafe { (args::text(arg.name), args::text(arg.comm)) };

            seq_print!(m, " {}={}", name, fetch);
        }
        seq_print!(m, "\n");
        // CAST: `SeqFile` is transparent over `struct seq_file`.
        let m = core::ptr::from_ref(m).cast_mut().cast();
        // SAFETY: The arguments are parsed, and `m` is a sequence file.
        unsafe { bindings::trace_probe_dump_args(m, self.as_ptr()) };
    }

    /// Registers the event, which is the probe's own.
    pub(super) fn register(&self, command: &Command<'_>) -> Result {
        class::init::<T>(self);

        // SAFETY: The event is initialised, and by the type invariants the events are locked.
        to_result(unsafe { bindings::trace_probe_register_event_call(self.as_ptr()) }).map_err(
            |error| {
                let problem = if error == EEXIST {
                    Problem::EventExists
                } else {
                    Problem::FailedToRegister
                };
                command.reject(0, 0, problem, error)
            },
        )
    }

    /// Makes the probe one more of the event of `other`, in place of its own.
    pub(super) fn append_to(&self, other: &Linked<'_, T>, command: &Command<'_>) -> Result {
        // Their entries begin differently.
        if self.probe.args.kind() != other.probe.args.kind() {
            return Err(command.reject(0, 0, Problem::DifferentKind, EEXIST));
        }
        // SAFETY: The arguments of both are parsed.
        let differs =
            unsafe { bindings::trace_probe_compare_arg_type(self.as_ptr(), other.as_ptr()) };
        if let Ok(nth @ 1..) = usize::try_from(differs) {
            // Arguments are counted from one here, and come after the command and the place.
            return Err(command.reject(nth + 1, 0, Problem::DifferentArgument, EEXIST));
        }
        if other.siblings().any(|sibling| self.is_same(&sibling)) {
            return Err(command.reject(0, 0, Problem::SameProbe, EEXIST));
        }

        // INVARIANT: The probe is linked to the event of `other` in place of its own.
        // SAFETY: Both are linked, `self` to an event that nobody else knows, which goes.
        to_result(unsafe { bindings::trace_probe_append(self.as_ptr(), other.as_ptr()) })
    }

    /// Returns another probe of the event that the probe takes the place of, if there is one.
    pub(super) fn replaced(&self) -> Option<Arc<Probe<T>>> {
        self.siblings()
            .find(|other| {
                !ptr::eq(&**other, self.probe)
                    && other.place().is_replaced_by(self.probe.place())
                    && self.fetches_as(other)
            })
            .map(Arc::from)
    }

    /// All probes of the event.
    fn siblings(&self) -> class::Siblings<'_, T> {
        // SAFETY: By the type invariants there is an event, and it is one of probes of type `T`.
        unsafe { class::Siblings::new(self.probe.args.event(), self._locked) }
    }

    /// Returns whether two probes are at one place and fetch the same.
    fn is_same(&self, other: &Probe<T>) -> bool {
        self.probe.place().is_same_place(other.place()) && self.fetches_as(other)
    }

    /// Returns whether two probes fetch the same. The names and types of their arguments must have
    /// been compared before.
    fn fetches_as(&self, other: &Probe<T>) -> bool {
        let mine = self.probe.args.as_slice().iter();
        let theirs = other.args.as_slice();

        mine.zip(theirs).all(|(a, b)| {
            // SAFETY: The arguments are parsed, and live as long as the probes.
            unsafe { args::text(a.comm) == args::text(b.comm) }
        })
    }

    /// Whether a line with these words is about the probe.
    ///
    /// # Safety
    ///
    /// `argv` must hold `argc` pointers to strings.
    pub(super) unsafe fn is_at(&self, argc: c_int, argv: *mut *const crate::ffi::c_char) -> bool {
        if argc < 1 {
            return true;
        }

        // SAFETY: By the safety requirements there is a first string.
        let place = unsafe { CStr::from_char_ptr(*argv) };
        self.probe.place().is_at(place)
            // SAFETY: The arguments are parsed, and what is left of the words is strings.
            && unsafe {
                bindings::trace_probe_match_command_args(self.as_ptr(), argc - 1, argv.add(1))
            }
    }

    /// Takes the probe away, and the event with its last one.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the event is enabled or in use.
    ///
    /// # Safety
    ///
    /// The probe must be listed. The list's reference is gone if this succeeds, so that `self`
    /// must not be used again.
    pub(super) unsafe fn release(self) -> Result {
        if self.is_enabled() {
            return Err(EBUSY);
        }
        if !self.has_sibling() {
            // SAFETY: The event is registered, as a listed probe is linked to it.
            if unsafe { bindings::trace_event_dyn_busy(self.call()) } {
                return Err(EBUSY);
            }
            // SAFETY: As above, and the events are locked.
            to_result(unsafe { bindings::trace_probe_unregister_event_call(self.as_ptr()) })?;
        }

        // SAFETY: The probe is listed, and as its event is not enabled, it is not live. If it was
        // the last one, the event has been unregistered.
        unsafe { Probe::retire(self.probe, self._locked) };
        Ok(())
    }
}
