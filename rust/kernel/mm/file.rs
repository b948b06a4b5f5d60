// SPDX-License-Identifier: GPL-2.0

//! Mapped files: the address spaces that map a file, and the places at which they map it.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use crate::{
    bindings,
    mm::{
        virt::{
            flags,
            VmaRef, //
        },
        Mm,
        MmWithUser,
        MmapReadGuard, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

use core::ptr::NonNull;

/// An inode, that is, a file without its name.
///
/// # Invariants
///
/// Values of this type are only referred to through references that keep the inode.
#[repr(transparent)]
pub struct Inode(Opaque<bindings::inode>);

// SAFETY: The methods may be called from any thread.
unsafe impl Send for Inode {}
// SAFETY: The methods may be called from several threads at the same time.
unsafe impl Sync for Inode {}

// SAFETY: `ihold()` and `iput()` change the reference count of the inode, which exists as long as
// the count is not zero.
unsafe impl AlwaysRefCounted for Inode {
    fn inc_ref(&self) {
        // SAFETY: `self` is an inode with a reference.
        unsafe { bindings::ihold(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference to the inode.
        unsafe { bindings::iput(obj.cast().as_ptr()) };
    }
}

/// Identifies an inode, for as long as it exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InodeId(usize);

/// Holds the lock that protects the list of a file's mappings.
struct MappingsGuard<'a>(&'a Inode);

impl Drop for MappingsGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `Inode::lock_mappings()` has taken the lock.
        unsafe { bindings::i_mmap_unlock_read(self.0.mapping()) };
    }
}

impl Inode {
    /// Returns the inode behind a pointer.
    ///
    /// # Safety
    ///
    /// The pointer must be valid, and something must hold a reference to the inode during `'a`.
    pub unsafe fn from_raw<'a>(ptr: *const bindings::inode) -> &'a Self {
        // SAFETY: By the safety requirements the pointer is valid. CAST: `Inode` is a transparent
        // wrapper.
        unsafe { &*ptr.cast() }
    }

    fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Returns the identity of the inode.
    pub fn id(&self) -> InodeId {
        InodeId(self.as_ptr() as usize)
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: `self` is a valid inode, and `i_mapping` does not change while it is in use.
        unsafe { (*self.as_ptr()).i_mapping }
    }

    /// Returns the size of the file in bytes.
    pub fn size(&self) -> i64 {
        // SAFETY: `self` is a valid inode.
        unsafe { bindings::i_size_read(self.as_ptr()) }
    }

    /// Returns whether the file has pages that are read from a filesystem, or is in memory.
    pub fn has_pages(&self) -> bool {
        let mapping = self.mapping();
        // SAFETY: The mapping of a valid inode is valid and has operations.
        unsafe { (*(*mapping).a_ops).read_folio.is_some() || bindings::shmem_mapping(mapping) }
    }

