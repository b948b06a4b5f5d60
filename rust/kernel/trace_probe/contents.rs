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
    pub(super) fn direct<'a>(&'a self, at: usize, regs: &'a PtRegs) -> Direct<'a, T, Head> {
        Direct {
            head: self.head(at),
            probe: self,
            regs,
        }
    }

    /// The same for a hit, where the registers say.
    #[inline(always)]
    pub(super) fn direct_hit<'a>(&'a self, regs: &'a PtRegs) -> Direct<'a, T, HitHere> {
        Direct {
            head: HitHere,
            probe: self,
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
// To pass by value, so that it need not be in memory.
pub(super) trait Contents: Copy {
    /// Bytes of the entry.
    fn len(&self) -> usize;

    /// Writes it, but for what all entries begin with. Must not sleep.
    ///
    /// # Safety
    ///
    /// There must be as much room.
    unsafe fn store(&self, entry: *mut u8);
}

/// What has been noticed, if that is a hit of the instruction that the registers are at.
#[derive(Clone, Copy)]
pub(super) struct HitHere;

/// What the head of an entry is made from.
pub(super) trait ToHead: Copy {
    fn to_head(self, regs: &PtRegs) -> Head;
}

impl ToHead for Head {
    #[inline(always)]
    fn to_head(self, _regs: &PtRegs) -> Head {
        self
    }
}

impl ToHead for HitHere {
    #[inline(always)]
    fn to_head(self, regs: &PtRegs) -> Head {
        Head::Hit { at: regs.ip() }
    }
}

/// An entry the arguments of which are in the registers.
pub(super) struct Direct<'a, T: ProbeEvent, H> {
    // This and the arguments are found out when they are needed, and not kept until then.
    head: H,
    probe: &'a Probe<T>,
    regs: &'a PtRegs,
}

impl<T: ProbeEvent, H: Copy> Clone for Direct<'_, T, H> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ProbeEvent, H: Copy> Copy for Direct<'_, T, H> {}

impl<T: ProbeEvent, H: ToHead> Contents for Direct<'_, T, H> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.head.to_head(self.regs).len() + self.probe.args.stores_len()
    }

    #[inline(always)]
    unsafe fn store(&self, entry: *mut u8) {
        let head = self.head.to_head(self.regs);

        // SAFETY: By the safety requirements there is room for the head, and after it for the
        // arguments.
        unsafe {
            head.store(entry);
            for store in self.probe.args.stores() {
                store.store(entry.add(head.len()), self.regs);
            }
        }
    }
}

/// An entry that has been put together; it begins with what all begin with.
#[derive(Clone, Copy)]
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
