// SPDX-License-Identifier: GPL-2.0

//! Instructions of x86-64, in 64-bit and in 32-bit code.
//!
//! # Exactness
//!
//! However an instruction is resumed, the thread ends up with the registers, flags and memory that
//! the instruction would have left, or gets the exception that the instruction would have raised,
//! at the address of the instruction itself. Known exceptions to this rule:
//!
//! - An x87 instruction that is executed in a slot leaves its address in the slot in the FPU's last
//!   instruction pointer.
//! - A repeated string instruction that the program or a debugger steps is one step instead of one
//!   for each iteration.
//! - An emulated branch leaves the bounds of MPX as they are; a jump in a slot resets them.
//! - A call in a slot reads its return address from the slot: a thread that denies itself reading
//!   memory without a protection key (`PKRU`) gets a fault.
//! - If another thread unmaps or protects the stack while a stepped `call` or `pushf` is corrected,
//!   the thread gets the fault after the CPU has already pushed to its shadow stack.

mod alu;
mod blacklist;
mod choose;
mod decode;
mod flow;
mod image;
mod in_memory;
mod in_registers;
mod operand;
mod plan;

mod step;

#[cfg(CONFIG_UBP_KUNIT_TEST)]
mod tests;

use crate::{
    Emulated,
    EmulatedFast,
    Refusal,
    ThreadAccess,
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
    FlowStep, //
};
pub use image::{
    is_at_copy,
    SLOT_SIZE, //
};
pub use in_memory::InMemory;
pub use in_registers::InRegisters;
pub use kernel::insn::{
    Mode,
    Plan,
    MAX_INSN_SIZE, //
};
use plan::FastPath;
pub use plan::ResumePlan;
pub use step::{
    StepState,
    XolStep, //
};

/// The breakpoint instruction, `int3`, which is written over the first byte of a probed
/// instruction.
pub const BREAKPOINT: u8 = 0xcc;

/// Length of [`BREAKPOINT`].
pub const BREAKPOINT_SIZE: usize = 1;

/// An instruction that can be probed, and its plan.
#[derive(Clone, Copy)]
pub struct ProbedInsn {
    at: Vaddr,
    mode: Mode,
    /// A code segment that implies this mode; 0, the null selector, if no segment does.
    sure_segment: u16,
    len: u8,
    known: u8,
    bytes: [u8; MAX_INSN_SIZE],
    plan: ResumePlan,
    fast_path: FastPath,
}

/// Analyzes the instruction that `bytes` begin with, at `at`, and chooses how to resume it.
///
/// `bytes` should have [`MAX_INSN_SIZE`] bytes, unless the mapping ends before that. They must be
/// the bytes of the program, without our own breakpoints.
pub fn analyze(bytes: &[u8], at: Vaddr, mode: Mode) -> Result<ProbedInsn, Refusal> {
    if bytes.first() == Some(&BREAKPOINT) {
        return Err(Refusal::Breakpoint);
    }
    let decoded = Decoded::new(bytes, mode)?;
    blacklist::check(&decoded)?;

    let mut copy = [0; MAX_INSN_SIZE];
    let mut known = 0;
    for (to, from) in copy.iter_mut().zip(bytes) {
        *to = *from;
        known += 1;
    }
    let plan = ResumePlan::new(&decoded, &copy, at)?;
    let fast_path = FastPath::new(&plan);
    Ok(ProbedInsn {
        at,
        mode,
        sure_segment: mode.sure_segment().unwrap_or(0),
        len: decoded.len,
        known,
        bytes: copy,
        plan,
        fast_path,
    })
}

/// Returns the length of the instruction that `bytes` begin with, whether it can be probed or not,
/// if the length is known.
pub fn length(bytes: &[u8], mode: Mode) -> Option<usize> {
    const UD2_SIZE: usize = 2;

    let insn = insn::Insn::decode(bytes, mode).ok()?;
    // The decoder takes `ud2` for a prefix; to the CPU it is an instruction, and the rest another.
    Some(if insn.has_emulate_prefix() {
        UD2_SIZE
    } else {
        insn.length()
    })
}

impl ProbedInsn {
    /// Returns the address of the instruction in the program.
    #[inline]
    pub fn at(&self) -> Vaddr {
        self.at
    }

