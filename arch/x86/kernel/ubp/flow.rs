// SPDX-License-Identifier: GPL-2.0

//! Where instructions lead to, and what they do to the stack pointer.

use super::{
    decode::{
        Decoded,
        Map,
        ModRm, //
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

/// Where a thread is after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// At the next one.
    Next,
    /// At the function that is called, if its address is in the instruction; at the next one when
    /// that has returned, if it does.
    Call(Option<Vaddr>),
    /// There, or at the next one.
    Branch(Vaddr),
    /// There.
    Jump(Vaddr),
    /// Where a register, or a table, says.
    Anywhere,
    /// Where its caller goes on, with that many bytes of arguments off the stack.
    Return(i32),
    /// The instruction is made to raise an exception.
    Nowhere,
}

/// What is known of the stack at an instruction: how much deeper than at the entry of the function
/// the stack pointer and the frame pointer are, in bytes, if that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Depth {
    sp: Option<i32>,
    bp: Option<i32>,
}

impl Depth {
    /// At the entry.
    pub const ENTRY: Self = Self {
        sp: Some(0),
        bp: None,
    };

    /// How much deeper the stack pointer is, if that is known.
    pub fn sp(self) -> Option<i32> {
        self.sp
    }

    /// The same, with the stack pointer deeper by that many bytes.
    pub fn deeper_by(self, bytes: i32) -> Self {
        Self {
            sp: self.sp.and_then(|sp| sp.checked_add(bytes)),
            bp: self.bp,
        }
    }
}

/// What [`flow`] finds out about an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flowed {
    /// Where it leads to.
    pub flow: Flow,
    /// Its length.
    pub len: usize,
    /// The stack after it.
    pub depth: Depth,
    /// How deep the word of the stack is that it writes to, other than by pushing, if it does and
    /// that is known.
    pub writes: Option<i32>,
}

/// Follows the instruction at `at`, with which `bytes` begin, whether that can be probed or not.
pub fn flow(bytes: &[u8], at: Vaddr, mode: Mode, depth: Depth) -> Result<Flowed, Refusal> {
    let insn = Decoded::new(bytes, mode)?;
    let width = match mode {
        Mode::Bits32 => Width::W32,
        Mode::Bits64 => Width::W64,
    };
    let len = usize::from(insn.len);
    let next = at.as_usize().wrapping_add(len);
    let target = Vaddr::new(width.truncate(next.wrapping_add(sign_extend(insn.immediate))));
    let flow = match (insn.map, insn.opcode) {
        (Map::Primary, 0xc2) => Flow::Return(insn.immediate & 0xffff),
        (Map::Primary, 0xc3) => Flow::Return(0),
        (Map::Primary, 0xe8) => Flow::Call(Some(target)),
        (Map::Primary, 0xe9 | 0xeb) => Flow::Jump(target),
        _ if insn.is_relative_branch() => Flow::Branch(target),
        _ => match insn.group(0xff) {
            Some(2 | 3) => Flow::Call(None),
            Some(4 | 5) => Flow::Anywhere,
            _ if is_end(&insn) => Flow::Nowhere,
            _ => Flow::Next,
        },
    };
    Ok(Flowed {
        flow,
        len,
        depth: after(&insn, depth),
        writes: written(&insn, depth),
    })
}

/// Whether this is `int3`, `hlt`, `ud2`, a far return, or a return from an interrupt.
fn is_end(insn: &Decoded) -> bool {
    matches!(
        (insn.map, insn.opcode),
        (Map::Primary, 0xcc | 0xf4 | 0xca | 0xcb | 0xcf) | (Map::Secondary, 0x0b)
    )
}

/// How deep the word is that an instruction writes to by an address in memory.
fn written(insn: &Decoded, depth: Depth) -> Option<i32> {
    let modrm = insn.modrm.filter(|_| insn.map == Map::Primary)?;
    let writes = match insn.opcode {
        0x00..=0x37 => insn.opcode & 6 == 0,
        // All of the group but a comparison.
        0x80 | 0x81 | 0x83 => modrm.reg() != 7,
        0x86..=0x89 | 0x8f | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xc0 | 0xc1 => true,
        0xff => modrm.reg() <= 1,
        _ => false,
    };
    loaded(insn, modrm, depth).filter(|_| writes)
}

/// The stack after an instruction. What compilers do to it is known exactly.
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
        (Map::Primary, _) if insn.is_16bit() && is_push_or_pop(insn) => with_sp(None),
        (Map::Primary, 0x50..=0x57 | 0x68 | 0x6a | 0x9c) => with_sp(moved(word)),
        (Map::Primary, 0xff) if modrm.reg() == 6 => with_sp(moved(word)),
        (Map::Primary, 0x58..=0x5f) => match insn.opcode_reg() {
            GPR_SP => with_sp(None),
            GPR_BP => Depth {
                sp: moved(-word),
                bp: None,
            },
            _ => with_sp(moved(-word)),
        },
        (Map::Primary, 0x8f | 0x9d) => with_sp(moved(-word)),
        (Map::Primary, 0x81 | 0x83) if rm_is(GPR_SP) => with_sp(match modrm.reg() {
            0 => insn.immediate.checked_neg().and_then(moved),
            5 => moved(insn.immediate),
            // A comparison.
            7 => sp,
            _ => None,
        }),
        (Map::Primary, 0x8d) if insn.reg(modrm) == GPR_SP => with_sp(loaded(insn, modrm, depth)),
        (Map::Primary, 0x89) if rm_is(GPR_BP) && insn.reg(modrm) == GPR_SP => Depth { sp, bp: sp },
        (Map::Primary, 0x8b) if rm_is(GPR_SP) && insn.reg(modrm) == GPR_BP => Depth { sp, bp: sp },
        (Map::Primary, 0x89) if rm_is(GPR_SP) => with_sp(bp.filter(|_| insn.reg(modrm) == GPR_BP)),
        (Map::Primary, 0x8b) if insn.reg(modrm) == GPR_SP => with_sp(bp.filter(|_| rm_is(GPR_BP))),
        (Map::Primary, 0x01 | 0x21 | 0x29 | 0x87) if rm_is(GPR_SP) => with_sp(None),
        (Map::Primary, 0x03 | 0x23 | 0x2b | 0x87) if insn.reg(modrm) == GPR_SP => with_sp(None),
        (Map::Primary, 0xc8) => Depth { sp: None, bp: None },
        (Map::Primary, 0xc9) => Depth {
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

/// The depth of an address in memory: from the stack pointer, or from the frame pointer.
fn loaded(insn: &Decoded, modrm: ModRm, depth: Depth) -> Option<i32> {
    // A SIB byte that says the stack pointer, and no index.
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

    /// The depth of the stack after instructions.
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
    fn calls_and_what_is_not_told() {
        let called = Some(Vaddr::new(0x1105));
        assert_eq!(of(&[0xe8, 0, 1, 0, 0]), Some((Flow::Call(called), 5)));
        assert_eq!(of(&[0xff, 0xd0]), Some((Flow::Call(None), 2)));
        assert_eq!(of(&[0xff, 0xe0]), Some((Flow::Anywhere, 2)));
        assert_eq!(of(&[0x3e, 0xff, 0xe0]), Some((Flow::Anywhere, 3)));
        assert_eq!(of(&[0x0f, 0x05]), Some((Flow::Next, 2)));
        assert_eq!(of(&[0x0f, 0x0b]), Some((Flow::Nowhere, 2)));
    }

    #[test]
    fn what_is_written_to_the_stack() {
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
    fn the_stack_is_followed() {
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
