// SPDX-License-Identifier: GPL-2.0

//! The choice of the instructions that are emulated.
//!
//! These are the ones for which that is exact and simple: what functions begin and end with, moves,
//! arithmetic and logic, and control flow. A relative branch is always emulated, as in a slot its
//! target would be wrong, and might not even be an address.
//!
//! Not emulated, although simple, are instructions that some processors do not have: the CPU is to
//! say so itself.

use super::{
    alu::{
        Binary,
        Comparison,
        Condition,
        FlagChange,
        Unary, //
    },
    decode::{
        Decoded,
        Map,
        ModRm,
        Prefixes, //
    },
    in_memory::{
        MemoryOp,
        Operand,
        Source,
        Target, //
    },
    in_registers::RegisterOp,
    operand::{
        address,
        extended_width,
        immediate,
        reg,
        register,
        rm,
        width_by_opcode,
        word,
        Register,
        Value, //
    },
    plan::sign_extend,
    Mode, //
};
use crate::Width;
use kernel::ptregs::flags;

const AX: u8 = 0;
const CX: u8 = 1;
const DX: u8 = 2;

/// Whether there is one of the prefixes that select another instruction or are undefined with most.
fn is_repeated(insn: &Decoded) -> bool {
    insn.prefixes.any(Prefixes::REP.and(Prefixes::REPNE))
}

/// Whether there is a prefix with which nothing is emulated.
///
/// LOCK goes with what is read, changed and written at once; and REX2 is not something that every
/// processor has.
fn is_left_to_cpu(insn: &Decoded) -> bool {
    insn.rex2 || insn.prefixes.any(Prefixes::LOCK)
}

/// The emulation of an instruction without memory operands, if there is one.
pub(super) fn register_op(insn: &Decoded, next: usize, target: usize) -> Option<RegisterOp> {
    if is_left_to_cpu(insn) {
        return None;
    }
    if is_nop(insn) {
        return Some(RegisterOp::Nop);
    }
    if let Some(op) = branch(insn, target) {
        return Some(op);
    }
    if is_repeated(insn) {
        return None;
    }
    match insn.map {
        Map::Primary => primary_register_op(insn, next),
        Map::Secondary => secondary_register_op(insn),
        Map::Ternary38 | Map::Ternary3a | Map::Vector | Map::Promoted => None,
    }
}

fn is_nop(insn: &Decoded) -> bool {
    match (insn.map, insn.opcode) {
        // NOP and PAUSE. With REX.B it is XCHG; any other operand size changes nothing.
        (Map::Primary, 0x90) => insn.rex & 1 == 0 && !insn.prefixes.any(Prefixes::REPNE),
        // NOP Ev, whose operand is not accessed.
        (Map::Secondary, 0x1f) => insn.modrm.map(ModRm::reg) == Some(0),
        // ENDBR64, ENDBR32.
        (Map::Secondary, 0x1e) => {
            let others = Prefixes::REPNE.and(Prefixes::OPERAND_SIZE);
            insn.prefixes.any(Prefixes::REP)
                && !insn.prefixes.any(others)
                && matches!(insn.modrm, Some(ModRm(0xfa | 0xfb)))
        }
        _ => false,
    }
}

/// Relative jumps.
fn branch(insn: &Decoded, target: usize) -> Option<RegisterOp> {
    let condition = Condition::new(insn.opcode);
    let count = Register::Low {
        number: CX,
        width: match insn.address_size {
            2 => Width::W16,
            4 => Width::W32,
            _ => Width::W64,
        },
    };
    Some(match (insn.map, insn.opcode) {
        // Jcc.
        _ if insn.is_branch_if() => RegisterOp::Branch { condition, target },
        // LOOPNE, LOOPE, LOOP.
        (Map::Primary, 0xe0..=0xe2) => RegisterOp::Loop {
            count,
            zero: match insn.opcode {
                0xe0 => Some(false),
                0xe1 => Some(true),
                _ => None,
            },
            target,
        },
        // JCXZ, JECXZ, JRCXZ.
        (Map::Primary, 0xe3) => RegisterOp::BranchIfCountZero { count, target },
        // JMP.
        (Map::Primary, 0xe9 | 0xeb) => RegisterOp::Jump { target },
        _ => return None,
    })
}

