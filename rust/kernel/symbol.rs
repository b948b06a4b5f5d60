// SPDX-License-Identifier: GPL-2.0

//! Names of functions of the kernel and its modules.
//!
//! C header: [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)

use crate::{
    bindings,
    fmt,
    str::CStr, //
};

/// The address of a function, displayed as the name of the function and of its module.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, str::CString, symbol::Symbol};
///
/// let nowhere = CString::try_from_fmt(fmt!("{}", Symbol(0)))?;
/// assert_eq!(nowhere.to_bytes(), b"0x0");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Symbol(pub usize);

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0u8; bindings::KSYM_SYMBOL_LEN];
        // SAFETY: The function writes at most `KSYM_SYMBOL_LEN` bytes, the length of the buffer.
        unsafe { bindings::sprint_symbol_no_offset(buffer.as_mut_ptr().cast(), self.0) };
        match CStr::from_bytes_until_nul(&buffer).map(CStr::to_str) {
            Ok(Ok(name)) => f.write_str(name),
            _ => write!(f, "{:#x}", self.0),
        }
    }
}
