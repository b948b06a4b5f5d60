// SPDX-License-Identifier: GPL-2.0

//! Operations under the mmap write lock: changes to the private pages and the mappings of a
//! process.

use crate::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    mm::{
        virt::{
            flags,
            vm_flags_t,
            VmaRef, //
        },
        MmWithUser, //
    },
    page::{
        PAGE_MASK,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
    types::NotThreadSafe,
};

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// Proof that the mmap lock of an address space is held for writing.
///
/// # Invariants
///
/// The lock is held while a reference to this value exists.
pub struct MmapWrite<'a> {
    mm: &'a MmWithUser,
    // The thread that took the lock must release it.
    _nts: NotThreadSafe,
}

/// Holds the mmap lock for writing.
pub struct MmapWriteGuard<'a>(MmapWrite<'a>);

impl MmWithUser {
    /// Takes the mmap lock for writing. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if the current task is killed while it waits.
    pub fn mmap_write_lock_killable(&self) -> Result<MmapWriteGuard<'_>> {
        // SAFETY: By the type invariants of `MmWithUser`, `self` is a valid address space.
        to_result(unsafe { bindings::mmap_write_lock_killable(self.as_raw()) })?;
        // INVARIANT: The lock has been taken.
        Ok(MmapWriteGuard(MmapWrite {
            mm: self,
            _nts: NotThreadSafe,
        }))
    }

    /// Takes the mmap lock for writing, and cannot be interrupted. Sleeps.
    pub fn mmap_write_lock(&self) -> MmapWriteGuard<'_> {
        // SAFETY: By the type invariants of `MmWithUser`, `self` is a valid address space.
        unsafe { bindings::mmap_write_lock(self.as_raw()) };
        // INVARIANT: The lock has been taken.
        MmapWriteGuard(MmapWrite {
            mm: self,
            _nts: NotThreadSafe,
        })
    }

    /// Faults in the page at `addr` as an access by the process would: for writing as a private
    /// copy, or for reading. The caller must not hold the mmap lock, because this waits for the
    /// filesystem and for the server of a userfaultfd.
    ///
    /// # Errors
    ///
    /// [`EFAULT`], [`ENOMEM`] and others; [`EINTR`] if the caller is killed, or gets a signal while
    /// it waits for a userfault.
    pub fn fault_in(&self, addr: usize, write: bool) -> Result {
        // SAFETY: By the type invariants of `MmWithUser`, `self` is a valid address space with a
        // user.
        to_result(unsafe { bindings::fault_in_remote(self.as_raw(), addr & PAGE_MASK, write) })
    }
}

impl MmWithUser {
    /// Calls `f` with this address space as the one of the current task, which must be a kernel
    /// thread that has none of its own. Some operations, such as unmapping, only work on the
    /// current address space.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// [`EINVAL`]: the current task is not such a kernel thread. `f` has not been called.
    pub fn with_kthread<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        let task = crate::current!();
        if !task.is_kernel_thread() || task.mm().is_some() {
            return Err(EINVAL);
        }
        // SAFETY: The current task is a kernel thread without an address space because of the check
        // above, and `self` has users while it is borrowed.
        unsafe { bindings::kthread_use_mm(self.as_raw()) };
        let ret = f();
        // SAFETY: `kthread_use_mm()` has made `self` the address space of this kernel thread above.
        unsafe { bindings::kthread_unuse_mm(self.as_raw()) };
        Ok(ret)
    }
}

impl Drop for MmapWriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants of `MmapWrite`, the lock is held. `self` is borrowed
        // mutably, so no other reference to the `MmapWrite` exists.
        unsafe { bindings::mmap_write_unlock(self.0.mm.as_raw()) };
    }
}

impl<'a> Deref for MmapWriteGuard<'a> {
    type Target = MmapWrite<'a>;

    fn deref(&self) -> &MmapWrite<'a> {
        &self.0
    }
}

impl<'a> MmapWrite<'a> {
    /// Creates the proof for a lock that C code holds.
    ///
    /// # Safety
    ///
    /// This thread must hold the mmap lock of `mm` for writing while the returned value exists.
    pub unsafe fn held(mm: &'a MmWithUser) -> Self {
        // INVARIANT: The caller guarantees that this thread holds the lock while the value exists.
        Self {
            mm,
            _nts: NotThreadSafe,
        }
    }

