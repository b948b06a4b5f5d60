// SPDX-License-Identifier: GPL-2.0

//! Tests of moves, address calculations and conditional instructions.

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
    MEMORY,
    STACK, //
};
use crate::{
    ThreadAccess,
    Width, //
};
use kernel::{
    prelude::*,
    ptregs::{
        flags,
        PtRegs, //
    },
};

const BITS64: Mode = Mode::Bits64;
const BITS32: Mode = Mode::Bits32;
const AX: u8 = 0;
const CX: u8 = 1;
const DX: u8 = 2;
const BX: u8 = 3;
const SP: u8 = 4;
const SI: u8 = 6;

const AX_VALUE: usize = 0x1122_3344_5566_7788;
const CX_VALUE: usize = 0xffee_ddcc_bbaa_99f0;

/// Executes an instruction that changes at most one register besides the instruction pointer, and
/// no flags. Returns whether `register` has the expected value afterwards.
fn gives(bytes: &[u8], mode: Mode, bits: usize, register: u8, value: usize) -> Result<bool> {
    let prepare = |regs: &mut PtRegs| {
        regs.set_flags(0x202 | bits);
        regs.set_gpr(AX, AX_VALUE);
        regs.set_gpr(CX, CX_VALUE);
        regs.set_gpr(SI, MEMORY);
    };
    let (mut regs, mut thread) = (registers(mode), MockThread::new());
    let mut expected = registers(mode);
    prepare(&mut regs);
    prepare(&mut expected);
    expected.set_gpr(register, value);
    expected.set_ip(AT + bytes.len());
    let _ = thread.store(MEMORY, Width::W64, CX_VALUE);
    let memory = thread.memory;
    let done = emulate(bytes, mode, &mut regs, &mut thread)? == Outcome::Done;
    let good = done && same(&regs, &expected) && thread.memory == memory;
    if !good {
        pr_err!("{bytes:02x?} in {mode:?}: {:x}\n", regs.gpr(register));
    }
    Ok(good)
}

#[kunit_tests(ubp_arch_data)]
mod tests {
    use super::*;

    #[test]
    fn moves() -> Result {
        for (bytes, mode, register, value) in [
            // Moves of an immediate.
            (&b"\xb8\x01\x02\x03\x84"[..], BITS64, AX, 0x8403_0201),
            (b"\xb8\x01\x02\x03\x84", BITS32, AX, 0x8403_0201),
            (b"\x66\xb8\x01\x02", BITS64, AX, 0x1122_3344_5566_0201),
            (
                b"\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x88",
                BITS64,
                AX,
                0x8807_0605_0403_0201,
            ),
            (
                b"\x49\xbf\x01\x02\x03\x04\x05\x06\x07\x88",
                BITS64,
                15,
                0x8807_0605_0403_0201,
            ),
            (b"\xb0\x01", BITS64, AX, 0x1122_3344_5566_7701),
            (b"\xb4\x01", BITS64, AX, 0x1122_3344_5566_0188),
            (b"\xb4\x01", BITS32, AX, 0x5566_0188),
            (b"\x40\xb4\x01", BITS64, SP, STACK & !0xff | 1),
            (
                b"\x48\xc7\xc0\x01\x02\x03\x84",
                BITS64,
                AX,
                0xffff_ffff_8403_0201,
            ),
            (b"\xc7\xc0\x01\x02\x03\x84", BITS64, AX, 0x8403_0201),
            // Moves between registers.
            (b"\x89\xc8", BITS64, AX, 0xbbaa_99f0),
            (b"\x66\x89\xc8", BITS64, AX, 0x1122_3344_5566_99f0),
            (b"\x88\xc8", BITS64, AX, 0x1122_3344_5566_77f0),
            (b"\x88\xcc", BITS64, AX, 0x1122_3344_5566_f088),
            (b"\x8a\xc5", BITS64, AX, 0x1122_3344_5566_7799),
            // Extending moves.
            (b"\x0f\xb6\xc1", BITS64, AX, 0xf0),
            (b"\x0f\xb6\xc5", BITS64, AX, 0x99),
            (b"\x66\x0f\xb6\xc1", BITS64, AX, 0x1122_3344_5566_00f0),
            (b"\x0f\xb7\xc1", BITS32, AX, 0x99f0),
            (b"\x0f\xbe\xc1", BITS64, AX, 0xffff_fff0),
            (b"\x48\x0f\xbf\xc1", BITS64, AX, 0xffff_ffff_ffff_99f0),
            (b"\x48\x63\xc1", BITS64, AX, 0xffff_ffff_bbaa_99f0),
            (b"\x63\xc1", BITS64, AX, 0xbbaa_99f0),
            (b"\x66\x98", BITS64, AX, 0x1122_3344_5566_ff88),
            (b"\x98", BITS64, AX, 0x7788),
            (b"\x48\x98", BITS64, AX, 0x5566_7788),
            (b"\x98", BITS32, AX, 0x7788),
            (b"\x48\x99", BITS64, DX, 0),
            (b"\x99", BITS32, DX, 0),
            // Moves from memory.
            (b"\x8b\x06", BITS64, AX, 0xbbaa_99f0),
            (b"\x48\x8b\x06", BITS64, AX, CX_VALUE),
            (b"\x66\x8b\x06", BITS64, AX, 0x1122_3344_5566_99f0),
            (b"\x8a\x26", BITS64, AX, 0x1122_3344_5566_f088),
            (b"\x0f\xb6\x06", BITS64, AX, 0xf0),
            (b"\x48\x0f\xbe\x06", BITS64, AX, 0xffff_ffff_ffff_fff0),
            (b"\x0f\xb7\x46\x01", BITS64, AX, 0xaa99),
            (b"\x48\x63\x06", BITS64, AX, 0xffff_ffff_bbaa_99f0),
            // A move to the register that holds its address.
            (b"\x48\x8b\x36", BITS64, SI, CX_VALUE),
        ] {
            assert!(gives(bytes, mode, 0, register, value)?);
        }
        Ok(())
    }

