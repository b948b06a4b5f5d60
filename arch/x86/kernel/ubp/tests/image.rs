// SPDX-License-Identifier: GPL-2.0

//! Tests of the contents and the addresses of slots.

use super::{
    super::{
        is_at_copy,
        step::Boost,
        Mode,
        XolStep,
        BREAKPOINT, //
    },
    insn,
    step::{
        step,
        SLOT, //
    },
    AT, //
};
use crate::{
    analyze,
    OutOfReach,
    SlotAddr,
    Vaddr, //
};
use kernel::prelude::*;

const BITS64: Mode = Mode::Bits64;
const BITS32: Mode = Mode::Bits32;

/// Returns the 32-bit displacement at `offset` in the image for a slot.
fn displacement(step: &XolStep, slot: usize, offset: usize) -> Result<i64, OutOfReach> {
    let image = step.slot_image(SlotAddr::new(slot))?;
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(&image[offset..]) {
        *to = *from;
    }
    Ok(i32::from_le_bytes(bytes).into())
}

/// Returns the target of the displacement that ends at `end` in the image for a slot.
fn target(step: &XolStep, slot: usize, end: usize) -> Result<usize> {
    let distance = displacement(step, slot, end - 4).map_err(|_| EINVAL)? as usize;
    Ok((slot + end).wrapping_add(distance))
}

#[kunit_tests(ubp_arch_image)]
mod tests {
    use super::*;

    #[test]
    fn images_of_stepped_instructions() -> Result {
        for (bytes, mode, image) in [
            (&b"\x55"[..], BITS64, &b"\x55"[..]),
            (b"\xff\x55\x08", BITS32, b"\xff\x55\x08"),
            (b"\x9c", BITS64, b"\x9c"),
        ] {
            let step = step(bytes, mode)?;
            let found = step.slot_image(SLOT).map_err(|_| EINVAL)?;
            assert!(found.starts_with(image));
            // `push` may be stepped; then the bytes behind it in the slot make no difference.
            if step.boost() == Boost::Never {
                assert!(found[image.len()..].iter().all(|byte| *byte == BREAKPOINT));
            }
        }
        Ok(())
    }

