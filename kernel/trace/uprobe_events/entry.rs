// SPDX-License-Identifier: GPL-2.0

//! Entries of a trace buffer: their head, which depends on the kind of the probe, and the arguments
//! after it.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use crate::{
    args::interpret,
    probe::EventProbe, //
};
use core::{
    mem::{
        offset_of,
        size_of,
        MaybeUninit, //
    },
    ptr, //
};
use kernel::{
    alloc::AllocError,
    bindings,
    ffi::{
        c_uint,
        c_ulong, //
    },
    prelude::*,
    ptregs::PtRegs, //
};

/// Maximum size of an entry. Strings that do not fit are cut off.
///
/// The entry fits into a page of a trace buffer, beside the buffer's own headers.
const MAX_ENTRY: usize = 4096 - 64;

/// Maximum size of an entry that is assembled on the stack. Memory is allocated for larger ones.
const MAX_ON_STACK: usize = 512;

static_assert!(size_of::<EntryHead>() + (bindings::MAX_PROBE_EVENT_SIZE as usize) < MAX_ENTRY);

/// Kind of a probe: on an instruction or on a function's return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// The thread is about to execute the instruction.
    Hit,
    /// The function returns.
    Return,
}

/// Beginning of an entry in a trace buffer. The arguments follow.
///
/// Entries are aligned to four bytes only.
#[repr(C)]
pub(crate) struct EntryHead {
    common: bindings::trace_entry,
    /// [`ProbeKind::fields`] says how many are used.
    pub(crate) addresses: [c_ulong; 2],
}

impl ProbeKind {
    /// Returns the letter with which a line for such a probe begins.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Hit => 'p',
            Self::Return => 'r',
        }
    }

    /// Returns the parser's flags, which say what arguments may fetch.
    pub(crate) fn parser_flags(self) -> c_uint {
        match self {
            Self::Hit => bindings::TPARG_FL_USER,
            Self::Return => bindings::TPARG_FL_USER | bindings::TPARG_FL_RETURN,
        }
    }

    pub(crate) fn print_type(self) -> bindings::probe_print_type {
        match self {
            Self::Hit => bindings::probe_print_type_PROBE_PRINT_NORMAL,
            Self::Return => bindings::probe_print_type_PROBE_PRINT_RETURN,
        }
    }

    /// Returns the names of the addresses in an entry, as C strings.
    #[inline]
    pub(crate) fn fields(self) -> &'static [&'static [u8]] {
        match self {
            Self::Hit => &[bindings::FIELD_STRING_IP],
            Self::Return => &[bindings::FIELD_STRING_FUNC, bindings::FIELD_STRING_RETIP],
        }
    }

    /// Returns the number of bytes of an entry before the arguments.
    #[inline]
    pub(crate) fn head_len(self) -> usize {
        offset_of!(EntryHead, addresses) + self.fields().len() * size_of::<c_ulong>()
    }

    /// Writes the addresses of an entry. `function` is the probed address, `at` the address of the
    /// instruction that is about to be executed, or the return address.
    ///
    /// # Safety
    ///
    /// `entry` must have room for [`Self::head_len`] bytes.
    #[inline(always)]
    unsafe fn store_head(self, entry: *mut u8, function: usize, at: usize) {
        // SAFETY: By the safety requirements there is room for the head. The write is unaligned,
        // because entries are aligned to four bytes only.
        // CAST: A user address has the size of a kernel address.
        let put = |i, address| unsafe {
            entry
                .add(offset_of!(EntryHead, addresses))
                .cast::<c_ulong>()
                .add(i)
                .write_unaligned(address as c_ulong)
        };

        match self {
            Self::Hit => put(0, at),
            Self::Return => {
                put(0, function);
                put(1, at);
            }
        }
    }
}

/// Contents of an entry, which can be written to reserved memory.
// Passed by value, so that it need not be in memory.
pub(crate) trait Contents: Copy {
    /// Returns the number of bytes of the entry.
    fn len(&self) -> usize;

    /// Writes the entry, except for the fields that are common to all entries. Must not sleep.
    ///
    /// # Safety
    ///
    /// `entry` must have room for [`Self::len`] bytes.
    unsafe fn store(&self, entry: *mut u8);
}

/// Contents of an entry with all arguments in the registers.
///
/// # Invariants
///
/// The plan of the probe is direct.
#[derive(Clone, Copy)]
pub(crate) struct Direct<'a> {
    probe: &'a EventProbe,
    at: usize,
    regs: &'a PtRegs,
}

impl<'a> Direct<'a> {
    /// Returns the contents for a hit or a return, if all arguments are in the registers. `at` is
    /// the address of the probed instruction, or the return address.
    #[inline(always)]
    pub(crate) fn new(probe: &'a EventProbe, at: usize, regs: &'a PtRegs) -> Option<Self> {
        // INVARIANT: The plan is direct.
        probe
            .args
            .plan()
            .is_direct
            .then_some(Self { probe, at, regs })
    }
}

impl Contents for Direct<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.probe.args.plan().entry_len
    }

    #[inline(always)]
    unsafe fn store(&self, entry: *mut u8) {
        let probe = self.probe;

        // SAFETY: By the safety requirements there is room for `entry_len` bytes, which include the
        // head.
        unsafe {
            probe.kind.store_head(entry, probe.address(), self.at);
            probe.args.plan().store(entry, self.regs);
        }
    }
}

