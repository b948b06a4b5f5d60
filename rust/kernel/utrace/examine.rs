// SPDX-License-Identifier: GPL-2.0

//! Stopped threads.

use super::handle::OnThread;

/// A thread that an engine has stopped, in [`OnThread::examine`].
///
/// This and [`Report`](super::Report) are the places where the registers of a thread are
/// accessible. A reference to it cannot leave the closure:
///
/// ```ignore,compile_fail,E0521
/// # use kernel::{prelude::*, utrace::{Attached, Engine, Stopped}};
/// # fn keep<T: Engine>(attached: &Attached<T>) -> Result {
/// let mut kept: Option<&mut Stopped<'_>> = None;
/// attached.examine(|thread| kept = Some(thread))?;
/// # Ok(())
/// # }
/// ```
pub struct Stopped<'a> {
    on: &'a OnThread,
}

impl<'a> Stopped<'a> {
    pub(super) fn new(on: &'a OnThread) -> Self {
        Self { on }
    }

    /// Returns the thread.
    pub fn task(&self) -> &crate::task::Task {
        self.on.task()
    }
}

#[cfg(CONFIG_X86_64)]
mod registers {
    use super::*;

    use crate::{
        bindings,
        error::to_result,
        prelude::*,
        ptregs::PtRegs,
        types::Opaque, //
    };

    use core::ops::{
        Deref,
        DerefMut, //
    };

    /// A copy of a thread's registers.
    ///
    /// # Invariants
    ///
    /// It contains the registers of a user thread.
    pub struct Registers(Opaque<bindings::pt_regs>);

    impl Registers {
        #[cfg(CONFIG_RUST_UTRACE_KUNIT_TEST)]
        pub(in crate::utrace) fn from_regs(regs: &PtRegs) -> Self {
            // INVARIANT: By its type invariants, a `PtRegs` contains a user thread's registers.
            //
            // SAFETY: By the type invariants of `PtRegs`, the pointer is valid.
            Self(Opaque::new(unsafe { *regs.as_ptr() }))
        }
    }

    impl Deref for Registers {
        type Target = PtRegs;

        fn deref(&self) -> &PtRegs {
            // SAFETY: `PtRegs` is a transparent wrapper of the same type. By the type invariants,
            // `self` contains a user thread's registers, and nothing else accesses them because
            // this is a copy.
            unsafe { &*self.0.get().cast_const().cast() }
        }
    }

    impl DerefMut for Registers {
        fn deref_mut(&mut self) -> &mut PtRegs {
            // SAFETY: By the type invariants, `self` contains a user thread's registers. They are a
            // copy, which the result borrows mutably.
            unsafe { PtRegs::from_raw_mut(self.0.get()) }
        }
    }

    impl Stopped<'_> {
        /// Copies the thread's registers in user mode. Does not sleep.
        ///
        /// # Errors
        ///
        /// `EAGAIN` if the thread has continued. `EINVAL` if the engine does not keep it stopped.
        /// `ESRCH` if the engine has been detached, or the thread is dead.
        pub fn regs(&self) -> Result<Registers> {
            let (task, engine) = self.on.as_raw();
            let mut regs: bindings::pt_regs = pin_init::zeroed();
            // SAFETY: By the type invariants of `OnThread`, `task` and `engine` are valid; `regs`
            // is valid for a write.
            to_result(unsafe { bindings::utrace_get_regs(task, engine, &mut regs) })?;
            // INVARIANT: `utrace_get_regs()` has copied a user thread's registers to `regs`.
            Ok(Registers(Opaque::new(regs)))
        }

        /// Replaces the thread's registers in user mode. Does not sleep.
        ///
        /// # Errors
        ///
        /// As for [`Stopped::regs`].
        pub fn set_regs(&mut self, regs: &Registers) -> Result {
            let (task, engine) = self.on.as_raw();
            // SAFETY: By the type invariants of `OnThread`, `task` and `engine` are valid. `regs`
            // is valid because it is a reference.
            to_result(unsafe { bindings::utrace_set_regs(task, engine, regs.0.get().cast_const()) })
        }
    }
}

#[cfg(CONFIG_X86_64)]
pub use registers::Registers;
