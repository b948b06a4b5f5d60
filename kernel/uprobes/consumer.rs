// SPDX-License-Identifier: GPL-2.0

//! Consumers: the handlers of a probe, and where it is set.

use kernel::{
    ptregs::PtRegs,
    symbol::Symbol,
    task::Task, //
};

/// The handlers of a probe.
///
/// The handlers get the registers of the thread, and may change them. At a hit, the instruction
/// pointer is the address of the probed instruction. If a handler changes it, the thread continues
/// at the new address and the instruction is not executed; the other handlers are still called.
pub trait Consumer: Send + Sync {
    /// Returns the mask of the handlers to call. Registration calls this once.
    fn handlers(&self) -> HandlerMask {
        HandlerMask::TASK
    }

    /// Returns whether the probe fires for a thread, which is the current one. Called before each
    /// handler, in the context of the handler, if [`HandlerMask::filter`] is set. Must not sleep.
    fn fires_for(&self, thread: &Task) -> bool {
        let _ = thread;
        true
    }

    /// Called at a hit in the context of the thread, as a system call is: may sleep and access user
    /// memory.
    fn hit(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Called at a hit before [`Consumer::hit`], with interrupts disabled. Must neither sleep nor
    /// access memory that may fault.
    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Called when the function that begins at the probe returns, in the context of the thread.
    ///
    /// The registers are as after the return: the instruction pointer is the return address, and
    /// the stack pointer is above the return address and the arguments that the callee pops.
    fn returned(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Called by a worker after the last handler, if a handler has unregistered the consumer. May
    /// sleep.
    fn unregistered(&self) {}

    /// Returns the function that implements a handler, for messages to the administrator.
    fn symbol(&self, kind: HandlerKind) -> Symbol {
        let address = match kind {
            HandlerKind::Filter => Self::fires_for as fn(&Self, &Task) -> bool as usize,
            HandlerKind::Task => Self::hit as fn(&Self, &mut PtRegs) as usize,
            HandlerKind::Interrupt => Self::hit_in_interrupt as fn(&Self, &mut PtRegs) as usize,
            HandlerKind::Return => Self::returned as fn(&Self, &mut PtRegs) as usize,
        };
        Symbol(address)
    }
}

/// The handlers of a [`Consumer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// [`Consumer::fires_for`].
    Filter,
    /// [`Consumer::hit`].
    Task,
    /// [`Consumer::hit_in_interrupt`].
    Interrupt,
    /// [`Consumer::returned`].
    Return,
}

/// The handlers of a [`Consumer`] that are to be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandlerMask {
    /// [`Consumer::hit`].
    pub task: bool,
    /// [`Consumer::hit_in_interrupt`].
    pub interrupt: bool,
    /// [`Consumer::returned`].
    pub returned: bool,
    /// [`Consumer::fires_for`].
    pub filter: bool,
}

impl HandlerMask {
    /// Only [`Consumer::hit`].
    pub const TASK: Self = Self {
        task: true,
        interrupt: false,
        returned: false,
        filter: false,
    };

    /// Only [`Consumer::hit_in_interrupt`].
    pub const INTERRUPT: Self = Self {
        task: false,
        interrupt: true,
        returned: false,
        filter: false,
    };

    /// Only [`Consumer::returned`].
    pub const RETURNED: Self = Self {
        task: false,
        interrupt: false,
        returned: true,
        filter: false,
    };

    /// Returns whether no handler would ever be called.
    pub(crate) fn is_empty(self) -> bool {
        !(self.task || self.interrupt || self.returned)
    }
}

/// Where a probe is set in a process, and in which other processes.
#[derive(Clone, Copy, Debug)]
pub struct ProbeSpec {
    /// Address of the first byte of an instruction.
    pub at: ubp::Vaddr,
    /// Size in bytes of the function that begins there, if the caller knows it. With a size, the
    /// returns of more functions can be detected at their return instructions; see
    /// [`crate::returns`].
    pub size: Option<usize>,
    /// Whether processes that the process creates by `fork()` have the probe as well.
    pub follow: bool,
}

impl ProbeSpec {
    /// Specifies a probe at an address, in one process only.
    pub fn at(at: ubp::Vaddr) -> Self {
        Self {
            at,
            size: None,
            follow: false,
        }
    }
}
