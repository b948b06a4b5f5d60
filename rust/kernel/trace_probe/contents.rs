// SPDX-License-Identifier: GPL-2.0

//! What the entries of a probe are made of, for whoever has room for one.
//!
//! C header: [`kernel/trace/trace_probe.h`](srctree/kernel/trace/trace_probe.h)

use super::{
    fetch::Source,
    kind::{
        Entry,
        Head, //
    },
    plan::Store,
    Probe,
    ProbeEvent, //
};
use crate::ptregs::PtRegs;
use core::{
    mem::offset_of,
    ptr, //
};

impl<T: ProbeEvent> Probe<T> {
    #[inline]
    fn head(&self, at: usize) -> Head {
        Head::new(self.args.kind(), self.place().address(), at)
    }

    /// The entry for what the probe has noticed, if all arguments are in the registers.
    #[inline]
    pub(super) fn direct<'a>(
        &self,
        at: usize,
        stores: &'a [Store],
        regs: &'a PtRegs,
    ) -> Direct<'a> {
        Direct {
            head: self.head(at),
            stores,
            fixed: self.args.size(),
            regs,
        }
    }

    /// The same, for any arguments; it is yet to be put together.
    pub(super) fn source<'a>(&'a self, at: usize, regs: &'a PtRegs) -> Source<'a> {
        Source {
            head: self.head(at),
            args: self.args.as_slice(),
            fixed: self.args.size(),
            regs,
            file_base: self.place().file_base().unwrap_or(0),
        }
    }
}

/// What can be written to where an entry is to be.
pub(super) trait Contents {
    /// Bytes of the entry.
    fn len(&self) -> usize;

    /// Writes it, but for what all entries begin with. Must not sleep.
    ///
    /// # Safety
    ///
    /// There must be as much room.
    unsafe fn store(&self, entry: *mut u8);
}

/// An entry the arguments of which are in the registers.
pub(super) struct Direct<'a> {
    head: Head,
    stores: &'a [Store],
    /// Bytes of the arguments.
    fixed: usize,
    regs: &'a PtRegs,
}

impl Contents for Direct<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.head.len() + self.fixed
    }

    #[inline]
    unsafe fn store(&self, entry: *mut u8) {
        // SAFETY: By the safety requirements there is room for the head, and after it for the
        // arguments.
        unsafe {
            self.head.store(entry);
            for store in self.stores {
                store.store(entry.add(self.head.len()), self.regs);
            }
        }
    }
}

/// An entry that has been put together; it begins with what all begin with.
pub(super) struct Fetched<'a>(pub(super) &'a [u8]);

impl Contents for Fetched<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    unsafe fn store(&self, entry: *mut u8) {
        let skip = offset_of!(Entry, addresses);

        if let Some(rest) = self.0.get(skip..) {
            // SAFETY: By the safety requirements, as this is the rest of the entry.
            unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), entry.add(skip), rest.len()) };
        }
    }
}
