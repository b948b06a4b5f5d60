// SPDX-License-Identifier: GPL-2.0

//! Trace events on the system calls of chosen processes.
//!
//! `utrace_syscall_pids` in tracefs lists the processes. `echo PID >>` adds one; PID is that of any
//! of its threads, in the writer's pid namespace. `echo '!PID' >>` removes one; `>` removes all
//! first. A process stays listed through `execve()`, with the threads that it creates, until it
//! exits. Its children are not listed.
//!
//! The events are `utrace:utrace_sys_enter`, `utrace_sys_exit` and `utrace_sys_path`. The last one
//! contains a file name as the kernel copied it for the call, so it is the name that was used, even
//! if other threads change the program's memory in the meantime. The program's memory is never read
//! for an event. There is no event for a name that the kernel refuses (not readable, too long,
//! empty where it must not be).
//!
//! # Data model
//!
//! - A [`processes::Traced`] is a utrace engine on every thread of a listed process.
//! - [`processes::Processes`] is the list, which owns the engines. [`processes::PidsFile`] is the
//!   file; there is only one.
//!
//! # Locks
//!
//! `Processes::list`, a mutex: the list. Engines are attached and detached under it, so utrace's
//! locks nest inside. No callback of an engine takes it, or any other lock.
//!
//! An engine cannot be detached from within its own callback, so when a process exits a work item
//! prunes the list.

mod events;
mod processes;
mod request;

use kernel::{
    prelude::*,
    sync::Arc,
    tracefs, //
};
use processes::{
    PidsFile,
    Processes, //
};

module! {
    type: UtraceSyscalls,
    name: "utrace_syscalls",
    description: "Trace events on the system calls of chosen processes",
    license: "GPL",
}

/// The module, which is set up at boot and stays.
struct UtraceSyscalls;

impl kernel::Module for UtraceSyscalls {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let file = Arc::new(PidsFile(Processes::new()?), GFP_KERNEL)?;

        tracefs::create_file(module, file)?;
        Ok(Self)
    }
}
