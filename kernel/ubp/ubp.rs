// SPDX-License-Identifier: GPL-2.0

//! UBP: breakpoints in a process's text, and how the instruction that one displaces is executed.
//!
//! A user of this crate inserts a breakpoint at an address of an address space, with [`insert`],
//! and says who is to be called when a thread hits it, an [`OnHit`]. What that does with it, for
//! whom, and what is to happen on exec and exit, is not known here. Modules do the same through the
//! C interface, `struct ubp_bkpt` in `include/linux/ubp.h`, or `kernel::ubp`, which is on that.
//!
//! # Data model
//!
//! - `mm_struct::uprobes_state` points to the [`space::Space`] of an address space that has, or
//!   had, breakpoints. It is set once, and freed when the address space has no user left.
//! - A `Space` maps addresses to [`Breakpoint`]s, and owns the [`area::Area`]s: pages, mapped into
//!   the process as `[uprobes]`, that are divided into slots.
//! - A `Breakpoint` is what was made of the instruction when it was inserted: its first byte, the
//!   plan, and, if the plan needs one or is faster with it, a slot that holds the copy. None of
//!   this changes, but that a slot is added if an emulation turns out not to be exact.
//! - A thread that is stepped in a slot holds a reference to the breakpoint, in
//!   `task_struct::ubp`, and so to the slot. One that is not stepped there holds nothing: see
//!   [`slot`] for how it is led out, and [`reclaim`] for how slots are freed nevertheless.
//!
//! The text of the process holds an `int3` of ours if, and only if, a breakpoint of that address is
//! [`State::Armed`](breakpoint::State) or `Outdated`; in between, there is one in the map without
//! an `int3`, never the other way round. All is in private pages, so that no other process sees it.
//!
//! # The life of a breakpoint
//!
//! ```text
//!   insert()           +-------+      remove(): text restored       +------+
//!  ------------------->| Armed |----------------------------------->| Gone |---> out of the map
//!  in the map, then    +-------+ the page is unmapped, or discarded +------+
//!  int3 in the text        |     by the process: nothing to restore    ^
//!                          +-------------------------------------------+
//!                            the mapping moves: text restored
//! ```
//!
//! Debuggers that write over it make other states of `Armed`: see [`access`].
//!
//! A breakpoint that is out of the map is freed after a Tasks Trace RCU grace period, and after the
//! last thread that is stepped in its slot.
//!
//! # Locks
//!
//! 0. `cpu_hotplug_lock`, while a space is created: a space keeps the call sites of this crate, and
//!    of [`utrace`], switched on, because that cannot be done with `mmap_lock` held.
//! 1. `mmap_lock`, held for writing: text and mappings change under it. It keeps `fork()` out.
//! 2. `Space::changes`, a mutex: the map of breakpoints and that of areas change under it, and
//!    slots are taken.
//! 3. Those of the maps, mutexes: see [`kernel::sync::tasks_trace::Map`].
//! 4. The states of an area's slots, a spinlock. Innermost; taken when the RCU core frees a
//!    breakpoint.
//!
//! Pages are faulted in with the first two held, and after that the threads of the process kept out
//! of user mode (see [`utrace`]). A hit takes none of these: the maps are read under
//! Tasks Trace RCU. Nor does the call site in `unmap`, which may be called under filesystem locks:
//! it only marks breakpoints as gone.
//!
//! # A hit
//!
//! See [`int3`] for how it is found, and [`hit`] for what comes of it.

mod access;
mod active;
mod area;
mod breakpoint;
mod c_api;
mod callchain;
mod entry;
mod flow;
mod fork;
mod hit;
mod insert;
mod int3;
mod reclaim;
mod slot;
mod space;
mod step;

use kernel::sync::tasks_trace::BuiltIn;

// SAFETY: `CONFIG_UBP` is a `bool`, so this crate is built in.
const BUILT_IN: BuiltIn = unsafe { BuiltIn::new() };

#[path = "../../mm/private_text.rs"]
mod private_text;

pub use breakpoint::OnHit;
pub use callchain::is_outside_of_frame;
pub use flow::{
    fault_in_to_read,
    flow_at, //
};
pub use fork::{
    fork_start, //
};
pub use hit::{
    is_in_hit,
    wait_for_hits,
    Hit,
    Resumed, //
};
pub use insert::{
    check,
    insert,
    Inserted,
    Refused, //
};
pub use private_text::fault_in;
pub use slot::stream_ip;
pub use space::{
    clear,
    is_probed, //
};
pub use step::{
    abandon,
    deny_signal, //
};
pub use ubp_arch::{
    Depth,
    Flow,
    Flowed,
    PlanKind,
    Refusal,
    Vaddr, //
};