    /// Returns the mode that the instruction has been decoded in.
    #[inline]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whether `regs` belong to a thread that executes code of [`ProbedInsn::mode`].
    pub fn is_of_mode(&self, regs: &PtRegs) -> bool {
        Mode::from_regs(regs) == Some(self.mode())
    }

    /// Returns whether the code segment alone proves that the thread executes code of
    /// [`ProbedInsn::mode`].
    #[inline]
    pub fn is_of_usual_segment(&self, regs: &PtRegs) -> bool {
        regs.code_segment() == self.sure_segment
    }

    /// Returns the bytes of the instruction.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&[])
    }

    /// Returns the bytes of the text from the instruction on, including those that follow the
    /// instruction: [`MAX_INSN_SIZE`] bytes, or fewer at the end of the text.
    pub fn known_bytes(&self) -> &[u8] {
        self.bytes.get(..self.known.into()).unwrap_or(&[])
    }

    /// Returns whether this is one of the instructions with which functions with a frame pointer
    /// begin or end, outside of their frame: the top of the stack is then the return address, and
    /// the frame pointer is the caller's.
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

    /// Returns the plan by which the instruction is resumed.
    #[inline]
    pub fn plan(&self) -> &ResumePlan {
        &self.plan
    }

    /// Returns the number of bytes of arguments that the instruction pops, if it is a return
    /// instruction that can be emulated.
    pub fn return_release(&self) -> Option<usize> {
        match &self.plan {
            ResumePlan::EmulateOrStep(in_memory, _) => in_memory.return_release(),
            _ => None,
        }
    }

    /// Executes the instruction for the thread, if it only needs the registers.
    ///
    /// `regs` must be as for [`ProbedInsn::emulate`]. May be called in any context.
    #[inline(always)]
    pub fn emulate_fast(&self, regs: &mut PtRegs, thread: &impl ThreadAccess) -> EmulatedFast {
        // A thread with the trap flag expects a trap.
        if regs.flags() & flags::TF != 0 {
            return EmulatedFast::Other;
        }
        match &self.fast_path {
            FastPath::Nop { next } => {
                regs.set_ip(*next);
                EmulatedFast::Done
            }
            FastPath::Emulate(emulation) => {
                emulation.execute(regs);
                EmulatedFast::Done
            }
            FastPath::Boost => EmulatedFast::Boost,
            FastPath::BoostUnshadowed if !thread.has_shadow_stack() => EmulatedFast::Boost,
            FastPath::BoostUnshadowed | FastPath::Other => EmulatedFast::Other,
        }
    }

    /// Executes the instruction for the thread, if it can be emulated.
    ///
    /// `regs` must be the registers of a thread that has hit the breakpoint and executes code of
    /// [`ProbedInsn::mode`]; the instruction pointer in them does not matter. Must be called with
    /// interrupts enabled, in task context.
    #[inline]
    pub fn emulate(&self, regs: &mut PtRegs, thread: &mut impl ThreadAccess) -> Emulated<'_> {
        let branched = match &self.plan {
            ResumePlan::Emulate(emulation) | ResumePlan::EmulateOrBoost(emulation, _) => {
                emulation.execute(regs)
            }
            ResumePlan::EmulateOrStep(emulation, step) => match emulation.execute(regs, thread) {
                Some(branched) => branched,
                None => return Emulated::Step(step),
            },
            ResumePlan::Boost(step) if regs.flags() & flags::TF == 0 => {
                return Emulated::Boost(step)
            }
            ResumePlan::Boost(step) | ResumePlan::Step(step) => return Emulated::Step(step),
        };
        Emulated::Done {
            deliver_trap: trap_is_due(regs, thread, branched),
        }
    }
}

/// Returns whether the CPU would have trapped after the instruction that has been emulated.
#[inline]
fn trap_is_due(regs: &PtRegs, thread: &mut impl ThreadAccess, branched: bool) -> bool {
    if regs.flags() & flags::TF == 0 {
        return false;
    }
    if thread.block_step() {
        if branched {
            // The CPU does the same when it delivers the trap.
            thread.set_block_step(false);
        }
        branched
    } else {
        true
    }
}
