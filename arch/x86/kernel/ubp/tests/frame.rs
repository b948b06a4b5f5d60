// SPDX-License-Identifier: GPL-2.0

//! Tests for instructions outside of the frame of their function.

use super::{
    super::{
        analyze,
        Mode, //
    },
    AT, //
};
use crate::Vaddr;
use kernel::prelude::*;

#[kunit_tests(ubp_arch_frame)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_frame() {
        let outside = |bytes: &[u8], mode| {
            let insn = analyze(bytes, Vaddr::new(AT), mode);
            insn.is_ok_and(|insn| insn.is_outside_of_frame())
        };
        for mode in [Mode::Bits64, Mode::Bits32] {
            // `push %rbp`, `endbr64`, `endbr32`, `ret`, `rep ret`, `bnd ret` and `ret $8`
            assert!(outside(b"\x55", mode));
            assert!(outside(b"\xf3\x0f\x1e\xfa", mode));
            assert!(outside(b"\xf3\x0f\x1e\xfb", mode));
            assert!(outside(b"\xc3", mode));
            assert!(outside(b"\xf3\xc3", mode));
            assert!(outside(b"\xf2\xc3", mode));
            assert!(outside(b"\xc2\x08\x00", mode));
            // `nop`, `push %rbx`, the 32-bit encoding of `mov %rsp,%rbp`, and `leave`
            assert!(!outside(b"\x90", mode));
            assert!(!outside(b"\x53", mode));
            assert!(!outside(b"\x89\xe5", mode));
            assert!(!outside(b"\xc9", mode));
        }
    }
}
