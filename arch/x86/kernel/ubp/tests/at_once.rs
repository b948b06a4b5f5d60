// SPDX-License-Identifier: GPL-2.0

//! That what is done at once is what an emulation does, and that the rest is left alone.

use super::{
    super::Mode,
    emulate::same,
    insn,
    registers,
    MockThread,
    MEMORY,
    STACK, //
};
use crate::{
    AtOnce,
    Emulated, //
};
use kernel::{
    prelude::*,
    ptregs::flags, //
};

const BITS64: Mode = Mode::Bits64;

/// A call to what is 0x100 bytes behind it.
const CALL: &[u8] = b"\xe8\x00\x01\x00\x00";

#[kunit_tests(ubp_arch_at_once)]
mod tests {
    use super::*;

    /// Whether an instruction is done at once, and as an emulation does it.
    fn is_done_alike(bytes: &[u8], bits: usize) -> Result<bool> {
        let insn = insn(bytes, BITS64)?;
        let (mut regs, mut expected) = (registers(BITS64), registers(BITS64));
        regs.set_flags(bits);
        expected.set_flags(bits);
        let emulated = matches!(
            insn.emulate(&mut expected, &mut MockThread::new()),
            Emulated::Done {
                deliver_trap: false
            }
        );
        Ok(insn.emulate_at_once(&mut regs) == AtOnce::Done && emulated && same(&regs, &expected))
    }

    #[test]
    fn no_operations_and_branches_are_done_alike() -> Result {
        for bytes in [
            &b"\x90"[..],
            b"\xf3\x0f\x1e\xfa",
            b"\x0f\x1f\x44\x00\x00",
            b"\xeb\x10",
            b"\xe9\x00\x01\x00\x00",
            b"\xe2\xf0",
            b"\xe3\x05",
        ] {
            assert!(is_done_alike(bytes, 0x202)?);
        }
        Ok(())
    }

    #[test]
    fn conditional_branches_are_done_alike_with_all_flags() -> Result {
        const BITS: [usize; 5] = [flags::CF, flags::PF, flags::ZF, flags::SF, flags::OF];
        for condition in 0..16 {
            for set in 0..32 {
                let chosen = |n: &usize| set & (1 << n) != 0;
                let bits = (0..5).filter(chosen).map(|n| BITS[n]).sum::<usize>();
                assert!(is_done_alike(&[0x70 | condition, 0x10], 0x202 | bits)?);
            }
        }
        Ok(())
    }

    #[test]
    fn the_rest_is_for_a_slot_or_for_later() -> Result {
        for (bytes, expected) in [
            (&b"\x55"[..], AtOnce::Boost),
            (b"\x48\x89\xe5", AtOnce::Boost),
            (b"\x48\x83\xec\x08", AtOnce::Boost),
            (b"\xc3", AtOnce::Boost),
            (b"\x0f\x28\xc1", AtOnce::Boost),
            (CALL, AtOnce::Other),
            (b"\x9c", AtOnce::Other),
        ] {
            let mut regs = registers(BITS64);
            assert_eq!(insn(bytes, BITS64)?.emulate_at_once(&mut regs), expected);
            assert!(same(&regs, &registers(BITS64)));
        }
        Ok(())
    }

    #[test]
    fn nothing_is_done_at_once_for_who_steps() -> Result {
        for bytes in [&b"\x90"[..], b"\x74\x10", b"\x55", CALL] {
            let (mut regs, mut before) = (registers(BITS64), registers(BITS64));
            regs.set_flags(0x202 | flags::TF);
            before.set_flags(0x202 | flags::TF);
            let insn = insn(bytes, BITS64)?;
            assert_eq!(insn.emulate_at_once(&mut regs), AtOnce::Other);
            assert!(!insn.emulate_without_faults(&mut regs, &mut MockThread::new()));
            assert!(same(&regs, &before));
        }
        Ok(())
    }

    #[test]
    fn calls_are_done_alike() -> Result {
        let insn = insn(CALL, BITS64)?;
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let (mut expected, mut other) = (registers(BITS64), MockThread::new());
        assert!(insn.emulate_without_faults(&mut regs, &mut thread));
        let emulated = insn.emulate(&mut expected, &mut other);
        assert!(matches!(emulated, Emulated::Done { .. }));
        assert!(same(&regs, &expected));
        assert_eq!(thread.memory, other.memory);
        assert!(!thread.is_untouched());
        Ok(())
    }

    /// Whether a call is left alone by a thread that `change` has made.
    fn call_is_left(sp: usize, bits: usize, change: impl FnOnce(&mut MockThread)) -> Result<bool> {
        let (mut regs, mut before) = (registers(BITS64), registers(BITS64));
        for regs in [&mut regs, &mut before] {
            regs.set_sp(sp);
            regs.set_flags(0x202 | bits);
        }
        let mut thread = MockThread::new();
        change(&mut thread);
        let done = insn(CALL, BITS64)?.emulate_without_faults(&mut regs, &mut thread);
        Ok(!done && same(&regs, &before) && thread.is_untouched())
    }

    #[test]
    fn calls_that_would_not_be_exact_are_left() -> Result {
        assert!(call_is_left(STACK, 0, |thread| thread.is_watched = true)?);
        assert!(call_is_left(STACK, 0, |thread| thread.is_read_only = true)?);
        assert!(call_is_left(STACK, 0, |thread| thread.shadow = Some(0))?);
        assert!(call_is_left(STACK, flags::AC, |_| ())?);
        assert!(call_is_left(STACK + 4, 0, |_| ())?);
        assert!(call_is_left(MEMORY, 0, |_| ())?);
        Ok(())
    }
}
