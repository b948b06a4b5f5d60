// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of a probed process's memory by debuggers and other processes.
//!
//! A debugger sees the text without the breakpoints of this crate, and writes below the
//! breakpoints. If the instruction of a breakpoint is unchanged after a write, its `int3` stays;
//! otherwise the debugger's bytes stay:
//!
//! ```text
//!              the instruction's first byte is overwritten
//!   Armed --------------------------------------------------> Overwritten
//!     |  <--------------------------------------------------     |
//!     |            the same instruction is written               | the rest of it is written to
//!     | the rest of it is written to                             v
//!     +------------------------> Stale ----------------------> Removed
//!                                     at the next hit
//! ```
//!
//! If the pages of a breakpoint were discarded ([`BreakpointState::Lost`]), its `int3` may be in a
//! copy of the text that the program has put in place of the text. This `int3` is hidden as well if
//! the original bytes follow it, and a write to it hands the byte to the debugger. On a stack an
//! `int3` is hidden under the same condition. See [`Breakpoint::evidence`]. A debugger that reads
//! fewer bytes gets the original byte if the bytes that it reads match.
//!
//! Therefore a debugger never saves an `int3` of UBP, and may write a saved byte back at any time.
//! A debugger's breakpoint takes the place of UBP's, and survives the removal of UBP's.

use crate::{
    breakpoint::{
        Breakpoint,
        BreakpointState, //
    },
    space::Space, //
};

use kernel::sync::tasks_trace;
use ubp_arch::{
    Vaddr,
    BREAKPOINT,
    MAX_INSN_SIZE, //
};

/// Replaces the `int3`s in `bytes`, which have been read at `addr`, by the displaced bytes.
pub(crate) fn hide(space: &Space, addr: usize, bytes: &mut [u8]) {
    let guard = tasks_trace::read_lock();
    for bp in space.known_in(addr, addr.saturating_add(bytes.len()), &guard) {
        if matches!(
            bp.state(),
            BreakpointState::Overwritten | BreakpointState::Removed
        ) {
            continue;
        }
        let offset = bp.at().as_usize().wrapping_sub(addr);
        let Some(here) = bytes.get_mut(offset..) else {
            continue;
        };
        let evidence = bp.evidence();
        if here.first() != Some(&BREAKPOINT) || compare(space, bp.at(), evidence, here).is_none() {
            continue;
        }
        if let ([byte, ..], [original, ..]) = (here, evidence) {
            *byte = *original;
        }
    }
}

/// Compares `bytes`, which have been read at `at`, with the original bytes `expected`, except for
/// the first byte. An `int3` counts as the original byte if a breakpoint displaces this byte,
/// because the caller may find the `int3`s of other breakpoints after its own.
///
/// Returns the number of compared bytes, including the first, or `None` if a byte differs. The
/// number is lower than the length of `expected` if `bytes` is shorter.
pub(crate) fn compare(space: &Space, at: Vaddr, expected: &[u8], bytes: &[u8]) -> Option<usize> {
    let is_displaced = |i, expected: u8| {
        let displaced = at.checked_add(i).and_then(|at| space.displaced_byte(at));
        displaced == Some(expected)
    };
    let mut pairs = expected.iter().zip(bytes).enumerate().skip(1);
    pairs
        .all(|(i, (expected, byte))| {
            byte == expected || (*byte == BREAKPOINT && is_displaced(i, *expected))
        })
        .then_some(expected.len().min(bytes.len()))
}

/// Writes `bytes` to the text at `addr`, below the breakpoints. Calls `copy` for each part with the
/// offset of the part, to copy it there.
///
/// The caller must hold the mmap lock, at least for reading.
pub(crate) fn write(space: &Space, addr: usize, bytes: &[u8], mut copy: impl FnMut(usize, &[u8])) {
    // Excludes other writers, because the state of a breakpoint must agree with the text.
    let _changes = space.changes.lock();
    let guard = tasks_trace::read_lock();
    let start = addr.saturating_sub(MAX_INSN_SIZE - 1);
    let mut done = 0;
    for bp in space.known_in(start, addr.saturating_add(bytes.len()), &guard) {
        let Some(kept) = written(bp, addr, bytes) else {
            continue;
        };
        copy(done, bytes.get(done..kept).unwrap_or(&[]));
        copy(kept, &[BREAKPOINT]);
        done = kept + 1;
    }
    copy(done, bytes.get(done..).unwrap_or(&[]));
}

/// Updates the state of a breakpoint for a write to its instruction. Returns the offset in `bytes`
/// where the `int3` must be kept.
fn written(bp: &Breakpoint, addr: usize, bytes: &[u8]) -> Option<usize> {
    let insn = bp.insn().bytes();
    let at = bp.at().as_usize();
    let (skip, first) = (addr.saturating_sub(at), at.saturating_sub(addr));
    let (old, new) = (insn.get(skip..)?, bytes.get(first..)?);
    let same = old.iter().zip(new).all(|(old, new)| old == new);
    let is_first = skip == 0;
    if bp.state() == BreakpointState::Lost {
        if is_first {
            bp.change(BreakpointState::Lost, BreakpointState::Removed);
        }
        return None;
    }
    if same && is_first {
        // The state changes first: there may be a breakpoint without an `int3`, but no `int3`
        // without a breakpoint.
        bp.change(BreakpointState::Overwritten, BreakpointState::Armed);
        // A stale breakpoint stays stale, and its `int3` is still in the text and must be removed.
        return matches!(bp.state(), BreakpointState::Armed | BreakpointState::Stale)
            .then_some(first);
    }
    // If the write covers only a part of the instruction, the rest may be unchanged or not.
    let rest_same = old.iter().zip(new).skip(1).all(|(old, new)| old == new);
    if is_first && rest_same {
        bp.change(BreakpointState::Armed, BreakpointState::Overwritten);
        bp.change(BreakpointState::Stale, BreakpointState::Removed);
    } else if is_first {
        bp.set_removed();
    } else if !same {
        bp.change(BreakpointState::Overwritten, BreakpointState::Removed);
        bp.change(BreakpointState::Armed, BreakpointState::Stale);
    }
    None
}
