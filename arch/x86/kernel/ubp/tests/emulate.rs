// SPDX-License-Identifier: GPL-2.0

//! Tests of emulation: its effects, and the cases that are not emulated.

use super::{
    super::Mode,
    insn,
    registers,
    MockThread,
    AT,
    MEMORY,
    STACK, //
};
use crate::{
    Emulated,
    ThreadAccess,
    Vaddr,
    Width, //
};
use kernel::{
    prelude::*,
    ptregs::{
        flags::{
            self,
            CF,
            OF,
            PF,
            SF,
            ZF, //
        },
        PtRegs, //
    },
};

/// Evaluates a condition on the carry, parity, zero, sign and overflow flags.
type Holds = fn(bool, bool, bool, bool, bool) -> bool;

/// The outcome of an emulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Emulated, with the trap flag clear.
    Done,
    /// Emulated, with a trap that must be delivered.
    Trap,
    /// Not emulated: the instruction must be stepped.
    Step,
}

/// Emulates `bytes` at [`AT`].
pub(super) fn emulate(
    bytes: &[u8],
    mode: Mode,
    regs: &mut PtRegs,
    thread: &mut MockThread,
) -> Result<Outcome> {
    let insn = insn(bytes, mode)?;
    Ok(match insn.emulate(regs, thread) {
        Emulated::Done {
            deliver_trap: false,
        } => Outcome::Done,
        Emulated::Done { deliver_trap: true } => Outcome::Trap,
        Emulated::Boost(_) | Emulated::Step(_) => Outcome::Step,
    })
}

/// Returns whether two sets of registers are equal.
pub(super) fn same(a: &PtRegs, b: &PtRegs) -> bool {
    (0..16).all(|n| a.gpr(n) == b.gpr(n)) && a.ip() == b.ip() && a.flags() == b.flags()
}

const BITS64: Mode = Mode::Bits64;
const BITS32: Mode = Mode::Bits32;
const AX: u8 = 0;
const CX: u8 = 1;
const BX: u8 = 3;
const SP: u8 = 4;
const BP: u8 = 5;

#[kunit_tests(ubp_arch_emulate)]
mod tests {
    use super::*;

    #[test]
    fn nops_change_nothing() -> Result {
        for (bytes, mode) in [
            (&b"\x90"[..], BITS64),
            (b"\xf3\x90", BITS32),
            (b"\x66\x90", BITS64),
            (b"\x0f\x1f\x80\x00\x00\x00\x00", BITS64),
            (b"\xf3\x0f\x1e\xfa", BITS64),
            (b"\xf3\x0f\x1e\xfb", BITS32),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            let mut expected = registers(mode);
            expected.set_ip(AT + bytes.len());
            assert_eq!(emulate(bytes, mode, &mut regs, &mut thread)?, Outcome::Done);
            assert!(same(&regs, &expected));
            assert!(thread.is_untouched());
        }
        Ok(())
    }

    #[test]
    fn conditions() -> Result {
        // The manual's mnemonics, in the order of their numbers.
        let holds: [Holds; 8] = [
            |_, _, _, _, of| of,
            |cf, _, _, _, _| cf,
            |_, _, zf, _, _| zf,
            |cf, _, zf, _, _| cf | zf,
            |_, _, _, sf, _| sf,
            |_, pf, _, _, _| pf,
            |_, _, _, sf, of| sf ^ of,
            |_, _, zf, sf, of| zf | (sf ^ of),
        ];
        let mut wrong = 0;
        for set in 0..32usize {
            let bit = |n: usize| (set >> n) & 1 != 0;
            let mut bits = 0x202;
            for (n, flag) in [CF, PF, ZF, SF, OF].iter().enumerate() {
                bits |= if bit(n) { *flag } else { 0 };
            }
            for (n, condition) in holds.iter().enumerate() {
                let positive = condition(bit(0), bit(1), bit(2), bit(3), bit(4));
                for negated in [false, true] {
                    let opcode = (n * 2 + usize::from(negated)) as u8;
                    let taken = positive != negated;
                    let short = [0x70 | opcode, 0x10];
                    let near = [0x0f, 0x80 | opcode, 0xf0, 0xff, 0xff, 0xff];
                    for mode in [BITS64, BITS32] {
                        let mut thread = MockThread::new();
                        let mut regs = registers(mode);
                        regs.set_flags(bits);
                        let _ = emulate(&short, mode, &mut regs, &mut thread)?;
                        let target = if taken { 0x12 } else { 2 };
                        wrong += usize::from(regs.ip() != AT + target);
                        let mut regs = registers(mode);
                        regs.set_flags(bits);
                        let _ = emulate(&near, mode, &mut regs, &mut thread)?;
                        let target = if taken { AT - 10 } else { AT + 6 };
                        wrong += usize::from(regs.ip() != target || regs.flags() != bits);
                    }
                }
            }
        }
        assert_eq!(wrong, 0);
        Ok(())
    }