fn primary_register_op(insn: &Decoded, next: usize) -> Option<RegisterOp> {
    if let Some(arithmetic) = Arithmetic::of(insn) {
        return arithmetic.in_registers(insn);
    }
    let width = insn.width();
    let low = |number, width| Register::Low { number, width };
    let numbered = low(insn.opcode_reg(), width);
    let flag = |flag, change| RegisterOp::Flag { flag, change };
    Some(match insn.opcode {
        // INC and DEC, in 32-bit code only.
        0x40..=0x4f => RegisterOp::Unary {
            op: if insn.opcode & 8 == 0 {
                Unary::Inc
            } else {
                Unary::Dec
            },
            to: numbered,
        },
        // MOVSXD; in 32-bit code it is ARPL.
        0x63 if insn.mode == Mode::Bits64 && width != Width::W16 => RegisterOp::Move {
            to: reg(insn, width)?,
            from: Value::Signed(rm(insn, Width::W32)?),
        },
        // XCHG.
        0x86 | 0x87 => {
            let width = width_by_opcode(insn);
            RegisterOp::Exchange(rm(insn, width)?, reg(insn, width)?)
        }
        0x90..=0x97 => RegisterOp::Exchange(low(AX, width), numbered),
        // MOV.
        0x88 | 0x89 => {
            let width = width_by_opcode(insn);
            RegisterOp::Move {
                to: rm(insn, width)?,
                from: Value::Register(reg(insn, width)?),
            }
        }
        0x8a | 0x8b => {
            let width = width_by_opcode(insn);
            RegisterOp::Move {
                to: reg(insn, width)?,
                from: Value::Register(rm(insn, width)?),
            }
        }
        0xb0..=0xb7 => RegisterOp::Move {
            to: register(insn, insn.opcode_reg(), Width::W8),
            from: immediate(insn),
        },
        0xb8..=0xbf => RegisterOp::Move {
            to: numbered,
            from: immediate(insn),
        },
        0xc6 | 0xc7 if insn.modrm?.reg() == 0 => RegisterOp::Move {
            to: rm(insn, width_by_opcode(insn))?,
            from: immediate(insn),
        },
        // LEA.
        0x8d => RegisterOp::LoadAddress {
            to: reg(insn, width)?,
            address: address(insn, next)?,
        },
        // CBW, CWDE, CDQE.
        0x98 => RegisterOp::Move {
            to: low(AX, width),
            from: Value::Signed(low(
                AX,
                match width {
                    Width::W64 => Width::W32,
                    Width::W32 => Width::W16,
                    Width::W16 | Width::W8 => Width::W8,
                },
            )),
        },
        // CWD, CDQ, CQO.
        0x99 => RegisterOp::Move {
            to: low(DX, width),
            from: Value::SignOf(low(AX, width)),
        },
        // NOT, NEG, INC, DEC. What else these have is no concern of this.
        0xf6 | 0xf7 | 0xfe | 0xff => RegisterOp::Unary {
            op: match (insn.opcode, insn.modrm?.reg()) {
                (0xf6 | 0xf7, 2) => Unary::Not,
                (0xf6 | 0xf7, 3) => Unary::Neg,
                (0xfe | 0xff, 0) => Unary::Inc,
                (0xfe | 0xff, 1) => Unary::Dec,
                _ => return None,
            },
            to: rm(insn, width_by_opcode(insn))?,
        },
        // CMC, CLC, STC, CLD, STD.
        0xf5 => flag(flags::CF, FlagChange::Complement),
        0xf8 => flag(flags::CF, FlagChange::Clear),
        0xf9 => flag(flags::CF, FlagChange::Set),
        0xfc => flag(flags::DF, FlagChange::Clear),
        0xfd => flag(flags::DF, FlagChange::Set),
        _ => return None,
    })
}

