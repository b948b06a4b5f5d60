// SPDX-License-Identifier: GPL-2.0

//! The choice of how an instruction is resumed.
//!
//! Instructions are emulated where that is exact and simple: the ones that functions begin and end
//! with, and control flow. A relative branch is always emulated, as in a slot its target would be
//! wrong, and might not even be an address.

use super::{
    decode::{
        Decoded,
        Map,
        ModRm,
        Prefixes, //
    },
    emulate::{
        Address,
        Condition,
        Count,
        InMemory,
        InRegisters,
        MemoryOp,
        Operand,
        RegisterOp,
        Source,
        Target, //
    },
    step::Step,
    Mode,
    MAX_INSN_SIZE, //
};
use crate::{
    PlanKind,
    Refusal,
    Vaddr,
    Width, //
};

/// How an instruction is resumed.
#[derive(Clone, Copy)]
pub enum Plan {
    /// By changing the saved registers; that always works.
    Emulate(InRegisters),
    /// By changing the saved registers and accessing memory. If the access fails, or would not be
    /// all that the CPU does, then by stepping, so that the CPU raises the exact exception.
    EmulateOrStep(InMemory, Step),
    /// By a copy in a slot, which a jump to the next instruction follows: there is no second trap.
    /// A thread that steps anyway is stepped through the copy.
    Boost(Step),
    /// By stepping a copy in a slot.
    Step(Step),
}

impl Plan {
    pub(super) fn new(
        insn: &Decoded,
        bytes: &[u8; MAX_INSN_SIZE],
        at: Vaddr,
    ) -> Result<Self, Refusal> {
        let width = match insn.mode {
            Mode::Bits32 => Width::W32,
            Mode::Bits64 => Width::W64,
        };
        let next = width.truncate(at.as_usize().wrapping_add(insn.len.into()));
        let target = width.truncate(next.wrapping_add(sign_extend(insn.immediate)));
        if insn.is_relative_branch() && !stays_in_user_space(at.as_usize(), target) {
            return Err(Refusal::TargetOutOfRange);
        }

        if let Some(op) = register_op(insn, target) {
            return Ok(Self::Emulate(InRegisters { op, next }));
        }
        let step = Step::new(insn, bytes, at, width, next, target);
        Ok(match memory_op(insn, next, target) {
            Some(op) => Self::EmulateOrStep(InMemory { op, width, next }, step),
            None if step.can_boost() => Self::Boost(step),
            None => Self::Step(step),
        })
    }

    /// The form in which it is executed in a slot, if it may be.
    #[inline]
    pub fn step(&self) -> Option<&Step> {
        match self {
            Self::Emulate(_) => None,
            Self::EmulateOrStep(_, step) | Self::Boost(step) | Self::Step(step) => Some(step),
        }
    }

    /// Whether every hit needs the slot. Otherwise one is needed if an emulation cannot be exact,
    /// as when it would fault.
    pub fn needs_slot(&self) -> bool {
        match self {
            Self::Emulate(_) | Self::EmulateOrStep(..) => false,
            Self::Boost(_) | Self::Step(_) => true,
        }
    }

    /// What it is, for those who need not know more.
    pub fn kind(&self) -> PlanKind {
        match self {
            Self::Emulate(_) | Self::EmulateOrStep(..) => PlanKind::Emulate,
            Self::Boost(_) => PlanKind::Boost,
            Self::Step(_) => PlanKind::Step,
        }
    }
}

const fn sign_extend(value: i32) -> usize {
    value as isize as usize
}

/// Whether a jump from one address to the other surely stays within user space.
///
/// A jump to an address that is not canonical raises an exception at the jump itself, which the
/// emulation would not. User space ends at 2^47 or, with five levels of page tables, at 2^56: in
/// either case a jump out of it crosses a multiple of 2^47.
fn stays_in_user_space(at: usize, target: usize) -> bool {
    const SHIFT: u32 = 47;
    at >> SHIFT == target >> SHIFT
}

/// Whether there is one of the prefixes that select another instruction or are undefined with most.
fn is_repeated(insn: &Decoded) -> bool {
    insn.prefixes.any(Prefixes::REP.and(Prefixes::REPNE))
}

