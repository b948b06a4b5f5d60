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
//! memory. Its list is in the order of stacks, which grow down, with those that are called last at
//! the end. As a stack is used by one thread at a time, so is the page's lock, and the cache lines
//! that it is in; but for stacks that are smaller than a page.
//!
//! Frames that are dead, as nothing returned from them, go when their place is used again, or when
//! the list is full: those are dropped whose place holds something else by now. Pages without a
//! frame that may be alive are given up when there have come to be twice as many as there were when
//! this was done last.
//!
//! # Locks
//!
//! 1. `Frames::pages_limit`, a mutex, is held while pages are given up.
//! 2. `Page::frames`, a spinlock; nothing is allocated or freed under it, and user memory is not
//!    accessed.

use crate::returns::may_be_alive;

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
    /// All instructions are known by which the function returns.
    pub(crate) by_exit: bool,
}

/// How many frames a page begins with.
const FIRST: usize = 8;

/// How many there can be: one in each word, and as many again by tail calls.
const MOST: usize = 2 * PAGE_SIZE / 4;

/// How many pages there are before any is given up.
const PAGES: usize = 256;

/// The frames of a page, in the order of falling slots, and then of time.
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

    /// Notes a frame. Those in its place are dead, but for such that have led to it by tail calls:
    /// they return to the same address, and it has not been among them.
    #[inline]
    fn push(&mut self, new: Frame) -> Pushed {
        let mut at = self.position(new.slot);
        let mut again = false;
        while let Some(old) = self.0.get(at).filter(|old| old.slot == new.slot) {
            again |= old.function == new.function;
            if again || old.site != new.site {
                let _ = self.0.remove(at);
            } else {
                at += 1;
            }
        }
        match self.0.insert_within_capacity(at, new) {
            Ok(()) => Pushed::Yes,
            Err(_) => Pushed::Full,
        }
    }

    /// Takes out the newest frame in a place that `returns` holds for.
    #[inline]
    fn pop(&mut self, slot: usize, returns: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let mut at = self.position(slot);
        let mut found = None;
        while let Some(frame) = self.0.get(at).filter(|frame| frame.slot == slot) {
            if returns(frame) {
                found = Some(at);
            }
            at += 1;
        }
        self.0.remove(found?).ok()
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

/// The frames in one page of memory; nothing once the page has been given up.
#[pin_data]
struct Page {
    #[pin]
    frames: SpinLock<Option<List>>,
}

impl Page {
    fn new() -> Result<Arc<Self>> {
        let list = List::with_capacity(FIRST)?;
        Arc::pin_init(
            pin_init!(Self { frames <- new_spinlock!(Some(list)) }),
            GFP_KERNEL,
        )
    }

    #[inline]
    fn push(&self, frame: Frame) -> Pushed {
        match &mut *self.frames.lock() {
            Some(list) => list.push(frame),
            None => Pushed::Gone,
        }
    }

    #[inline]
    fn pop(&self, slot: usize, returns: impl Fn(&Frame) -> bool) -> Option<Frame> {
        (*self.frames.lock()).as_mut()?.pop(slot, returns)
    }

    fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Frame) -> bool,
    ) -> Option<usize> {
        self.frames.lock().as_ref()?.highest(top, lowest, returns)
    }

    /// Drops the frames that are dead. Returns how many are left.
    fn drop_dead(&self) -> Result<usize> {
        let count = self.frames.lock().as_ref().map_or(0, |list| list.0.len());
        let mut copy = KVec::<Frame>::with_capacity(count, GFP_KERNEL)?;
        if let Some(list) = &*self.frames.lock() {
            for frame in list.0.iter().take(count) {
                let _ = copy.push_within_capacity(*frame);
            }
        }
        copy.retain(|frame| !may_be_alive(frame));
        let mut frames = self.frames.lock();
        let Some(list) = &mut *frames else {
            return Ok(0);
        };
        list.0.retain(|frame| !copy.contains(frame));
        Ok(list.0.len())
    }

    /// Makes room.
    #[cold]
    fn make_room(&self) -> Result {
        let left = self.drop_dead()?;
        if left >= MOST {
            return Err(ENOMEM);
        }
        let mut larger = Some(List::with_capacity((2 * left).clamp(FIRST, MOST))?);
        let mut frames = self.frames.lock();
        let (Some(list), Some(to)) = (&*frames, &mut larger) else {
            return Ok(());
        };
        // Others may have come meanwhile.
        if to.0.capacity() > list.0.len() {
            for frame in &list.0 {
                let _ = to.0.push_within_capacity(*frame);
            }
            core::mem::swap(&mut *frames, &mut larger);
        }
        // What is not needed any more is freed without the lock.
        drop(frames);
        drop(larger);
        Ok(())
    }

    /// Gives the page up if it is empty. Returns whether it was.
    fn give_up(&self) -> bool {
        let mut frames = self.frames.lock();
        let is_empty = frames.as_ref().is_some_and(|list| list.0.is_empty());
        let list = if is_empty { frames.take() } else { None };
        drop(frames);
        list.is_some()
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
            pages <- Map::new(),
            count: Atomic::new(0),
            pages_limit <- new_mutex!(PAGES),
        })
    }

    #[inline]
    fn number(slot: usize) -> usize {
        (slot & PAGE_MASK) / PAGE_SIZE
    }

    /// Notes a call.
    ///
    /// Context: may sleep, if there has to be room first; the current thread is of the process.
    #[inline]
    pub(crate) fn push(&self, frame: Frame) -> Result {
        let number = Self::number(frame.slot);
        loop {
            let guard = tasks_trace::read_lock();
            let Some(page) = self.pages.get(number, &guard) else {
                self.add_page(number)?;
                continue;
            };
            match page.push(frame) {
                Pushed::Yes => return Ok(()),
                Pushed::Full => page.make_room()?,
                // Another one takes its place.
                Pushed::Gone => (),
            }
        }
    }

    /// Takes out the newest call, of those whose return address is at `slot`, that `returns` holds
    /// for, which must be quick.
    #[inline]
    pub(crate) fn pop(&self, slot: usize, returns: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let guard = tasks_trace::read_lock();
        let page = self.pages.get(Self::number(slot), &guard)?;
        page.pop(slot, returns)
    }

    /// Returns the highest place at or below `top`, but not below `lowest`, of a call that
    /// `returns` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Frame) -> bool,
    ) -> Option<usize> {
        let guard = tasks_trace::read_lock();
        [top, lowest].into_iter().find_map(|address| {
            let page = self.pages.get(Self::number(address), &guard)?;
            page.highest(top, lowest, &returns)
        })
    }

    #[cold]
    fn add_page(&self, number: usize) -> Result {
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
#[kunit_tests(uprobes_frames)]
mod tests {
    use super::*;

    fn frame(slot: usize, site: usize, function: usize) -> Frame {
        Frame {
            slot,
            site,
            function,
            newest: 0,
            by_exit: false,
        }
    }

    /// What returns to `site`.
    fn to(site: usize) -> impl Fn(&Frame) -> bool {
        move |frame| frame.site == site
    }

    fn list(frames: &[Frame]) -> Result<List> {
        let mut list = List::with_capacity(8)?;
        for frame in frames {
            assert_eq!(list.push(*frame), Pushed::Yes);
        }
        Ok(list)
    }

    #[test]
    fn recursion_returns_in_the_reverse_order() -> Result {
        let mut list = list(&[frame(0x80, 1, 9), frame(0x60, 1, 9), frame(0x40, 1, 9)])?;
        for slot in [0x40, 0x60, 0x80] {
            assert_eq!(list.pop(slot, to(1)), Some(frame(slot, 1, 9)));
            assert_eq!(list.pop(slot, to(1)), None);
        }
        Ok(())
    }

    #[test]
    fn other_sites_and_places_are_no_returns() -> Result {
        let mut list = list(&[frame(0x80, 1, 9)])?;
        assert_eq!(list.pop(0x80, to(2)), None);
        assert_eq!(list.pop(0x88, to(1)), None);
        assert_eq!(list.pop(0x78, to(1)), None);
        assert!(list.pop(0x80, to(1)).is_some());
        Ok(())
    }

    #[test]
    fn a_place_that_is_used_again_had_a_dead_frame() -> Result {
        // By another call, and by the same one.
        let mut list = list(&[frame(0x80, 1, 9), frame(0x80, 2, 9), frame(0x80, 2, 9)])?;
        assert!(list.pop(0x80, to(2)).is_some());
        assert!(list.0.is_empty());
        Ok(())
    }

    #[test]
    fn a_tail_call_shares_its_place() -> Result {
        let mut list = list(&[frame(0x80, 1, 8), frame(0x80, 1, 9)])?;
        assert_eq!(list.pop(0x80, to(1)), Some(frame(0x80, 1, 9)));
        assert_eq!(list.pop(0x80, to(1)), Some(frame(0x80, 1, 8)));
        Ok(())
    }

    #[test]
    fn what_a_dead_tail_call_led_to_is_dead() -> Result {
        let mut list = list(&[frame(0x80, 1, 8), frame(0x80, 1, 9), frame(0x80, 1, 8)])?;
        assert_eq!(list.pop(0x80, to(1)), Some(frame(0x80, 1, 8)));
        assert_eq!(list.pop(0x80, to(1)), None);
        Ok(())
    }

    #[test]
    fn the_nearest_place_below_is_found() -> Result {
        let list = list(&[frame(0x80, 1, 8), frame(0x60, 1, 8), frame(0x40, 2, 8)])?;
        assert_eq!(list.highest(0x78, 0x40, to(1)), Some(0x60));
        assert_eq!(list.highest(0x80, 0x40, to(1)), Some(0x80));
        assert_eq!(list.highest(0x58, 0, to(1)), None);
        assert_eq!(list.highest(0x78, 0x48, to(2)), None);
        Ok(())
    }

    #[test]
    fn frames_below_one_that_was_left_stay() -> Result {
        // Two stacks in one page: the upper one goes on while the lower one waits.
        let mut list = list(&[frame(0x80, 1, 8), frame(0x40, 2, 9), frame(0x60, 3, 7)])?;
        assert!(list.0.iter().map(|frame| frame.slot).eq([0x80, 0x60, 0x40]));
        assert!(list.pop(0x60, to(3)).is_some());
        assert!(list.pop(0x40, to(2)).is_some());
        assert!(list.pop(0x80, to(1)).is_some());
        Ok(())
    }

    #[test]
    fn a_full_list_says_so() -> Result {
        let mut list = List::with_capacity(1)?;
        while list.0.len() < list.0.capacity() {
            let slot = 0x1000 - 8 * list.0.len();
            assert_eq!(list.push(frame(slot, 1, 9)), Pushed::Yes);
        }
        assert_eq!(list.push(frame(8, 1, 9)), Pushed::Full);
        Ok(())
    }
}
