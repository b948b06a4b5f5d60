// SPDX-License-Identifier: GPL-2.0

//! Which instructions are probed, and how they are resumed.

use super::{
    super::{
        analyze,
        Mode,
        Plan, //
    },
    AT, //
};
use crate::{
    Refusal,
    Vaddr, //
};
use kernel::prelude::*;

/// What becomes of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Emulated in registers.
    Registers,
    /// Emulated with memory.
    Memory,
    /// Stepped.
    Stepped,
    /// Refused.
    No(Refusal),
}

use Refusal::*;
use Verdict::*;

/// Looks at the instruction that makes up all of `bytes`, with others behind it.
fn verdict(bytes: &[u8], mode: Mode) -> Verdict {
    let mut padded = [0x90; 32];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    match analyze(&padded, Vaddr::new(AT), mode) {
        Err(refusal) => No(refusal),
        Ok(insn) if insn.bytes() != bytes => {
            pr_err!("{bytes:02x?}: taken for {:02x?}\n", insn.bytes());
            No(Undecodable)
        }
        Ok(insn) => match insn.plan() {
            Plan::Emulate(_) => Registers,
            Plan::EmulateOrStep(..) => Memory,
            Plan::Step(_) => Stepped,
        },
    }
}

/// Counts the entries of a table that do not hold.
fn failures(table: &[(&[u8], Verdict)], mode: Mode) -> usize {
    let mut count = 0;
    for (bytes, expected) in table {
        let found = verdict(bytes, mode);
        if found != *expected {
            pr_err!("{bytes:02x?} in {mode:?}: expected {expected:?}, found {found:?}\n");
            count += 1;
        }
    }
    count
}