    fn lock_mappings(&self) -> MappingsGuard<'_> {
        // SAFETY: The mapping of a valid inode is valid.
        unsafe { bindings::i_mmap_lock_read(self.mapping()) };
        MappingsGuard(self)
    }

    /// Returns the address spaces that map the byte at `offset` as text, and the addresses at which
    /// they map it.
    ///
    /// An address space that begins to map the byte during the call may be missing, as may one that
    /// [`fork`] is making. A mapping may have changed by the time at which this returns.
    ///
    /// Context: may sleep; takes `i_mmap_rwsem`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    ///
    /// [`fork`]: https://man7.org/linux/man-pages/man2/fork.2.html
    pub fn text_mappings(&self, offset: u64) -> Result<KVVec<(ARef<MmWithUser>, usize)>> {
        let mut mappings = KVVec::with_capacity(16, GFP_KERNEL)?;
        loop {
            let found = self.collect(offset, &mut mappings);
            if found <= mappings.capacity() {
                return Ok(mappings);
            }
            // Nothing is allocated and no reference dropped under the lock, because both may need
            // it: reclaim, and the end of an address space.
            mappings.clear();
            mappings.reserve(found + found / 8, GFP_KERNEL)?;
        }
    }

    /// Adds the mappings of a byte, as far as there is room. Returns their number.
    fn collect(&self, offset: u64, mappings: &mut KVVec<(ARef<MmWithUser>, usize)>) -> usize {
        let page = (offset >> PAGE_SHIFT) as usize;
        let mut found = 0;
        let locked = self.lock_mappings();
        // SAFETY: The lock is held.
        let mut next =
            unsafe { bindings::mapping_rmap_tree_iter_first(locked.0.mapping(), page, page) };
        while let Some(vma) = NonNull::new(next) {
            // SAFETY: The lock is held, and `vma` is in the tree.
            next = unsafe { bindings::mapping_rmap_tree_iter_next(vma.as_ptr(), page, page) };
            // SAFETY: The lock keeps the mapping, and its range and its file do not change. The
            // flags may change, as they may after this function has returned.
            let vma = unsafe { VmaRef::from_raw(vma.as_ptr()) };
            let Some(at) = vma.address_of(offset).filter(|_| vma.is_file_text()) else {
                continue;
            };
            found += 1;
            if mappings.len() < mappings.capacity() {
                if let Some(mm) = vma.mm().mmget_not_zero() {
                    // There is room.
                    let _ = mappings.push_within_capacity((mm, at));
                }
            }
        }
        found
    }
}

impl Mm {
    /// Returns whether the address space is marked to have probes of files.
    pub fn has_uprobes(&self) -> bool {
        // SAFETY: `self` is a valid address space. Its flags are changed by atomic operations.
        unsafe { bindings::mm_flags_test(bindings::MMF_HAS_UPROBES as c_int, self.as_raw()) }
    }

    /// Marks the address space to have probes of files.
    pub fn set_has_uprobes(&self) {
        // SAFETY: `self` is a valid address space. Its flags are changed by atomic operations.
        unsafe { bindings::mm_flags_set(bindings::MMF_HAS_UPROBES as c_int, self.as_raw()) };
    }
}

impl MmapReadGuard<'_> {
    /// Returns the first mapping that ends above `addr`.
    pub fn find_vma(&self, addr: usize) -> Option<&VmaRef> {
        // SAFETY: The mmap lock is held for reading.
        let vma = NonNull::new(unsafe { bindings::find_vma(self.mm.as_raw(), addr) })?;
        // SAFETY: The mapping stays valid while the lock is held, that is, while `self` is
        // borrowed.
        Some(unsafe { VmaRef::from_raw(vma.as_ptr()) })
    }

    /// Returns the mappings, by address.
    pub fn vmas(&self) -> impl Iterator<Item = &VmaRef> {
        let first = self.find_vma(0);
        core::iter::successors(first, |vma| self.find_vma(vma.end()))
    }
}

impl VmaRef {
    /// Returns the identity of the file that is mapped here.
    pub fn inode(&self) -> Option<InodeId> {
        let file = self.file()?;
        // SAFETY: The mapping keeps its file.
        let inode = unsafe { bindings::file_inode(file.as_ptr()) };
        Some(InodeId(inode as usize))
    }

    /// Returns the offset in the file of the first byte, and of the first byte behind.
    pub fn file_range(&self) -> Option<(u64, u64)> {
        let start = self.file_offset(self.start())? as u64;
        Some((start, start + (self.end() - self.start()) as u64))
    }

    /// Returns the address of a byte of the mapped file, if the byte is mapped here.
    pub fn address_of(&self, offset: u64) -> Option<usize> {
        let (first, end) = self.file_range()?;
        let is_here = (first..end).contains(&offset);
        is_here.then(|| self.start() + (offset - first) as usize)
    }

    /// Returns whether the file is mapped as text: private, executable, and not writable.
    pub fn is_file_text(&self) -> bool {
        self.is_private_text() && self.flags() & flags::WRITE == 0
    }

    /// Returns whether the file is mapped as data of the process: private and writable.
    pub fn is_file_data(&self) -> bool {
        self.is_private() && self.flags() & flags::WRITE != 0
    }
}
