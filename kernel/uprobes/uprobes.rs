// SPDX-License-Identifier: GPL-2.0

//! uprobes: who wants a probe where, and what happens on a hit.
//!
//! A probe is a [`Client`] at a [`Spot`] of a process. Any number of probes, of one process or of
//! several that share memory, may be at the same address: they share one breakpoint, and are called
//! in the order in which they were registered. A client is called for threads of its own process
//! only, and for those of the processes that it follows.
//!
//! # Data model
//!
//! - A [`Process`] is a thread group with the address space that it had when it was found. What
//!   is registered for it ends when it exits, or gets a new address space by `execve()`.
//! - A [`probepoint::Probepoint`] is an address in an address space. It owns the breakpoint, and
//!   the list of those who are called there, [`clients::Clients`].
//! - A [`probe::Probe`] is a client that has been registered, with its counts, and a
//!   [`presence::Presence`] for each process that it is in: the probepoints that have it on their
//!   lists. In most cases that is one probepoint of one process; a probe that follows `fork()` has
//!   several presences, one on the instructions by which a function returns several probepoints.
//! - A [`Registration`] is the registrar's hold on a probe; dropping it unregisters.
//! - [`returns::Returns`] detects, for one process, the returns of functions whose size is not
//!   known. Its breakpoints, at return instructions and at return addresses, are on the lists of
//!   probepoints as well: a probepoint knows them as [`entry::ReturnPoint`] only.
//! - A [`watch`] of a process is the utrace engine that reports its exec and exit.
//!
//! ```text
//!   Registration --> Probe --> Presence --> Watched --> Watch --> Returns (as long as it is used)
//!                      ^          |                                  |
//!                      |          v                                  v
//!                    Entry <-- Probepoint <-- return breakpoints, functions
//! ```
//!
//! The list of clients is a snapshot, published under Tasks Trace RCU: a change makes a new one,
//! and a hit reads the one that it finds. A client that has been unregistered is called no more
//! after a grace period. A probe is silent until all of it is in place, and from when it is to go:
//! hits pass over it, so that a registration that fails has nothing to wait for.
//!
//! # Lifetimes
//!
//! | event | what goes |
//! |---|---|
//! | unregister | the client; with the last one at an address, the breakpoint |
//! | the same within a handler | the same, by a worker, which tells the client when it is done |
//! | a handler misbehaves ([`contain`]) | as if it had been unregistered |
//! | exit of the last thread, exec | all clients of the process, as above |
//! | `fork()` | nothing; the child has those that follow ([`follow`]), and no other |
//! | `munmap()`, `MADV_DONTNEED`, `mremap()` | the breakpoints in the range |
//! | the last user of the address space goes | its breakpoints |
//! | the module of a C client is unloaded | what it has left registered, with a message |
//!
//! Clients whose breakpoint has gone get no more hits; a later registration at the address starts
//! anew. Unregistering what has gone does nothing.
//!
//! # Locks
//!
//! 1. `Probe::presences`, a mutex: held while a probe enters a process or is taken out. Who takes a
//!    probe out waits for another one who does.
//! 2. `Breakpoints::open`, a mutex: held while a return breakpoint is added.
//! 3. `Probepoint::state`, a mutex: its clients and its breakpoint change under it. UBP's locks,
//!    `mmap_lock` first, nest inside.
//! 4. `Returns::adding`, a mutex: held while a function is added.
//!    `Watch::returns`, a mutex: who uses them.
//! 5. The registries of probepoints and of watches, mutexes: innermost; nothing but lookup and
//!    allocation is done under them.
//!
//! None of them is held while text is faulted in, which a server in user space may have to answer:
//! see [`probepoint::place`].
//!
//! A hit takes none of these, with one exception: if not all return instructions of a function are
//! known, the first time that it is entered from a call instruction, a breakpoint is added at the
//! return address. A page of the stack has a spinlock for the return instances that find their
//! bucket taken, as by a tail call, which mostly only the thread on that stack takes: see
//! [`returns`].
//!
//! Engines are detached, which waits for their reports, with the first lock held at most; a report
//! takes 3 to 5.

mod c_api;
mod c_known;
mod call_sites;
mod client;
mod clients;
mod contain;
mod entry;
mod follow;
mod presence;
mod probe;
mod probepoint;
mod process;
mod registration;
mod returns;
mod sole;
mod stack;
mod watch;

use kernel::sync::tasks_trace::BuiltIn;

// SAFETY: `CONFIG_UPROBES_RUST` is a `bool`, so this crate is built in.
const BUILT_IN: BuiltIn = unsafe { BuiltIn::new() };

/// What the messages of this crate begin with.
const __LOG_PREFIX: &[u8] = b"uprobes\0";

pub use client::{
    Client,
    Handler,
    Returning,
    Spot,
    Wants, //
};
pub use probe::Counts;
pub use process::Process;
pub use registration::{
    register,
    Registration, //
};
pub use ubp::{
    Refusal,
    Refused,
    Vaddr, //
};
