// SPDX-License-Identifier: GPL-2.0

//! What an engine's methods are given.

use super::{
    action::Action,
    exit::WaitStatus, //
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

/// An event of the current thread, which an engine is told of.
///
/// The thread is in the kernel, and stays there until the engine's method returns: this is one of
/// the two places where its registers can be touched. The other is
/// [`Stopped`](super::Stopped).
///
/// # Invariants
///
/// `regs` points to the registers with which the current thread entered the kernel, and nothing
/// accesses them during `'a` but through this value.
pub struct Report<'a> {
    thread: &'a CurrentTask,
    action: Action,
    regs: *mut bindings::pt_regs,
    _regs: PhantomData<&'a mut bindings::pt_regs>,
}

impl<'a> Report<'a> {
    /// # Safety
    ///
    /// As the type invariants say.
    pub(super) unsafe fn new(
        thread: &'a CurrentTask,
        found: u32,
        regs: *mut bindings::pt_regs,
    ) -> Self {
        // INVARIANT: By the requirement on the caller.
        Self {
            thread,
            action: Action::found_in(found),
            regs,
            _regs: PhantomData,
        }
    }

    /// The thread that the event is of.
    pub fn thread(&self) -> &'a CurrentTask {
        self.thread
    }

    /// The first of the actions that the engines which were asked before want.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The thread's registers in user mode.
    ///
    /// They are not there any longer than the report is:
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
        // SAFETY: By the type invariants, as the result borrows `self` mutably.
        unsafe { PtRegs::from_raw_mut(self.regs) }
    }
}

/// What is to become of a system call that has not been executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syscall {
    /// It is executed.
    Run,
    /// It is not, and this is its result.
    Abort(Result<usize>),
}

/// A system call that the current thread is about to execute. With its registers,
/// [`Call::of_current`](crate::syscall::Call::of_current) tells the number and the arguments.
pub struct SyscallEntry<'a> {
    report: Report<'a>,
    /// What the engines that were asked before have left, and what becomes of it.
    bits: u32,
}

impl<'a> SyscallEntry<'a> {
    pub(super) fn new(report: Report<'a>, found: u32) -> Self {
        Self {
            report,
            bits: found & (bindings::UTRACE_SYSCALL_MASK | bindings::UTRACE_SYSCALL_RESUMED),
        }
    }

    /// Whether the thread was stopped here, and engines are asked again.
    pub fn is_repeated(&self) -> bool {
        self.bits & bindings::UTRACE_SYSCALL_RESUMED != 0
    }

    /// What becomes of the call: what the engines that were asked before want, or else it is
    /// executed.
    pub fn found(&self) -> Syscall {
        if self.bits & bindings::UTRACE_SYSCALL_MASK
            == bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT
        {
            Syscall::Abort(self.report.result())
        } else {
            Syscall::Run
        }
    }

    /// Has something else become of it. Without this it stays with [`SyscallEntry::found`].
    pub fn decide(&mut self, syscall: Syscall) {
        self.bits &= !bindings::UTRACE_SYSCALL_MASK;
        if let Syscall::Abort(result) = syscall {
            self.bits |= bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT;
            self.report.set_result(result);
        }
    }

    /// Sets the number of the call.
    pub fn set_number(&mut self, number: i32) {
        // SAFETY: By the type invariants of `Report`.
        unsafe { bindings::utrace_set_syscall_nr(self.report.regs, number) };
    }

    /// Sets the arguments of the call.
    pub fn set_arguments(&mut self, arguments: &[usize; 6]) {
        // SAFETY: By the type invariants of `Report`; there are six arguments.
        unsafe { bindings::utrace_set_syscall_arguments(self.report.regs, arguments.as_ptr()) };
    }

    /// The answer of a callback.
    pub(super) fn answer(&self, action: Action) -> u32 {
        action.answer(self.bits & bindings::UTRACE_SYSCALL_MASK)
    }
}

/// A system call that the current thread returns from.
pub struct SyscallExit<'a>(Report<'a>);

impl<'a> SyscallExit<'a> {
    pub(super) fn new(report: Report<'a>) -> Self {
        Self(report)
    }

    /// The result, as it is now. Errors can be those with which the kernel starts a call anew, as
    /// `ERESTARTSYS`.
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
        // SAFETY: By the type invariants; `value` is valid for a write.
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
        // SAFETY: By the type invariants.
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

/// What `clone()` was asked for: `CLONE_` flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloneFlags(pub(super) c_ulong);

impl CloneFlags {
    /// Whether the child is a thread of the same process.
    pub fn thread(self) -> bool {
        self.0 & bindings::CLONE_THREAD as c_ulong != 0
    }

    /// Whether the parent waits until the child has executed a program or has exited.
    pub fn vfork(self) -> bool {
        self.0 & bindings::CLONE_VFORK as c_ulong != 0
    }

    /// Whether the child shares the address space.
    pub fn vm(self) -> bool {
        self.0 & bindings::CLONE_VM as c_ulong != 0
    }

    /// The flags.
    pub fn bits(self) -> usize {
        self.0
    }
}

/// The program that a process executes from now on.
pub struct Image<'a>(&'a bindings::linux_binprm);

impl<'a> Image<'a> {
    /// # Safety
    ///
    /// `raw` is what the kernel executes a program with, which it has loaded, and is valid for
    /// `'a`.
    pub(super) unsafe fn from_raw(raw: *const bindings::linux_binprm) -> Self {
        // SAFETY: By the requirement on the caller.
        Self(unsafe { &*raw })
    }

    /// The name of the file that was to be executed.
    pub fn file_name(&self) -> &'a CStr {
        // SAFETY: A `struct linux_binprm` has it for as long as it exists.
        unsafe { CStr::from_char_ptr(self.0.filename) }
    }

    /// The name of the file that is: of a script, its interpreter's.
    pub fn interpreter(&self) -> &'a CStr {
        // SAFETY: As above.
        unsafe { CStr::from_char_ptr(self.0.interp) }
    }
}

/// How a thread exits.
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

    /// The status as it was before engines were told.
    pub fn original(&self) -> WaitStatus {
        self.original
    }

    /// The status as it is now.
    pub fn status(&self) -> WaitStatus {
        WaitStatus::from_long(*self.status)
    }

    /// Changes the status.
    pub fn set_status(&mut self, status: WaitStatus) {
        *self.status = status.raw() as c_long;
    }
}
