// SPDX-License-Identifier: GPL-2.0

//! One breakpoint.

use crate::area::Slot;

use kernel::{
    ptregs::PtRegs,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace,
        Arc,
        SetOnce, //
    },
};
use ubp_arch::{
    Insn,
    Vaddr, //
};

/// What is left to do for an owner after [`OnHit::hit_in_interrupt`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Then {
    /// Nothing: the thread may go on.
    Resume,
    /// To be called in task context as well.
    Task,
}

/// The owner of a breakpoint: who is called when a thread hits it.
///
/// Both methods may change the registers. The instruction pointer is that of the displaced
/// instruction; if it is another one afterwards, the thread goes on there, and the displaced
/// instruction is not executed.
pub trait OnHit: Send + Sync {
    /// Called first, with interrupts disabled. Must not sleep, nor fault.
    fn hit_in_interrupt(&self, regs: &mut PtRegs, guard: &tasks_trace::Guard) -> Then;

    /// Called in task context, as a system call is: may sleep, and access user memory.
    fn hit(&self, regs: &mut PtRegs, guard: &tasks_trace::Guard);
}

/// Whether the text holds the `int3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It does, or is about to.
    Armed,
    /// It does not any more, and the breakpoint takes no hits.
    Gone,
}

/// A breakpoint, and what was made of the instruction that it displaces.
pub(crate) struct Breakpoint {
    insn: Insn,
    /// The first byte of the instruction, which the `int3` has replaced.
    original: u8,
    /// Where the copy is. Set under `Space::changes`: before the breakpoint is armed, if every hit
    /// needs it, else by the first one that does.
    slot: SetOnce<Slot>,
    owner: Arc<dyn OnHit>,
    gone: Atomic<bool>,
}

impl Breakpoint {
    pub(crate) fn new(insn: Insn, original: u8, owner: Arc<dyn OnHit>) -> Self {
        Self {
            insn,
            original,
            slot: SetOnce::new(),
            owner,
            gone: Atomic::new(false),
        }
    }

    #[inline]
    pub(crate) fn at(&self) -> Vaddr {
        self.insn.at()
    }

    #[inline]
    pub(crate) fn insn(&self) -> &Insn {
        &self.insn
    }

    pub(crate) fn original(&self) -> u8 {
        self.original
    }

    #[inline]
    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// Gives it a slot, if it has none.
    pub(crate) fn set_slot(&self, slot: Slot) {
        self.slot.populate(slot);
    }

    #[inline]
    pub(crate) fn owner(&self) -> &dyn OnHit {
        &*self.owner
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // What the state says of the text is ordered by the locks under which text is changed; a
        // hit that reads an old state is as one that came earlier.
        if self.gone.load(Relaxed) {
            State::Gone
        } else {
            State::Armed
        }
    }

    /// Goes from [`State::Armed`] to [`State::Gone`], from which there is no way back.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Relaxed);
    }
}
