// SPDX-License-Identifier: GPL-2.0

//! Lines of the control file and of the profile in tracefs, and the operations of dynamic events.
//! The files themselves are those of `trace_uprobe.c`.
//!
//! C headers: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h) and
//! [`kernel/trace/trace_dynevent.h`](srctree/kernel/trace/trace_dynevent.h)

use crate::{
    command::{
        Command,
        Problem, //
    },
    probe::EventProbe,
    trace_event::{
        EventsLocked,
        SharedWithC,
        TraceEvent, //
    },
};
use core::ptr;
use kernel::{
    bindings, container_of,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*,
    seq_file::SeqFile,
    str::CStr,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque,
};

/// Operations of all our dynamic events. They create events from lines that may be for another type
/// of event.
static OPERATIONS: SharedWithC<bindings::dyn_event_operations> =
    SharedWithC(Opaque::new(dyn_event_operations(create)));

/// Operations for lines that are written to `uprobe_events`. They are not registered.
static LINE_OPERATIONS: SharedWithC<bindings::dyn_event_operations> =
    SharedWithC(Opaque::new(dyn_event_operations(create_or_remove)));

const fn dyn_event_operations(
    create: unsafe extern "C" fn(*const c_char) -> c_int,
) -> bindings::dyn_event_operations {
    bindings::dyn_event_operations {
        list: bindings::list_head {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
        },
        create: Some(create),
        show: Some(show),
        is_busy: Some(is_busy),
        free: Some(free),
        match_: Some(matches),
    }
}

/// Returns the operations that a dynamic event of a probe refers to.
pub(crate) fn operations() -> *mut bindings::dyn_event_operations {
    OPERATIONS.0.get()
}

/// Registers the type of dynamic events. It is never removed.
///
/// # Errors
///
/// [`EINVAL`] if `module` could be unloaded.
pub(crate) fn register(module: &'static ThisModule) -> Result {
    if !module.as_ptr().is_null() {
        return Err(EINVAL);
    }
    // SAFETY: The operations are in a static. The module is initialised once, so that they are
    // registered only once.
    to_result(unsafe { bindings::dyn_event_register(operations()) })
}

/// Returns the probe of a dynamic event, if the event is one of ours.
///
/// # Safety
///
/// `node` must be on the list of dynamic events.
unsafe fn listed<'a>(
    node: *mut bindings::dyn_event,
    _locked: &'a EventsLocked,
) -> Option<ArcBorrow<'a, EventProbe>> {
    // SAFETY: By the safety requirements the dynamic event exists.
    if !ptr::eq(unsafe { (*node).ops }, operations()) {
        return None;
    }

    // SAFETY: Dynamic events with these operations are in an `EventProbe`. The list owns a
    // reference to it, made by `Arc::into_raw()`, which stays for `'a`, for which the events are
    // locked.
    Some(unsafe {
        let probe = container_of!(Opaque::cast_from(node).cast_mut(), EventProbe, node);

        ArcBorrow::from_raw(probe)
    })
}

/// Finds a listed probe of another event that has the same name as the event of `probe`.
pub(crate) fn find_namesake(probe: &EventProbe, locked: &EventsLocked) -> Option<Arc<EventProbe>> {
    let own = probe.event(locked)?;
    let head = &raw mut bindings::dyn_event_list;
    // SAFETY: The list exists, and does not change while the events are locked.
    let mut next = unsafe { (*head).next };

    while !ptr::eq(next, head) {
        // SAFETY: The nodes on this list are fields of dynamic events.
        let other = unsafe {
            let node = container_of!(next, bindings::dyn_event, list);

            next = (*next).next;
            listed(node, locked)
        };
        if let Some(other) = other {
            let has_name =
                |event: TraceEvent<'_>| event.name() == own.name() && event.group() == own.group();
            if other.event(locked).is_some_and(has_name) {
                return Some(other.into());
            }
        }
    }
    None
}

