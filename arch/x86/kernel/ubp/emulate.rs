// SPDX-License-Identifier: GPL-2.0

//! Instructions done by the kernel.
//!
//! An emulation either does all that the instruction does, or nothing. In the latter case the
//! caller has the CPU execute the instruction in a slot, where whatever was in the way becomes the
//! exception, trap or access that it would have been without a probe. That is so
//!
//! - when a memory access fails (a fault's kind, address and signal are the CPU's to say);
//! - when an access is to an address that is not canonical, or crosses a page, so that it might be
//!   done in part;
//! - when the program has alignment checks on, or a debugger has watchpoints, which an access by
//!   the kernel would pass by;
//! - when calls and returns also use a shadow stack.

use crate::{
    Thread,
    Width, //
};
use kernel::{
    page::PAGE_SIZE,
    ptregs::{
        flags,
        PtRegs,
        GPR_BP, //
    },
};

/// Number of the counter among the general-purpose registers.
const GPR_CX: u8 = 1;

/// The condition of a conditional jump: the low four bits of its opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Condition(u8);

impl Condition {
    pub(super) const fn new(opcode: u8) -> Self {
        Self(opcode & 15)
    }

    /// Whether it holds with these flags.
    #[inline]
    pub(super) const fn holds(self, bits: usize) -> bool {
        let less = (bits & flags::SF != 0) != (bits & flags::OF != 0);
        let positive = match self.0 >> 1 {
            0 => bits & flags::OF != 0,
            1 => bits & flags::CF != 0,
            2 => bits & flags::ZF != 0,
            3 => bits & (flags::CF | flags::ZF) != 0,
            4 => bits & flags::SF != 0,
            5 => bits & flags::PF != 0,
            6 => less,
            _ => less || bits & flags::ZF != 0,
        };
        // The lowest bit of the opcode negates.
        positive != (self.0 & 1 != 0)
    }
}

/// The part of the counter register that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Count {
    Cx,
    Ecx,
    Rcx,
}

impl Count {
    #[inline]
    fn get(self, regs: &PtRegs) -> usize {
        let cx = regs.gpr(GPR_CX);
        match self {
            Self::Cx => cx & u16::MAX as usize,
            Self::Ecx => cx & u32::MAX as usize,
            Self::Rcx => cx,
        }
    }

    /// Counts down by one and returns what is left.
    #[inline]
    fn decrement(self, regs: &mut PtRegs) -> usize {
        let cx = regs.gpr(GPR_CX);
        let less = cx.wrapping_sub(1);
        let value = match self {
            // As with any register, a write to 16 bits leaves the others; one to 32 bits clears
            // the upper half.
            Self::Cx => (cx & !(u16::MAX as usize)) | (less & u16::MAX as usize),
            Self::Ecx => less & u32::MAX as usize,
            Self::Rcx => less,
        };
        regs.set_gpr(GPR_CX, value);
        self.get(regs)
    }
}

/// An instruction that only changes registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RegisterOp {
    Nop,
    Move {
        from: u8,
        to: u8,
        width: Width,
    },
    Jump {
        target: usize,
    },
    Branch {
        condition: Condition,
        target: usize,
    },
    /// Branches unless the count reaches zero, or the zero flag is not as wanted.
    Loop {
        count: Count,
        zero: Option<bool>,
        target: usize,
    },
    BranchIfCountZero {
        count: Count,
        target: usize,
    },
}

/// The emulation of an instruction that only changes registers.
#[derive(Clone, Copy)]
pub struct InRegisters {
    pub(super) op: RegisterOp,
    pub(super) next: usize,
}

impl InRegisters {
    /// Executes the instruction, and returns whether it has branched.
    #[inline]
    pub(super) fn execute(&self, regs: &mut PtRegs) -> bool {
        let target = match self.op {
            RegisterOp::Nop => None,
            RegisterOp::Move { from, to, width } => {
                let value = width.truncate(regs.gpr(from));
                regs.set_gpr(to, value);
                None
            }
            RegisterOp::Jump { target } => Some(target),
            RegisterOp::Branch { condition, target } => {
                condition.holds(regs.flags()).then_some(target)
            }
            RegisterOp::Loop {
                count,
                zero,
                target,
            } => {
                let is_zero = regs.flags() & flags::ZF != 0;
                let goes_on = count.decrement(regs) != 0 && zero.unwrap_or(is_zero) == is_zero;
                goes_on.then_some(target)
            }
            RegisterOp::BranchIfCountZero { count, target } => {
                (count.get(regs) == 0).then_some(target)
            }
        };
        regs.set_ip(target.unwrap_or(self.next));
        target.is_some()
    }
}

/// What is pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Register(u8),
    Immediate(usize),
    Flags,
}

/// A memory operand in 64-bit code, in a segment that starts at 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) base: Option<u8>,
    pub(super) index: Option<u8>,
    pub(super) scale: u8,
    /// The displacement; with the address of the next instruction added if it is relative to that.
    pub(super) displacement: usize,
    pub(super) is_32bit: bool,
}

