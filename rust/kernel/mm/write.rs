// SPDX-License-Identifier: GPL-2.0

//! What the mmap write lock permits: changing the private pages, and the mappings, of a process.

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
        Full, //
    },
    types::NotThreadSafe,
};

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// Evidence that the mmap lock of an address space is held for writing.
///
/// # Invariants
///
/// The lock is held for as long as a reference to this exists.
pub struct MmapWrite<'a> {
    mm: &'a MmWithUser,
    // The lock is released by the thread that took it.
    _nts: NotThreadSafe,
}

/// Holds the mmap lock for writing.
pub struct MmapWriteGuard<'a>(MmapWrite<'a>);

impl MmWithUser {
    /// Takes the mmap lock for writing. Sleeps.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if the current task is killed meanwhile.
    pub fn mmap_write_lock_killable(&self) -> Result<MmapWriteGuard<'_>> {
        // SAFETY: `self` is a valid address space.
        to_result(unsafe { bindings::mmap_write_lock_killable(self.as_raw()) })?;
        // INVARIANT: The lock has been taken.
        Ok(MmapWriteGuard(MmapWrite {
            mm: self,
            _nts: NotThreadSafe,
        }))
    }

    /// Takes the mmap lock for writing, come what may. Sleeps.
    pub fn mmap_write_lock(&self) -> MmapWriteGuard<'_> {
        // SAFETY: `self` is a valid address space.
        unsafe { bindings::mmap_write_lock(self.as_raw()) };
        // INVARIANT: The lock has been taken.
        MmapWriteGuard(MmapWrite {
            mm: self,
            _nts: NotThreadSafe,
        })
    }

    /// Faults in the page at `addr`, for writing or reading, as an access of the process would: for
    /// writing, as a private copy. The mmap lock must not be held, because the caller waits for the
    /// filesystem, and for whoever serves a userfaultfd.
    ///
    /// # Errors
    ///
    /// [`EFAULT`], [`ENOMEM`] and others; [`EINTR`] if the caller is killed, or gets a signal while
    /// it waits for a userfault.
    pub fn fault_in(&self, addr: usize, write: bool) -> Result {
        // SAFETY: `self` is a valid address space with a user.
        to_result(unsafe { bindings::fault_in_remote(self.as_raw(), addr & PAGE_MASK, write) })
    }
}

impl MmWithUser {
    /// Calls `f` with this as the address space of the current task, which is a kernel thread that
    /// has none of its own: for what the kernel does to the current address space only, such as to
    /// unmap.
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
        // SAFETY: The current task is a kernel thread without an address space, and `self` has
        // users as long as it is borrowed.
        unsafe { bindings::kthread_use_mm(self.as_raw()) };
        let ret = f();
        // SAFETY: Undoes the above.
        unsafe { bindings::kthread_unuse_mm(self.as_raw()) };
        Ok(ret)
    }
}

