// SPDX-License-Identifier: GPL-2.0

//! The control file of user-space probes.
//!
//! A line written to `uprobe_events` in tracefs defines a probe at an address of one process, and a
//! trace event for its hits, or for the returns of the function there:
//!
//! ```text
//! p[:[GRP/][EVENT]] PID:VADDR [FETCHARGS]
//! r[:[GRP/][EVENT]] PID:VADDR[-END] [FETCHARGS]
//! -:[GRP/]EVENT
//! -:GRP/
//! ```
//!
//! PID is any thread of the process, as numbered for the writer; VADDR is the address of the first
//! byte of an instruction, END the address of the first byte after the function. FETCHARGS are the
//! same as for all user-space probes; `@+OFFSET` is relative to the file that is mapped at VADDR.
//! The address is checked when the line is written, but the probe is inserted only when the event
//! is enabled. When the process exits or executes another program, the probe is gone. Its line
//! stays listed, as a comment, until it is removed or written again. Enabling an event skips such
//! probes; it fails with `ESRCH` if all probes of the event are gone.
//!
//! Returns are detected at the return address or, if END is given, at the function's return
//! instructions; see [`uprobes::ProbeSpec::size`]. An entry has the address where the return was
//! detected, and the address of the function. `%return` after the address makes `p` the same as
//! `r`.
//!
//! Perf has the events as well, and BPF programs of type `kprobe` can be attached to them there.
//!
//! `uprobe_profile` has a line for each probe, with the number of hits or returns that were not
//! lost, and the number of those lost to a trace or to perf. A hit or return is lost if there was
//! no memory to assemble its entry or to record the call of the function, or if there can be no
//! breakpoint at the return address.
//!
//! Events, their fields, filters, triggers and the parser of the arguments are the kernel's own. An
//! [`EventProbe`](probe::EventProbe) is a dynamic event, and is linked to its trace event, which
//! several probes may share.
//!
//! # Locks
//!
//! `dyn_event_ops_mutex` is held while a line is executed, because it protects the error log's
//! state about the line; see [`Command`](command::Command). `event_mutex` nests inside it and
//! protects the lists of events and whether an event is enabled; see
//! [`EventsLocked`](trace_event::EventsLocked). A hit takes neither: it relies on RCU, see
//! [`record`].
//!
//! C headers: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h) and
//! [`kernel/trace/trace_dynevent.h`](srctree/kernel/trace/trace_dynevent.h)

mod args;
mod command;
mod control;
mod enable;
mod entry;
mod location;
mod probe;
mod record;
mod trace_event;

use kernel::prelude::*;

module! {
    type: UprobeEvents,
    name: "uprobe_events",
    description: "Trace events on user-space probes",
    license: "GPL",
}

/// State of the module, which is set up at boot and stays.
struct UprobeEvents;

impl kernel::Module for UprobeEvents {
    fn init(module: &'static ThisModule) -> Result<Self> {
        control::register(module)?;
        Ok(Self)
    }
}
