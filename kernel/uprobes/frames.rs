// SPDX-License-Identifier: GPL-2.0

//! Calls of probed functions that have not returned, by where on the stack their return address is.
//!
//! No two calls that have not returned have their return addresses in the same place, whatever
//! threads or coroutines they are made in, except for those that end in a tail call. So a place is
//! all that has to be known of a call.
//!
//! # Data model
//!
//! A [`Page`] is what is noted of the calls whose return addresses are in one page of the process's
//! memory. Mostly a call is noted in a [seat](crate::seats), without a lock. Those that find none
//! are in a list. As a stack is used by one thread at a time, so are the page and the cache lines
//! that it is in; but for stacks that are smaller than a page.
//!
//! Frames that are dead, as nothing returned from them, go when their place is used again, when
//! another one wants the seat, or when the list is full: those are dropped whose place holds
//! something else by now. Pages without a frame that may be alive are given up when there have come
//! to be twice as many as there were when this was done last.
//!
//! # Locks
//!
//! 1. `Frames::pages_limit`, a mutex, is held while pages are given up.
//! 2. `Page::list`, a spinlock; nothing is allocated or freed under it, and user memory is looked
//!    at without faults only.

use crate::{
    returns::{
        is_seen_alive,
        may_be_alive, //
    },
    seats::Seats,
    BUILT_IN, //
};

use core::ops::Range;

use kernel::{
    new_mutex, new_spinlock,
    page::{
        PAGE_MASK,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::{
            self,
            Guard,
            Map, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
};

/// A call that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where the return address is.
    pub(crate) slot: usize,
    /// The return address.
    pub(crate) site: usize,
    /// What has been called.
    pub(crate) function: usize,
    /// The newest of the return probes that are to be told.
    pub(crate) newest: u64,
}

/// How many frames there is room for in a page's list, once there are any.
const FIRST: usize = 8;

/// How many there can be: one in each word, and as many again by tail calls.
const MOST: usize = 2 * PAGE_SIZE / 4;

/// How many pages there are before any is given up.
const PAGES: usize = 256;

/// What was found for a frame, which has been taken out.
pub(crate) struct Popped<R> {
    pub(crate) found: R,
    /// Whether there are others in the same place.
    pub(crate) any_left: bool,
}

/// Frames of a page, in the order of falling slots, and then of time.
struct List(KVec<Frame>);

/// What came of an attempt to note a frame.
#[derive(Debug, PartialEq, Eq)]
enum Pushed {
    Yes,
    Full,
    /// The page has been given up.
    Gone,
}

impl List {
    fn with_capacity(capacity: usize) -> Result<Self> {
        Ok(Self(KVec::with_capacity(capacity, GFP_KERNEL)?))
    }

    /// Returns where the first frame is that is not above `slot`.
    #[inline]
    fn position(&self, slot: usize) -> usize {
        // Mostly it is the last one.
        match self.0.last() {
            Some(last) if last.slot > slot => self.0.len(),
            Some(_) => self.0.partition_point(|frame| frame.slot > slot),
            None => 0,
        }
    }

    /// Drops those in the place of a new frame that are dead: all but such that have led to it by
    /// tail calls, which return to the same address, and it has not been among them, nor `again`
    /// before them. Returns which of those in the place are left.
    fn drop_before(&mut self, new: &Frame, mut again: bool) -> Range<usize> {
        let first = self.position(new.slot);
        let mut at = first;
        while let Some(old) = self.0.get(at).filter(|old| old.slot == new.slot) {
            again |= old.function == new.function;
            if again || old.site != new.site {
                let _ = self.0.remove(at);
            } else {
                at += 1;
            }
        }
        first..at
    }

    /// The frames in a place.
    fn at(&self, slot: usize) -> impl Iterator<Item = &Frame> + '_ {
        let below = self.0.iter().skip(self.position(slot));
        below.take_while(move |frame| frame.slot == slot)
    }

    /// Takes out the newest frame in a place that `returns` finds something for.
    fn pop<R>(&mut self, slot: usize, returns: impl Fn(&Frame) -> Option<R>) -> Option<Popped<R>> {
        let first = self.position(slot);
        let mut at = first;
        let mut newest = None;
        while let Some(frame) = self.0.get(at).filter(|frame| frame.slot == slot) {
            if let Some(found) = returns(frame) {
                newest = Some((at, found));
            }
            at += 1;
        }
        let (index, found) = newest?;
        self.0.remove(index).ok()?;
        Some(Popped {
            found,
            any_left: at - first > 1,
        })
    }

    /// The highest place at or below `top`, but not below `lowest`, of a frame that `returns` holds
    /// for.
    fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Frame) -> bool,
    ) -> Option<usize> {
        let below = self.0.get(self.position(top)..)?;
        below
            .iter()
            .take_while(|frame| frame.slot >= lowest)
            .find(|frame| returns(frame))
            .map(|frame| frame.slot)
    }
}

