// SPDX-License-Identifier: GPL-2.0

//! Control files in tracefs.
//!
//! C header: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h)

use crate::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile,
    str::CStr,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// A file in the root of tracefs that lists items and takes changes: a write by `>>` adds text, and
/// a write by `>` replaces the former contents.
///
/// The methods are called in the thread that uses the file, with no lock held except the locks of
/// the open file. They may sleep.
pub trait ControlFile: Send + Sync + 'static {
    /// Name of the file.
    const NAME: &'static CStr;

    /// Writes the whole contents.
    fn show(&self, m: &SeqFile);

    /// Removes the contents. Called when the file was opened for writing with `O_TRUNC`.
    fn clear(&self);

    /// Executes the text of one write, which is one page at most.
    fn write(&self, text: &[u8]) -> Result;
}

/// Creates a file of mode 0640. It cannot be opened if the kernel is locked down. It is never
/// removed.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EINVAL`: `module` could be unloaded. Other errors if there is no tracefs.
pub fn create_file<F: ControlFile>(module: &'static ThisModule, file: Arc<F>) -> Result {
    if !module.as_ptr().is_null() {
        return Err(EINVAL);
    }
    // SAFETY: No preconditions.
    to_result(unsafe { bindings::tracing_init_dentry() })?;
    // SAFETY: The name and the operations are static, and so is the `F`, because its reference is
    // leaked. If the file cannot be created, `trace_create_file()` warns.
    unsafe {
        bindings::trace_create_file(
            F::NAME.as_char_ptr(),
            bindings::TRACE_MODE_WRITE.try_into()?,
            ptr::null_mut(),
            Arc::into_raw(file).cast_mut().cast(),
            &Operations::<F>::FILE,
        )
    };
    Ok(())
}

/// The C operations of a file.
struct Operations<F>(PhantomData<F>);

impl<F: ControlFile> Operations<F> {
    const FILE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        write: Some(Self::write),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Must be called for a file of this type that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            let reason = bindings::lockdown_reason_LOCKDOWN_TRACEFS;
            // SAFETY: No preconditions.
            to_result(unsafe { bindings::security_locked_down(reason) })?;

            // SAFETY: By the safety requirements the inode and the file exist.
            let (data, mode, flags) =
                unsafe { ((*inode).i_private, (*file).f_mode, (*file).f_flags) };
            // SAFETY: The file is being opened, and `data` is the leaked `F`.
            to_result(unsafe { bindings::single_open(file, Some(Self::show), data) })?;

            if mode & bindings::FMODE_WRITE != 0 && flags & bindings::O_TRUNC != 0 {
                // SAFETY: `create_file` gave a leaked `F` to the inode.
                unsafe { &*data.cast::<F>() }.clear();
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Must be called for an open file of this type.
    unsafe extern "C" fn show(m: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: By the safety requirements `m` is the open file's, and `open` gave the `F` to
        // `single_open()`.
        unsafe { (*(*m).private.cast::<F>()).show(SeqFile::from_raw(m)) };
        0
    }

    /// # Safety
    ///
    /// Must be called for an open file of this type, with the user's buffer.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        buffer: *const c_char,
        count: usize,
        _position: *mut bindings::loff_t,
    ) -> isize {
        from_result(|| {
            if count > PAGE_SIZE {
                return Err(E2BIG);
            }
            let mut text = KVec::new();
            let buffer = UserPtr::from_ptr(buffer.cast_mut().cast());
            UserSlice::new(buffer, count).read_all(&mut text, GFP_KERNEL)?;

            // SAFETY: By the safety requirements the file is open. `single_open()` made its private
            // data a `struct seq_file`, and the private data of that is the `F`.
            unsafe {
                let m = (*file).private_data.cast::<bindings::seq_file>();
                (*(*m).private.cast::<F>()).write(&text)?;
            }
            Ok(count.try_into()?)
        })
    }
}
