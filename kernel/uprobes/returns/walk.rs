// SPDX-License-Identifier: GPL-2.0

//! Control-flow walk: finds the return instructions of a function from its first instruction.
//!
//! # Jumps
//!
//! The walk follows jumps and branches within the mapping. They may lead to parts of the function
//! that the compiler has put elsewhere, or to another function, by a tail call: its return
//! instructions are return instructions of this function as well.
//!
//! # Calls
//!
//! The walk analyses the [callee](callees) of a direct call:
//!
//! - If the callee returns, the walk continues after the call, and accounts for the arguments that
//!   the callee pops.
//! - If the callee takes or changes its return address, the walk continues in the callee. Examples
//!   are Spectre thunks, and code that reads the instruction pointer.
//!
//! The walk assumes that an indirect call returns as the ABI says.
//!
//! Some calls do not return, because the callee ends the program or throws an exception. Another
//! function may follow such a call in memory. The walk detects this when it comes to a return
//! instruction and the stack pointer is not where it was at the entry, because a function has
//! something on the stack when it makes a call, if only to align the stack. Then nothing after the
//! call belongs to the function. In 32-bit code, a callee that pops its arguments would explain the
//! stack pointer as well, so the function does not count as followed.
//!
//! # Unknown return instructions
//!
//! If a path ends at the end of the mapping, or where the walk loses track of the stack pointer,
//! the function may have return instructions that the walk does not find. The same holds for a jump
//! by a register or a table, with one exception: the [extent](Extent) of the function is known, and
//! the function has something on the stack at the jump. Such a jump is no tail call. The walk
//! assumes that it stays within the function, and continues at all instructions of the function
//! that it has not reached otherwise.

use crate::{
    returns::{
        callees::{
            Callee,
            Callees, //
        },
        extent::{
            Extent,
            Frame, //
        },
        path::{
            Call,
            Inner,
            Path, //
        },
        seen::Seen, //
    },
    stack::word_size, //
};

use kernel::{
    insn::Mode,
    mm::{
        write::MmapWrite,
        MmWithUser, //
    },
    prelude::*,
    uprobes::Detection, //
};
use ubp::{
    fault_in_to_read,
    flow_at,
    Depth,
    Flow,
    InsertError,
    Refusal,
    Vaddr, //
};

/// Maximum number of steps of a walk.
const MAX_INSNS: usize = 20_000;

/// Maximum number of calls that turn out not to return.
const MAX_NORETURNS: usize = 256;

/// Maximum number of jumps by registers and tables, which the walk compares with each other.
const MAX_TABLES: usize = 1024;

/// Number of steps before `mmap_lock` is released for other threads.
const BATCH: usize = 256;

/// Result of a walk: the way in which a function returns.
pub(crate) struct Walked {
    /// Instructions by which the function returns.
    pub(crate) return_insns: KVec<Vaddr>,
    pub(crate) detection: Detection,
    /// Whether the function may jump to its first instruction, as in a circle of tail calls.
    pub(crate) may_reenter: bool,
}

/// Positions in an extent from which on there may be instructions that the walk has not reached.
struct Unreached {
    by_table: usize,
    by_runtime: usize,
}

struct Walk<'a> {
    mode: Mode,
    extent: Option<&'a Extent>,
    callees: Callees,
    paths: KVec<Path>,
    calls: KVec<Call>,
    /// Instructions that paths have reached.
    seen: Seen,
    /// Paths that have reached a range that the walk has seen.
    joined: KVec<Path>,
    /// Return instructions, each with the index of the last call on the path.
    return_insns: KVec<(Vaddr, Option<usize>)>,
    /// Paths that have reached a jump by a register or a table that stays within the extent.
    tables: KVec<Path>,
    /// Ends of paths after which there may be unknown return instructions, each with the index of
    /// the last call on the path.
    unknown: KVec<(Vaddr, Option<usize>)>,
    /// Depth of the stack at the direct calls of the extent.
    frame: Frame,
    /// A jump out of the extent, with something on the stack.
    split: Option<Vaddr>,
    /// Number of steps.
    insns: usize,
    /// Number of calls that have turned out not to return.
    noreturns: usize,
    entry: Vaddr,
    may_reenter: bool,
}

