// SPDX-License-Identifier: GPL-2.0

//! The calls of a page of the stack that are noted without a lock.
//!
//! Each place has a seat, for one frame, which it shares with three other places of the page: not
//! with those at one distance, as calls of a recursive function have. Who finds it taken, by a call
//! that has not returned, has the frame noted in the page's list, which has a lock. That call
//! may be in the same place, if it has ended by a tail call.
//!
//! # The life of a seat
//!
//! ```text
//!             claimed           written, or put back
//!   FREE -----------------> BUSY ------------------> the slot of a frame
//!    ^ ^                    |  ^                         |         |
//!    | | to the list, or    |  | by the next call in it, |         |
//!    | | found dead         |  | or as it seems dead     |         |
//!    | +--------------------+  +-------------------------+         |
//!    +-------------------------------------------------------------+
//!                              it returns
//! ```
//!
//! Each step out of `FREE`, and out of a slot, is a compare-and-exchange: who comes first has done
//! it. A free seat may be claimed by anybody. A frame is taken out, or written over, by the thread
//! whose stack pointer is at its slot. `BUSY` is left by who has claimed the seat; others take it
//! for that of another place, and do not wait.
//!
//! Dead frames may be taken out by anybody, who claims the seat for that, under the list's lock:
//! the frame may turn out to be another one, which is alive and whose thread has found its seat
//! `BUSY` meanwhile. That thread then asks for the lock, and finds the frame back in the seat.
//!
//! So the fields of a frame that is looked at by the thread in its slot do not change meanwhile. If
//! a program makes two threads use one stack at the same time, they may find a frame that is mixed
//! of two: that names a function, or none, and is an event too many or too few.
//!
//! # Seats and the list
//!
//! The frames in one slot are in the order of their calls. Those in the list come after that in the
//! seat. [`Seats::others`] says how many there are in the list, of any slot: if there are any, or
//! the page has been given up, everything goes the way over the lock.

use crate::frames::Frame;

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
};
use pin_init::init_array_from_fn;

/// How many there are.
const SEATS: usize = 64;

/// Bytes of the stack for each: the ABI aligns the stack to that at calls.
const PER_SEAT: usize = 16;

/// Bytes of the stack, aligned, in which each place has a seat of its own.
#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
const REACH: usize = SEATS * PER_SEAT;

/// No slot is one of these: there are none in the first page of memory.
const FREE: usize = 0;
const BUSY: usize = 1;

/// In place of the number of others.
const CLOSED: usize = usize::MAX;

struct Seat {
    /// [`FREE`], [`BUSY`], or that of the frame.
    slot: Atomic<usize>,
    site: Atomic<usize>,
    function: Atomic<usize>,
    newest: Atomic<u64>,
}

impl Seat {
    fn new() -> Self {
        Self {
            slot: Atomic::new(FREE),
            site: Atomic::new(0),
            function: Atomic::new(0),
            newest: Atomic::new(0),
        }
    }

    /// Writes to a seat that is claimed.
    #[inline(always)]
    fn write(&self, frame: Frame) {
        self.site.store(frame.site, Relaxed);
        self.function.store(frame.function, Relaxed);
        self.newest.store(frame.newest, Relaxed);
        self.slot.store(frame.slot, Release);
    }

    /// What is noted here, for whatever slot.
    #[inline(always)]
    fn frame(&self) -> Option<Frame> {
        let slot = self.slot.load(Acquire);
        (slot > BUSY).then(|| self.frame_of(slot))
    }

    #[inline(always)]
    fn frame_of(&self, slot: usize) -> Frame {
        Frame {
            slot,
            site: self.site.load(Relaxed),
            function: self.function.load(Relaxed),
            newest: self.newest.load(Relaxed),
        }
    }

    /// Goes from one state to another one. Returns whether it was in the first.
    #[inline(always)]
    fn step(&self, from: usize, to: usize) -> bool {
        self.slot.cmpxchg(from, to, Full).is_ok()
    }
}

/// The seats of a page.
pub(crate) struct Seats {
    seats: KBox<[Seat; SEATS]>,
    /// How many frames are in the list of the page; or [`CLOSED`]. Changed under the list's lock.
    others: Atomic<usize>,
}

impl Seats {
    pub(crate) fn new() -> Result<Self> {
        let seats = init_array_from_fn(|_| Ok::<_, Error>(Seat::new()));
        Ok(Self {
            seats: KBox::init(seats, GFP_KERNEL)?,
            others: Atomic::new(0),
        })
    }

