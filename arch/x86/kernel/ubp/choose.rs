// SPDX-License-Identifier: GPL-2.0

//! Selection of the instructions that are emulated.
//!
//! Instructions are emulated if the emulation is exact and simple: function prologues and
//! epilogues, moves, arithmetic and logic, and control flow. A relative branch is always emulated,
//! because its target would be wrong in a slot, and might not even be an address.
//!
//! Instructions that some processors do not have are not emulated, even if they are simple, because
//! the CPU must raise the exception itself.

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
        ModRm,
        OpcodeMap,
        Prefixes, //
    },
    in_memory::{
        MemoryOp,
        Operand,
        PushSource,
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
        OperandValue,
        Register, //
    },
    plan::sign_extend,
    Mode, //
};
use crate::Width;
use kernel::ptregs::flags;

const AX: u8 = 0;
const CX: u8 = 1;
const DX: u8 = 2;

/// Returns whether there is a REPNE or REP prefix. With most opcodes, these select another
/// instruction or are undefined.
fn is_repeated(insn: &Decoded) -> bool {
    insn.prefixes.any(Prefixes::REP.and(Prefixes::REPNE))
}

/// Returns whether there is a prefix that rules out emulation.
///
/// LOCK stands for an atomic read-modify-write, and not every processor has REX2.
fn is_left_to_cpu(insn: &Decoded) -> bool {
    insn.rex2 || insn.prefixes.any(Prefixes::LOCK)
}

/// Returns the emulation of an instruction without memory operands, if there is one.
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
        OpcodeMap::Primary => primary_register_op(insn, next),
        OpcodeMap::Secondary => secondary_register_op(insn),
        OpcodeMap::Ternary38 | OpcodeMap::Ternary3a | OpcodeMap::Vector | OpcodeMap::Promoted => {
            None
        }
    }
}

fn is_nop(insn: &Decoded) -> bool {
    match (insn.map, insn.opcode) {
        // NOP and PAUSE. With REX.B it is XCHG; other operand sizes make no difference.
        (OpcodeMap::Primary, 0x90) => insn.rex & 1 == 0 && !insn.prefixes.any(Prefixes::REPNE),
        // NOP Ev, which does not access its operand.
        (OpcodeMap::Secondary, 0x1f) => insn.modrm.map(ModRm::reg) == Some(0),
        // ENDBR64, ENDBR32.
        (OpcodeMap::Secondary, 0x1e) => {
            let others = Prefixes::REPNE.and(Prefixes::OPERAND_SIZE);
            insn.prefixes.any(Prefixes::REP)
                && !insn.prefixes.any(others)
                && matches!(insn.modrm, Some(ModRm(0xfa | 0xfb)))
        }
        _ => false,
    }
}

/// Returns the emulation of relative jumps.
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
        (OpcodeMap::Primary, 0xe0..=0xe2) => RegisterOp::Loop {
            count,
            zero: match insn.opcode {
                0xe0 => Some(false),
                0xe1 => Some(true),
                _ => None,
            },
            target,
        },
        // JCXZ, JECXZ, JRCXZ.
        (OpcodeMap::Primary, 0xe3) => RegisterOp::BranchIfCountZero { count, target },
        // JMP.
        (OpcodeMap::Primary, 0xe9 | 0xeb) => RegisterOp::Jump { target },
        _ => return None,
    })
}

fn primary_register_op(insn: &Decoded, next: usize) -> Option<RegisterOp> {
    if let Some(arithmetic) = Arithmetic::new(insn) {
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
            from: OperandValue::Signed(rm(insn, Width::W32)?),
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
                from: OperandValue::Register(reg(insn, width)?),
            }
        }
        0x8a | 0x8b => {
            let width = width_by_opcode(insn);
            RegisterOp::Move {
                to: reg(insn, width)?,
                from: OperandValue::Register(rm(insn, width)?),
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
            from: OperandValue::Signed(low(
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
            from: OperandValue::SignOf(low(AX, width)),
        },
        // NOT, NEG, INC, DEC. The other members of these groups are not emulated here.
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
            from: OperandValue::Register(rm(insn, extended_width(insn))?),
        },
        // MOVSX.
        0xbe | 0xbf => RegisterOp::Move {
            to: reg(insn, width)?,
            from: OperandValue::Signed(rm(insn, extended_width(insn))?),
        },
        _ => return None,
    })
}