    /// Returns the address space.
    pub fn mm(&self) -> &'a MmWithUser {
        self.mm
    }

    /// Looks up the mapping of an address and write-locks it, which also excludes threads that only
    /// take the lock of the mapping.
    pub fn vma_lookup(&self, addr: usize) -> Option<&VmaRef> {
        // SAFETY: By the type invariants, the mmap lock is held for writing.
        let vma = NonNull::new(unsafe { bindings::vma_lookup(self.mm.as_raw(), addr) })?;
        // SAFETY: `vma` is a valid mapping of this address space because `vma_lookup()` returned
        // it, and by the type invariants the mmap lock is held for writing.
        unsafe { bindings::vma_start_write(vma.as_ptr()) };
        // SAFETY: The mapping stays valid and unchanged while the lock is held, that is, while
        // `self` is borrowed.
        Some(unsafe { VmaRef::from_raw(vma.as_ptr()) })
    }

    /// Returns the page at `addr` as it is. Does not fault in a page, because a filesystem or the
    /// server of a userfaultfd may need the lock to answer.
    ///
    /// # Errors
    ///
    /// [`EAGAIN`]: the caller must first fault in the page, with [`MmWithUser::fault_in`], without
    /// the lock. Others as for `get_user_pages_remote()`.
    pub fn page(&self, addr: usize) -> Result<UserPage> {
        self.get_page(addr, bindings::FOLL_NOFAULT)
    }

    /// Returns the page at `addr` of a private mapping as a writable page that only the process
    /// has.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] for a shared mapping; others as for [`MmapWrite::page`].
    pub fn private_page(&self, addr: usize) -> Result<PrivatePage<'_>> {
        let page = self.get_page(addr, bindings::FOLL_NOFAULT | bindings::FOLL_WRITE)?;
        if !page.is_anonymous() {
            return Err(EFAULT);
        }
        // INVARIANT: Copy-on-write has been broken. `fork()`, which would share the page again,
        // needs the lock that is borrowed.
        Ok(PrivatePage { page, _lock: self })
    }

    /// Returns the private page at `addr`, if there is one, as a page that only the process has. A
    /// page that is shared with a child is copied, and a page that was swapped out is read back.
    /// This does not involve a filesystem or a userfaultfd, because the contents stay the same.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], [`EAGAIN`] and others, as for `private_copy_own()`.
    pub fn own_page(&self, addr: usize) -> Result<Option<PrivatePage<'_>>> {
        let Some(vma) = self.vma_lookup(addr) else {
            return Ok(None);
        };
        // SAFETY: By the type invariants, the mmap lock is held for writing, so `vma` is valid.
        let page = unsafe { bindings::private_copy_own(vma.as_ptr(), addr & PAGE_MASK) };
        // INVARIANT: `private_copy_own()` takes a reference to the page that it returns.
        let page = NonNull::new(from_err_ptr(page)?).map(UserPage);
        // INVARIANT: The page is anonymous and only in this mapping. `fork()` and KSM, which would
        // share it, need the lock that is borrowed.
        Ok(page.map(|page| PrivatePage { page, _lock: self }))
    }

    /// Faults in the page at `addr` for reading, if it is in memory. Does not wait for the page,
    /// because a filesystem that has locked it may need the mmap lock.
    ///
    /// # Errors
    ///
    /// [`EFAULT`]: the caller would have to wait for the page. Others as for
    /// `get_user_pages_remote()`.
    pub fn populate(&self, addr: usize) -> Result {
        self.get_page(addr, bindings::FOLL_NOWAIT).map(drop)
    }

    /// Faults in the page at `addr` of a private mapping as a page that only the process has,
    /// unless the caller would have to wait for a filesystem or for the server of a userfaultfd.
    ///
    /// # Errors
    ///
    /// [`EFAULT`]: there is no page, or the caller would have to wait. Others as for
    /// `get_user_pages_remote()`.
    pub fn populate_nowait(&self, addr: usize) -> Result {
        self.get_page(addr, bindings::FOLL_NOWAIT | bindings::FOLL_WRITE)
            .map(drop)
    }

    fn get_page(&self, addr: usize, gup_flags: u32) -> Result<UserPage> {
        let is_mapped = self.vma_lookup(addr).is_some();
        let mut page = core::ptr::null_mut();
        // SAFETY: By the type invariants, the mmap lock is held. `page` has room for the one page
        // that is requested. Without `locked`, the lock is not dropped in between.
        let got = unsafe {
            bindings::get_user_pages_remote(
                self.mm.as_raw(),
                addr & PAGE_MASK,
                1,
                gup_flags | bindings::FOLL_FORCE,
                &mut page,
                core::ptr::null_mut(),
            )
        };
        if got < 0 {
            let error = Error::from_errno(got as c_int);
            let may_be_had = is_mapped && gup_flags & bindings::FOLL_NOFAULT != 0;
            return Err(match error {
                EFAULT if may_be_had => EAGAIN,
                error => error,
            });
        }
        // INVARIANT: `get_user_pages_remote()` has taken a reference to the page.
        NonNull::new(page).map(UserPage).ok_or(EFAULT)
    }

    /// Replaces the private copy that is mapped at `addr` by the original page, of the file or of a
    /// special mapping, if the contents are the same. Returns whether it has done so.
    ///
    /// The original is not read from the file: if it is not in the page cache, the copy stays.
    pub fn drop_copy(&self, addr: usize) -> bool {
        let Some(vma) = self.vma_lookup(addr) else {
            return false;
        };
        // SAFETY: By the type invariants, the mmap lock is held for writing, so `vma` is valid.
        unsafe { bindings::private_copy_drop(vma.as_ptr(), addr & PAGE_MASK) }
    }

    /// Finds a gap of `size` bytes between `low` and `high`, as high as possible.
    pub fn find_gap(&self, low: usize, high: usize, size: usize) -> Option<usize> {
        // SAFETY: By the type invariants of `MmWithUser`, `mm` is valid; `task_size` does not
        // change.
        let task_size = unsafe { (*self.mm.as_raw()).__bindgen_anon_1.task_size };
        let high = high.min(task_size);
        if low.checked_add(size)? > high {
            return None;
        }
        let mut state = bindings::ma_state {
            // SAFETY: By the type invariants of `MmWithUser`, `mm` is valid, and so is its tree.
            tree: unsafe { &raw mut (*self.mm.as_raw()).__bindgen_anon_1.mm_mt },
            status: bindings::maple_status_ma_start,
            max: usize::MAX,
            ..Default::default()
        };
        // SAFETY: The mmap lock, which is held by the type invariants, protects the tree.
        let ret = unsafe { bindings::mas_empty_area_rev(&mut state, low, high - 1, size) };
        (ret == 0).then_some((state.last + 1 - size) & PAGE_MASK)
    }
}

