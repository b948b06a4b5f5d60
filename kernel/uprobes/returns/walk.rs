// SPDX-License-Identifier: GPL-2.0

//! The control-flow walk: the return instructions of a function whose size is not known, found by
//! following it from its first instruction.
//!
//! The walk follows jumps and branches, also those to parts that the compiler has put elsewhere and
//! to other functions, whose returns are then this one's (tail calls), as long as they stay within
//! the mapping. A direct call is one of a [callee](callees) that
//!
//! - returns, with its arguments off the stack or not: the walk goes on behind the call;
//! - takes or changes its own return address, as the thunks against Spectre do, and code that reads
//!   the instruction pointer: the walk goes on in it.
//!
//! An indirect call is taken to return as the ABI says. Some calls do not return, as those of
//! functions that end the program or throw exceptions, and another function comes after such a
//! call. The walk sees that when it gets to a return there, where the stack pointer is not where it
//! was at the entry: the caller has something on the stack, if only to align it. Nothing after the
//! call belongs to the function then. In 32-bit code the callee may also have taken its arguments
//! off the stack, so that nothing is known of the function's returns.
//!
//! A path ends where a register says where it goes on, or where the mapping does, or where the
//! stack cannot be followed. There may be other return instructions then.

use crate::returns::callees::{
    callee,
    word,
    Callee, //
};

use kernel::{
    insn::Mode,
    mm::{
        write::MmapWrite,
        MmWithUser, //
    },
    prelude::*, //
};
use ubp::{
    fault_in_to_read,
    flow_at,
    Depth,
    Flow,
    Flowed,
    Refusal,
    Refused,
    Vaddr, //
};

/// How many instructions are looked at, and come to again.
const MAX_INSNS: usize = 20_000;

/// How many calls may turn out not to return.
const MAX_ENDS: usize = 256;

/// How many with the lock held.
const AT_ONCE: usize = 256;

/// How a function returns.
pub(crate) struct Walked {
    /// Instructions by which it returns.
    pub(crate) exits: KVec<Vaddr>,
    /// Whether there are no others.
    pub(crate) complete: bool,
}

/// Where to go on.
#[derive(Clone, Copy)]
struct Path {
    at: Vaddr,
    depth: Depth,
    /// The last call before, as an index of [`Walk::calls`].
    call: Option<usize>,
    /// In a callee that the walk has gone on in.
    inner: Option<Inner>,
}

/// The return address of a callee.
#[derive(Clone, Copy)]
struct Inner {
    /// How deep it is on the stack.
    depth: i32,
    /// Its value, unless the callee has changed it.
    address: Option<Vaddr>,
}

/// A call that has been passed.
struct Call {
    before: Option<usize>,
    /// It does not return, or comes after one that does not.
    ends: bool,
}

/// A range of instructions that the walk has seen.
struct Range {
    start: usize,
    end: usize,
    /// The last call before.
    call: Option<usize>,
}

struct Walk {
    mode: Mode,
    /// The callees that have been looked at.
    callees: KVec<(Vaddr, Callee)>,
    paths: KVec<Path>,
    calls: KVec<Call>,
    /// In the order of addresses.
    seen: KVec<Range>,
    /// Paths that have come to a range that the walk has seen.
    joined: KVec<Path>,
    exits: KVec<(Vaddr, Option<usize>)>,
    /// Where returns may be that are not found, as the index of the last call before.
    open: KVec<Option<usize>>,
    insns: usize,
    ends: usize,
}

/// Finds out how the function returns that begins at an address.
///
/// Context: may sleep; takes `mmap_lock`.
///
/// # Errors
///
/// As of [`insert`](ubp::insert).
pub(crate) fn walk(mm: &MmWithUser, entry: Vaddr) -> Result<Walked, Refused> {
    let mut walk = Walk {
        mode: Mode::of_mm(mm),
        callees: KVec::new(),
        paths: KVec::new(),
        calls: KVec::new(),
        seen: KVec::new(),
        joined: KVec::new(),
        exits: KVec::new(),
        open: KVec::new(),
        insns: 0,
        ends: 0,
    };
    walk.go_on_later(Path {
        at: entry,
        depth: Depth::ENTRY,
        call: None,
        inner: None,
    })?;
    while let Some(path) = walk.paths.pop() {
        let rest = {
            let mmap = mm.mmap_write_lock_killable()?;
            walk.follow(&mmap, path)?
        };
        match rest {
            Rest::Nothing => (),
            Rest::Path(path) => walk.go_on_later(path)?,
            Rest::Missing(path, at) => match fault_in_to_read(mm, at) {
                Err(EFAULT) if at != path.at => {
                    walk.note_callee(at, Callee::RETURNS)?;
                    walk.go_on_later(path)?;
                }
                Err(EFAULT) => walk.note_open(path.call)?,
                faulted_in => {
                    faulted_in?;
                    walk.go_on_later(path)?;
                }
            },
        }
    }
    Ok(walk.conclude()?)
}