/// Finds the return instructions of the function that begins at `entry`.
///
/// Context: may sleep; takes `mmap_lock`.
///
/// # Errors
///
/// As for [`insert`](ubp::insert).
pub(crate) fn walk(
    mm: &MmWithUser,
    entry: Vaddr,
    extent: Option<&Extent>,
) -> Result<Walked, InsertError> {
    let mode = Mode::from_mm(mm);
    let mut walk = Walk {
        mode,
        extent: extent.filter(|extent| extent.is_plain()),
        callees: Callees::new(mode),
        paths: KVec::new(),
        calls: KVec::new(),
        seen: Seen::new(),
        joined: KVec::new(),
        return_insns: KVec::new(),
        tables: KVec::new(),
        unknown: KVec::new(),
        frame: Frame::Unknown,
        split: None,
        insns: 0,
        noreturns: 0,
        entry,
        may_reenter: false,
    };
    walk.push_path(Path {
        at: entry,
        depth: Depth::ENTRY,
        call: None,
        inner: None,
    })?;
    let mut unreached = Unreached {
        by_table: 0,
        by_runtime: 0,
    };
    while let Some(path) = walk.next_path(&mut unreached)? {
        let rest = {
            let mmap = mm.mmap_write_lock_killable()?;
            walk.follow(&mmap, path)?
        };
        match rest {
            Rest::Nothing => (),
            Rest::Path(path) => walk.push_path(path)?,
            Rest::Missing(path, at) => match fault_in_to_read(mm, at) {
                Err(EFAULT) if at != path.at => {
                    walk.callees.record(at, Callee::RETURNS)?;
                    walk.push_path(path)?;
                }
                Err(EFAULT) => walk.record_unknown(path.at, path.call)?,
                faulted_in => {
                    faulted_in?;
                    walk.push_path(path)?;
                }
            },
        }
    }
    Ok(walk.conclude()?)
}

/// Remaining part of a path.
enum Rest {
    Nothing,
    Path(Path),
    /// The text at the address must be faulted in.
    Missing(Path, Vaddr),
}

