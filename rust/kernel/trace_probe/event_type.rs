// SPDX-License-Identifier: GPL-2.0

//! Types of probe events, as the core of dynamic events knows them.
//!
//! C header: [`kernel/trace/trace_dynevent.h`](srctree/kernel/trace/trace_dynevent.h)

use super::{
    command::{
        Command,
        Problem, //
    },
    linked::Linked,
    lock::EventsLocked,
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
        c_int, //
    },
    prelude::*,
    seq_file::SeqFile,
    str::CStr,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque,
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// What the core of dynamic events needs to know of a type of probe events.
pub struct EventType<T> {
    /// For lines that may be for any type.
    any: Opaque<bindings::dyn_event_operations>,
    /// For lines that are for this type; it is not known to the core as one more type.
    ours: Opaque<bindings::dyn_event_operations>,
    registered: Atomic<bool>,
    _type: PhantomData<fn(T)>,
}

// SAFETY: The core has a lock for what it changes in `any`, and nothing changes in `ours`.
unsafe impl<T> Sync for EventType<T> {}

impl<T: ProbeEvent> EventType<T> {
    /// Makes what is to be a static, which [`ProbeEvent::event_type`] returns.
    #[expect(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            any: Opaque::new(Self::operations(Self::create_any)),
            ours: Opaque::new(Self::operations(Self::carry_out)),
            registered: Atomic::new(false),
            _type: PhantomData,
        }
    }

    const fn operations(
        create: unsafe extern "C" fn(*const c_char) -> c_int,
    ) -> bindings::dyn_event_operations {
        bindings::dyn_event_operations {
            list: bindings::list_head {
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
            },
            create: Some(create),
            show: Some(Self::show),
            is_busy: Some(Self::is_busy),
            free: Some(Self::free),
            match_: Some(Self::matches),
        }
    }

    /// Makes the type known to the kernel, for good: there is no way to take that back.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if that was done before, [`EINVAL`] if `module` could be unloaded.
    pub fn register(&'static self, module: &'static ThisModule) -> Result {
        if !module.as_ptr().is_null() {
            return Err(EINVAL);
        }
        if self.registered.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: The operations stay where they are, and this is the only time for them.
        to_result(unsafe { bindings::dyn_event_register(self.any.get()) })
    }

    /// What dynamic events of the type refer to.
    pub(super) fn as_ptr(&self) -> *mut bindings::dyn_event_operations {
        self.any.get()
    }

    /// For [`dyn_event_create()`], to which lines for this type are given.
    ///
    /// [`dyn_event_create()`]: srctree/kernel/trace/trace_dynevent.h
    pub(super) fn ours(&self) -> *mut bindings::dyn_event_operations {
        self.ours.get()
    }

    /// Looks at a dynamic event, if it is of this type.
    ///
    /// # Safety
    ///
    /// `node` must be listed and stay that for `'a`.
    pub(super) unsafe fn probe<'a>(
        node: *mut bindings::dyn_event,
        locked: &'a EventsLocked,
    ) -> Option<Linked<'a, T>> {
        // SAFETY: By the safety requirements the event exists.
        if !ptr::eq(unsafe { (*node).ops }, T::event_type().as_ptr()) {
            return None;
        }

        // SAFETY: Events with these operations are in probes of type `T`, which are linked while
        // they are listed, and the list has a reference to them.
        Some(unsafe {
            let probe = container_of!(Opaque::cast_from(node).cast_mut(), Probe<T>, node);

            Linked::new(&*probe, locked)
        })
    }

    /// Finds a listed probe of an event that has the same name as that of `probe`.
    pub(super) fn find<'a>(
        &self,
        probe: &Linked<'_, T>,
        locked: &'a EventsLocked,
    ) -> Option<Linked<'a, T>> {
        let head = &raw mut bindings::dyn_event_list;
        // SAFETY: The list exists, and does not change while the events are locked.
        let mut next = unsafe { (*head).next };

        while !ptr::eq(next, head) {
            // SAFETY: What is on this list are nodes of dynamic events.
            let other = unsafe {
                let node = container_of!(next, bindings::dyn_event, list);

                next = (*next).next;
                Self::probe(node, locked)
            };
            if let Some(other) = other {
                if other.name() == probe.name() && other.group() == probe.group() {
                    return Some(other);
                }
            }
        }
        None
    }

    /// # Safety
    ///
    /// Called by the core of dynamic events, with a string.
    unsafe extern "C" fn create_any(line: *const c_char) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements; the core holds the mutex for such calls.
            let command = unsafe { Command::new::<T>(CStr::from_char_ptr(line), false)? };

            if !command.is_empty() {
                T::create(&command)?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::create_any`].
    unsafe extern "C" fn carry_out(line: *const c_char) -> c_int {
        from_result(|| {
            // SAFETY: As above.
            let command = unsafe { Command::new::<T>(CStr::from_char_ptr(line), true)? };

            if command.word(0).to_bytes().starts_with(b"-") {
                Self::remove(&command)?;
            } else if !command.is_empty() {
                T::create(&command)?;
            }
            Ok(0)
        })
    }

    /// Carries out a line that removes events.
    fn remove(command: &Command<'_>) -> Result {
        let ops = T::event_type().as_ptr();
        // SAFETY: The line is a string.
        let ret = unsafe { bindings::dyn_event_release(command.line().as_char_ptr(), ops) };

        to_result(ret).map_err(|error| match error {
            EINVAL => command.reject(0, 0, Problem::BadCommand, error),
            ENOENT => command.reject(0, 2, Problem::NoSuchEvent, error),
            EBUSY => command.reject(0, 2, Problem::EventBusy, error),
            _ => error,
        })
    }

    /// # Safety
    ///
    /// Called by the core of dynamic events, with a listed event of this type and `event_mutex`
    /// held.
    unsafe extern "C" fn show(m: *mut bindings::seq_file, node: *mut bindings::dyn_event) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe {
            let locked = EventsLocked::assume();

            if let Some(probe) = Self::probe(node, &locked) {
                probe.show(SeqFile::from_raw(m));
            }
        }
        0
    }

    /// # Safety
    ///
    /// As for [`Self::show`].
    unsafe extern "C" fn is_busy(node: *mut bindings::dyn_event) -> bool {
        // SAFETY: By the safety requirements.
        unsafe {
            let locked = EventsLocked::assume();

            Self::probe(node, &locked).is_some_and(|probe| probe.is_enabled())
        }
    }

    /// # Safety
    ///
    /// As for [`Self::show`].
    unsafe extern "C" fn free(node: *mut bindings::dyn_event) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements; the probe is not used after it is released.
            unsafe {
                let locked = EventsLocked::assume();

                Self::probe(node, &locked).ok_or(EINVAL)?.release()?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::show`]; `event` must be a string, `system` null or a string, and `argv` must
    /// hold `argc` strings.
    unsafe extern "C" fn matches(
        system: *const c_char,
        event: *const c_char,
        argc: c_int,
        argv: *mut *const c_char,
        node: *mut bindings::dyn_event,
    ) -> bool {
        // SAFETY: By the safety requirements.
        unsafe {
            let locked = EventsLocked::assume();
            let Some(probe) = Self::probe(node, &locked) else {
                return false;
            };
            let event = CStr::from_char_ptr(event);

            (event.is_empty() || event == probe.name())
                && (system.is_null() || CStr::from_char_ptr(system) == probe.group())
                && probe.is_at(argc, argv)
        }
    }
}
