// SPDX-License-Identifier: GPL-2.0

//! Tests of the fast path: it has the same effect as an emulation, and leaves other instructions
//! alone.

use super::{
    super::Mode,
    emulate::same,
    insn,
    registers,
    MockThread, //
};
use crate::{
    Emulated,
    EmulatedFast, //
};
use kernel::{
    prelude::*,
    ptregs::flags, //
};

const BITS64: Mode = Mode::Bits64;

/// A call to an address 0x100 bytes behind it.
const CALL: &[u8] = b"\xe8\x00\x01\x00\x00";

#[kunit_tests(ubp_arch_fast_path)]
mod tests {
    use super::*;

    /// Returns whether the fast path executes an instruction with the same effect as an emulation.
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
            insn.emulate_fast(&mut regs, &MockThread::new()) == EmulatedFast::Done
                && emulated
                && same(&regs, &expected),
        )
    }

    #[test]
    fn fast_path_matches_emulation() -> Result {
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
    fn fast_path_leaves_other_instructions() -> Result {
        for (bytes, expected) in [
            (&b"\x55"[..], EmulatedFast::Boost),
            (b"\x48\x89\xe5", EmulatedFast::Boost),
            (b"\x48\x83\xec\x08", EmulatedFast::Boost),
            (b"\xc3", EmulatedFast::Boost),
            (b"\x0f\x28\xc1", EmulatedFast::Boost),
            (CALL, EmulatedFast::Boost),
            (b"\x74\x10", EmulatedFast::Boost),
            (b"\x0f\x84\x10\x00\x00\x00", EmulatedFast::Boost),
            (b"\xff\xd0", EmulatedFast::Other),
            (b"\x9c", EmulatedFast::Other),
        ] {
            let mut regs = registers(BITS64);
            let insn = insn(bytes, BITS64)?;
            let found = insn.emulate_fast(&mut regs, &MockThread::new());
            assert_eq!(found, expected);
            assert!(same(&regs, &registers(BITS64)));
        }
        Ok(())
    }

    #[test]
    fn trap_flag_prevents_fast_path() -> Result {
        for bytes in [&b"\x90"[..], b"\x74\x10", b"\x55", CALL] {
            let (mut regs, mut before) = (registers(BITS64), registers(BITS64));
            regs.set_flags(0x202 | flags::TF);
            before.set_flags(0x202 | flags::TF);
            let insn = insn(bytes, BITS64)?;
            let found = insn.emulate_fast(&mut regs, &MockThread::new());
            assert_eq!(found, EmulatedFast::Other);
            assert!(same(&regs, &before));
        }
        Ok(())
    }

    #[test]
    fn shadow_stack_prevents_boosted_call() -> Result {
        let (mut regs, mut thread) = (registers(BITS64), MockThread::new());
        let call = insn(CALL, BITS64)?;
        assert_eq!(call.emulate_fast(&mut regs, &thread), EmulatedFast::Boost);
        thread.shadow = Some(0);
        assert_eq!(call.emulate_fast(&mut regs, &thread), EmulatedFast::Other);
        // Returns are boosted as they are.
        let ret = insn(b"\xc3", BITS64)?;
        assert_eq!(ret.emulate_fast(&mut regs, &thread), EmulatedFast::Boost);
        assert!(same(&regs, &registers(BITS64)));
        Ok(())
    }
}