impl Drop for MmapWriteGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants of `MmapWrite` the lock is held, and nobody can have a
        // reference to that any more.
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
    /// Tells the compiler of a lock that C code holds.
    ///
    /// # Safety
    ///
    /// The mmap lock of `mm` is held for writing by this thread for as long as the result lives.
    pub unsafe fn held(mm: &'a MmWithUser) -> Self {
        // INVARIANT: By the requirement on the caller.
        Self {
            mm,
            _nts: NotThreadSafe,
        }
    }

    /// Returns the address space.
    pub fn mm(&self) -> &'a MmWithUser {
        self.mm
    }

    /// Looks up the mapping of an address, and keeps those out who only lock that mapping.
    pub fn vma_lookup(&self, addr: usize) -> Option<&VmaRef> {
        // SAFETY: The lock is held by the type invariants.
        let vma = NonNull::new(unsafe { bindings::vma_lookup(self.mm.as_raw(), addr) })?;
        // SAFETY: As above; `vma` is of this address space.
        unsafe { bindings::vma_start_write(vma.as_ptr()) };
        // SAFETY: A mapping stays as it is while the lock is held, that is, while `self` is
        // borrowed.
        Some(unsafe { VmaRef::from_raw(vma.as_ptr()) })
    }

    /// Returns the page at `addr` as it is. Nothing is faulted in, because a filesystem, or whoever
    /// serves a userfaultfd, may need the lock to answer.
    ///
    /// # Errors
    ///
    /// [`EAGAIN`]: the page must be faulted in first, with [`MmWithUser::fault_in`], without the
    /// lock. Others as of `get_user_pages_remote()`.
    pub fn page(&self, addr: usize) -> Result<UserPage> {
        self.get_page(addr, bindings::FOLL_NOFAULT)
    }

    /// Returns the page at `addr`, of a private mapping, as a page of the process alone that may be
    /// written to.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] for a shared mapping; else as of [`MmapWrite::page`].
    pub fn private_page(&self, addr: usize) -> Result<PrivatePage<'_>> {
        let page = self.get_page(addr, bindings::FOLL_NOFAULT | bindings::FOLL_WRITE)?;
        if !page.is_anonymous() {
            return Err(EFAULT);
        }
        // INVARIANT: Copy-on-write has been broken, and forking, which would share the page again,
        // needs the lock that is borrowed.
        Ok(PrivatePage { page, _lock: self })
    }

    /// Returns the private page at `addr`, if there is one, as a page of the process alone: a page
    /// that is shared with a child is copied, and one that was swapped out is read back. No
    /// filesystem and no userfaultfd is asked, because the contents stay as they are.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], [`EAGAIN`] and others, as of `private_copy_own()`.
    pub fn own_page(&self, addr: usize) -> Result<Option<PrivatePage<'_>>> {
        let Some(vma) = self.vma_lookup(addr) else {
            return Ok(None);
        };
        // SAFETY: The mapping is valid, and the lock is held, by the type invariants.
        let page = unsafe { bindings::private_copy_own(vma.as_ptr(), addr & PAGE_MASK) };
        // INVARIANT: `private_copy_own()` takes a reference to the page that it returns.
        let page = NonNull::new(from_err_ptr(page)?).map(UserPage);
        // INVARIANT: The page is anonymous and of this mapping alone; fork() and KSM, which would
        // share it, need the lock that is borrowed.
        Ok(page.map(|page| PrivatePage { page, _lock: self }))
    }

    /// Faults in the page at `addr` for reading, if it is in memory. Does not wait for the page,
    /// because a filesystem that has locked it may need the lock that is held.
    ///
    /// # Errors
    ///
    /// [`EFAULT`]: the page would have to be waited for. Others as of `get_user_pages_remote()`.
    pub fn populate(&self, addr: usize) -> Result {
        self.get_page(addr, bindings::FOLL_NOWAIT).map(drop)
    }

    /// Faults in the page at `addr`, of a private mapping, as a page of the process alone, unless
    /// that makes it necessary to wait: for a filesystem, or for a server of userfaults.
    ///
    /// # Errors
    ///
    /// [`EFAULT`]: there is no page, or the caller would have to wait. Others as of
    /// `get_user_pages_remote()`.
    pub fn populate_nowait(&self, addr: usize) -> Result {
        self.get_page(addr, bindings::FOLL_NOWAIT | bindings::FOLL_WRITE)
            .map(drop)
    }

    fn get_page(&self, addr: usize, gup_flags: u32) -> Result<UserPage> {
        let is_mapped = self.vma_lookup(addr).is_some();
        let mut page = core::ptr::null_mut();
        // SAFETY: The lock is held by the type invariants; there is room for one page, which is
        // what is asked for. With no `locked` the lock is not dropped in between.
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
        // INVARIANT: The reference was taken for us.
        NonNull::new(page).map(UserPage).ok_or(EFAULT)
    }

    /// Puts the page that is mapped at `addr` without a private copy, of the file or of a special
    /// mapping, back in the place of that, if their contents are the same. Returns whether it has.
    ///
    /// It is not read from the file for this: what is not in the page cache is not put back.
    pub fn drop_copy(&self, addr: usize) -> bool {
        let Some(vma) = self.vma_lookup(addr) else {
            return false;
        };
        // SAFETY: The mapping is valid, and the lock is held, by the type invariants.
        unsafe { bindings::private_copy_drop(vma.as_ptr(), addr & PAGE_MASK) }
    }

    /// Finds room for `size` bytes between `low` and `high`, as high up as possible.
    pub fn find_gap(&self, low: usize, high: usize, size: usize) -> Option<usize> {
        // SAFETY: `mm` is valid; the limits of user addresses do not change.
        let task_size = unsafe { (*self.mm.as_raw()).__bindgen_anon_1.task_size };
        let high = high.min(task_size);
        if low.checked_add(size)? > high {
            return None;
        }
        let mut state = bindings::ma_state {
            // SAFETY: `mm` is valid, and so is the tree in it.
            tree: unsafe { &raw mut (*self.mm.as_raw()).__bindgen_anon_1.mm_mt },
            status: bindings::maple_status_ma_start,
            max: usize::MAX,
            ..Default::default()
        };
        // SAFETY: The tree is protected by the mmap lock, which is held by the type invariants.
        let ret = unsafe { bindings::mas_empty_area_rev(&mut state, low, high - 1, size) };
        (ret == 0).then_some((state.last + 1 - size) & PAGE_MASK)
    }
}

/// A reference to a page of a process.
///
/// # Invariants
///
/// The pointer is valid, and a reference to the page is owned.
pub struct UserPage(NonNull<bindings::page>);

