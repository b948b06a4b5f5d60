// SPDX-License-Identifier: GPL-2.0

//! System call of the current thread, read from its registers.
//!
//! C header: [`arch/x86/include/asm/syscall.h`](srctree/arch/x86/include/asm/syscall.h)

use crate::{
    bindings,
    ptregs::PtRegs, //
};

/// Number of arguments that a call can have.
pub const MAX_ARGS: usize = 6;

/// A system call table: determines the meaning of the number and the registers of the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// The calls of 64-bit programs, including x32, which sets a bit in the number.
    Native,
    /// The calls of 32-bit programs. A 64-bit program makes them by `int $0x80`.
    Ia32,
}

/// A system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Number of the call. It is -1, or another number that no call has, if the thread is in no
    /// call.
    pub nr: i32,
    /// Table that the number belongs to.
    pub table: Table,
    /// Registers of the arguments. The call determines how many are used.
    pub args: [usize; MAX_ARGS],
}

impl Call {
    /// Returns the system call of the current thread. `regs` must be the thread's registers.
    ///
    /// The registers are as the program left them, except where a tracer has changed them. The
    /// argument registers do not change during the call, except in `execve()` and `rt_sigreturn()`.
    /// The table is read from the current thread, so that the result is meaningless for the
    /// registers of any other thread.
    pub fn from_current(regs: &PtRegs) -> Self {
        let mut args = [0; MAX_ARGS];

        // SAFETY: The registers are valid, and `args` has room for six arguments.
        let (nr, is_ia32) = unsafe {
            bindings::current_syscall_arguments(regs.as_ptr(), args.as_mut_ptr());
            (
                bindings::current_syscall_nr(regs.as_ptr()),
                bindings::current_syscall_is_ia32(),
            )
        };
        let table = if is_ia32 { Table::Ia32 } else { Table::Native };
        Self {
            nr,
            table,
            args: args.map(|arg| table.argument(arg)),
        }
    }

    /// Returns the index of the first argument that equals `value`.
    pub fn position(&self, value: usize) -> Option<usize> {
        self.args.iter().position(|&arg| arg == value)
    }
}

impl Table {
    /// Converts a register to an argument.
    fn argument(self, register: usize) -> usize {
        match self {
            Table::Native => register,
            Table::Ia32 => register & u32::MAX as usize,
        }
    }

    /// Converts a register to a result: `-ERRNO` in either table, and otherwise the value that the
    /// program gets.
    fn result(self, register: isize) -> isize {
        const LAST_ERROR: i32 = -(bindings::MAX_ERRNO as i32);

        match self {
            Table::Native => register,
            Table::Ia32 => match register as i32 {
                error @ LAST_ERROR..0 => error as isize,
                value => value as u32 as isize,
            },
        }
    }
}

/// Returns the result of the system call that the current thread leaves. `regs` must be the
/// thread's registers.
pub fn result_of_current(regs: &PtRegs) -> isize {
    // SAFETY: `regs` is a reference, so the registers are valid.
    let (register, is_ia32) = unsafe {
        (
            bindings::current_syscall_result(regs.as_ptr()),
            bindings::current_syscall_is_ia32(),
        )
    };
    let table = if is_ia32 { Table::Ia32 } else { Table::Native };

    table.result(register)
}

#[cfg(CONFIG_RUST_UTRACE_KUNIT_TEST)]
#[macros::kunit_tests(rust_syscall)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_the_program_can_pass() {
        assert_eq!(Table::Native.argument(usize::MAX), usize::MAX);
        assert_eq!(Table::Ia32.argument(usize::MAX), u32::MAX as usize);
        assert_eq!(Table::Ia32.argument(0xdead_beef_0804_8000), 0x0804_8000);
    }

    #[test]
    fn errors_are_negative_in_both_tables() {
        assert_eq!(Table::Native.result(-14), -14);
        assert_eq!(Table::Ia32.result(-14), -14);
        assert_eq!(Table::Ia32.result(0xffff_fff2), -14);
        assert_eq!(Table::Ia32.result(-4095), -4095);
        assert_eq!(Table::Ia32.result(-4096), 0xffff_f000);
        assert_eq!(Table::Ia32.result(0xf7f0_0000), 0xf7f0_0000);
        assert_eq!(Table::Ia32.result(0), 0);
    }

    #[test]
    fn the_first_argument_that_matches_is_found() {
        let call = Call {
            nr: 82,
            table: Table::Native,
            args: [7, 9, 9, 0, 0, 0],
        };
        assert_eq!(call.position(7), Some(0));
        assert_eq!(call.position(9), Some(1));
        assert_eq!(call.position(8), None);
    }

    #[test]
    fn native_arguments_come_from_their_registers() {
        let mut regs = PtRegs::for_test(true);
        for (n, value) in [(7, 1), (6, 2), (2, 3), (10, 4), (8, 5), (9, 6)] {
            regs.set_gpr(n, value);
        }
        // KUnit's thread is in no call of the 32-bit table.
        let call = Call::from_current(&regs);
        assert_eq!(call.table, Table::Native);
        assert_eq!(call.args, [1, 2, 3, 4, 5, 6]);
    }
}
