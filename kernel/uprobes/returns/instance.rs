// SPDX-License-Identifier: GPL-2.0

//! A return instance: a call of a probed function that has not returned.

use crate::stack;

use kernel::{
    sync::rcu,
    task::Pid,
    threads::Group, //
};

/// A call that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Where the return address is.
    pub(crate) location: usize,
    /// The return address.
    pub(crate) return_address: usize,
    /// The first byte of the function.
    pub(crate) function: usize,
    pub(crate) caller: Caller,
}

/// The thread that has made a call, and the newest consumer that is called when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller(u64);

impl Caller {
    /// Thread numbers are below `PID_MAX_LIMIT`.
    const THREAD_BITS: u32 = 22;

    /// Creates one that does not say which thread.
    #[inline(always)]
    pub(crate) const fn any_thread(generation: u64) -> Self {
        Self(generation << Self::THREAD_BITS)
    }

    /// Creates one for the current thread.
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

    /// Returns whether the thread has not ended. Mostly it is the current one; only with coroutines
    /// it is another one of the current process.
    #[inline]
    pub(crate) fn is_alive(self) -> bool {
        let thread = (self.0 & ((1 << Self::THREAD_BITS) - 1)) as Pid;
        thread == kernel::current!().pid() || lives(thread)
    }
}

/// Returns whether a thread of the current process has not ended.
#[cold]
fn lives(thread: Pid) -> bool {
    let Some(group) = Group::of(kernel::current!()) else {
        return false;
    };
    let guard = rcu::read_lock();
    let lives = (group.threads(&guard)).any(|it| it.pid() == thread && !it.is_exiting());
    lives
}

impl Instance {
    /// Returns whether the call may not have returned: its location holds the return address.
    ///
    /// Context: may sleep. The current thread is of the process.
    pub(crate) fn may_be_alive(&self) -> bool {
        stack::read_word(self.location, stack::current_mode()) == Ok(self.return_address)
    }

    /// As [`Instance::may_be_alive`], without sleeping: an instance whose page is not mapped is
    /// taken for dead.
    pub(crate) fn is_seen_alive(&self) -> bool {
        stack::peek_word(self.location, stack::current_mode()) == Ok(self.return_address)
    }
}
