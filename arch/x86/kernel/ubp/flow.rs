// SPDX-License-Identifier: GPL-2.0

//! Control flow and stack depth of single instructions.

use super::{
    decode::{
        Decoded,
        ModRm,
        OpcodeMap, //
    },
    plan::sign_extend,
    Mode, //
};
use crate::{
    Refusal,
    Vaddr,
    Width, //
};
use kernel::ptregs::{
    GPR_BP,
    GPR_SP, //
};

/// Where a thread continues after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// At the next instruction.
    Next,
    /// At the called function, if its address is in the instruction; at the next instruction once
    /// that function has returned, if it does return.
    Call(Option<Vaddr>),
    /// At the target, or at the next instruction.
    Branch(Vaddr),
    /// At the target.
    Jump(Vaddr),
    /// At an address from a register or from a table.
    Indirect,
    /// At the return address, with this number of bytes of arguments released from the stack.
    Return(i32),
    /// Nowhere: the instruction raises an exception by design.
    Stop,
}

/// The known depth of the stack at an instruction: how many bytes the stack pointer and the frame
/// pointer are below the stack pointer at the entry of the function, if that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Depth {
    sp: Option<i32>,
    bp: Option<i32>,
}

impl Depth {
    /// The depth at the entry of a function.
    pub const ENTRY: Self = Self {
        sp: Some(0),
        bp: None,
    };

    /// Returns the depth of the stack pointer, if that is known.
    pub fn sp(self) -> Option<i32> {
        self.sp
    }

    /// Returns this depth with the stack pointer deeper by `bytes`.
    pub fn deeper_by(self, bytes: i32) -> Self {
        Self {
            sp: self.sp.and_then(|sp| sp.checked_add(bytes)),
            bp: self.bp,
        }
    }
}

/// The result of [`flow`] for an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowStep {
    /// Where the thread continues.
    pub flow: Flow,
    /// Length of the instruction.
    pub len: usize,
    /// The depth of the stack after the instruction.
    pub depth: Depth,
    /// The depth of the stack word that the instruction writes to, other than by pushing, if it
    /// writes to one and the depth is known.
    pub writes: Option<i32>,
}

/// Follows the instruction that `bytes` begin with, at `at`, whether it can be probed or not.
pub fn flow(bytes: &[u8], at: Vaddr, mode: Mode, depth: Depth) -> Result<FlowStep, Refusal> {
    let insn = Decoded::new(bytes, mode)?;
    let width = match mode {
        Mode::Bits32 => Width::W32,
        Mode::Bits64 => Width::W64,
    };
    let len = usize::from(insn.len);
    let next = at.as_usize().wrapping_add(len);
    let target = Vaddr::new(width.truncate(next.wrapping_add(sign_extend(insn.immediate))));
    let flow = match (insn.map, insn.opcode) {
        (OpcodeMap::Primary, 0xc2) => Flow::Return(insn.immediate & 0xffff),
        (OpcodeMap::Primary, 0xc3) => Flow::Return(0),
        (OpcodeMap::Primary, 0xe8) => Flow::Call(Some(target)),
        (OpcodeMap::Primary, 0xe9 | 0xeb) => Flow::Jump(target),
        _ if insn.is_relative_branch() => Flow::Branch(target),
        _ => match insn.group(0xff) {
            Some(2 | 3) => Flow::Call(None),
            Some(4 | 5) => Flow::Indirect,
            _ if is_end(&insn) => Flow::Stop,
            _ => Flow::Next,
        },
    };
    Ok(FlowStep {
        flow,
        len,
        depth: after(&insn, depth),
        writes: written(&insn, depth),
    })
}

/// Returns whether this is `int3`, `hlt`, `ud2`, a far return, or a return from an interrupt.
fn is_end(insn: &Decoded) -> bool {
    matches!(
        (insn.map, insn.opcode),
        (OpcodeMap::Primary, 0xcc | 0xf4 | 0xca | 0xcb | 0xcf) | (OpcodeMap::Secondary, 0x0b)
    )
}

/// Returns the depth of the stack word that an instruction writes to through a memory operand.
fn written(insn: &Decoded, depth: Depth) -> Option<i32> {
    let modrm = insn.modrm.filter(|_| insn.map == OpcodeMap::Primary)?;
    let writes = match insn.opcode {
        0x00..=0x37 => insn.opcode & 6 == 0,
        // The whole group writes, except for the comparison.
        0x80 | 0x81 | 0x83 => modrm.reg() != 7,
        0x86..=0x89 | 0x8f | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xc0 | 0xc1 => true,
        0xff => modrm.reg() <= 1,
        _ => false,
    };
    loaded(insn, modrm, depth).filter(|_| writes)
}

