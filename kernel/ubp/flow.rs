// SPDX-License-Identifier: GPL-2.0

//! Reading the control flow of a program's text.

use crate::{
    access,
    insert::Refused,
    private_text,
    space::Space, //
};

use kernel::{
    mm::{
        write::MmapWrite,
        MmWithUser, //
    },
    prelude::*, //
};
use ubp_arch::{
    flow,
    Depth,
    Flowed,
    Mode,
    Refusal,
    Vaddr, //
};

/// Decodes the program's instruction at an address, as it is without breakpoints.
///
/// # Errors
///
/// `EAGAIN`: the text is absent; the caller must fault it in, by [`fault_in_to_read`], without
/// the lock. Else as of [`insert`](crate::insert).
pub fn flow_at(mmap: &MmapWrite<'_>, at: Vaddr, depth: Depth) -> Result<Flowed, Refused> {
    private_text::text_vma(mmap, at)?;
    let mut code = private_text::read(mmap, at)?;
    if let Some(space) = Space::of(mmap.mm()) {
        access::hide(space, at.as_usize(), code.as_mut_bytes());
    }
    match flow(code.as_bytes(), at, Mode::of_mm(mmap.mm()), depth) {
        Err(Refusal::CutOff) => Err(code.cut_off()),
        flowed => flowed.map_err(Refused::Insn),
    }
}

/// Faults in the text at an address, for [`flow_at`].
///
/// Context: may sleep, for as long as a server of userfaults or of a file system makes the caller
/// wait.
///
/// # Errors
///
/// `EFAULT`: there is no text that can be read. `EINTR`: the caller has got a signal.
pub fn fault_in_to_read(mm: &MmWithUser, at: Vaddr) -> Result {
    private_text::fault_in_to_read(mm, at)
}