    #[test]
    fn sign_of_the_accumulator() -> Result {
        for (bytes, mode, dx) in [
            (&b"\x99"[..], BITS64, 0xffff_ffff),
            (b"\x99", BITS32, 0xffff_ffff),
            (b"\x48\x99", BITS64, usize::MAX),
            (b"\x66\x99", BITS64, 0x2222_ffff),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            regs.set_gpr(AX, 0x8000_0000_8000_8000);
            let outcome = emulate(bytes, mode, &mut regs, &mut thread)?;
            assert_eq!(outcome, Outcome::Done);
            assert_eq!(regs.gpr(DX), dx);
        }
        Ok(())
    }

    #[test]
    fn exchanges() -> Result {
        for (bytes, mode, ax, bx) in [
            (&b"\x48\x93"[..], BITS64, CX_VALUE, AX_VALUE),
            (b"\x93", BITS64, 0xbbaa_99f0, 0x5566_7788),
            (b"\x93", BITS32, 0xbbaa_99f0, 0x5566_7788),
            (
                b"\x66\x87\xd8",
                BITS64,
                0x1122_3344_5566_99f0,
                0xffee_ddcc_bbaa_7788,
            ),
            (
                b"\x86\xe3",
                BITS64,
                0x1122_3344_5566_f088,
                0xffee_ddcc_bbaa_9977,
            ),
            // AL with AH, and EAX with itself, which is not a NOP.
            (b"\x86\xe0", BITS64, 0x1122_3344_5566_8877, CX_VALUE),
            (b"\x87\xc0", BITS64, 0x5566_7788, CX_VALUE),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            regs.set_gpr(AX, AX_VALUE);
            regs.set_gpr(BX, CX_VALUE);
            let outcome = emulate(bytes, mode, &mut regs, &mut thread)?;
            assert_eq!(outcome, Outcome::Done);
            assert_eq!(regs.gpr(AX), ax);
            assert_eq!(regs.gpr(BX), bx);
        }
        Ok(())
    }