    #[test]
    fn images_of_boosted_instructions() -> Result {
        for (bytes, mode) in [
            (&b"\x0f\xc8"[..], BITS64),
            (b"\x0f\xc8", BITS32),
            (b"\xf3\xa4", BITS64),
            (b"\xf0\x48\x0f\xc1\x07", BITS64),
            (b"\xc5\xf8\x58\xc1", BITS32),
            // The longest possible instruction.
            (
                b"\x2e\x2e\xf0\x48\x81\x04\x25\x00\x00\x00\x00\x01\x00\x00\x00",
                BITS64,
            ),
        ] {
            let step = step(bytes, mode)?;
            assert_eq!(step.boost(), Boost::Always);
            for slot in [0x1000, AT + 0x100_0000] {
                let image = step.slot_image(SlotAddr::new(slot)).map_err(|_| EINVAL)?;
                assert!(image.starts_with(bytes));
                assert_eq!(image[bytes.len()], 0xe9);
                let end = bytes.len() + 5;
                assert_eq!(target(&step, slot, end)?, AT + bytes.len());
                if bytes[0] != 0xf3 {
                    assert!(image[end..].iter().all(|byte| *byte == BREAKPOINT));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn image_of_boosted_call() -> Result {
        // Calls with and without prefixes.
        for bytes in [
            &b"\xe8\x00\x01\x00\x00"[..],
            b"\x66\x48\xe8\x00\x01\x00\x00",
        ] {
            let step = step(bytes, BITS64)?;
            let next = AT + bytes.len();
            assert!(step.boost() == Boost::Unshadowed && step.behind() == next + 0x100);
            let image = step.slot_image(SLOT).map_err(|_| EINVAL)?;
            // PUSH [RIP + 18], with the operand at offset 24; then the jump.
            assert!(image.starts_with(b"\xff\x35\x12\x00\x00\x00\xe9"));
            assert_eq!(image[24..], next.to_le_bytes());
            assert_eq!(target(&step, SLOT.as_usize(), 11)?, next + 0x100);
        }
        let step = step(b"\xe8\x00\x01\x00\x00", BITS32)?;
        let image = step.slot_image(SLOT).map_err(|_| EINVAL)?;
        assert!(image.starts_with(b"\x68\x05\x10\x40\x00\xe9"));
        assert_eq!(target(&step, SLOT.as_usize(), 10)?, AT + 5 + 0x100);
        Ok(())
    }

    #[test]
    fn image_of_stepped_call() -> Result {
        // The stand-in for a call to the next instruction differs.
        for (bytes, mode, call) in [
            (
                &b"\xe8\x10\x00\x00\x00"[..],
                BITS64,
                b"\xe8\x01\x00\x00\x00\xcc",
            ),
            (b"\xe8\x00\x00\x00\x00", BITS64, b"\xe8\x00\x00\x00\x00\xcc"),
            (b"\xe8\x10\x00\x00\x00", BITS32, b"\xe8\x01\x00\x00\x00\xcc"),
        ] {
            let step = step(bytes, mode)?;
            let image = step.slot_image(SLOT).map_err(|_| EINVAL)?;
            assert!(image[16..].starts_with(call));
            assert!(is_at_copy(0) && is_at_copy(16) && !is_at_copy(16 + call.len() - 1));
        }
        Ok(())
    }

    #[test]
    fn image_of_conditional_jump() -> Result {
        // Both forms, with a prefix, and backwards.
        for (bytes, copy, distance) in [
            (&b"\x74\x10"[..], b"\x0f\x84", 0x10),
            (b"\x2e\x75\xf0", b"\x0f\x85", -0x10),
            (b"\x0f\x8f\x00\x01\x00\x00", b"\x0f\x8f", 0x100),
        ] {
            for mode in [BITS64, BITS32] {
                let step = step(bytes, mode)?;
                let next = AT + bytes.len();
                let image = step.slot_image(SLOT).map_err(|_| EINVAL)?;
                assert!(image.starts_with(copy) && image[6] == 0xe9);
                let taken = next.wrapping_add_signed(distance);
                assert_eq!(target(&step, SLOT.as_usize(), 6)?, taken);
                assert_eq!(target(&step, SLOT.as_usize(), 11)?, next);
            }
        }
        Ok(())
    }

    #[test]
    fn slot_range_reaches_targets() -> Result {
        // At a high address, and with the greatest displacements.
        let at = 0x7f00_0000_0000;
        for (bytes, len) in [
            (&b"\xe8\x00\x00\x00\x80"[..], 5),
            (b"\xe8\xff\xff\xff\x7f", 5),
            (b"\x0f\x84\x00\x00\x00\x80", 6),
            (b"\x0f\x84\xff\xff\xff\x7f", 6),
        ] {
            let insn = analyze(bytes, Vaddr::new(at), BITS64)?;
            assert_eq!(insn.bytes().len(), len);
            let step = insn.plan().step().ok_or(EINVAL)?;
            let (low, high) = step.slot_range();
            assert!(low < high);
            for slot in [low, high] {
                assert!(step.slot_image(SlotAddr::new(slot)).is_ok());
            }
        }
        Ok(())
    }

    #[test]
    fn jump_wraps_in_32_bit_code() -> Result {
        let step = step(b"\x0f\xc8", BITS32)?;
        assert_eq!(step.slot_range(), (0, u32::MAX as usize));
        let slot = 0xffff_f000;
        assert_eq!(target(&step, slot, 7)? as u32, (AT + 2) as u32);
        Ok(())
    }

    #[test]
    fn relative_operands() -> Result {
        // The instruction, and the offset of its displacement: with an immediate behind it, with
        // prefixes, VEX and EVEX, and opcodes of three bytes.
        for (bytes, offset) in [
            (&b"\x48\x8b\x05\x00\x10\x00\x00"[..], 3),
            (b"\xc7\x05\x00\x10\x00\x00\x01\x02\x03\x04", 2),
            (b"\x66\xc7\x05\x00\x10\x00\x00\x01\x02", 3),
            (b"\xf0\x48\x0f\xb1\x0d\x00\x10\x00\x00", 5),
            (b"\xc5\xf8\x58\x05\x00\x10\x00\x00", 4),
            (b"\xc4\xe2\x71\x98\x05\x00\x10\x00\x00", 5),
            (b"\x62\xf1\x7c\x48\x58\x05\x00\x10\x00\x00", 6),
            (b"\x66\x0f\x3a\x0f\x05\x00\x10\x00\x00\x01", 5),
            (b"\xff\x15\x00\x10\x00\x00", 2),
            (b"\x65\xff\x25\x00\x10\x00\x00", 3),
        ] {
            let step = step(bytes, BITS64)?;
            let operand = AT + bytes.len() + 0x1000;
            // A slot below and one above the instruction; then the slots that are farthest away.
            // The last bytes of the instruction and of the jump must be within reach, so that the
            // range is slightly smaller.
            let (low, high) = step.slot_range();
            assert!(low <= AT && AT <= high);
            for slot in [AT - 0x30_0000, AT + 0x30_0000, low, high] {
                let found = displacement(&step, slot, offset).map_err(|_| EINVAL)?;
                let reached = (slot + bytes.len()).wrapping_add(found as usize);
                assert_eq!(reached, operand);
            }
            assert_eq!(displacement(&step, high + 0x1040, offset), Err(OutOfReach));
        }
        Ok(())
    }

    #[test]
    fn relative_operand_before_the_slot() -> Result {
        // At a high address, so that there are 2 GiB below it.
        let at = 0x7f00_0000_0000;
        let bytes = b"\x48\x8b\x05\x00\x10\x00\x00";
        let insn = analyze(bytes, Vaddr::new(at), BITS64)?;
        let step = insn.plan().step().ok_or(EINVAL)?;
        let operand = at + 7 + 0x1000;
        let nearest = operand - 7 - 0x7fff_ffff;
        assert_eq!(displacement(step, nearest, 3), Ok(0x7fff_ffff));
        assert_eq!(displacement(step, nearest - 1, 3), Err(OutOfReach));
        Ok(())
    }

    #[test]
    fn relative_operands_of_32_bits() -> Result {
        // The address wraps at 4 GiB, so that any slot within reach of the next instruction is also
        // within reach of the operand.
        let bytes = b"\x67\x8b\x05\x00\x10\x00\x00";
        let step = step(bytes, BITS64)?;
        for slot in [0x1000, AT + 0x1000, 0x8000_0000] {
            let found = displacement(&step, slot, 3).map_err(|_| EINVAL)?;
            let reached = (slot + bytes.len()).wrapping_add(found as usize);
            assert_eq!(reached & 0xffff_ffff, AT + bytes.len() + 0x1000);
        }
        // In 32-bit code the same bits encode an absolute address.
        let insn = insn(b"\x8b\x05\x00\x10\x00\x00", BITS32)?;
        let step = insn.plan().step().ok_or(EINVAL)?;
        assert_eq!(displacement(step, 0x9000_0000, 2), Ok(0x1000));
        Ok(())
    }
}
