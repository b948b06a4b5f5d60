// SPDX-License-Identifier: GPL-2.0

//! What the trace event of probes does when it is enabled, printed, or asked for its fields.
//!
//! C header: [`include/linux/trace_events.h`](srctree/include/linux/trace_events.h)

use super::{
    args::Args,
    kind::{
        Entry,
        Kind, //
    },
    linked::Linked,
    lock::EventsLocked,
    targets::PerfEvents,
    usage::Usage,
    Probe,
    ProbeEvent, //
};
use crate::{
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
    sync::ArcBorrow,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::{
        offset_of,
        size_of, //
    },
    ptr, //
};

/// Something that C code changes.
struct Shared<V>(Opaque<V>);

// SAFETY: Whoever accesses the value does so through C code that has a lock for it.
unsafe impl<V> Sync for Shared<V> {}

static FUNCTIONS: Shared<bindings::trace_event_functions> =
    Shared(Opaque::new(bindings::trace_event_functions {
        trace: Some(print),
        raw: None,
        hex: None,
        binary: None,
    }));

static FIELDS: Shared<[bindings::trace_event_fields; 2]> = Shared(Opaque::new([
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

/// Prepares the event of a probe to be registered.
pub(super) fn init<T: ProbeEvent>(probe: &Linked<'_, T>) {
    let call = probe.call();

    // SAFETY: The event exists, has a class of its own, and is not registered yet, so that nobody
    // else looks at it. With these flags BPF attaches programs that get the registers, and perf has
    // whoever may trace a thread see what it hits.
    unsafe {
        (*call).flags |=
            (bindings::TRACE_EVENT_FL_UPROBE | bindings::TRACE_EVENT_FL_CAP_ANY) as c_int;
        (*call).event.funcs = FUNCTIONS.0.get();
        (*(*call).class).fields_array = FIELDS.0.get().cast();
        (*(*call).class).reg = Some(register::<T>);
    }
}

/// Iterates over the probes of an event.
///
/// # Invariants
///
/// `head` is the list of the probes of an event, all of type `T`, and does not change for `'a`, for
/// which `next` is on it. All probes on it but one that is just being made are listed.
pub(super) struct Siblings<'a, T: ProbeEvent> {
    head: *mut bindings::list_head,
    next: *mut bindings::list_head,
    _probes: PhantomData<&'a Probe<T>>,
}

impl<T: ProbeEvent> Clone for Siblings<'_, T> {
    fn clone(&self) -> Self {
        // INVARIANT: It is the same list, and the same place in it.
        Self { ..*self }
    }
}

impl<'a, T: ProbeEvent> Siblings<'a, T> {
    /// Begins with the first probe of `event`.
    ///
    /// # Safety
    ///
    /// `event` must be an event of probes of type `T` and exist for `'a`.
    pub(super) unsafe fn new(
        event: *mut bindings::trace_probe_event,
        _locked: &'a EventsLocked,
    ) -> Self {
        // SAFETY: By the safety requirements the event exists.
        let head = unsafe { &raw mut (*event).probes };

        // INVARIANT: The events are locked for `'a`, so that the list does not change.
        Self {
            head,
            // SAFETY: As above.
            next: unsafe { (*head).next },
            _probes: PhantomData,
        }
    }
}

impl<'a, T: ProbeEvent> Iterator for Siblings<'a, T> {
    type Item = ArcBorrow<'a, Probe<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if ptr::eq(self.next, self.head) {
            return None;
        }

        // SAFETY: By the type invariants this is the node of a probe of type `T`, whose list owns
        // a reference to it.
        let (probe, next) = unsafe {
            let tp = container_of!(self.next, bindings::trace_probe, list);

            (Args::owner(tp).cast::<Probe<T>>(), (*self.next).next)
        };
        self.next = next;
        // SAFETY: As above, and the reference stays for `'a`, for which the events are locked.
        Some(unsafe { ArcBorrow::from_raw(probe) })
    }
}

/// Enables and disables the event for a file.
///
/// # Safety
///
/// Called by the tracing core, on an event that [`init`] prepared for type `T`.
unsafe extern "C" fn register<T: ProbeEvent>(
    call: *mut bindings::trace_event_call,
    how: bindings::trace_reg,
    data: *mut c_void,
) -> c_int {
    // SAFETY: The tracing core holds `event_mutex`.
    let locked = unsafe { EventsLocked::assume() };
    let file = data.cast::<bindings::trace_event_file>();

    match how {
        // SAFETY: By the safety requirements, and for these two `data` is the file.
        bindings::trace_reg_TRACE_REG_REGISTER => from_result(|| unsafe {
            enable::<T>(call, file, &locked)?;
            Ok(0)
        }),
        bindings::trace_reg_TRACE_REG_UNREGISTER => {
            // SAFETY: As above.
            unsafe { disable::<T>(call, file, &locked) };
            0
        }
        // Nothing is put in place before a perf event is opened.
        bindings::trace_reg_TRACE_REG_PERF_REGISTER => {
            // SAFETY: A registered event has a probe.
            unsafe {
                let tp = bindings::trace_probe_primary_from_call(call);
                bindings::trace_probe_set_flag(tp, Usage::Perf.flag());
            }
            0
        }
        // All perf events have been closed.
        bindings::trace_reg_TRACE_REG_PERF_UNREGISTER => {
            // SAFETY: As above.
            unsafe {
                let tp = bindings::trace_probe_primary_from_call(call);
                bindings::trace_probe_clear_flag(tp, Usage::Perf.flag());
            }
            0
        }
        // SAFETY: By the safety requirements, and for these two `data` is the perf event.
        bindings::trace_reg_TRACE_REG_PERF_OPEN => from_result(|| unsafe {
            perf_events(call, &locked).open::<T>(data.cast())?;
            Ok(0)
        }),
        bindings::trace_reg_TRACE_REG_PERF_CLOSE => {
            // SAFETY: As above.
            unsafe { perf_events(call, &locked).close::<T>(data.cast()) };
            0
        }
        // Perf itself puts its events on the list of the CPU while they count.
        bindings::trace_reg_TRACE_REG_PERF_ADD | bindings::trace_reg_TRACE_REG_PERF_DEL => 0,
        _ => EINVAL.to_errno(),
    }
}

