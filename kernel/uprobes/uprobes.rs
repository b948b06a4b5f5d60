// SPDX-License-Identifier: GPL-2.0

//! uprobes: who wants a probe where, and what happens on a hit.
//!
//! A probe is a [`Client`] at an address of a process. Any number of clients, of one process or of
//! several that share memory, may have probes at the same address: they share one breakpoint, and
//! are called in the order in which they registered. A client is called for threads of its own
//! process only.
//!
//! # Data model
//!
//! - A [`Process`] is a thread group with the address space that it had when it was found. What
//!   is registered for it ends when it exits, or gets a new address space by `execve()`.
//! - A [`probepoint::Probepoint`] is an address in an address space. It owns the breakpoint, and
//!   the list of the clients there.
//! - A [`Registration`] is one client at one probepoint. It is the registrar's; dropping it
//!   unregisters.
//! - The registry finds the probepoint of an address, and the watch of a process: the utrace engine
//!   that reports its exec and exit.
//!
//! The list of clients is a snapshot, published under Tasks Trace RCU: a change makes a new one,
//! and a hit reads the one that it finds. A client that has been unregistered is called no more
//! after a grace period.
//!
//! # Lifetimes
//!
//! | event | what goes |
//! |---|---|
//! | unregister | the client; with the last one at an address, the breakpoint |
//! | exit of the last thread, exec | all clients of the process, as above |
//! | `fork()` | nothing; the child has no probes ([`ubp::fork_start`]) |
//! | `munmap()`, `MADV_DONTNEED`, `mremap()` | the breakpoints in the range |
//! | the last user of the address space goes | its breakpoints |
//!
//! Clients whose breakpoint has gone get no more hits; a later registration at the address starts
//! anew. Unregistering what has gone does nothing.
//!
//! # Locks
//!
//! 1. `Probepoint::state`, a mutex: its clients and its breakpoint change under it. UBP's locks,
//!    `mmap_lock` first, nest inside.
//! 2. The registry, a mutex: innermost; nothing but lookup and allocation is done under it.
//!
//! A hit takes none of these.

mod c_api;
mod call_sites;
mod client;
mod clients;
mod contain;
mod follow;
mod frames;
mod presence;
mod probe;
mod probepoint;
mod process;
mod registration;
mod registry;
mod returns;
mod watch;

/// What the messages of this crate begin with.
const __LOG_PREFIX: &[u8] = b"uprobes\0";

pub use client::{
    Client,
    Handler,
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
    exits,
    Refusal,
    Refused,
    Vaddr, //
};
