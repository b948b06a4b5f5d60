// SPDX-License-Identifier: GPL-2.0

//! Breakpoints and their states.

use crate::{
    area::XolSlot,
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
    ProbedInsn,
    SlotAddr,
    Vaddr, //
};

/// The owner of a breakpoint, which threads call when they hit the breakpoint.
///
/// # Safety
///
/// A [`Hit`] keeps the owner, and everything that is read [under it](Hit::read_token). After
/// [`BreakpointOwner::hit`] has consumed the hit, it must not access anything of the hit's
/// lifetime.
pub unsafe trait BreakpointOwner: Send + Sync {
    /// Handles a hit. Called first with interrupts disabled; must not sleep or fault until
    /// [`Hit::in_task`] has changed the context.
    ///
    /// The owner may change the registers. The instruction pointer is at the displaced instruction.
    /// If the owner changes the instruction pointer, the thread resumes there, and the displaced
    /// instruction is not executed.
    // Consumes the hit so that the caller can tail-call without a stack frame.
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed;

    /// Notifies the owner that the breakpoint has been removed or its pages have been discarded.
    /// May be called in any context, by several threads at the same time, and more than once.
    fn removed(&self) {}
}

/// The state of a breakpoint, which says whether the text holds its `int3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum BreakpointState {
    /// The text holds the `int3`, or is about to.
    Armed,
    /// A debugger has overwritten the `int3` with its own breakpoint or other text. When the
    /// debugger writes the instruction back, the breakpoint is armed again.
    Overwritten,
    /// The text holds the `int3`, but a debugger has changed the rest of the instruction. The
    /// breakpoint takes no hits, because its analysis is stale, and the first hit removes it.
    Stale,
    /// The text held the `int3` when the pages of the range were discarded, and the breakpoint
    /// takes no hits. Threads may execute the `int3` until the discard is complete, and afterwards
    /// where the program has replaced the text by a copy of its text.
    Lost,
    /// The text does not hold the `int3` any more, and the breakpoint takes no hits.
    Removed,
}

const ARMED: i32 = BreakpointState::Armed as i32;
const OVERWRITTEN: i32 = BreakpointState::Overwritten as i32;
const STALE: i32 = BreakpointState::Stale as i32;
const LOST: i32 = BreakpointState::Lost as i32;

/// A breakpoint, and the analysis of the instruction that it displaces.
pub(crate) struct Breakpoint {
    insn: ProbedInsn,
    /// The slot with the copy. Set under `Space::changes`: before the breakpoint is armed if the
    /// slot makes hits faster, otherwise by the first hit that needs it.
    slot: SetOnce<XolSlot>,
    /// The address of the slot, or 0 if there is none yet.
    slot_addr: Atomic<usize>,
    owner: DirectArc<dyn BreakpointOwner>,
    /// Whether the text is on a stack, where the program may overwrite it with data at any time.
    on_stack: bool,
    state: Atomic<i32>,
    /// Whether a removal of the breakpoint has failed.
    abandoned: Atomic<bool>,
}

impl Breakpoint {
    pub(crate) fn new(insn: ProbedInsn, owner: Arc<dyn BreakpointOwner>, on_stack: bool) -> Self {
        Self {
            insn,
            slot: SetOnce::new(),
            slot_addr: Atomic::new(0),
            owner: owner.into(),
            on_stack,
            state: Atomic::new(BreakpointState::Armed as i32),
            abandoned: Atomic::new(false),
        }
    }

    #[inline]
    pub(crate) fn at(&self) -> Vaddr {
        self.insn.at()
    }

    #[inline]
    pub(crate) fn insn(&self) -> &ProbedInsn {
        &self.insn
    }

    /// Returns the original bytes that must follow an `int3` in the text for it to be the `int3` of
    /// this breakpoint. The first byte of the result is the displaced byte, and is not compared.
    ///
    /// The program may have written data to a stack, or mapped data in place of discarded pages,
    /// and a byte of the data may look like an `int3`. In other text the first byte is sufficient,
    /// because the program may have changed the rest of the instruction, as compilers do that patch
    /// the operand of a jump, and a remaining `int3` would kill the program.
    ///
    /// If the pages were discarded, the bytes after the instruction must match as well, because a
    /// short instruction does not distinguish text from data. On a stack the bytes after the
    /// instruction must match only for an instruction of one byte, because the program may change
    /// data beside the text.
    pub(crate) fn evidence(&self) -> &[u8] {
        let insn = self.insn.bytes();
        if self.state() == BreakpointState::Lost || (self.on_stack && insn.len() == 1) {
            self.insn.known_bytes()
        } else if self.on_stack {
            insn
        } else {
            insn.get(..1).unwrap_or(&[])
        }
    }

    #[inline]
    pub(crate) fn slot(&self) -> Option<&XolSlot> {
        self.slot.as_ref()
    }

    /// Sets the slot of the breakpoint if it has none.
    pub(crate) fn set_slot(&self, slot: XolSlot) {
        let addr = slot.addr().as_usize();
        if self.slot.populate(slot) {
            self.slot_addr.store(addr, Release);
        }
    }

    /// Returns the address in the slot where a thread begins, if there is a slot.
    #[inline]
    pub(crate) fn slot_addr(&self) -> Option<SlotAddr> {
        match self.slot_addr.load(Acquire) {
            0 => None,
            addr => Some(SlotAddr::new(addr)),
        }
    }

    #[inline]
    pub(crate) fn owner(&self) -> &dyn BreakpointOwner {
        &*self.owner
    }

    #[inline]
    pub(crate) fn state(&self) -> BreakpointState {
        // The locks under which text is changed order the state and the text. A hit that reads an
        // old state is equivalent to an earlier hit.
        match self.state.load(Relaxed) {
            ARMED => BreakpointState::Armed,
            OVERWRITTEN => BreakpointState::Overwritten,
            STALE => BreakpointState::Stale,
            LOST => BreakpointState::Lost,
            _ => BreakpointState::Removed,
        }
    }

    /// Changes the state from `from` to `to`, if the state is still `from`.
    pub(crate) fn change(&self, from: BreakpointState, to: BreakpointState) {
        // Pages may be discarded concurrently, and a removed breakpoint stays removed.
        let _ = self.state.cmpxchg(from as i32, to as i32, Relaxed);
    }

    /// Marks the breakpoint as lost, because the pages of its range are discarded.
    pub(crate) fn set_lost(&self) {
        self.change(BreakpointState::Armed, BreakpointState::Lost);
        self.change(BreakpointState::Stale, BreakpointState::Lost);
        self.change(BreakpointState::Overwritten, BreakpointState::Removed);
        self.owner.removed();
    }

    /// Changes the state to [`BreakpointState::Removed`], which is final.
    pub(crate) fn set_removed(&self) {
        self.state.store(BreakpointState::Removed as i32, Relaxed);
        self.owner.removed();
    }

    /// Records that the owner will not remove the breakpoint any more, so that the next thread that
    /// meets it may remove it.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Relaxed)
    }
}
