// SPDX-License-Identifier: GPL-2.0

//! Registers of a return, as handlers see them.
//!
//! A return handler gets the registers that the thread has after the return, wherever the return is
//! detected: the instruction pointer is the return address, and the stack pointer is above the
//! return address and the arguments that the instruction pops. Stack walkers find the caller from
//! these registers.
//!
//! At a return instruction, the kernel executes the instruction before it calls the handlers, so
//! that the thread continues with the registers that they leave. Where the kernel cannot do so, a
//! [`View`] sets the registers for the handlers and sets them back, and UBP or the CPU executes the
//! instruction. If a handler has changed the instruction pointer or the stack pointer, the
//! instruction is not executed: the thread continues with the registers as they are.

use crate::stack::{
    self,
    word_size, //
};

use kernel::{
    insn::Mode,
    ptregs::{
        flags,
        PtRegs, //
    },
    user_thread, //
};

/// Number of address bits of user space with four levels of page tables. A jump to a higher address
/// may raise an exception at the jump itself.
const USER_BITS: u32 = 47;

/// Returns the return address, if the kernel can execute the return instruction at `at`, which is
/// in 64-bit code: the current thread is there, nothing observes the instruction or the stack, and
/// the address, which is at `location` on the stack, is certainly valid.
///
/// Context: task; does not sleep.
#[inline(always)]
pub(crate) fn target(at: usize, location: usize, regs: &PtRegs) -> Option<usize> {
    let is_observed = user_thread::has_shadow_stack()
        || user_thread::has_hw_breakpoints()
        || regs.flags() & (flags::TF | flags::AC) != 0;
    // A handler may have moved the thread.
    if is_observed || regs.ip() != at {
        return None;
    }
    let target = stack::peek_word(location, Mode::Bits64).ok()?;
    // UBP takes a thread that is still at the breakpoint for one that has not executed it.
    (target >> USER_BITS == 0 && target != at).then_some(target)
}

/// Executes the return instruction at which the current thread is. It pops `popped` bytes of
/// arguments, and [`target`] has returned `target` for `location`.
#[inline(always)]
pub(crate) fn execute(target: usize, location: usize, popped: usize, regs: &mut PtRegs) {
    regs.set_sp(location.wrapping_add(word_size(Mode::Bits64) + popped));
    regs.set_ip(target);
}

/// The registers of a thread at a return instruction, during the calls of the return handlers.
#[must_use = "the registers must be set back"]
pub(crate) struct View {
    at: usize,
    location: usize,
    return_address: usize,
    sp: usize,
}

impl View {
    /// Sets the registers as they are after the return by an instruction that pops `popped` bytes
    /// of arguments. Returns `None` if the return address is not in memory.
    ///
    /// Context: task; does not sleep.
    pub(crate) fn enter(popped: usize, regs: &mut PtRegs) -> Option<Self> {
        let mode = Mode::from_regs(regs)?;
        let (at, location) = (regs.ip(), regs.sp());
        let return_address = stack::peek_word(location, mode).ok()?;
        let sp = location.wrapping_add(word_size(mode) + popped);
        let sp = match mode {
            Mode::Bits32 => sp & u32::MAX as usize,
            Mode::Bits64 => sp,
        };
        regs.set_ip(return_address);
        regs.set_sp(sp);
        Some(Self {
            at,
            location,
            return_address,
            sp,
        })
    }

    pub(crate) fn return_address(&self) -> usize {
        self.return_address
    }

    /// Sets the registers back, so that the thread executes the instruction; unless a handler has
    /// changed them.
    ///
    /// Context: task; does not sleep.
    pub(crate) fn leave(self, regs: &mut PtRegs) {
        if regs.ip() == self.return_address && regs.sp() == self.sp {
            regs.set_ip(self.at);
            regs.set_sp(self.location);
        } else if user_thread::has_shadow_stack() {
            // Fails only if there is no shadow stack.
            let _ = user_thread::pop_shadow_stack();
        }
    }
}
