// SPDX-License-Identifier: GPL-2.0

//! One breakpoint.

use crate::{
    area::Slot,
    hit::{
        Hit,
        Resumed, //
    }, //
};

use kernel::{
    ptregs::PtRegs,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        DirectArc,
        SetOnce, //
    },
};
use ubp_arch::{
    Insn,
    SlotAddr,
    Vaddr, //
};

/// The owner of a breakpoint: who is called when a thread hits it.
///
/// # Safety
///
/// A [`Hit`] is what keeps the owner, and what is read [under it](Hit::section). When
/// [`OnHit::hit`] has given it up, it must not access anything of the hit's lifetime any more.
pub unsafe trait OnHit: Send + Sync {
    /// Called first, with interrupts disabled. Must not sleep, nor fault, until it has
    /// [left](Hit::in_task) that context.
    ///
    /// It may change the registers. The instruction pointer is that of the displaced instruction;
    /// if it is another one when the thread goes on, the thread goes on there, and the displaced
    /// instruction is not executed.
    // That the hit is given up within, and not after it, is for the caller to need no frame.
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed;

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
    /// It did when the pages of the range were discarded, and the breakpoint takes no hits. The
    /// `int3` may be executed until that is complete, and afterwards where the program has put a
    /// copy of its text in the place of the text.
    Lost,
    /// It does not any more, and the breakpoint takes no hits.
    Gone,
}

const ARMED: i32 = State::Armed as i32;
const COVERED: i32 = State::Covered as i32;
const OUTDATED: i32 = State::Outdated as i32;
const LOST: i32 = State::Lost as i32;

/// A breakpoint, and what was made of the instruction that it displaces.
pub(crate) struct Breakpoint {
    insn: Insn,
    /// Where the copy is. Set under `Space::changes`: before the breakpoint is armed, if hits are
    /// the faster for it, else by the first one that needs it.
    slot: SetOnce<Slot>,
    /// Its address, once it is there; 0 before that.
    slot_addr: Atomic<usize>,
    owner: DirectArc<dyn OnHit>,
    /// Whether the text is on a stack, where data may be written over it at any time.
    on_stack: bool,
    state: Atomic<i32>,
    /// Whether it was to be removed, and could not be.
    abandoned: Atomic<bool>,
}

impl Breakpoint {
    pub(crate) fn new(insn: Insn, owner: Arc<dyn OnHit>, on_stack: bool) -> Self {
        Self {
            insn,
            slot: SetOnce::new(),
            slot_addr: Atomic::new(0),
            owner: owner.into(),
            on_stack,
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

    /// Returns the original bytes that the text must hold, but for the first, for the byte of a
    /// breakpoint to be the `int3` of this one.
    ///
    /// The program may have written data to a stack, or mapped data in the place of pages that were
    /// discarded, and a byte of the data may look like an `int3`. Elsewhere the first byte is
    /// enough: the program may have changed the rest, as compilers do that patch the operand of a
    /// jump, and would die of an `int3` that stays.
    ///
    /// If the pages were discarded, the bytes that followed the instruction must be there as well,
    /// because a short instruction is no evidence against data. On a stack this holds only for an
    /// instruction of one byte, because the program may change its data beside the text.
    pub(crate) fn evidence(&self) -> &[u8] {
        let insn = self.insn.bytes();
        if self.state() == State::Lost || (self.on_stack && insn.len() == 1) {
            self.insn.known_bytes()
        } else if self.on_stack {
            insn
        } else {
            insn.get(..1).unwrap_or(&[])
        }
    }

    #[inline]
    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// Gives it a slot, if it has none.
    pub(crate) fn set_slot(&self, slot: Slot) {
        let addr = slot.addr().as_usize();
        if self.slot.populate(slot) {
            self.slot_addr.store(addr, Release);
        }
    }

    /// Where in the slot a thread begins, if there is one.
    #[inline]
    pub(crate) fn slot_addr(&self) -> Option<SlotAddr> {
        match self.slot_addr.load(Acquire) {
            0 => None,
            addr => Some(SlotAddr::new(addr)),
        }
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
            LOST => State::Lost,
            _ => State::Gone,
        }
    }

    /// Goes from one state to another one, if it still is in the first.
    pub(crate) fn change(&self, from: State, to: State) {
        // Pages may be discarded meanwhile: what is gone stays so.
        let _ = self.state.cmpxchg(from as i32, to as i32, Relaxed);
    }

    /// The pages of the range are discarded.
    pub(crate) fn set_lost(&self) {
        self.change(State::Armed, State::Lost);
        self.change(State::Outdated, State::Lost);
        self.change(State::Covered, State::Gone);
        self.owner.gone();
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