/// A reference to a page of a process.
///
/// # Invariants
///
/// The pointer is valid, and this type owns a reference to the page.
pub struct UserPage(NonNull<bindings::page>);

impl UserPage {
    fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    fn mapped<T>(&self, f: impl FnOnce(*mut u8) -> T) -> T {
        // SAFETY: By the type invariants, the page is valid.
        let mapped = unsafe { bindings::kmap_local_page(self.as_ptr()) };
        let ret = f(mapped.cast());
        // SAFETY: This thread mapped the page above, and `f` leaves no later mapping.
        unsafe { bindings::kunmap_local(mapped) };
        ret
    }

    /// Copies bytes from the page, from `offset` to the end of the page at most. Returns the number
    /// of bytes copied.
    pub fn read(&self, offset: usize, buf: &mut [u8]) -> usize {
        let len = buf.len().min(PAGE_SIZE.saturating_sub(offset));
        self.mapped(|page| {
            for (i, byte) in buf.iter_mut().take(len).enumerate() {
                // SAFETY: `offset + i` is within the page. The process may write to the page at the
                // same time, hence the volatile reads of single bytes.
                *byte = unsafe { page.add(offset + i).read_volatile() };
            }
        });
        len
    }

    /// Returns whether the page is anonymous, that is, not a page of a file.
    pub fn is_anonymous(&self) -> bool {
        // SAFETY: By the type invariants, the page is valid.
        unsafe { bindings::PageAnon(self.as_ptr()) != 0 }
    }
}

impl Drop for UserPage {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, `self` owns a reference.
        unsafe { bindings::put_page(self.as_ptr()) };
    }
}

/// A page of a private mapping that only one process has.
///
/// # Invariants
///
/// The page is anonymous, and only the process has it while the lock is borrowed.
pub struct PrivatePage<'a> {
    page: UserPage,
    _lock: &'a MmapWrite<'a>,
}