/// Returns the perf events that are open on an event.
///
/// # Safety
///
/// `call` must be a registered event of probes, for `'a`.
unsafe fn perf_events<'a>(
    call: *mut bindings::trace_event_call,
    locked: &'a EventsLocked,
) -> PerfEvents<'a> {
    // SAFETY: A registered event has a probe, which is linked to it.
    let event = unsafe { (*bindings::trace_probe_primary_from_call(call)).event };
    // SAFETY: By the safety requirements.
    unsafe { PerfEvents::of(event, locked) }
}

/// Enables an event for a file.
///
/// # Errors
///
/// As of [`Probe::start_all`].
///
/// # Safety
///
/// `call` must be a registered event of probes of type `T`, and `file` one of its files.
unsafe fn enable<T: ProbeEvent>(
    call: *mut bindings::trace_event_call,
    file: *mut bindings::trace_event_file,
    locked: &EventsLocked,
) -> Result {
    // SAFETY: A registered event has a probe, and the events are locked.
    let (probes, was_enabled) = unsafe {
        let tp = bindings::trace_probe_primary_from_call(call);
        let was_enabled = bindings::trace_probe_test_flag(tp, Usage::Trace.flag());

        to_result(bindings::trace_probe_add_file(tp, file))?;
        (Siblings::<T>::new((*tp).event, locked), was_enabled)
    };
    if was_enabled {
        return Ok(());
    }
    Probe::start_all(probes, Usage::Trace, |_| true, locked).inspect_err(|_| {
        // SAFETY: By the safety requirements; the event has been enabled for the file above.
        unsafe { disable::<T>(call, file, locked) }
    })
}

/// Disables an event for a file.
///
/// # Safety
///
/// As for [`enable`], which must have been called.
unsafe fn disable<T: ProbeEvent>(
    call: *mut bindings::trace_event_call,
    file: *mut bindings::trace_event_file,
    locked: &EventsLocked,
) {
    // SAFETY: A registered event has a probe, and the events are locked.
    unsafe {
        let tp = bindings::trace_probe_primary_from_call(call);

        if bindings::trace_probe_remove_file(tp, file) == 0
            && !bindings::trace_probe_test_flag(tp, Usage::Trace.flag())
        {
            let probes = Siblings::<T>::new((*tp).event, locked);
            Probe::stop(probes, Usage::Trace, locked);
        }
    }
}

/// Prints an entry.
///
/// # Safety
///
/// Called by the tracing core, for an entry of an event that [`init`] prepared.
unsafe extern "C" fn print(
    iter: *mut bindings::trace_iterator,
    _flags: c_int,
    event: *mut bindings::trace_event,
) -> bindings::print_line_t {
    // SAFETY: The tracing core keeps the event registered meanwhile, so that it has a probe, and
    // has an entry in `iter`, which was written by [`super::fetch`] with the addresses and fields
    // that the probes of the event agree on.
    unsafe {
        let seq = &raw mut (*iter).seq;
        let entry = (*iter).ent.cast::<Entry>();
        let call = container_of!(event, bindings::trace_event_call, event);
        let tp = bindings::trace_probe_primary_from_call(call);
        if tp.is_null() {
            return bindings::trace_handle_return(seq);
        }

        let kind = Args::kind_of(tp);
        let name = bindings::trace_probe_name(tp);
        let addresses = (&raw const (*entry).addresses).cast::<c_ulong>();
        let first = addresses.read_unaligned();
        match kind {
            Kind::Hit => bindings::trace_seq_printf(seq, c"%s: (0x%lx)".as_char_ptr(), name, first),
            Kind::Return => bindings::trace_seq_printf(
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

/// Defines the fields.
///
/// # Safety
///
/// Called by the tracing core, on an event that [`init`] prepared.
unsafe extern "C" fn define_fields(call: *mut bindings::trace_event_call) -> c_int {
    from_result(|| {
        // SAFETY: The event is being registered, and has a probe, whose arguments are parsed.
        unsafe {
            let tp = bindings::trace_probe_primary_from_call(call);
            let kind = Args::kind_of(tp);

            for (i, name) in kind.fields().iter().enumerate() {
                to_result(bindings::trace_define_field(
                    call,
                    c"unsigned long".as_char_ptr(),
                    name.as_ptr().cast::<c_char>(),
                    (offset_of!(Entry, addresses) + i * size_of::<c_ulong>()) as c_int,
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
