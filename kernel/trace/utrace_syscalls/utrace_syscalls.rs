// SPDX-License-Identifier: GPL-2.0

//! Trace events on the system calls of chosen processes.
//!
//! `utrace_syscall_pids` in tracefs lists the processes. `echo PID >>` adds one, any of whose
//! threads PID can be, as the writer sees it; `echo '!PID' >>` takes one away; `>` takes all of
//! them away first. A process stays listed through `execve()`, with the threads that it gets, and
//! until it exits. Its children are not listed.
//!
//! The events are `utrace:utrace_sys_enter`, `utrace_sys_exit` and `utrace_sys_path`, of which the
//! last is about a file name: as the kernel copied it for the call, so that it is the name that was
//! used, whatever other threads write there meanwhile. What is in the program's memory is never
//! read for an event. A name that the kernel refuses (not readable, too long, empty where it must
//! not be) has no such event.
//!
//! # Data model
//!
//! - A [`processes::Traced`] is a utrace engine on every thread of a listed process.
//! - [`processes::Processes`] is the list, which owns the engines; [`processes::PidsFile`] is the
//!   file, of which there is one.
//!
//! # Locks
//!
//! `Processes::list`, a mutex: the list. Engines are attached and detached under it, so utrace's
//! locks nest inside; no callback of an engine takes it. The callbacks take no lock at all.
//!
//! An engine is not detached from within its own callback: on the exit of a process the list is
//! pruned by a work item.

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

/// What is set up at boot, and stays.
struct UtraceSyscalls;

impl kernel::Module for UtraceSyscalls {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let file = Arc::new(PidsFile(Processes::new()?), GFP_KERNEL)?;

        tracefs::create_file(module, file)?;
        Ok(Self)
    }
}
