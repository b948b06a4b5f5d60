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

/// Returns a function that accepts instances that return to `return_address`.
fn to(return_address: usize) -> impl Fn(&Instance) -> Option<Instance> {
    move |instance| (instance.return_address == return_address).then_some(*instance)
}

/// Returns a page with room in its list.
fn page() -> Result<Arc<Page>> {
    let page = Page::new()?;
    *page.list.lock() = Some(List::with_capacity(64)?);
    Ok(page)
}

/// Adds an instance as a hit does. Returns whether the instance went to its bucket without the
/// lock.
fn push(page: &Page, instance: Instance) -> bool {
    let is_in_bucket = page.buckets.insert_lockless(instance);
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

/// Removes an instance that returns to `return_address`, as a hit does. Also returns whether the
/// instance was in its bucket, and no lock was taken.
fn pop(page: &Page, location: usize, return_address: usize) -> (Option<Popped<Instance>>, bool) {
    let only = |found| Popped {
        found,
        any_left: false,
    };
    match page.buckets.remove_lockless(location, to(return_address)) {
        Some(found) => (Some(only(found)), true),
        None => (page.pop(location, to(return_address)), false),
    }
}

/// Does the same as [`pop`], and returns only the instance.
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

/// Returns whether the page has no instance.
fn is_empty(page: &Page) -> bool {
    page.highest(usize::MAX, 0, |_| true).is_none()
}

#[kunit_tests(uprobes_return_page)]
mod page {
    use super::*;

    #[test]
    fn recursion_returns_in_reverse_order() -> Result {
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
    fn ignores_other_addresses() -> Result {
        let page = page_with(&[instance(0x80, 1, 9)])?;
        assert_eq!(popped(&page, 0x80, 2), None);
        assert_eq!(popped(&page, 0x88, 1), None);
        assert_eq!(popped(&page, 0x78, 1), None);
        assert!(popped(&page, 0x80, 1).is_some());
        Ok(())
    }

    #[test]
    fn reused_location_drops_dead_instance() -> Result {
        // A call with another return address reuses the location, and then the same call again.
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
    fn tail_call_shares_location() -> Result {
        let page = page_with(&[instance(0x80, 1, 8), instance(0x80, 1, 9)])?;
        assert_eq!(popped(&page, 0x80, 1), Some(instance(0x80, 1, 9)));
        assert_eq!(popped(&page, 0x80, 1), Some(instance(0x80, 1, 8)));
        Ok(())
    }

    #[test]
    fn dead_tail_call_drops_its_callees() -> Result {
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
    fn highest_below_top() -> Result {
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
    fn keeps_instances_below_skipped_one() -> Result {
        // Two stacks share the page: the upper one continues while the lower one waits.
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
    fn full_list() -> Result {
        let page = page()?;
        let capacity = page
            .list
            .lock()
            .as_ref()
            .map_or(0, |list| list.0.capacity());
        // The first one is in the bucket, and the tail calls from it are in the list.
        for function in 0..=capacity {
            push(&page, instance(0x80, 1, function));
        }
        let more = instance(0x80, 1, capacity + 1);
        assert!(!page.buckets.insert_lockless(more));
        assert_eq!(page.push(more, |_| true), Pushed::Full);
        Ok(())
    }

    #[test]
    fn gives_up_empty_page() -> Result {
        let page = page_with(&[instance(0x80, 1, 8), instance(0x80, 1, 9)])?;
        assert!(page.give_up().is_none());
        assert!(popped(&page, 0x80, 1).is_some());
        assert!(page.give_up().is_none());
        push(&page, instance(0x60, 1, 8));
        for location in [0x60, 0x80] {
            assert!(popped(&page, location, 1).is_some());
        }
        assert!(page.give_up().is_some());
        assert!(!page.buckets.insert_lockless(instance(0x80, 1, 8)));
        assert_eq!(page.push(instance(0x80, 1, 8), |_| true), Pushed::Gone);
        assert!(page.give_up().is_none());
        Ok(())
    }

    #[test]
    fn pop_reports_instances_left() -> Result {
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
    fn buckets_and_list_match_model() -> Result {
        let (page, mut model) = (page()?, Model(KVec::new()));
        // Three locations of one bucket, and one of another bucket.
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
