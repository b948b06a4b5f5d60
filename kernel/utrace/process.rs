// SPDX-License-Identifier: GPL-2.0

//! An engine on every thread of a process, and on those to come.

use crate::{
    engine::Engine,
    thread::{
        attach_following,
        detach,
        Following, //
    },
};

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    task::Task,
    threads::{
        self,
        Group, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// An engine that is attached to a process. Dropping it detaches the engine from every thread;
/// afterwards none of its methods is called, unless the caller is within one.
///
/// Context of the drop: may sleep.
pub struct Attachment {
    group: Group,
    engine: Arc<dyn Engine>,
    following: Arc<Following>,
}

/// Attaches an engine to every thread of the process that `task` is of, and to each that one of
/// them creates. No thread is left out: a new one is either seen by the walk, or its creator had
/// the engine before it was born.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ESRCH`: every thread exits. `EPERM`: a kernel thread. `ENOMEM`.
pub fn attach_process(task: &Task, engine: Arc<dyn Engine>) -> Result<Attachment> {
    if task.is_kernel_thread() {
        return Err(EPERM);
    }
    let attachment = Attachment {
        group: Group::of(task).ok_or(ESRCH)?,
        engine,
        following: Following::new()?,
    };
    let mut any = false;
    for thread in threads_of(&attachment.group)? {
        if thread.is_worker() {
            continue;
        }
        let ret = attach_following(
            &thread,
            attachment.engine.clone(),
            attachment.following.clone(),
        );
        match ret {
            Ok(()) => any = true,
            // Its creator was faster.
            Err(e) if e == EEXIST => any = true,
            Err(e) if e == ESRCH => (),
            // What has been attached is detached by the drop.
            Err(e) => return Err(e),
        }
    }
    if any {
        Ok(attachment)
    } else {
        Err(ESRCH)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.following.stop();
        // Threads that are born from here on do not take the engine, or give it back themselves.
        let threads = loop {
            match threads_of(&self.group) {
                Ok(threads) => break threads,
                // The list is a few kilobytes at most; memory for it comes back.
                Err(_) => fsleep(Delta::from_millis(1)),
            }
        };
        for thread in threads {
            detach(&thread, &self.engine);
        }
    }
}

/// Returns references to the threads that a process has now.
fn threads_of(group: &Group) -> Result<KVec<ARef<Task>>> {
    let mut list = KVec::new();
    loop {
        let mut missing = 0;
        threads::tasklist().for_each_thread(group, |thread| {
            // No allocation under the lock.
            if list.push_within_capacity(ARef::from(thread)).is_err() {
                missing += 1;
            }
        });
        if missing == 0 {
            return Ok(list);
        }
        let wanted = list.len() + missing + 8;
        list.clear();
        list.reserve(wanted, GFP_KERNEL)?;
    }
}