/// Executes a line that was written to `dynamic_events`.
///
/// # Safety
///
/// Must be called by the core of dynamic events only, with a string.
unsafe extern "C" fn create(line: *const c_char) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements `line` is a string, and the caller is the core, which
        // holds `dyn_event_ops_mutex`.
        let command = unsafe { Command::new(CStr::from_char_ptr(line), false)? };

        if !command.is_empty() {
            EventProbe::create(&command)?;
        }
        Ok(0)
    })
}

/// Executes a line that was written to `uprobe_events`.
///
/// # Safety
///
/// Must be called by the core of dynamic events only, with a string.
unsafe extern "C" fn create_or_remove(line: *const c_char) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements `line` is a string, and the caller is the core, which
        // holds `dyn_event_ops_mutex`.
        let command = unsafe { Command::new(CStr::from_char_ptr(line), true)? };

        if command.word(0).to_bytes().starts_with(b"-") {
            remove(&command)?;
        } else if !command.is_empty() {
            EventProbe::create(&command)?;
        }
        Ok(0)
    })
}

/// Executes a line that removes events.
fn remove(command: &Command<'_>) -> Result {
    // SAFETY: The line is a string.
    let ret = unsafe { bindings::dyn_event_release(command.line().as_char_ptr(), operations()) };

    to_result(ret).map_err(|error| match error {
        EINVAL => command.reject(0, 0, Problem::BadCommand, error),
        ENOENT => command.reject(0, 2, Problem::NoSuchEvent, error),
        EBUSY => command.reject(0, 2, Problem::EventBusy, error),
        _ => error,
    })
}

/// Calls `f` with the event of a listed probe, unless the dynamic event is of another type.
///
/// # Safety
///
/// `node` must be on the list of dynamic events. The current task must hold `event_mutex`, and must
/// have no [`EventsLocked`].
unsafe fn with_event<R>(
    node: *mut bindings::dyn_event,
    f: impl FnOnce(&EventProbe, TraceEvent<'_>) -> R,
) -> Option<R> {
    // SAFETY: By the safety requirements `event_mutex` is held, and there is no other value.
    let locked = unsafe { EventsLocked::assume() };
    // SAFETY: By the safety requirements `node` is listed.
    let probe = unsafe { listed(node, &locked)? };

    Some(f(&probe, probe.event(&locked)?))
}

/// Writes the line of a probe.
///
/// # Safety
///
/// Must be called with an open sequence file, for a dynamic event that is listed, with
/// `event_mutex` held.
unsafe extern "C" fn show(m: *mut bindings::seq_file, node: *mut bindings::dyn_event) -> c_int {
    // SAFETY: By the safety requirements `node` is listed, `event_mutex` is held, and `m` is an
    // open sequence file.
    unsafe { with_event(node, |probe, event| probe.show(event, SeqFile::from_raw(m))) };
    0
}

/// Returns whether the event of a probe is enabled.
///
/// # Safety
///
/// Must be called for a dynamic event that is listed, with `event_mutex` held.
unsafe extern "C" fn is_busy(node: *mut bindings::dyn_event) -> bool {
    // SAFETY: By the safety requirements `node` is listed and `event_mutex` is held.
    unsafe { with_event(node, |_, event| event.is_enabled()) }.unwrap_or(false)
}

/// Removes a probe.
///
/// # Safety
///
/// Must be called for a dynamic event that is listed, with `event_mutex` held.
unsafe extern "C" fn free(node: *mut bindings::dyn_event) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements `event_mutex` is held.
        let mut locked = unsafe { EventsLocked::assume() };
        // SAFETY: By the safety requirements `node` is listed.
        let probe: Arc<EventProbe> = unsafe { listed(node, &locked) }.ok_or(EINVAL)?.into();

        EventProbe::remove(&probe, &mut locked)?;
        Ok(0)
    })
}

