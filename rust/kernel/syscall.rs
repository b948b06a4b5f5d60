// SPDX-License-Identifier: GPL-2.0

//! The system call that the current thread is in, as its registers tell it.
//!
//! C header: [`arch/x86/include/asm/syscall.h`](srctree/arch/x86/include/asm/syscall.h)

use crate::{
    bindings,
    ptregs::PtRegs, //
};

/// Number of arguments that a call can have.
pub const MAX_ARGS: usize = 6;

/// What a number is the number of, and which registers hold the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// The calls of 64-bit programs, x32's included, which have a bit of their own in the number.
    Native,
    /// The calls of 32-bit programs. A 64-bit program makes them by `int $0x80`.
    Ia32,
}

/// A system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its number. It is -1, or another that no call has, if the thread is in none.
    pub nr: i32,
    /// The table that the number is of.
    pub table: Table,
    /// The registers of the arguments. How many count depends on the call.
    pub args: [usize; MAX_ARGS],
}

impl Call {
    /// Returns the call that the current thread, whose registers these are, is in.
    ///
    /// The registers are as the program left them, except where a tracer has changed them; those
    /// of the arguments do not change in the call, unless it is `execve()` or `rt_sigreturn()`.
    /// Which of the tables it is, is asked of the current thread, so that for the registers of any
    /// other the result means nothing.
    pub fn of_current(regs: &PtRegs) -> Self {
        let mut args = [0; MAX_ARGS];

        // SAFETY: The registers are valid, and there is room for six arguments.
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

    /// Returns the first argument that is `value`.
    pub fn position(&self, value: usize) -> Option<usize> {
        self.args.iter().position(|&arg| arg == value)
    }
}

impl Table {
    /// An argument, of its register.
    fn argument(self, register: usize) -> usize {
        match self {
            Table::Native => register,
            Table::Ia32 => register & u32::MAX as usize,
        }
    }

    /// A result, of its register: `-ERRNO` in either table, and otherwise what the program sees.
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

/// Returns the result of the call that the current thread, whose registers these are, leaves.
pub fn result_of_current(regs: &PtRegs) -> isize {
    // SAFETY: The registers are valid.
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
        let mut regs = PtRegs::made_up(true);
        for (n, value) in [(7, 1), (6, 2), (2, 3), (10, 4), (8, 5), (9, 6)] {
            regs.set_gpr(n, value);
        }
        // KUnit's thread is in no call of the 32-bit table.
        let call = Call::of_current(&regs);
        assert_eq!(call.table, Table::Native);
        assert_eq!(call.args, [1, 2, 3, 4, 5, 6]);
    }
}
