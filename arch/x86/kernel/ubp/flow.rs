// SPDX-License-Identifier: GPL-2.0

//! Where instructions lead to.

use super::{
    decode::{
        Decoded,
        Map, //
    },
    plan::sign_extend,
    Mode, //
};
use crate::{
    Refusal,
    Vaddr,
    Width, //
};

/// Where a thread is after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// At the next one, or anywhere that the instruction itself does not tell: calls come back, and
    /// jumps through a table or register may lead to wherever.
    Next,
    /// There, or at the next one.
    Jump(Vaddr),
    /// Where its caller goes on.
    Return,
}

/// Tells where the instruction leads to with which `bytes` begin, whether it can be probed or not;
/// and its length.
pub fn flow(bytes: &[u8], at: Vaddr, mode: Mode) -> Result<(Flow, usize), Refusal> {
    let insn = Decoded::new(bytes, mode)?;
    let width = match mode {
        Mode::Bits32 => Width::W32,
        Mode::Bits64 => Width::W64,
    };
    let len = usize::from(insn.len);
    let next = at.as_usize().wrapping_add(len);
    let target = width.truncate(next.wrapping_add(sign_extend(insn.immediate)));
    let flow = match (insn.map, insn.opcode) {
        (Map::Primary, 0xc2 | 0xc3) => Flow::Return,
        // A call comes back.
        (Map::Primary, 0xe8) => Flow::Next,
        _ if insn.is_relative_branch() => Flow::Jump(Vaddr::new(target)),
        _ => Flow::Next,
    };
    Ok((flow, len))
}

#[cfg(CONFIG_UBP_KUNIT_TEST)]
#[kernel::macros::kunit_tests(ubp_flow)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Option<(Flow, usize)> {
        flow(bytes, Vaddr::new(0x1000), Mode::Bits64).ok()
    }

    #[test]
    fn returns() {
        assert_eq!(of(&[0xc3]), Some((Flow::Return, 1)));
        assert_eq!(of(&[0xf3, 0xc3]), Some((Flow::Return, 2)));
        assert_eq!(of(&[0xc2, 0x08, 0x00]), Some((Flow::Return, 3)));
    }

    #[test]
    fn jumps() {
        let to = |at| Flow::Jump(Vaddr::new(at));
        assert_eq!(of(&[0xeb, 0xfe]), Some((to(0x1000), 2)));
        assert_eq!(of(&[0x74, 0x10]), Some((to(0x1012), 2)));
        assert_eq!(of(&[0xe9, 0, 1, 0, 0]), Some((to(0x1105), 5)));
        assert_eq!(of(&[0x0f, 0x84, 0, 1, 0, 0]), Some((to(0x1106), 6)));
        assert_eq!(of(&[0xe2, 0xf0]), Some((to(0xff2), 2)));
    }

    #[test]
    fn calls_and_indirect_jumps_are_not_told() {
        assert_eq!(of(&[0xe8, 0, 1, 0, 0]), Some((Flow::Next, 5)));
        assert_eq!(of(&[0xff, 0xe0]), Some((Flow::Next, 2)));
        assert_eq!(of(&[0x3e, 0xff, 0xe0]), Some((Flow::Next, 3)));
        assert_eq!(of(&[0x0f, 0x05]), Some((Flow::Next, 2)));
    }
}
