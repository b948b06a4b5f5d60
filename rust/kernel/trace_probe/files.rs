// SPDX-License-Identifier: GPL-2.0

//! Files in tracefs that list the probes of a type, and take lines about them.
//!
//! C header: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h)

use super::{
    lock::EventsLocked,
    EventType,
    Linked,
    ProbeEvent, //
};
use crate::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    prelude::*,
    seq_file::SeqFile,
    str::CStr,
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// A file in the root of tracefs with something about every probe of a type.
pub trait EventFile: 'static {
    /// The type of the probes.
    type Event: ProbeEvent;

    /// Name of the file.
    const NAME: &'static CStr;

    /// Whether the file is the control file of the type, to which lines may be written.
    const IS_CONTROL: bool;

    /// Writes what the file has about a probe.
    fn show(probe: &Linked<'_, Self::Event>, m: &SeqFile);
}

/// Creates a file. It stays.
///
/// # Errors
///
/// [`EINVAL`] if `module` could be unloaded.
pub fn create_file<F: EventFile>(module: &'static ThisModule) -> Result {
    if !module.as_ptr().is_null() {
        return Err(EINVAL);
    }

    let mode = if F::IS_CONTROL {
        bindings::TRACE_MODE_WRITE
    } else {
        bindings::TRACE_MODE_READ
    };
    // SAFETY: Name and operations are there forever.
    unsafe {
        to_result(bindings::tracing_init_dentry())?;
        // A file that cannot be created has been complained about, and is done without.
        bindings::trace_create_file(
            F::NAME.as_char_ptr(),
            mode.try_into()?,
            ptr::null_mut(),
            ptr::null_mut(),
            &Operations::<F>::FILE,
        );
    }
    Ok(())
}

/// The C operations of a file.
struct Operations<F>(PhantomData<F>);

impl<F: EventFile> Operations<F> {
    const SEQ: bindings::seq_operations = bindings::seq_operations {
        start: Some(bindings::dyn_event_seq_start),
        next: Some(bindings::dyn_event_seq_next),
        stop: Some(bindings::dyn_event_seq_stop),
        show: Some(Self::show),
    };

    const FILE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::seq_release),
        write: if F::IS_CONTROL {
            Some(Self::write)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called for a file that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            let reason = bindings::lockdown_reason_LOCKDOWN_TRACEFS;
            // SAFETY: No preconditions.
            to_result(unsafe { bindings::security_locked_down(reason) })?;

            // SAFETY: By the safety requirements the file exists.
            let (mode, flags) = unsafe { ((*file).f_mode, (*file).f_flags) };
            if mode & bindings::FMODE_WRITE != 0 && flags & bindings::O_TRUNC != 0 {
                let ops = F::Event::event_type().as_ptr();
                // SAFETY: Only the address of the operations matters.
                to_result(unsafe { bindings::dyn_events_release_all(ops) })?;
            }
            // SAFETY: The file is being opened, and the operations are there forever.
            to_result(unsafe { bindings::seq_open(file, &Self::SEQ) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called with the dynamic events locked, for one of them.
    unsafe extern "C" fn show(m: *mut bindings::seq_file, node: *mut c_void) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe {
            let locked = EventsLocked::assume();

            if let Some(probe) = EventType::<F::Event>::probe(node.cast(), &locked) {
                F::show(&probe, SeqFile::from_raw(m));
            }
        }
        0
    }

    /// # Safety
    ///
    /// Called for an open file, with the user's buffer.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        buffer: *const c_char,
        count: usize,
        position: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: By the safety requirements.
        unsafe {
            bindings::trace_parse_run_command(file, buffer, count, position, Some(Self::carry_out))
        }
    }

    /// # Safety
    ///
    /// Called for a line, which is a string.
    unsafe extern "C" fn carry_out(line: *const c_char) -> c_int {
        // SAFETY: By the safety requirements, and the operations are there forever.
        unsafe { bindings::dyn_event_create(line, F::Event::event_type().ours()) }
    }
}
