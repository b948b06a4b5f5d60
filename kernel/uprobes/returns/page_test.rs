// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the return instances in a page.

use super::*;

use crate::returns::{
    buckets::tests::collision,
    instance::Caller, //
};

fn instance(location: usize, return_address: usize, function: usize) -> Instance {
    Instance {
        location,
        return_address,
        function,
        caller: Caller::from_raw(0),
    }
}

/// Finds instances that return to `return_address`.
fn to(return_address: usize) -> impl Fn(&Instance) -> Option<Instance> {
    move |instance| (instance.return_address == return_address).then_some(*instance)
}

/// A page with room in its list.
fn page() -> Result<Arc<Page>> {
    let page = Page::new()?;
    *page.list.lock() = Some(List::with_capacity(64)?);
    Ok(page)
}

/// Adds an instance as a hit does. Returns whether it went to its bucket at once.
fn push(page: &Page, instance: Instance) -> bool {
    let is_in_bucket = page.buckets.take(instance);
    if !is_in_bucket {
        let pushed = loop {
            match page.push(instance, |_| true) {
                Pushed::Dropped(dead) => assert_eq!(dead.location, instance.location),
                pushed => break pushed,
            }
        };
        assert_eq!(pushed, Pushed::Yes);
    }
    is_in_bucket
}

/// Removes an instance that returns to `return_address`, as a hit does. Returns also whether it was
/// found in a bucket at once.
fn pop(page: &Page, location: usize, return_address: usize) -> (Option<Popped<Instance>>, bool) {
    let sole = |found| Popped {
        found,
        any_left: false,
    };
    match page.buckets.leave(location, to(return_address)) {
        Some(found) => (Some(sole(found)), true),
        None => (page.pop(location, to(return_address)), false),
    }
}

/// As [`pop`], for the instance only.
fn popped(page: &Page, location: usize, return_address: usize) -> Option<Instance> {
    Some(pop(page, location, return_address).0?.found)
}

fn page_with(instances: &[Instance]) -> Result<Arc<Page>> {
    let page = page()?;
    for instance in instances {
        push(&page, *instance);
    }
    Ok(page)
}

/// Returns whether there is no instance.
fn is_empty(page: &Page) -> bool {
    page.highest(usize::MAX, 0, |_| true).is_none()
}

#[kunit_tests(uprobes_return_page)]
mod page {
    use super::*;

    #[test]
    fn recursion_returns_in_the_reverse_order() -> Result {
        let page = page_with(&[
            instance(0x80, 1, 9),
            instance(0x60, 1, 9),
            instance(0x40, 1, 9),
        ])?;
        for location in [0x40, 0x60, 0x80] {
            assert_eq!(popped(&page, location, 1), Some(instance(location, 1, 9)));
            assert_eq!(popped(&page, location, 1), None);
        }
        Ok(())
    }

    #[test]
    fn other_sites_and_places_are_no_returns() -> Result {
        let page = page_with(&[instance(0x80, 1, 9)])?;
        assert_eq!(popped(&page, 0x80, 2), None);
        assert_eq!(popped(&page, 0x88, 1), None);
        assert_eq!(popped(&page, 0x78, 1), None);
        assert!(popped(&page, 0x80, 1).is_some());
        Ok(())
    }

    #[test]
    fn a_place_that_is_used_again_had_a_dead_frame() -> Result {
        // By another call, and by the same one.
        let page = page_with(&[
            instance(0x80, 1, 9),
            instance(0x80, 2, 9),
            instance(0x80, 2, 9),
        ])?;
        assert!(popped(&page, 0x80, 2).is_some());
        assert!(is_empty(&page));
        Ok(())
    }

    #[test]
    fn a_tail_call_shares_its_place() -> Result {
        let page = page_with(&[instance(0x80, 1, 8), instance(0x80, 1, 9)])?;
        assert_eq!(popped(&page, 0x80, 1), Some(instance(0x80, 1, 9)));
        assert_eq!(popped(&page, 0x80, 1), Some(instance(0x80, 1, 8)));
        Ok(())
    }

    #[test]
    fn what_a_dead_tail_call_led_to_is_dead() -> Result {
        let page = page_with(&[
            instance(0x80, 1, 8),
            instance(0x80, 1, 9),
            instance(0x80, 1, 8),
        ])?;
        assert_eq!(popped(&page, 0x80, 1), Some(instance(0x80, 1, 8)));
        assert_eq!(popped(&page, 0x80, 1), None);
        Ok(())
    }

