// SPDX-License-Identifier: GPL-2.0

//! C interface, for modules. See `struct uprobe` in `include/linux/uprobes.h`.

use crate::{
    c_registry::{
        filter_map_all,
        with_c_probe,
        CConsumer,
        CProbe,
        Unregistrar, //
    },
    probe::Probe,
    process::Process,
    registration::{
        register_probe,
        unregister_probes, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    task::Task,
    uprobes::Detection, //
};

/// Registers the probe `u` in the process that `find` returns for `u->pid`.
///
/// # Safety
///
/// As for [`register_uprobe`].
unsafe fn register_in(
    u: *mut bindings::uprobe,
    find: impl FnOnce(bindings::pid_t) -> Result<Arc<Process>>,
) -> Result {
    if u.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: The caller ensures that `u` is valid, and stays valid and unchanged until it has been
    // unregistered.
    let (consumer, fields) = unsafe { CConsumer::new(u) }?;
    consumer.register_c_probe()?;
    let registered = find(fields.pid)
        .and_then(|process| register_probe(&process, fields.spec, consumer.clone()));
    match registered {
        Ok(probe) => {
            consumer.complete_registration(probe);
            Ok(())
        }
        Err(error) => {
            consumer.remove_c_probe();
            Err(error)
        }
    }
}

/// Finds a process by a number in the pid namespace of the caller.
///
/// # Errors
///
/// `EOPNOTSUPP`: the caller is a handler. A handler executes in the probed thread, so the number
/// would be looked up in the namespace and with the permissions of that thread, and not of the
/// owner of the handler. Others as for [`Process::from_pid`].
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
/// `u` must be null or valid, and must not change during the call. If the call succeeds, `u` must
/// stay valid and unchanged until it has been unregistered. The functions of `u` must be callable
/// as `include/linux/uprobes.h` says. May sleep.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe(u: *mut bindings::uprobe) -> c_int {
    // SAFETY: The requirements of `register_in` on `u` are the ones on the caller.
    let registered = unsafe { register_in(u, find_by_number) };
    registered.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Registers a probe in the process of a thread, and ignores `u->pid`.
///
/// # Safety
///
/// As for [`register_uprobe`], and `task` must be valid.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe_task(
    u: *mut bindings::uprobe,
    task: *mut bindings::task_struct,
) -> c_int {
    // SAFETY: The caller ensures that `task` is valid, and `u` as for `register_in`. CAST: `Task`
    // is a transparent wrapper.
    let registered = unsafe { register_in(u, |_| Process::from_task(&*task.cast::<Task>())) };
    registered.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Registers several probes: all, or none on failure.
///
/// # Safety
///
/// `us` must be valid for reads of `num` pointers, each as for [`register_uprobe`].
#[export]
pub(crate) unsafe extern "C" fn register_uprobes(
    us: *mut *mut bindings::uprobe,
    num: c_uint,
) -> c_int {
    for i in 0..num as usize {
        // SAFETY: `us` is valid for reads of `num` pointers, and `i` is less than `num`.
        let registered = unsafe { register_uprobe(*us.add(i)) };
        if registered != 0 {
            // SAFETY: `us` is valid for reads of `i` pointers, which have all been registered.
            unsafe { unregister_uprobes(us, i as c_uint) };
            return registered;
        }
    }
    0
}

/// Unregisters a probe. When this returns, no handler of the probe is executing or will be called,
/// unless the caller is a handler, of any probe.
///
/// # Safety
///
/// `u` must be null, or a pointer that is not registered, or valid. May sleep, if the caller is not
/// a handler.
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobe(u: *mut bindings::uprobe) {
    // SAFETY: The array has one pointer, `u`, which is null, not registered or valid.
    unsafe { unregister_uprobes(&mut { u }, 1) };
}

/// Unregisters several probes with a single wait.
///
/// # Safety
///
/// `us` must be valid for reads of `num` pointers, each as for [`unregister_uprobe`].
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobes(us: *mut *mut bindings::uprobe, num: c_uint) {
    // SAFETY: `us` is valid for reads of `num` pointers, and `i` is less than `num`.
    let all = || (0..num as usize).map(|i| unsafe { *us.add(i) });
    let by_handler = ubp::is_in_hit();
    let begin = |c_probe: &CProbe| probe_to_unregister(c_probe.begin_unregistration(by_handler));
    unregister_probes(all().filter_map(|u| with_c_probe(u, begin)));
    if by_handler {
        // The worker calls `CConsumer::unregistered()`.
        return;
    }
    for u in all() {
        if let Some(consumer) = with_c_probe(u, |c_probe| Some(c_probe.consumer().clone())) {
            consumer.finish_unregistration();
        }
    }
}

/// Returns the probe, if the caller must unregister it.
fn probe_to_unregister(unregistrar: Unregistrar) -> Option<Arc<Probe>> {
    match unregistrar {
        Unregistrar::Caller(probe) => Some(probe),
        Unregistrar::Other => None,
    }
}

/// Writes the counts of a probe to `counts`.
///
/// # Safety
///
/// `counts` must be valid for a write.
#[export]
pub(crate) unsafe extern "C" fn uprobe_read_counts(
    u: *mut bindings::uprobe,
    counts: *mut bindings::uprobe_counts,
) -> c_int {
    let read = with_c_probe(u, |c_probe| {
        let probe = c_probe.registered()?;
        Some((probe.counts(), probe.detection()))
    });
    let Some((read, detection)) = read else {
        return ENOENT.to_errno();
    };
    let (detection, walk_end) = detection.map_or((0, 0), Detection::into_raw);
    let read = bindings::uprobe_counts {
        hits: read.hits,
        returns: read.returns,
        misses: read.misses,
        detection,
        walk_end,
    };
    // SAFETY: The caller ensures that `counts` is valid for a write.
    unsafe { counts.write(read) };
    0
}

/// Unregisters the probes that a module has left behind. The exit function of the module has been
/// called.
///
/// # Safety
///
/// `module` must be valid.
#[export]
pub(crate) unsafe extern "C" fn uprobes_module_going(module: *mut bindings::module) {
    // SAFETY: The caller ensures that `module` is valid until this function returns.
    let is_of_module = |c_probe: &CProbe| unsafe { c_probe.is_of_module(module) };
    let mut left = 0;
    loop {
        let unregistering = filter_map_all(|c_probe| {
            is_of_module(c_probe).then(|| c_probe.begin_unregistration(false))
        });
        unregister_probes(
            unregistering
                .filter_map(probe_to_unregister)
                .inspect(|_| left += 1),
        );
        // By their consumers and not by the addresses of their structures, because another module
        // may register a structure at the same address as soon as one is unregistered.
        let mut any = false;
        let consumers =
            filter_map_all(|c_probe| is_of_module(c_probe).then(|| c_probe.consumer().clone()));
        for consumer in consumers {
            any = true;
            consumer.finish_unregistration();
        }
        // Looks again, because a probe that was being registered is registered by now.
        if !any {
            break;
        }
    }
    if left != 0 {
        // SAFETY: The caller ensures that `module` is valid, and its name is a string that ends
        // with a NUL.
        let name = unsafe { CStr::from_char_ptr((*module).name.as_ptr().cast()) };
        pr_warn!(
            "module {} has left {} probe(s), which are gone now\n",
            name,
            left
        );
    }
}