    #[test]
    fn loops() -> Result {
        let ones = usize::MAX;
        // Instruction, mode, counter and zero flag before it, counter after it, branch taken.
        for (bytes, mode, before, zero, after, taken) in [
            (&b"\xe2\x10"[..], BITS64, 2, false, 1, true),
            (b"\xe2\x10", BITS64, 1, false, 0, false),
            (b"\xe2\x10", BITS64, 0, false, ones, true),
            (b"\xe2\x10", BITS64, 1 << 32, true, 0xffff_ffff, true),
            (b"\x67\xe2\x10", BITS64, (5 << 32) + 1, true, 0, false),
            (b"\x67\xe2\x10", BITS64, 5 << 32, true, 0xffff_ffff, true),
            (b"\xe2\x10", BITS32, 0, true, 0xffff_ffff, true),
            (b"\x67\xe2\x10", BITS32, 0x1_0001, true, 0x1_0000, false),
            (b"\x67\xe2\x10", BITS32, 0x1_0000, true, 0x1_ffff, true),
            (b"\xe1\x10", BITS64, 2, true, 1, true),
            (b"\xe1\x10", BITS64, 2, false, 1, false),
            (b"\xe0\x10", BITS64, 2, true, 1, false),
            (b"\xe0\x10", BITS64, 2, false, 1, true),
            (b"\xe3\x10", BITS64, 0, false, 0, true),
            (b"\xe3\x10", BITS64, 1 << 32, false, 1 << 32, false),
            (b"\x67\xe3\x10", BITS64, 1 << 32, false, 1 << 32, true),
            (b"\xe3\x10", BITS32, 0x1_0000, false, 0x1_0000, false),
            (b"\x67\xe3\x10", BITS32, 0x1_0000, false, 0x1_0000, true),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            regs.set_gpr(CX, before);
            regs.set_flags(0x202 | if zero { ZF } else { 0 });
            let mut expected = registers(mode);
            expected.set_gpr(CX, after);
            expected.set_flags(regs.flags());
            let next = AT + bytes.len();
            expected.set_ip(if taken { next + 0x10 } else { next });
            assert_eq!(emulate(bytes, mode, &mut regs, &mut thread)?, Outcome::Done);
            assert!(same(&regs, &expected));
        }
        Ok(())
    }

    #[test]
    fn moves() -> Result {
        // Instruction, mode, source, destination, and whether only the low half counts.
        for (bytes, mode, from, to, half) in [
            (&b"\x48\x89\xe5"[..], BITS64, SP, BP, false),
            (b"\x48\x8b\xe5", BITS64, BP, SP, false),
            (b"\x4d\x89\xc7", BITS64, 8, 15, false),
            (b"\x44\x89\xf9", BITS64, 15, CX, true),
            (b"\x89\xc0", BITS64, AX, AX, true),
            (b"\x89\xe5", BITS32, SP, BP, true),
            (b"\x8b\xec", BITS32, SP, BP, true),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            regs.set_gpr(from, 0xfedc_ba98_7654_3210);
            let mut expected = registers(mode);
            expected.set_gpr(from, 0xfedc_ba98_7654_3210);
            let value = expected.gpr(from);
            expected.set_gpr(to, if half { value & 0xffff_ffff } else { value });
            expected.set_ip(AT + bytes.len());
            assert_eq!(emulate(bytes, mode, &mut regs, &mut thread)?, Outcome::Done);
            assert!(same(&regs, &expected));
        }
        Ok(())
    }

    #[test]
    fn pushes() -> Result {
        for (bytes, mode, value) in [
            (&b"\x55"[..], BITS64, registers(BITS64).gpr(BP)),
            (b"\x41\x57", BITS64, registers(BITS64).gpr(15)),
            // PUSH of the stack pointer stores its value from before the push.
            (b"\x54", BITS64, STACK),
            (b"\x6a\xff", BITS64, usize::MAX),
            (b"\x68\x00\x00\x00\x80", BITS64, 0xffff_ffff_8000_0000),
            (b"\x9c", BITS64, 0x4_0ad7 & !flags::AC),
            (b"\x55", BITS32, registers(BITS32).gpr(BP)),
            (b"\x6a\xff", BITS32, 0xffff_ffff),
            (b"\x9c", BITS32, 0x4_0ad7 & !flags::AC),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            // With the resume flag set, which PUSHF never pushes.
            regs.set_flags(0xad7 | flags::RF);
            let mut expected = registers(mode);
            expected.set_flags(regs.flags());
            let width = if mode == BITS64 {
                Width::W64
            } else {
                Width::W32
            };
            expected.set_sp(STACK - width.bytes());
            expected.set_ip(AT + bytes.len());
            assert_eq!(emulate(bytes, mode, &mut regs, &mut thread)?, Outcome::Done);
            assert!(same(&regs, &expected));
            assert!(thread.load(regs.sp(), width) == Ok(value));
            // The bytes beside the word stay.
            assert!(thread.load(STACK, Width::W8) == Ok(0xaa));
            assert!(thread.load(regs.sp() - 1, Width::W8) == Ok(0xaa));
        }
        Ok(())
    }