/// The frames in one page of memory.
#[pin_data]
struct Page {
    seats: Seats,
    /// Those that have no seat; nothing once the page has been given up.
    #[pin]
    list: SpinLock<Option<List>>,
}

impl Page {
    fn new() -> Result<Arc<Self>> {
        let seats = Seats::new()?;
        let list = List(KVec::new());
        Arc::pin_init(
            pin_init!(Self {
                seats,
                list <- new_spinlock!(Some(list)),
            }),
            GFP_KERNEL,
        )
    }

    /// Notes a frame, in its seat or in the list. May sleep.
    fn push(&self, new: Frame, is_alive: impl Fn(&Frame) -> bool) -> Pushed {
        let in_the_way = self.seats.in_the_way(new.slot);
        let dead = in_the_way.filter(|frame| !is_alive(frame));
        let mut list = self.list.lock();
        let Some(list) = &mut *list else {
            return Pushed::Gone;
        };
        if let Some(dead) = dead {
            self.seats.drop_dead(&dead, is_seen_alive);
        }
        let pushed = self.push_locked(list, new);
        self.seats.set_others(list.0.len());
        pushed
    }

    fn push_locked(&self, list: &mut List, new: Frame) -> Pushed {
        let seated = self.seats.at(new.slot);
        let again = seated.is_some_and(|old| old.function == new.function);
        let is_dead = again || seated.is_some_and(|old| old.site != new.site);
        let before = list.drop_before(&new, again);
        if before.is_empty() && (seated.is_none() || is_dead) && self.seats.put(new) {
            return Pushed::Yes;
        }
        if is_dead {
            let _ = self.seats.take_out(new.slot, |_| Some(()));
        }
        match list.0.insert_within_capacity(before.end, new) {
            Ok(()) => Pushed::Yes,
            Err(_) => Pushed::Full,
        }
    }

    /// Takes out the newest frame in a place that `returns` finds something for.
    fn pop<R>(&self, slot: usize, returns: impl Fn(&Frame) -> Option<R>) -> Option<Popped<R>> {
        if let Some(found) = self.seats.leave(slot, &returns) {
            return Some(Popped {
                found,
                any_left: false,
            });
        }
        let mut list = self.list.lock();
        let list = (*list).as_mut()?;
        let Some(mut popped) = list.pop(slot, &returns) else {
            return Some(Popped {
                found: self.seats.take_out(slot, returns)?,
                any_left: list.at(slot).next().is_some(),
            });
        };
        popped.any_left |= self.seats.at(slot).is_some();
        self.seats.set_others(list.0.len());
        Some(popped)
    }

    fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Frame) -> bool,
    ) -> Option<usize> {
        let seated = self.seats.highest(top, lowest, &returns);
        let list = self.list.lock();
        seated.max(list.as_ref()?.highest(top, lowest, returns))
    }

    /// Drops the frames that are dead. Returns how many are left in the list. May sleep.
    fn drop_dead(&self) -> Result<usize> {
        let seated = self.seats.frames().filter(|frame| !may_be_alive(frame));
        for dead in seated {
            let _list = self.list.lock();
            self.seats.drop_dead(&dead, is_seen_alive);
        }
        let count = self.list.lock().as_ref().map_or(0, |list| list.0.len());
        let mut dead = List::with_capacity(count)?;
        if let Some(list) = &*self.list.lock() {
            for frame in list.0.iter().take(count) {
                let _ = dead.0.push_within_capacity(*frame);
            }
        }
        dead.0.retain(|frame| !may_be_alive(frame));
        let mut list = self.list.lock();
        let Some(list) = &mut *list else {
            return Ok(0);
        };
        // The same call may have been made again meanwhile.
        let is_dead = |frame: &Frame| dead.at(frame.slot).any(|dead| dead == frame);
        (list.0).retain(|frame| !is_dead(frame) || is_seen_alive(frame));
        self.seats.set_others(list.0.len());
        Ok(list.0.len())
    }

    /// Makes room in the list.
    #[cold]
    fn make_room(&self) -> Result {
        let left = self.drop_dead()?;
        if left >= MOST {
            return Err(ENOMEM);
        }
        let mut larger = Some(List::with_capacity((2 * left).clamp(FIRST, MOST))?);
        let mut now = self.list.lock();
        let (Some(list), Some(to)) = (&*now, &mut larger) else {
            return Ok(());
        };
        // Others may have come meanwhile.
        if to.0.capacity() > list.0.len() {
            for frame in &list.0 {
                let _ = to.0.push_within_capacity(*frame);
            }
            core::mem::swap(&mut *now, &mut larger);
        }
        // What is not needed any more is freed without the lock.
        drop(now);
        drop(larger);
        Ok(())
    }

    /// Gives the page up if it is empty. Returns whether it was.
    fn give_up(&self) -> bool {
        let mut list = self.list.lock();
        let is_empty = list.as_ref().is_some_and(|list| list.0.is_empty());
        let gone = if is_empty && self.seats.close() {
            list.take()
        } else {
            None
        };
        drop(list);
        gone.is_some()
    }
}

