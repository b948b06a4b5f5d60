// SPDX-License-Identifier: GPL-2.0

//! Instructions of x86-64, in 64-bit and in 32-bit code.
//!
//! # Exactness
//!
//! Whatever the way an instruction is resumed, the thread ends up with the registers, flags and
//! memory that the instruction would have left, or gets the exception that the instruction would
//! have raised, at the instruction's own address. Known exceptions to that:
//!
//! - An x87 instruction that is executed in a slot leaves its address there in the FPU's last
//!   instruction pointer.
//! - A repeated string instruction that is stepped, by the program or a debugger, is one step
//!   instead of one for each iteration.
//! - An emulated branch leaves the bounds of MPX as they are; a jump in a slot resets them.
//! - A call in a slot reads its return address there: a thread that denies itself the reading of
//!   memory without a protection key (`PKRU`) gets a fault.
//! - If another thread unmaps or protects the stack while a stepped `call` or `pushf` is corrected,
//!   the thread gets the fault after its shadow stack has been pushed to.

mod alu;
mod decode;
mod flow;
mod image;
mod in_memory;
mod in_registers;
mod operand;
mod plan;
mod refuse;
mod select;
mod step;

#[cfg(CONFIG_UBP_KUNIT_TEST)]
mod tests;

use crate::{
    AtOnce,
    Emulated,
    Refusal,
    Thread,
    Vaddr, //
};
use decode::Decoded;
use kernel::{
    insn,
    ptregs::{
        flags,
        PtRegs, //
    }, //
};

pub use flow::{
    flow,
    Depth,
    Flow,
    Flowed, //
};
pub use image::{
    is_at_copy,
    SLOT_SIZE, //
};
pub use in_memory::InMemory;
pub use in_registers::InRegisters;
pub use kernel::insn::{
    Mode,
    MAX_INSN_SIZE, //
};
pub use plan::Plan;
use plan::Quick;
pub use step::{
    Step,
    StepState, //
};

/// The instruction that is written over the first byte of a probed one: `int3`.
pub const BREAKPOINT: u8 = 0xcc;

/// Length of [`BREAKPOINT`].
pub const BREAKPOINT_SIZE: usize = 1;

/// An instruction that can be probed, and how it is resumed.
#[derive(Clone, Copy)]
pub struct Insn {
    at: Vaddr,
    mode: Mode,
    /// A code segment that is of this mode for sure; 0, which is none, if there is none.
    sure_segment: u16,
    len: u8,
    known: u8,
    bytes: [u8; MAX_INSN_SIZE],
    plan: Plan,
    at_once: Quick,
}

/// Decides how the instruction at `at`, with which `bytes` begin, is resumed.
///
/// There should be [`MAX_INSN_SIZE`] bytes, unless the mapping ends before that. They must be those
/// of the program, without breakpoints of our own.
pub fn analyze(bytes: &[u8], at: Vaddr, mode: Mode) -> Result<Insn, Refusal> {
    if bytes.first() == Some(&BREAKPOINT) {
        return Err(Refusal::Breakpoint);
    }
    let decoded = Decoded::new(bytes, mode)?;
    refuse::check(&decoded)?;

    let mut copy = [0; MAX_INSN_SIZE];
    let mut known = 0;
    for (to, from) in copy.iter_mut().zip(bytes) {
        *to = *from;
        known += 1;
    }
    let plan = Plan::new(&decoded, &copy, at)?;
    let at_once = Quick::of(&plan);
    Ok(Insn {
        at,
        mode,
        sure_segment: mode.sure_segment().unwrap_or(0),
        len: decoded.len,
        known,
        bytes: copy,
        plan,
        at_once,
    })
}

/// The length of the instruction with which `bytes` begin, whether that can be probed or not, if it
/// is known.
pub fn length(bytes: &[u8], mode: Mode) -> Option<usize> {
    const UD2_SIZE: usize = 2;

    let insn = insn::Insn::decode(bytes, mode).ok()?;
    // To the CPU, what the decoder takes for a prefix is an instruction, and the rest another one.
    Some(if insn.has_emulate_prefix() {
        UD2_SIZE
    } else {
        insn.length()
    })
}

impl Insn {
    /// Where the program has it.
    #[inline]
    pub fn at(&self) -> Vaddr {
        self.at
    }