    #[test]
    fn pops() -> Result {
        for (bytes, mode, register) in [
            (&b"\x5d"[..], BITS64, BP),
            (b"\x41\x5c", BITS64, 12),
            (b"\x5c", BITS64, SP),
            (b"\x5d", BITS32, BP),
            (b"\x5c", BITS32, SP),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            let word = 0x8070_6050_4030_2010;
            let _ = thread.store(STACK, Width::W64, word);
            let mut expected = registers(mode);
            expected.set_sp(STACK + if mode == BITS64 { 8 } else { 4 });
            expected.set_gpr(register, word);
            expected.set_ip(AT + bytes.len());
            assert_eq!(emulate(bytes, mode, &mut regs, &mut thread)?, Outcome::Done);
            assert!(same(&regs, &expected));
        }
        // LEAVE.
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let _ = thread.store(MEMORY + 64, Width::W64, 0x1234);
        regs.set_gpr(BP, MEMORY + 64);
        assert_eq!(
            emulate(b"\xc9", BITS64, &mut regs, &mut thread)?,
            Outcome::Done
        );
        assert!(regs.sp() == MEMORY + 72 && regs.gpr(BP) == 0x1234 && regs.ip() == AT + 1);
        Ok(())
    }

    #[test]
    fn calls_and_returns() -> Result {
        let target = 0x55_5555;
        // Instruction, mode and target.
        for (bytes, mode, to) in [
            (&b"\xe8\x00\x01\x00\x00"[..], BITS64, AT + 0x105),
            (b"\xe8\xfb\xff\xff\xff", BITS64, AT),
            (b"\xe8\x00\x01\x00\x00", BITS32, AT + 0x105),
            // A target that wraps below zero.
            (b"\xe8\x00\x00\xb0\xff", BITS32, 0xfff0_1005),
            (b"\xff\xd3", BITS64, target),
            (b"\xff\xd3", BITS32, target),
            // (%rbp), 8(%rbp,%rax,8), -8(%rsp); the last is read before the push.
            (b"\xff\x55\x00", BITS64, target),
            (b"\xff\x54\xc5\x08", BITS64, target),
            (b"\xff\x54\x24\xf8", BITS64, target),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            regs.set_gpr(BX, target);
            regs.set_gpr(AX, 1);
            regs.set_gpr(BP, MEMORY + 16);
            let _ = thread.store(MEMORY + 16, Width::W64, target);
            let _ = thread.store(MEMORY + 32, Width::W64, target);
            let _ = thread.store(STACK - 8, Width::W64, target);
            let width = if mode == BITS64 {
                Width::W64
            } else {
                Width::W32
            };
            assert_eq!(emulate(bytes, mode, &mut regs, &mut thread)?, Outcome::Done);
            assert_eq!(regs.ip(), to);
            assert_eq!(regs.sp(), STACK - width.bytes());
            assert!(thread.load(regs.sp(), width) == Ok(AT + bytes.len()));

            // Return to the caller.
            for (ret, release) in [(&b"\xc3"[..], 0), (b"\xc2\x10\x80", 0x8010)] {
                regs.set_sp(STACK - width.bytes());
                assert_eq!(emulate(ret, mode, &mut regs, &mut thread)?, Outcome::Done);
                assert_eq!(regs.ip(), AT + bytes.len());
                assert_eq!(regs.sp(), STACK + release);
            }
        }
        Ok(())
    }