fn secondary_register_op(insn: &Decoded) -> Option<RegisterOp> {
    let condition = Condition::new(insn.opcode);
    let width = insn.width();
    Some(match insn.opcode {
        // CMOVcc.
        0x40..=0x4f => RegisterOp::MoveIf {
            condition,
            to: reg(insn, width)?,
            from: rm(insn, width)?,
        },
        // SETcc.
        0x90..=0x9f => RegisterOp::SetIf {
            condition,
            to: rm(insn, Width::W8)?,
        },
        // MOVZX.
        0xb6 | 0xb7 => RegisterOp::Move {
            to: reg(insn, width)?,
            from: Value::Register(rm(insn, extended_width(insn))?),
        },
        // MOVSX.
        0xbe | 0xbf => RegisterOp::Move {
            to: reg(insn, width)?,
            from: Value::Signed(rm(insn, extended_width(insn))?),
        },
        _ => return None,
    })
}

/// The emulation of an instruction that accesses memory, or jumps to wherever a register says.
pub(super) fn memory_op(insn: &Decoded, next: usize, target: usize) -> Option<MemoryOp> {
    // Before a call, jump or return these prefixes mean nothing (`rep ret`, `bnd jmp`).
    if is_left_to_cpu(insn) || (is_repeated(insn) && !insn.is_near_transfer()) {
        return None;
    }
    match insn.map {
        Map::Primary => {}
        Map::Secondary => return secondary_memory_op(insn, next),
        Map::Ternary38 | Map::Ternary3a | Map::Vector | Map::Promoted => return None,
    }
    if let Some(arithmetic) = Arithmetic::of(insn) {
        return arithmetic.in_memory(insn, next);
    }
    if let Some(op) = primary_move(insn, next) {
        return Some(op);
    }
    // The 16-bit forms of the rest are rare.
    if insn.is_16bit() {
        return None;
    }
    Some(match insn.opcode {
        // PUSH reg.
        0x50..=0x57 => MemoryOp::Push(Source::Register(insn.opcode_reg())),
        // PUSH imm.
        0x68 | 0x6a => MemoryOp::Push(Source::Immediate(sign_extend(insn.immediate))),
        // POP reg.
        0x58..=0x5f => MemoryOp::Pop(insn.opcode_reg()),
        // PUSHF, POPF.
        0x9c => MemoryOp::Push(Source::Flags),
        0x9d => MemoryOp::PopFlags,
        // RET imm16, RET. The immediate is not signed.
        0xc2 => MemoryOp::Return {
            release: usize::from(insn.immediate as u16),
        },
        0xc3 => MemoryOp::Return { release: 0 },
        // LEAVE.
        0xc9 => MemoryOp::Leave,
        // CALL rel.
        0xe8 => MemoryOp::Call(Target::Direct(target)),
        // CALL Ev, JMP Ev, PUSH Ev.
        0xff => match insn.modrm?.reg() {
            2 => MemoryOp::Call(Target::Indirect(operand(insn, next)?)),
            4 => MemoryOp::Jump(Target::Indirect(operand(insn, next)?)),
            6 => MemoryOp::Push(match operand(insn, next)? {
                Operand::Register(number) => Source::Register(number),
                Operand::Memory(address) => Source::Memory(address),
            }),
            _ => return None,
        },
        _ => return None,
    })
}

/// The operand of an indirect jump or call or of a push, if it can be evaluated.
fn operand(insn: &Decoded, next: usize) -> Option<Operand> {
    let modrm = insn.modrm?;
    Some(if modrm.is_register() {
        Operand::Register(insn.rm(modrm))
    } else {
        // Its size is that of an address.
        Operand::Memory(word(insn, next, Width::W64)?.address)
    })
}

/// MOV from and to memory, and MOVSXD.
fn primary_move(insn: &Decoded, next: usize) -> Option<MemoryOp> {
    let width = width_by_opcode(insn);
    Some(match insn.opcode {
        0x63 if insn.width() != Width::W16 => MemoryOp::Load {
            to: reg(insn, insn.width())?,
            from: word(insn, next, Width::W32)?,
            sign_extend: true,
        },
        0x88 | 0x89 => MemoryOp::Store {
            to: word(insn, next, width)?,
            from: Value::Register(reg(insn, width)?),
        },
        0x8a | 0x8b => MemoryOp::Load {
            to: reg(insn, width)?,
            from: word(insn, next, width)?,
            sign_extend: false,
        },
        0xc6 | 0xc7 if insn.modrm?.reg() == 0 => MemoryOp::Store {
            to: word(insn, next, width)?,
            from: immediate(insn),
        },
        _ => return None,
    })
}