    #[inline(always)]
    fn seat(&self, slot: usize) -> &Seat {
        // In the next 1024 bytes the order of seats is another one: frames of 64 bytes, and of
        // larger powers of two, all have seats of their own.
        &self.seats[(slot ^ slot / SEATS) / PER_SEAT % SEATS]
    }

    /// Notes a frame, if its seat is free and nothing is in the list. Returns whether it has.
    #[inline(always)]
    pub(crate) fn take(&self, frame: Frame) -> bool {
        let seat = self.seat(frame.slot);
        if !seat.step(FREE, BUSY) {
            return false;
        }
        // Asked after the claim: who closes the page looks for those after saying so.
        if self.others.load(Relaxed) != 0 {
            seat.slot.store(FREE, Release);
            return false;
        }
        seat.write(frame);
        true
    }

    /// Takes out the frame in a slot, if `returns` finds something for it and nothing is in the
    /// list.
    #[inline(always)]
    pub(crate) fn leave<R>(
        &self,
        slot: usize,
        returns: impl FnOnce(&Frame) -> Option<R>,
    ) -> Option<R> {
        // As `take_out`, in the order in which this takes the fewest instructions.
        let seat = self.seat(slot);
        if seat.slot.load(Acquire) != slot || self.others.load(Relaxed) != 0 {
            return None;
        }
        let found = returns(&seat.frame_of(slot))?;
        seat.step(slot, FREE).then_some(found)
    }

    // What follows is for the way over the list, whose lock is held where nothing else is said.

    /// Says how many frames are in the list.
    pub(crate) fn set_others(&self, count: usize) {
        self.others.store(count, Relaxed);
    }

    /// The frame in a slot.
    pub(crate) fn at(&self, slot: usize) -> Option<Frame> {
        let seat = self.seat(slot);
        (seat.slot.load(Acquire) == slot).then(|| seat.frame_of(slot))
    }

    /// Notes a frame, where the seat is free or holds a dead one in the same slot. Returns whether
    /// it has.
    pub(crate) fn put(&self, frame: Frame) -> bool {
        let seat = self.seat(frame.slot);
        let is_claimed = seat.step(FREE, BUSY) || seat.step(frame.slot, BUSY);
        if is_claimed {
            seat.write(frame);
        }
        is_claimed
    }

    /// Takes out the frame in a slot, if `returns` finds something for it.
    pub(crate) fn take_out<R>(
        &self,
        slot: usize,
        returns: impl FnOnce(&Frame) -> Option<R>,
    ) -> Option<R> {
        let found = returns(&self.at(slot)?)?;
        self.seat(slot).step(slot, FREE).then_some(found)
    }

    /// The highest slot at or below `top`, but not below `lowest`, of a frame that `returns` holds
    /// for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Frame) -> bool,
    ) -> Option<usize> {
        self.frames()
            .filter(|frame| (lowest..=top).contains(&frame.slot) && returns(frame))
            .map(|frame| frame.slot)
            .max()
    }

    /// What is noted, with the lock held or not.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        self.seats.iter().filter_map(Seat::frame)
    }

    /// The frame that keeps the seat of `slot` from that place, with the lock held or not.
    pub(crate) fn in_the_way(&self, slot: usize) -> Option<Frame> {
        let frame = self.seat(slot).frame();
        frame.filter(|frame| frame.slot != slot)
    }

    /// Takes out a frame that was dead without the lock, if it has not changed and `is_alive` does
    /// not hold by now.
    pub(crate) fn drop_dead(&self, dead: &Frame, is_alive: impl FnOnce(&Frame) -> bool) {
        let seat = self.seat(dead.slot);
        if !seat.step(dead.slot, BUSY) {
            return;
        }
        let is_dead = seat.frame_of(dead.slot) == *dead && !is_alive(dead);
        let next = if is_dead { FREE } else { dead.slot };
        seat.slot.store(next, Release);
    }

    /// Sees to it that no seat is taken any more, if all are free. Returns whether they are.
    pub(crate) fn close(&self) -> bool {
        // Who claims one meanwhile either finds this, or is found.
        self.others.xchg(CLOSED, Full);
        let is_free = |seat: &Seat| seat.slot.load(Relaxed) == FREE;
        let are_free = self.seats.iter().all(is_free);
        if !are_free {
            self.set_others(0);
        }
        are_free
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "seats_test.rs"]
pub(crate) mod tests;
