// SPDX-License-Identifier: GPL-2.0

//! Callees: the ways in which a called function treats its return address.
//!
//! The walk analyses only the beginning of a callee, because a function that takes its own return
//! address does so at once. It assumes that the rest follows the ABI.

use crate::stack::word_size;

use kernel::{
    insn::Mode,
    mm::write::MmapWrite,
    prelude::*, //
};
use ubp::{
    flow_at,
    Depth,
    Flow,
    InsertError,
    Vaddr, //
};

/// Maximum number of instructions to decode of a callee.
const INSNS: usize = 48;

/// Maximum number of instructions to decode of a callee in 32-bit code, to find one that returns.
const INSNS_TO_RETURN: usize = 1024;

/// Maximum depth of calls within callees.
const NESTED: usize = 2;

/// Maximum number of instructions to decode for one callee and the functions that it calls.
const MAX_INSNS: usize = 2048;

/// Maximum number of instructions that are decoded in all callees of a walk.
const MAX_INSNS_OF_WALK: usize = 400_000;

/// The way in which a callee treats its return address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Callee {
    /// If the callee returns, it pops this number of bytes of arguments.
    Returns(i32),
    /// The callee pops, drops or changes the return address.
    TakesReturnAddress,
}

impl Callee {
    /// The callee returns as the ABI says.
    pub(crate) const RETURNS: Self = Self::Returns(0);
}

/// The callees that a walk has analysed.
pub(crate) struct Callees {
    mode: Mode,
    known: KVec<(Vaddr, Callee)>,
    /// Number of instructions that may still be decoded.
    left: usize,
}

impl Callees {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            known: KVec::new(),
            left: MAX_INSNS_OF_WALK,
        }
    }

    /// Returns whether no more callees can be analysed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Returns how a callee treats its return address, if the walk has analysed it.
    pub(crate) fn known(&self, at: Vaddr) -> Option<Callee> {
        let known = self.known.iter().find(|(known, _)| *known == at)?;
        Some(known.1)
    }

    /// Analyses the function at an address, and records the result. Returns `false` if the text
    /// there is absent.
    pub(crate) fn analyse(&mut self, mmap: &MmapWrite<'_>, at: Vaddr) -> Result<bool> {
        let allowed = MAX_INSNS.min(self.left);
        let mut left = allowed;
        let analysed = analyse(mmap, at, self.mode, NESTED, &mut left);
        self.left -= allowed - left;
        let found = match analysed {
            Ok(found) => found,
            Err(InsertError::Errno(EAGAIN)) => return Ok(false),
            Err(InsertError::Errno(ENOMEM)) => return Err(ENOMEM),
            // The call raises an exception, or the bytes are not a call.
            Err(_) => Callee::RETURNS,
        };
        self.record(at, found)?;
        Ok(true)
    }

    /// Records how the callee at an address treats its return address.
    pub(crate) fn record(&mut self, at: Vaddr, found: Callee) -> Result {
        Ok(self.known.push((at, found), GFP_KERNEL)?)
    }
}

/// Analyses a function, of which it decodes at most `left` instructions.
///
/// # Errors
///
/// As for [`flow_at`]; `EAGAIN` only for the text at `entry`.
fn analyse(
    mmap: &MmapWrite<'_>,
    entry: Vaddr,
    mode: Mode,
    nested: usize,
    left: &mut usize,
) -> Result<Callee, InsertError> {
    let mut paths = KVec::new();
    let mut seen = KVec::new();
    paths
        .push((entry, Depth::ENTRY), GFP_KERNEL)
        .map_err(Error::from)?;
    let mut popped = None;
    while let Some((at, depth)) = paths.pop() {
        let is_enough = seen.len() >= INSNS && (mode == Mode::Bits64 || popped.is_some());
        if is_enough || seen.len() >= INSNS_TO_RETURN || *left == 0 {
            break;
        }
        *left -= 1;
        if seen.contains(&at) {
            continue;
        }
        let flowed = match flow_at(mmap, at, depth) {
            Ok(flowed) => flowed,
            Err(refused) if at == entry => return Err(refused),
            Err(_) => continue,
        };
        seen.push(at, GFP_KERNEL).map_err(Error::from)?;
        let Some(next) = at.checked_add(flowed.len) else {
            continue;
        };
        if flowed.writes == Some(0) || flowed.depth.sp().is_some_and(|sp| sp < 0) {
            return Ok(Callee::TakesReturnAddress);
        }
        let mut push = |at, depth| paths.push((at, depth), GFP_KERNEL).map_err(Error::from);
        match flowed.flow {
            Flow::Next | Flow::Call(None) => push(next, flowed.depth)?,
            Flow::Branch(to) => {
                push(to, flowed.depth)?;
                push(next, flowed.depth)?;
            }
            Flow::Jump(to) => push(to, flowed.depth)?,
            // The callee returns. If it has something on the stack, the return instruction is a
            // jump to an address that the callee has pushed.
            Flow::Return(bytes) if depth.sp().is_none_or(|sp| sp == 0) => {
                popped = popped.or(Some(bytes));
            }
            Flow::Return(_) => (),
            Flow::Indirect | Flow::Stop => (),
            Flow::Call(Some(to)) => {
                let inner = match nested.checked_sub(1) {
                    Some(nested) => analyse(mmap, to, mode, nested, left),
                    None => Ok(Callee::RETURNS),
                };
                match inner {
                    Ok(Callee::Returns(bytes)) => push(next, flowed.depth.deeper_by(-bytes))?,
                    // The path continues in the callee, with the return address on the stack.
                    Ok(Callee::TakesReturnAddress) => {
                        push(to, flowed.depth.deeper_by(word_size(mode) as i32))?;
                    }
                    Err(_) => push(next, flowed.depth)?,
                }
            }
        }
    }
    Ok(Callee::Returns(popped.unwrap_or(0)))
}
