// SPDX-License-Identifier: GPL-2.0

//! Return instructions of a function of known size.

use kernel::{
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
    Refusal,
    Refused,
    Vaddr, //
};

/// The largest function that is looked through, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// Instructions of a function that have been found so far.
struct Found {
    start: usize,
    end: usize,
    /// Where instructions begin, as offsets.
    starts: KVec<u32>,
    /// Where jumps within the function lead to, as offsets.
    targets: KVec<u32>,
    exits: KVec<Vaddr>,
}

/// Returns the addresses of the instructions by which the function returns that begins at `start`
/// and has `size` bytes.
///
/// Jumps through tables and registers are taken to stay within the function.
///
/// Context: may sleep; takes `mmap_lock`.
///
/// # Errors
///
/// `EOPNOTSUPP`: a jump leads out of the function, so that there may be other ways to leave it, or
/// it calls a part of itself, so that it may not return by each `ret`.
/// `EINVAL`: there is no return; or these are not the bytes of a whole function, or not only of
/// instructions: some cannot be decoded, the last one does not end with it, a jump leads into the
/// middle of one. `E2BIG`: more than a megabyte. Others as of [`insert`](ubp::insert).
pub(crate) fn return_instructions(
    mm: &MmWithUser,
    start: Vaddr,
    size: usize,
) -> Result<KVec<Vaddr>, Refused> {
    if size > MAX_SIZE {
        return Err(E2BIG.into());
    }
    let end = start.as_usize().checked_add(size).ok_or(EINVAL)?;
    let mut found = Found {
        start: start.as_usize(),
        end,
        starts: KVec::new(),
        targets: KVec::new(),
        exits: KVec::new(),
    };
    let mut at = start;
    while at.as_usize() < end {
        at = found.look_at(mm, at)?;
    }
    if at.as_usize() != end || !found.is_consistent() || found.exits.is_empty() {
        return Err(EINVAL.into());
    }
    Ok(found.exits)
}

impl Found {
    /// Looks at the instructions from `at` on, as many as can be without waiting for text that
    /// must be faulted in. Returns the address of the next one.
    fn look_at(&mut self, mm: &MmWithUser, at: Vaddr) -> Result<Vaddr, Refused> {
        let added = {
            let mmap = mm.mmap_write_lock_killable()?;
            self.add(&mmap, at)
        };
        match added {
            Err(Refused::Errno(EAGAIN)) => {
                fault_in_to_read(mm, at)?;
                Ok(at)
            }
            added => added,
        }
    }

    fn add(&mut self, mmap: &MmapWrite<'_>, first: Vaddr) -> Result<Vaddr, Refused> {
        let mut at = first;
        // Others get the lock in between.
        const AT_ONCE: usize = 256;
        for _ in 0..AT_ONCE {
            if at.as_usize() >= self.end {
                break;
            }
            let flowed = match flow_at(mmap, at, Depth::ENTRY) {
                Err(Refused::Insn(Refusal::Undecodable | Refusal::CutOff)) => {
                    return Err(EINVAL.into())
                }
                Err(Refused::Errno(EAGAIN)) if at != first => break,
                decoded => decoded?,
            };
            self.starts
                .push(self.offset(at), GFP_KERNEL)
                .map_err(Error::from)?;
            match flowed.flow {
                Flow::Call(Some(to)) if self.is_within(to, at, flowed.len) => {
                    return Err(EOPNOTSUPP.into());
                }
                Flow::Next | Flow::Call(_) | Flow::Anywhere | Flow::Nowhere => (),
                Flow::Return(_) => self.exits.push(at, GFP_KERNEL).map_err(Error::from)?,
                Flow::Branch(to) | Flow::Jump(to) => {
                    if !(self.start..self.end).contains(&to.as_usize()) {
                        return Err(EOPNOTSUPP.into());
                    }
                    let target = self.offset(to);
                    self.targets.push(target, GFP_KERNEL).map_err(Error::from)?;
                }
            }
            at = at.checked_add(flowed.len).ok_or(EINVAL)?;
        }
        Ok(at)
    }

    /// Returns whether a call at `at` calls a part of the function, whose `ret` may be none of the
    /// function then. A call of the next instruction reads the instruction pointer.
    fn is_within(&self, to: Vaddr, at: Vaddr, len: usize) -> bool {
        let parts = self.start + 1..self.end;
        parts.contains(&to.as_usize()) && at.checked_add(len) != Some(to)
    }

    /// Not larger than [`MAX_SIZE`].
    fn offset(&self, at: Vaddr) -> u32 {
        at.as_usize().wrapping_sub(self.start) as u32
    }

    /// Whether all jumps lead to where instructions begin.
    fn is_consistent(&self) -> bool {
        self.targets
            .iter()
            .all(|target| self.starts.binary_search(target).is_ok())
    }
}
