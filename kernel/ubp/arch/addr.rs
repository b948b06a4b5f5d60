// SPDX-License-Identifier: GPL-2.0

//! Addresses in user space.
//!
//! An instruction that is stepped has two addresses: its address in the program, and the address of
//! its copy. Only this crate and the owner of the slots may see the second one, so the two
//! addresses have different types, without conversions between them.

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

    /// Returns the address `n` bytes further on, unless it overflows.
    #[inline]
    pub const fn checked_add(self, n: usize) -> Option<Self> {
        match self.0.checked_add(n) {
            Some(addr) => Some(Self(addr)),
            None => None,
        }
    }

    /// Returns the address of the page that holds this address.
    #[inline]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Returns the offset of this address in its page.
    #[inline]
    pub const fn offset_in_page(self) -> usize {
        self.0 & (PAGE_SIZE - 1)
    }
}

/// An address in an XOL area.
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
