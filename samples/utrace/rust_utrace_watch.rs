// SPDX-License-Identifier: GPL-2.0

//! Reports the exec, the crash and the exit of a process in the kernel's log. A sample of utrace in
//! Rust; `utrace_watch.c` does the same in C.
//!
//! ```text
//! insmod rust_utrace_watch.ko pid=4711
//! ```
//!
//! The module can be unloaded at any time. See `Documentation/trace/utrace.rst`.

use kernel::{
    fmt,
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
    task::{
        CurrentTask,
        Pid, //
    },
    threads,
    utrace::{
        self,
        Action,
        AttachedProcess,
        Engine,
        Events,
        Image,
        Report,
        SignalEvent,
        WaitStatus, //
    }, //
};

module! {
    type: WatchModule,
    name: "rust_utrace_watch",
    authors: ["Rust for Linux Contributors"],
    description: "Sample of utrace: reports exec, crash and exit of a process",
    license: "GPL",
    params: {
        pid: i32 {
            default: 0,
            description: "A thread of the process to watch, in the pid namespace of the loader",
        },
    },
}

/// A signal that was about to kill the process with a core dump.
#[derive(Clone, Copy)]
struct Crash {
    thread: Pid,
    signal: i32,
    address: Option<usize>,
    ip: usize,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}, signal {}", self.thread, self.signal)?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        write!(f, ", instruction pointer {:#x}", self.ip)
    }
}

/// The engine. All threads of the process share it.
#[pin_data]
struct Watch {
    /// The last crash.
    #[pin]
    crash: SpinLock<Option<Crash>>,
}

impl Watch {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            crash <- new_spinlock!(None),
        })
    }
}

impl Engine for Watch {
    const EVENTS: Events = Events::EXEC
        .with(Events::SIGNAL_CORE)
        .with(Events::LAST_EXIT);

    fn exec(&self, report: &mut Report<'_>, image: &Image<'_>) -> Action {
        let process = report.thread().tgid();
        pr_info!("process {}: exec: {}\n", process, image.file_name());
        Action::Resume
    }

    // Only records the signal, because a later engine or a debugger may still discard it. The
    // return value leaves the signal's action as it is.
    fn signal(&self, report: &mut Report<'_>, event: SignalEvent<'_>) -> Action {
        if let SignalEvent::Signal(signal) = event {
            let crash = Crash {
                thread: report.thread().pid(),
                signal: signal.number(),
                address: signal.address(),
                ip: report.regs().ip(),
            };
            *self.crash.lock() = Some(crash);
        }
        Action::Resume
    }

    // Called only in the last thread, so once for each process.
    fn last_exit(&self, thread: &CurrentTask, status: WaitStatus) {
        let process = thread.tgid();
        let crash = *self.crash.lock();
        if let Some(signal) = status.killed_by() {
            if let Some(crash) = crash.filter(|crash| crash.signal == signal) {
                pr_info!("process {}: crash: {}\n", process, crash);
            }
            let core = match status.dumped_core() {
                true => ", core dumped",
                false => "",
            };
            pr_info!("process {}: exit: signal {}{}\n", process, signal, core);
        } else if let Some(code) = status.exited() {
            pr_info!("process {}: exit: code {}\n", process, code);
        }
    }
}

struct WatchModule {
    // Dropping this detaches the engine, after which no method of the engine is executed.
    _watched: AttachedProcess<Watch>,
}

impl kernel::Module for WatchModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let task = threads::find(module_parameters::pid.value()).ok_or(ESRCH)?;
        let watch = Arc::pin_init(Watch::new(), GFP_KERNEL)?;
        Ok(Self {
            _watched: utrace::attach_process(&task, watch)?,
        })
    }
}
