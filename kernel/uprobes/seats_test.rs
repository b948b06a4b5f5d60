// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the seats of a page.

use super::*;

use kernel::page::PAGE_SIZE;

const SLOT: usize = 0x7000;

fn frame(slot: usize, function: usize) -> Frame {
    Frame {
        slot,
        site: 1,
        function,
        newest: 3,
    }
}

/// Another place of the same page with the same seat.
pub(crate) const fn rival(slot: usize) -> usize {
    slot ^ (REACH | PER_SEAT)
}

/// Every frame is wanted.
fn any(frame: &Frame) -> Option<Frame> {
    Some(*frame)
}

#[kunit_tests(uprobes_seats)]
mod seats {
    use super::*;

    #[test]
    fn what_is_noted_is_found_once() -> Result {
        let seats = Seats::new()?;
        assert!(seats.take(frame(SLOT, 9)));
        assert_eq!(seats.at(SLOT), Some(frame(SLOT, 9)));
        assert_eq!(seats.leave(SLOT, |_| None::<()>), None);
        assert_eq!(seats.leave(SLOT, any), Some(frame(SLOT, 9)));
        assert_eq!(seats.leave(SLOT, any), None);
        assert_eq!(seats.at(SLOT), None);
        Ok(())
    }

    #[test]
    fn all_places_of_the_reach_have_seats_of_their_own() -> Result {
        let seats = Seats::new()?;
        for slot in (SLOT..SLOT + REACH).step_by(PER_SEAT) {
            assert!(seats.take(frame(slot, 9)));
        }
        for slot in (SLOT..SLOT + REACH).step_by(PER_SEAT) {
            assert!(!seats.take(frame(rival(slot), 9)));
            assert_eq!(seats.leave(rival(slot), any), None);
            assert_eq!(seats.leave(slot, any), Some(frame(slot, 9)));
        }
        Ok(())
    }

    #[test]
    fn frames_of_a_power_of_two_have_seats_of_their_own() -> Result {
        for size in [64, 128, 256] {
            let seats = Seats::new()?;
            for slot in (SLOT + 8..SLOT + PAGE_SIZE).step_by(size).rev() {
                assert!(seats.take(frame(slot, 9)));
            }
        }
        Ok(())
    }

    #[test]
    fn others_are_asked_for_first() -> Result {
        let seats = Seats::new()?;
        assert!(seats.take(frame(SLOT, 9)));
        seats.set_others(1);
        assert_eq!(seats.leave(SLOT, any), None);
        assert!(!seats.take(frame(SLOT + PER_SEAT, 9)));
        seats.set_others(0);
        assert!(seats.take(frame(SLOT + PER_SEAT, 9)));
        assert_eq!(seats.leave(SLOT, any), Some(frame(SLOT, 9)));
        Ok(())
    }

    #[test]
    fn a_claimed_seat_is_of_another_place_and_keeps_the_page() -> Result {
        let seats = Seats::new()?;
        assert!(seats.seat(SLOT).step(FREE, BUSY));
        for slot in [SLOT, rival(SLOT)] {
            assert!(!seats.take(frame(slot, 9)));
            assert!(!seats.put(frame(slot, 9)));
            assert_eq!(seats.at(slot), None);
            assert_eq!(seats.leave(slot, any), None);
        }
        seats.drop_dead(&frame(SLOT, 9), |_| false);
        assert!(!seats.close());
        seats.seat(SLOT).write(frame(SLOT, 9));
        assert!(!seats.close());
        assert_eq!(seats.leave(SLOT, any), Some(frame(SLOT, 9)));
        assert!(seats.close());
        assert!(!seats.take(frame(SLOT, 9)));
        // What was claimed for that is free again.
        assert_eq!(seats.seat(SLOT).slot.load(Relaxed), FREE);
        Ok(())
    }

    #[test]
    fn a_frame_is_written_over_in_its_own_slot_only() -> Result {
        let seats = Seats::new()?;
        assert!(seats.put(frame(SLOT, 9)));
        assert!(!seats.take(frame(SLOT, 8)));
        assert!(!seats.put(frame(rival(SLOT), 8)));
        assert!(seats.put(frame(SLOT, 8)));
        assert_eq!(seats.take_out(SLOT, any), Some(frame(SLOT, 8)));
        Ok(())
    }

    #[test]
    fn the_dead_make_room() -> Result {
        let seats = Seats::new()?;
        assert!(seats.take(frame(SLOT, 9)));
        assert_eq!(seats.in_the_way(SLOT), None);
        assert_eq!(seats.in_the_way(rival(SLOT)), Some(frame(SLOT, 9)));
        seats.drop_dead(&frame(SLOT, 9), |_| false);
        assert_eq!(seats.in_the_way(rival(SLOT)), None);
        assert!(seats.take(frame(rival(SLOT), 9)));
        Ok(())
    }

    #[test]
    fn what_is_not_dead_any_more_stays() -> Result {
        let seats = Seats::new()?;
        let dead = frame(SLOT, 9);
        // It has gone, and its seat is that of another place, or of another call.
        seats.drop_dead(&dead, |_| false);
        for other in [frame(rival(SLOT), 9), frame(SLOT, 8)] {
            assert!(seats.take(other));
            seats.drop_dead(&dead, |_| false);
            assert_eq!(seats.leave(other.slot, any), Some(other));
        }
        // The same call again.
        assert!(seats.take(dead));
        seats.drop_dead(&dead, |_| {
            assert_eq!(seats.leave(SLOT, any), None);
            true
        });
        assert_eq!(seats.leave(SLOT, any), Some(dead));
        Ok(())
    }

    #[test]
    fn the_highest_is_found_where_it_is_looked_for() -> Result {
        let seats = Seats::new()?;
        for function in [7, 8, 9] {
            assert!(seats.take(frame(SLOT + function * PER_SEAT, function)));
        }
        let at = |function| Some(SLOT + function * PER_SEAT);
        assert_eq!(seats.highest(usize::MAX, 0, |_| true), at(9));
        let is_even = |frame: &Frame| frame.function % 2 == 0;
        assert_eq!(seats.highest(usize::MAX, 0, is_even), at(8));
        assert_eq!(seats.highest(SLOT + 7 * PER_SEAT, SLOT, |_| true), at(7));
        assert_eq!(seats.highest(SLOT + 6 * PER_SEAT, 0, |_| true), None);
        Ok(())
    }
}
