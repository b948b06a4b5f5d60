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
