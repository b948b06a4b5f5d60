// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the calls that are noted.

use super::*;

use crate::seats::tests::rival;

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

/// A page with room in its list.
fn page() -> Result<Arc<Page>> {
    let page = Page::new()?;
    *page.list.lock() = Some(List::with_capacity(64)?);
    Ok(page)
}

/// Notes a frame as a hit does. Returns whether that was in a seat at once.
fn push(page: &Page, frame: Frame) -> bool {
    let is_seated = page.seats.take(frame);
    if !is_seated {
        assert_eq!(page.push(frame, |_| true), Pushed::Yes);
    }
    is_seated
}

/// Takes out what returns to `site`, as a hit does. Returns also whether it was found in a seat at
/// once.
fn pop(page: &Page, slot: usize, site: usize) -> (Option<Popped<Frame>>, bool) {
    let sole = |found| Popped {
        found,
        any_left: false,
    };
    match page.seats.leave(slot, to(site)) {
        Some(found) => (Some(sole(found)), true),
        None => (page.pop(slot, to(site)), false),
    }
}

/// The same, without what else is known of it.
fn popped(page: &Page, slot: usize, site: usize) -> Option<Frame> {
    Some(pop(page, slot, site).0?.found)
}

fn page_with(frames: &[Frame]) -> Result<Arc<Page>> {
    let page = page()?;
    for frame in frames {
        push(&page, *frame);
    }
    Ok(page)
}

/// Whether nothing is noted any more.
fn is_empty(page: &Page) -> bool {
    page.highest(usize::MAX, 0, |_| true).is_none()
}

#[kunit_tests(uprobes_frames)]
mod page {
    use super::*;

    #[test]
    fn recursion_returns_in_the_reverse_order() -> Result {
        let page = page_with(&[frame(0x80, 1, 9), frame(0x60, 1, 9), frame(0x40, 1, 9)])?;
        for slot in [0x40, 0x60, 0x80] {
            assert_eq!(popped(&page, slot, 1), Some(frame(slot, 1, 9)));
            assert_eq!(popped(&page, slot, 1), None);
        }
        Ok(())
    }

    #[test]
    fn other_sites_and_places_are_no_returns() -> Result {
        let page = page_with(&[frame(0x80, 1, 9)])?;
        assert_eq!(popped(&page, 0x80, 2), None);
        assert_eq!(popped(&page, 0x88, 1), None);
        assert_eq!(popped(&page, 0x78, 1), None);
        assert!(popped(&page, 0x80, 1).is_some());
        Ok(())
    }

    #[test]
    fn a_place_that_is_used_again_had_a_dead_frame() -> Result {
        // By another call, and by the same one.
        let page = page_with(&[frame(0x80, 1, 9), frame(0x80, 2, 9), frame(0x80, 2, 9)])?;
        assert!(popped(&page, 0x80, 2).is_some());
        assert!(is_empty(&page));
        Ok(())
    }

    #[test]
    fn a_tail_call_shares_its_place() -> Result {
        let page = page_with(&[frame(0x80, 1, 8), frame(0x80, 1, 9)])?;
        assert_eq!(popped(&page, 0x80, 1), Some(frame(0x80, 1, 9)));
        assert_eq!(popped(&page, 0x80, 1), Some(frame(0x80, 1, 8)));
        Ok(())
    }

    #[test]
    fn what_a_dead_tail_call_led_to_is_dead() -> Result {
        let page = page_with(&[frame(0x80, 1, 8), frame(0x80, 1, 9), frame(0x80, 1, 8)])?;
        assert_eq!(popped(&page, 0x80, 1), Some(frame(0x80, 1, 8)));
        assert_eq!(popped(&page, 0x80, 1), None);
        Ok(())
    }

    #[test]
    fn the_nearest_place_below_is_found() -> Result {
        let page = page_with(&[frame(0x80, 1, 8), frame(0x60, 1, 8), frame(0x40, 2, 8)])?;
        assert_eq!(
            page.highest(0x78, 0x40, |frame| frame.site == 1),
            Some(0x60)
        );
        assert_eq!(
            page.highest(0x80, 0x40, |frame| frame.site == 1),
            Some(0x80)
        );
        assert_eq!(page.highest(0x58, 0, |frame| frame.site == 1), None);
        assert_eq!(page.highest(0x78, 0x48, |frame| frame.site == 2), None);
        Ok(())
    }

