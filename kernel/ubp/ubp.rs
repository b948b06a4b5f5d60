// SPDX-License-Identifier: GPL-2.0

//! UBP: breakpoints in a process's text, and execution of the displaced instructions.
//!
//! A user of this crate inserts a breakpoint at an address of an address space with [`insert`], and
//! passes its owner, a [`BreakpointOwner`], which threads call when they hit the breakpoint. The
//! crate does not know how the owner handles a hit, which consumers it serves, or what it does on
//! exec and exit. Modules use the C interface, `struct ubp_bkpt` in `include/linux/ubp.h`, or
//! `kernel::ubp`, which is built on the C interface.
//!
//! # Data model
//!
//! - `mm_struct::uprobes_state` points to the [`space::Space`] of an address space that has or had
//!   breakpoints. The pointer is set once, and the space is freed when the address space has no
//!   users left.
//! - A `Space` maps addresses to [`Breakpoint`]s, and owns the XOL areas ([`area::XolArea`]): pages
//!   that are mapped into the process as `[uprobes]` and divided into XOL slots.
//! - A `Breakpoint` holds the result of the analysis at its insertion: the first byte of the
//!   instruction, the plan, and, if the plan needs a slot or is faster with one, a slot that holds
//!   the copy. All of this is constant, except that a slot is added if an emulation turns out not
//!   to be exact.
//! - A thread that is stepped in a slot holds a reference to the breakpoint, in `task_struct::ubp`,
//!   and thereby to the slot. A thread that executes a slot without being stepped holds no
//!   reference: [`slot`] describes how it leaves the slot, and [`reclaim`] how slots are freed
//!   nevertheless.
//!
//! The text of the process holds an `int3` of UBP if and only if the breakpoint of that address is
//! [`BreakpointState::Armed`](breakpoint::BreakpointState) or `Stale`. During a change the map may
//! have a breakpoint without an `int3`, but the text never has an `int3` without a breakpoint in
//! the map. The `int3`s are in private pages, so that no other process sees them.
//!
//! # The life of a breakpoint
//!
//! ```text
//!   insert()           +-------+      remove(): text restored       +---------+
//!  ------------------->| Armed |----------------------------------->| Removed |---> out of the map
//!  in the map, then    +-------+ the page is unmapped, or discarded +---------+
//!  int3 in the text        |     by the process: nothing to restore    ^
//!                          +-------------------------------------------+
//!                            the mapping moves: text restored
//! ```
//!
//! Debuggers that overwrite an armed breakpoint move it to other states: see [`access`].
//!
//! A breakpoint that has been removed from the map is freed after a Tasks Trace RCU grace period,
//! and after the last thread that is stepped in its slot has left.
//!
//! # Locks
//!
//! 0. `cpu_hotplug_lock`, while a space is created: a space keeps the call sites of this crate and
//!    of [`utrace`] enabled, because they cannot be enabled with `mmap_lock` held.
//! 1. `mmap_lock`, held for writing: protects text and mappings, and excludes `fork()`.
//! 2. `Space::changes`, a mutex: protects changes of the map of breakpoints and of the map of
//!    areas, and the allocation of slots.
//! 3. The mutexes of the maps: see [`kernel::sync::tasks_trace::Map`].
//! 4. The spinlock of the states of an area's slots. It is the innermost lock, and is taken when
//!    the RCU core frees a breakpoint.
//!
//! UBP faults in pages with locks 1 and 2 held, and then keeps the threads of the process out of
//! user mode (see [`utrace`]). A hit takes none of these locks, because it reads the maps under
//! Tasks Trace RCU. The call site in `unmap`, which may be called under filesystem locks, takes
//! none either: it only marks breakpoints as lost.
//!
//! # A hit
//!
//! [`int3`] looks up the breakpoint, and [`hit`] handles the hit.

mod access;
mod area;
mod breakpoint;
mod c_api;
mod callchain;
mod flow;
mod fork;
mod hit;
mod hooks;
mod insert;
mod int3;
mod reclaim;
mod slot;
mod space;
mod step;
mod text;

use kernel::sync::tasks_trace::BuiltIn;

// SAFETY: `CONFIG_UBP` is a `bool`, so this crate is built in.
const BUILT_IN: BuiltIn = unsafe { BuiltIn::new() };

pub use breakpoint::BreakpointOwner;
pub use callchain::is_outside_of_frame;
pub use flow::flow_at;
pub use fork::fork_start;
pub use hit::{
    is_in_hit,
    wait_for_hits,
    Hit,
    Resumed, //
};
pub use insert::{
    check,
    insert,
    InsertError,
    Inserted, //
};
pub use slot::original_ip;
pub use space::{
    clear,
    is_probed, //
};
pub use step::{
    abandon,
    deny_signal, //
};
pub use text::{
    fault_in,
    fault_in_to_read, //
};
pub use ubp_arch::{
    Depth,
    Flow,
    FlowStep,
    Refusal,
    Vaddr, //
};
