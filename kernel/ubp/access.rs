// SPDX-License-Identifier: GPL-2.0

//! Debuggers and others who read and write the memory of a process.
//!
//! They see the text as it is without breakpoints of this crate, and what they write goes below
//! those. If the instruction of a breakpoint is as it was afterwards, its `int3` stays; else their
//! bytes do:
//!
//! ```text
//!            the instruction's first byte is written over
//!   Armed --------------------------------------------------> Covered
//!     |  <--------------------------------------------------     |
//!     |            the same instruction is written               | the rest of it is written to
//!     | the rest of it is written to                             v
//!     +------------------------> Outdated ------------------->  Gone
//!                                     at the next hit
//! ```
//!
//! The `int3` of a breakpoint whose pages were discarded ([`State::Lost`]) may be in a copy of the
//! text that the program has put in the place of the text. It is hidden as well, as long as the
//! bytes that follow it are the original ones, and a write to it makes it the debugger's. On a
//! stack an `int3` is hidden under the same condition. See [`Breakpoint::evidence`]. A debugger
//! that reads fewer bytes gets the original byte if the bytes that it reads are the original ones.
//!
//! So a debugger that saves a byte never saves one of our `int3`s, and may write it back at any
//! time; its own breakpoints work in place of ours, and survive the removal of those.

use crate::{
    breakpoint::{
        Breakpoint,
        State, //
    },
    space::Space,
};

use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::tasks_trace, //
};
use ubp_arch::{
    Vaddr,
    BREAKPOINT,
    MAX_INSN_SIZE, //
};

/// Puts the displaced bytes into `bytes`, which have been read at `addr`.
pub(crate) fn hide(space: &Space, addr: usize, bytes: &mut [u8]) {
    let guard = tasks_trace::read_lock();
    for bp in space.known_in(addr, addr.saturating_add(bytes.len()), &guard) {
        if matches!(bp.state(), State::Covered | State::Gone) {
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

/// Compares `bytes`, which have been read at `at`, with the original bytes, `expected`, but for the
/// first. An `int3` in the place of an original byte counts as that byte if a breakpoint displaces
/// it, because the caller may find other breakpoints' `int3`s beside its own.
///
/// Returns the number of bytes that were compared, including the first, or `None` if one differs.
/// It is lower than that of `expected` if `bytes` ends before.
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

/// Writes `bytes` to the text at `addr`, below the breakpoints. `copy` is called for parts of them,
/// with the offset, to copy them there.
///
/// The caller holds the mmap lock, for reading at least.
pub(crate) fn write(space: &Space, addr: usize, bytes: &[u8], mut copy: impl FnMut(usize, &[u8])) {
    // Keeps other writers away: what a breakpoint says of the text has to agree with it.
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

/// Accounts for a write to a breakpoint's instruction. Returns the offset in `bytes` where the
/// `int3` is to be in their stead.
fn written(bp: &Breakpoint, addr: usize, bytes: &[u8]) -> Option<usize> {
    let insn = bp.insn().bytes();
    let at = bp.at().as_usize();
    let (skip, first) = (addr.saturating_sub(at), at.saturating_sub(addr));
    let (old, new) = (insn.get(skip..)?, bytes.get(first..)?);
    let same = old.iter().zip(new).all(|(old, new)| old == new);
    let is_first = skip == 0;
    if bp.state() == State::Lost {
        if is_first {
            bp.change(State::Lost, State::Gone);
        }
        return None;
    }
    if same && is_first {
        // The state goes first: there may be a breakpoint without an `int3`, but no `int3` without
        // one.
        bp.change(State::Covered, State::Armed);
        // What is outdated stays so, and its `int3` is still there to be taken out.
        return matches!(bp.state(), State::Armed | State::Outdated).then_some(first);
    }
    // If it is not the whole that has been written, what follows may be as before, or not.
    let rest_same = old.iter().zip(new).skip(1).all(|(old, new)| old == new);
    if is_first && rest_same {
        bp.change(State::Armed, State::Covered);
        bp.change(State::Outdated, State::Gone);
    } else if is_first {
        bp.set_gone();
    } else if !same {
        bp.change(State::Covered, State::Gone);
        bp.change(State::Armed, State::Outdated);
    }
    None
}

/// The process of the current thread is going to be dumped, and will not execute any more: takes
/// all breakpoints out, so that the dump is of the program's text.
pub(crate) fn before_dump(mm: &MmWithUser, space: &Space) -> Result {
    let mmap = mm.mmap_write_lock();
    crate::insert::take_out_range(space, &mmap, 0, usize::MAX)
}
