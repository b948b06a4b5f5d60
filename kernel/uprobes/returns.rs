// SPDX-License-Identifier: GPL-2.0

//! Return probes: detect that a function returns, and call the return handlers of its consumers.
//!
//! # Invariant
//!
//! For each function and each consumer:
//!
//! *entries = returns + misses + threads inside the function + threads that left it in another way*
//!
//! A thread leaves in another way by `longjmp()`, by an exception, by its end, or by moving its
//! stack. No return is reported that has not happened, with the exception below. This requires
//! that:
//!
//! - The kernel records each call in a [return instance](instance). A call for which there is no
//!   room counts as a miss.
//! - A function counts as *followed* only if the [walk] has found all of its return instructions,
//!   and [knows](callees) what each of its direct callees does with the return address. All return
//!   instructions of a followed function have breakpoints.
//! - A function *owns* its return instructions if it is followed, its [extent](Extent) is known,
//!   and all of them are within the extent. Each execution of one counts as a return, so calls of
//!   the function have no instances.
//! - A function that is not followed has a breakpoint at the return address of each call. A call
//!   counts as a miss if there can be no breakpoint, because the address cannot be probed or a
//!   [limit](limits) is reached. If the thread that made the call has ended, its instance is not
//!   used for the return of another thread.
//! - If a function that is not followed, or that may jump to its first instruction, is called again
//!   at the same stack location, with the same return address, the earlier call counts as a miss,
//!   because it may have led to the new call by tail calls.
//!
//! Return probes assume that indirect calls, and callees after their first instructions, return as
//! the ABI says. If a callee does not, a thread that returns after its call counts as one that left
//! the function in another way.
//!
//! # Detection
//!
//! Return probes do not change the program: neither return addresses on stacks nor shadow stacks.
//! When a thread enters the function, a return instance records the location of the return address
//! on the stack. [Return breakpoints](breakpoints) detect the return:
//!
//! - at each *return instruction* that the walk found at registration. If a thread is about to
//!   execute it and the stack pointer is at the location of an instance, or if a function owns the
//!   instruction, the thread returns from the function.
//! - at the *return address* of each call, if the function is not followed. If a thread comes there
//!   and the stack pointer is just above the location of an instance, the thread has returned from
//!   the function. Otherwise the thread comes by a jump.
//!
//! The breakpoints stay until the process has no return probes.
//!
//! An instance belongs to a stack and not to a thread, because another thread may continue a
//! coroutine. If a new call uses the location of an instance, the call of that instance has ended
//! without a return, and the instance is dropped.
//!
//! A function that ends by a jump to another function, a tail call, returns when the other function
//! returns.
//!
//! # Limits of detection
//!
//! - If the program moves the stack during the call, as Go does, the return is not detected, unless
//!   the function owns its return instructions.
//! - If a thread leaves a function that is not followed by an exception or `longjmp()`, and then
//!   comes to the return address by a jump, with the same stack pointer, return probes report this
//!   as the return.
//!
//! # Handlers
//!
//! Return handlers get the registers as they are after the return: see [`view`].
//!
//! # Imports
//!
//! The rest of the crate uses [`ReturnProbes`], which a process has, and [`ReturnSites`], which
//! finds return instructions. Probepoints use [`ReturnPoint`](crate::entry::ReturnPoint).

mod breakpoints;
mod buckets;
mod callees;
mod extent;
mod function;
mod instance;
mod instances;
mod limits;
mod page;
mod path;
mod process;
mod seen;
mod sites;
mod view;
mod walk;

pub(crate) use extent::Extent;
pub(crate) use process::ReturnProbes;
pub(crate) use sites::ReturnSites;
