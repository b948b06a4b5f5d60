// SPDX-License-Identifier: GPL-2.0

//! A hit: the arguments are fetched and the entry is written to the trace buffers.
//!
//! The memory of the task is read first, as that may sleep, into a buffer of our own. What needs
//! room in a trace buffer must not sleep until it is committed, so the entry is copied there.
//!
//! C header: [`kernel/trace/trace_probe_tmpl.h`](srctree/kernel/trace/trace_probe_tmpl.h)

use super::{
    kind::{
        Entry,
        Kind, //
    },
    Probe,
    ProbeEvent, //
};
use crate::{
    alloc::AllocError,
    bindings,
    ffi::c_ulong,
    prelude::*,
    ptregs::PtRegs,
    sync::rcu,
    types::NotThreadSafe, //
};
use core::{
    mem::{
        offset_of,
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

impl<T: ProbeEvent> Probe<T> {
    /// Records a hit of the current task, or a return, in the trace buffers for which the event is
    /// enabled. `at` is the address of the probed instruction, or that which is returned to. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// An error means that the hit was lost, as there was no memory to put the entry together.
    #[inline]
    pub fn trace(&self, at: usize, regs: &PtRegs) -> Result<(), AllocError> {
        if !self.is_live() {
            return Ok(());
        }

        let place = self.place();
        let kind = self.args.kind();
        let source = Source {
            head: kind.head_len(),
            addresses: match kind {
                Kind::Hit => [at, 0],
                Kind::Return => [place.address(), at],
            },
            args: self.args.as_slice(),
            fixed: self.args.size(),
            regs,
            file_base: place.file_base().unwrap_or(0),
        };
        let len = source.entry_len();
        let mut buffer = [MaybeUninit::<u64>::uninit(); MAX_ON_STACK / size_of::<u64>()];

        match zeroed(&mut buffer, len) {
            Some(entry) => self.trace_with(&source, entry),
            None => self.trace_with(&source, &mut KVec::from_elem(0, len, GFP_KERNEL)?),
        }
        Ok(())
    }

    /// Puts the entry together in `entry`, and copies it to the trace buffers.
    fn trace_with(&self, source: &Source<'_>, entry: &mut [u8]) {
        source.store(entry);

        let _rcu = rcu::read_lock();
        if !self.is_live() {
            return;
        }

        let tp = self.args.as_ptr();
        let mut link = ptr::null_mut();
        loop {
            // SAFETY: The probe is linked to its event while we are in the RCU read-side critical
            // section, which also keeps each link, once found, and its file.
            link = unsafe { bindings::trace_probe_next_link_rcu(tp, link) };
            if link.is_null() {
                break;
            }
            // SAFETY: As above.
            unsafe { write((*link).file, entry) };
        }
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

/// Copies `entry` to the buffer of a file. The file's triggers and filter have their say.
///
/// # Safety
///
/// `file` must exist, and be a file of the event that the entry is of.
unsafe fn write(file: *mut bindings::trace_event_file, entry: &[u8]) {
    // SAFETY: By the safety requirements the file exists.
    if unsafe { bindings::trace_trigger_soft_disabled(file) } {
        return;
    }

    // The core takes away one level of disabled preemption from what it records, which is that of
    // the tracepoints that it expects to be called from.
    let _no_preemption = NoPreemption::new();
    let mut slot = MaybeUninit::<bindings::trace_event_buffer>::uninit();
    // SAFETY: The file exists, and `slot` is for the function to initialise.
    let to = unsafe {
        bindings::trace_event_buffer_reserve(slot.as_mut_ptr(), file, entry.len() as c_ulong)
    };
    if to.is_null() {
        return;
    }

    // What all entries begin with has just been written there.
    let skip = offset_of!(Entry, addresses);
    // SAFETY: As many bytes as `entry` has have been reserved, and it has at least a head. The
    // reservation is ours to commit.
    unsafe {
        ptr::copy_nonoverlapping(
            entry.as_ptr().add(skip),
            to.cast::<u8>().add(skip),
            entry.len() - skip,
        );
        bindings::trace_event_buffer_commit(slot.as_mut_ptr());
    }
}

/// Keeps the current task from being preempted.
struct NoPreemption(NotThreadSafe);

impl NoPreemption {
    #[inline]
    fn new() -> Self {
        // SAFETY: What is disabled here is enabled again by `drop()`.
        unsafe { bindings::preempt_disable_notrace() };
        Self(NotThreadSafe)
    }
}

impl Drop for NoPreemption {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Disabled by `new()`, in the same task.
        unsafe { bindings::preempt_enable_notrace() };
    }
}

/// What an entry is made from.
struct Source<'a> {
    /// Bytes before the arguments.
    head: usize,
    /// As many as have room there are stored.
    addresses: [usize; 2],
    args: &'a [bindings::probe_arg],
    /// Bytes of the arguments, not counting what is in strings.
    fixed: usize,
    regs: &'a PtRegs,
    file_base: usize,
}

impl Source<'_> {
    /// Length that the entry needs, as things are now.
    #[inline]
    fn entry_len(&self) -> usize {
        let mut len = self.head + self.fixed;
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
        let mut next = self.head + self.fixed;
        let base = entry.as_mut_ptr();

        debug_assert!(next <= entry.len());
        let places = (offset_of!(Entry, addresses)..self.head).step_by(size_of::<c_ulong>());
        for (at, address) in places.zip(self.addresses) {
            // SAFETY: There is room for the head.
            unsafe {
                base.add(at)
                    .cast::<c_ulong>()
                    .write_unaligned(address as c_ulong)
            };
        }

        for arg in self.args {
            // SAFETY: The parser gave every argument its own place in the fixed part.
            let dest = unsafe { base.add(self.head + arg.offset as usize) };
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