impl Walk<'_> {
    /// Returns the next path to follow. If none is left and the extent is known, returns a path to
    /// an instruction of the extent that the walk has not reached.
    fn next_path(&mut self, unreached: &mut Unreached) -> Result<Option<Path>> {
        if let Some(path) = self.paths.pop() {
            return Ok(Some(path));
        }
        let Some(extent) = self.extent.filter(|_| !self.is_exhausted()) else {
            return Ok(None);
        };
        if let Some(table) = self.table()? {
            while unreached.by_table < extent.len() {
                let at = extent.get(unreached.by_table);
                unreached.by_table += 1;
                if let Some(at) = at.filter(|at| !self.seen.has(*at)) {
                    return Ok(Some(Path { at, ..table }));
                }
            }
        }
        // Behind the end of the function, Go's runtime continues after a panic, with a call.
        while unreached.by_runtime < extent.len() {
            let index = unreached.by_runtime;
            unreached.by_runtime += 1;
            let (Some(at), Frame::At(depth)) = (extent.get(index), self.frame) else {
                continue;
            };
            let before = index.checked_sub(1).and_then(|index| extent.get(index));
            let is_begin = before.is_some_and(|before| self.seen.has(before));
            if is_begin && !self.seen.has(at) && extent.is_call(at) {
                return Ok(Some(Path {
                    at,
                    depth,
                    call: None,
                    inner: None,
                }));
            }
        }
        Ok(None)
    }

    /// Returns a path with the state at the jumps by tables. If the states differ, records that
    /// there may be unknown return instructions.
    fn table(&mut self) -> Result<Option<Path>> {
        let mut tables = core::mem::replace(&mut self.tables, KVec::new());
        tables.retain(|table| !self.is_unreachable(table.call));
        self.tables = tables;
        let Some(first) = self.tables.first().copied() else {
            return Ok(None);
        };
        if self.tables.iter().any(|table| table.depth != first.depth) {
            self.record_unknown(first.at, None)?;
            return Ok(None);
        }
        Ok(Some(first))
    }

    /// Returns whether the walk has reached one of its limits.
    fn is_exhausted(&self) -> bool {
        self.insns == MAX_INSNS || self.noreturns == MAX_NORETURNS || self.callees.is_exhausted()
    }

    fn push_path(&mut self, path: Path) -> Result {
        Ok(self.paths.push(path, GFP_KERNEL)?)
    }

    /// Returns whether a call does not return, or comes after a call that does not.
    fn is_unreachable(&self, call: Option<usize>) -> bool {
        call.and_then(|index| self.calls.get(index))
            .is_some_and(|call| call.noreturn)
    }

    /// Follows a path until it ends, or for at most [`BATCH`] steps.
    fn follow(&mut self, mmap: &MmapWrite<'_>, path: Path) -> Result<Rest, InsertError> {
        let mut path = path;
        for _ in 0..BATCH {
            if self.is_unreachable(path.call) {
                return Ok(Rest::Nothing);
            }
            if self.is_exhausted() {
                self.record_unknown(path.at, None)?;
                // The walk is incomplete whatever the other paths find.
                self.paths.clear();
                return Ok(Rest::Nothing);
            }
            self.insns += 1;
            if self.seen.has(path.at) {
                self.may_reenter |= path.at == self.entry && path.depth.sp() == Some(0);
                self.joined.push(path, GFP_KERNEL).map_err(Error::from)?;
                return Ok(Rest::Nothing);
            }
            let flowed = match flow_at(mmap, path.at, path.depth) {
                Ok(flowed) => flowed,
                Err(InsertError::Errno(EAGAIN)) => return Ok(Rest::Missing(path, path.at)),
                // No program executes these bytes. They may be data.
                Err(InsertError::Refused(Refusal::Undecodable | Refusal::CutOff))
                | Err(InsertError::Errno(EINVAL | EFAULT)) => {
                    self.record_unknown(path.at, path.call)?;
                    return Ok(Rest::Nothing);
                }
                Err(refused) => return Err(refused),
            };
            let Some(next) = path.at.checked_add(flowed.len) else {
                return Ok(Rest::Nothing);
            };
            let called = match flowed.flow {
                Flow::Call(Some(to)) => match self.callees.known(to) {
                    Some(callee) => Some((to, callee)),
                    // Releases the lock for other threads before the path continues.
                    None if self.callees.analyse(mmap, to)? => return Ok(Rest::Path(path)),
                    None => return Ok(Rest::Missing(path, to)),
                },
                _ => None,
            };
            self.seen.add(path.at, next, path.call)?;
            let (at, at_return) = (path.at, path.depth);
            if called.is_some() && self.extent.is_some_and(|extent| extent.contains(at)) {
                self.frame.add(path.depth);
            }
            path.depth = flowed.depth;
            path.inner = path.inner.and_then(|inner| inner.after(&flowed));
            path.at = match flowed.flow {
                Flow::Next => next,
                Flow::Call(_) => match called {
                    Some((to, Callee::TakesReturnAddress)) => {
                        path.depth = path.depth.deeper_by(word_size(self.mode) as i32);
                        let depth = path.depth.sp().filter(|_| path.inner.is_none());
                        let Some(depth) = depth else {
                            self.record_unknown(path.at, path.call)?;
                            return Ok(Rest::Nothing);
                        };
                        path.inner = Some(Inner {
                            depth,
                            address: Some(next),
                        });
                        to
                    }
                    Some((_, Callee::Returns(popped))) => {
                        path.depth = path.depth.deeper_by(-popped);
                        path.call = Some(self.record_call(path.call)?);
                        next
                    }
                    None => {
                        path.call = Some(self.record_call(path.call)?);
                        next
                    }
                },
                Flow::Branch(to) => {
                    self.record_leaving(at, to, path.depth);
                    self.push_path(Path { at: to, ..path })?;
                    next
                }
                Flow::Jump(to) => {
                    self.record_leaving(at, to, path.depth);
                    to
                }
                Flow::Return(popped) => match path.inner {
                    Some(Inner { depth, address }) if at_return.sp() == Some(depth) => {
                        let Some(address) = address else {
                            self.record_unknown(path.at, path.call)?;
                            return Ok(Rest::Nothing);
                        };
                        path.depth = at_return.deeper_by(-(word_size(self.mode) as i32) - popped);
                        path.inner = None;
                        address
                    }
                    _ => {
                        self.record_return(path.at, at_return, path.call)?;
                        return Ok(Rest::Nothing);
                    }
                },
                Flow::Indirect => {
                    self.record_jump(path, at)?;
                    return Ok(Rest::Nothing);
                }
                Flow::Stop => return Ok(Rest::Nothing),
            };
        }
        Ok(Rest::Path(path))
    }

    fn record_call(&mut self, before: Option<usize>) -> Result<usize> {
        let call = Call {
            before,
            noreturn: false,
        };
        self.calls.push(call, GFP_KERNEL)?;
        Ok(self.calls.len() - 1)
    }

    fn record_unknown(&mut self, at: Vaddr, call: Option<usize>) -> Result {
        Ok(self.unknown.push((at, call), GFP_KERNEL)?)
    }

    /// Records a jump by a register or a table, at `at`.
    fn record_jump(&mut self, path: Path, at: Vaddr) -> Result {
        let is_within = self.extent.is_some_and(|extent| extent.contains(at))
            && path.depth.sp().is_some_and(|sp| sp != 0)
            && path.inner.is_none()
            && self.tables.len() < MAX_TABLES;
        match is_within {
            true => Ok(self.tables.push(path, GFP_KERNEL)?),
            false => self.record_unknown(at, path.call),
        }
    }

    fn record_return(&mut self, return_insn: Vaddr, depth: Depth, call: Option<usize>) -> Result {
        match (depth.sp(), call) {
            (Some(0), _) => Ok(self.return_insns.push((return_insn, call), GFP_KERNEL)?),
            (Some(_), Some(call)) => {
                // The return instruction belongs to another function, because the last call has not
                // returned. In 32-bit code, the callee may have popped its arguments instead.
                if self.mode == Mode::Bits32 {
                    self.record_unknown(return_insn, None)?;
                }
                self.record_noreturn(call)
            }
            // The function may return here, although the walk does not find the stack pointer at
            // the return address.
            (Some(_), None) | (None, _) => self.record_unknown(return_insn, call),
        }
    }

    /// Records that a call does not return. Drops the ranges after it, and follows the paths that
    /// have ended there again, because paths within the function may reach the ranges in another
    /// way.
    fn record_noreturn(&mut self, call: usize) -> Result {
        self.noreturns += 1;
        for index in call..self.calls.len() {
            let before = self.calls.get(index).and_then(|call| call.before);
            if index == call || self.is_unreachable(before) {
                if let Some(call) = self.calls.get_mut(index) {
                    call.noreturn = true;
                }
            }
        }
        let mut seen = core::mem::replace(&mut self.seen, Seen::new());
        seen.retain(|call| !self.is_unreachable(call));
        self.seen = seen;
        self.paths.extend_from_slice(&self.joined, GFP_KERNEL)?;
        self.joined.clear();
        Ok(())
    }

    /// Records that there may be unknown return instructions, if the walk has not reached an
    /// instruction by which a thread leaves the extent. It gets no breakpoint, because it may be
    /// data. Nor does the extent describe the function if tables may lead to a part elsewhere.
    fn record_unreached(&mut self) -> Result {
        let Some(extent) = self.extent else {
            return Ok(());
        };
        if let Some(at) = extent.leaving().find(|at| !self.seen.has(*at)) {
            self.record_unknown(at, None)?;
        }
        match self.split {
            Some(at) if !self.tables.is_empty() => self.record_unknown(at, None),
            _ => Ok(()),
        }
    }

    /// Records a jump out of the extent.
    fn record_leaving(&mut self, at: Vaddr, to: Vaddr, depth: Depth) {
        if let Some(extent) = self.extent {
            let is_leaving = extent.contains(at) && !extent.contains(to);
            if is_leaving && depth.sp() != Some(0) {
                self.split = Some(at);
            }
        }
    }

    fn conclude(mut self) -> Result<Walked> {
        self.record_unreached()?;
        let mut return_insns = KVec::with_capacity(self.return_insns.len(), GFP_KERNEL)?;
        for (return_insn, call) in &self.return_insns {
            if !self.is_unreachable(*call) {
                return_insns.push(*return_insn, GFP_KERNEL)?;
            }
        }
        // A function without return instructions counts as followed, because it ends in a call that
        // does not return.
        let unknown = self.unknown.iter().find(|it| !self.is_unreachable(it.1));
        let owns = |extent: &Extent| return_insns.iter().all(|at| extent.contains(*at));
        let detection = match unknown {
            None if self.extent.is_some_and(owns) => Detection::OwnReturnInsns,
            None => Detection::ReturnInsns,
            Some((walk_end, _)) => Detection::ReturnAddress {
                walk_end: walk_end.as_usize(),
            },
        };
        Ok(Walked {
            return_insns,
            detection,
            may_reenter: self.may_reenter,
        })
    }
}