/// Returns the emulation of an instruction that accesses memory, or of an indirect jump, if there
/// is one.
pub(super) fn memory_op(insn: &Decoded, next: usize, target: usize) -> Option<MemoryOp> {
    // These prefixes have no meaning before a call, jump or return (`rep ret`, `bnd jmp`).
    if is_left_to_cpu(insn) || (is_repeated(insn) && !insn.is_near_transfer()) {
        return None;
    }
    match insn.map {
        OpcodeMap::Primary => {}
        OpcodeMap::Secondary => return secondary_memory_op(insn, next),
        OpcodeMap::Ternary38 | OpcodeMap::Ternary3a | OpcodeMap::Vector | OpcodeMap::Promoted => {
            return None
        }
    }
    if let Some(arithmetic) = Arithmetic::new(insn) {
        return arithmetic.in_memory(insn, next);
    }
    if let Some(op) = primary_move(insn, next) {
        return Some(op);
    }
    // The 16-bit forms of the remaining instructions are rare.
    if insn.is_16bit() {
        return None;
    }
    Some(match insn.opcode {
        // PUSH reg.
        0x50..=0x57 => MemoryOp::Push(PushSource::Register(insn.opcode_reg())),
        // PUSH imm.
        0x68 | 0x6a => MemoryOp::Push(PushSource::Immediate(sign_extend(insn.immediate))),
        // POP reg.
        0x58..=0x5f => MemoryOp::Pop(insn.opcode_reg()),
        // PUSHF, POPF.
        0x9c => MemoryOp::Push(PushSource::Flags),
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
                Operand::Register(number) => PushSource::Register(number),
                Operand::Memory(address) => PushSource::Memory(address),
            }),
            _ => return None,
        },
        _ => return None,
    })
}

/// Returns the operand of an indirect jump or call or of a push, if it can be evaluated.
fn operand(insn: &Decoded, next: usize) -> Option<Operand> {
    let modrm = insn.modrm?;
    Some(if modrm.is_register() {
        Operand::Register(insn.rm(modrm))
    } else {
        // The operand has the size of an address.
        Operand::Memory(word(insn, next, Width::W64)?.address)
    })
}

/// Returns the emulation of MOV from and to memory, and of MOVSXD.
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
            from: OperandValue::Register(reg(insn, width)?),
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

/// Returns the emulation of MOVZX and MOVSX from memory.
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

/// The operation of an opcode with two operands.
#[derive(Clone, Copy)]
enum Operation {
    Binary(Binary),
    Compare(Comparison),
}

impl Operation {
    /// Returns the operation for the number in bits 3 to 5 of opcodes and ModRM bytes.
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

/// The locations of the two operands of an opcode.
#[derive(Clone, Copy)]
enum Form {
    RmReg,
    RegRm,
    RmImmediate,
    AccumulatorImmediate,
}

/// An instruction of the primary map with two operands that sets the status flags.
struct Arithmetic {
    op: Operation,
    form: Form,
    width: Width,
}

impl Arithmetic {
    fn new(insn: &Decoded) -> Option<Self> {
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
            Form::RmReg => (rm(insn, width)?, OperandValue::Register(reg(insn, width)?)),
            Form::RegRm => (reg(insn, width)?, OperandValue::Register(rm(insn, width)?)),
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

    /// Returns the emulation with a memory operand, unless memory is both read and written.
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
                second: OperandValue::Register(reg(insn, self.width)?),
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
