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

/// How many frames a page begins with.
const FIRST: usize = 8;

/// How many there can be: one in each word, and as many again by tail calls.
const MOST: usize = 2 * PAGE_SIZE / 4;

/// How many pages there are before any is given up.
const PAGES: usize = 256;

/// Which frames are wanted, of those in a place.
// Not a closure, as that would not always be inlined.
pub(crate) trait Wanted {
    /// What is found for a frame.
    type Found;

    /// Must be quick.
    fn find(&self, frame: &Frame) -> Option<Self::Found>;
}

/// What was found for a frame, which has been taken out.
pub(crate) struct Popped<R> {
    pub(crate) found: R,
    /// Whether there are others in the same place.
    pub(crate) any_left: bool,
}

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

    /// Notes a frame that is below all others, as most are. Returns whether it is, and has room.
    #[inline(always)]
    fn push_lowest(&mut self, new: Frame) -> bool {
        let is_lowest = match self.0.last() {
            Some(last) => last.slot > new.slot,
            None => true,
        };
        is_lowest && self.0.push_within_capacity(new).is_ok()
    }

    /// Notes a frame. Those in its place are dead, but for such that have led to it by tail calls:
    /// they return to the same address, and it has not been among them.
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

    /// Takes out the newest frame in a place that is wanted, if it is the last one of all, as it
    /// mostly is.
    #[inline(always)]
    fn pop_last<W: Wanted>(&mut self, slot: usize, wanted: &W) -> Option<Popped<W::Found>> {
        let (last, before) = self.0.split_last()?;
        if last.slot != slot {
            return None;
        }
        let popped = Popped {
            found: wanted.find(last)?,
            any_left: before.last().is_some_and(|next| next.slot == slot),
        };
        let _ = self.0.pop();
        Some(popped)
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

    #[inline(always)]
    fn push_lowest(&self, frame: Frame) -> bool {
        match &mut *self.frames.lock() {
            Some(list) => list.push_lowest(frame),
            None => false,
        }
    }

    fn push(&self, frame: Frame) -> Pushed {
        match &mut *self.frames.lock() {
            Some(list) => list.push(frame),
            None => Pushed::Gone,
        }
    }

    #[inline(always)]
    fn pop_last<W: Wanted>(&self, slot: usize, wanted: &W) -> Option<Popped<W::Found>> {
        (*self.frames.lock()).as_mut()?.pop_last(slot, wanted)
    }

    fn pop<R>(&self, slot: usize, returns: impl Fn(&Frame) -> Option<R>) -> Option<Popped<R>> {
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

    #[inline(always)]
    fn page_of<'a>(&'a self, slot: usize, guard: &'a Guard) -> Option<&'a Page> {
        Some(self.pages.get(Self::number(slot), guard)?)
    }

    /// Notes a call.
    ///
    /// Context: may sleep, if there has to be room first; the current thread is of the process.
    pub(crate) fn push(&self, frame: Frame, guard: &Guard) -> Result {
        loop {
            let Some(page) = self.page_of(frame.slot, guard) else {
                self.add_page(Self::number(frame.slot))?;
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

    /// Notes a call, if all others that are noted in the page are above, as they mostly are, and
    /// there is room. Returns whether it has.
    #[inline(always)]
    pub(crate) fn push_lowest(&self, frame: Frame, guard: &Guard) -> bool {
        match self.page_of(frame.slot, guard) {
            Some(page) => page.push_lowest(frame),
            None => false,
        }
    }

    /// Takes out the newest call, of those whose return address is at `slot`, that is wanted. Finds
    /// only what is the last of all that is noted in the page, as it mostly is.
    #[inline(always)]
    pub(crate) fn pop_last<W: Wanted>(
        &self,
        slot: usize,
        guard: &Guard,
        wanted: &W,
    ) -> Option<Popped<W::Found>> {
        self.page_of(slot, guard)?.pop_last(slot, wanted)
    }

    /// As [`Frames::pop_last`], wherever it is noted.
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
