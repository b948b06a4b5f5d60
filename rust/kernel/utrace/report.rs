// SPDX-License-Identifier: GPL-2.0

//! Arguments of an engine's methods.

use super::{
    exit::WaitStatus,
    Action, //
};

use crate::{
    bindings,
    prelude::*,
    str::CStr,
    task::CurrentTask, //
};

#[cfg(CONFIG_X86_64)]
use crate::ptregs::PtRegs;

use core::{
    marker::PhantomData,
    ops::{
        Deref,
        DerefMut, //
    },
};

/// An event of the current thread, reported to an engine.
///
/// The thread stays in the kernel until the engine's method returns. This is one of the two places
/// where its registers are accessible. The other is [`Stopped`](super::Stopped).
///
/// # Invariants
///
/// `regs` points to the registers with which the current thread entered the kernel. During `'a`
/// they are accessed only through this value.
pub struct Report<'a> {
    thread: &'a CurrentTask,
    action: Action,
    regs: *mut bindings::pt_regs,
    _regs: PhantomData<&'a mut bindings::pt_regs>,
}

impl<'a> Report<'a> {
    /// # Safety
    ///
    /// `regs` must point to the registers with which the current thread entered the kernel, and
    /// they must be accessed only through the result during `'a`.
    pub(super) unsafe fn new(
        thread: &'a CurrentTask,
        found: u32,
        regs: *mut bindings::pt_regs,
    ) -> Self {
        // INVARIANT: The caller passes the current thread's registers, and accesses them only
        // through this value.
        Self {
            thread,
            action: Action::from_answer(found),
            regs,
            _regs: PhantomData,
        }
    }

    /// Returns the thread of the event.
    pub fn thread(&self) -> &'a CurrentTask {
        self.thread
    }

    /// Returns the smallest of the actions that the engines called before have returned.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Returns the thread's registers in user mode.
    ///
    /// The reference cannot outlive the report:
    ///
    /// ```ignore,compile_fail,E0521
    /// # use kernel::{ptregs::PtRegs, utrace::Report};
    /// # use core::cell::Cell;
    /// fn keep(place: &Cell<Option<&'static mut PtRegs>>, report: &mut Report<'_>) {
    ///     place.set(Some(report.regs()));
    /// }
    /// ```
    #[cfg(CONFIG_X86_64)]
    pub fn regs(&mut self) -> &mut PtRegs {
        // SAFETY: By the type invariants, `self.regs` is valid and accessed only through this
        // value, which the result borrows mutably.
        unsafe { PtRegs::from_raw_mut(self.regs) }
    }
}

/// The decision about a system call that has not been executed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syscall {
    /// The call is executed.
    Run,
    /// The call is not executed, and this is its result.
    Abort(Result<usize>),
}

/// A system call that the current thread is about to execute.
///
/// [`Call::from_current`](crate::syscall::Call::from_current) takes its number and its arguments
/// from the registers.
pub struct SyscallEntry<'a> {
    report: Report<'a>,
    /// The decision that the engines called before have left, and the current one.
    bits: u32,
}

impl<'a> SyscallEntry<'a> {
    pub(super) fn new(report: Report<'a>, found: u32) -> Self {
        Self {
            report,
            bits: found & (bindings::UTRACE_SYSCALL_MASK | bindings::UTRACE_SYSCALL_RESUMED),
        }
    }

    /// Returns whether the thread was stopped here, and the engines are called again.
    pub fn is_repeated(&self) -> bool {
        self.bits & bindings::UTRACE_SYSCALL_RESUMED != 0
    }

    /// Returns the decision of the engines called before. Without one, the call is executed.
    pub fn found(&self) -> Syscall {
        if self.bits & bindings::UTRACE_SYSCALL_MASK
            == bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT
        {
            Syscall::Abort(self.report.result())
        } else {
            Syscall::Run
        }
    }

    /// Changes the decision. Without this, it stays as in [`SyscallEntry::found`].
    pub fn decide(&mut self, syscall: Syscall) {
        self.bits &= !bindings::UTRACE_SYSCALL_MASK;
        if let Syscall::Abort(result) = syscall {
            self.bits |= bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT;
            self.report.set_result(result);
        }
    }

    /// Sets the number of the call.
    pub fn set_number(&mut self, number: i32) {
        // SAFETY: By the type invariants of `Report`, its `regs` are valid and accessed only
        // through it.
        unsafe { bindings::utrace_set_syscall_nr(self.report.regs, number) };
    }