/// The calls that have not returned, of one process.
#[pin_data]
pub(crate) struct Frames {
    /// By the number of the page.
    #[pin]
    pages: Map<Arc<Page>>,
    count: Atomic<i64>,
    /// At how many pages some are to be given up.
    #[pin]
    pages_limit: Mutex<usize>,
}

impl Frames {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            pages <- Map::new(BUILT_IN),
            count: Atomic::new(0),
            pages_limit <- new_mutex!(PAGES),
        })
    }

    #[inline]
    fn number(slot: usize) -> usize {
        (slot & PAGE_MASK) / PAGE_SIZE
    }

    #[inline(always)]
    fn page_of<'a>(&'a self, slot: usize, guard: &'a Guard) -> Option<&'a Page> {
        Some(self.pages.get(Self::number(slot), guard)?)
    }

    /// Notes a call, if its place has a seat that is free. Returns whether it has.
    #[inline(always)]
    pub(crate) fn take_seat(&self, frame: Frame, guard: &Guard) -> bool {
        match self.page_of(frame.slot, guard) {
            Some(page) => page.seats.take(frame),
            None => false,
        }
    }

    /// Takes out the call whose return address is at `slot`, if `returns` finds something for it,
    /// it has a seat, as it mostly does, and is the only one there.
    #[inline(always)]
    pub(crate) fn leave_seat<R>(
        &self,
        slot: usize,
        guard: &Guard,
        returns: impl FnOnce(&Frame) -> Option<R>,
    ) -> Option<R> {
        self.page_of(slot, guard)?.seats.leave(slot, returns)
    }

    /// Notes a call, in a seat or without one.
    ///
    /// Context: may sleep; the current thread is of the process.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the return address is in the first page of memory, for which there are no seats.
    /// - `ENOMEM`.
    pub(crate) fn push(&self, frame: Frame, guard: &Guard) -> Result {
        loop {
            let Some(page) = self.page_of(frame.slot, guard) else {
                self.add_page(Self::number(frame.slot))?;
                continue;
            };
            match page.push(frame, may_be_alive) {
                Pushed::Yes => return Ok(()),
                Pushed::Full => page.make_room()?,
                // Another one takes its place, once who gives it up is done.
                Pushed::Gone => drop(self.pages_limit.lock()),
            }
        }
    }

    /// Takes out the newest call, of those whose return address is at `slot`, that `returns` finds
    /// something for.
    pub(crate) fn pop<R>(
        &self,
        slot: usize,
        guard: &Guard,
        returns: impl Fn(&Frame) -> Option<R>,
    ) -> Option<Popped<R>> {
        self.page_of(slot, guard)?.pop(slot, returns)
    }

    /// Returns the highest place at or below `top`, but not below `lowest`, of a call that
    /// `returns` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        guard: &Guard,
        returns: impl Fn(&Frame) -> bool,
    ) -> Option<usize> {
        [top, lowest].into_iter().find_map(|address| {
            let page = self.page_of(address, guard)?;
            page.highest(top, lowest, &returns)
        })
    }

    #[cold]
    fn add_page(&self, number: usize) -> Result {
        if number == 0 {
            return Err(EINVAL);
        }
        match self.pages.insert(number, Page::new()?, GFP_KERNEL) {
            Ok(()) => {
                let count = self.count.fetch_add(1, Relaxed) + 1;
                self.limit_pages(count as usize)
            }
            Err(EEXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives up pages without frames, if there are many.
    fn limit_pages(&self, count: usize) -> Result {
        let Some(mut limit) = self.pages_limit.try_lock() else {
            // Somebody else is at it.
            return Ok(());
        };
        if count <= *limit {
            return Ok(());
        }
        let guard = tasks_trace::read_lock();
        for (number, page) in self.pages.range(0..=usize::MAX, &guard) {
            if page.drop_dead()? == 0 && page.give_up() {
                self.pages.remove(number);
                self.count.fetch_sub(1, Relaxed);
            }
        }
        *limit = PAGES.max(2 * self.count.load(Relaxed) as usize);
        Ok(())
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "frames_test.rs"]
mod tests;