/// MOVZX and MOVSX from memory.
fn secondary_memory_op(insn: &Decoded, next: usize) -> Option<MemoryOp> {
    let sign_extend = match insn.opcode {
        0xb6 | 0xb7 => false,
        0xbe | 0xbf => true,
        _ => return None,
    };
    Some(MemoryOp::Load {
        to: reg(insn, insn.width())?,
        from: word(insn, next, extended_width(insn))?,
        sign_extend,
    })
}

/// What an opcode does with its two operands.
#[derive(Clone, Copy)]
enum Operation {
    Binary(Binary),
    Compare(Comparison),
}

impl Operation {
    /// The one of a number that opcodes and ModRM bytes have in bits 3 to 5.
    fn new(number: u8) -> Self {
        match number & 7 {
            0 => Self::Binary(Binary::Add),
            1 => Self::Binary(Binary::Or),
            2 => Self::Binary(Binary::Adc),
            3 => Self::Binary(Binary::Sbb),
            4 => Self::Binary(Binary::And),
            5 => Self::Binary(Binary::Sub),
            6 => Self::Binary(Binary::Xor),
            _ => Self::Compare(Comparison::Cmp),
        }
    }
}

/// Where an opcode has its two operands.
#[derive(Clone, Copy)]
enum Form {
    RmReg,
    RegRm,
    RmImmediate,
    AccumulatorImmediate,
}

/// An instruction of the primary map with two operands and the usual flags.
struct Arithmetic {
    op: Operation,
    form: Form,
    width: Width,
}

impl Arithmetic {
    fn of(insn: &Decoded) -> Option<Self> {
        let test = Operation::Compare(Comparison::Test);
        let (op, form) = match insn.opcode {
            opcode @ 0x00..=0x3f => (
                Operation::new(opcode >> 3),
                match opcode & 7 {
                    0 | 1 => Form::RmReg,
                    2 | 3 => Form::RegRm,
                    4 | 5 => Form::AccumulatorImmediate,
                    // Segment registers, prefixes, and BCD arithmetic.
                    _ => return None,
                },
            ),
            0x80..=0x83 => (Operation::new(insn.modrm?.reg()), Form::RmImmediate),
            0x84 | 0x85 => (test, Form::RmReg),
            0xa8 | 0xa9 => (test, Form::AccumulatorImmediate),
            0xf6 | 0xf7 if insn.modrm?.reg() == 0 => (test, Form::RmImmediate),
            _ => return None,
        };
        Some(Self {
            op,
            form,
            width: width_by_opcode(insn),
        })
    }

    fn in_registers(&self, insn: &Decoded) -> Option<RegisterOp> {
        let width = self.width;
        let (to, from) = match self.form {
            Form::RmReg => (rm(insn, width)?, Value::Register(reg(insn, width)?)),
            Form::RegRm => (reg(insn, width)?, Value::Register(rm(insn, width)?)),
            Form::RmImmediate => (rm(insn, width)?, immediate(insn)),
            Form::AccumulatorImmediate => (register(insn, AX, width), immediate(insn)),
        };
        Some(match self.op {
            Operation::Binary(op) => RegisterOp::Binary { op, to, from },
            Operation::Compare(op) => RegisterOp::Compare {
                op,
                first: to,
                second: from,
            },
        })
    }

    /// If memory is not both read and written.
    fn in_memory(&self, insn: &Decoded, next: usize) -> Option<MemoryOp> {
        let memory = word(insn, next, self.width)?;
        Some(match (self.op, self.form) {
            (Operation::Binary(op), Form::RegRm) => MemoryOp::Binary {
                op,
                to: reg(insn, self.width)?,
                from: memory,
            },
            (Operation::Compare(op), Form::RegRm) => MemoryOp::CompareToWord {
                op,
                first: reg(insn, self.width)?,
                second: memory,
            },
            (Operation::Compare(op), Form::RmReg) => MemoryOp::CompareWord {
                op,
                first: memory,
                second: Value::Register(reg(insn, self.width)?),
            },
            (Operation::Compare(op), Form::RmImmediate) => MemoryOp::CompareWord {
                op,
                first: memory,
                second: immediate(insn),
            },
            (Operation::Binary(_), Form::RmReg | Form::RmImmediate)
            | (_, Form::AccumulatorImmediate) => return None,
        })
    }
}