/// The rest of a path.
enum Rest {
    Nothing,
    Path(Path),
    /// The text at the address must be faulted in.
    Missing(Path, Vaddr),
}

impl Inner {
    /// Returns the state after an instruction; `None` once the address is off the stack.
    fn after(self, flowed: &Flowed) -> Option<Self> {
        let sp = flowed.depth.sp()?;
        let is_changed = flowed.writes == Some(self.depth);
        let address = self.address.filter(|_| !is_changed);
        (sp >= self.depth).then_some(Self { address, ..self })
    }
}

impl Walk {
    fn go_on_later(&mut self, path: Path) -> Result {
        Ok(self.paths.push(path, GFP_KERNEL)?)
    }

    /// Whether a call is one that does not return, or comes after such a one.
    fn is_beyond(&self, call: Option<usize>) -> bool {
        call.and_then(|index| self.calls.get(index))
            .is_some_and(|call| call.ends)
    }

    /// Follows a path until it ends, or for a while.
    fn follow(&mut self, mmap: &MmapWrite<'_>, path: Path) -> Result<Rest, Refused> {
        let mut path = path;
        for _ in 0..AT_ONCE {
            if self.is_beyond(path.call) {
                return Ok(Rest::Nothing);
            }
            if self.insns == MAX_INSNS || self.ends == MAX_ENDS {
                self.open.push(None, GFP_KERNEL).map_err(Error::from)?;
                // It is not going to be known.
                self.paths.clear();
                return Ok(Rest::Nothing);
            }
            self.insns += 1;
            if self.has_seen(path.at) {
                self.joined.push(path, GFP_KERNEL).map_err(Error::from)?;
                return Ok(Rest::Nothing);
            }
            let flowed = match flow_at(mmap, path.at, path.depth) {
                Ok(flowed) => flowed,
                Err(Refused::Errno(EAGAIN)) => return Ok(Rest::Missing(path, path.at)),
                // No program executes this, but the bytes may not be a program.
                Err(Refused::Insn(Refusal::Undecodable | Refusal::CutOff))
                | Err(Refused::Errno(EINVAL | EFAULT)) => {
                    self.note_open(path.call)?;
                    return Ok(Rest::Nothing);
                }
                Err(refused) => return Err(refused),
            };
            let Some(next) = path.at.checked_add(flowed.len) else {
                return Ok(Rest::Nothing);
            };
            let called = match flowed.flow {
                Flow::Call(Some(to)) => match self.known_callee(to) {
                    Some(callee) => Some((to, callee)),
                    // Others get the lock before the path goes on.
                    None if self.look_at_callee(mmap, to)? => return Ok(Rest::Path(path)),
                    None => return Ok(Rest::Missing(path, to)),
                },
                _ => None,
            };
            self.see(path.at, next, path.call)?;
            let at_return = path.depth;
            path.depth = flowed.depth;
            path.inner = path.inner.and_then(|inner| inner.after(&flowed));
            path.at = match flowed.flow {
                Flow::Next => next,
                Flow::Call(_) => match called {
                    Some((to, Callee::TakesReturnAddress)) => {
                        path.depth = path.depth.deeper_by(word(self.mode));
                        let depth = path.depth.sp().filter(|_| path.inner.is_none());
                        let Some(depth) = depth else {
                            self.note_open(path.call)?;
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
                        path.call = Some(self.note_call(path.call)?);
                        next
                    }
                    None => {
                        path.call = Some(self.note_call(path.call)?);
                        next
                    }
                },
                Flow::Branch(to) => {
                    self.go_on_later(Path { at: to, ..path })?;
                    next
                }
                Flow::Jump(to) => to,
                Flow::Return(popped) => match path.inner {
                    Some(Inner { depth, address }) if at_return.sp() == Some(depth) => {
                        let Some(address) = address else {
                            self.note_open(path.call)?;
                            return Ok(Rest::Nothing);
                        };
                        path.depth = at_return.deeper_by(-word(self.mode) - popped);
                        path.inner = None;
                        address
                    }
                    _ => {
                        self.note_return(path.at, at_return, path.call)?;
                        return Ok(Rest::Nothing);
                    }
                },
                Flow::Anywhere => {
                    self.note_open(path.call)?;
                    return Ok(Rest::Nothing);
                }
                Flow::Nowhere => return Ok(Rest::Nothing),
            };
        }
        Ok(Rest::Path(path))
    }

    /// Returns how a callee treats its return address, if the walk has looked at it.
    fn known_callee(&self, at: Vaddr) -> Option<Callee> {
        let known = self.callees.iter().find(|(known, _)| *known == at)?;
        Some(known.1)
    }

    /// Looks at a callee. Returns whether its text is present.
    fn look_at_callee(&mut self, mmap: &MmapWrite<'_>, at: Vaddr) -> Result<bool> {
        let found = match callee(mmap, at, self.mode) {
            Ok(found) => found,
            Err(Refused::Errno(EAGAIN)) => return Ok(false),
            Err(Refused::Errno(ENOMEM)) => return Err(ENOMEM),
            // The call raises an exception; or it is none.
            Err(_) => Callee::RETURNS,
        };
        self.note_callee(at, found)?;
        Ok(true)
    }

    fn note_callee(&mut self, at: Vaddr, found: Callee) -> Result {
        Ok(self.callees.push((at, found), GFP_KERNEL)?)
    }

    fn note_call(&mut self, before: Option<usize>) -> Result<usize> {
        let call = Call {
            before,
            ends: false,
        };
        self.calls.push(call, GFP_KERNEL)?;
        Ok(self.calls.len() - 1)
    }

    fn note_open(&mut self, call: Option<usize>) -> Result {
        Ok(self.open.push(call, GFP_KERNEL)?)
    }

    fn note_return(&mut self, at: Vaddr, depth: Depth, call: Option<usize>) -> Result {
        match (depth.sp(), call) {
            (Some(0), _) => Ok(self.exits.push((at, call), GFP_KERNEL)?),
            (Some(_), Some(call)) => {
                // It is another function's, so that the call before has not returned; or that has
                // taken something off the stack.
                if self.mode == Mode::Bits32 {
                    self.note_open(None)?;
                }
                self.note_end(call)
            }
            // It returns in a way of its own, or not.
            (Some(_), None) | (None, _) => self.note_open(call),
        }
    }

    /// A call does not return: forgets the ranges after it, which other paths may come to that are
    /// of the function.
    fn note_end(&mut self, call: usize) -> Result {
        self.ends += 1;
        for index in call..self.calls.len() {
            let before = self.calls.get(index).and_then(|call| call.before);
            if index == call || self.is_beyond(before) {
                if let Some(call) = self.calls.get_mut(index) {
                    call.ends = true;
                }
            }
        }
        let mut seen = core::mem::replace(&mut self.seen, KVec::new());
        seen.retain(|range| !self.is_beyond(range.call));
        self.seen = seen;
        self.paths.extend_from_slice(&self.joined, GFP_KERNEL)?;
        self.joined.clear();
        Ok(())
    }

    fn position(&self, at: usize) -> usize {
        self.seen.partition_point(|range| range.start <= at)
    }

    fn has_seen(&self, at: Vaddr) -> bool {
        let at = at.as_usize();
        let before = self.position(at).checked_sub(1);
        before
            .and_then(|index| self.seen.get(index))
            .is_some_and(|range| at < range.end)
    }

    fn see(&mut self, from: Vaddr, to: Vaddr, call: Option<usize>) -> Result {
        let (start, end) = (from.as_usize(), to.as_usize());
        let position = self.position(start);
        let before = position.checked_sub(1);
        if let Some(range) = before.and_then(|index| self.seen.get_mut(index)) {
            if range.end == start && range.call == call {
                range.end = end;
                return Ok(());
            }
        }
        self.seen.reserve(1, GFP_KERNEL)?;
        self.seen
            .insert_within_capacity(position, Range { start, end, call })
            .map_err(|_| ENOMEM)
    }

    fn conclude(self) -> Result<Walked> {
        let mut exits = KVec::with_capacity(self.exits.len(), GFP_KERNEL)?;
        for (at, call) in &self.exits {
            if !self.is_beyond(*call) {
                exits.push(*at, GFP_KERNEL)?;
            }
        }
        // One that has no exits ends in a call that does not return.
        let complete = self.open.iter().all(|call| self.is_beyond(*call));
        Ok(Walked { exits, complete })
    }
}
