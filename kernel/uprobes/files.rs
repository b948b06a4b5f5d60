// SPDX-License-Identifier: GPL-2.0

//! Probes by file: what perf, BPF and the events `PATH:OFFSET` register.
//!
//! A consumer of such a probe is a `struct uprobe_consumer` of C. It is called in every process
//! that maps the file as text, if the consumer's filter accepts the address space.
//!
//! # Data model
//!
//! - A [`FileProbe`](probe::FileProbe) is an offset in a file that has consumers. The [`table`]
//!   has all of them. A second consumer at an offset changes the list of consumers, and nothing
//!   in address spaces that have the probe.
//! - A [`Place`](place::Place) is a file probe at an address of an address space. The chain of the
//!   [probepoint](crate::probepoint) there knows it as an [`entry::FilePlace`](crate::entry), so
//!   probes of the process and of the file share the breakpoint. There is a place if the filter of
//!   at least one consumer accepts the address space.
//!
//! ```text
//!   table --> FileProbe --> places, by address space and address --> Place --> FileProbe
//!                 |                                                    ^
//!                 v                                                    |
//!             consumers                              chain of the Probepoint
//! ```
//!
//! # Mappings
//!
//! The kernel calls [`uprobe_mmap()`](hooks) with the mmap lock held. No breakpoint is inserted
//! there: the call queues [work](thread) that the thread does before it returns to user mode, with
//! no lock held, so that text may be faulted in. This covers `execve()`, which maps the new
//! program before any of it executes.
//!
//! A registration finds the existing mappings by the file's list of mappings. It must not miss a
//! process that maps the file at the same time:
//!
//! - The probe is in the table, with the new consumer, before the list is read. A mapping that is
//!   added to the list later finds the probe.
//! - `fork()` copies mappings without a call, and then the places of the parent. If it has copied
//!   the places before the parent got one, its mappings have been in the list before that, too.
//!   Therefore a registration that has added a place reads the list again.
//! - Another thread may fork between the call and the work. An address space that has mapped a file
//!   with probes is marked (`MMF_HAS_UPROBES`), and so is its copy, for which `fork()` does the
//!   work as well.
//!
//! # Returns
//!
//! Return probes belong to a thread group. The first thread of a process that hits a file probe
//! with a return consumer prepares them, outside of the hit, and hits the breakpoint again.
//!
//! # Locks
//!
//! 1. `FileProbe::removing`, a mutex: held while unwanted places are taken away, so that an
//!    unregistration returns after the text is restored. Only unregistrations and workers take it,
//!    because the end of return probes waits for threads that `fork()` and for reports of engines.
//! 2. `FileProbe::places`, a mutex: protects the consumers and the places. `Probepoint::state`
//!    nests inside, and so does `cpu_hotplug_lock`. No text is faulted in with it held.
//! 3. The table's mutex: innermost. `mmap_lock` may be held when it is taken.
//!
//! The end of an address space takes none of these locks, because `mmput()` is called with all
//! kinds of locks held: it marks the places, and a worker forgets them.

mod c_api;
mod consumer;
mod counter;
mod place;
mod places;
mod probe;
mod table;
mod thread;

pub(crate) use place::{
    inherit,
    space_ended, //
};
pub(crate) use table::init;
pub(crate) use thread::{
    copying,
    free_current,
    mapped, //
};
