// SPDX-License-Identifier: GPL-2.0

//! Tests of the way into and out of slots. The tests simulate the CPU in between.

use super::{
    super::{
        Mode,
        XolStep, //
    },
    insn,
    registers,
    MockThread,
    AT,
    MEMORY,
    STACK, //
};
use crate::{
    Fault,
    Finished,
    SlotAddr,
    ThreadAccess,
    Width, //
};
use kernel::{
    prelude::*,
    ptregs::{
        flags::TF,
        PtRegs, //
    },
};

pub(super) const SLOT: SlotAddr = SlotAddr::new(0x50_0040);
const BITS64: Mode = Mode::Bits64;
const BITS32: Mode = Mode::Bits32;
const DONE: Finished = Finished::Done {
    deliver_trap: false,
};
const TRAP: Finished = Finished::Done { deliver_trap: true };

/// Returns the stepped form of an instruction at [`AT`].
pub(super) fn step(bytes: &[u8], mode: Mode) -> Result<XolStep> {
    Ok(*insn(bytes, mode)?.plan().step().ok_or(EINVAL)?)
}

/// Sets the instruction pointer as the CPU does when it has executed `len` bytes in the slot.
fn executed(regs: &mut PtRegs, len: usize) {
    regs.set_ip(SLOT.as_usize() + len);
}

#[kunit_tests(ubp_arch_step)]
mod tests {
    use super::*;

    #[test]
    fn second_copy_of_repeated_instruction() -> Result {
        let movs = step(b"\xf3\xa4", BITS64)?;
        let image = movs.slot_image(SLOT).map_err(|_| EINVAL)?;
        assert!(image[16..].starts_with(b"\xf3\xa4\xcc"));
        let mut regs = registers(BITS64);
        let state = movs.begin_in_second_copy(&mut regs, SLOT).ok_or(EINVAL)?;
        assert_eq!(regs.ip(), SLOT.as_usize() + 16);
        assert_eq!(regs.flags() & TF, 0);
        // Between two iterations, and at a breakpoint that is not the slot's.
        assert!(!movs.finish_second_copy(state, &mut regs));
        // A watchpoint traps after the last iteration, before the breakpoint of the slot.
        for breakpoint in [0, 1] {
            executed(&mut regs, 16 + 2 + breakpoint);
            assert!(movs.finish_second_copy(state, &mut regs));
            assert_eq!(regs.ip(), AT + 2);
        }

        // There is no second copy of an instruction that is not repeated, or that is too long.
        for bytes in [
            &b"\xa4"[..],
            b"\x2e\x2e\x2e\x2e\x2e\x2e\x2e\x2e\x2e\x2e\x2e\x2e\xf3\xa4",
        ] {
            let step = step(bytes, BITS64)?;
            assert!(step.begin_in_second_copy(&mut regs, SLOT).is_none());
        }
        Ok(())
    }

    #[test]
    fn conditional_jumps() -> Result {
        // The conditional jump is taken, or not taken.
        for (ip, goes_to) in [(AT + 0x12, AT + 0x12), (SLOT.as_usize() + 6, AT + 2)] {
            for (mode, flags, finished) in [
                (BITS64, 0x202, DONE),
                (BITS64, 0x202 | TF, TRAP),
                (BITS32, 0x202, DONE),
            ] {
                let (mut regs, mut thread) = (registers(mode), MockThread::new());
                regs.set_flags(flags);
                let step = step(b"\x74\x10", mode)?;
                let state = step.begin(&mut regs, SLOT, &mut thread);
                regs.set_ip(ip);
                assert_eq!(step.finish(state, &mut regs, &mut thread), finished);
                assert!(regs.ip() == goes_to && regs.flags() == flags);
            }
        }
        Ok(())
    }

