// SPDX-License-Identifier: GPL-2.0

//! Decoding of an instruction into its fields.

use super::{
    Mode,
    MAX_INSN_SIZE, //
};
use crate::{
    Refusal,
    Width, //
};
use kernel::{
    error::code::ENODATA,
    insn, //
};

/// The opcode map of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpcodeMap {
    /// One byte.
    Primary,
    /// `0f`.
    Secondary,
    /// `0f 38`.
    Ternary38,
    /// `0f 3a`.
    Ternary3a,
    /// Maps of a VEX, EVEX or XOP prefix, except for the next.
    Vector,
    /// EVEX map 4: instructions of the other maps with more operands (APX).
    Promoted,
}

/// The prefixes that affect decoding here, as bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefixes(u8);

impl Prefixes {
    pub(super) const LOCK: Self = Self(1 << 0);
    pub(super) const REPNE: Self = Self(1 << 1);
    pub(super) const REP: Self = Self(1 << 2);
    pub(super) const OPERAND_SIZE: Self = Self(1 << 3);
    /// A segment with a base other than 0 in 64-bit code.
    pub(super) const FS_GS: Self = Self(1 << 4);

    /// Returns whether any prefix of `other` is in the set.
    pub(super) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the union of both sets.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn from_bytes(bytes: [u8; 4]) -> Self {
        bytes.iter().fold(Self(0), |set, byte| {
            set.and(match *byte {
                0xf0 => Self::LOCK,
                0xf2 => Self::REPNE,
                0xf3 => Self::REP,
                0x66 => Self::OPERAND_SIZE,
                0x64 | 0x65 => Self::FS_GS,
                // Other segments have base 0; the decoder evaluates the address size.
                _ => Self(0),
            })
        })
    }

    /// Returns the prefix that the low two bits of an EVEX prefix's third byte stand for.
    fn from_evex(bits: u8) -> Self {
        match bits & 3 {
            0 => Self(0),
            1 => Self::OPERAND_SIZE,
            2 => Self::REP,
            _ => Self::REPNE,
        }
    }
}

/// A ModRM byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ModRm(pub(super) u8);

impl ModRm {
    /// Returns whether both operands are registers.
    pub(super) const fn is_register(self) -> bool {
        self.0 >> 6 == 3
    }

    /// Returns the `mod` field.
    pub(super) const fn mode(self) -> u8 {
        self.0 >> 6
    }

    /// Returns the `reg` field: a register, or an extension of the opcode.
    pub(super) const fn reg(self) -> u8 {
        (self.0 >> 3) & 7
    }

    /// Returns the `rm` field.
    pub(super) const fn rm(self) -> u8 {
        self.0 & 7
    }
}

/// A decoded instruction.
#[derive(Clone, Copy)]
pub(super) struct Decoded {
    pub(super) mode: Mode,
    pub(super) len: u8,
    pub(super) prefixes: Prefixes,
    /// The REX prefix, or the bits of a REX2 prefix that have the same meaning, or 0.
    pub(super) rex: u8,
    /// Whether there is a REX2 prefix (APX).
    pub(super) rex2: bool,
    pub(super) map: OpcodeMap,
    /// The last byte of the opcode.
    pub(super) opcode: u8,
    pub(super) modrm: Option<ModRm>,
    pub(super) sib: Option<u8>,
    pub(super) displacement: i32,
    pub(super) displacement_offset: u8,
    pub(super) immediate: i32,
    /// The whole of an immediate of eight bytes.
    pub(super) immediate64: Option<u64>,
    /// 2, 4 or 8.
    pub(super) address_size: u8,
}