/// Returns the depth after an instruction. It is exact for the instructions that compilers use.
fn after(insn: &Decoded, depth: Depth) -> Depth {
    let word = match insn.mode {
        Mode::Bits32 => 4,
        Mode::Bits64 => 8,
    };
    let Depth { sp, bp } = depth;
    let moved = |by: i32| sp.and_then(|sp| sp.checked_add(by));
    let with_sp = |sp| Depth { sp, bp };
    let modrm = insn.modrm.unwrap_or(ModRm(0));
    let rm_is = |gpr| modrm.is_register() && insn.rm(modrm) == gpr;
    match (insn.map, insn.opcode) {
        (OpcodeMap::Primary, _) if insn.is_16bit() && is_push_or_pop(insn) => with_sp(None),
        (OpcodeMap::Primary, 0x50..=0x57 | 0x68 | 0x6a | 0x9c) => with_sp(moved(word)),
        (OpcodeMap::Primary, 0xff) if modrm.reg() == 6 => with_sp(moved(word)),
        (OpcodeMap::Primary, 0x58..=0x5f) => match insn.opcode_reg() {
            GPR_SP => with_sp(None),
            GPR_BP => Depth {
                sp: moved(-word),
                bp: None,
            },
            _ => with_sp(moved(-word)),
        },
        (OpcodeMap::Primary, 0x8f | 0x9d) => with_sp(moved(-word)),
        (OpcodeMap::Primary, 0x81 | 0x83) if rm_is(GPR_SP) => with_sp(match modrm.reg() {
            0 => insn.immediate.checked_neg().and_then(moved),
            5 => moved(insn.immediate),
            // A comparison.
            7 => sp,
            _ => None,
        }),
        (OpcodeMap::Primary, 0x8d) if insn.reg(modrm) == GPR_SP => {
            with_sp(loaded(insn, modrm, depth))
        }
        (OpcodeMap::Primary, 0x89) if rm_is(GPR_BP) && insn.reg(modrm) == GPR_SP => {
            Depth { sp, bp: sp }
        }
        (OpcodeMap::Primary, 0x8b) if rm_is(GPR_SP) && insn.reg(modrm) == GPR_BP => {
            Depth { sp, bp: sp }
        }
        (OpcodeMap::Primary, 0x89) if rm_is(GPR_SP) => {
            with_sp(bp.filter(|_| insn.reg(modrm) == GPR_BP))
        }
        (OpcodeMap::Primary, 0x8b) if insn.reg(modrm) == GPR_SP => {
            with_sp(bp.filter(|_| rm_is(GPR_BP)))
        }
        (OpcodeMap::Primary, 0x01 | 0x21 | 0x29 | 0x87) if rm_is(GPR_SP) => with_sp(None),
        (OpcodeMap::Primary, 0x03 | 0x23 | 0x2b | 0x87) if insn.reg(modrm) == GPR_SP => {
            with_sp(None)
        }
        (OpcodeMap::Primary, 0xc8) => Depth { sp: None, bp: None },
        (OpcodeMap::Primary, 0xc9) => Depth {
            sp: bp.and_then(|bp| bp.checked_sub(word)),
            bp: None,
        },
        _ => depth,
    }
}

fn is_push_or_pop(insn: &Decoded) -> bool {
    insn.group(0xff) == Some(6)
        || matches!(insn.opcode, 0x50..=0x5f | 0x68 | 0x6a | 0x8f | 0x9c | 0x9d)
}

/// Returns the depth of a memory operand relative to the stack pointer or the frame pointer.
fn loaded(insn: &Decoded, modrm: ModRm, depth: Depth) -> Option<i32> {
    // A SIB byte with the stack pointer as base and no index.
    const SIB_SP: u8 = 0x24;
    if modrm.is_register() || insn.rex & 3 != 0 {
        return None;
    }
    let base = match (modrm.rm(), insn.sib) {
        (GPR_SP, Some(SIB_SP)) => depth.sp,
        (GPR_BP, None) if modrm.mode() != 0 => depth.bp,
        _ => None,
    };
    base?.checked_sub(insn.displacement)
}

