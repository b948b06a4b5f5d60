// SPDX-License-Identifier: GPL-2.0

//! The instructions at which the returns of a function are detected.

use crate::{
    entry::ReturnPoint,
    probepoint::Probepoint,
    returns::{
        extent::Extent,
        process::ReturnProbes,
        walk::{
            walk,
            Walked, //
        },
    },
};

use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    uprobes::Detection, //
};
use ubp::Vaddr;

/// The instructions at which the returns of a function are detected.
///
/// They are found before any lock is taken, because the text that the walk reads may have to be
/// faulted in.
pub(crate) struct ReturnSites {
    at: Vaddr,
    walked: Walked,
}

impl ReturnSites {
    /// Finds the instructions by which the function at `at` returns. `size` is its size in bytes,
    /// if it is known.
    ///
    /// Context: may sleep; takes `mmap_lock`. The caller must not hold a lock that another process
    /// may wait for.
    ///
    /// # Errors
    ///
    /// As for [`register`](crate::register).
    pub(crate) fn find(mm: &MmWithUser, at: Vaddr, size: Option<usize>) -> Result<Self> {
        let extent = match size {
            Some(size) => Some(Extent::new(mm, at, size)?),
            None => None,
        };
        Ok(Self {
            at,
            walked: walk(mm, at, extent.as_ref())?,
        })
    }

    /// Faults in the text of the entry and of the return instructions. If the text of a return
    /// instruction cannot be faulted in, drops the instruction, and has its returns detected by
    /// return address.
    ///
    /// Context: may sleep, for as long as the server of a userfaultfd or of a file system makes the
    /// caller wait. The caller must not hold a lock.
    ///
    /// # Errors
    ///
    /// As for [`ubp::fault_in`].
    pub(crate) fn fault_in(&mut self, mm: &MmWithUser) -> Result {
        ubp::fault_in(mm, self.at)?;
        let walked = &mut self.walked;
        let mut result = Ok(());
        walked
            .return_insns
            .retain(|insn| match ubp::fault_in(mm, *insn) {
                Ok(()) => true,
                Err(error) => {
                    if error == EINTR {
                        result = Err(EINTR);
                    }
                    walked.detection = Detection::ReturnAddress {
                        walk_end: insn.as_usize(),
                    };
                    false
                }
            });
        result
    }

    /// Inserts the return breakpoints. Returns how the returns are detected.
    ///
    /// # Errors
    ///
    /// As for [`ReturnProbes::insert_breakpoints`].
    pub(crate) fn insert(
        &self,
        returns: &Arc<ReturnProbes>,
        mm: &ARef<MmWithUser>,
    ) -> Result<Detection> {
        returns.insert_breakpoints(mm, &self.walked)
    }

    /// Returns the return point of the entry, which is at a probepoint. [`ReturnSites::insert`] has
    /// returned `detection`. See [`ReturnProbes::function_entry`].
    pub(crate) fn function_entry(
        &self,
        returns: &Arc<ReturnProbes>,
        probepoint: &Arc<Probepoint>,
        detection: Detection,
    ) -> Result<(Arc<dyn ReturnPoint>, Detection)> {
        returns.function_entry(probepoint, &self.walked, detection)
    }
}