/// The same in 64-bit and in 32-bit code.
const BOTH: &[(&[u8], Verdict)] = &[
    // Nothing.
    (b"\x90", Registers),
    (b"\x66\x90", Registers),
    (b"\xf3\x90", Registers),
    (b"\x0f\x1f\x00", Registers),
    (b"\x0f\x1f\x44\x00\x00", Registers),
    (b"\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00", Registers),
    (b"\xf3\x0f\x1e\xfa", Registers),
    (b"\xf3\x0f\x1e\xfb", Registers),
    // Not quite nothing: another hint, XCHG, a hint that is not ENDBR64 without its prefix.
    (b"\x0f\x18\x00", Stepped),
    (b"\x91", Stepped),
    (b"\x0f\x1e\xfa", Stepped),
    // Control flow.
    (b"\xeb\xfe", Registers),
    (b"\xe9\x00\x01\x00\x00", Registers),
    (b"\x74\x10", Registers),
    (b"\x2e\x74\x10", Registers),
    (b"\x0f\x8f\x00\x00\x00\x00", Registers),
    (b"\xe0\x00", Registers),
    (b"\xe2\xf0", Registers),
    (b"\xe3\x05", Registers),
    (b"\x67\xe3\x05", Registers),
    (b"\xe8\x00\x00\x00\x00", Memory),
    (b"\xf2\xe8\x00\x00\x00\x00", Memory),
    (b"\xc3", Memory),
    (b"\xf3\xc3", Memory),
    (b"\xc2\x08\x00", Memory),
    (b"\xff\xe0", Memory),
    (b"\x3e\xff\xe0", Memory),
    (b"\xff\xd0", Memory),
    (b"\x64\xff\x10", Stepped),
    // The stack.
    (b"\x55", Memory),
    (b"\x5d", Memory),
    (b"\x68\x01\x02\x03\x04", Memory),
    (b"\x6a\xff", Memory),
    (b"\x9c", Memory),
    (b"\x9d", Stepped),
    (b"\xc9", Memory),
    (b"\xc8\x10\x00\x00", Stepped),
    (b"\x66\x55", Stepped),
    (b"\x66\x68\x01\x02", Stepped),
    (b"\xff\x30", Stepped),
    // Moves.
    (b"\x89\xe5", Registers),
    (b"\x8b\xec", Registers),
    (b"\x66\x89\xe5", Stepped),
    (b"\x88\xe5", Stepped),
    (b"\x89\x45\xfc", Stepped),
    (b"\x8e\xd8", Stepped),
    // Whatever else.
    (b"\x01\xd8", Stepped),
    (b"\xf0\x01\x18", Stepped),
    (b"\xf0\x0f\xb1\x0a", Stepped),
    (b"\xf0\x0f\xc7\x08", Stepped),
    (b"\xf3\xa4", Stepped),
    (b"\xf2\xae", Stepped),
    (b"\x0f\xa2", Stepped),
    (b"\x0f\x31", Stepped),
    (b"\x0f\x01\xf9", Stepped),
    (b"\x0f\x01\xef", Stepped),
    (b"\x0f\x01\xd0", Stepped),
    (b"\xd9\xc0", Stepped),
    (b"\x0f\x58\xc1", Stepped),
    (b"\xc5\xf8\x58\xc1", Stepped),
    (b"\xc4\xe2\x71\x98\xc2", Stepped),
    (b"\xc5\xf8\x77", Stepped),
    (b"\x62\xf1\x7c\x48\x58\xc1", Stepped),
    (b"\x0f\xae\xf0", Stepped),
    (b"\xf3\x0f\xc7\xf8", Stepped),
    (b"\x0f\xc7\xf0", Stepped),
    (b"\xf3\x0f\xae\xe8", Stepped),
    (b"\xf3\x0f\x1e\xc8", Stepped),
    (b"\xf3\x0f\x01\x28", Stepped),
    (b"\xf3\x0f\x01\xea", Stepped),
    (b"\x0f\x02\xc1", Stepped),
    // Breakpoints and other interrupts.
    (b"\xcc", No(Breakpoint)),
    (b"\xf3\xcc", No(Interrupt)),
    (b"\xcd\x80", No(Interrupt)),
    (b"\xcd\x03", No(Interrupt)),
    (b"\xf1", No(Interrupt)),
    (b"\xcf", No(Interrupt)),
    // System calls.
    (b"\x0f\x05", No(SystemCall)),
    (b"\x0f\x34", No(SystemCall)),
    // Far transfers.
    (b"\xcb", No(FarTransfer)),
    (b"\xca\x08\x00", No(FarTransfer)),
    (b"\xff\x18", No(FarTransfer)),
    (b"\xff\x28", No(FarTransfer)),
    // Near ones by 16 bits.
    (b"\x66\xeb\x00", No(ShortTransfer)),
    (b"\x66\xc3", No(ShortTransfer)),
    (b"\x66\xff\xe0", No(ShortTransfer)),
    (b"\x66\xe2\x00", No(ShortTransfer)),
    // Privileged.
    (b"\xf4", No(Privileged)),
    (b"\xfa", No(Privileged)),
    (b"\xfb", No(Privileged)),
    (b"\x0f\x06", No(Privileged)),
    (b"\x0f\x07", No(Privileged)),
    (b"\x0f\x08", No(Privileged)),
    (b"\x0f\x09", No(Privileged)),
    (b"\x0f\x20\xc0", No(Privileged)),
    (b"\x0f\x23\xc0", No(Privileged)),
    (b"\x0f\x30", No(Privileged)),
    (b"\x0f\x32", No(Privileged)),
    (b"\x0f\x35", No(Privileged)),
    (b"\x0f\x37", No(Privileged)),
    (b"\x0f\xaa", No(Privileged)),
    (b"\x0f\x00\xd0", No(Privileged)),
    (b"\x0f\x01\x10", No(Privileged)),
    (b"\x0f\x01\x38", No(Privileged)),
    (b"\x0f\x01\xc1", No(Privileged)),
    (b"\x0f\x01\xc8", No(Privileged)),
    (b"\x0f\x01\xd1", No(Privileged)),
    (b"\x0f\x01\xd9", No(Privileged)),
    (b"\x0f\x01\xf8", No(Privileged)),
    (b"\xf3\x0f\x01\xe8", No(Privileged)),
    (b"\x0f\x78\xc8", No(Privileged)),
    (b"\xf3\x0f\xae\x30", No(Privileged)),
    (b"\x0f\xc7\x28", No(Privileged)),
    (b"\x0f\xc7\x30", No(Privileged)),
    (b"\x66\x0f\x38\x82\x08", No(Privileged)),
    (b"\x66\x0f\x38\xf5\x08", No(Privileged)),
    (b"\xf3\x0f\x38\xf8\x08", No(Privileged)),
    (b"\xf3\x0f\x3a\xf0\xc0\x00", No(Privileged)),
    // Ports.
    (b"\xe4\x60", No(PortIo)),
    (b"\xee", No(PortIo)),
    (b"\xf3\x6c", No(PortIo)),
    (b"\x6f", No(PortIo)),
    // Emulated by the kernel with UMIP.
    (b"\x0f\x00\xc0", No(KernelEmulated)),
    (b"\x0f\x00\xc8", No(KernelEmulated)),
    (b"\x0f\x01\x00", No(KernelEmulated)),
    (b"\x0f\x01\x08", No(KernelEmulated)),
    (b"\x0f\x01\x20", No(KernelEmulated)),
    (b"\x0f\x01\xe0", No(KernelEmulated)),
    // The stack segment.
    (b"\x8e\xd0", No(StackSegment)),
    (b"\x8e\x10", No(StackSegment)),
    // Transactions, enclaves, user interrupts.
    (b"\xc7\xf8\x00\x00\x00\x00", No(Transaction)),
    (b"\xc6\xf8\x00", No(Transaction)),
    (b"\x0f\x01\xd5", No(Transaction)),
    (b"\x0f\x01\xd6", Stepped),
    (b"\x0f\x01\xd7", No(Enclave)),
    (b"\xf3\x0f\x01\xec", No(UserInterrupt)),
    (b"\xf3\x0f\x01\xef", No(UserInterrupt)),
    (b"\xf3\x0f\xc7\xf0", No(UserInterrupt)),
    // Undefined, or unknown.
    (b"\x0f\x0b", No(Undefined)),
    (b"\x0f\x0bxen\x90", No(Undefined)),
    (b"\x0f\x0bkvm\x90", No(Undefined)),
    (b"\x0f\xb9\xc0", No(Undefined)),
    (b"\x0f\xff", No(Undefined)),
    (b"\x8e\xc8", No(Undefined)),
    (b"\x0f\x04", No(Undecodable)),
    (b"\x0f\x24\xc0", No(Undecodable)),
    (b"\x0f\x38\xff\xc0", No(Undecodable)),
    (b"\xd6", No(Undecodable)),
    // LOCK without a memory operand, or with an instruction that cannot have it.
    (b"\xf0\x01\xd8", No(Undecodable)),
    (b"\xf0\x90", No(Undecodable)),
    (b"\xf0\x38\x18", No(Undecodable)),
    (b"\xf0\x83\x38\x01", No(Undecodable)),
    (b"\xf0\xeb\x00", No(Undecodable)),
    (b"\xf0\x0f\xa3\x18", No(Undecodable)),
    // More prefixes than an instruction has room for.
    (
        b"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90",
        No(Undecodable),
    ),
];