    #[test]
    fn frames_below_one_that_was_left_stay() -> Result {
        // Two stacks in one page: the upper one goes on while the lower one waits.
        let page = page_with(&[frame(0x80, 1, 8), frame(0x40, 2, 9), frame(0x60, 3, 7)])?;
        assert!(popped(&page, 0x60, 3).is_some());
        assert!(popped(&page, 0x40, 2).is_some());
        assert!(popped(&page, 0x80, 1).is_some());
        Ok(())
    }

    #[test]
    fn a_full_list_says_so() -> Result {
        let page = page()?;
        let capacity = page
            .list
            .lock()
            .as_ref()
            .map_or(0, |list| list.0.capacity());
        // One in the seat, and then those of tail calls.
        for function in 0..=capacity {
            push(&page, frame(0x80, 1, function));
        }
        let more = frame(0x80, 1, capacity + 1);
        assert!(!page.seats.take(more));
        assert_eq!(page.push(more, |_| true), Pushed::Full);
        Ok(())
    }

    #[test]
    fn a_page_is_given_up_when_it_is_empty() -> Result {
        let page = page_with(&[frame(0x80, 1, 8), frame(0x80, 1, 9)])?;
        assert!(!page.give_up());
        assert!(popped(&page, 0x80, 1).is_some());
        assert!(!page.give_up());
        push(&page, frame(0x60, 1, 8));
        for slot in [0x60, 0x80] {
            assert!(popped(&page, slot, 1).is_some());
        }
        assert!(page.give_up());
        assert!(!page.seats.take(frame(0x80, 1, 8)));
        assert_eq!(page.push(frame(0x80, 1, 8), |_| true), Pushed::Gone);
        assert!(!page.give_up());
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
        let page = page_with(&frames)?;
        for left in [true, true, false] {
            assert!(pop(&page, 0x60, 1)
                .0
                .is_some_and(|popped| popped.any_left == left));
        }
        assert!(pop(&page, 0x80, 1).0.is_some_and(|popped| !popped.any_left));
        Ok(())
    }

    /// What there is to know of a page, in one list, in the order of calls.
    struct Model(KVec<Frame>);

    impl Model {
        fn push(&mut self, new: Frame) -> Result {
            let mut again = false;
            self.0.retain(|old| {
                let is_here = old.slot == new.slot;
                again |= is_here && old.function == new.function;
                !is_here || (!again && old.site == new.site)
            });
            Ok(self.0.push(new, GFP_KERNEL)?)
        }

        fn pop(&mut self, slot: usize, site: usize) -> Option<(Frame, bool)> {
            let is_wanted = |frame: &Frame| frame.slot == slot && frame.site == site;
            let at = self.0.iter().rposition(is_wanted)?;
            let frame = self.0.remove(at).ok()?;
            Some((frame, self.0.iter().any(|left| left.slot == slot)))
        }

        fn highest(&self) -> Option<usize> {
            self.0.iter().map(|frame| frame.slot).max()
        }
    }

    #[test]
    fn seats_and_list_do_what_one_list_would() -> Result {
        let (page, mut model) = (page()?, Model(KVec::new()));
        // Places of one seat, and of another one.
        let slots = [0x1010, 0x1018, rival(0x1010), 0x1020];
        let mut random = 1u64;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 33) as usize % limit
        };
        let (mut pushed, mut popped) = ([0; 2], [0; 2]);
        for _ in 0..20_000 {
            let (slot, site, function) = (slots[below(4)], below(2), below(3));
            if below(10) < 2 {
                let new = frame(slot, site, function);
                pushed[usize::from(push(&page, new))] += 1;
                model.push(new)?;
            } else {
                let (found, is_seated) = pop(&page, slot, site);
                popped[usize::from(is_seated)] += usize::from(found.is_some());
                let found = found.map(|popped| (popped.found, popped.any_left));
                assert_eq!(found, model.pop(slot, site));
            }
            assert_eq!(page.highest(usize::MAX, 0, |_| true), model.highest());
        }
        assert!([pushed, popped]
            .as_flattened()
            .iter()
            .all(|count| *count > 500));
        Ok(())
    }
}
