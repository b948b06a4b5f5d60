// SPDX-License-Identifier: GPL-2.0

//! Tests of the results and flags of arithmetic and logic, compared with a processor's.

use super::{
    super::Mode,
    emulate::{
        emulate,
        same,
        Outcome, //
    },
    registers,
    MockThread,
    AT,
    MEMORY, //
};
use crate::{
    ThreadAccess,
    Width, //
};
use kernel::{
    prelude::*,
    ptregs::flags::{
        AF,
        CF,
        DF,
        OF,
        PF,
        SF,
        ZF, //
    },
};

const AX: u8 = 0;
const CX: u8 = 1;
/// The highest bit of a register.
const TOP: usize = 1 << 63;

const STATUS: usize = CF | PF | AF | ZF | SF | OF;

/// An instruction; `rax`, `rcx` and the carry flag before it; `rax` and the status flags after it.
type Case = (&'static [u8], usize, usize, usize, usize, usize);

/// Instructions with a result in `eax`. The upper half of `rax` is zero unless there is REX.W.
const CASES: &[Case] = &[
    // ADD.
    (b"\x01\xc8", 0, 0, 0, 0, PF | ZF),
    (b"\x01\xc8", 1, 2, 0, 3, PF),
    (b"\x01\xc8", 0xf, 1, 0, 0x10, AF),
    (b"\x01\xc8", 0xffff_ffff, 1, 0, 0, CF | PF | AF | ZF),
    (
        b"\x01\xc8",
        0x7fff_ffff,
        1,
        0,
        0x8000_0000,
        PF | AF | SF | OF,
    ),
    (
        b"\x01\xc8",
        0x8000_0000,
        0x8000_0000,
        0,
        0,
        CF | PF | ZF | OF,
    ),
    (
        b"\x01\xc8",
        0xffff_ffff,
        0xffff_ffff,
        0,
        0xffff_fffe,
        CF | AF | SF,
    ),
    (b"\x00\xc8", 0xff, 1, 0, 0, CF | PF | AF | ZF),
    (b"\x00\xc8", 0x7f, 1, 0, 0x80, AF | SF | OF),
    (b"\x00\xc8", 0x80, 0xff, 0, 0x7f, CF | OF),
    (b"\x66\x01\xc8", 0xffff, 1, 0, 0, CF | PF | AF | ZF),
    (b"\x66\x01\xc8", 0x7fff, 1, 0, 0x8000, PF | AF | SF | OF),
    (b"\x66\x01\xc8", 0x8000, 0xffff, 0, 0x7fff, CF | PF | OF),
    (b"\x48\x01\xc8", !0, 1, 0, 0, CF | PF | AF | ZF),
    (b"\x48\x01\xc8", TOP - 1, 1, 0, TOP, PF | AF | SF | OF),
    (b"\x48\x01\xc8", TOP, !0, 0, TOP - 1, CF | PF | OF),
    // ADC, without and with a carry.
    (b"\x11\xc8", 1, 1, 0, 2, 0),
    (b"\x11\xc8", 1, 1, CF, 3, PF),
    (b"\x11\xc8", 0xffff_ffff, 0, CF, 0, CF | PF | AF | ZF),
    (
        b"\x11\xc8",
        0xffff_ffff,
        0xffff_ffff,
        CF,
        0xffff_ffff,
        CF | PF | AF | SF,
    ),
    (
        b"\x11\xc8",
        0x7fff_ffff,
        0,
        CF,
        0x8000_0000,
        PF | AF | SF | OF,
    ),
    (b"\x11\xc8", 0xe, 1, CF, 0x10, AF),
    (b"\x48\x11\xc8", !0, !0, CF, !0, CF | PF | AF | SF),
    (b"\x10\xc8", 0x7f, 0x80, CF, 0, CF | PF | AF | ZF),
    // SUB.
    (b"\x29\xc8", 0, 0, 0, 0, PF | ZF),
    (b"\x29\xc8", 5, 3, 0, 2, 0),
    (b"\x29\xc8", 3, 5, 0, 0xffff_fffe, CF | AF | SF),
    (b"\x29\xc8", 0x10, 1, 0, 0xf, PF | AF),
    (b"\x29\xc8", 0, 1, 0, 0xffff_ffff, CF | PF | AF | SF),
    (b"\x29\xc8", 0x8000_0000, 1, 0, 0x7fff_ffff, PF | AF | OF),
    (
        b"\x29\xc8",
        0x7fff_ffff,
        0xffff_ffff,
        0,
        0x8000_0000,
        CF | PF | SF | OF,
    ),
    (b"\x29\xc8", 0xffff_ffff, 0x8000_0000, 0, 0x7fff_ffff, PF),
    (
        b"\x29\xc8",
        0,
        0x8000_0000,
        0,
        0x8000_0000,
        CF | PF | SF | OF,
    ),
    (b"\x28\xc8", 0, 1, 0, 0xff, CF | PF | AF | SF),
    (b"\x28\xc8", 0x80, 1, 0, 0x7f, AF | OF),
    (b"\x28\xc8", 0x7f, 0x80, 0, 0xff, CF | PF | SF | OF),
    (b"\x66\x29\xc8", 0, 1, 0, 0xffff, CF | PF | AF | SF),
    (b"\x66\x29\xc8", 0x8000, 1, 0, 0x7fff, PF | AF | OF),
    (
        b"\x66\x29\xc8",
        0x7fff,
        0x8000,
        0,
        0xffff,
        CF | PF | SF | OF,
    ),
    (b"\x48\x29\xc8", 0, 1, 0, !0, CF | PF | AF | SF),
    (b"\x48\x29\xc8", TOP, 1, 0, TOP - 1, PF | AF | OF),
    (b"\x48\x29\xc8", TOP - 1, TOP, 0, !0, CF | PF | SF | OF),
    // SBB, without and with a borrow.
    (b"\x19\xc8", 5, 3, 0, 2, 0),
    (b"\x19\xc8", 5, 3, CF, 1, 0),
    (b"\x19\xc8", 0, 0, CF, 0xffff_ffff, CF | PF | AF | SF),
    (b"\x19\xc8", 0, 0xffff_ffff, CF, 0, CF | PF | AF | ZF),
    (b"\x19\xc8", 0x8000_0000, 0, CF, 0x7fff_ffff, PF | AF | OF),
    (b"\x19\xc8", 1, 0, CF, 0, PF | ZF),
    (b"\x48\x19\xc8", 0, !0, CF, 0, CF | PF | AF | ZF),
    (b"\x18\xc8", 0x80, 0, CF, 0x7f, AF | OF),
    // CMP only changes the flags.
    (b"\x39\xc8", 3, 5, 0, 3, CF | AF | SF),
    (b"\x48\x39\xc8", TOP, 1, 0, TOP, PF | AF | OF),
    (b"\x38\xc8", 0x1280, 0x3480, 0, 0x1280, PF | ZF),
    (b"\x66\x39\xc8", 0, 1, 0, 0, CF | PF | AF | SF),
    // AND, OR, XOR, TEST.
    (
        b"\x21\xc8",
        0xf0f0_f0f0,
        0xff00_ff00,
        CF,
        0xf000_f000,
        PF | SF,
    ),
    (b"\x21\xc8", 1, 2, CF, 0, PF | ZF),
    (b"\x48\x21\xc8", !0, TOP, CF, TOP, PF | SF),
    (b"\x20\xc8", 0x1281, 0x80, CF, 0x1280, SF),
    (b"\x09\xc8", 0, 0, CF, 0, PF | ZF),
    (b"\x09\xc8", 0x8000_0000, 3, CF, 0x8000_0003, PF | SF),
    (b"\x66\x09\xc8", 0xff00, 0xff, CF, 0xffff, PF | SF),
    (b"\x31\xc8", 0x1234_5678, 0x1234_5678, CF, 0, PF | ZF),
    (b"\x48\x31\xc8", !0, 1, CF, 0xffff_ffff_ffff_fffe, SF),
    (b"\x30\xc8", 0x55, 0xaa, CF, 0xff, PF | SF),
    (
        b"\x85\xc8",
        0x8000_0000,
        0xffff_ffff,
        CF,
        0x8000_0000,
        PF | SF,
    ),
    (b"\x84\xc8", 0x12ff, 1, 0, 0x12ff, 0),
    (b"\x48\x85\xc8", 1, 2, 0, 1, PF | ZF),
    (b"\x66\x85\xc8", 0x8000, 0x8000, 0, 0x8000, PF | SF),
    // INC and DEC leave the carry flag unchanged.
    (b"\xff\xc0", 0xffff_ffff, 0, 0, 0, PF | AF | ZF),
    (
        b"\xff\xc0",
        0x7fff_ffff,
        0,
        CF,
        0x8000_0000,
        CF | PF | AF | SF | OF,
    ),
    (b"\xff\xc0", 0xf, 0, CF, 0x10, CF | AF),
    (b"\xfe\xc0", 0xff, 0, 0, 0, PF | AF | ZF),
    (b"\x66\xff\xc0", 0x7fff, 0, 0, 0x8000, PF | AF | SF | OF),
    (b"\x48\xff\xc0", !0, 0, CF, 0, CF | PF | AF | ZF),
    (b"\xff\xc8", 0, 0, 0, 0xffff_ffff, PF | AF | SF),
    (b"\xff\xc8", 0, 0, CF, 0xffff_ffff, CF | PF | AF | SF),
    (b"\xff\xc8", 0x8000_0000, 0, 0, 0x7fff_ffff, PF | AF | OF),
    (b"\xff\xc8", 1, 0, CF, 0, CF | PF | ZF),
    (b"\xfe\xc8", 0x80, 0, CF, 0x7f, CF | AF | OF),
    (b"\x48\xff\xc8", TOP, 0, 0, TOP - 1, PF | AF | OF),
    // NEG, NOT.
    (b"\xf7\xd8", 0, 0, CF, 0, PF | ZF),
    (b"\xf7\xd8", 1, 0, 0, 0xffff_ffff, CF | PF | AF | SF),
    (
        b"\xf7\xd8",
        0x8000_0000,
        0,
        0,
        0x8000_0000,
        CF | PF | SF | OF,
    ),
    (b"\xf7\xd8", 0x10, 0, 0, 0xffff_fff0, CF | PF | SF),
    (b"\xf6\xd8", 0x80, 0, 0, 0x80, CF | SF | OF),
    (b"\x66\xf7\xd8", 0x8000, 0, CF, 0x8000, CF | PF | SF | OF),
    (b"\x48\xf7\xd8", 1, 0, 0, !0, CF | PF | AF | SF),
    (b"\x48\xf7\xd8", TOP, 0, 0, TOP, CF | PF | SF | OF),
    (b"\xf7\xd0", 0xf0f_0f0f, 0, CF, 0xf0f0_f0f0, CF),
    (b"\xf6\xd0", 0x12f0, 0, 0, 0x120f, 0),
    (b"\x48\xf7\xd0", 0, 0, 0, !0, 0),
    // With an immediate, which is sign-extended.
    (b"\x83\xc0\xff", 1, 0, 0, 0, CF | PF | AF | ZF),
    (b"\x83\xe8\xff", 0, 0, 0, 1, CF | AF),
    (b"\x48\x83\xe8\xff", 0, 0, 0, 1, CF | AF),
    (b"\x83\xf8\xf0", 0xffff_fff0, 0, 0, 0xffff_fff0, PF | ZF),
    (b"\x83\xe0\xf0", 0xffff_ffff, 0, CF, 0xffff_fff0, PF | SF),
    (b"\x83\xc8\x80", 0, 0, 0, 0xffff_ff80, SF),
    (b"\x83\xf0\xff", 0x1234_5678, 0, 0, 0xedcb_a987, PF | SF),
    (b"\x83\xd0\xff", 0, 0, CF, 0, CF | PF | AF | ZF),
    (b"\x83\xd8\xff", 0, 0, CF, 0, CF | PF | AF | ZF),
    (
        b"\x81\xc0\x00\x00\x00\x80",
        0x8000_0000,
        0,
        0,
        0,
        CF | PF | ZF | OF,
    ),
    (
        b"\x48\x81\xc0\x00\x00\x00\x80",
        0,
        0,
        0,
        0xffff_ffff_8000_0000,
        PF | SF,
    ),
    (b"\x66\x81\xe8\x00\x80", 0, 0, 0, 0x8000, CF | PF | SF | OF),
    (b"\x80\xc0\x80", 0x80, 0, 0, 0, CF | PF | ZF | OF),
    (b"\x04\xff", 1, 0, 0, 0, CF | PF | AF | ZF),
    (
        b"\x05\x01\x00\x00\x00",
        0xffff_ffff,
        0,
        0,
        0,
        CF | PF | AF | ZF,
    ),
    (b"\x48\x2d\x01\x00\x00\x00", 0, 0, 0, !0, CF | PF | AF | SF),
    (b"\x3c\x80", 0x7f, 0, 0, 0x7f, CF | PF | SF | OF),
    (
        b"\x3d\x00\x00\x00\x80",
        0x7fff_ffff,
        0,
        0,
        0x7fff_ffff,
        CF | PF | SF | OF,
    ),
    (b"\x25\xff\x00\xff\x00", 0x1234_5678, 0, CF, 0x34_0078, PF),
    (b"\xa8\xff", 0, 0, CF, 0, PF | ZF),
    (
        b"\xa9\x00\x00\x00\x80",
        0xffff_ffff,
        0,
        0,
        0xffff_ffff,
        PF | SF,
    ),
    (b"\x48\xa9\x00\x00\x00\x80", TOP, 0, 0, TOP, PF | SF),
    (b"\xf6\xc0\x80", 0x80, 0, 0, 0x80, SF),
    (
        b"\xf7\xc0\x00\x00\x00\x80",
        0x8000_0000,
        0,
        0,
        0x8000_0000,
        PF | SF,
    ),
    (b"\x66\xa9\x00\x80", 0x8000, 0, 0, 0x8000, PF | SF),
];

/// Instructions with one operand in memory, which takes the value that the case has for `rcx`.
const MEMORY_CASES: &[Case] = &[
    // ADD, SUB, AND, OR, XOR, ADC, SBB with memory as the second operand.
    (
        b"\x03\x06",
        0x7fff_ffff,
        1,
        0,
        0x8000_0000,
        PF | AF | SF | OF,
    ),
    (b"\x02\x06", 0x12ff, 0x3401, 0, 0x1200, CF | PF | AF | ZF),
    (b"\x66\x2b\x06", 0, 1, 0, 0xffff, CF | PF | AF | SF),
    (b"\x48\x23\x06", usize::MAX, 1 << 63, CF, 1 << 63, PF | SF),
    (b"\x0b\x06", 1, 2, CF, 3, PF),
    (b"\x33\x06", 5, 5, CF, 0, PF | ZF),
    (b"\x13\x06", 0xffff_ffff, 0, CF, 0, CF | PF | AF | ZF),
    (b"\x48\x1b\x06", 0, 0, CF, usize::MAX, CF | PF | AF | SF),
    // CMP with memory as the second and as the first operand.
    (b"\x3b\x06", 3, 5, 0, 3, CF | AF | SF),
    (b"\x39\x06", 3, 5, 0, 3, 0),
    (b"\x3a\x06", 0x80, 1, 0, 0x80, AF | OF),
    (b"\x38\x06", 1, 0x80, 0, 1, AF | OF),
    (b"\x83\x3e\xff", 9, 0xffff_ffff, 0, 9, PF | ZF),
    (b"\x80\x3e\x01", 9, 0xff00, 0, 9, CF | PF | AF | SF),
    (b"\x66\x81\x3e\x00\x80", 9, 0x8000, 0, 9, PF | ZF),
    (
        b"\x48\x81\x3e\x00\x00\x00\x80",
        9,
        0xffff_ffff_8000_0000,
        0,
        9,
        PF | ZF,
    ),
    // TEST.
    (b"\x85\x06", 1, 3, CF, 1, 0),
    (b"\xf6\x06\x80", 9, 0x80, 0, 9, SF),
    (b"\xf7\x06\x00\x00\x00\x80", 9, 0x7fff_ffff, 0, 9, PF | ZF),
];

#[kunit_tests(ubp_arch_alu)]
mod tests {
    use super::*;

    /// Returns whether the instruction has the effect that `case` describes, and no other.
    fn holds(case: &Case, mode: Mode, in_memory: bool) -> Result<bool> {
        let (bytes, ax, cx, carry, after, status) = *case;
        let (mut regs, mut thread) = (registers(mode), MockThread::new());
        // The other flags start with the opposite value, to show that the instruction writes them.
        regs.set_flags(0x202 | DF | carry | (STATUS & !CF & !status));
        regs.set_gpr(AX, ax);
        if in_memory {
            let _ = thread.store(MEMORY, Width::W64, cx);
            regs.set_gpr(6, MEMORY);
        } else {
            regs.set_gpr(CX, cx);
        }
        let memory = thread.memory;

        let mut expected = registers(mode);
        for n in [CX, 6] {
            expected.set_gpr(n, regs.gpr(n));
        }
        // NOT leaves the flags unchanged.
        let is_not = matches!(bytes, [.., 0xf6 | 0xf7, 0xd0]);
        let kept = if is_not {
            regs.flags()
        } else {
            0x202 | DF | status
        };
        expected.set_flags(kept);
        expected.set_gpr(AX, after);
        expected.set_ip(AT + bytes.len());
        let done = emulate(bytes, mode, &mut regs, &mut thread)? == Outcome::Done;
        Ok(done && same(&regs, &expected) && thread.memory == memory)
    }

    fn failures(cases: &[Case], in_memory: bool) -> Result<usize> {
        let mut count = 0;
        for case in cases {
            // 32-bit code has no REX, and its memory operands are not emulated.
            let is_64bit = in_memory || case.0[0] == 0x48;
            for mode in [Mode::Bits64, Mode::Bits32] {
                if (mode == Mode::Bits64 || !is_64bit) && !holds(case, mode, in_memory)? {
                    pr_err!("{case:x?} in {mode:?}: not so\n");
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    #[test]
    fn results_and_flags() -> Result {
        assert_eq!(failures(CASES, false)?, 0);
        assert_eq!(failures(MEMORY_CASES, true)?, 0);
        Ok(())
    }

    #[test]
    fn one_byte_inc_and_dec_in_32_bit_code() -> Result {
        for case in [
            (&b"\x40"[..], 0xffff_ffff, 0, CF, 0, CF | PF | AF | ZF),
            (b"\x48", 0, 0, 0, 0xffff_ffff, PF | AF | SF),
            (b"\x66\x40", 0x1_ffff, 0, 0, 0x1_0000, PF | AF | ZF),
        ] {
            assert!(holds(&case, Mode::Bits32, false)?);
        }
        Ok(())
    }

    #[test]
    fn partial_register_writes() -> Result {
        let ax = 0xfedc_ba98_7654_3210;
        // The width of the write determines which other bits of the register stay.
        for (bytes, after) in [
            (&b"\x83\xc8\x01"[..], 0x7654_3211),
            (b"\x48\x83\xc8\x01", 0xfedc_ba98_7654_3211),
            (b"\x66\x83\xc8\x01", 0xfedc_ba98_7654_3211),
            (b"\x0c\x01", 0xfedc_ba98_7654_3211),
            // AH; with any REX prefix the same number encodes SPL.
            (b"\x80\xcc\x01", 0xfedc_ba98_7654_3310),
            (b"\x40\x80\xcc\x01", ax),
            // A comparison does not write its operand.
            (b"\x83\xf8\x01", ax),
        ] {
            let (mut regs, mut thread) = (registers(Mode::Bits64), MockThread::new());
            regs.set_gpr(AX, ax);
            let sp = regs.sp();
            let outcome = emulate(bytes, Mode::Bits64, &mut regs, &mut thread)?;
            assert_eq!(outcome, Outcome::Done);
            assert_eq!(regs.gpr(AX), after);
            assert_eq!(regs.sp(), if bytes[0] == 0x40 { sp | 1 } else { sp });
        }
        Ok(())
    }

    #[test]
    fn single_flags() -> Result {
        for (byte, before, after) in [
            (0xf5, CF, 0),
            (0xf5, 0, CF),
            (0xf8, CF, 0),
            (0xf8, 0, 0),
            (0xf9, 0, CF),
            (0xfc, DF, 0),
            (0xfd, 0, DF),
        ] {
            for mode in [Mode::Bits64, Mode::Bits32] {
                let others = 0x202 | PF | AF | ZF | SF | OF;
                let (mut regs, mut thread) = (registers(mode), MockThread::new());
                let mut expected = registers(mode);
                regs.set_flags(others | before);
                expected.set_flags(others | after);
                expected.set_ip(AT + 1);
                let outcome = emulate(&[byte], mode, &mut regs, &mut thread)?;
                assert_eq!(outcome, Outcome::Done);
                assert!(same(&regs, &expected));
            }
        }
        Ok(())
    }
}
