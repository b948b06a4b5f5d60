// SPDX-License-Identifier: GPL-2.0

//! Emulation of instructions that access memory, and of indirect jumps.
//!
//! An emulation either does everything that the instruction does, or nothing. If it does nothing,
//! the caller lets the CPU execute the instruction in a slot, where the CPU raises the exception or
//! trap, or does the access, as it would without a probe. An instruction is not emulated
//!
//! - when a memory access fails, because only the CPU knows a fault's kind, address and signal;
//! - when an access is to a non-canonical address, or crosses a page, so that it might be done in
//!   part;
//! - when the program has enabled alignment checks, or a debugger has set watchpoints, because an
//!   access by the kernel would bypass them;
//! - when calls and returns also use a shadow stack;
//! - when `popf` changes the trap flag, or finds it set, because the CPU knows after which
//!   instruction it traps.

use super::{
    alu::{
        Binary,
        Comparison, //
    },
    in_registers::binary,
    operand::{
        Address,
        OperandValue,
        Register,
        Word, //
    }, //
};
use crate::{
    ThreadAccess,
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

/// The flags that `popf` changes in user mode.
const POPPED: usize = flags::CF
    | flags::PF
    | flags::AF
    | flags::ZF
    | flags::SF
    | flags::DF
    | flags::OF
    | flags::NT
    | flags::AC
    | flags::ID;

/// The source of a push.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PushSource {
    Register(u8),
    Immediate(usize),
    Memory(Address),
    Flags,
}

/// The location of an indirect jump's or call's target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    Register(u8),
    Memory(Address),
}

/// The target of a jump or call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Direct(usize),
    Indirect(Operand),
}

/// An instruction that accesses memory, or jumps indirectly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemoryOp {
    Push(PushSource),
    Pop(u8),
    PopFlags,
    Leave,
    Call(Target),
    Jump(Target),
    /// Pops the return address, and then `release` bytes.
    Return {
        release: usize,
    },
    Load {
        to: Register,
        from: Word,
        sign_extend: bool,
    },
    Store {
        to: Word,
        from: OperandValue,
    },
    /// The second operand is in memory. The first must not be, because other threads could write to
    /// it between the read and the write.
    Binary {
        op: Binary,
        to: Register,
        from: Word,
    },
    /// The first operand is in memory.
    CompareWord {
        op: Comparison,
        first: Word,
        second: OperandValue,
    },
    /// The second operand is in memory.
    CompareToWord {
        op: Comparison,
        first: Register,
        second: Word,
    },
}

/// The emulation of an instruction that accesses memory.
#[derive(Clone, Copy)]
pub struct InMemory {
    pub(super) op: MemoryOp,
    /// The width of stack words and of instruction addresses.
    pub(super) width: Width,
    pub(super) next: usize,
}

impl InMemory {
    /// Returns the number of bytes of arguments that the instruction pops, if it is a return
    /// instruction.
    pub(super) fn return_release(&self) -> Option<usize> {
        match self.op {
            MemoryOp::Return { release } => Some(release),
            _ => None,
        }
    }

    /// Executes the instruction, and returns whether it has branched. Returns [`None`], and changes
    /// nothing, if it cannot be emulated exactly.
    #[inline]
    pub(super) fn execute(
        &self,
        regs: &mut PtRegs,
        thread: &mut impl ThreadAccess,
    ) -> Option<bool> {
        if regs.flags() & flags::AC != 0 || thread.is_watched() {
            return None;
        }
        let target = match self.op {
            MemoryOp::Push(source) => {
                let value = match source {
                    PushSource::Register(n) => regs.gpr(n),
                    PushSource::Immediate(value) => value,
                    PushSource::Memory(address) => self.load(address.get(regs), thread)?,
                    PushSource::Flags => regs.flags() & !(flags::RF | flags::VM),
                };
                self.push(value, regs, thread)?;
                None
            }
            MemoryOp::Pop(n) => {
                let sp = regs.sp();
                let value = self.load(sp, thread)?;
                regs.set_sp(self.after_pop(sp));
                // Set the register last, because the stack pointer itself may be popped.
                regs.set_gpr(n, value);
                None
            }
            MemoryOp::PopFlags => {
                let (sp, before) = (regs.sp(), regs.flags());
                let popped = self.load(sp, thread)?;
                // With this I/O privilege level, which Linux never grants, `popf` also changes IF.
                if (popped | before) & flags::TF != 0 || before & flags::IOPL == flags::IOPL {
                    return None;
                }
                regs.set_sp(self.after_pop(sp));
                let kept = before & !(POPPED | flags::RF);
                regs.set_flags(kept | (popped & POPPED));
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
            MemoryOp::Load {
                to,
                from,
                sign_extend,
            } => {
                let value = load_word(from, regs, thread)?;
                to.set(
                    regs,
                    if sign_extend {
                        from.width.sign_extend(value)
                    } else {
                        value
                    },
                );
                None
            }
            MemoryOp::Store { to, from } => {
                let addr = within_page(to.address.get(regs), to.width)?;
                let value = to.width.truncate(from.get(regs));
                thread.store(addr, to.width, value).ok()?;
                None
            }
            MemoryOp::Binary { op, to, from } => {
                let value = load_word(from, regs, thread)?;
                binary(op, to, value, regs);
                None
            }
            MemoryOp::CompareWord { op, first, second } => {
                let (a, b) = (load_word(first, regs, thread)?, second.get(regs));
                regs.set_flags(op.execute(a, b, first.width, regs.flags()));
                None
            }
            MemoryOp::CompareToWord { op, first, second } => {
                let (a, b) = (first.get(regs), load_word(second, regs, thread)?);
                regs.set_flags(op.execute(a, b, second.width, regs.flags()));
                None
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
    fn push(&self, value: usize, regs: &mut PtRegs, thread: &mut impl ThreadAccess) -> Option<()> {
        let sp = self
            .width
            .truncate(regs.sp().wrapping_sub(self.width.bytes()));
        let sp = within_page(sp, self.width)?;
        thread
            .store(sp, self.width, self.width.truncate(value))
            .ok()?;
        regs.set_sp(sp);
        Some(())
    }

    #[inline]
    fn load(&self, addr: usize, thread: &mut impl ThreadAccess) -> Option<usize> {
        let addr = within_page(addr, self.width)?;
        thread.load(addr, self.width).ok()
    }

    #[inline]
    fn target(
        &self,
        target: Target,
        regs: &PtRegs,
        thread: &mut impl ThreadAccess,
    ) -> Option<usize> {
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

    /// Returns the target of a jump if the jump itself certainly raises no exception.
    #[inline]
    fn reachable(&self, target: usize) -> Option<usize> {
        (target >> 47 == 0).then_some(target)
    }
}

#[inline]
fn load_word(word: Word, regs: &PtRegs, thread: &mut impl ThreadAccess) -> Option<usize> {
    let addr = within_page(word.address.get(regs), word.width)?;
    thread.load(addr, word.width).ok()
}

/// Returns the address of an access if it is within one page. Such an access happens as a whole or
/// not at all.
#[inline]
fn within_page(addr: usize, width: Width) -> Option<usize> {
    let offset = addr & (PAGE_SIZE - 1);
    (offset <= PAGE_SIZE - width.bytes()).then_some(addr)
}
