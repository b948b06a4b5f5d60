// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the calls that are noted.

use super::*;

fn frame(slot: usize, site: usize, function: usize) -> Frame {
    Frame {
        slot,
        site,
        function,
        newest: 0,
    }
}

/// What returns to `site`.
fn to(site: usize) -> impl Fn(&Frame) -> Option<Frame> {
    move |frame| (frame.site == site).then_some(*frame)
}

/// The same.
struct To(usize);

impl Wanted for To {
    type Found = Frame;

    fn find(&self, frame: &Frame) -> Option<Frame> {
        to(self.0)(frame)
    }
}

/// Notes a frame as a hit does.
fn push(list: &mut List, frame: Frame) -> Pushed {
    match list.push_lowest(frame) {
        true => Pushed::Yes,
        false => list.push(frame),
    }
}

/// Takes out what returns to `site`, as a hit does.
fn pop(list: &mut List, slot: usize, site: usize) -> Option<Popped<Frame>> {
    list.pop_last(slot, &To(site))
        .or_else(|| list.pop(slot, to(site)))
}

/// The same, without what else is known of it.
fn popped(list: &mut List, slot: usize, site: usize) -> Option<Frame> {
    Some(pop(list, slot, site)?.found)
}

fn list(frames: &[Frame]) -> Result<List> {
    let mut list = List::with_capacity(8)?;
    for frame in frames {
        assert_eq!(push(&mut list, *frame), Pushed::Yes);
    }
    Ok(list)
}

#[kunit_tests(uprobes_frames)]
mod list {
    use super::*;

    #[test]
    fn recursion_returns_in_the_reverse_order() -> Result {
        let mut list = list(&[frame(0x80, 1, 9), frame(0x60, 1, 9), frame(0x40, 1, 9)])?;
        for slot in [0x40, 0x60, 0x80] {
            assert_eq!(popped(&mut list, slot, 1), Some(frame(slot, 1, 9)));
            assert_eq!(popped(&mut list, slot, 1), None);
        }
        Ok(())
    }

    #[test]
    fn other_sites_and_places_are_no_returns() -> Result {
        let mut list = list(&[frame(0x80, 1, 9)])?;
        assert_eq!(popped(&mut list, 0x80, 2), None);
        assert_eq!(popped(&mut list, 0x88, 1), None);
        assert_eq!(popped(&mut list, 0x78, 1), None);
        assert!(popped(&mut list, 0x80, 1).is_some());
        Ok(())
    }

    #[test]
    fn a_place_that_is_used_again_had_a_dead_frame() -> Result {
        // By another call, and by the same one.
        let mut list = list(&[frame(0x80, 1, 9), frame(0x80, 2, 9), frame(0x80, 2, 9)])?;
        assert!(popped(&mut list, 0x80, 2).is_some());
        assert!(list.0.is_empty());
        Ok(())
    }

    #[test]
    fn a_tail_call_shares_its_place() -> Result {
        let mut list = list(&[frame(0x80, 1, 8), frame(0x80, 1, 9)])?;
        assert_eq!(popped(&mut list, 0x80, 1), Some(frame(0x80, 1, 9)));
        assert_eq!(popped(&mut list, 0x80, 1), Some(frame(0x80, 1, 8)));
        Ok(())
    }

    #[test]
    fn what_a_dead_tail_call_led_to_is_dead() -> Result {
        let mut list = list(&[frame(0x80, 1, 8), frame(0x80, 1, 9), frame(0x80, 1, 8)])?;
        assert_eq!(popped(&mut list, 0x80, 1), Some(frame(0x80, 1, 8)));
        assert_eq!(popped(&mut list, 0x80, 1), None);
        Ok(())
    }

    #[test]
    fn the_nearest_place_below_is_found() -> Result {
        let list = list(&[frame(0x80, 1, 8), frame(0x60, 1, 8), frame(0x40, 2, 8)])?;
        assert_eq!(
            list.highest(0x78, 0x40, |frame| frame.site == 1),
            Some(0x60)
        );
        assert_eq!(
            list.highest(0x80, 0x40, |frame| frame.site == 1),
            Some(0x80)
        );
        assert_eq!(list.highest(0x58, 0, |frame| frame.site == 1), None);
        assert_eq!(list.highest(0x78, 0x48, |frame| frame.site == 2), None);
        Ok(())
    }

    #[test]
    fn frames_below_one_that_was_left_stay() -> Result {
        // Two stacks in one page: the upper one goes on while the lower one waits.
        let mut list = list(&[frame(0x80, 1, 8), frame(0x40, 2, 9), frame(0x60, 3, 7)])?;
        assert!(list.0.iter().map(|frame| frame.slot).eq([0x80, 0x60, 0x40]));
        assert!(popped(&mut list, 0x60, 3).is_some());
        assert!(popped(&mut list, 0x40, 2).is_some());
        assert!(popped(&mut list, 0x80, 1).is_some());
        Ok(())
    }

    #[test]
    fn a_full_list_says_so() -> Result {
        let mut list = List::with_capacity(1)?;
        while list.0.len() < list.0.capacity() {
            let slot = 0x1000 - 8 * list.0.len();
            assert_eq!(push(&mut list, frame(slot, 1, 9)), Pushed::Yes);
        }
        assert!(!list.push_lowest(frame(8, 1, 9)));
        assert_eq!(list.push(frame(8, 1, 9)), Pushed::Full);
        Ok(())
    }

    #[test]
    fn it_is_known_whether_others_are_in_the_place() -> Result {
        let frames = [
            frame(0x80, 1, 7),
            frame(0x60, 1, 7),
            frame(0x60, 1, 8),
            frame(0x60, 1, 9),
        ];
        let mut list = list(&frames)?;
        for left in [true, true, false] {
            assert!(pop(&mut list, 0x60, 1).is_some_and(|popped| popped.any_left == left));
        }
        assert!(pop(&mut list, 0x80, 1).is_some_and(|popped| !popped.any_left));
        Ok(())
    }

    /// What is mostly so is found in a shorter way, which must not lead elsewhere.
    #[test]
    fn the_short_ways_lead_to_the_same() -> Result {
        let (mut short, mut long) = (list(&[])?, list(&[])?);
        let mut random = 1u64;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 33) as usize % limit
        };
        let mut by_short_way = [0; 2];
        for _ in 0..20_000 {
            let (slot, site, function) = (8 * below(4), below(2), below(3));
            if below(2) == 0 {
                let new = frame(slot, site, function);
                let is_short = short.push_lowest(new);
                by_short_way[0] += usize::from(is_short);
                let long = long.push(new);
                assert_eq!(
                    if is_short {
                        Pushed::Yes
                    } else {
                        short.push(new)
                    },
                    long
                );
            } else {
                let last = short.pop_last(slot, &To(site));
                by_short_way[1] += usize::from(last.is_some());
                let found = |popped: Popped<Frame>| (popped.found, popped.any_left);
                let short = last.or_else(|| short.pop(slot, to(site)));
                assert_eq!(short.map(found), long.pop(slot, to(site)).map(found));
            }
            assert_eq!(&short.0[..], &long.0[..]);
        }
        assert!(by_short_way.iter().all(|count| *count > 500));
        Ok(())
    }
}
