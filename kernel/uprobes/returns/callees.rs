// SPDX-License-Identifier: GPL-2.0

//! Callees: the ways in which a called function treats its return address.
//!
//! Only the beginning of a function is looked at, since functions that take their own return
//! address do so at once. The rest is taken to follow the ABI.

use kernel::{
    insn::Mode,
    mm::write::MmapWrite,
    prelude::*, //
};
use ubp::{
    flow_at,
    Depth,
    Flow,
    Refused,
    Vaddr, //
};

/// How many instructions of a callee are looked at.
const INSNS: usize = 48;

/// How many instructions are looked at, in 32-bit code, to find one that returns.
const INSNS_TO_RETURN: usize = 1024;

/// How many callees that take their return address one may be within.
const NESTED: usize = 2;

/// The way in which a callee treats its return address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Callee {
    /// It returns, if it does, with that many bytes of arguments off the stack.
    Returns(i32),
    /// It pops, drops or changes the address.
    TakesReturnAddress,
}

impl Callee {
    /// As the ABI says.
    pub(crate) const RETURNS: Self = Self::Returns(0);
}

/// Returns the size of a return address.
pub(crate) fn word(mode: Mode) -> i32 {
    match mode {
        Mode::Bits32 => 4,
        Mode::Bits64 => 8,
    }
}

/// Looks at the function at an address.
///
/// # Errors
///
/// As of [`flow_at`]; `EAGAIN` only for the text at `at`.
pub(crate) fn callee(mmap: &MmapWrite<'_>, at: Vaddr, mode: Mode) -> Result<Callee, Refused> {
    look_at(mmap, at, mode, NESTED)
}

fn look_at(
    mmap: &MmapWrite<'_>,
    entry: Vaddr,
    mode: Mode,
    nested: usize,
) -> Result<Callee, Refused> {
    let mut paths = KVec::new();
    let mut seen = KVec::new();
    paths
        .push((entry, Depth::ENTRY), GFP_KERNEL)
        .map_err(Error::from)?;
    let mut popped = None;
    while let Some((at, depth)) = paths.pop() {
        let is_enough = seen.len() >= INSNS && (mode == Mode::Bits64 || popped.is_some());
        if is_enough || seen.len() >= INSNS_TO_RETURN {
            break;
        }
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
        let mut go_on = |at, depth| paths.push((at, depth), GFP_KERNEL).map_err(Error::from);
        match flowed.flow {
            Flow::Next | Flow::Call(None) => go_on(next, flowed.depth)?,
            Flow::Branch(to) => {
                go_on(to, flowed.depth)?;
                go_on(next, flowed.depth)?;
            }
            Flow::Jump(to) => go_on(to, flowed.depth)?,
            // Another one is of a thunk, which has changed its return address.
            Flow::Return(bytes) if depth.sp().is_none_or(|sp| sp == 0) => {
                popped = popped.or(Some(bytes));
            }
            Flow::Return(_) => (),
            Flow::Anywhere | Flow::Nowhere => (),
            Flow::Call(Some(to)) => {
                let inner = match nested.checked_sub(1) {
                    Some(nested) => look_at(mmap, to, mode, nested),
                    None => Ok(Callee::RETURNS),
                };
                match inner {
                    Ok(Callee::Returns(bytes)) => go_on(next, flowed.depth.deeper_by(-bytes))?,
                    // As far as it is known, a path goes on in it.
                    Ok(Callee::TakesReturnAddress) => {
                        go_on(to, flowed.depth.deeper_by(word(mode)))?;
                    }
                    Err(_) => go_on(next, flowed.depth)?,
                }
            }
        }
    }
    Ok(Callee::Returns(popped.unwrap_or(0)))
}
