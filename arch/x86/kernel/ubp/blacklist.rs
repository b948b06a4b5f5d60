// SPDX-License-Identifier: GPL-2.0

//! Blacklist of instructions that cannot be probed.
//!
//! Undefined encodings that the tables below do not list, and instructions that this CPU does not
//! have, are not refused: when they are stepped in a slot, they raise the same exception as at
//! their original address. Instructions are refused if they would behave differently in a slot, if
//! they would not trap after one instruction, or if the kernel's decoder gets their length wrong.
//! Instructions that user mode may not execute are refused as well, because a breakpoint on one can
//! only be a mistake.

use super::{
    decode::{
        Decoded,
        ModRm,
        OpcodeMap,
        Prefixes, //
    },
    Mode, //
};
use crate::Refusal;

/// Checks whether an instruction can be probed, and returns the reason if it cannot.
pub(super) fn check(insn: &Decoded) -> Result<(), Refusal> {
    let refusal = match insn.map {
        OpcodeMap::Primary => primary(insn),
        OpcodeMap::Secondary => secondary(insn),
        OpcodeMap::Ternary38 => ternary_38(insn),
        OpcodeMap::Ternary3a => ternary_3a(insn),
        // All vector instructions may be stepped.
        OpcodeMap::Vector => None,
        OpcodeMap::Promoted => promoted(insn),
    };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    if insn.rex2 && !takes_rex2(insn) {
        return Err(Refusal::Undecodable);
    }
    // The CPU itself sets the whole instruction pointer for the others: nothing has to be
    // corrected.
    let is_corrected = insn.is_relative_branch() || insn.group(0xff) == Some(2);
    if is_corrected && insn.is_16bit() {
        return Err(Refusal::ShortTransfer);
    }
    if insn.prefixes.any(Prefixes::LOCK) && !is_lockable(insn) {
        return Err(Refusal::Undecodable);
    }
    Ok(())
}

fn primary(insn: &Decoded) -> Option<Refusal> {
    if insn.mode == Mode::Bits64 && is_invalid_in_64bit(insn.opcode) {
        return Some(Refusal::Undecodable);
    }
    Some(match insn.opcode {
        // A prefix after REX, one REX after another, or a fifth prefix: the decoder takes it for
        // the opcode.
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => Refusal::Undecodable,
        0x40..=0x4f if insn.mode == Mode::Bits64 => Refusal::Undecodable,
        // XOP in 32-bit code with bits for which the decoder takes it for POP.
        0x8f if insn.group(0x8f) != Some(0) => Refusal::Undecodable,
        // HLT.
        0xf4 => Refusal::Privileged,
        // CLI, STI: NOPs after `iopl(3)`.
        0xfa | 0xfb => Refusal::KernelEmulated,
        // INT3, INT n, INTO, IRET, INT1.
        0xcc..=0xcf | 0xf1 => Refusal::Interrupt,
        // CALLF, JMPF, RETF.
        0x9a | 0xea | 0xca | 0xcb => Refusal::FarTransfer,
        // CALLF and JMPF through memory.
        0xff if matches!(insn.group(0xff), Some(3 | 5)) => Refusal::FarTransfer,
        // POP SS.
        0x17 => Refusal::StackSegment,
        // MOV to SS.
        0x8e if insn.group(0x8e) == Some(2) => Refusal::StackSegment,
        // XABORT, XBEGIN.
        0xc6 | 0xc7 if insn.modrm == Some(ModRm(0xf8)) => Refusal::Transaction,
        _ => return None,
    })
}

/// Returns whether this is an opcode of the primary map that is invalid in 64-bit code.
fn is_invalid_in_64bit(opcode: u8) -> bool {
    matches!(
        opcode,
        // PUSH and POP of ES, CS, SS and DS.
        0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f
        // DAA, DAS, AAA, AAS, AAM, AAD.
        | 0x27 | 0x2f | 0x37 | 0x3f | 0xd4 | 0xd5
        // PUSHA, POPA, BOUND.
        | 0x60
            ..=0x62
        // An alias of 0x80, CALLF, LES, LDS, INTO, JMPF.
        | 0x82 | 0x9a | 0xc4 | 0xc5 | 0xce | 0xea
    )
}

