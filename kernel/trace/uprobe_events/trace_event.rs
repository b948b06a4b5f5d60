// SPDX-License-Identifier: GPL-2.0

//! The trace events of probes, and `event_mutex`, which protects them.
//!
//! C headers: [`include/linux/trace_events.h`](srctree/include/linux/trace_events.h) and
//! [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use crate::{
    args::Args,
    enable::Usage,
    entry::{
        EntryHead,
        ProbeKind, //
    },
    probe::EventProbe, //
};
use core::{
    cell::UnsafeCell,
    mem::{
        offset_of,
        size_of, //
    },
    ptr, //
};
use kernel::{
    bindings, container_of,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    str::CStr,
    sync::ArcBorrow,
    types::{
        NotThreadSafe,
        Opaque,
        ScopeGuard, //
    },
};

/// Evidence that the current task holds `event_mutex`.
///
/// A shared reference keeps every event of probes. A function that may free one takes an exclusive
/// reference.
///
/// # Invariants
///
/// The current task holds `event_mutex` while the value exists, and has no other such value.
pub(crate) struct EventsLocked(NotThreadSafe);

impl EventsLocked {
    /// Runs `f` with the mutex held.
    pub(crate) fn with<R>(f: impl FnOnce(&mut EventsLocked) -> R) -> R {
        let mutex = &raw mut bindings::event_mutex;

        // SAFETY: The mutex is initialised at build time and exists forever.
        unsafe { bindings::mutex_lock(mutex) };
        // SAFETY: The guard is dropped once and by the same task, which locked the mutex above.
        let _unlock = ScopeGuard::new(|| unsafe { bindings::mutex_unlock(mutex) });

        // INVARIANT: The mutex was locked above, so that there was no other value, and is unlocked
        // after this value is gone.
        f(&mut EventsLocked(NotThreadSafe))
    }

    /// Asserts that the caller holds the mutex.
    ///
    /// # Safety
    ///
    /// The current task must hold `event_mutex` for as long as the returned value exists, and must
    /// have no other such value.
    pub(crate) unsafe fn assume() -> Self {
        // INVARIANT: By the safety requirements the current task holds the mutex, and has no other
        // value.
        EventsLocked(NotThreadSafe)
    }
}

/// A slot for a value, protected by `event_mutex`.
pub(crate) struct LockedSlot<V>(UnsafeCell<Option<V>>);

// SAFETY: The value is accessed only with the mutex held, so by one task at a time; it may have
// been put there by another one, which `V: Send` allows.
unsafe impl<V: Send> Sync for LockedSlot<V> {}

impl<V> LockedSlot<V> {
    /// Creates an empty slot.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// Stores a value, and returns the one before.
    pub(crate) fn replace(&self, value: Option<V>, _locked: &EventsLocked) -> Option<V> {
        // SAFETY: `_locked` ensures that the current task holds the mutex, so no other task
        // accesses the slot. No reference to the value outlives a call of this function.
        core::mem::replace(unsafe { &mut *self.0.get() }, value)
    }

    /// Calls `f` with the value, if there is one. The slot is empty during the call.
    pub(crate) fn inspect<R>(&self, f: impl FnOnce(&V) -> R, locked: &EventsLocked) -> Option<R> {
        let value = self.replace(None, locked)?;
        let result = f(&value);

        self.replace(Some(value), locked);
        Some(result)
    }
}

/// The trace event of one or more probes, with the events locked.
///
/// # Invariants
///
/// For `'a`, `raw` points to an event, `event_mutex` is held, and the list of the event's probes
/// does not change. It has at least one probe. All probes on it are in an [`EventProbe`], which is
/// listed, except one that is being created.
#[derive(Clone, Copy)]
pub(crate) struct TraceEvent<'a> {
    raw: *mut bindings::trace_probe_event,
    locked: &'a EventsLocked,
}

impl<'a> TraceEvent<'a> {
    /// Wraps an event.
    ///
    /// # Safety
    ///
    /// `raw` must point to an event of [`EventProbe`]s.
    pub(crate) unsafe fn from_raw(
        raw: *mut bindings::trace_probe_event,
        locked: &'a EventsLocked,
    ) -> Self {
        // INVARIANT: By the safety requirements this is an event. Only functions that take an
        // exclusive reference to `EventsLocked` remove probes from it, and an event without probes
        // is freed.
        Self { raw, locked }
    }

