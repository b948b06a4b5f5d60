// SPDX-License-Identifier: GPL-2.0

//! What probes notice, and how the entries of that begin in a trace buffer.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use crate::{
    bindings,
    ffi::{
        c_uint,
        c_ulong, //
    },
};
use core::mem::{
    offset_of,
    size_of, //
};

/// What a probe notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// That an instruction is about to be executed.
    Hit,
    /// That a function returns.
    Return,
}

/// What an entry in a trace buffer begins with. The arguments follow.
///
/// Entries are aligned to four bytes only.
#[repr(C)]
pub(super) struct Entry {
    pub(super) common: bindings::trace_entry,
    /// As many as [`Kind::fields`] says.
    pub(super) addresses: [c_ulong; 2],
}

impl Kind {
    /// What lines begin with that make such a probe.
    pub fn letter(self) -> char {
        match self {
            Self::Hit => 'p',
            Self::Return => 'r',
        }
    }

    /// Says what arguments may fetch.
    pub(super) fn parser_flags(self) -> c_uint {
        match self {
            Self::Hit => bindings::TPARG_FL_USER,
            Self::Return => bindings::TPARG_FL_USER | bindings::TPARG_FL_RETURN,
        }
    }

    pub(super) fn print_type(self) -> bindings::probe_print_type {
        match self {
            Self::Hit => bindings::probe_print_type_PROBE_PRINT_NORMAL,
            Self::Return => bindings::probe_print_type_PROBE_PRINT_RETURN,
        }
    }

    /// Names of the addresses in an entry, as strings of C.
    #[inline]
    pub(super) fn fields(self) -> &'static [&'static [u8]] {
        match self {
            Self::Hit => &[bindings::FIELD_STRING_IP],
            Self::Return => &[bindings::FIELD_STRING_FUNC, bindings::FIELD_STRING_RETIP],
        }
    }

    /// Bytes of an entry before the arguments.
    #[inline]
    pub(super) fn head_len(self) -> usize {
        offset_of!(Entry, addresses) + self.fields().len() * size_of::<c_ulong>()
    }
}

/// The head of an entry: what was noticed, and where.
#[derive(Clone, Copy)]
pub(super) enum Head {
    /// An instruction is about to be executed.
    Hit { at: usize },
    /// A function returns.
    Return { function: usize, to: usize },
}

impl Head {
    /// The head for what a probe at `probed` has noticed. `at` is the address of the instruction
    /// that is about to be executed, or that which is returned to.
    #[inline]
    pub(super) fn new(kind: Kind, probed: usize, at: usize) -> Self {
        match kind {
            Kind::Hit => Self::Hit { at },
            Kind::Return => Self::Return {
                function: probed,
                to: at,
            },
        }
    }

    /// Bytes of the entry before the arguments.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Hit { .. } => Kind::Hit.head_len(),
            Self::Return { .. } => Kind::Return.head_len(),
        }
    }

    /// Writes it to the beginning of an entry, but for what all entries begin with.
    ///
    /// # Safety
    ///
    /// There must be room for it.
    #[inline]
    pub(super) unsafe fn store(&self, entry: *mut u8) {
        // SAFETY: By the safety requirements. Entries are aligned to four bytes only.
        // CAST: An address of the user has the size of one of the kernel.
        let put = |i, address| unsafe {
            entry
                .add(offset_of!(Entry, addresses))
                .cast::<c_ulong>()
                .add(i)
                .write_unaligned(address as c_ulong)
        };

        match *self {
            Self::Hit { at } => put(0, at),
            Self::Return { function, to } => {
                put(0, function);
                put(1, to);
            }
        }
    }
}