fn secondary(insn: &Decoded) -> Option<Refusal> {
    let rep = insn.prefixes.any(Prefixes::REP);
    let repne = insn.prefixes.any(Prefixes::REPNE);
    let Some(modrm) = insn.modrm else {
        return secondary_without_modrm(insn.opcode);
    };
    Some(match (insn.opcode, modrm.reg()) {
        // SLDT, STR.
        (0x00, 0 | 1) => Refusal::KernelEmulated,
        // LLDT, LTR, LKGS.
        (0x00, 2 | 3 | 6) => Refusal::Privileged,
        (0x01, _) => return group_01(modrm, rep, repne),
        // MOV from and to control and debug registers.
        (0x20..=0x23, _) => Refusal::Privileged,
        // Shifts of vectors. With these prefixes they are undefined, and the decoder takes them for
        // instructions without an immediate.
        (0x71..=0x73, _) if rep || repne => Refusal::Undecodable,
        // VMREAD, VMWRITE.
        (0x78 | 0x79, _) => Refusal::Privileged,
        // CLRSSBSY.
        (0xae, 6) if rep && !modrm.is_register() => Refusal::Privileged,
        (0xc7, reg) => return group_c7(reg, modrm.is_register(), rep),
        _ => return None,
    })
}

/// Checks opcodes `0f xx` that have no ModRM byte, or one that the decoder does not know.
fn secondary_without_modrm(opcode: u8) -> Option<Refusal> {
    Some(match opcode {
        // SYSCALL, SYSENTER.
        0x05 | 0x34 => Refusal::SystemCall,
        // CLTS, SYSRET, INVD, WBINVD.
        0x06..=0x09 => Refusal::Privileged,
        // WRMSR, RDMSR, SYSEXIT, GETSEC, RSM.
        0x30 | 0x32 | 0x35 | 0x37 | 0xaa => Refusal::Privileged,
        // UD2, UD0. UD0 has a ModRM byte on some processors, which makes no difference here.
        0x0b | 0xff => return None,
        // FEMMS, RDTSC, RDPMC, EMMS, conditional jumps.
        0x0e | 0x31 | 0x33 | 0x77 | 0x80..=0x8f => return None,
        // PUSH and POP of FS and GS, CPUID, BSWAP.
        0xa0..=0xa2 | 0xa8 | 0xa9 | 0xc8..=0xcf => return None,
        _ => Refusal::Undecodable,
    })
}

/// Checks `0f 01`: a few instructions for user mode among many privileged ones.
fn group_01(modrm: ModRm, rep: bool, repne: bool) -> Option<Refusal> {
    if !modrm.is_register() {
        return Some(match modrm.reg() {
            // SGDT, SIDT, SMSW.
            0 | 1 | 4 => Refusal::KernelEmulated,
            // RSTORSSP. It is undefined without the prefix.
            5 if rep => return None,
            5 => Refusal::Undecodable,
            // LGDT, LIDT, LMSW, INVLPG.
            _ => Refusal::Privileged,
        });
    }
    Some(match (modrm.0, rep, repne) {
        // SMSW.
        (0xe0..=0xe7, _, _) => Refusal::KernelEmulated,
        // XEND, XSUSLDTRK, XRESLDTRK.
        (0xd5, _, _) | (0xe8 | 0xe9, _, true) => Refusal::Transaction,
        // ENCLU.
        (0xd7, _, _) => Refusal::Enclave,
        // UIRET, TESTUI, CLUI, STUI.
        (0xec..=0xef, true, _) => Refusal::UserInterrupt,
        // VMCALL, VMMCALL, VMFUNC: hypervisors may serve user mode.
        (0xc1 | 0xd4 | 0xd9, false, false) => return None,
        // XGETBV, XTEST.
        (0xd0 | 0xd6, false, _) => return None,
        // SERIALIZE, RDPKRU, WRPKRU.
        (0xe8 | 0xee | 0xef, false, _) => return None,
        // SAVEPREVSSP.
        (0xea, true, _) => return None,
        // MCOMMIT.
        (0xfa, true, _) => return None,
        // RDTSCP, MONITORX, MWAITX, CLZERO, RDPRU.
        (0xf9..=0xfd, false, _) => return None,
        // VMX, SVM, MONITOR, MWAIT, CLAC, STAC, ENCLS, XSETBV, SWAPGS, SNP, SETSSBSY, FRED …
        _ => Refusal::Privileged,
    })
}

/// Checks `0f c7`.
fn group_c7(reg: u8, is_register: bool, rep: bool) -> Option<Refusal> {
    Some(match (reg, is_register) {
        // SENDUIPI.
        (6, true) if rep => Refusal::UserInterrupt,
        // RDRAND, RDSEED, RDPID.
        (6 | 7, true) => return None,
        // XRSTORS, XSAVES, VMPTRLD, VMCLEAR, VMXON, VMPTRST.
        (3 | 5 | 6 | 7, false) => Refusal::Privileged,
        // CMPXCHG8B, XSAVEC.
        _ => return None,
    })
}