impl Decoded {
    /// Decodes the instruction that `bytes` begin with.
    pub(super) fn new(bytes: &[u8], mode: Mode) -> Result<Self, Refusal> {
        let insn = insn::Insn::decode(bytes, mode).map_err(|e| {
            if e == ENODATA && bytes.len() < MAX_INSN_SIZE {
                Refusal::CutOff
            } else {
                Refusal::Undecodable
            }
        })?;
        // The decoder takes `ud2` with certain bytes after it for a prefix; the CPU does not.
        if insn.has_emulate_prefix() {
            return Err(Refusal::Hypervisor);
        }

        // One bit of REX2 stands for the escape byte of the second map.
        let (rex, rex2, escaped) = match insn.rex() {
            ([_, payload, ..], 2) => (payload & 15, true, payload & 0x80 != 0),
            ([rex, ..], _) => (rex, false, false),
        };
        let (vex, vex_len) = insn.vex();
        let (opcode, opcode_len) = insn.opcode();
        let mut prefixes = Prefixes::from_bytes(insn.prefixes());
        let (map, opcode) = match (vex_len, opcode_len, opcode) {
            (0, 1, [op, ..]) if escaped => (OpcodeMap::Secondary, op),
            (0, 1, [op, ..]) => (OpcodeMap::Primary, op),
            (0, 2, [0x0f, op, ..]) => (OpcodeMap::Secondary, op),
            (0, 3, [0x0f, 0x38, op, _]) => (OpcodeMap::Ternary38, op),
            (0, 3, [0x0f, 0x3a, op, _]) => (OpcodeMap::Ternary3a, op),
            (4, 1, [op, ..]) if vex[1] & 7 == 4 => {
                prefixes = prefixes.and(Prefixes::from_evex(vex[2]));
                (OpcodeMap::Promoted, op)
            }
            (1.., 1, [op, ..]) => (OpcodeMap::Vector, op),
            _ => return Err(Refusal::Undecodable),
        };

        Ok(Self {
            mode,
            len: insn.length() as u8,
            prefixes,
            rex,
            rex2,
            map,
            opcode,
            modrm: insn.modrm().map(ModRm),
            sib: insn.sib(),
            displacement: insn.displacement(),
            displacement_offset: insn.displacement_offset() as u8,
            immediate: insn.immediate(),
            immediate64: insn.immediate64(),
            address_size: insn.address_size(),
        })
    }

    /// Returns whether REX.W widens the operands to 64 bits.
    pub(super) const fn rex_w(&self) -> bool {
        self.rex & 8 != 0
    }

    /// Returns whether the operands have 16 bits, for opcodes without a fixed operand size.
    pub(super) const fn is_16bit(&self) -> bool {
        self.prefixes.any(Prefixes::OPERAND_SIZE) && !self.rex_w()
    }

    /// Returns the size of the operands, for opcodes without a fixed operand size.
    pub(super) const fn width(&self) -> Width {
        if self.rex_w() {
            Width::W64
        } else if self.is_16bit() {
            Width::W16
        } else {
            Width::W32
        }
    }

    /// Returns the number of the register in the `reg` field.
    pub(super) const fn reg(&self, modrm: ModRm) -> u8 {
        modrm.reg() | ((self.rex & 4) << 1)
    }

    /// Returns the number of the register in the `rm` field.
    pub(super) const fn rm(&self, modrm: ModRm) -> u8 {
        modrm.rm() | ((self.rex & 1) << 3)
    }

    /// Returns the number of the register in the low bits of the opcode.
    pub(super) const fn opcode_reg(&self) -> u8 {
        (self.opcode & 7) | ((self.rex & 1) << 3)
    }

    /// Returns whether a memory operand is addressed relative to the instruction pointer.
    pub(super) fn is_ip_relative(&self) -> bool {
        self.mode == Mode::Bits64
            && matches!(self.modrm, Some(modrm) if modrm.mode() == 0 && modrm.rm() == 5)
    }

    /// Returns the `reg` field as an extension of the opcode, if the opcode is `opcode` of the
    /// primary map.
    pub(super) fn group(&self, opcode: u8) -> Option<u8> {
        if self.map == OpcodeMap::Primary && self.opcode == opcode {
            self.modrm.map(ModRm::reg)
        } else {
            None
        }
    }

    /// Returns whether this is a relative jump or call.
    pub(super) const fn is_relative_branch(&self) -> bool {
        self.is_branch_if()
            || matches!(
                (self.map, self.opcode),
                (OpcodeMap::Primary, 0xe0..=0xe3 | 0xe8 | 0xe9 | 0xeb)
            )
    }

    /// Returns whether this is a relative jump that depends on the flags.
    pub(super) const fn is_branch_if(&self) -> bool {
        matches!(
            (self.map, self.opcode),
            (OpcodeMap::Primary, 0x70..=0x7f) | (OpcodeMap::Secondary, 0x80..=0x8f)
        )
    }

    /// Returns whether this is `jmpabs`, the jump of APX to an absolute address in the instruction.
    pub(super) const fn is_absolute_jump(&self) -> bool {
        self.rex2 && matches!((self.map, self.opcode), (OpcodeMap::Primary, 0xa1))
    }

    /// Returns whether this is a near jump, call or return.
    pub(super) fn is_near_transfer(&self) -> bool {
        self.is_relative_branch()
            || (self.map == OpcodeMap::Primary && matches!(self.opcode, 0xc2 | 0xc3))
            || matches!(self.group(0xff), Some(2 | 4))
    }

    /// Returns whether this is a string instruction, which a prefix can repeat.
    pub(super) const fn is_string(&self) -> bool {
        matches!(
            (self.map, self.opcode),
            (OpcodeMap::Primary, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf)
                // VIA PadLock.
                | (OpcodeMap::Secondary, 0xa6 | 0xa7)
        )
    }
}