    /// Sets the arguments of the call.
    pub fn set_arguments(&mut self, arguments: &[usize; 6]) {
        // SAFETY: By the type invariants of `Report`, its `regs` are valid and accessed only
        // through it. `arguments` has six elements.
        unsafe { bindings::utrace_set_syscall_arguments(self.report.regs, arguments.as_ptr()) };
    }

    /// Returns the answer of a callback.
    pub(super) fn answer(&self, action: Action) -> u32 {
        action.answer(self.bits & bindings::UTRACE_SYSCALL_MASK)
    }
}

/// A system call from which the current thread returns.
pub struct SyscallExit<'a>(Report<'a>);

impl<'a> SyscallExit<'a> {
    pub(super) fn new(report: Report<'a>) -> Self {
        Self(report)
    }

    /// Returns the current result. The error may be one with which the kernel restarts the call,
    /// such as `ERESTARTSYS`.
    pub fn result(&self) -> Result<usize> {
        self.0.result()
    }

    /// Sets the result.
    pub fn set_result(&mut self, result: Result<usize>) {
        self.0.set_result(result);
    }
}

impl Report<'_> {
    fn result(&self) -> Result<usize> {
        let mut value = 0;
        // SAFETY: By the type invariants, `self.regs` is valid; `value` is valid for a write.
        let error = unsafe { bindings::utrace_syscall_result(self.regs, &mut value) };
        match error {
            0 => Ok(value as usize),
            error => Err(Error::from_errno(error as c_int)),
        }
    }

    fn set_result(&mut self, result: Result<usize>) {
        let (error, value) = match result {
            Ok(value) => (0, value),
            Err(error) => (error.to_errno(), 0),
        };
        // SAFETY: By the type invariants, `self.regs` is valid and accessed only through this
        // value.
        unsafe { bindings::utrace_set_syscall_result(self.regs, error, value as c_long) };
    }
}

macro_rules! is_a_report {
    ($ty:ident, $field:tt) => {
        impl<'a> Deref for $ty<'a> {
            type Target = Report<'a>;

            fn deref(&self) -> &Self::Target {
                &self.$field
            }
        }

        impl DerefMut for $ty<'_> {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.$field
            }
        }
    };
}

is_a_report!(SyscallEntry, report);
is_a_report!(SyscallExit, 0);

/// The `CLONE_` flags of a `clone()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloneFlags(pub(super) c_ulong);

impl CloneFlags {
    /// Returns whether the child is a thread of the same process.
    pub fn thread(self) -> bool {
        self.0 & bindings::CLONE_THREAD as c_ulong != 0
    }

    /// Returns whether the parent waits until the child has executed a program or has exited.
    pub fn vfork(self) -> bool {
        self.0 & bindings::CLONE_VFORK as c_ulong != 0
    }

    /// Returns whether the child shares the address space.
    pub fn vm(self) -> bool {
        self.0 & bindings::CLONE_VM as c_ulong != 0
    }

    /// Returns the flags.
    pub fn bits(self) -> usize {
        self.0
    }
}

/// The program that a process executes after an exec.
pub struct Image<'a>(&'a bindings::linux_binprm);

impl<'a> Image<'a> {
    /// # Safety
    ///
    /// `raw` must be valid for `'a`, and must belong to a program that the kernel has loaded.
    pub(super) unsafe fn from_raw(raw: *const bindings::linux_binprm) -> Self {
        // SAFETY: The caller ensures that `raw` is valid for `'a`.
        Self(unsafe { &*raw })
    }

    /// Returns the name of the file that was to be executed.
    pub fn file_name(&self) -> &'a CStr {
        // SAFETY: A `struct linux_binprm` keeps `filename`, a C string, as long as it exists.
        unsafe { CStr::from_char_ptr(self.0.filename) }
    }

    /// Returns the name of the file that is executed: for a script, that of its interpreter.
    pub fn interpreter(&self) -> &'a CStr {
        // SAFETY: A `struct linux_binprm` keeps `interp`, a C string, as long as it exists.
        unsafe { CStr::from_char_ptr(self.0.interp) }
    }
}

/// The exit of a thread.
pub struct Exit<'a> {
    original: WaitStatus,
    status: &'a mut c_long,
}

impl<'a> Exit<'a> {
    pub(super) fn new(original: c_long, status: &'a mut c_long) -> Self {
        Self {
            original: WaitStatus::from_long(original),
            status,
        }
    }

    /// Returns the status before any engine was called.
    pub fn original(&self) -> WaitStatus {
        self.original
    }

    /// Returns the current status.
    pub fn status(&self) -> WaitStatus {
        WaitStatus::from_long(*self.status)
    }

    /// Changes the status.
    pub fn set_status(&mut self, status: WaitStatus) {
        *self.status = status.raw() as c_long;
    }
}