impl PrivatePage<'_> {
    /// Returns the page as one that other processes may share.
    pub fn into_page(self) -> UserPage {
        self.page
    }

    /// Exchanges the byte at `offset` for `new` if it is `old`, and returns whether it was.
    ///
    /// Threads that execute or read the page see either the old or the new byte. The exchange is
    /// atomic, so that it does not undo a store of the program to the same byte.
    #[must_use = "the byte may be another one by now"]
    pub fn exchange_byte(&self, offset: usize, old: u8, new: u8) -> bool {
        if offset >= PAGE_SIZE {
            return false;
        }
        let exchanged = self.page.mapped(|page| {
            // SAFETY: `offset` is within the page, which stays mapped during the call. The kernel
            // accesses bytes of user pages only by atomic or volatile operations.
            let byte = unsafe { Atomic::<i8>::from_ptr(page.add(offset).cast()) };
            byte.cmpxchg(old as i8, new as i8, Full).is_ok()
        });
        if exchanged {
            // SAFETY: By the type invariants, the page is valid. This thread has not locked it.
            unsafe { bindings::set_page_dirty_lock(self.page.as_ptr()) };
        }
        exchanged
    }

    /// Adds `by` to the 16-bit number at `offset`, unless the result would be negative. Threads
    /// that change the number at the same time do not lose their change.
    ///
    /// # Errors
    ///
    /// [`EINVAL`]: `offset` is not that of an aligned number within the page. [`ERANGE`]: the
    /// result would be negative, or too large.
    pub fn add_to_i16(&self, offset: usize, by: i16) -> Result {
        if offset >= PAGE_SIZE || !offset.is_multiple_of(align_of::<i16>()) {
            return Err(EINVAL);
        }
        self.page.mapped(|page| -> Result {
            // SAFETY: The number is within the page and aligned, and the page stays mapped during
            // the call. The kernel accesses numbers in user pages only by atomic or volatile
            // operations.
            let number = unsafe { Atomic::<i16>::from_ptr(page.add(offset).cast()) };
            let mut old = number.load(Relaxed);
            loop {
                let new = old.checked_add(by).filter(|new| *new >= 0).ok_or(ERANGE)?;
                match number.cmpxchg(old, new, Full) {
                    Ok(_) => return Ok(()),
                    Err(current) => old = current,
                }
            }
        })?;
        // SAFETY: By the type invariants, the page is valid. This thread has not locked it.
        unsafe { bindings::set_page_dirty_lock(self.page.as_ptr()) };
        Ok(())
    }
}

impl Deref for PrivatePage<'_> {
    type Target = UserPage;

    fn deref(&self) -> &UserPage {
        &self.page
    }
}

impl VmaRef {
    /// Returns the mapped file's offset of the byte at `addr`, if a file is mapped here.
    pub fn file_offset(&self, addr: usize) -> Option<usize> {
        self.file()?;
        let page = self.page_index(addr);
        Some((page << PAGE_SHIFT) + (addr & !PAGE_MASK))
    }

    fn page_index(&self, addr: usize) -> usize {
        // SAFETY: By the type invariants, the mapping is valid and locked.
        unsafe { bindings::linear_page_index(self.as_ptr(), addr) }
    }

    pub(super) fn file(&self) -> Option<NonNull<bindings::file>> {
        // SAFETY: By the type invariants, the mapping is valid and locked.
        NonNull::new(unsafe { (*self.as_ptr()).vm_file })
    }

    /// Returns whether faults in this mapping may be reported to user space by a userfaultfd.
    pub fn is_userfault(&self) -> bool {
        // SAFETY: By the type invariants, the mapping is valid and locked.
        unsafe { bindings::userfaultfd_armed(self.as_ptr()) }
    }

    /// Returns whether this is a stack that grows automatically.
    pub fn is_growing_stack(&self) -> bool {
        self.flags() & bindings::VM_STACK as vm_flags_t != 0
    }

    /// Returns whether this is a private mapping of ordinary memory, in which `get_user_pages()`
    /// finds pages.
    pub fn is_private(&self) -> bool {
        const EXCLUDED: vm_flags_t =
            flags::SHARED | flags::MAYSHARE | flags::IO | flags::PFNMAP | flags::MIXEDMAP;

        self.flags() & EXCLUDED == 0
    }

    /// Returns whether the memory is locked (`VM_LOCKED`).
    pub fn is_locked(&self) -> bool {
        self.flags() & bindings::VM_LOCKED as vm_flags_t != 0
    }

    /// Returns whether text may be changed for this process only: the mapping is executable,
    /// private, and of ordinary memory.
    pub fn is_private_text(&self) -> bool {
        const REQUIRED: vm_flags_t = flags::EXEC | flags::MAYWRITE;

        self.is_private() && self.flags() & (REQUIRED | flags::HUGETLB) == REQUIRED
    }
}
