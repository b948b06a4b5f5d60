// SPDX-License-Identifier: GPL-2.0

//! Extent of a function, from the size that the caller of [`register`](crate::register) has given.
//!
//! The walk cannot follow a jump by a register or a table. If the extent is known, the walk
//! continues at the instructions of the function that it has not reached otherwise. The function
//! also returns by return instructions that the walk never reaches, because a runtime may continue
//! there, as Go's does after a panic.

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
    InsertError,
    Refusal,
    Vaddr, //
};

/// Maximum size of a function, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// Number of instructions to decode before `mmap_lock` is released for other threads.
const BATCH: usize = 256;

/// Depth of the stack at the direct calls that a function makes with something on the stack.
#[derive(Clone, Copy)]
pub(crate) enum Frame {
    Unknown,
    At(Depth),
    Varies,
}

impl Frame {
    /// Adds the depth at a call. Go grows the stack by a call from before the frame, which does not
    /// count.
    pub(crate) fn add(&mut self, depth: Depth) {
        if depth.sp() == Some(0) {
            return;
        }
        *self = match *self {
            Self::Unknown => Self::At(depth),
            Self::At(known) if known.sp() == depth.sp() => *self,
            Self::At(_) | Self::Varies => Self::Varies,
        };
    }
}

/// The instructions of a function of known size.
pub(crate) struct Extent {
    start: usize,
    end: usize,
    /// Offsets of the instructions.
    starts: KVVec<u32>,
    /// Offsets of the targets of jumps within the function.
    targets: KVVec<u32>,
    /// Direct calls, as offsets.
    calls: KVVec<u32>,
    /// Return instructions, and jumps out of the function or by a register or a table, as offsets.
    leaving: KVVec<u32>,
    /// Whether the function calls a part of itself. The return instructions of such a part do not
    /// return from the function.
    calls_part: bool,
}

impl Extent {
    /// Decodes the instructions of the function that begins at `start` and has `size` bytes.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the bytes are not the instructions of a whole function. Some cannot be decoded,
    /// the last instruction does not end with the extent, a jump leads into the middle of an
    /// instruction, or no instruction returns or jumps out of the extent. `E2BIG`: the size is more
    /// than a megabyte. Others as for [`insert`](ubp::insert).
    pub(crate) fn new(mm: &MmWithUser, start: Vaddr, size: usize) -> Result<Self, InsertError> {
        if size > MAX_SIZE {
            return Err(E2BIG.into());
        }
        let end = start.as_usize().checked_add(size).ok_or(EINVAL)?;
        let mut extent = Self {
            start: start.as_usize(),
            end,
            starts: KVVec::new(),
            targets: KVVec::new(),
            calls: KVVec::new(),
            leaving: KVVec::new(),
            calls_part: false,
        };
        let mut at = start;
        while at.as_usize() < end {
            at = extent.decode(mm, at)?;
        }
        if at.as_usize() != end || !extent.is_consistent() || extent.leaving.is_empty() {
            return Err(EINVAL.into());
        }
        Ok(extent)
    }

    /// Decodes up to [`BATCH`] instructions from `at` on. Returns the address of the next one.
    fn decode(&mut self, mm: &MmWithUser, at: Vaddr) -> Result<Vaddr, InsertError> {
        let decoded = {
            let mmap = mm.mmap_write_lock_killable()?;
            self.decode_locked(&mmap, at)
        };
        match decoded {
            Err(InsertError::Errno(EAGAIN)) => {
                fault_in_to_read(mm, at)?;
                Ok(at)
            }
            decoded => decoded,
        }
    }

    fn decode_locked(&mut self, mmap: &MmapWrite<'_>, first: Vaddr) -> Result<Vaddr, InsertError> {
        let mut at = first;
        for _ in 0..BATCH {
            if at.as_usize() >= self.end {
                break;
            }
            let flowed = match flow_at(mmap, at, Depth::ENTRY) {
                Err(InsertError::Refused(Refusal::Undecodable | Refusal::CutOff)) => {
                    return Err(EINVAL.into())
                }
                Err(InsertError::Errno(EAGAIN)) if at != first => break,
                decoded => decoded?,
            };
            let offset = self.offset(at);
            self.starts.push(offset, GFP_KERNEL).map_err(Error::from)?;
            match flowed.flow {
                Flow::Branch(to) | Flow::Jump(to) if self.contains(to) => {
                    let target = self.offset(to);
                    self.targets.push(target, GFP_KERNEL).map_err(Error::from)?;
                }
                Flow::Branch(_) | Flow::Jump(_) | Flow::Indirect | Flow::Return(_) => {
                    self.leaving.push(offset, GFP_KERNEL).map_err(Error::from)?;
                }
                Flow::Call(Some(to)) => {
                    self.calls.push(offset, GFP_KERNEL).map_err(Error::from)?;
                    self.calls_part |= self.is_part(to, at, flowed.len);
                }
                Flow::Next | Flow::Call(None) | Flow::Stop => (),
            }
            at = at.checked_add(flowed.len).ok_or(EINVAL)?;
        }
        Ok(at)
    }

    /// Returns whether an address is within the function.
    pub(crate) fn contains(&self, at: Vaddr) -> bool {
        (self.start..self.end).contains(&at.as_usize())
    }

    /// Returns all instructions by which a thread may leave the function, except for calls.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = Vaddr> + '_ {
        self.leaving.iter().map(|offset| self.address(*offset))
    }

    /// Returns whether the instruction at an address is a direct call.
    pub(crate) fn is_call(&self, at: Vaddr) -> bool {
        self.calls.binary_search(&self.offset(at)).is_ok()
    }

    /// Returns the number of instructions.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns the address of the instruction with an index.
    pub(crate) fn get(&self, index: usize) -> Option<Vaddr> {
        Some(self.address(*self.starts.get(index)?))
    }

    fn address(&self, offset: u32) -> Vaddr {
        Vaddr::new(self.start + offset as usize)
    }

    /// Returns the offset of an address in the function, which is less than [`MAX_SIZE`].
    fn offset(&self, at: Vaddr) -> u32 {
        at.as_usize().wrapping_sub(self.start) as u32
    }

    /// Returns whether the instruction at `at`, a call of `to`, calls a part of the function. A
    /// call of the next instruction does not count, because it only reads the instruction pointer.
    fn is_part(&self, to: Vaddr, at: Vaddr, len: usize) -> bool {
        let is_recursion = to.as_usize() == self.start;
        self.contains(to) && !is_recursion && at.checked_add(len) != Some(to)
    }

    /// Returns whether the function calls no part of itself. Otherwise not all of its return
    /// instructions are returns of the function.
    pub(crate) fn is_plain(&self) -> bool {
        !self.calls_part
    }

    /// Returns whether all jumps within the function lead to the beginning of an instruction.
    fn is_consistent(&self) -> bool {
        self.targets
            .iter()
            .all(|target| self.starts.binary_search(target).is_ok())
    }
}
