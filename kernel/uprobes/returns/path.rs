// SPDX-License-Identifier: GPL-2.0

//! Paths of a control-flow walk.

use ubp::{
    Depth,
    FlowStep,
    Vaddr, //
};

/// A path of the walk: the next instruction, and the state before it.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    pub(crate) at: Vaddr,
    pub(crate) depth: Depth,
    /// Index of the last call on the path.
    pub(crate) call: Option<usize>,
    /// Set while the path is in a callee that takes its return address.
    pub(crate) inner: Option<Inner>,
}

/// Return address of the callee that a path is in.
#[derive(Clone, Copy)]
pub(crate) struct Inner {
    /// Depth of its location on the stack.
    pub(crate) depth: i32,
    /// Value of the return address, unless the callee has changed it.
    pub(crate) address: Option<Vaddr>,
}

/// A call that a path has passed.
pub(crate) struct Call {
    /// Index of the call before it on the path.
    pub(crate) before: Option<usize>,
    /// Whether the call does not return, or comes after a call that does not.
    pub(crate) noreturn: bool,
}

impl Inner {
    /// Returns the state after an instruction; `None` once the return address has been popped.
    pub(crate) fn after(self, flowed: &FlowStep) -> Option<Self> {
        let sp = flowed.depth.sp()?;
        let is_changed = flowed.writes == Some(self.depth);
        let address = self.address.filter(|_| !is_changed);
        (sp >= self.depth).then_some(Self { address, ..self })
    }
}