impl Address {
    #[inline]
    fn get(&self, regs: &PtRegs) -> usize {
        let base = self.base.map_or(0, |n| regs.gpr(n));
        let index = self.index.map_or(0, |n| regs.gpr(n));
        let sum = base
            .wrapping_add(index.wrapping_shl(self.scale.into()))
            .wrapping_add(self.displacement);
        if self.is_32bit {
            Width::W32.truncate(sum)
        } else {
            sum
        }
    }
}

/// Where an indirect jump or call has its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    Register(u8),
    Memory(Address),
}

/// Where a jump or call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Direct(usize),
    Indirect(Operand),
}

/// An instruction that accesses memory, or jumps to wherever a register says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemoryOp {
    Push(Source),
    Pop(u8),
    Leave,
    Call(Target),
    Jump(Target),
    /// Pops the return address, and then as many bytes.
    Return {
        release: usize,
    },
}

/// The emulation of an instruction that accesses memory.
#[derive(Clone, Copy)]
pub struct InMemory {
    pub(super) op: MemoryOp,
    /// Of words on the stack and of addresses.
    pub(super) width: Width,
    pub(super) next: usize,
}

impl InMemory {
    /// Executes the instruction, and returns whether it has branched; or changes nothing and
    /// returns [`None`].
    #[inline]
    pub(super) fn execute(&self, regs: &mut PtRegs, thread: &mut impl Thread) -> Option<bool> {
        if regs.flags() & flags::AC != 0 || thread.is_watched() {
            return None;
        }
        let target = match self.op {
            MemoryOp::Push(source) => {
                let value = match source {
                    Source::Register(n) => regs.gpr(n),
                    Source::Immediate(value) => value,
                    Source::Flags => regs.flags() & !(flags::RF | flags::VM),
                };
                self.push(value, regs, thread)?;
                None
            }
            MemoryOp::Pop(n) => {
                let sp = regs.sp();
                let value = self.load(sp, thread)?;
                regs.set_sp(self.after_pop(sp));
                // Last, as the stack pointer itself may be popped.
                regs.set_gpr(n, value);
                None
            }
            MemoryOp::Leave => {
                let frame = self.width.truncate(regs.gpr(GPR_BP));
                let value = self.load(frame, thread)?;
                regs.set_sp(self.after_pop(frame));
                regs.set_gpr(GPR_BP, value);
                None
            }
            MemoryOp::Call(target) => {
                if thread.has_shadow_stack() {
                    return None;
                }
                let target = self.target(target, regs, thread)?;
                self.push(self.next, regs, thread)?;
                Some(target)
            }
            MemoryOp::Jump(target) => Some(self.target(target, regs, thread)?),
            MemoryOp::Return { release } => {
                if thread.has_shadow_stack() {
                    return None;
                }
                let sp = regs.sp();
                let target = self.reachable(self.load(sp, thread)?)?;
                let sp = self.after_pop(sp).wrapping_add(release);
                regs.set_sp(self.width.truncate(sp));
                Some(target)
            }
        };
        regs.set_ip(target.unwrap_or(self.next));
        Some(target.is_some())
    }

    #[inline]
    fn after_pop(&self, sp: usize) -> usize {
        self.width.truncate(sp.wrapping_add(self.width.bytes()))
    }

    #[inline]
    fn push(&self, value: usize, regs: &mut PtRegs, thread: &mut impl Thread) -> Option<()> {
        let sp = self
            .width
            .truncate(regs.sp().wrapping_sub(self.width.bytes()));
        self.check_access(sp)?;
        thread
            .store(sp, self.width, self.width.truncate(value))
            .ok()?;
        regs.set_sp(sp);
        Some(())
    }

    #[inline]
    fn load(&self, addr: usize, thread: &mut impl Thread) -> Option<usize> {
        self.check_access(addr)?;
        thread.load(addr, self.width).ok()
    }

    /// Passes accesses within one page, which happen as a whole or not at all.
    #[inline]
    fn check_access(&self, addr: usize) -> Option<()> {
        let offset = addr & (PAGE_SIZE - 1);
        (offset <= PAGE_SIZE - self.width.bytes()).then_some(())
    }

    #[inline]
    fn target(&self, target: Target, regs: &PtRegs, thread: &mut impl Thread) -> Option<usize> {
        match target {
            Target::Direct(target) => Some(target),
            Target::Indirect(Operand::Register(n)) => {
                self.reachable(self.width.truncate(regs.gpr(n)))
            }
            Target::Indirect(Operand::Memory(address)) => {
                self.reachable(self.load(address.get(regs), thread)?)
            }
        }
    }

    /// Passes targets to which a jump surely raises no exception by itself.
    #[inline]
    fn reachable(&self, target: usize) -> Option<usize> {
        (target >> 47 == 0).then_some(target)
    }
}