/// 64-bit code only.
const BITS64: &[(&[u8], Verdict)] = &[
    (b"\x48\x90", Registers),
    (b"\x41\x90", Stepped),
    (b"\x49\x90", Stepped),
    (b"\x48\x89\xe5", Registers),
    (b"\x4d\x89\xc7", Registers),
    (b"\x41\x54", Memory),
    (b"\x41\x5f", Memory),
    (b"\x41\xff\xd4", Memory),
    (b"\xff\x25\x00\x00\x00\x00", Memory),
    (b"\xff\x15\x78\x56\x34\x12", Memory),
    (b"\xff\x24\xc5\x00\x10\x40\x00", Memory),
    (b"\x42\xff\x64\xe0\x08", Memory),
    (b"\x65\xff\x25\x00\x00\x00\x00", Stepped),
    // The call in a general dynamic TLS sequence.
    (b"\x66\x66\x48\xe8\x00\x00\x00\x00", Memory),
    (b"\x66\x48\x8d\x3d\x00\x00\x00\x00", Stepped),
    (b"\x48\x8b\x05\x00\x00\x00\x00", Stepped),
    (b"\x67\x48\x8b\x05\x00\x00\x00\x00", Stepped),
    (b"\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", Stepped),
    (b"\xf3\x48\x0f\xae\xd0", Stepped),
    (b"\x48\x0f\xc7\x08", Stepped),
    (b"\x63\xc1", Stepped),
    // Not in 64-bit code.
    (b"\x06", No(Undecodable)),
    (b"\x17", No(Undecodable)),
    (b"\x27", No(Undecodable)),
    (b"\x60", No(Undecodable)),
    (b"\x82\xc0\x01", No(Undecodable)),
    (b"\x9a\x00\x00\x00\x00\x00\x00", No(Undecodable)),
    (b"\xce", No(Undecodable)),
    (b"\xea\x00\x00\x00\x00\x00\x00", No(Undecodable)),
    // Prefixes in an order that the decoder does not follow.
    (b"\x48\x66\x89\xc0", No(Undecodable)),
    (b"\x48\x48\x89\xc0", No(Undecodable)),
    (b"\x48\xf3\xa4", No(Undecodable)),
    // APX: REX2, JMPABS, EVEX map 4.
    (b"\xd5\x10\x89\xc0", No(Unsupported)),
    (
        b"\xd5\x00\xa1\x00\x00\x00\x00\x00\x00\x00\x00",
        No(Unsupported),
    ),
    (b"\x62\xf4\x7c\x18\x01\xc0", No(Unsupported)),
    // Out of user space: below zero.
    (b"\xe9\x00\x00\x00\x80", No(TargetOutOfRange)),
    (b"\x0f\x84\x00\x00\x00\x80", No(TargetOutOfRange)),
    (b"\xe8\x00\x00\x00\x80", No(TargetOutOfRange)),
];

