// SPDX-License-Identifier: GPL-2.0

//! Closures as handlers.

use super::{
    Handler,
    Probe,
    Target, //
};

use crate::{
    prelude::*,
    ptregs::PtRegs, //
};

struct OnHit<F>(F);

#[vtable]
impl<F: Fn(&mut PtRegs) + Send + Sync + 'static> Handler for OnHit<F> {
    fn hit(&self, regs: &mut PtRegs) {
        (self.0)(regs);
    }
}

struct OnReturn<F>(F);

#[vtable]
impl<F: Fn(&mut PtRegs) + Send + Sync + 'static> Handler for OnReturn<F> {
    fn returned(&self, regs: &mut PtRegs) {
        (self.0)(regs);
    }
}

impl Probe {
    /// Registers a closure as [`Handler::hit`].
    ///
    /// # Errors
    ///
    /// As for [`Probe::register`].
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     prelude::*,
    ///     uprobes::{Probe, Target}, //
    /// };
    ///
    /// fn trace(pid: i32, function: usize) -> Result<Probe> {
    ///     Probe::register_fn(Target::from_pid(pid, function), |regs| {
    ///         // Register 7 is DI, which has the first argument.
    ///         pr_info!("called with {:#x}\n", regs.gpr(7));
    ///     })
    /// }
    /// # // No process has this number.
    /// # assert_eq!(trace(0, 0x1000).err(), Some(EINVAL));
    /// ```
    pub fn register_fn<F>(target: Target<'_>, f: F) -> Result<Self>
    where
        F: Fn(&mut PtRegs) + Send + Sync + 'static,
    {
        Probe::register(target, OnHit(f)).map(Probe::into_any)
    }

    /// Registers a closure as [`Handler::returned`].
    ///
    /// # Errors
    ///
    /// As for [`Probe::register`].
    pub fn register_return_fn<F>(target: Target<'_>, f: F) -> Result<Self>
    where
        F: Fn(&mut PtRegs) + Send + Sync + 'static,
    {
        Probe::register(target, OnReturn(f)).map(Probe::into_any)
    }
}
