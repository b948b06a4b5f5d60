// SPDX-License-Identifier: GPL-2.0

//! Special mappings: the kernel maps its own pages in a process.
//!
//! C header: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h), `struct
//! vm_special_mapping`

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
        write::MmapWrite, //
    },
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

use core::marker::PhantomData;

/// A kind of special mapping.
pub trait SpecialMapping: 'static {
    /// The name of the mapping in `/proc/PID/maps`.
    const NAME: &'static CStr;

    /// Calls `f` with the page for `addr` in the mapping `vma`, if there is one. The fault handler
    /// calls this function; it may sleep, but must not take the mmap lock.
    fn with_page(vma: &VmaRef, addr: usize, f: impl FnOnce(&Page));
}

/// The `struct vm_special_mapping` of a [`SpecialMapping`].
struct Description<T>(bindings::vm_special_mapping, PhantomData<T>);

impl<T: SpecialMapping> Description<T> {
    /// Handles a fault: pages are mapped on first access.
    ///
    /// # Safety
    ///
    /// Must only be called by the fault handler, with its own arguments.
    unsafe extern "C" fn fault(
        _special: *const bindings::vm_special_mapping,
        vma: *mut bindings::vm_area_struct,
        vmf: *mut bindings::vm_fault,
    ) -> bindings::vm_fault_t {
        // SAFETY: The fault handler holds the mmap or the vma lock during the call.
        let vma = unsafe { VmaRef::from_raw(vma) };
        // SAFETY: The fault handler passes a `vmf` that is valid during the call, with `address`
        // set.
        let addr = unsafe { (*vmf).__bindgen_anon_1.address };
        let mut found = core::ptr::null_mut();
        T::with_page(vma, addr, |page| {
            // SAFETY: `page` is borrowed, so it is valid. The fault handler takes over the new
            // reference.
            unsafe { bindings::get_page(page.as_ptr()) };
            found = page.as_ptr();
        });
        if found.is_null() {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        }
        // SAFETY: The fault handler passes a `vmf` that is valid during the call.
        unsafe { (*vmf).page = found };
        0
    }

    /// Refuses to move the mapping.
    extern "C" fn mremap(
        _special: *const bindings::vm_special_mapping,
        _vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        EPERM.to_errno()
    }

    const STATIC: &'static Self = &Self(
        bindings::vm_special_mapping {
            name: as_char_ptr_in_const_context(T::NAME),
            pages: core::ptr::null_mut(),
            fault: Some(Self::fault),
            mremap: Some(Self::mremap),
            close: None,
        },
        PhantomData,
    );
}

impl MmapWrite<'_> {
    /// Unmaps the page that [`MmapWrite::install_text`] has mapped at `addr` in the current address
    /// space.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], as for `munmap()`: the mapping stays, and stays sealed, because threads may be
    /// sent to it later. [`EINVAL`]: there is no mapping at `addr`, or this is not the current
    /// address space.
    pub fn remove_text(&self, addr: usize) -> Result {
        if !crate::current!().uses(self.mm()) {
            return Err(EINVAL);
        }
        let vma = self.vma_lookup(addr).ok_or(EINVAL)?;
        // SAFETY: By the type invariants, the mmap lock is held for writing. `vma` belongs to this
        // address space, which is the current one, as `do_munmap()` requires, because of the check
        // above. `vma` is not used after `vm_flags_clear()`.
        let removed = to_result(unsafe {
            bindings::vm_flags_clear(vma.as_ptr(), bindings::VM_SEALED as vm_flags_t);
            bindings::do_munmap(self.mm().as_raw(), addr, PAGE_SIZE, core::ptr::null_mut())
        });
        if removed.is_err() {
            if let Some(vma) = self.vma_lookup(addr) {
                // SAFETY: `vma` is valid because `vma_lookup()` has just returned it, write-locked.
                unsafe { bindings::vm_flags_set(vma.as_ptr(), bindings::VM_SEALED as vm_flags_t) };
            }
        }
        removed
    }

    /// Maps one readable and executable page at `addr`, which must be free. The process cannot
    /// change the mapping: it is sealed. `fork()` does not copy it, and core dumps leave it out.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] and others, as for `_install_special_mapping()`.
    pub fn install_text<T: SpecialMapping>(&self, addr: usize) -> Result {
        let vm_flags = flags::READ
            | flags::EXEC
            | flags::MAYREAD
            | flags::MAYEXEC
            | flags::DONTCOPY
            | flags::DONTEXPAND
            | flags::DONTDUMP
            | flags::IO
            | bindings::VM_SEALED as vm_flags_t;
        // SAFETY: By the type invariants, the mmap lock is held for writing. The description is
        // static.
        from_err_ptr(unsafe {
            bindings::_install_special_mapping(
                self.mm().as_raw(),
                addr,
                PAGE_SIZE,
                vm_flags,
                &raw const Description::<T>::STATIC.0,
            )
        })?;
        Ok(())
    }
}
