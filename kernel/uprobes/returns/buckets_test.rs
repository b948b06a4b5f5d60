// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the buckets of a page.

use super::*;

use kernel::page::PAGE_SIZE;

const SLOT: usize = 0x7000;

fn instance(location: usize, function: usize) -> Instance {
    Instance {
        location,
        return_address: 1,
        function,
        caller: Caller::from_raw(3),
    }
}

/// Another location in the same page with the same bucket.
pub(crate) const fn collision(location: usize) -> usize {
    location ^ (REACH | BYTES_A_BUCKET)
}

/// Every instance is wanted.
fn any(instance: &Instance) -> Option<Instance> {
    Some(*instance)
}

#[kunit_tests(uprobes_return_buckets)]
mod buckets {
    use super::*;

    #[test]
    fn what_is_noted_is_found_once() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.take(instance(SLOT, 9)));
        assert_eq!(buckets.at(SLOT), Some(instance(SLOT, 9)));
        assert_eq!(buckets.leave(SLOT, |_| None::<()>), None);
        assert_eq!(buckets.leave(SLOT, any), Some(instance(SLOT, 9)));
        assert_eq!(buckets.leave(SLOT, any), None);
        assert_eq!(buckets.at(SLOT), None);
        Ok(())
    }

    #[test]
    fn all_places_of_the_reach_have_seats_of_their_own() -> Result {
        let buckets = Buckets::new()?;
        for location in (SLOT..SLOT + REACH).step_by(BYTES_A_BUCKET) {
            assert!(buckets.take(instance(location, 9)));
        }
        for location in (SLOT..SLOT + REACH).step_by(BYTES_A_BUCKET) {
            assert!(!buckets.take(instance(collision(location), 9)));
            assert_eq!(buckets.leave(collision(location), any), None);
            assert_eq!(buckets.leave(location, any), Some(instance(location, 9)));
        }
        Ok(())
    }

    #[test]
    fn frames_of_a_power_of_two_have_seats_of_their_own() -> Result {
        for size in [64, 128, 256] {
            let buckets = Buckets::new()?;
            for location in (SLOT + 8..SLOT + PAGE_SIZE).step_by(size).rev() {
                assert!(buckets.take(instance(location, 9)));
            }
        }
        Ok(())
    }

    #[test]
    fn others_are_asked_for_first() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.take(instance(SLOT, 9)));
        buckets.set_others(1);
        assert_eq!(buckets.leave(SLOT, any), None);
        assert!(!buckets.take(instance(SLOT + BYTES_A_BUCKET, 9)));
        buckets.set_others(0);
        assert!(buckets.take(instance(SLOT + BYTES_A_BUCKET, 9)));
        assert_eq!(buckets.leave(SLOT, any), Some(instance(SLOT, 9)));
        Ok(())
    }

    #[test]
    fn a_claimed_seat_is_of_another_place_and_keeps_the_page() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.bucket(SLOT).step(FREE, BUSY));
        for location in [SLOT, collision(SLOT)] {
            assert!(!buckets.take(instance(location, 9)));
            assert!(!buckets.put(instance(location, 9)));
            assert_eq!(buckets.at(location), None);
            assert_eq!(buckets.leave(location, any), None);
        }
        buckets.drop_dead(&instance(SLOT, 9), |_| false);
        assert!(!buckets.close());
        buckets.bucket(SLOT).write(instance(SLOT, 9));
        assert!(!buckets.close());
        assert_eq!(buckets.leave(SLOT, any), Some(instance(SLOT, 9)));
        assert!(buckets.close());
        assert!(!buckets.take(instance(SLOT, 9)));
        // The claimed bucket is free again.
        assert_eq!(buckets.bucket(SLOT).location.load(Relaxed), FREE);
        Ok(())
    }

    #[test]
    fn a_frame_is_written_over_in_its_own_slot_only() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.put(instance(SLOT, 9)));
        assert!(!buckets.take(instance(SLOT, 8)));
        assert!(!buckets.put(instance(collision(SLOT), 8)));
        assert!(buckets.put(instance(SLOT, 8)));
        assert_eq!(buckets.take_out(SLOT, any), Some(instance(SLOT, 8)));
        Ok(())
    }

    #[test]
    fn the_dead_make_room() -> Result {
        let buckets = Buckets::new()?;
        assert!(buckets.take(instance(SLOT, 9)));
        assert_eq!(buckets.in_the_way(SLOT), None);
        assert_eq!(buckets.in_the_way(collision(SLOT)), Some(instance(SLOT, 9)));
        buckets.drop_dead(&instance(SLOT, 9), |_| false);
        assert_eq!(buckets.in_the_way(collision(SLOT)), None);
        assert!(buckets.take(instance(collision(SLOT), 9)));
        Ok(())
    }

    #[test]
    fn what_is_not_dead_any_more_stays() -> Result {
        let buckets = Buckets::new()?;
        let dead = instance(SLOT, 9);
        // The instance is gone, and its bucket has one of another location, or of another call.
        buckets.drop_dead(&dead, |_| false);
        for other in [instance(collision(SLOT), 9), instance(SLOT, 8)] {
            assert!(buckets.take(other));
            buckets.drop_dead(&dead, |_| false);
            assert_eq!(buckets.leave(other.location, any), Some(other));
        }
        // The same call again.
        assert!(buckets.take(dead));
        buckets.drop_dead(&dead, |_| {
            assert_eq!(buckets.leave(SLOT, any), None);
            true
        });
        assert_eq!(buckets.leave(SLOT, any), Some(dead));
        Ok(())
    }

    #[test]
    fn the_highest_is_found_where_it_is_looked_for() -> Result {
        let buckets = Buckets::new()?;
        for function in [7, 8, 9] {
            assert!(buckets.take(instance(SLOT + function * BYTES_A_BUCKET, function)));
        }
        let at = |function| Some(SLOT + function * BYTES_A_BUCKET);
        assert_eq!(buckets.highest(usize::MAX, 0, |_| true), at(9));
        let is_even = |instance: &Instance| instance.function % 2 == 0;
        assert_eq!(buckets.highest(usize::MAX, 0, is_even), at(8));
        assert_eq!(
            buckets.highest(SLOT + 7 * BYTES_A_BUCKET, SLOT, |_| true),
            at(7)
        );
        assert_eq!(
            buckets.highest(SLOT + 6 * BYTES_A_BUCKET, 0, |_| true),
            None
        );
        Ok(())
    }
}