/// The emulation of an instruction without memory operands, if there is one.
fn register_op(insn: &Decoded, target: usize) -> Option<RegisterOp> {
    let condition = Condition::new(insn.opcode);
    Some(match (insn.map, insn.opcode) {
        // NOP and PAUSE. With REX.B it is XCHG; any other operand size changes nothing.
        (Map::Primary, 0x90) if insn.rex & 1 == 0 && !insn.prefixes.any(Prefixes::REPNE) => {
            RegisterOp::Nop
        }
        // NOP Ev, whose operand is not accessed.
        (Map::Secondary, 0x1f) if insn.modrm.map(ModRm::reg) == Some(0) => RegisterOp::Nop,
        // ENDBR64, ENDBR32.
        (Map::Secondary, 0x1e) if is_endbr(insn) => RegisterOp::Nop,
        // MOV between registers.
        (Map::Primary, 0x89 | 0x8b) => return move_op(insn),
        // Jcc.
        (Map::Primary, 0x70..=0x7f) | (Map::Secondary, 0x80..=0x8f) => {
            RegisterOp::Branch { condition, target }
        }
        // LOOPNE, LOOPE, LOOP.
        (Map::Primary, 0xe0..=0xe2) => RegisterOp::Loop {
            count: count(insn),
            zero: match insn.opcode {
                0xe0 => Some(false),
                0xe1 => Some(true),
                _ => None,
            },
            target,
        },
        // JCXZ, JECXZ, JRCXZ.
        (Map::Primary, 0xe3) => RegisterOp::BranchIfCountZero {
            count: count(insn),
            target,
        },
        // JMP.
        (Map::Primary, 0xe9 | 0xeb) => RegisterOp::Jump { target },
        _ => return None,
    })
}

fn is_endbr(insn: &Decoded) -> bool {
    let others = Prefixes::REPNE.and(Prefixes::OPERAND_SIZE);
    insn.prefixes.any(Prefixes::REP)
        && !insn.prefixes.any(others)
        && matches!(insn.modrm, Some(ModRm(0xfa | 0xfb)))
}

fn move_op(insn: &Decoded) -> Option<RegisterOp> {
    let modrm = insn.modrm.filter(|modrm| modrm.is_register())?;
    if insn.is_16bit() || is_repeated(insn) {
        return None;
    }
    let (reg, rm) = (insn.reg(modrm), insn.rm(modrm));
    let (from, to) = if insn.opcode == 0x89 {
        (reg, rm)
    } else {
        (rm, reg)
    };
    Some(RegisterOp::Move {
        from,
        to,
        width: if insn.rex_w() { Width::W64 } else { Width::W32 },
    })
}

fn count(insn: &Decoded) -> Count {
    match insn.address_size {
        2 => Count::Cx,
        4 => Count::Ecx,
        _ => Count::Rcx,
    }
}

/// The emulation of an instruction that accesses memory, or jumps to wherever a register says.
fn memory_op(insn: &Decoded, next: usize, target: usize) -> Option<MemoryOp> {
    // The 16-bit forms are rare and are stepped. Those of control flow have been refused.
    if insn.map != Map::Primary || insn.is_16bit() {
        return None;
    }
    // Before a call, jump or return these prefixes mean nothing (`rep ret`, `bnd jmp`).
    if is_repeated(insn) && !insn.is_near_transfer() {
        return None;
    }
    Some(match insn.opcode {
        // PUSH reg.
        0x50..=0x57 => MemoryOp::Push(Source::Register(insn.opcode_reg())),
        // PUSH imm.
        0x68 | 0x6a => MemoryOp::Push(Source::Immediate(sign_extend(insn.immediate))),
        // POP reg.
        0x58..=0x5f => MemoryOp::Pop(insn.opcode_reg()),
        // PUSHF.
        0x9c => MemoryOp::Push(Source::Flags),
        // RET imm16, RET. The immediate is not signed.
        0xc2 => MemoryOp::Return {
            release: usize::from(insn.immediate as u16),
        },
        0xc3 => MemoryOp::Return { release: 0 },
        // LEAVE.
        0xc9 => MemoryOp::Leave,
        // CALL rel.
        0xe8 => MemoryOp::Call(Target::Direct(target)),
        // CALL Ev, JMP Ev.
        0xff if insn.group(0xff) == Some(2) => {
            MemoryOp::Call(Target::Indirect(operand(insn, next)?))
        }
        0xff if insn.group(0xff) == Some(4) => {
            MemoryOp::Jump(Target::Indirect(operand(insn, next)?))
        }
        _ => return None,
    })
}

/// The operand of an indirect jump or call, if it can be evaluated.
fn operand(insn: &Decoded, next: usize) -> Option<Operand> {
    let modrm = insn.modrm?;
    if modrm.is_register() {
        return Some(Operand::Register(insn.rm(modrm)));
    }
    // Elsewhere, segments have bases that are not known here.
    if insn.mode != Mode::Bits64 || insn.prefixes.any(Prefixes::FS_GS) {
        return None;
    }

    let displacement = sign_extend(insn.displacement);
    let no_base = modrm.mode() == 0 && (insn.sib.unwrap_or(modrm.0) & 7) == 5;
    let (base, index, scale) = match insn.sib {
        None => (Some(insn.rm(modrm)), None, 0),
        Some(sib) => {
            let base = (sib & 7) | ((insn.rex & 1) << 3);
            // Number 4 without REX.X means that there is no index.
            let index = ((sib >> 3) & 7) | ((insn.rex & 2) << 2);
            (Some(base), (index != 4).then_some(index), sib >> 6)
        }
    };
    Some(Operand::Memory(Address {
        base: if no_base { None } else { base },
        index,
        scale,
        displacement: if insn.is_ip_relative() {
            next.wrapping_add(displacement)
        } else {
            displacement
        },
        is_32bit: insn.address_size == 4,
    }))
}
