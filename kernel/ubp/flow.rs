// SPDX-License-Identifier: GPL-2.0

//! Control flow of a program's text.

use crate::{
    insert::InsertError,
    text, //
};

use kernel::{
    mm::write::MmapWrite,
    prelude::*, //
};
use ubp_arch::{
    flow,
    Depth,
    FlowStep,
    Mode,
    Refusal,
    Vaddr, //
};

/// Decodes the program's instruction at an address, without breakpoints.
///
/// # Errors
///
/// `EAGAIN`: the text is absent; the caller must fault it in with
/// [`fault_in_to_read`](crate::fault_in_to_read), without the lock. Other errors as for
/// [`insert`](crate::insert).
pub fn flow_at(mmap: &MmapWrite<'_>, at: Vaddr, depth: Depth) -> Result<FlowStep, InsertError> {
    let code = text::read(mmap, at)?;
    match flow(code.as_bytes(), at, Mode::from_mm(mmap.mm()), depth) {
        Err(Refusal::CutOff) => Err(code.cut_off()),
        flowed => flowed.map_err(InsertError::Refused),
    }
}
