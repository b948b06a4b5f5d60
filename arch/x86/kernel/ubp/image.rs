// SPDX-License-Identifier: GPL-2.0

//! What a slot holds: the copy of an instruction, and what follows it.
//!
//! ```text
//!   +------+-----------------------+-------------------------+------------+
//!   | copy | jump, if it may follow | second copy, if repeated | breakpoints |
//!   +------+-----------------------+-------------------------+------------+
//! ```
//!
//! An operand relative to the instruction pointer is adjusted to where the slot is. See
//! [`super::step`] for what each part is there for.

use super::{
    step::{
        After,
        Step, //
    },
    BREAKPOINT,
    BREAKPOINT_SIZE,
    MAX_INSN_SIZE, //
};
use crate::{
    OutOfReach,
    SlotAddr,
    Width, //
};

/// Bytes of a slot.
pub const SLOT_SIZE: usize = 32;

/// `jmp` by a displacement of 32 bits, and its length.
const JUMP: u8 = 0xe9;
const JUMP_SIZE: usize = 5;

/// How far a displacement of 32 bits reaches, whatever the instruction's length.
const REACH: usize = (1 << 31) - SLOT_SIZE;

/// An operand relative to the instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Relative {
    /// Offset of the displacement in the instruction.
    pub(super) offset: u8,
    /// Whether the address is cut off after 32 bits.
    pub(super) is_32bit: bool,
}

impl Step {
    /// Where slots for this instruction may be: the first and the last address.
    ///
    /// The next instruction must be within reach of the jump, and so must be an operand that is
    /// addressed relative to the instruction pointer, which may be on the other side.
    pub fn slot_range(&self) -> (usize, usize) {
        if self.width == Width::W32 {
            return (0, Width::W32.truncate(usize::MAX));
        }
        let near = |addr: usize| (addr.saturating_sub(REACH), addr.saturating_add(REACH));
        let (low, high) = near(self.at.as_usize());
        match self.operand() {
            Some(operand) => {
                let (operand_low, operand_high) = near(operand);
                (low.max(operand_low), high.min(operand_high))
            }
            None => (low, high),
        }
    }

    /// The address of an operand relative to the instruction pointer, unless it is cut off.
    fn operand(&self) -> Option<usize> {
        let relative = self.relative.filter(|relative| !relative.is_32bit)?;
        let field = displacement(&self.code, relative)?;
        Some(
            self.next
                .wrapping_add(i32::from_le_bytes(field) as isize as usize),
        )
    }

    /// What a slot at `slot`, within [`Step::slot_range`], must hold.
    pub fn slot_image(&self, slot: SlotAddr) -> Result<[u8; SLOT_SIZE], OutOfReach> {
        let mut image = [BREAKPOINT; SLOT_SIZE];
        for (to, from) in image.iter_mut().zip(&self.code).take(self.len.into()) {
            *to = *from;
        }
        if let Some(relative) = self.relative {
            let field = displacement(&image, relative).ok_or(OutOfReach)?;
            let moved = self.at.as_usize().wrapping_sub(slot.as_usize()) as i64;
            let value = i64::from(i32::from_le_bytes(field)).wrapping_add(moved);
            let value = if relative.is_32bit {
                // Only the low half of the sum counts.
                value as i32
            } else {
                i32::try_from(value).map_err(|_| OutOfReach)?
            };
            put(&mut image, relative.offset.into(), value)?;
        }
        if self.can_boost() {
            const { assert!(MAX_INSN_SIZE + JUMP_SIZE <= SLOT_SIZE) };
            let start = usize::from(self.len);
            let end = slot.as_usize().wrapping_add(start).wrapping_add(JUMP_SIZE);
            let distance = self.next.wrapping_sub(end);
            let distance = match self.width {
                // The sum is cut off.
                Width::W8 | Width::W16 | Width::W32 => distance as i32,
                Width::W64 => i32::try_from(distance as i64).map_err(|_| OutOfReach)?,
            };
            *image.get_mut(start).ok_or(OutOfReach)? = JUMP;
            put(&mut image, start.wrapping_add(1), distance)?;
        }
        if let Some(start) = self.second_copy() {
            let room = image.iter_mut().skip(start);
            for (to, from) in room.zip(&self.code).take(self.len.into()) {
                *to = *from;
            }
        }
        Ok(image)
    }

    /// Where in the slot a second copy of a repeated instruction begins, unless the instruction is
    /// too long for that. String instructions have no operand relative to the instruction pointer.
    pub(super) fn second_copy(&self) -> Option<usize> {
        let len = usize::from(self.len);
        let start = second_copy(len);
        let fits = start + len + BREAKPOINT_SIZE <= SLOT_SIZE;
        (self.after == After::Repeat && fits).then_some(start)
    }
}

/// Where in its slot the second copy of an instruction of so many bytes begins, if there is one.
const fn second_copy(len: usize) -> usize {
    len + JUMP_SIZE
}

/// Returns whether an offset in the slot of an instruction of so many bytes is that of a copy, so
/// that it has not been executed yet.
#[inline]
pub const fn is_at_copy(offset: usize, len: usize) -> bool {
    offset == 0 || offset == second_copy(len)
}

/// The displacement field of an operand.
fn displacement(code: &[u8], relative: Relative) -> Option<[u8; 4]> {
    let start = usize::from(relative.offset);
    code.get(start..start.wrapping_add(4))?.try_into().ok()
}

/// Writes a displacement.
fn put(image: &mut [u8; SLOT_SIZE], start: usize, value: i32) -> Result<(), OutOfReach> {
    let field = image
        .get_mut(start..start.wrapping_add(4))
        .ok_or(OutOfReach)?;
    field.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// A call for the slot in place of a relative one, to the next byte or, if it is to push to the
/// shadow stack, to the one after that; and its length.
pub(super) fn stand_in_call(shadowed: bool) -> ([u8; MAX_INSN_SIZE], u8) {
    let call = [0xe8, shadowed.into(), 0, 0, 0];
    let mut code = [0; MAX_INSN_SIZE];
    for (to, from) in code.iter_mut().zip(call) {
        *to = from;
    }
    (code, call.len() as u8)
}