    #[test]
    fn addresses() -> Result {
        let s = STACK;
        for (bytes, mode, value) in [
            // 8(%rsp); with a 16-bit operand; in 32-bit code.
            (&b"\x48\x8d\x44\x24\x08"[..], BITS64, s + 8),
            (
                b"\x66\x8d\x44\x24\x08",
                BITS64,
                0x1122_3344_5566_0000 | ((s + 8) & 0xffff),
            ),
            (b"\x8d\x44\x24\xf8", BITS32, s - 8),
            // (%rax,%rcx,2), which wraps.
            (
                b"\x48\x8d\x04\x48",
                BITS64,
                AX_VALUE.wrapping_add(CX_VALUE << 1),
            ),
            (b"\x8d\x04\x48", BITS64, 0xccbb_ab68),
            (b"\x67\x48\x8d\x04\x48", BITS64, 0xccbb_ab68),
            (b"\x8d\x04\x48", BITS32, 0xccbb_ab68),
            // Relative to the next instruction; absolute in 32-bit code.
            (b"\x48\x8d\x05\x10\x00\x00\x00", BITS64, AT + 7 + 16),
            (b"\x48\x8d\x05\xf9\xff\xff\xff", BITS64, AT),
            (
                b"\x67\x48\x8d\x05\x00\x00\x00\x80",
                BITS64,
                0x8000_0000 + AT + 8,
            ),
            (b"\x8d\x05\x10\x00\x00\x00", BITS32, 16),
            // Only a displacement, and an index without a base.
            (
                b"\x48\x8d\x04\x25\x00\x00\x00\x80",
                BITS64,
                0xffff_ffff_8000_0000,
            ),
            (b"\x48\x8d\x04\xcd\x00\x00\x00\x00", BITS64, CX_VALUE << 3),
            // Segments make no difference to LEA.
            (b"\x64\x48\x8d\x01", BITS64, CX_VALUE),
            (b"\x2e\x8d\x01", BITS32, 0xbbaa_99f0),
        ] {
            assert!(gives(bytes, mode, 0, AX, value)?);
        }
        Ok(())
    }

    #[test]
    fn conditions() -> Result {
        let zf = flags::ZF;
        for (bytes, mode, bits, value) in [
            // CMOVE, CMOVNE: the upper half is cleared even if the condition does not hold.
            (&b"\x0f\x44\xc1"[..], BITS64, zf, 0xbbaa_99f0),
            (b"\x0f\x44\xc1", BITS64, 0, 0x5566_7788),
            (b"\x48\x0f\x44\xc1", BITS64, 0, AX_VALUE),
            (b"\x48\x0f\x45\xc1", BITS64, 0, CX_VALUE),
            (b"\x66\x0f\x44\xc1", BITS64, zf, 0x1122_3344_5566_99f0),
            (b"\x0f\x44\xc1", BITS32, zf, 0xbbaa_99f0),
            // SETE, SETNE.
            (b"\x0f\x94\xc0", BITS64, zf, 0x1122_3344_5566_7701),
            (b"\x0f\x94\xc0", BITS64, 0, 0x1122_3344_5566_7700),
            (b"\x0f\x95\xc4", BITS64, 0, 0x1122_3344_5566_0188),
            (b"\x0f\x95\xc0", BITS32, zf, 0x5566_7700),
        ] {
            assert!(gives(bytes, mode, bits, AX, value)?);
        }
        Ok(())
    }

