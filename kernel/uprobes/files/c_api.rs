// SPDX-License-Identifier: GPL-2.0

//! Registration of consumers by file, for C: perf, BPF and trace events.

use super::probe::FileProbe;

use core::ptr::NonNull;
use kernel::{
    bindings,
    mm::file::Inode,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};

/// Size of the reference counter, which must be aligned.
const COUNTER_SIZE: u64 = 2;

/// Registers a consumer at an offset of a file. Returns a handle for the other functions here, or
/// an error pointer.
///
/// Context: may sleep, and wait for page faults.
///
/// # Errors
///
/// `EINVAL`: the consumer has no handler, or an offset is not valid. `EIO`: the file cannot be
/// mapped. `ENOTSUPP`: the instruction cannot be probed. `EINTR`, `ENOMEM`.
///
/// # Safety
///
/// `inode` must be valid. `consumer` must be valid and initialised, and stay so until
/// `uprobe_unregister_sync()` has returned after it has been unregistered; or until this function
/// has returned an error.
#[export]
unsafe extern "C" fn uprobe_register(
    inode: *mut bindings::inode,
    offset: bindings::loff_t,
    ref_ctr_offset: bindings::loff_t,
    consumer: *mut bindings::uprobe_consumer,
) -> *mut bindings::uprobe {
    let registered = || {
        // SAFETY: The caller holds a reference to the inode.
        let inode = unsafe { Inode::from_raw(inode) };
        let consumer = NonNull::new(consumer).ok_or(EINVAL)?;
        let counter = u64::try_from(ref_ctr_offset).map_err(|_| EINVAL)?;
        if !inode.has_pages() {
            return Err(EIO);
        }
        if offset > inode.size() || counter % COUNTER_SIZE != 0 {
            return Err(EINVAL);
        }
        let offset = u64::try_from(offset).map_err(|_| EINVAL)?;
        // SAFETY: The caller keeps `consumer` valid for long enough.
        unsafe { FileProbe::register(inode, offset, counter, consumer) }
    };
    match registered() {
        Ok(probe) => Arc::into_raw(probe).cast_mut().cast(),
        Err(error) => error.to_ptr(),
    }
}

/// Adds or removes breakpoints, after the filter of a consumer accepts more or fewer address
/// spaces.
///
/// Context: may sleep, and wait for page faults.
///
/// # Errors
///
/// `ENOENT`: the consumer is not registered. Others as for [`uprobe_register`].
///
/// # Safety
///
/// `uprobe` must be from [`uprobe_register`], and `consumer` be registered.
#[export]
unsafe extern "C" fn uprobe_apply(
    uprobe: *mut bindings::uprobe,
    consumer: *mut bindings::uprobe_consumer,
    add: bool,
) -> c_int {
    // SAFETY: The handle of a registered consumer owns a reference.
    let probe = unsafe { ArcBorrow::from_raw(uprobe.cast::<FileProbe>()) };
    match Arc::from(probe).apply(consumer, add) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Unregisters a consumer. Its handlers may be executing until [`uprobe_unregister_sync`] has
/// returned.
///
/// Context: may sleep.
///
/// # Safety
///
/// `uprobe` must be from [`uprobe_register`], for `consumer`, and is not valid afterwards.
#[export]
unsafe extern "C" fn uprobe_unregister_nosync(
    uprobe: *mut bindings::uprobe,
    consumer: *mut bindings::uprobe_consumer,
) {
    // SAFETY: The handle owns a reference, which the caller gives up.
    let probe = unsafe { Arc::from_raw(uprobe.cast::<FileProbe>()) };
    probe.unregister(consumer);
}

/// Waits for the handlers of consumers that have been unregistered.
///
/// Context: may sleep. Must not be called by a handler.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_unregister_sync() {
    ubp::wait_for_hits();
}