/// Returns whether a line is about a probe.
///
/// # Safety
///
/// Must be called for a dynamic event that is listed, with `event_mutex` held. `event` must be a
/// string, `system` null or a string, and `argv` must hold `argc` strings.
unsafe extern "C" fn matches(
    system: *const c_char,
    event: *const c_char,
    argc: c_int,
    argv: *mut *const c_char,
    node: *mut bindings::dyn_event,
) -> bool {
    // SAFETY: By the safety requirements `event` and a `system` that is not null are strings.
    let (name, group) = unsafe {
        let group = (!system.is_null()).then(|| CStr::from_char_ptr(system));
        (CStr::from_char_ptr(event), group)
    };
    let has_location = |probe: &EventProbe| {
        if argc < 1 {
            return true;
        }
        // SAFETY: By the safety requirements `argv` holds `argc` strings. The arguments of the
        // probe are parsed.
        unsafe {
            probe.is_at(CStr::from_char_ptr(*argv))
                && bindings::trace_probe_match_command_args(
                    probe.args.as_ptr(),
                    argc - 1,
                    argv.add(1),
                )
        }
    };

    // SAFETY: By the safety requirements `node` is listed and `event_mutex` is held.
    let matches = unsafe {
        with_event(node, |probe, event| {
            (name.is_empty() || name == event.name())
                && group.is_none_or(|group| group == event.group())
                && has_location(probe)
        })
    };
    matches.unwrap_or(false)
}

/// Executes a line that was written to `uprobe_events` and defines no event on a file.
///
/// # Safety
///
/// `line` must be a string.
#[export]
unsafe extern "C" fn uprobe_process_event_create(line: *const c_char) -> c_int {
    // SAFETY: By the safety requirements `line` is a string. The operations are static.
    unsafe { bindings::dyn_event_create(line, LINE_OPERATIONS.0.get()) }
}

/// Executes a line that removes events. See `kernel/trace/uprobe_events/uprobe_events.h`.
///
/// # Safety
///
/// `line` must be a string.
#[export]
unsafe extern "C" fn uprobe_process_event_release(line: *const c_char, so_far: c_int) -> c_int {
    if so_far == ENOENT.to_errno() || so_far == EINVAL.to_errno() {
        // This also explains a failure in the error log.
        //
        // SAFETY: By the safety requirements `line` is a string. The operations are static.
        return unsafe { bindings::dyn_event_create(line, LINE_OPERATIONS.0.get()) };
    }
    if so_far != 0 {
        return so_far;
    }
    // SAFETY: By the safety requirements `line` is a string.
    match unsafe { bindings::dyn_event_release(line, operations()) } {
        ret if ret == ENOENT.to_errno() => 0,
        ret => ret,
    }
}

/// Removes all events.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_process_events_release_all() -> c_int {
    // SAFETY: Only the address of the operations matters.
    unsafe { bindings::dyn_events_release_all(operations()) }
}

/// Lists an event as a line that would create it, unless it is of another type.
///
/// # Safety
///
/// Must be called with an open sequence file, for a dynamic event that is listed, with
/// `event_mutex` held.
#[export]
unsafe extern "C" fn uprobe_process_event_show(
    m: *mut bindings::seq_file,
    node: *mut bindings::dyn_event,
) -> c_int {
    // SAFETY: By the safety requirements `m` is open, `node` is listed and `event_mutex` is held.
    unsafe { show(m, node) }
}

/// Lists the number of hits and misses of an event, unless it is of another type.
///
/// # Safety
///
/// Must be called with an open sequence file, for a dynamic event that is listed, with
/// `event_mutex` held.
#[export]
unsafe extern "C" fn uprobe_process_event_show_profile(
    m: *mut bindings::seq_file,
    node: *mut bindings::dyn_event,
) -> c_int {
    // SAFETY: By the safety requirements `m` is open, `node` is listed and `event_mutex` is held.
    unsafe {
        with_event(node, |probe, event| {
            probe.show_profile(event, SeqFile::from_raw(m))
        })
    };
    0
}
