// SPDX-License-Identifier: GPL-2.0

//! Who registers probes.

use kernel::{
    ptregs::PtRegs,
    symbol::Symbol,
    task::Task, //
};

/// Who is called when a thread hits a probe.
///
/// The handlers get the registers of the thread, and may change them. At the probe, the instruction
/// pointer is that of the probed instruction; if a handler moves it, the thread goes on there, and
/// the instruction is not executed; the other handlers are still called.
pub trait Client: Send + Sync {
    /// What it wants to be called for. Asked once, at the registration.
    fn wants(&self) -> Wants {
        Wants::TASK
    }

    /// Says whether the probe is to fire for the current thread. Asked before each handler, if
    /// [`Wants::filter`] says so. Must not sleep.
    fn fires_for(&self, thread: &Task) -> bool {
        let _ = thread;
        true
    }

    /// Called in the context of the thread, as a system call is: may sleep, and access user memory.
    fn hit(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Called before that, with interrupts disabled. Must not sleep, nor fault.
    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Called when the function that begins at the probe returns, in the context of the thread.
    fn returned(&self, regs: &mut PtRegs, how: Returning) {
        let _ = (regs, how);
    }

    /// The client was unregistered within a handler, and is called no more.
    ///
    /// Called by a worker. May sleep.
    fn ended(&self) {}

    /// The function that a handler is, by which people know it.
    fn symbol(&self, handler: Handler) -> Symbol {
        let hit = match handler {
            Handler::Filter => Self::fires_for as fn(&Self, &Task) -> bool as usize,
            Handler::Task => Self::hit as fn(&Self, &mut PtRegs) as usize,
            Handler::Interrupt => Self::hit_in_interrupt as fn(&Self, &mut PtRegs) as usize,
            Handler::Return(_) => Self::returned as fn(&Self, &mut PtRegs, Returning) as usize,
        };
        Symbol(hit)
    }
}

/// The handlers of a [`Client`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// [`Client::fires_for`].
    Filter,
    /// [`Client::hit`].
    Task,
    /// [`Client::hit_in_interrupt`].
    Interrupt,
    /// [`Client::returned`].
    Return(Returning),
}

/// Where a thread is when a return is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returning {
    /// At the instruction that returns; the return address is on the top of the stack.
    From,
    /// Where it has returned to.
    To,
}

impl Returning {
    /// Returns the address that the thread returns to, if it can be read.
    ///
    /// Context: may sleep; the registers are the current thread's.
    pub fn address(self, regs: &PtRegs) -> Option<usize> {
        match self {
            Self::From => crate::stack::return_address(regs).ok(),
            Self::To => Some(regs.ip()),
        }
    }
}

/// What a [`Client`] wants to be called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// [`Client::hit`].
    pub task: bool,
    /// [`Client::hit_in_interrupt`].
    pub interrupt: bool,
    /// [`Client::returned`].
    pub returned: bool,
    /// [`Client::fires_for`].
    pub filter: bool,
}

impl Wants {
    /// Hits, in task context.
    pub const TASK: Self = Self {
        task: true,
        interrupt: false,
        returned: false,
        filter: false,
    };

    /// Hits only, with interrupts disabled.
    pub const INTERRUPT: Self = Self {
        task: false,
        interrupt: true,
        returned: false,
        filter: false,
    };

    /// Returns.
    pub const RETURNED: Self = Self {
        task: false,
        interrupt: false,
        returned: true,
        filter: false,
    };

    /// Whether there is nothing to be called for.
    pub(crate) fn is_nothing(self) -> bool {
        !(self.task || self.interrupt || self.returned)
    }
}

/// Where a probe is wanted in a process.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// The first byte of an instruction.
    pub at: ubp::Vaddr,
    /// Bytes of the function that begins there. If it is given, returns are found by the
    /// instructions that return, else by the address that is returned to; see [`crate::returns`].
    pub size: Option<usize>,
    /// Whether the processes that the process creates by `fork()` are to have the probe as well.
    pub follow: bool,
}

impl Spot {
    /// An address, in this process only.
    pub fn at(at: ubp::Vaddr) -> Self {
        Self {
            at,
            size: None,
            follow: false,
        }
    }
}