    /// Returns the pointer to the event.
    pub(crate) fn as_ptr(self) -> *mut bindings::trace_probe_event {
        self.raw
    }

    /// Returns the events' lock.
    pub(crate) fn locked(self) -> &'a EventsLocked {
        self.locked
    }

    /// Returns the event's `struct trace_event_call`.
    pub(crate) fn call(self) -> *mut bindings::trace_event_call {
        // SAFETY: By the type invariants the event exists.
        unsafe { &raw mut (*self.raw).call }
    }

    /// Returns the first probe of the event.
    fn primary(self) -> *mut bindings::trace_probe {
        // SAFETY: By the type invariants the event exists and has a probe.
        unsafe { container_of!((*self.raw).probes.next, bindings::trace_probe, list) }
    }

    /// Returns the name of the event.
    pub(crate) fn name(self) -> &'a CStr {
        // SAFETY: By the type invariants there is an event and a probe. The name does not change.
        unsafe { CStr::from_char_ptr(bindings::trace_probe_name(self.primary())) }
    }

    /// Returns the name of the event's group.
    pub(crate) fn group(self) -> &'a CStr {
        // SAFETY: By the type invariants there is an event and a probe. The group does not change.
        unsafe { CStr::from_char_ptr(bindings::trace_probe_group_name(self.primary())) }
    }

    /// Returns an iterator over all probes of the event.
    pub(crate) fn probes(self) -> Probes<'a> {
        Probes {
            event: self,
            // SAFETY: By the type invariants the event exists.
            next: unsafe { (*self.raw).probes.next },
        }
    }

    /// Returns whether the event is enabled, for any usage.
    pub(crate) fn is_enabled(self) -> bool {
        // SAFETY: By the type invariants there is an event and a probe.
        unsafe { bindings::trace_probe_is_enabled(self.primary()) }
    }

    /// Returns whether the event is enabled for a usage.
    pub(crate) fn is_enabled_for(self, usage: Usage) -> bool {
        // SAFETY: By the type invariants there is an event and a probe.
        unsafe { bindings::trace_probe_test_flag(self.primary(), usage.flag()) }
    }

    /// Returns whether the event is in use by other parts of the kernel.
    pub(crate) fn is_busy(self) -> bool {
        // SAFETY: By the type invariants the event exists.
        unsafe { bindings::trace_event_dyn_busy(self.call()) }
    }

    /// Registers the event.
    pub(crate) fn register(self) -> Result {
        let call = self.call();

        // SAFETY: By the type invariants the event exists. It has a class of its own, and no other
        // code accesses it, since it is not registered yet. With these flags BPF attaches programs
        // that get the registers, and perf lets every user with permission to trace a thread see
        // the thread's hits.
        unsafe {
            (*call).flags |=
                (bindings::TRACE_EVENT_FL_UPROBE | bindings::TRACE_EVENT_FL_CAP_ANY) as c_int;
            (*call).event.funcs = FUNCTIONS.0.get();
            (*(*call).class).fields_array = FIELDS.0.get().cast();
            (*(*call).class).reg = Some(enable_or_disable);
        }
        // SAFETY: The event is initialised, and by the type invariants the events are locked.
        to_result(unsafe { bindings::trace_probe_register_event_call(self.primary()) })
    }

    /// Unregisters the event, which must be registered.
    pub(crate) fn unregister(self) -> Result {
        // SAFETY: By the type invariants the event exists and the events are locked.
        to_result(unsafe { bindings::trace_probe_unregister_event_call(self.primary()) })
    }

    /// Enables the event for a file.
    ///
    /// # Errors
    ///
    /// As for [`EventProbe::start_all`].
    ///
    /// # Safety
    ///
    /// `file` must be a file of the event.
    unsafe fn add_file(self, file: *mut bindings::trace_event_file) -> Result {
        let was_enabled = self.is_enabled_for(Usage::Trace);

        // SAFETY: By the type invariants there is a probe and the events are locked; by the safety
        // requirements `file` is a file of the event.
        to_result(unsafe { bindings::trace_probe_add_file(self.primary(), file) })?;
        if was_enabled {
            return Ok(());
        }
        EventProbe::start_all(self, Usage::Trace, |_| true).inspect_err(|_| {
            // SAFETY: `file` is a file of the event, and was added above.
            unsafe { self.remove_file(file) }
        })
    }

    /// Disables the event for a file.
    ///
    /// # Safety
    ///
    /// `file` must have been added by [`Self::add_file`].
    unsafe fn remove_file(self, file: *mut bindings::trace_event_file) {
        // SAFETY: By the type invariants there is a probe and the events are locked; by the safety
        // requirements `file` was added.
        let ret = unsafe { bindings::trace_probe_remove_file(self.primary(), file) };

        if ret == 0 && !self.is_enabled_for(Usage::Trace) {
            EventProbe::stop(self.probes(), Usage::Trace, self.locked);
        }
    }
}

