// SPDX-License-Identifier: GPL-2.0

//! A thread that is stopped.

use super::handle::OnThread;

/// A thread that an engine has stopped, in [`OnThread::examine`].
///
/// This and [`Report`](super::Report) are the places where the registers of a thread can be
/// touched. It does not get out of the closure that it is given to:
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

    /// The thread.
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
    /// It holds the registers of a user thread.
    pub struct Registers(Opaque<bindings::pt_regs>);

    impl Registers {
        #[cfg(CONFIG_RUST_UTRACE_KUNIT_TEST)]
        pub(in crate::utrace) fn of(regs: &PtRegs) -> Self {
            // INVARIANT: By those of `PtRegs`.
            //
            // SAFETY: By the type invariants of `PtRegs`.
            Self(Opaque::new(unsafe { *regs.as_ptr() }))
        }
    }

    impl Deref for Registers {
        type Target = PtRegs;

        fn deref(&self) -> &PtRegs {
            // SAFETY: `PtRegs` is a transparent wrapper of the same type. By the type invariants
            // they are a user thread's, and they are nobody else's, as this is a copy.
            unsafe { &*self.0.get().cast_const().cast() }
        }
    }

    impl DerefMut for Registers {
        fn deref_mut(&mut self) -> &mut PtRegs {
            // SAFETY: As above, and `self` is borrowed mutably.
            unsafe { PtRegs::from_raw_mut(self.0.get()) }
        }
    }

    impl Stopped<'_> {
        /// Copies the thread's registers in user mode. Does not sleep.
        ///
        /// # Errors
        ///
        /// `EAGAIN`: the thread has gone on. `EINVAL`: the engine has let it. `ESRCH`: the engine
        /// has been detached, or the thread is dead.
        pub fn regs(&self) -> Result<Registers> {
            let (task, engine) = self.on.as_raw();
            let mut regs: bindings::pt_regs = pin_init::zeroed();
            // SAFETY: By the type invariants of `OnThread`; `regs` is valid for a write.
            to_result(unsafe { bindings::utrace_get_regs(task, engine, &mut regs) })?;
            // INVARIANT: They have been copied.
            Ok(Registers(Opaque::new(regs)))
        }

        /// Replaces the thread's registers in user mode. Does not sleep.
        ///
        /// # Errors
        ///
        /// As of [`Stopped::regs`].
        pub fn set_regs(&mut self, regs: &Registers) -> Result {
            let (task, engine) = self.on.as_raw();
            // SAFETY: By the type invariants of `OnThread`, and of `Registers`.
            to_result(unsafe { bindings::utrace_set_regs(task, engine, regs.0.get().cast_const()) })
        }
    }
}

#[cfg(CONFIG_X86_64)]
pub use registers::Registers;
