// SPDX-License-Identifier: GPL-2.0

//! Addresses in user space.
//!
//! An instruction has two addresses while it is stepped: the one at which the program knows it,
//! and the one of its copy. Nothing but this crate and the owner of the slots may see the second
//! kind, so the two are different types, without conversions between them.

use kernel::page::PAGE_SIZE;

/// An address in the probed stream of instructions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Vaddr(usize);

impl Vaddr {
    /// Wraps an address.
    #[inline]
    pub const fn new(addr: usize) -> Self {
        Self(addr)
    }

    /// Returns the address.
    #[inline]
    pub const fn as_usize(self) -> usize {
        self.0
    }

    /// The address `n` bytes further on, if there is one.
    #[inline]
    pub const fn checked_add(self, n: usize) -> Option<Self> {
        match self.0.checked_add(n) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }

    /// Address of the page that holds this address.
    #[inline]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Offset of this address from the start of its page.
    #[inline]
    pub const fn offset_in_page(self) -> usize {
        self.0 & (PAGE_SIZE - 1)
    }
}

/// An address in an area of slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct SlotAddr(usize);

impl SlotAddr {
    /// Wraps an address.
    #[inline]
    pub const fn new(addr: usize) -> Self {
        Self(addr)
    }

    /// Returns the address.
    #[inline]
    pub const fn as_usize(self) -> usize {
        self.0
    }
}
