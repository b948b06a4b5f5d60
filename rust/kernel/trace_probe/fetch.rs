// SPDX-License-Identifier: GPL-2.0

//! An entry that is put together before it is recorded.
//!
//! The interpreter of fetch instructions reads the memory of the task, which may sleep, so that its
//! results cannot go to a trace buffer directly: what needs room there must not sleep until it is
//! committed.
//!
//! C header: [`kernel/trace/trace_probe_tmpl.h`](srctree/kernel/trace/trace_probe_tmpl.h)

use super::kind::{
    Entry,
    Head, //
};
use crate::{
    alloc::AllocError,
    bindings,
    ffi::c_ulong,
    prelude::*,
    ptregs::PtRegs, //
};
use core::{
    mem::{
        size_of,
        MaybeUninit, //
    },
    ptr, //
};

/// Largest entry. Strings that do not fit are cut off.
///
/// A page of a trace buffer has room for it beside what the buffer itself needs there.
const MAX_ENTRY: usize = 4096 - 64;

/// Largest entry that is put together on the stack. For others memory is allocated.
const MAX_ON_STACK: usize = 512;

static_assert!(size_of::<Entry>() + (bindings::MAX_PROBE_EVENT_SIZE as usize) < MAX_ENTRY);

/// What an entry is made from.
pub(super) struct Source<'a> {
    pub(super) head: Head,
    pub(super) args: &'a [bindings::probe_arg],
    /// Bytes of the arguments, not counting what is in strings.
    pub(super) fixed: usize,
    pub(super) regs: &'a PtRegs,
    pub(super) file_base: usize,
}

impl Source<'_> {
    /// Puts the entry together, and calls `f` with it. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory to put it together.
    pub(super) fn with_entry(&self, f: impl FnOnce(&[u8])) -> Result<(), AllocError> {
        let len = self.entry_len();
        let mut buffer = [MaybeUninit::<u64>::uninit(); MAX_ON_STACK / size_of::<u64>()];
        let mut allocated;

        let entry = match zeroed(&mut buffer, len) {
            Some(entry) => entry,
            None => {
                allocated = KVec::from_elem(0, len, GFP_KERNEL)?;
                &mut allocated
            }
        };
        self.store(entry);
        f(entry);
        Ok(())
    }

    /// Length that the entry needs, as things are now.
    #[inline]
    fn entry_len(&self) -> usize {
        let mut len = self.head.len() + self.fixed;
        let mut has_strings = false;

        for arg in self.args.iter().filter(|arg| arg.dynamic) {
            // SAFETY: Without a destination, nothing is written.
            let needed = unsafe { self.fetch(arg, ptr::null_mut(), ptr::null_mut()) };

            has_strings = true;
            len = len.saturating_add(needed.unwrap_or(0));
        }
        // One more byte, see `store()`.
        len.saturating_add(usize::from(has_strings)).min(MAX_ENTRY)
    }

    /// Fetches all arguments into `entry`, which is zero and at least as long as the head and the
    /// fixed part need.
    ///
    /// Where there are strings, the last byte of the entry stays zero. It is what strings that
    /// cannot be read consist of, so that nobody who looks for their end leaves the entry.
    #[inline]
    fn store(&self, entry: &mut [u8]) {
        let Some(end) = entry.len().checked_sub(1) else {
            return;
        };
        let mut next = self.head.len() + self.fixed;
        let base = entry.as_mut_ptr();

        debug_assert!(next <= entry.len());
        // SAFETY: There is room for the head.
        unsafe { self.head.store(base) };

        for arg in self.args {
            // SAFETY: The parser gave every argument its own place in the fixed part.
            let dest = unsafe { base.add(self.head.len() + arg.offset as usize) };
            if !arg.dynamic {
                // An argument that cannot be fetched is zero.
                // SAFETY: As above, and it is as long as its type says.
                let _ = unsafe { self.fetch(arg, dest, base) };
                continue;
            }

            let room = end.saturating_sub(next);
            // SAFETY: A string has its location in the fixed part, and up to `end` there is room.
            let fetched = unsafe {
                locate(dest, next, room);
                self.fetch(arg, dest, base)
            };
            match fetched {
                Some(len) => next += len.min(room),
                None => {
                    for i in 0..arg.count.max(1) as usize {
                        // SAFETY: As above; an array has a location for each element.
                        unsafe { locate(dest.add(i * size_of::<u32>()), end, 0) };
                    }
                }
            }
        }
    }

    /// Fetches an argument to `dest`, or finds out how much room its strings need, if `dest` is
    /// null. Returns how much room that is, or [`None`] if the argument cannot be fetched.
    ///
    /// # Safety
    ///
    /// `dest` must be null or have room for the argument. For one with strings it must then locate
    /// room for them, relative to `base`.
    // The fetch instructions' interpreter is large, and has a large frame, so there is one of it.
    #[inline(never)]
    unsafe fn fetch(
        &self,
        arg: &bindings::probe_arg,
        dest: *mut u8,
        base: *mut u8,
    ) -> Option<usize> {
        // SAFETY: The argument is parsed and is not changed by being fetched, nor are the
        // registers, which are valid. The rest is by the safety requirements.
        let ret = unsafe {
            bindings::trace_probe_fetch_arg(
                ptr::from_ref(arg).cast_mut(),
                self.regs.as_ptr(),
                self.file_base as c_ulong,
                dest.cast(),
                base.cast(),
            )
        };
        usize::try_from(ret).ok()
    }
}

/// The first `len` bytes of `buffer`, as zeros, if it has so many.
#[inline]
fn zeroed(buffer: &mut [MaybeUninit<u64>], len: usize) -> Option<&mut [u8]> {
    let words = buffer.get_mut(..len.div_ceil(size_of::<u64>()))?;

    words.fill(MaybeUninit::new(0));
    // SAFETY: The words have been initialised, and have at least `len` bytes.
    Some(unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) })
}

/// Writes the location of a string: its offset in the entry, and its length above that.
///
/// # Safety
///
/// At `dest` there must be room for it.
#[inline]
unsafe fn locate(dest: *mut u8, offset: usize, len: usize) {
    // CAST: Both are at most `MAX_ENTRY`, and so fit into 16 bits.
    let location = (len as u32) << 16 | offset as u32;

    // SAFETY: By the safety requirements.
    unsafe { dest.cast::<u32>().write_unaligned(location) };
}
