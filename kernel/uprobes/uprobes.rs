// SPDX-License-Identifier: GPL-2.0

//! uprobes: probes at addresses of a process, and at offsets of a file.
//!
//! A probe calls the handlers of a [`Consumer`] when a thread is about to execute the instruction
//! at an address of a process, or when the function that begins there returns. Several probes may
//! be at one address, of one process or of several that share memory. They share one breakpoint,
//! and their handlers are called in the order of registration. A consumer is called for threads of
//! the process that it was registered in, and, if its probe follows `fork()`, for threads of the
//! children of that process.
//!
//! # Data model
//!
//! - A [`Process`] is a thread group with the address space that it had when it was found. Its
//!   probes end when it exits, or gets a new address space by `execve()`.
//! - A [`probepoint::Probepoint`] is an address in an address space. It owns the breakpoint and the
//!   [`chain::HandlerChain`] of the address.
//! - A [`probe::Probe`] is a registered consumer, with its state and its counts. It has a
//!   [`probe::Attachment`] to each process that it is in, which knows the probepoints that have the
//!   probe in their chains. Most probes have one attachment, with one probepoint. A probe that
//!   follows `fork()` has an attachment for each process.
//! - A [`Registration`] owns a probe. Dropping it unregisters the probe.
//! - A [`process::ProbedProcess`] is the state of a process while it has probes: a utrace engine,
//!   which reports its exec and exit, and the return probes.
//! - A [file probe](files) is an offset of a file, with consumers of its own. It is in the
//!   chains of the probepoints at which processes map the offset.
//! - [`returns::ReturnProbes`] detects the returns of functions in a process. It adds return
//!   breakpoints to the chains of probepoints. A chain knows a return breakpoint only as an
//!   [`entry::ReturnPoint`].
//!
//! ```text
//!   Registration --> Probe --> Attachment --> ProbedProcess --> ReturnProbes (while they are used)
//!                      ^           |                                |
//!                      |           v                                v
//!                 ChainEntry <-- Probepoint <-- return breakpoints, functions
//! ```
//!
//! A chain does not change. To add or remove an entry, the kernel publishes a new chain under Tasks
//! Trace RCU; a hit reads the chain that it finds. After a grace period, no hit calls the consumer
//! of an entry that has been removed. A probe is enabled after all its entries have been added, and
//! disabled before they are removed, so a registration that fails has no handlers to wait for.
//!
//! # Lifetimes
//!
//! | event | effect |
//! |---|---|
//! | unregister | removes the consumer; with the last one at an address, the breakpoint |
//! | unregister, in a handler | a worker does the same, and calls [`Consumer::unregistered`] |
//! | the handler [`guard`] disarms the probe | a worker removes the consumer in the same way |
//! | exit of the last thread, exec | removes all consumers of the process |
//! | `fork()` | the child has the probes that [follow](follow) `fork()`, and no others |
//! | `munmap()`, `MADV_DONTNEED`, `mremap()` | remove the breakpoints in the range |
//! | the last user of the address space exits | frees its breakpoints |
//! | a module with a C consumer is unloaded | unregisters its probes, with a message |
//!
//! A consumer without a breakpoint gets no hits, and unregistering it is harmless. A later
//! registration at the address inserts a new breakpoint.
//!
//! # Locks
//!
//! 1. `Probe::attachments`, a mutex: held while a probe is attached to a process or detached. The
//!    second of two callers that detach a probe waits for the first one. `FileProbe::places`, for
//!    the probes of files.
//! 2. `Breakpoints::open`, a mutex: held while a return breakpoint is added.
//! 3. `Probepoint::state`, a mutex: protects the chain and the breakpoint. UBP's locks, `mmap_lock`
//!    first, nest inside.
//! 4. `ReturnProbes::adding`, a mutex: held while a function is added.
//!    `ProbedProcess::returns`, a mutex: protects the return probes and the number of their users.
//! 5. The registries of probepoints and of probed processes, mutexes: innermost, for lookup and
//!    insertion only.
//!
//! No lock is held while text is faulted in, because a server in user space may have to serve the
//! fault: see [`probepoint::place`].
//!
//! A hit takes none of these locks, with one exception: if not all return instructions of a
//! function are known, the first call from each call instruction adds a breakpoint at its return
//! address. Each page of stack has a spinlock for the return instances that its lockless hash table
//! cannot hold. Mostly only the thread on that stack takes it. See [`returns`].
//!
//! Detaching an engine waits for its reports, which take locks 3 to 5. Therefore the caller may
//! hold only lock 1.

mod c_api;
mod c_registry;
mod chain;
mod consumer;
mod entry;
mod files;
mod follow;
mod guard;
mod hooks;
mod probe;
mod probepoint;
mod process;
mod registration;
mod returns;
mod single;
mod stack;

use kernel::sync::tasks_trace::BuiltIn;

// SAFETY: `CONFIG_UPROBES_RUST` is a `bool`, so this crate is built in.
const BUILT_IN: BuiltIn = unsafe { BuiltIn::new() };

/// Prefix of the messages of this crate.
const __LOG_PREFIX: &[u8] = b"uprobes\0";

pub use consumer::{
    Consumer,
    HandlerKind,
    HandlerMask,
    ProbeSpec, //
};
pub use process::Process;
pub use registration::{
    register,
    Registration, //
};
pub use ubp::{
    InsertError,
    Refusal,
    Vaddr, //
};