/// Iterator over the probes of an event.
///
/// # Invariants
///
/// `next` is on the list of the event's probes.
#[derive(Clone)]
pub(crate) struct Probes<'a> {
    event: TraceEvent<'a>,
    next: *mut bindings::list_head,
}

impl<'a> Iterator for Probes<'a> {
    type Item = ArcBorrow<'a, EventProbe>;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: By the invariants of `TraceEvent` the event exists.
        if ptr::eq(self.next, unsafe { &raw const (*self.event.raw).probes }) {
            return None;
        }

        // SAFETY: By the type invariants `next` is the node of a probe, which by the invariants of
        // `TraceEvent` is in an `EventProbe`.
        let (probe, next) = unsafe {
            let tp = container_of!(self.next, bindings::trace_probe, list);

            (Args::owner(tp), (*self.next).next)
        };
        // INVARIANT: The list does not change for `'a`.
        self.next = next;
        // SAFETY: `probe` was made by `Arc::into_raw()` for the list of dynamic events. The list's
        // reference stays for `'a`, for which the events are locked.
        Some(unsafe { ArcBorrow::from_raw(probe) })
    }
}

/// Static data that C code changes.
pub(crate) struct SharedWithC<V>(pub(crate) Opaque<V>);

// SAFETY: The value is accessed only by C code, which takes a lock.
unsafe impl<V> Sync for SharedWithC<V> {}

static FUNCTIONS: SharedWithC<bindings::trace_event_functions> =
    SharedWithC(Opaque::new(bindings::trace_event_functions {
        trace: Some(print),
        raw: None,
        hex: None,
        binary: None,
    }));

static FIELDS: SharedWithC<[bindings::trace_event_fields; 2]> = SharedWithC(Opaque::new([
    bindings::trace_event_fields {
        // `TRACE_FUNCTION_TYPE`: a function defines the fields.
        type_: ptr::without_provenance(usize::MAX),
        __bindgen_anon_1: bindings::trace_event_fields__bindgen_ty_1 {
            define_fields: Some(define_fields),
        },
    },
    bindings::trace_event_fields {
        type_: ptr::null(),
        __bindgen_anon_1: bindings::trace_event_fields__bindgen_ty_1 {
            define_fields: None,
        },
    },
]));

/// Enables and disables the event for a file or a perf event.
///
/// # Safety
///
/// Must be called by the tracing core only, on an event that [`TraceEvent::register`] registered.
unsafe extern "C" fn enable_or_disable(
    call: *mut bindings::trace_event_call,
    how: bindings::trace_reg,
    data: *mut c_void,
) -> c_int {
    // Perf calls these in a context switch, without `event_mutex`. It puts its events on the list
    // of the CPU itself.
    if matches!(
        how,
        bindings::trace_reg_TRACE_REG_PERF_ADD | bindings::trace_reg_TRACE_REG_PERF_DEL
    ) {
        return 0;
    }
    // SAFETY: The tracing core holds `event_mutex` for everything else. It calls this for a file or
    // a perf event of its own, never within a function here that has an `EventsLocked`.
    let locked = unsafe { EventsLocked::assume() };
    // SAFETY: A registered event exists, with a probe that is linked to it.
    let event = unsafe {
        let tp = bindings::trace_probe_primary_from_call(call);
        TraceEvent::from_raw((*tp).event, &locked)
    };
    let flag = Usage::Perf.flag();

    from_result(|| {
        // SAFETY: `data` is a file of the event for `TRACE_REG_REGISTER` and
        // `TRACE_REG_UNREGISTER`, and a perf event for `TRACE_REG_PERF_OPEN` and
        // `TRACE_REG_PERF_CLOSE`. The latter of each pair comes after the former. The event has a
        // probe.
        unsafe {
            match how {
                bindings::trace_reg_TRACE_REG_REGISTER => event.add_file(data.cast())?,
                bindings::trace_reg_TRACE_REG_UNREGISTER => event.remove_file(data.cast()),
                // Nothing is inserted before a perf event is opened.
                bindings::trace_reg_TRACE_REG_PERF_REGISTER => {
                    bindings::trace_probe_set_flag(event.primary(), flag)
                }
                // All perf events have been closed.
                bindings::trace_reg_TRACE_REG_PERF_UNREGISTER => {
                    bindings::trace_probe_clear_flag(event.primary(), flag)
                }
                bindings::trace_reg_TRACE_REG_PERF_OPEN => event.open_perf(data.cast())?,
                bindings::trace_reg_TRACE_REG_PERF_CLOSE => event.close_perf(data.cast()),
                _ => return Err(EINVAL),
            }
        }
        Ok(0)
    })
}