    #[test]
    fn the_nearest_place_below_is_found() -> Result {
        let page = page_with(&[
            instance(0x80, 1, 8),
            instance(0x60, 1, 8),
            instance(0x40, 2, 8),
        ])?;
        assert_eq!(
            page.highest(0x78, 0x40, |instance| instance.return_address == 1),
            Some(0x60)
        );
        assert_eq!(
            page.highest(0x80, 0x40, |instance| instance.return_address == 1),
            Some(0x80)
        );
        assert_eq!(
            page.highest(0x58, 0, |instance| instance.return_address == 1),
            None
        );
        assert_eq!(
            page.highest(0x78, 0x48, |instance| instance.return_address == 2),
            None
        );
        Ok(())
    }

    #[test]
    fn frames_below_one_that_was_left_stay() -> Result {
        // Two stacks in one page: the upper one goes on while the lower one waits.
        let page = page_with(&[
            instance(0x80, 1, 8),
            instance(0x40, 2, 9),
            instance(0x60, 3, 7),
        ])?;
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
        // One in the bucket, and then those of tail calls.
        for function in 0..=capacity {
            push(&page, instance(0x80, 1, function));
        }
        let more = instance(0x80, 1, capacity + 1);
        assert!(!page.buckets.take(more));
        assert_eq!(page.push(more, |_| true), Pushed::Full);
        Ok(())
    }

    #[test]
    fn a_page_is_given_up_when_it_is_empty() -> Result {
        let page = page_with(&[instance(0x80, 1, 8), instance(0x80, 1, 9)])?;
        assert!(page.give_up().is_none());
        assert!(popped(&page, 0x80, 1).is_some());
        assert!(page.give_up().is_none());
        push(&page, instance(0x60, 1, 8));
        for location in [0x60, 0x80] {
            assert!(popped(&page, location, 1).is_some());
        }
        assert!(page.give_up().is_some());
        assert!(!page.buckets.take(instance(0x80, 1, 8)));
        assert_eq!(page.push(instance(0x80, 1, 8), |_| true), Pushed::Gone);
        assert!(page.give_up().is_none());
        Ok(())
    }

    #[test]
    fn it_is_known_whether_others_are_in_the_place() -> Result {
        let instances = [
            instance(0x80, 1, 7),
            instance(0x60, 1, 7),
            instance(0x60, 1, 8),
            instance(0x60, 1, 9),
        ];
        let page = page_with(&instances)?;
        for left in [true, true, false] {
            assert!(pop(&page, 0x60, 1)
                .0
                .is_some_and(|popped| popped.any_left == left));
        }
        assert!(pop(&page, 0x80, 1).0.is_some_and(|popped| !popped.any_left));
        Ok(())
    }

    /// A model of a page: one list, in the order of calls.
    struct Model(KVec<Instance>);

    impl Model {
        fn push(&mut self, new: Instance) -> Result {
            let mut again = false;
            self.0.retain(|old| {
                let is_here = old.location == new.location;
                again |= is_here && old.function == new.function;
                !is_here || (!again && old.return_address == new.return_address)
            });
            Ok(self.0.push(new, GFP_KERNEL)?)
        }

        fn pop(&mut self, location: usize, return_address: usize) -> Option<(Instance, bool)> {
            let is_wanted = |instance: &Instance| {
                instance.location == location && instance.return_address == return_address
            };
            let at = self.0.iter().rposition(is_wanted)?;
            let instance = self.0.remove(at).ok()?;
            Some((
                instance,
                self.0.iter().any(|left| left.location == location),
            ))
        }

        fn highest(&self) -> Option<usize> {
            self.0.iter().map(|instance| instance.location).max()
        }
    }

    #[test]
    fn buckets_and_list_do_what_one_list_would() -> Result {
        let (page, mut model) = (page()?, Model(KVec::new()));
        // Locations of one bucket, and of another one.
        let locations = [0x1010, 0x1018, collision(0x1010), 0x1020];
        let mut random = 1u64;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 33) as usize % limit
        };
        let (mut pushed, mut popped) = ([0; 2], [0; 2]);
        for _ in 0..20_000 {
            let (location, return_address, function) = (locations[below(4)], below(2), below(3));
            if below(10) < 2 {
                let new = instance(location, return_address, function);
                pushed[usize::from(push(&page, new))] += 1;
                model.push(new)?;
            } else {
                let (found, is_in_bucket) = pop(&page, location, return_address);
                popped[usize::from(is_in_bucket)] += usize::from(found.is_some());
                let found = found.map(|popped| (popped.found, popped.any_left));
                assert_eq!(found, model.pop(location, return_address));
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
