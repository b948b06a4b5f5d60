// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the buckets of a page.

use super::*;

use kernel::page::PAGE_SIZE;

const STACK: usize = 0x7000;

fn instance(location: usize, function: usize) -> Instance {
    Instance {
        location,
        return_address: 1,
        function,
        caller: Caller::from_raw(3),
    }
}

/// Returns another location in the page that shares the bucket.
pub(crate) const fn collision(location: usize) -> usize {
    location ^ (REACH | BYTES_A_BUCKET)
}

/// Accepts every instance.
fn any(instance: &Instance) -> Option<Instance> {
    Some(*instance)
}

#[kunit_tests(uprobes_return_buckets)]
mod buckets {
    use super::*;

    #[test]
    fn finds_instance_once() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.insert_lockless(instance(STACK, 9)));
        assert_eq!(buckets.at(STACK), Some(instance(STACK, 9)));
        assert_eq!(buckets.remove_lockless(STACK, |_| None::<()>), None);
        assert_eq!(
            buckets.remove_lockless(STACK, any),
            Some(instance(STACK, 9))
        );
        assert_eq!(buckets.remove_lockless(STACK, any), None);
        assert_eq!(buckets.at(STACK), None);
        Ok(())
    }

    #[test]
    fn addresses_in_reach_do_not_collide() -> Result {
        let buckets = Buckets::new()?;
        for location in (STACK..STACK + REACH).step_by(BYTES_A_BUCKET) {
            assert!(buckets.insert_lockless(instance(location, 9)));
        }
        for location in (STACK..STACK + REACH).step_by(BYTES_A_BUCKET) {
            assert!(!buckets.insert_lockless(instance(collision(location), 9)));
            assert_eq!(buckets.remove_lockless(collision(location), any), None);
            assert_eq!(
                buckets.remove_lockless(location, any),
                Some(instance(location, 9))
            );
        }
        Ok(())
    }

    #[test]
    fn power_of_two_distances_do_not_collide() -> Result {
        for size in [64, 128, 256] {
            let buckets = Buckets::new()?;
            for location in (STACK + 8..STACK + PAGE_SIZE).step_by(size).rev() {
                assert!(buckets.insert_lockless(instance(location, 9)));
            }
        }
        Ok(())
    }

    #[test]
    fn list_disables_lockless_access() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.insert_lockless(instance(STACK, 9)));
        buckets.set_list_len(1);
        assert_eq!(buckets.remove_lockless(STACK, any), None);
        assert!(!buckets.insert_lockless(instance(STACK + BYTES_A_BUCKET, 9)));
        buckets.set_list_len(0);
        assert!(buckets.insert_lockless(instance(STACK + BYTES_A_BUCKET, 9)));
        assert_eq!(
            buckets.remove_lockless(STACK, any),
            Some(instance(STACK, 9))
        );
        Ok(())
    }

    #[test]
    fn busy_bucket_blocks_use_and_close() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.bucket(STACK).transition(FREE, BUSY));
        for location in [STACK, collision(STACK)] {
            assert!(!buckets.insert_lockless(instance(location, 9)));
            assert!(!buckets.insert(instance(location, 9)));
            assert_eq!(buckets.at(location), None);
            assert_eq!(buckets.remove_lockless(location, any), None);
        }
        buckets.drop_dead(&instance(STACK, 9), |_| false);
        assert!(!buckets.close());
        buckets.bucket(STACK).write(instance(STACK, 9));
        assert!(!buckets.close());
        assert_eq!(
            buckets.remove_lockless(STACK, any),
            Some(instance(STACK, 9))
        );
        assert!(buckets.close());
        assert!(!buckets.insert_lockless(instance(STACK, 9)));
        // The bucket that `insert_lockless` claimed is free again.
        assert_eq!(buckets.bucket(STACK).location.load(Relaxed), FREE);
        Ok(())
    }

    #[test]
    fn put_replaces_same_location_only() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.insert(instance(STACK, 9)));
        assert!(!buckets.insert_lockless(instance(STACK, 8)));
        assert!(!buckets.insert(instance(collision(STACK), 8)));
        assert!(buckets.insert(instance(STACK, 8)));
        assert_eq!(buckets.remove(STACK, any), Some(instance(STACK, 8)));
        Ok(())
    }

    #[test]
    fn drop_dead_frees_bucket() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.insert_lockless(instance(STACK, 9)));
        assert_eq!(buckets.collision(STACK), None);
        assert_eq!(
            buckets.collision(collision(STACK)),
            Some(instance(STACK, 9))
        );
        buckets.drop_dead(&instance(STACK, 9), |_| false);
        assert_eq!(buckets.collision(collision(STACK)), None);
        assert!(buckets.insert_lockless(instance(collision(STACK), 9)));
        Ok(())
    }

    #[test]
    fn drop_dead_keeps_live_instance() -> Result {
        let buckets = Buckets::new()?;
        let dead = instance(STACK, 9);
        // The bucket now has an instance of another location, or of another call.
        buckets.drop_dead(&dead, |_| false);
        for other in [instance(collision(STACK), 9), instance(STACK, 8)] {
            assert!(buckets.insert_lockless(other));
            buckets.drop_dead(&dead, |_| false);
            assert_eq!(buckets.remove_lockless(other.location, any), Some(other));
        }
        // The instance turns out to be alive.
        assert!(buckets.insert_lockless(dead));
        buckets.drop_dead(&dead, |_| {
            assert_eq!(buckets.remove_lockless(STACK, any), None);
            true
        });
        assert_eq!(buckets.remove_lockless(STACK, any), Some(dead));
        Ok(())
    }

    #[test]
    fn highest_in_range() -> Result {
        let buckets = Buckets::new()?;
        for function in [7, 8, 9] {
            assert!(buckets.insert_lockless(instance(STACK + function * BYTES_A_BUCKET, function)));
        }
        let at = |function| Some(STACK + function * BYTES_A_BUCKET);
        assert_eq!(buckets.highest(usize::MAX, 0, |_| true), at(9));
        let is_even = |instance: &Instance| instance.function % 2 == 0;
        assert_eq!(buckets.highest(usize::MAX, 0, is_even), at(8));
        assert_eq!(
            buckets.highest(STACK + 7 * BYTES_A_BUCKET, STACK, |_| true),
            at(7)
        );
        assert_eq!(
            buckets.highest(STACK + 6 * BYTES_A_BUCKET, 0, |_| true),
            None
        );
        Ok(())
    }
}
