// SPDX-License-Identifier: GPL-2.0

//! Tests of instructions with the prefixes of APX. They are executed in slots, because only the CPU
//! knows whether it has them.

use super::{
    super::{
        analyze,
        Mode, //
    },
    analyze::{
        failures,
        Verdict::{
            self,
            Boosted,
            No,
            Stepped, //
        },
    },
    AT, //
};
use crate::{
    Refusal::*,
    SlotAddr,
    Vaddr, //
};
use kernel::prelude::*;

/// Instructions of 64-bit code.
const BITS64: &[(&[u8], Verdict)] = &[
    // REX2: MOV, PUSHP, POP, an immediate of eight bytes, the second map, calls and jumps.
    (b"\xd5\x10\x89\xc0", Boosted),
    (b"\xd5\x48\x8b\x0d\x10\x00\x00\x00", Boosted),
    (b"\xd5\x08\x50", Boosted),
    (b"\xd5\x18\x58", Boosted),
    (b"\xd5\x18\xb8\x01\x02\x03\x04\x05\x06\x07\x08", Boosted),
    (b"\x66\xd5\x10\xb8\x01\x02", Boosted),
    (b"\xd5\x80\xaf\xc0", Boosted),
    (b"\xd5\x80\xba\xe0\x01", Boosted),
    (b"\xd5\x10\xff\xd0", Stepped),
    (b"\xd5\x10\xff\xe0", Boosted),
    (b"\xd5\x10\xff\x30", Boosted),
    (b"\xf0\xd5\x10\x01\x18", Boosted),
    (b"\xd5\x08\xc3", Boosted),
    (b"\xd5\x08\x9c", Stepped),
    // Instructions that would be emulated without REX2.
    (b"\xd5\x00\x90", Boosted),
    (b"\xd5\x80\x1f\x00", Boosted),
    (b"\xd5\x08\x01\xc8", Boosted),
    // JMPABS; with an address-size prefix, the decoder computes the wrong length.
    (b"\xd5\x00\xa1\x00\x00\x00\x00\x00\x00\x00\x00", Boosted),
    (b"\x67\xd5\x00\xa1\x00\x00\x00\x00", No(Undecodable)),
    // Instructions that are also refused without REX2.
    (b"\xd5\x80\x05", No(SystemCall)),
    (b"\xd5\x00\xcc", No(Interrupt)),
    (b"\xd5\x00\x8e\xd0", No(StackSegment)),
    (b"\xd5\x00\xff\x18", No(FarTransfer)),
    (b"\xd5\x00\xc7\xf8\x00\x00\x00\x00", No(Transaction)),
    (b"\xd5\x80\x01\xe0", No(KernelEmulated)),
    (b"\xd5\x80\xc7\x28", No(Privileged)),
    (b"\xd5\x00\xf4", No(Privileged)),
    (b"\x66\xd5\x10\xff\xd0", No(ShortTransfer)),
    // Rows of the maps that cannot have REX2, escapes and other prefixes.
    (b"\xd5\x00\x48", No(Undecodable)),
    (b"\xd5\x00\x74\x00", No(Undecodable)),
    (b"\xd5\x00\xa4", No(Undecodable)),
    (b"\xd5\x00\xe8\x00\x00\x00\x00", No(Undecodable)),
    (b"\xd5\x00\xeb\x00", No(Undecodable)),
    (b"\xd5\x80\x31", No(Undecodable)),
    (b"\xd5\x80\x84\x00\x00\x00\x00", No(Undecodable)),
    (b"\xd5\x00\x0f", No(Undecodable)),
    (b"\xd5\x80\x38", No(Undecodable)),
    (b"\xd5\x00\x66", No(Undecodable)),
    (b"\xd5\x00\xc5", No(Undecodable)),
    (b"\xf0\xd5\x10\x89\x00", No(Undecodable)),
    // EVEX: ADD with three operands, CCMP, SETcc, POP2P, PUSH2, IMUL, IMULZU, CTEST, WRSS.
    (b"\x62\xf4\x7c\x18\x01\xc0", Boosted),
    (b"\x62\xe4\xf4\x18\x01\x05\x08\x00\x00\x00", Boosted),
    (b"\x62\xf4\x84\x05\x39\xc3", Boosted),
    (b"\x62\xf4\x7f\x18\x40\xc0", Boosted),
    (b"\x62\xf4\xfc\x18\x8f\xc3", Boosted),
    (b"\x62\xf4\x64\x18\xff\xf0", Boosted),
    (b"\x62\xf4\x7c\x08\xaf\xc0", Boosted),
    (b"\x62\xfc\x7c\x18\x6b\xc8\x03", Boosted),
    (b"\x62\xf4\x04\x0a\xf7\xc0\x01\x00\x00\x00", Boosted),
    (b"\x62\xf4\x05\x0a\xf7\xc0\x01\x00", Boosted),
    (b"\x62\xf4\x7c\x08\x66\x00", Boosted),
    // WRUSS, INVPCID, ENQCMDS; the latter opcodes are other instructions without their prefixes.
    (b"\x62\xf4\x7d\x08\x65\x00", No(Privileged)),
    (b"\x62\xf4\x7e\x08\xf2\x00", No(Privileged)),
    (b"\x62\xf4\x7e\x08\xf8\x00", No(Privileged)),
    (b"\x62\xf4\x7f\x08\xf8\x00", Boosted),
    (b"\x62\xf4\x7c\x08\xf0\xc0", Boosted),
    // No instruction.
    (b"\x62\xf4\x7c\x08\x90\xc0", No(Undecodable)),
    (b"\xf0\x62\xf4\x7c\x18\x01\x00", No(Undecodable)),
];

#[kunit_tests(ubp_arch_apx)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        assert_eq!(failures(BITS64, Mode::Bits64), 0);
        // In 32-bit code the first byte is AAD.
        assert_eq!(failures(&[(b"\xd5\x0a", Boosted)], Mode::Bits32), 0);
    }

    #[test]
    fn relative_operands() -> Result {
        // The instruction, and the offset of its displacement.
        for (bytes, offset) in [
            (&b"\xd5\x48\x8b\x0d\x10\x00\x00\x00"[..], 4),
            (b"\xd5\xc8\xaf\x05\x10\x00\x00\x00", 4),
            (b"\x66\xd5\x40\x81\x05\x10\x00\x00\x00\x01\x02", 5),
            (b"\x62\xe4\xf4\x18\x01\x05\x10\x00\x00\x00", 6),
            (b"\x2e\x62\xf4\x7c\x08\x80\x05\x10\x00\x00\x00\x01", 7),
        ] {
            let insn = analyze(bytes, Vaddr::new(AT), Mode::Bits64)?;
            let step = insn.plan().step().ok_or(EINVAL)?;
            let image = step.slot_image(SlotAddr::new(AT - 0x100));
            let mut expected = [0u8; 15];
            expected[..bytes.len()].copy_from_slice(bytes);
            expected[offset + 1] += 1;
            assert!(matches!(image, Ok(image) if image[..bytes.len()] == expected[..bytes.len()]));
        }
        Ok(())
    }
}
