// SPDX-License-Identifier: GPL-2.0

//! Return instance: a call of a probed function that has not returned.

use crate::stack;

use kernel::{
    sync::rcu,
    task::Pid,
    threads::Group, //
};

/// A return instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Address of the return address on the stack.
    pub(crate) location: usize,
    /// The return address.
    pub(crate) return_address: usize,
    /// Address of the first byte of the function.
    pub(crate) function: usize,
    pub(crate) caller: Caller,
}

/// The thread that has made a call, and the generation of the call: the number of the newest probe
/// at that time. Only this probe and older ones get the return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller(u64);

// The `#[inline(always)]` methods are parts of the fast paths of entries and returns.
impl Caller {
    /// Bits of a thread number, which is below `PID_MAX_LIMIT`.
    const THREAD_BITS: u32 = 22;

    /// Creates a caller without a thread.
    #[inline(always)]
    pub(crate) const fn any_thread(generation: u64) -> Self {
        Self(generation << Self::THREAD_BITS)
    }

    /// Creates a caller with the current thread.
    pub(crate) fn current(generation: u64) -> Self {
        Self(generation << Self::THREAD_BITS | kernel::current!().pid() as u64)
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    #[inline(always)]
    pub(crate) const fn as_raw(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn generation(self) -> u64 {
        self.0 >> Self::THREAD_BITS
    }

    /// Returns whether the thread has not ended. Mostly it is the current thread. With coroutines,
    /// it may be another thread of the process.
    #[inline]
    pub(crate) fn is_alive(self) -> bool {
        let thread = (self.0 & ((1 << Self::THREAD_BITS) - 1)) as Pid;
        thread == kernel::current!().pid() || lives(thread)
    }
}

/// Returns whether a thread of the current process has not ended.
#[cold]
fn lives(thread: Pid) -> bool {
    let Some(group) = Group::from_task(kernel::current!()) else {
        return false;
    };
    let guard = rcu::read_lock();
    let lives = (group.threads(&guard)).any(|it| it.pid() == thread && !it.is_exiting());
    lives
}

impl Instance {
    /// Returns whether the call may not have ended: its location holds the return address, or is in
    /// a page that is mapped and not present.
    ///
    /// Context: any but interrupts; does not sleep. The current thread must belong to the process.
    pub(crate) fn may_be_alive(&self) -> bool {
        match stack::peek_word(self.location, stack::current_mode()) {
            Ok(word) => word == self.return_address,
            Err(_) => stack::is_mapped(self.location),
        }
    }
}