    #[test]
    fn stores() -> Result {
        // The instruction, and the width and value of the word that it stores.
        for (bytes, width, value) in [
            (&b"\x89\x06"[..], Width::W32, 0x5566_7788),
            (b"\x48\x89\x06", Width::W64, AX_VALUE),
            (b"\x66\x89\x06", Width::W16, 0x7788),
            (b"\x88\x06", Width::W8, 0x88),
            (b"\x88\x26", Width::W8, 0x77),
            (b"\xc6\x06\x81", Width::W8, 0x81),
            (b"\x66\xc7\x06\x01\x82", Width::W16, 0x8201),
            (b"\xc7\x06\x01\x02\x03\x84", Width::W32, 0x8403_0201),
            (
                b"\x48\xc7\x06\x01\x02\x03\x84",
                Width::W64,
                0xffff_ffff_8403_0201,
            ),
        ] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            regs.set_gpr(AX, AX_VALUE);
            regs.set_gpr(SI, MEMORY + 16);
            let mut expected = registers(BITS64);
            expected.set_gpr(AX, AX_VALUE);
            expected.set_gpr(SI, MEMORY + 16);
            expected.set_ip(AT + bytes.len());
            let outcome = emulate(bytes, BITS64, &mut regs, &mut thread)?;
            assert_eq!(outcome, Outcome::Done);
            assert!(same(&regs, &expected));
            assert!(thread.load(MEMORY + 16, width) == Ok(value));
            // The bytes beside the word stay.
            assert!(thread.load(MEMORY + 15, Width::W8) == Ok(0xaa));
            assert!(thread.load(MEMORY + 16 + width.bytes(), Width::W8) == Ok(0xaa));
        }
        Ok(())
    }

    #[test]
    fn inaccessible_memory_changes_nothing() -> Result {
        for bytes in [
            &b"\x48\x8b\x06"[..],
            b"\x48\x89\x06",
            b"\xc7\x06\x01\x00\x00\x00",
            b"\x0f\xb7\x06",
            b"\x03\x06",
            b"\x83\x3e\x00",
            b"\x39\x06",
            b"\x3b\x06",
            b"\xff\x36",
        ] {
            for obstacle in 0..5 {
                let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
                regs.set_gpr(
                    SI,
                    match obstacle {
                        // Unmapped memory; a non-canonical address; a word that crosses a page.
                        0 => MEMORY - 64,
                        1 => 1 << 63,
                        2 => MEMORY - 1,
                        _ => MEMORY,
                    },
                );
                regs.set_flags(0x202 | if obstacle == 3 { flags::AC } else { 0 });
                thread.is_watched = obstacle == 4;
                let mut before = registers(BITS64);
                before.set_gpr(SI, regs.gpr(SI));
                before.set_flags(regs.flags());
                let outcome = emulate(bytes, BITS64, &mut regs, &mut thread)?;
                assert_eq!(outcome, Outcome::Step);
                assert!(same(&regs, &before) && thread.is_untouched());
            }
        }
        // A push of a readable word to a read-only stack.
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        regs.set_gpr(SI, MEMORY);
        thread.is_read_only = true;
        let outcome = emulate(b"\xff\x36", BITS64, &mut regs, &mut thread)?;
        assert_eq!(outcome, Outcome::Step);
        assert_eq!(regs.sp(), STACK);
        Ok(())
    }

    #[test]
    fn flags_from_the_stack() -> Result {
        let popped = flags::CF | flags::DF | flags::OF | flags::NT | flags::AC | flags::ID;
        for (mode, word, after) in [
            (BITS64, popped, popped | 0x202),
            (BITS32, popped, popped | 0x202),
            (BITS64, 0, 0x202),
            // All bits, also those that user mode cannot change: IOPL, IF, RF, VM, VIF, VIP,
            // reserved bits.
            (BITS64, usize::MAX & !flags::TF, 0x24_4ed5 | 0x202),
            (BITS32, 0xffff_feff, 0x24_4ed5 | 0x202),
        ] {
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            let _ = thread.store(STACK, Width::W64, word);
            regs.set_flags(0x202 | flags::ZF | flags::RF | flags::ID);
            let mut expected = registers(mode);
            expected.set_flags(after);
            expected.set_sp(STACK + if mode == BITS64 { 8 } else { 4 });
            expected.set_ip(AT + 1);
            let outcome = emulate(b"\x9d", mode, &mut regs, &mut thread)?;
            assert_eq!(outcome, Outcome::Done);
            assert!(same(&regs, &expected));
        }
        // The trap flag is or gets set, IF could change, or the stack cannot be read.
        for (bits, word, sp) in [
            (0x202, flags::TF, STACK),
            (0x202 | flags::TF, 0, STACK),
            (0x202 | flags::IOPL, 0, STACK),
            (0x202, 0, MEMORY - 64),
        ] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            let _ = thread.store(STACK, Width::W64, word);
            let mut before = registers(BITS64);
            for regs in [&mut regs, &mut before] {
                regs.set_sp(sp);
                regs.set_flags(bits);
            }
            let outcome = emulate(b"\x9d", BITS64, &mut regs, &mut thread)?;
            assert_eq!(outcome, Outcome::Step);
            assert!(same(&regs, &before));
        }
        Ok(())
    }
}