impl UserPage {
    fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    fn mapped<T>(&self, f: impl FnOnce(*mut u8) -> T) -> T {
        // SAFETY: The page is valid by the type invariants.
        let mapped = unsafe { bindings::kmap_local_page(self.as_ptr()) };
        let ret = f(mapped.cast());
        // SAFETY: Mapped above, by this thread, and the last mapping to be undone first.
        unsafe { bindings::kunmap_local(mapped) };
        ret
    }

    /// Copies bytes out of the page, from `offset` on, to the end of the page at most. Returns how
    /// many.
    pub fn read(&self, offset: usize, buf: &mut [u8]) -> usize {
        let len = buf.len().min(PAGE_SIZE.saturating_sub(offset));
        self.mapped(|page| {
            for (i, byte) in buf.iter_mut().take(len).enumerate() {
                // SAFETY: `offset + i` is within the page. The process may write to it meanwhile,
                // hence the volatile reads of single bytes.
                *byte = unsafe { page.add(offset + i).read_volatile() };
            }
        });
        len
    }

    /// Returns whether the page is one of the process's own, and not of a file.
    pub fn is_anonymous(&self) -> bool {
        // SAFETY: The page is valid by the type invariants.
        unsafe { bindings::PageAnon(self.as_ptr()) != 0 }
    }
}

impl Drop for UserPage {
    fn drop(&mut self) {
        // SAFETY: A reference is owned by the type invariants.
        unsafe { bindings::put_page(self.as_ptr()) };
    }
}

/// A page of a private mapping that no other process has.
///
/// # Invariants
///
/// The page is anonymous, and stays the process's alone while the lock is borrowed.
pub struct PrivatePage<'a> {
    page: UserPage,
    _lock: &'a MmapWrite<'a>,
}

impl PrivatePage<'_> {
    /// Returns the page as one that others may get to have as well.
    pub fn into_page(self) -> UserPage {
        self.page
    }

    /// Exchanges the byte at `offset` for `new` if it is `old`, and returns whether it was.
    ///
    /// Threads that execute or read the page see the old byte or the new one. The exchange is
    /// atomic, so that it does not undo a store of the program to the same byte.
    #[must_use = "the byte may be another one by now"]
    pub fn exchange_byte(&self, offset: usize, old: u8, new: u8) -> bool {
        if offset >= PAGE_SIZE {
            return false;
        }
        let exchanged = self.page.mapped(|page| {
            // SAFETY: `offset` is within the page, which stays mapped during the call. The kernel
            // accesses the bytes of user pages by atomic or volatile operations only.
            let byte = unsafe { Atomic::<i8>::from_ptr(page.add(offset).cast()) };
            byte.cmpxchg(old as i8, new as i8, Full).is_ok()
        });
        if exchanged {
            // SAFETY: The page is valid; it is not locked by this thread.
            unsafe { bindings::set_page_dirty_lock(self.page.as_ptr()) };
        }
        exchanged
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
        // SAFETY: By the type invariants the mapping is valid and locked.
        unsafe { bindings::linear_page_index(self.as_ptr(), addr) }
    }

    fn file(&self) -> Option<NonNull<bindings::file>> {
        // SAFETY: By the type invariants the mapping is valid and locked.
        NonNull::new(unsafe { (*self.as_ptr()).vm_file })
    }

    /// Returns whether faults in this mapping may be told to user space, by a userfaultfd.
    pub fn is_userfault(&self) -> bool {
        // SAFETY: By the type invariants the mapping is valid and locked.
        unsafe { bindings::userfaultfd_armed(self.as_ptr()) }
    }

    /// Returns whether this is a stack that grows by itself.
    pub fn is_growing_stack(&self) -> bool {
        self.flags() & bindings::VM_STACK as vm_flags_t != 0
    }

    /// Returns whether this is a private mapping of ordinary memory, whose pages
    /// `get_user_pages()` finds.
    pub fn is_private(&self) -> bool {
        const EXCLUDED: vm_flags_t =
            flags::SHARED | flags::MAYSHARE | flags::IO | flags::PFNMAP | flags::MIXEDMAP;

        self.flags() & EXCLUDED == 0
    }

    /// Returns whether the memory is locked.
    pub fn is_locked(&self) -> bool {
        self.flags() & bindings::VM_LOCKED as vm_flags_t != 0
    }

    /// Returns whether text may be changed for this process alone: the mapping is executable,
    /// private, and of ordinary memory.
    pub fn is_private_text(&self) -> bool {
        const REQUIRED: vm_flags_t = flags::EXEC | flags::MAYWRITE;

        self.is_private() && self.flags() & (REQUIRED | flags::HUGETLB) == REQUIRED
    }
}
