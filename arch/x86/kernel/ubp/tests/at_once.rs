// SPDX-License-Identifier: GPL-2.0

//! That what is done at once is what an emulation does, and that the rest is left alone.

use super::{
    super::Mode,
    emulate::same,
    insn,
    registers,
    MockThread, //
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
        Ok(
            insn.emulate_at_once(&mut regs, &MockThread::new()) == AtOnce::Done
                && emulated
                && same(&regs, &expected),
        )
    }

    #[test]
    fn no_operations_and_jumps_are_done_alike() -> Result {
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
    fn the_rest_is_for_a_slot_or_for_later() -> Result {
        for (bytes, expected) in [
            (&b"\x55"[..], AtOnce::Boost),
            (b"\x48\x89\xe5", AtOnce::Boost),
            (b"\x48\x83\xec\x08", AtOnce::Boost),
            (b"\xc3", AtOnce::Boost),
            (b"\x0f\x28\xc1", AtOnce::Boost),
            (CALL, AtOnce::Boost),
            (b"\x74\x10", AtOnce::Boost),
            (b"\x0f\x84\x10\x00\x00\x00", AtOnce::Boost),
            (b"\xff\xd0", AtOnce::Other),
            (b"\x9c", AtOnce::Other),
        ] {
            let mut regs = registers(BITS64);
            let insn = insn(bytes, BITS64)?;
            let found = insn.emulate_at_once(&mut regs, &MockThread::new());
            assert_eq!(found, expected);
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
            let found = insn.emulate_at_once(&mut regs, &MockThread::new());
            assert_eq!(found, AtOnce::Other);
            assert!(same(&regs, &before));
        }
        Ok(())
    }

    #[test]
    fn calls_are_not_for_a_slot_if_there_is_a_shadow_stack() -> Result {
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let call = insn(CALL, BITS64)?;
        assert_eq!(call.emulate_at_once(&mut regs, &thread), AtOnce::Boost);
        thread.shadow = Some(0);
        assert_eq!(call.emulate_at_once(&mut regs, &thread), AtOnce::Other);
        // They are, as they are.
        let ret = insn(b"\xc3", BITS64)?;
        assert_eq!(ret.emulate_at_once(&mut regs, &thread), AtOnce::Boost);
        assert!(same(&regs, &registers(BITS64)));
        Ok(())
    }
}
