// SPDX-License-Identifier: GPL-2.0

//! Return probes of functions whose size is not known.
//!
//! Nothing that belongs to the program is changed: neither return addresses on stacks, nor shadow
//! stacks. When a thread enters the function, a [return instance](instance) keeps the location of
//! the return address on the stack. [Return breakpoints](breakpoints) of two kinds detect that the
//! function returns:
//!
//! - At the *return instructions*, which the [control-flow walk](walk) has found when the probe was
//!   registered. A thread that is about to execute one, with the stack pointer at the location of
//!   an instance, returns from the function.
//! - If the walk may not have found all of them, also at the *return address*, as it is on the
//!   stack at the entry. A thread that comes there with the stack pointer just above the location
//!   has returned from the function; or it has left the function before in another way, and comes
//!   by a jump.
//!
//! The breakpoints stay for as long as the process has return probes.
//!
//! An instance belongs to the stack, not to the thread, because another thread may continue a
//! coroutine. An instance of a call that has not returned, as after `longjmp()`, an exception, or
//! the death of the thread, is dropped when another call uses its location.
//!
//! # What is detected, and what is not
//!
//! - A function that ends by jumping to another one (a tail call) returns when that returns.
//! - If the stack has been moved since the entry, as Go's are, the return is not detected.
//! - If not all return instructions are known, and a function was left by an exception or
//!   `longjmp()`, or its thread ended in it, and a thread then comes to the return address with the
//!   same stack pointer, by a jump or from another function, then that is taken for its return.
//!
//! Where the size of the function is known, [its return instructions](return_instructions) are
//! probed for each consumer, without instances: see [`crate::client::Spot`].
//!
//! # Imports
//!
//! The rest of the crate knows of this [`Returns`], which a process has, and two functions that
//! find return instructions. Probepoints know [`ReturnPoint`](crate::entry::ReturnPoint).

mod breakpoints;
mod buckets;
mod callees;
mod instance;
mod instances;
mod instructions;
mod limits;
mod page;
mod process;
mod walk;

pub(crate) use instructions::return_instructions;
pub(crate) use process::Returns;
pub(crate) use walk::{
    walk,
    Walked, //
};
