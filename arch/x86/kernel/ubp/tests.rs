// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of instructions. They use no processes: registers are made up, and memory is an
//! array.

mod alu;
mod analyze;
mod apx;
mod data;
mod emulate;
mod fast_path;
mod frame;
mod image;
mod step;

use super::{
    analyze,
    Mode,
    ProbedInsn, //
};
use crate::{
    Fault,
    ThreadAccess,
    Vaddr,
    Width, //
};
use kernel::{
    prelude::*,
    ptregs::PtRegs, //
};

/// The address of probed instructions.
const AT: usize = 0x40_1000;

/// The page-aligned start of the memory of a [`MockThread`], in 32-bit and in 64-bit code.
const MEMORY: usize = 0x7000_0000;

/// A stack pointer in the middle of the memory.
const STACK: usize = MEMORY + 128;

/// A thread with 256 bytes of memory.
struct MockThread {
    memory: [u8; 256],
    is_read_only: bool,
    is_watched: bool,
    block_step: bool,
    /// The top of the shadow stack, if there is one.
    shadow: Option<usize>,
}

impl MockThread {
    fn new() -> Self {
        Self {
            memory: [0xaa; 256],
            is_read_only: false,
            is_watched: false,
            block_step: false,
            shadow: None,
        }
    }

    fn slice(&mut self, addr: usize, width: Width) -> Option<&mut [u8]> {
        let start = addr.checked_sub(MEMORY)?;
        self.memory
            .get_mut(start..start.checked_add(width.bytes())?)
    }

    /// Returns whether no one has written to the memory.
    fn is_untouched(&self) -> bool {
        self.memory.iter().all(|byte| *byte == 0xaa)
    }
}

impl ThreadAccess for MockThread {
    fn load(&mut self, addr: usize, width: Width) -> Result<usize, Fault> {
        let bytes = self
            .slice(addr, width)
            .ok_or(Fault { addr, write: false })?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |v, b| (v << 8) | usize::from(*b)))
    }

    fn store(&mut self, addr: usize, width: Width, value: usize) -> Result<(), Fault> {
        let fault = Fault { addr, write: true };
        if self.is_read_only {
            return Err(fault);
        }
        let bytes = self.slice(addr, width).ok_or(fault)?;
        for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
        Ok(())
    }

    fn has_shadow_stack(&self) -> bool {
        self.shadow.is_some()
    }

    fn update_shadow_stack(&mut self, return_addr: usize) -> Result<(), Fault> {
        self.shadow = Some(return_addr);
        Ok(())
    }

    fn is_watched(&self) -> bool {
        self.is_watched
    }

    fn block_step(&self) -> bool {
        self.block_step
    }

    fn set_block_step(&mut self, on: bool) {
        self.block_step = on;
    }
}

/// Returns registers of a thread at [`AT`] with its stack pointer at [`STACK`], and a different
/// value in each of the other registers.
fn registers(mode: Mode) -> PtRegs {
    let mut regs = PtRegs::for_test(mode == Mode::Bits64);
    for n in 0..16 {
        regs.set_gpr(n, 0x1111_1111 * usize::from(n) + 7);
    }
    regs.set_ip(AT);
    regs.set_sp(STACK);
    // Interrupts enabled, and the bit that is always set.
    regs.set_flags(0x202);
    regs
}

/// Returns the instruction at [`AT`].
fn insn(bytes: &[u8], mode: Mode) -> Result<ProbedInsn> {
    // The decoder may also read the bytes behind the instruction.
    let mut padded = [0x90; 16];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(analyze(&padded, Vaddr::new(AT), mode)?)
}
