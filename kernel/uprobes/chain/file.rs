// SPDX-License-Identifier: GPL-2.0

//! The probe of the mapped file in a handler chain.

use super::{
    copied,
    HandlerChain, //
};
use crate::entry::{
    EndedCall,
    FilePlace,
    GroupFunction, //
};

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::Guard,
        Arc,
        DirectArc, //
    },
    threads::ThreadGroup, //
};

/// The probe of the mapped file at a probepoint.
pub(super) struct FilePart {
    pub(super) place: DirectArc<dyn FilePlace>,
    /// The function there, as the processes know it that have prepared its returns.
    pub(super) functions: KVec<GroupFunction>,
    /// That of `place`, where a hit finds it without a call.
    wants_returns: Arc<Atomic<bool>>,
}

impl FilePart {
    pub(super) fn new(place: &Arc<dyn FilePlace>) -> Self {
        Self {
            wants_returns: place.wants_returns().clone(),
            place: place.clone().into(),
            functions: KVec::new(),
        }
    }

    pub(super) fn copied(
        &self,
        more: usize,
        keep: impl Fn(&GroupFunction) -> bool,
    ) -> Result<Self> {
        Ok(Self {
            place: self.place.clone(),
            wants_returns: self.wants_returns.clone(),
            functions: copied(&self.functions, more, keep)?,
        })
    }

    /// Returns the function, as a process knows it.
    #[inline]
    pub(super) fn function(&self, group: ThreadGroup) -> Option<&GroupFunction> {
        self.functions.iter().find(|it| it.group == group)
    }

    /// Returns whether consumers want returns.
    #[inline]
    pub(super) fn wants_returns(&self) -> bool {
        self.wants_returns.load(Relaxed)
    }

    /// Calls the handlers. Returns the number of the newest consumer that wants the return of this
    /// call, if one does and the thread is still at `at`.
    pub(super) fn hit(&self, at: usize, regs: &mut PtRegs, guard: &Guard) -> Option<u64> {
        if self.wants_returns() {
            return self.place.hit_for_return(at, regs, guard);
        }
        self.place.hit(regs, guard);
        None
    }
}

impl HandlerChain {
    /// Returns the probe of the file.
    pub(crate) fn file(&self) -> Option<&Arc<dyn FilePlace>> {
        self.file.as_ref().map(|file| file.place.as_arc())
    }

    /// Returns a copy that has the probe of a file.
    pub(crate) fn with_file(&self, place: &Arc<dyn FilePlace>) -> Result<Self> {
        let file = FilePart::new(place);
        Ok(Self::from_parts(
            copied(&self.entries, 0, |_| true)?,
            Some(file),
            copied(&self.return_points, 0, |_| true)?,
        ))
    }

    /// Returns a copy that does not have the probe of a file, if `place` is it.
    pub(crate) fn without_file(&self, place: &dyn FilePlace) -> Result<Self> {
        let is_other = |file: &FilePart| !core::ptr::addr_eq(&*file.place, place);
        let file = match &self.file {
            Some(file) if is_other(file) => Some(file.copied(0, |_| true)?),
            _ => None,
        };
        Ok(Self::from_parts(
            copied(&self.entries, 0, |_| true)?,
            file,
            copied(&self.return_points, 0, |_| true)?,
        ))
    }

    /// Returns a copy in which the probe of the file knows the function for one more process.
    pub(crate) fn with_function(&self, function: GroupFunction) -> Result<Self> {
        let file = match &self.file {
            Some(file) => {
                let mut file = file.copied(1, |it| it.group != function.group)?;
                file.functions.push(function, GFP_KERNEL)?;
                Some(file)
            }
            None => None,
        };
        Ok(Self::from_parts(
            copied(&self.entries, 0, |_| true)?,
            file,
            copied(&self.return_points, 0, |_| true)?,
        ))
    }

    /// Returns whether consumers of the file want returns, and the returns in the process of the
    /// current thread, which belongs to `group`, have not been prepared.
    #[inline]
    pub(crate) fn is_unprepared(&self, group: ThreadGroup) -> bool {
        self.file
            .as_ref()
            .is_some_and(|file| file.wants_returns() && file.function(group).is_none())
    }

    /// Returns whether consumers of the file want returns.
    #[inline]
    pub(crate) fn file_wants_returns(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.wants_returns())
    }

    /// Returns the function at the probe of the file, as a process knows it.
    #[inline]
    pub(crate) fn file_function(&self, group: ThreadGroup) -> Option<&GroupFunction> {
        self.file.as_ref()?.function(group)
    }

    /// Calls the handlers of the consumers of the file, which are the only ones and do not want to
    /// know of returns.
    #[inline]
    pub(crate) fn hit_file(&self, regs: &mut PtRegs, guard: &Guard) {
        if let Some(file) = &self.file {
            file.place.hit(regs, guard);
        }
    }

    /// Calls the handlers of the consumers of the file, which are the only ones. `function` is the
    /// function there, as the process of the current thread knows it.
    #[inline]
    pub(crate) fn hit_file_for_return(
        &self,
        at: usize,
        function: &GroupFunction,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let Some(file) = &self.file else { return };
        let wanted = file.place.hit_for_return(at, regs, guard);
        if let (Some(generation), Some(entry)) = (wanted, &function.entry) {
            let _ = entry.reached(generation, regs, guard);
        }
    }

    #[inline]
    pub(super) fn returned_to_file(&self, ended: EndedCall, regs: &mut PtRegs, guard: &Guard) {
        if let Some(file) = &self.file {
            file.place.returned(ended, regs, guard);
        }
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "file_test.rs"]
mod tests;