    #[test]
    fn indirect_jumps() -> Result {
        let target = 0x7fff_0000_1000;
        // Relative to the instruction pointer, absolute, and with a 32-bit address.
        let relative = (MEMORY - AT - 6) as u32;
        let [a, b, c, d] = relative.to_le_bytes();
        for bytes in [
            &[0xff, 0x25, a, b, c, d][..],
            b"\xff\x24\x25\x00\x00\x00\x70",
            b"\x67\xff\x23",
            b"\x42\xff\x24\x2b",
        ] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            let _ = thread.store(MEMORY, Width::W64, target);
            regs.set_gpr(BX, MEMORY + (9 << 32));
            regs.set_gpr(13, 0usize.wrapping_sub(9 << 32));
            let mut expected = registers(BITS64);
            expected.set_gpr(BX, regs.gpr(BX));
            expected.set_gpr(13, regs.gpr(13));
            expected.set_ip(target);
            assert_eq!(
                emulate(bytes, BITS64, &mut regs, &mut thread)?,
                Outcome::Done
            );
            assert!(same(&regs, &expected));
        }
        Ok(())
    }

    /// Instructions that access memory at [`STACK`] or below, or that get their target from `rbx`.
    const TOUCHY: &[&[u8]] = &[
        b"\x55",
        b"\x5d",
        b"\xc9",
        b"\x9c",
        b"\xe8\x00\x01\x00\x00",
        b"\xff\xd3",
        b"\xff\x13",
        b"\xff\x23",
        b"\xc3",
    ];

    #[test]
    fn failed_emulation_changes_nothing() -> Result {
        for bytes in TOUCHY {
            for obstacle in 0..5 {
                let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
                let (mut before, no_target) = (registers(BITS64), 1 << 47);
                for regs in [&mut regs, &mut before] {
                    regs.set_gpr(
                        BX,
                        if bytes[1..] == [0xd3] {
                            no_target
                        } else {
                            STACK
                        },
                    );
                    regs.set_gpr(BP, STACK);
                    match obstacle {
                        // Unmapped memory.
                        0 => {
                            regs.set_sp(MEMORY - 64);
                            regs.set_gpr(BP, MEMORY - 64);
                        }
                        // A word that crosses a page.
                        1 => {
                            regs.set_sp(MEMORY - 4);
                            regs.set_gpr(BP, MEMORY - 4);
                        }
                        2 => regs.set_flags(0x202 | flags::AC),
                        _ => (),
                    }
                }
                if obstacle < 2 && bytes[1..] == [0x23] {
                    continue;
                }
                thread.is_watched = obstacle == 3;
                if obstacle == 4 {
                    // Non-canonical targets, on a read-only stack.
                    let word = usize::from_le_bytes([0xaa; 8]);
                    assert!(word >> 47 != 0);
                    thread.is_read_only = true;
                    if matches!(bytes[0], 0x5d | 0xc9) {
                        continue;
                    }
                }
                let outcome = emulate(bytes, BITS64, &mut regs, &mut thread)?;
                assert_eq!(outcome, Outcome::Step);
                assert!(same(&regs, &before));
                assert!(thread.is_untouched());
            }
        }
        Ok(())
    }

    #[test]
    fn shadow_stack_prevents_emulation() -> Result {
        for (bytes, expected) in [
            (&b"\xe8\x00\x00\x00\x00"[..], Outcome::Step),
            (b"\xff\xd3", Outcome::Step),
            (b"\xc3", Outcome::Step),
            (b"\xc2\x00\x00", Outcome::Step),
            // Neither a call nor a return.
            (b"\xff\xe3", Outcome::Done),
            (b"\x55", Outcome::Done),
        ] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            let _ = thread.store(STACK, Width::W64, AT);
            thread.shadow = Some(AT);
            assert_eq!(emulate(bytes, BITS64, &mut regs, &mut thread)?, expected);
        }
        Ok(())
    }

    #[test]
    fn traps() -> Result {
        // Instruction, block stepping before it, outcome, block stepping after it.
        for (bytes, block, outcome, block_after) in [
            (&b"\x90"[..], false, Outcome::Trap, false),
            (b"\x55", false, Outcome::Trap, false),
            (b"\x90", true, Outcome::Done, true),
            (b"\xeb\x10", true, Outcome::Trap, false),
            // Not taken, because the zero flag is clear; taken.
            (b"\x74\x10", true, Outcome::Done, true),
            (b"\x75\x10", true, Outcome::Trap, false),
        ] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            regs.set_flags(0x202 | flags::TF);
            thread.block_step = block;
            assert_eq!(emulate(bytes, BITS64, &mut regs, &mut thread)?, outcome);
            assert_eq!(thread.block_step, block_after);
            assert!(regs.flags() & flags::TF != 0);
        }
        Ok(())
    }

    #[test]
    fn mode_from_registers() -> Result {
        // In 32-bit code this is DEC EAX; NOP, in 64-bit code XCHG RAX, RAX.
        let wide = insn(b"\x48\x90", BITS64)?;
        let narrow = insn(b"\x48\x90", BITS32)?;
        assert_eq!(wide.bytes(), b"\x48\x90");
        assert_eq!(narrow.bytes(), b"\x48");
        assert!(narrow.at() == Vaddr::new(AT) && narrow.mode() == BITS32);
        assert!(Mode::from_regs(&registers(BITS32)) == Some(BITS32));
        assert!(Mode::from_regs(&registers(BITS64)) == Some(BITS64));
        Ok(())
    }
}