/// An assembled entry; it begins with the fields that are common to all entries.
#[derive(Clone, Copy)]
pub(crate) struct Assembled<'a>(&'a [u8]);

impl Contents for Assembled<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    unsafe fn store(&self, entry: *mut u8) {
        let skip = offset_of!(EntryHead, addresses);

        if let Some(rest) = self.0.get(skip..) {
            // SAFETY: By the safety requirements `entry` has room for the whole entry, and `rest`
            // is the part of it from `skip` on.
            unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), entry.add(skip), rest.len()) };
        }
    }
}

/// A hit or a return, from which the interpreter assembles an entry before it is recorded.
///
/// The interpreter reads the memory of the task, which may sleep. Its results cannot go to a trace
/// buffer directly, because the thread must not sleep between the reservation of room there and its
/// commit.
pub(crate) struct Assembly<'a> {
    probe: &'a EventProbe,
    at: usize,
    regs: &'a PtRegs,
}

impl<'a> Assembly<'a> {
    /// `at` is the address of the probed instruction, or the return address.
    pub(crate) fn new(probe: &'a EventProbe, at: usize, regs: &'a PtRegs) -> Self {
        Self { probe, at, regs }
    }

    /// Assembles the entry, and calls `f` with it. May sleep.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no memory to assemble the entry in.
    pub(crate) fn with_entry(&self, f: impl FnOnce(Assembled<'_>)) -> Result<(), AllocError> {
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
        f(Assembled(entry));
        Ok(())
    }

    /// Returns the number of bytes of the entry, not counting strings.
    #[inline]
    fn fixed_len(&self) -> usize {
        self.probe.kind.head_len() + self.probe.args.size()
    }

    /// Returns the length that the entry needs at the moment.
    #[inline]
    fn entry_len(&self) -> usize {
        let mut len = self.fixed_len();
        let mut has_strings = false;

        for arg in self.probe.args.as_slice().iter().filter(|arg| arg.dynamic) {
            // SAFETY: The argument is parsed. Without a destination, nothing is written.
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
    /// If there are strings, the last byte of the entry stays zero. Strings that cannot be read
    /// consist of this byte, so that a reader that looks for their end stays within the entry.
    #[inline]
    fn store(&self, entry: &mut [u8]) {
        let Some(end) = entry.len().checked_sub(1) else {
            return;
        };
        let probe = self.probe;
        let mut next = self.fixed_len();
        let base = entry.as_mut_ptr();

        debug_assert!(next <= entry.len());
        // SAFETY: There is room for the head.
        unsafe { probe.kind.store_head(base, probe.address(), self.at) };

        for arg in probe.args.as_slice() {
            // SAFETY: The parser gave every argument its own place in the fixed part.
            let dest = unsafe { base.add(probe.kind.head_len() + arg.offset as usize) };
            if !arg.dynamic {
                // An argument that cannot be fetched is zero.
                // SAFETY: The parser gave the argument its own place, as long as its type says.
                let _ = unsafe { self.fetch(arg, dest, base) };
                continue;
            }

            let room = end.saturating_sub(next);
            // SAFETY: A string has its location in the fixed part, and there is room up to `end`.
            let fetched = unsafe {
                locate(dest, next, room);
                self.fetch(arg, dest, base)
            };
            match fetched {
                Some(len) => next += len.min(room),
                None => {
                    for i in 0..arg.count.max(1) as usize {
                        // SAFETY: `dest` is in the fixed part; an array has a location there for
                        // each element.
                        unsafe { locate(dest.add(i * size_of::<u32>()), end, 0) };
                    }
                }
            }
        }
    }

    /// Fetches an argument of the probe.
    ///
    /// # Safety
    ///
    /// As for [`interpret`].
    #[inline]
    unsafe fn fetch(
        &self,
        arg: &bindings::probe_arg,
        dest: *mut u8,
        base: *mut u8,
    ) -> Option<usize> {
        let file_base = self.probe.file_base().unwrap_or(0);

        // SAFETY: By the safety requirements the argument is parsed, and `dest` is null or has
        // room.
        unsafe { interpret(arg, self.regs, file_base, dest, base) }
    }
}

/// Returns the first `len` bytes of `buffer`, zeroed, or [`None`] if `buffer` is shorter.
#[inline]
fn zeroed(buffer: &mut [MaybeUninit<u64>], len: usize) -> Option<&mut [u8]> {
    let words = buffer.get_mut(..len.div_ceil(size_of::<u64>()))?;

    words.fill(MaybeUninit::new(0));
    // SAFETY: The words have been initialised, and have at least `len` bytes.
    Some(unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) })
}

/// Writes the location of a string: its offset in the entry, and in the upper half its length.
///
/// # Safety
///
/// `dest` must have room for the location.
#[inline]
unsafe fn locate(dest: *mut u8, offset: usize, len: usize) {
    // CAST: Both are at most `MAX_ENTRY`, and so fit into 16 bits.
    let location = (len as u32) << 16 | offset as u32;

    // SAFETY: By the safety requirements `dest` has room for the location.
    unsafe { dest.cast::<u32>().write_unaligned(location) };
}