#[cfg(CONFIG_UBP_KUNIT_TEST)]
#[kernel::macros::kunit_tests(ubp_flow)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Option<(Flow, usize)> {
        let flowed = flow(bytes, Vaddr::new(0x1000), Mode::Bits64, Depth::ENTRY).ok()?;
        Some((flowed.flow, flowed.len))
    }

    /// Returns the depth of the stack after a sequence of instructions.
    fn depth(mut bytes: &[u8]) -> Option<i32> {
        let mut depth = Depth::ENTRY;
        while !bytes.is_empty() {
            let flowed = flow(bytes, Vaddr::new(0x1000), Mode::Bits64, depth).ok()?;
            depth = flowed.depth;
            bytes = bytes.get(flowed.len..)?;
        }
        depth.sp
    }

    #[test]
    fn returns() {
        assert_eq!(of(&[0xc3]), Some((Flow::Return(0), 1)));
        assert_eq!(of(&[0xf3, 0xc3]), Some((Flow::Return(0), 2)));
        assert_eq!(of(&[0xc2, 0x08, 0x00]), Some((Flow::Return(8), 3)));
    }

    #[test]
    fn jumps() {
        let to = Vaddr::new;
        assert_eq!(of(&[0xeb, 0xfe]), Some((Flow::Jump(to(0x1000)), 2)));
        assert_eq!(of(&[0x74, 0x10]), Some((Flow::Branch(to(0x1012)), 2)));
        assert_eq!(of(&[0xe9, 0, 1, 0, 0]), Some((Flow::Jump(to(0x1105)), 5)));
        assert_eq!(
            of(&[0x0f, 0x84, 0, 1, 0, 0]),
            Some((Flow::Branch(to(0x1106)), 6))
        );
        assert_eq!(of(&[0xe2, 0xf0]), Some((Flow::Branch(to(0xff2)), 2)));
    }

    #[test]
    fn calls_and_indirect_jumps() {
        let called = Some(Vaddr::new(0x1105));
        assert_eq!(of(&[0xe8, 0, 1, 0, 0]), Some((Flow::Call(called), 5)));
        assert_eq!(of(&[0xff, 0xd0]), Some((Flow::Call(None), 2)));
        assert_eq!(of(&[0xff, 0xe0]), Some((Flow::Indirect, 2)));
        assert_eq!(of(&[0x3e, 0xff, 0xe0]), Some((Flow::Indirect, 3)));
        assert_eq!(of(&[0x0f, 0x05]), Some((Flow::Next, 2)));
        assert_eq!(of(&[0x0f, 0x0b]), Some((Flow::Stop, 2)));
    }

    #[test]
    fn stack_writes() {
        let written = |bytes: &[u8]| {
            let depth = Depth::ENTRY.deeper_by(8);
            flow(bytes, Vaddr::new(0x1000), Mode::Bits64, depth).map_or(None, |it| it.writes)
        };
        // MOV [RSP], RAX; ADD QWORD [RSP + 8], 4; MOV QWORD [RSP - 8], 0.
        assert_eq!(written(&[0x48, 0x89, 0x04, 0x24]), Some(8));
        assert_eq!(written(&[0x48, 0x83, 0x44, 0x24, 0x08, 0x04]), Some(0));
        assert_eq!(
            written(&[0x48, 0xc7, 0x44, 0x24, 0xf8, 0, 0, 0, 0]),
            Some(16)
        );
        // MOV RAX, [RSP]; CMP QWORD [RSP], 4; MOV [RAX], RSP; MOV RAX, RSP.
        assert_eq!(written(&[0x48, 0x8b, 0x04, 0x24]), None);
        assert_eq!(written(&[0x48, 0x83, 0x3c, 0x24, 0x04]), None);
        assert_eq!(written(&[0x48, 0x89, 0x20]), None);
        assert_eq!(written(&[0x48, 0x89, 0xe0]), None);
    }

    #[test]
    fn stack_depth() {
        // PUSH RBX; SUB RSP, 0x20; ADD RSP, 0x20; POP RBX.
        assert_eq!(depth(&[0x53, 0x48, 0x83, 0xec, 0x20]), Some(0x28));
        assert_eq!(
            depth(&[0x53, 0x48, 0x83, 0xec, 0x20, 0x48, 0x83, 0xc4, 0x20, 0x5b]),
            Some(0)
        );
        // PUSH RBP; MOV RBP, RSP; AND RSP, -32; LEAVE.
        let aligned = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xe0];
        assert_eq!(depth(&aligned), None);
        assert_eq!(
            depth(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xe0, 0xc9]),
            Some(0)
        );
        // PUSH RBP; MOV RBP, RSP; PUSH RBX; SUB RSP, RAX; LEA RSP, [RBP - 8].
        assert_eq!(
            depth(&[0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x29, 0xc4, 0x48, 0x8d, 0x65, 0xf8]),
            Some(0x10)
        );
        // PUSH R12; LEA RSP, [RSP - 0x80].
        assert_eq!(
            depth(&[0x41, 0x54, 0x48, 0x8d, 0x64, 0x24, 0x80]),
            Some(0x88)
        );
        // POP RSP.
        assert_eq!(depth(&[0x5c]), None);
    }
}
