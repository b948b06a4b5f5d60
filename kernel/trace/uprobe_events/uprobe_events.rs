// SPDX-License-Identifier: GPL-2.0

//! The control file of user-space probes.
//!
//! A line written to `uprobe_events` in tracefs puts a probe at an address of one process, and
//! makes a trace event of its hits:
//!
//! ```text
//! p[:[GRP/][EVENT]] PID:VADDR [FETCHARGS]
//! -:[GRP/][EVENT]
//! ```
//!
//! PID is any thread of the process, as the writer sees it; VADDR is the address of the first byte
//! of an instruction. FETCHARGS are those of all user-space probes; `@+OFFSET` is relative to the
//! file that is mapped at VADDR. The address is checked when the line is written, but nothing is
//! put there until the event is enabled. When the process exits or executes another program, the
//! probe is gone; its event stays listed, and to enable it fails with `ESRCH`.
//!
//! `uprobe_profile` has a line for each probe: how often it was hit, and how many of these hits are
//! in no trace, since there was no memory to put their entry together.
//!
//! See [`kernel::trace_probe`] for what probe events have in common.

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
