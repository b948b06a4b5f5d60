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
    /// Nobody wants the breakpoint any more, which is still there because it could not be removed.
    Remove,
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

    /// Told that the breakpoint is gone, for whatever reason. Called in any context, by several at
    /// a time, and maybe more than once.
    fn gone(&self) {}
}

/// Whether the text holds the `int3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum State {
    /// It does, or is about to.
    Armed,
    /// A debugger has written over it: its own breakpoint, or other text. When it writes the
    /// instruction back, the breakpoint is armed again.
    Covered,
    /// It does, but a debugger has written to the rest of the instruction. What the breakpoint
    /// knows of that is not true any more, so it takes no hits; the first takes it out.
    Outdated,
    /// It does not any more, and the breakpoint takes no hits.
    Gone,
}

const ARMED: i32 = State::Armed as i32;
const COVERED: i32 = State::Covered as i32;
const OUTDATED: i32 = State::Outdated as i32;

/// A breakpoint, and what was made of the instruction that it displaces.
pub(crate) struct Breakpoint {
    insn: Insn,
    /// The first byte of the instruction, which the `int3` has replaced.
    original: u8,
    /// Where the copy is. Set under `Space::changes`: before the breakpoint is armed, if every hit
    /// needs it, else by the first one that does.
    slot: SetOnce<Slot>,
    owner: Arc<dyn OnHit>,
    state: Atomic<i32>,
    /// Whether it was to be removed, and could not be.
    abandoned: Atomic<bool>,
}

impl Breakpoint {
    pub(crate) fn new(insn: Insn, original: u8, owner: Arc<dyn OnHit>) -> Self {
        Self {
            insn,
            original,
            slot: SetOnce::new(),
            owner,
            state: Atomic::new(State::Armed as i32),
            abandoned: Atomic::new(false),
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
        match self.state.load(Relaxed) {
            ARMED => State::Armed,
            COVERED => State::Covered,
            OUTDATED => State::Outdated,
            _ => State::Gone,
        }
    }

    /// Goes from one state to another one, if it still is in the first.
    pub(crate) fn change(&self, from: State, to: State) {
        // Pages may be discarded meanwhile: what is gone stays so.
        let _ = self.state.cmpxchg(from as i32, to as i32, Relaxed);
    }

    /// Goes to [`State::Gone`], from which there is no way back.
    pub(crate) fn set_gone(&self) {
        self.state.store(State::Gone as i32, Relaxed);
        self.owner.gone();
    }

    /// Says that nobody will remove the breakpoint any more, so that whoever meets it may.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }
}
