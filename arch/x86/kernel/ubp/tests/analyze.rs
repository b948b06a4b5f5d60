// SPDX-License-Identifier: GPL-2.0

//! Tests of the blacklist and of the choice of plans.

use super::{
    super::{
        analyze,
        Mode,
        ResumePlan, //
    },
    AT, //
};
use crate::{
    Refusal,
    Vaddr, //
};
use kernel::prelude::*;

/// The expected result of the analysis of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Emulated in registers.
    Registers,
    /// Emulated with memory.
    Memory,
    /// Boosted in a slot, without a second trap.
    Boosted,
    /// Stepped in a slot.
    Stepped,
    /// Refused.
    No(Refusal),
}

use Refusal::*;
use Verdict::*;

/// Analyzes the instruction that consists of all of `bytes`, with other instructions behind it.
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
            ResumePlan::Emulate(_) | ResumePlan::EmulateOrBoost(..) => Registers,
            ResumePlan::EmulateOrStep(..) => Memory,
            ResumePlan::Boost(_) => Boosted,
            ResumePlan::Step(_) => Stepped,
        },
    }
}

/// Counts the entries of a table with a wrong verdict.
pub(super) fn failures(table: &[(&[u8], Verdict)], mode: Mode) -> usize {
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

/// Instructions with the same verdict in 64-bit and in 32-bit code.
const BOTH: &[(&[u8], Verdict)] = &[
    // No operation.
    (b"\x90", Registers),
    (b"\x66\x90", Registers),
    (b"\xf3\x90", Registers),
    (b"\x0f\x1f\x00", Registers),
    (b"\x0f\x1f\x44\x00\x00", Registers),
    (b"\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00", Registers),
    (b"\xf3\x0f\x1e\xfa", Registers),
    (b"\xf3\x0f\x1e\xfb", Registers),
    // Similar to a NOP: another hint, REPNE, a hint that is not ENDBR64 without its prefix.
    (b"\x0f\x18\x00", Boosted),
    (b"\xf2\x90", Boosted),
    (b"\x0f\x1e\xfa", Boosted),
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
    (b"\x9d", Memory),
    (b"\x66\x9d", Stepped),
    (b"\xc9", Memory),
    (b"\xc8\x10\x00\x00", Boosted),
    (b"\x66\x55", Boosted),
    (b"\x66\x68\x01\x02", Boosted),
    (b"\xff\xf0", Memory),
    (b"\x8f\x00", Boosted),
    // Moves.
    (b"\x89\xe5", Registers),
    (b"\x8b\xec", Registers),
    (b"\x66\x89\xe5", Registers),
    (b"\x88\xe5", Registers),
    (b"\xf3\x89\xe5", Boosted),
    (b"\xb8\x01\x02\x03\x04", Registers),
    (b"\xb4\x01", Registers),
    (b"\xc7\xc0\x01\x02\x03\x04", Registers),
    (b"\xc6\xc0\x01", Registers),
    (b"\x91", Registers),
    (b"\x87\xc8", Registers),
    (b"\x8d\x04\x24", Registers),
    (b"\x66\x8d\x04\x24", Registers),
    (b"\x8d\xc0", Boosted),
    (b"\x98", Registers),
    (b"\x99", Registers),
    (b"\x0f\xb6\xc4", Registers),
    (b"\x0f\xbf\xc4", Registers),
    (b"\x0f\x44\xc1", Registers),
    (b"\x0f\x94\xc0", Registers),
    (b"\xf8", Registers),
    (b"\xfd", Registers),
    (b"\x8e\xd8", Boosted),
    (b"\x8e\xc8", Boosted),
    // Arithmetic and logic.
    (b"\x01\xd8", Registers),
    (b"\x31\xc0", Registers),
    (b"\x84\xc0", Registers),
    (b"\x83\xec\x10", Registers),
    (b"\x81\xec\x00\x10\x00\x00", Registers),
    (b"\x66\x83\xf8\x01", Registers),
    (b"\x2d\x01\x00\x00\x00", Registers),
    (b"\xf7\xd8", Registers),
    (b"\xf6\xc4\x01", Registers),
    (b"\xff\xc0", Registers),
    (b"\xfe\xcc", Registers),
    (b"\xf7\xe1", Boosted),
    (b"\xd1\xe0", Boosted),
    // Memory operands that are read and written, or that are in another segment.
    (b"\x01\x18", Boosted),
    (b"\x83\x00\x01", Boosted),
    (b"\xff\x00", Boosted),
    (b"\x87\x08", Boosted),
    (b"\x0f\x44\x00", Boosted),
    (b"\x64\x8b\x00", Boosted),
    (b"\x65\x89\x00", Boosted),
    (b"\x64\xff\x30", Boosted),
    // Other instructions.
    (b"\xf0\x01\x18", Boosted),
    (b"\xf0\x0f\xb1\x0a", Boosted),
    (b"\xf0\x0f\xc7\x08", Boosted),
    (b"\xf3\xa4", Boosted),
    (b"\xf2\xae", Boosted),
    (b"\x0f\xa2", Boosted),
    (b"\x0f\x31", Boosted),
    (b"\x0f\x01\xf9", Boosted),
    (b"\x0f\x01\xef", Boosted),
    (b"\x0f\x01\xd0", Boosted),
    (b"\xd9\xc0", Boosted),
    (b"\x0f\x58\xc1", Boosted),
    (b"\xc5\xf8\x58\xc1", Boosted),
    (b"\xc4\xe2\x71\x98\xc2", Boosted),
    (b"\xc5\xf8\x77", Boosted),
    (b"\x62\xf1\x7c\x48\x58\xc1", Boosted),
    (b"\x0f\xae\xf0", Boosted),
    (b"\xf3\x0f\xc7\xf8", Boosted),
    (b"\x0f\xc7\xf0", Boosted),
    (b"\xf3\x0f\xae\xe8", Boosted),
    (b"\xf3\x0f\x1e\xc8", Boosted),
    (b"\xf3\x0f\x01\x28", Boosted),
    (b"\xf3\x0f\x01\xea", Boosted),
    (b"\x0f\x02\xc1", Boosted),
    (b"\xf3\x0f\x01\xfa", Boosted),
    // A hypervisor may serve these in user mode.
    (b"\x0f\x01\xc1", Boosted),
    (b"\x0f\x01\xd4", Boosted),
    (b"\x0f\x01\xd9", Boosted),
    // Ports, to which a program may have access.
    (b"\xe4\x60", Boosted),
    (b"\xee", Boosted),
    (b"\xf3\x6c", Boosted),
    (b"\x6f", Boosted),
    // Exceptions by which programs stop themselves.
    (b"\x0f\x0b", Boosted),
    (b"\x0f\xb9\xc0", Boosted),
    (b"\x0f\xff", Boosted),
    (b"\xd6", Boosted),
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
    // Near transfers with a 16-bit displacement.
    (b"\x66\xeb\x00", No(ShortTransfer)),
    (b"\x66\xff\xd0", No(ShortTransfer)),
    (b"\x66\x74\x00", No(ShortTransfer)),
    (b"\x66\xe2\x00", No(ShortTransfer)),
    (b"\x66\xc3", Boosted),
    (b"\x66\xff\xe0", Boosted),
    // Privileged.
    (b"\xf4", No(Privileged)),
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
    (b"\x0f\x01\xc8", No(Privileged)),
    (b"\x0f\x01\xd1", No(Privileged)),
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
    // Emulated by the kernel with UMIP, or after iopl(3).
    (b"\xfa", No(KernelEmulated)),
    (b"\xfb", No(KernelEmulated)),
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
    (b"\xf2\x0f\x01\xe8", No(Transaction)),
    (b"\xf2\x0f\x01\xe9", No(Transaction)),
    (b"\x0f\x01\xd6", Boosted),
    (b"\x0f\x01\xd7", No(Enclave)),
    (b"\xf3\x0f\x01\xec", No(UserInterrupt)),
    (b"\xf3\x0f\x01\xef", No(UserInterrupt)),
    (b"\xf3\x0f\xc7\xf0", No(UserInterrupt)),
    // Calls to a hypervisor, or unknown instructions.
    (b"\x0f\x0bxen\x90", No(Hypervisor)),
    (b"\x0f\x0bkvm\x90", No(Hypervisor)),
    (b"\x0f\x04", No(Undecodable)),
    (b"\x0f\x24\xc0", No(Undecodable)),
    (b"\xf2\x0f\x73\xf5", No(Undecodable)),
    (b"\x0f\x38\xff\xc0", No(Undecodable)),
    // LOCK without a memory operand, or with an instruction that cannot have LOCK.
    (b"\xf0\x01\xd8", No(Undecodable)),
    (b"\xf0\x90", No(Undecodable)),
    (b"\xf0\x38\x18", No(Undecodable)),
    (b"\xf0\x83\x38\x01", No(Undecodable)),
    (b"\xf0\xeb\x00", No(Undecodable)),
    (b"\xf0\x0f\xa3\x18", No(Undecodable)),
    // More prefixes than fit in an instruction.
    (
        b"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x90",
        No(Undecodable),
    ),
];

/// Instructions of 64-bit code only.
const BITS64: &[(&[u8], Verdict)] = &[
    (b"\x48\x90", Registers),
    (b"\x41\x90", Registers),
    (b"\x49\x90", Registers),
    (b"\xf3\x41\x90", Boosted),
    (b"\x48\x89\xe5", Registers),
    (b"\x4d\x89\xc7", Registers),
    (b"\x41\x54", Memory),
    (b"\x41\x5f", Memory),
    (b"\x41\xff\xd4", Memory),
    (b"\xff\x25\x00\x00\x00\x00", Memory),
    (b"\xff\x15\x78\x56\x34\x12", Memory),
    (b"\xff\x24\xc5\x00\x10\x40\x00", Memory),
    (b"\x42\xff\x64\xe0\x08", Memory),
    (b"\x65\xff\x25\x00\x00\x00\x00", Boosted),
    // The call in a general dynamic TLS sequence.
    (b"\x66\x66\x48\xe8\x00\x00\x00\x00", Memory),
    (b"\x66\x48\x8d\x3d\x00\x00\x00\x00", Registers),
    (b"\x66\x48\xff\x15\x00\x00\x00\x00", Memory),
    // The relaxed forms that linkers use instead of it and of other indirect calls.
    (b"\x64\x48\x8b\x04\x25\x00\x00\x00\x00", Boosted),
    (b"\x48\x03\x05\x00\x00\x00\x00", Memory),
    (b"\x48\x8d\x80\x00\x00\x00\x00", Registers),
    (b"\x67\xe8\x00\x00\x00\x00", Memory),
    (b"\x67\xe9\x00\x00\x00\x00", Registers),
    (b"\xf2\xe9\x00\x00\x00\x00", Registers),
    (b"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00", Registers),
    (
        b"\x66\x66\x66\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
        Registers,
    ),
    (b"\x48\x8b\x05\x00\x00\x00\x00", Memory),
    (b"\x67\x48\x8b\x05\x00\x00\x00\x00", Memory),
    (b"\x89\x45\xfc", Memory),
    (b"\xc7\x45\xfc\x01\x00\x00\x00", Memory),
    (b"\x80\x3d\x00\x00\x00\x00\x00", Memory),
    (b"\x48\x83\x7f\x08\x00", Memory),
    (b"\x48\x3b\x47\x08", Memory),
    (b"\x85\x07", Memory),
    (b"\xf6\x07\x01", Memory),
    (b"\x48\x63\x07", Memory),
    (b"\x0f\xb6\x07", Memory),
    (b"\x0f\xbe\x07", Memory),
    (b"\xff\x30", Memory),
    (b"\xff\x35\x00\x00\x00\x00", Memory),
    (b"\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", Registers),
    (b"\xf3\x48\x0f\xae\xd0", Boosted),
    (b"\x48\x0f\xc7\x08", Boosted),
    (b"\x63\xc1", Registers),
    (b"\x48\x98", Registers),
    // Not every processor has these in 64-bit code.
    (b"\x9e", Boosted),
    (b"\x9f", Boosted),
    // Invalid in 64-bit code.
    (b"\x06", No(Undecodable)),
    (b"\x17", No(Undecodable)),
    (b"\x27", No(Undecodable)),
    (b"\x60", No(Undecodable)),
    (b"\x82\xc0\x01", No(Undecodable)),
    (b"\x9a\x00\x00\x00\x00\x00\x00", No(Undecodable)),
    (b"\xce", No(Undecodable)),
    (b"\xea\x00\x00\x00\x00\x00\x00", No(Undecodable)),
    // Prefixes in an order that the decoder does not support.
    (b"\x48\x66\x89\xc0", No(Undecodable)),
    (b"\x48\x48\x89\xc0", No(Undecodable)),
    (b"\x48\xf3\xa4", No(Undecodable)),
    // A target outside of user space: below zero.
    (b"\xe9\x00\x00\x00\x80", No(TargetOutOfRange)),
    (b"\x0f\x84\x00\x00\x00\x80", No(TargetOutOfRange)),
    (b"\xe8\x00\x00\x00\x80", No(TargetOutOfRange)),
];

/// Instructions of 32-bit code only.
const BITS32: &[(&[u8], Verdict)] = &[
    // These bytes are REX prefixes in 64-bit code.
    (b"\x40", Registers),
    (b"\x4f", Registers),
    (b"\x63\xc1", Boosted),
    // The second byte determines whether the decoder takes this for VEX or EVEX.
    (b"\xc5\x08", Boosted),
    (b"\x62\x08", Boosted),
    (b"\x8f\x48\x00", No(Undecodable)),
    (b"\x60", Boosted),
    (b"\x06", Boosted),
    (b"\x17", No(StackSegment)),
    (b"\xce", No(Interrupt)),
    (b"\x9a\x00\x00\x00\x00\x00\x00", No(FarTransfer)),
    (b"\xea\x00\x00\x00\x00\x00\x00", No(FarTransfer)),
    (b"\x66\xe8\x00\x00", No(ShortTransfer)),
    (b"\x67\xe2\x00", Registers),
    // The data segment may have any base.
    (b"\xff\x25\x00\x00\x00\x00", Boosted),
    (b"\xff\x14\x85\x00\x00\x00\x00", Stepped),
    (b"\x89\x45\xfc", Boosted),
    (b"\x83\x7d\xfc\x00", Boosted),
    (b"\xff\x30", Boosted),
    // 16-bit addresses.
    (b"\x67\x8d\x00", Boosted),
    // A target that wraps at 4 GiB.
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
                // Without its last byte, it is another instruction or none, but never longer than
                // the bytes that are left.
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
        // Any bytes must have a valid verdict and a length within bounds. Debug builds also check
        // arithmetic for overflows.
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
            // Common first bytes reach more entries of the tables.
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
