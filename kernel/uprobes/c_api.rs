// SPDX-License-Identifier: GPL-2.0

//! The API for modules written in C. See `struct uprobe` in `include/linux/uprobes.h`, and
//! [`crate::c_known`] for what is behind it.

use crate::{
    c_known::{
        each,
        with_known,
        CClient,
        Ending,
        Known, //
    },
    probe::Probe,
    process::Process,
    registration::{
        end_all,
        register_probe, //
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
    client.make_known()?;
    let registered =
        find(fields.pid).and_then(|process| register_probe(&process, fields.spot, client.clone()));
    match registered {
        Ok(probe) => {
            client.has_registered(probe);
            Ok(())
        }
        Err(error) => {
            client.forget();
            Err(error)
        }
    }
}

/// Finds a process by a number of the caller's.
///
/// # Errors
///
/// `EOPNOTSUPP`: the caller is a handler. It executes in the probed thread, so the number would be
/// looked up in the pid namespace of that thread, and with its permissions, which are not those of
/// the owner of the handler. Else as of [`Process::from_pid`].
fn find_by_number(pid: bindings::pid_t) -> Result<Arc<Process>> {
    if ubp::is_in_hit() {
        return Err(EOPNOTSUPP);
    }
    Process::from_pid(pid)
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
    let registered = unsafe { register_in(u, find_by_number) };
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
    let all = || (0..num as usize).map(|i| unsafe { *us.add(i) });
    let by_handler = ubp::is_in_hit();
    let begin = |known: &Known| mine(known.begin_ending(by_handler));
    end_all(all().filter_map(|u| with_known(u, begin)));
    if by_handler {
        // The worker that ends them calls `CClient::ended()`.
        return;
    }
    for u in all() {
        if let Some(client) = with_known(u, |known| Some(known.client().clone())) {
            client.finish();
        }
    }
}

/// Returns the probe that the caller is to end.
fn mine(ending: Ending) -> Option<Arc<Probe>> {
    match ending {
        Ending::Mine(probe) => Some(probe),
        Ending::Others => None,
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
    let read = with_known(u, |known| Some(known.registered()?.counts()));
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
    // SAFETY: `module` is valid by the safety requirements, until this function returns.
    let is_of_module = |known: &Known| unsafe { known.is_of_module(module) };
    let mut left = 0;
    loop {
        let ending = each(|known| is_of_module(known).then(|| known.begin_ending(false)));
        end_all(ending.filter_map(mine).inspect(|_| left += 1));
        // The clients, not the addresses of their structures: as soon as one has gone, another
        // module may register a structure at the same address.
        let mut any = false;
        for client in each(|known| is_of_module(known).then(|| known.client().clone())) {
            any = true;
            client.finish();
        }
        // One that was being registered is looked for again.
        if !any {
            break;
        }
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
