// SPDX-License-Identifier: GPL-2.0

//! Return probes of functions whose size is not known.
//!
//! # The rule
//!
//! For each function and each consumer, *entries = returns + misses + threads that are inside +
//! threads that have left otherwise* (by `longjmp()`, an exception, the end of the thread, or to a
//! stack elsewhere). No return is reported that is none. What each part of the wing must do for
//! this:
//!
//! - A function counts as *followed* only if the [walk] has come to each of its ends, and what each
//!   of its direct calls does with its return address is [known](callees). All its return
//!   instructions have breakpoints then.
//! - Other functions have a breakpoint at the return address of each call. A call that cannot have
//!   one, because the address cannot be probed or a [limit](limits) is reached, is a miss.
//! - A call is a miss if there is no room for its [return instance](instance).
//! - If a function that is not followed is called again at the same location on the stack, with the
//!   same return address, the earlier call is a miss: it may have come here by tail calls.
//! - An instance of a thread that has ended is of no other thread's return.
//!
//! The rule assumes that an indirect call returns as the ABI says, and so does a callee after its
//! first instructions. Where it does not, the caller is one that has left otherwise.
//!
//! # How a return is detected
//!
//! Nothing that belongs to the program is changed: neither return addresses on stacks, nor shadow
//! stacks. When a thread enters the function, a return instance keeps the location of the return
//! address on the stack. [Return breakpoints](breakpoints) of two kinds detect that the function
//! returns:
//!
//! - At the *return instructions*, which the walk has found when the probe was registered. A thread
//!   that is about to execute one, with the stack pointer at the location of an instance, returns
//!   from the function.
//! - If the function is not followed, also at the *return address*, as it is on the stack at the
//!   entry. A thread that comes there with the stack pointer just above the location has returned
//!   from the function; or it has left the function before in another way, and comes by a jump.
//!
//! The breakpoints stay for as long as the process has return probes.
//!
//! An instance belongs to the stack, not to the thread, because another thread may continue a
//! coroutine. An instance of a call that has not returned is dropped when another call uses its
//! location.
//!
//! # What is not detected
//!
//! - If the stack has been moved since the entry, as Go's are, the return is not detected.
//! - If a function that is not followed was left by an exception or `longjmp()`, and the same
//!   thread then comes to the return address with the same stack pointer, by a jump or from another
//!   function, then that is taken for its return.
//!
//! A function that ends by jumping to another one (a tail call) returns when that returns. Where
//! the size of the function is known, [its return instructions](return_instructions) are probed for
//! each consumer, without instances: see [`crate::client::Spot`].
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