fn ternary_38(insn: &Decoded) -> Option<Refusal> {
    let Some(modrm) = insn.modrm else {
        return Some(Refusal::Undecodable);
    };
    Some(match insn.opcode {
        // INVEPT, INVVPID, INVPCID.
        0x80..=0x82 => Refusal::Privileged,
        // LOADIWKEY.
        0xdc if insn.prefixes.any(Prefixes::REP) && modrm.is_register() => Refusal::Privileged,
        // WRUSS.
        0xf5 if insn.prefixes.any(Prefixes::OPERAND_SIZE) => Refusal::Privileged,
        // ENQCMDS.
        0xf8 if insn.prefixes.any(Prefixes::REP) && !modrm.is_register() => Refusal::Privileged,
        _ => return None,
    })
}

fn ternary_3a(insn: &Decoded) -> Option<Refusal> {
    if insn.modrm.is_none() {
        return Some(Refusal::Undecodable);
    }
    // HRESET.
    (insn.opcode == 0xf0 && insn.prefixes.any(Prefixes::REP)).then_some(Refusal::Privileged)
}

/// Checks EVEX map 4.
fn promoted(insn: &Decoded) -> Option<Refusal> {
    let rep = insn.prefixes.any(Prefixes::REP);
    let Some(modrm) = insn.modrm else {
        return Some(Refusal::Undecodable);
    };
    Some(match insn.opcode {
        // WRUSS.
        0x65 => Refusal::Privileged,
        // INVEPT, INVVPID, INVPCID.
        0xf0..=0xf2 if rep => Refusal::Privileged,
        // ENQCMDS.
        0xf8 if rep && !modrm.is_register() => Refusal::Privileged,
        _ => return None,
    })
}

/// Returns whether the opcode may have a REX2 prefix. Other opcodes are undefined with it, which
/// the decoder does not check.
fn takes_rex2(insn: &Decoded) -> bool {
    match (insn.map, insn.opcode) {
        // With an address-size prefix, the decoder assumes a shorter address.
        (OpcodeMap::Primary, 0xa1) => insn.address_size == 8,
        // REX, conditional jumps, moves to absolute addresses and strings, LOOP, I/O and relative
        // branches.
        (OpcodeMap::Primary, opcode) => {
            opcode != 0x0f && !matches!(opcode >> 4, 0x4 | 0x7 | 0xa | 0xe)
        }
        // Special registers, conditional jumps.
        (OpcodeMap::Secondary, opcode) => !matches!(opcode >> 4, 0x3 | 0x8),
        (
            OpcodeMap::Ternary38 | OpcodeMap::Ternary3a | OpcodeMap::Vector | OpcodeMap::Promoted,
            _,
        ) => false,
    }
}

/// Returns whether the instruction may have a LOCK prefix. Others are undefined with it.
fn is_lockable(insn: &Decoded) -> bool {
    let Some(modrm) = insn.modrm else {
        return false;
    };
    !modrm.is_register()
        && match (insn.map, insn.opcode, modrm.reg()) {
            // ADD, OR, ADC, SBB, AND, SUB, XOR to memory; not CMP.
            (OpcodeMap::Primary, opcode @ 0x00..=0x37, _) => matches!(opcode & 7, 0 | 1),
            // As before, with an immediate.
            (OpcodeMap::Primary, 0x80..=0x83, 0..=6) => true,
            // XCHG.
            (OpcodeMap::Primary, 0x86 | 0x87, _) => true,
            // NOT, NEG.
            (OpcodeMap::Primary, 0xf6 | 0xf7, 2 | 3) => true,
            // INC, DEC.
            (OpcodeMap::Primary, 0xfe | 0xff, 0 | 1) => true,
            // BTS, BTR, BTC.
            (OpcodeMap::Secondary, 0xab | 0xb3 | 0xbb, _) | (OpcodeMap::Secondary, 0xba, 5..=7) => {
                true
            }
            // CMPXCHG, XADD, CMPXCHG8B.
            (OpcodeMap::Secondary, 0xb0 | 0xb1 | 0xc0 | 0xc1, _)
            | (OpcodeMap::Secondary, 0xc7, 1) => true,
            _ => false,
        }
}