    #[test]
    fn block_step_ends_with_taken_jump() -> Result {
        let step = step(b"\x74\x10", BITS64)?;
        for (ip, finished) in [(AT + 0x12, TRAP), (SLOT.as_usize() + 6, DONE)] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            regs.set_flags(0x202 | TF);
            thread.block_step = true;
            let state = step.begin(&mut regs, SLOT, &mut thread);
            regs.set_ip(ip);
            assert_eq!(step.finish(state, &mut regs, &mut thread), finished);
            assert_eq!(thread.block_step, finished == DONE);
        }
        Ok(())
    }

    #[test]
    fn straight_on() -> Result {
        let step = step(b"\xd1\xe3", BITS64)?;
        for (tf, block, branch_trap, finished) in [
            (false, false, false, DONE),
            (true, false, false, TRAP),
            // With block stepping, there is no trap after this instruction.
            (true, true, true, DONE),
        ] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            let flags = 0x202 | if tf { TF } else { 0 };
            regs.set_flags(flags);
            thread.block_step = block;
            let state = step.begin(&mut regs, SLOT, &mut thread);
            assert_eq!(regs.ip(), SLOT.as_usize());
            assert_eq!(regs.flags(), flags | TF);
            assert!(!thread.block_step && state.slot() == SLOT);
            executed(&mut regs, 2);
            regs.set_flags(regs.flags() | 1);
            assert_eq!(step.finish(state, &mut regs, &mut thread), finished);
            assert_eq!(regs.ip(), AT + 2);
            assert_eq!(regs.flags(), flags | 1);
            assert_eq!(thread.block_step, branch_trap);
        }
        Ok(())
    }

    #[test]
    fn abort() -> Result {
        for bytes in [&b"\xd1\xe3"[..], b"\xf3\xa4", b"\xff\x13", b"\x9d", b"\xc3"] {
            for (tf, block) in [(false, false), (true, false), (true, true)] {
                let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
                let flags = 0x202 | if tf { TF } else { 0 };
                regs.set_flags(flags);
                thread.block_step = block;
                let step = step(bytes, BITS64)?;
                let state = step.begin(&mut regs, SLOT, &mut thread);
                step.abort(state, &mut regs, &mut thread);
                assert_eq!(regs.ip(), AT);
                assert_eq!(regs.sp(), STACK);
                assert_eq!(regs.flags(), flags);
                assert_eq!(thread.block_step, block);
            }
        }
        Ok(())
    }

    #[test]
    fn absolute_branches() -> Result {
        // RET, JMP *%rbx, RET with a 16-bit operand, JMPABS. The target stays as it is, even if it
        // is an address in the slot.
        for bytes in [
            &b"\xc3"[..],
            b"\xff\xe3",
            b"\x66\xc3",
            b"\xd5\x00\xa1\x56\x34\x12\x00\x00\x00\x00\x00",
        ] {
            for target in [0x12_3456, SLOT.as_usize(), SLOT.as_usize() + 2] {
                let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
                let step = step(bytes, BITS64)?;
                let state = step.begin(&mut regs, SLOT, &mut thread);
                regs.set_ip(target);
                assert_eq!(step.finish(state, &mut regs, &mut thread), DONE);
                assert_eq!(regs.ip(), target);
                assert_eq!(regs.flags(), 0x202);
            }
        }
        Ok(())
    }

    #[test]
    fn block_step_ends_with_a_branch() -> Result {
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        regs.set_flags(0x202 | TF);
        thread.block_step = true;
        let step = step(b"\xff\xe3", BITS64)?;
        let state = step.begin(&mut regs, SLOT, &mut thread);
        regs.set_ip(0x12_3456);
        assert_eq!(step.finish(state, &mut regs, &mut thread), TRAP);
        assert!(!thread.block_step);
        Ok(())
    }

    #[test]
    fn calls() -> Result {
        // Instruction, mode, length in the slot, target, and whether the call pushes to the shadow
        // stack, where the return address must be corrected.
        for (bytes, mode, len, target, shadowed) in [
            (&b"\xe8\x00\x01\x00\x00"[..], BITS64, 5, AT + 0x105, true),
            (b"\x66\x48\xe8\x00\x01\x00\x00", BITS64, 5, AT + 0x107, true),
            (b"\xe8\x00\x00\x00\x00", BITS64, 5, AT + 5, false),
            (b"\xe8\x00\x00\x00\x00", BITS32, 5, AT + 5, false),
            (b"\xff\x13", BITS64, 2, 0x12_3456, true),
            (b"\xff\x13", BITS32, 2, 0x12_3456, true),
        ] {
            let width = if mode == BITS64 {
                Width::W64
            } else {
                Width::W32
            };
            let (mut regs, mut thread) = (registers(mode), MockThread::new());
            thread.shadow = Some(1);
            let step = step(bytes, mode)?;
            let state = step.begin(&mut regs, SLOT, &mut thread);
            let behind = regs.ip() + len;
            regs.set_sp(STACK - width.bytes());
            let _ = thread.store(regs.sp(), width, behind);
            regs.set_ip(if bytes.contains(&0xe8) {
                behind + usize::from(shadowed)
            } else {
                target
            });
            assert_eq!(step.finish(state, &mut regs, &mut thread), DONE);
            assert_eq!(regs.ip(), target);
            assert_eq!(regs.sp(), STACK - width.bytes());
            let next = AT + bytes.len();
            assert!(thread.load(regs.sp(), width) == Ok(next));
            assert_eq!(thread.shadow, Some(if shadowed { next } else { 1 }));
        }
        Ok(())
    }

    #[test]
    fn call_that_fails_after_its_push() -> Result {
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let step = step(b"\xff\x13", BITS64)?;
        let state = step.begin(&mut regs, SLOT, &mut thread);
        let _ = thread.store(STACK - 8, Width::W64, SLOT.as_usize() + 2);
        step.abort(state, &mut regs, &mut thread);
        assert!(thread.load(STACK - 8, Width::W64) == Ok(AT + 2));
        assert!(regs.ip() == AT && regs.sp() == STACK);
        Ok(())
    }

    #[test]
    fn corrections_may_fail() -> Result {
        // Instruction, size of the pushed value, and whether it also pushes to a shadow stack.
        for (bytes, size, shadowed) in [
            (&b"\xe8\x00\x01\x00\x00"[..], 8, true),
            (b"\xe8\x00\x00\x00\x00", 8, false),
            (b"\xff\xd3", 8, true),
            (b"\x9c", 8, false),
            (b"\x66\x9c", 2, false),
        ] {
            for shadow in [None, Some(1)] {
                let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
                thread.shadow = shadow;
                let step = step(bytes, BITS64)?;
                let state = step.begin(&mut regs, SLOT, &mut thread);
                let start = regs.ip();
                regs.set_sp(STACK - size);
                regs.set_ip(0x12_3456);
                thread.is_read_only = true;
                let finished = step.finish(state, &mut regs, &mut thread);
                assert_eq!(regs.sp(), STACK);
                if shadowed && shadow.is_some() {
                    let (addr, write) = (STACK - size, true);
                    assert_eq!(finished, Finished::Fault(Fault { addr, write }));
                    assert!(regs.ip() == AT && regs.flags() == 0x202);
                } else {
                    // The CPU raises the fault in user mode.
                    assert_eq!(finished, Finished::Again);
                    assert!(regs.ip() == start && regs.flags() == 0x202 | TF);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn thread_outside_slot() -> Result {
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let step = step(b"\xd1\xe3", BITS64)?;
        let state = step.begin(&mut regs, SLOT, &mut thread);
        regs.set_ip(AT + 2);
        assert_eq!(step.finish(state, &mut regs, &mut thread), DONE);
        assert!(regs.ip() == AT + 2 && regs.flags() == 0x202);
        Ok(())
    }

    #[test]
    fn pushed_flags() -> Result {
        // Instruction, mode, size of the pushed value.
        for (bytes, mode, size) in [
            (&b"\x9c"[..], BITS64, 8),
            (b"\x66\x9c", BITS64, 2),
            (b"\x9c", BITS32, 4),
            (b"\x66\x9c", BITS32, 2),
        ] {
            for tf in [0, TF] {
                let (mut regs, mut thread) = (registers(mode), MockThread::new());
                let flags = 0xed7 | tf;
                regs.set_flags(flags);
                let step = step(bytes, mode)?;
                let state = step.begin(&mut regs, SLOT, &mut thread);
                regs.set_sp(STACK - size);
                for (n, byte) in regs.flags().to_le_bytes().iter().take(size).enumerate() {
                    let _ = thread.store(regs.sp() + n, Width::W8, (*byte).into());
                }
                executed(&mut regs, bytes.len());
                let finished = step.finish(state, &mut regs, &mut thread);
                assert_eq!(finished, if tf != 0 { TRAP } else { DONE });
                assert_eq!(regs.ip(), AT + bytes.len());
                assert_eq!(regs.flags(), flags);
                for (n, byte) in flags.to_le_bytes().iter().take(size).enumerate() {
                    assert!(thread.load(regs.sp() + n, Width::W8) == Ok((*byte).into()));
                }
                assert!(thread.load(STACK, Width::W8) == Ok(0xaa));
            }
        }
        Ok(())
    }

    #[test]
    fn popped_flags() -> Result {
        // The trap flag before, and the popped flags.
        for (before, popped) in [(0, 0), (0, TF), (TF, 0), (TF, TF)] {
            let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
            regs.set_flags(0x202 | before);
            let step = step(b"\x9d", BITS64)?;
            let state = step.begin(&mut regs, SLOT, &mut thread);
            executed(&mut regs, 1);
            regs.set_flags(0x202 | popped);
            let finished = step.finish(state, &mut regs, &mut thread);
            assert_eq!(finished, if before != 0 { TRAP } else { DONE });
            assert_eq!(regs.flags(), 0x202 | popped);
        }
        Ok(())
    }

    #[test]
    fn repeated_instructions() -> Result {
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let step = step(b"\xf3\xa4", BITS64)?;
        let state = step.begin(&mut regs, SLOT, &mut thread);
        for _ in 0..3 {
            // The debug trap after an iteration.
            let finished = step.finish(state, &mut regs, &mut thread);
            assert_eq!(finished, Finished::Again);
            assert_eq!(regs.ip(), SLOT.as_usize());
            assert!(regs.flags() & TF != 0);
        }
        executed(&mut regs, 2);
        assert_eq!(step.finish(state, &mut regs, &mut thread), DONE);
        assert_eq!(regs.ip(), AT + 2);
        assert_eq!(regs.flags(), 0x202);
        assert!(thread.is_untouched() && MEMORY < STACK);
        Ok(())
    }
}