/// 32-bit code only.
const BITS32: &[(&[u8], Verdict)] = &[
    // What is REX elsewhere.
    (b"\x40", Stepped),
    (b"\x4f", Stepped),
    // The decoder's idea of VEX and EVEX depends on the second byte.
    (b"\xc5\x08", Stepped),
    (b"\x62\x08", Stepped),
    (b"\x60", Stepped),
    (b"\x06", Stepped),
    (b"\x17", No(StackSegment)),
    (b"\xce", No(Interrupt)),
    (b"\x9a\x00\x00\x00\x00\x00\x00", No(FarTransfer)),
    (b"\xea\x00\x00\x00\x00\x00\x00", No(FarTransfer)),
    (b"\x66\xe8\x00\x00", No(ShortTransfer)),
    (b"\x67\xe2\x00", Registers),
    // The data segment may be any.
    (b"\xff\x25\x00\x00\x00\x00", Stepped),
    (b"\xff\x14\x85\x00\x00\x00\x00", Stepped),
    // Wraps at 4 GiB.
    (b"\xe9\x00\x00\x00\x80", Registers),
];

#[kunit_tests(ubp_arch_analyze)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        assert_eq!(failures(BOTH, Mode::Bits64), 0);
        assert_eq!(failures(BOTH, Mode::Bits32), 0);
        assert_eq!(failures(BITS64, Mode::Bits64), 0);
        assert_eq!(failures(BITS32, Mode::Bits32), 0);
    }

    #[test]
    fn cut_off() {
        let mut wrong = 0;
        for (table, mode) in [
            (BOTH, Mode::Bits64),
            (BOTH, Mode::Bits32),
            (BITS64, Mode::Bits64),
            (BITS32, Mode::Bits32),
        ] {
            for (bytes, verdict) in table {
                let whole = analyze(bytes, Vaddr::new(AT), mode);
                if matches!(verdict, No(_)) {
                    continue;
                }
                wrong += usize::from(whole.is_err());
                // Without its last byte, the instruction is another or none, but never longer than
                // what is there.
                if let Some((_, rest)) = bytes.split_last() {
                    wrong += match analyze(rest, Vaddr::new(AT), mode) {
                        Err(CutOff) => 0,
                        Err(_) => 1,
                        Ok(insn) => usize::from(insn.bytes().len() > rest.len()),
                    };
                }
            }
        }
        assert_eq!(wrong, 0);
        assert!(matches!(
            analyze(&[], Vaddr::new(AT), Mode::Bits64),
            Err(CutOff)
        ));
    }

    #[test]
    fn any_bytes() {
        // Whatever the bytes are, the answer is one of those that there are, and the length is
        // within bounds; debug builds also check arithmetic.
        let mut state = 1u64;
        let mut wrong = 0;
        for round in 0..5_000u64 {
            let mut bytes = [0u8; 15];
            for byte in bytes.iter_mut() {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                *byte = (state >> 56) as u8;
            }
            // Common first bytes lead further into the tables.
            bytes[0] = match round % 8 {
                0 => 0x0f,
                1 => 0xff,
                2 => 0x66,
                3 => 0xf3,
                4 => 0x48,
                _ => bytes[0],
            };
            for mode in [Mode::Bits64, Mode::Bits32] {
                if let Ok(insn) = analyze(&bytes, Vaddr::new(AT), mode) {
                    let len = insn.bytes().len();
                    wrong += usize::from(len == 0 || len > 15);
                }
            }
        }
        assert_eq!(wrong, 0);
    }

    #[test]
    fn errnos() {
        assert_eq!(Breakpoint.errno(), EEXIST);
        assert_eq!(CutOff.errno(), EFAULT);
        assert_eq!(Privileged.errno(), EPERM);
    }
}