    /// The kind of code that it has been taken for.
    ///
    /// A thread that hits the breakpoint in the other mode (see [`Mode::of`]) executes another
    /// instruction: the one that [`Insn::in_mode`] gives.
    #[inline]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether `regs` are of a thread that executes code of [`Insn::mode`].
    pub fn is_of_mode(&self, regs: &PtRegs) -> bool {
        Mode::of(regs) == Some(self.mode())
    }

    /// Whether that is certain by the code segment alone.
    #[inline]
    pub fn is_of_usual_segment(&self, regs: &PtRegs) -> bool {
        regs.code_segment() == self.sure_segment
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&[])
    }

    /// Returns the bytes of the text from the instruction on, including those that follow the
    /// instruction: [`MAX_INSN_SIZE`] bytes, or fewer at the end of the text.
    pub fn known_bytes(&self) -> &[u8] {
        self.bytes.get(..self.known.into()).unwrap_or(&[])
    }

    /// Returns whether it is one of the instructions that functions with a frame pointer begin or
    /// end with, outside of their frame: the top of the stack is the return address then, and the
    /// frame pointer is the caller's.
    ///
    /// C's uprobes assume the same of `push %rbp` and `endbr64`. A target of an indirect jump
    /// within a function may also be an `endbr`.
    pub fn is_outside_of_frame(&self) -> bool {
        match *self.bytes() {
            // `push %rbp`, `endbr64` and `endbr32`
            [0x55] | [0xf3, 0x0f, 0x1e, 0xfa | 0xfb] => true,
            // `ret`, `bnd ret` and `rep ret`, with the bytes of arguments that it releases
            [0xc3] | [0xf2 | 0xf3, 0xc3] | [0xc2, ..] | [0xf2 | 0xf3, 0xc2, ..] => true,
            _ => false,
        }
    }

    /// How it is resumed.
    #[inline]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the same bytes are in the other kind of code.
    pub fn in_mode(&self, mode: Mode) -> Result<Self, Refusal> {
        analyze(self.known_bytes(), self.at, mode)
    }

    /// Executes the instruction for the thread, if that takes nothing but the registers.
    ///
    /// `regs` as for [`Insn::emulate`]. May be called in any context.
    #[inline(always)]
    pub fn emulate_at_once(&self, regs: &mut PtRegs, thread: &impl Thread) -> AtOnce {
        // Who steps expects a trap.
        if regs.flags() & flags::TF != 0 {
            return AtOnce::Other;
        }
        match &self.at_once {
            Quick::Nop { next } => {
                regs.set_ip(*next);
                AtOnce::Done
            }
            Quick::Emulate(emulation) => {
                emulation.execute(regs);
                AtOnce::Done
            }
            Quick::Boost => AtOnce::Boost,
            Quick::BoostUnshadowed if !thread.has_shadow_stack() => AtOnce::Boost,
            Quick::BoostUnshadowed | Quick::Other => AtOnce::Other,
        }
    }

    /// Executes the instruction for the thread, if that can be done without it.
    ///
    /// `regs` must be those of a thread that has hit the breakpoint and executes code of
    /// [`Insn::mode`]; its instruction pointer does not matter. Must be called with interrupts
    /// enabled, in task context.
    #[inline]
    pub fn emulate(&self, regs: &mut PtRegs, thread: &mut impl Thread) -> Emulated<'_> {
        let branched = match &self.plan {
            Plan::Emulate(emulation) | Plan::EmulateOrBoost(emulation, _) => {
                emulation.execute(regs)
            }
            Plan::EmulateOrStep(emulation, step) => match emulation.execute(regs, thread) {
                Some(branched) => branched,
                None => return Emulated::Step(step),
            },
            Plan::Boost(step) if regs.flags() & flags::TF == 0 => return Emulated::Boost(step),
            Plan::Boost(step) | Plan::Step(step) => return Emulated::Step(step),
        };
        Emulated::Done {
            deliver_trap: trap_is_due(regs, thread, branched),
        }
    }
}

/// Whether the CPU would have trapped after an instruction that has been emulated.
#[inline]
fn trap_is_due(regs: &PtRegs, thread: &mut impl Thread, branched: bool) -> bool {
    if regs.flags() & flags::TF == 0 {
        return false;
    }
    if thread.block_step() {
        if branched {
            // As the CPU does when it delivers the trap.
            thread.set_block_step(false);
        }
        branched
    } else {
        true
    }
}
