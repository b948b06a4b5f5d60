// SPDX-License-Identifier: GPL-2.0

//! The API for modules written in C. See `struct uprobe` in `include/linux/uprobes.h`, and
//! [`crate::c_known`] for what is behind it.

use crate::{
    c_known::{
        begin_ending,
        first_of_module,
        make_known,
        with_known,
        CClient,
        Ending,
        Stage, //
    },
    process::Process,
    registration::{
        register,
        Registration, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    task::Task, //
};

/// Registers the probe `u` in the process that `find` finds by the number in it.
///
/// # Safety
///
/// As of [`register_uprobe`].
unsafe fn register_in(
    u: *mut bindings::uprobe,
    find: impl FnOnce(bindings::pid_t) -> Result<Arc<Process>>,
) -> Result {
    if u.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: By the requirement on the caller.
    let (client, fields) = unsafe { CClient::new(u) }?;
    make_known(&client)?;
    let registered =
        find(fields.pid).and_then(|process| register(&process, fields.spot, client.clone()));
    match registered {
        Ok(registration) => {
            client.has_registered(registration);
            Ok(())
        }
        Err(error) => {
            client.forget();
            Err(error)
        }
    }
}

/// Registers a probe.
///
/// # Safety
///
/// `u` is null or valid, its fields are not changed by others during the call, and if it succeeds,
/// `u` stays valid and as it is until it has been unregistered. Its functions may be called as
/// `include/linux/uprobes.h` says. May sleep.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe(u: *mut bindings::uprobe) -> c_int {
    // SAFETY: By the requirement on the caller.
    let registered = unsafe { register_in(u, Process::from_pid) };
    registered.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Registers a probe in the process of a thread, whatever `u->pid` is.
///
/// # Safety
///
/// As of [`register_uprobe`], and `task` is valid.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe_task(
    u: *mut bindings::uprobe,
    task: *mut bindings::task_struct,
) -> c_int {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    let registered = unsafe { register_in(u, |_| Process::of(&*task.cast::<Task>())) };
    registered.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Registers several probes, or none.
///
/// # Safety
///
/// `us` is valid for reads of `num` pointers, to each of which the requirements of
/// [`register_uprobe`] apply.
#[export]
pub(crate) unsafe extern "C" fn register_uprobes(
    us: *mut *mut bindings::uprobe,
    num: c_uint,
) -> c_int {
    for i in 0..num as usize {
        // SAFETY: By the requirement on the caller.
        let registered = unsafe { register_uprobe(*us.add(i)) };
        if registered != 0 {
            // SAFETY: As above: these have been registered.
            unsafe { unregister_uprobes(us, i as c_uint) };
            return registered;
        }
    }
    0
}

/// Unregisters a probe. When it returns, no handler of it is executing, nor will be; unless it is
/// called by a handler, any probe's.
///
/// # Safety
///
/// `u` is null or any pointer that has not been registered, or that is still valid. May sleep, if
/// the caller is not a handler.
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobe(u: *mut bindings::uprobe) {
    // SAFETY: By the requirement on the caller.
    unsafe { unregister_uprobes(&mut { u }, 1) };
}

/// Unregisters several probes, for one wait.
///
/// # Safety
///
/// `us` is valid for reads of `num` pointers, to each of which the requirements of
/// [`unregister_uprobe`] apply.
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobes(us: *mut *mut bindings::uprobe, num: c_uint) {
    // SAFETY: By the requirement on the caller.
    let each = || (0..num as usize).map(|i| unsafe { *us.add(i) });
    if ubp::is_in_hit() {
        for u in each() {
            // Dropping the registration has it ended later, which ends in `CClient::ended()`.
            drop(begin_ending(u, core::ptr::null_mut()));
        }
        return;
    }
    // In order to allocate nothing, those that are the caller's to end are remembered by their
    // stage; a second walk forgets them.
    let me = Task::current_raw();
    let mine = each().filter_map(|u| match begin_ending(u, me) {
        Ending::Mine(registration) => Some(registration),
        Ending::Done(_) | Ending::Others(_) | Ending::Unknown => None,
    });
    Registration::unregister_all(mine);
    for u in each() {
        match begin_ending(u, me) {
            Ending::Done(client) => client.forget(),
            Ending::Others(client) => client.gone.wait_for_completion(),
            Ending::Mine(registration) => drop(registration),
            Ending::Unknown => (),
        }
    }
}

/// Tells what has come of a probe so far.
///
/// # Safety
///
/// `counts` is valid for a write.
#[export]
pub(crate) unsafe extern "C" fn uprobe_read_counts(
    u: *mut bindings::uprobe,
    counts: *mut bindings::uprobe_counts,
) -> c_int {
    let read = with_known(|known| match &known.get(&(u as usize))?.stage {
        Stage::Registered(registration) => Some(registration.counts()),
        Stage::Registering { .. } | Stage::Ending(_) | Stage::Leaving(_) => None,
    });
    let Some(read) = read else {
        return ENOENT.to_errno();
    };
    let read = bindings::uprobe_counts {
        hits: read.hits as u64,
        returns: read.returns as u64,
        misses: read.misses as u64,
    };
    // SAFETY: By the requirement on the caller.
    unsafe { counts.write(read) };
    0
}

/// A module is going, and its exit function has been called: unregisters what it has left.
///
/// # Safety
///
/// `module` is valid.
#[export]
pub(crate) unsafe extern "C" fn uprobes_module_going(module: *mut bindings::module) {
    let mut left = 0;
    while let Some((uprobe, is_registered)) = first_of_module(module) {
        left += u32::from(is_registered);
        // SAFETY: It is known, and so still there.
        unsafe { unregister_uprobe(uprobe) };
    }
    if left != 0 {
        // SAFETY: By the requirement on the caller; a name is a string.
        let name = unsafe { CStr::from_char_ptr((*module).name.as_ptr().cast()) };
        pr_warn!(
            "module {} has left {} probe(s), which are gone now\n",
            name,
            left
        );
    }
}