/// Prints an entry.
///
/// # Safety
///
/// Must be called by the tracing core only, for an entry of an event that [`TraceEvent::register`]
/// registered.
unsafe extern "C" fn print(
    iter: *mut bindings::trace_iterator,
    _flags: c_int,
    event: *mut bindings::trace_event,
) -> bindings::print_line_t {
    // SAFETY: The tracing core keeps the event registered during the call, so that it has a probe.
    // The probe stays linked during the call: see `trace_probe_unlink_printed()`.
    // `iter` has an entry, which `Contents::store()` wrote with the addresses and fields that are
    // common to all probes of the event.
    unsafe {
        let seq = &raw mut (*iter).seq;
        let entry = (*iter).ent.cast::<EntryHead>();
        let call = container_of!(event, bindings::trace_event_call, event);
        let tp = bindings::trace_probe_primary_from_call(call);
        if tp.is_null() {
            return bindings::trace_handle_return(seq);
        }

        let kind = (*Args::owner(tp)).kind;
        let name = bindings::trace_probe_name(tp);
        let addresses = (&raw const (*entry).addresses).cast::<c_ulong>();
        let first = addresses.read_unaligned();
        match kind {
            ProbeKind::Hit => {
                bindings::trace_seq_printf(seq, c"%s: (0x%lx)".as_char_ptr(), name, first)
            }
            ProbeKind::Return => bindings::trace_seq_printf(
                seq,
                c"%s: (0x%lx <- 0x%lx)".as_char_ptr(),
                name,
                addresses.add(1).read_unaligned(),
                first,
            ),
        };
        let printed = bindings::trace_probe_print_args(
            seq,
            (*tp).args.as_mut_ptr(),
            (*tp).nr_args as c_int,
            entry.byte_add(kind.head_len()).cast(),
            entry.cast(),
        );
        if printed == 0 {
            bindings::trace_seq_putc(seq, b'\n');
        }
        bindings::trace_handle_return(seq)
    }
}

/// Defines the fields of an event.
///
/// # Safety
///
/// Must be called by the tracing core only, on an event that [`TraceEvent::register`] registers.
unsafe extern "C" fn define_fields(call: *mut bindings::trace_event_call) -> c_int {
    from_result(|| {
        // SAFETY: The event is being registered, and has a probe, the arguments of which are
        // parsed, and which has an owner.
        unsafe {
            let tp = bindings::trace_probe_primary_from_call(call);
            let kind = (*Args::owner(tp)).kind;

            for (i, name) in kind.fields().iter().enumerate() {
                to_result(bindings::trace_define_field(
                    call,
                    c"unsigned long".as_char_ptr(),
                    name.as_ptr().cast::<c_char>(),
                    (offset_of!(EntryHead, addresses) + i * size_of::<c_ulong>()) as c_int,
                    size_of::<c_ulong>() as c_int,
                    0,
                    bindings::FILTER_OTHER as c_int,
                ))?;
            }
            to_result(bindings::traceprobe_define_arg_fields(
                call,
                kind.head_len(),
                tp,
            ))?;
        }
        Ok(0)
    })
}
