// SPDX-License-Identifier: GPL-2.0

//! The control file of user-space probes.
//!
//! A line written to `uprobe_events` in tracefs puts a probe at an address of one process, and
//! makes a trace event of its hits, or of the returns of the function there:
//!
//! ```text
//! p[:[GRP/][EVENT]] PID:VADDR [FETCHARGS]
//! r[:[GRP/][EVENT]] PID:VADDR[-END] [FETCHARGS]
//! -:[GRP/]EVENT
//! -:GRP/
//! ```
//!
//! PID is any thread of the process, as the writer sees it; VADDR is the address of the first byte
//! of an instruction, END that of the first byte after the function. FETCHARGS are those of all
//! user-space probes; `@+OFFSET` is relative to the file that is mapped at VADDR. The place is
//! checked when the line is written, but nothing is put there until the event is enabled. When the
//! process exits or executes another program, the probe is gone. Its line stays listed, as a
//! comment, until it is removed or written again. Enabling an event passes over such probes; it
//! fails with `ESRCH` if all probes of the event are such.
//!
//! Returns are noticed where the function returns to or, if END is given, at its instructions that
//! return; see [`uprobes::Spot::size`]. The address of where that is, is in the entry, beside that
//! of the function. `%return` after the place makes `p` the same as `r`.
//!
//! Perf has the events as well, and BPF programs of type `kprobe` can be attached to them there.
//!
//! `uprobe_profile` has a line for each probe: how many hits or returns there were that were not
//! lost, whoever wanted to know of them, and how many were lost to a trace or to perf: there was no
//! memory to put their entry together, or to note the call of the function, or there can be no
//! breakpoint where it returns to.
//!
//! See [`kernel::trace_probe`] for what probe events have in common.

mod clients;
mod event;
mod files;
mod place;

use kernel::{
    prelude::*,
    trace_probe, //
};

module! {
    type: UprobeEvents,
    name: "uprobe_events",
    description: "Trace events on user-space probes",
    license: "GPL",
}

/// What is set up at boot, and stays.
struct UprobeEvents;

impl kernel::Module for UprobeEvents {
    fn init(module: &'static ThisModule) -> Result<Self> {
        event::EVENTS.register(module)?;
        trace_probe::create_file::<files::Control>(module)?;
        trace_probe::create_file::<files::Profile>(module)?;
        Ok(Self)
    }
}
