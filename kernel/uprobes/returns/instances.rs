// SPDX-License-Identifier: GPL-2.0

//! Return instances: calls of probed functions that have not returned.
//!
//! An instance is found by its return-address location. No two calls that have not returned have
//! the same one, whatever threads or coroutines they are made in, except for calls that end in a
//! tail call.
//!
//! # Data model
//!
//! A [`Page`] has the instances whose return addresses are in one page of the process's memory.
//! Mostly an instance is in a [bucket](crate::returns::buckets), without a lock. Those that find
//! their bucket taken are in a list. One thread at a time uses a stack, and so the page and its
//! cache lines, except for stacks that are smaller than a page.
//!
//! Instances of calls that were left without a return are dead. They are dropped when their
//! location is used again, when another instance needs the bucket, or when the list is full: an
//! instance is dead if its location holds something else than its return address. Pages without
//! an instance that may be alive are given up when there are twice as many as there were when this
//! was done last.
//!
//! # Locks
//!
//! 1. `Instances::pages_limit`, a mutex, is held while pages are given up.
//! 2. `Page::list`, a spinlock; nothing is allocated or freed under it, and user memory is looked
//!    at without faults only.

use crate::{
    returns::{
        buckets::Buckets,
        limits::Memory, //
    },
    stack,
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
pub(crate) struct Instance {
    /// Where the return address is.
    pub(crate) location: usize,
    /// The return address.
    pub(crate) return_address: usize,
    /// What has been called.
    pub(crate) function: usize,
    /// The newest consumer that is called when it returns.
    pub(crate) generation: u64,
}

impl Instance {
    /// Returns whether the call may not have returned: its location holds the return address.
    ///
    /// Context: may sleep. The current thread is of the process.
    pub(crate) fn may_be_alive(&self) -> bool {
        stack::read_word(self.location, stack::current_mode()) == Ok(self.return_address)
    }

    /// As [`Instance::may_be_alive`], without sleeping: an instance whose page is not mapped is
    /// taken for dead.
    fn is_seen_alive(&self) -> bool {
        stack::peek_word(self.location, stack::current_mode()) == Ok(self.return_address)
    }
}

/// How many instances there is room for in a page's list, once there are any.
const FIRST: usize = 8;

/// How many there can be: one in each word, and as many again by tail calls.
const MOST: usize = 2 * PAGE_SIZE / 4;

/// How many pages there are before any is given up.
const PAGES: usize = 256;

/// Bytes that a page takes, without its list: the buckets, and its entry in the map.
const PAGE_BYTES: usize = size_of::<Page>() + Buckets::BYTES + 64;

/// Bytes that each instance in a list takes.
const LIST_BYTES: usize = size_of::<Instance>();

/// What was found for an instance, which has been taken out.
pub(crate) struct Popped<R> {
    pub(crate) found: R,
    /// Whether there are others in the same place.
    pub(crate) any_left: bool,
}

/// Instances of a page, in the order of falling locations, and then of time.
struct List(KVec<Instance>);

/// What came of an attempt to note an instance.
#[derive(Debug, PartialEq, Eq)]
enum Pushed {
    Yes,
    Full,
    /// The page has been given up.
    Gone,
}

impl List {
    fn with_capacity(capacity: usize) -> Result<Self> {
        Ok(Self(KVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?))
    }

    /// Returns where the first instance is that is not above `location`.
    #[inline]
    fn position(&self, location: usize) -> usize {
        // Mostly it is the last one.
        match self.0.last() {
            Some(last) if last.location > location => self.0.len(),
            Some(_) => self
                .0
                .partition_point(|instance| instance.location > location),
            None => 0,
        }
    }

    /// Drops those in the place of a new instance that are dead: all but such that have led to it
    /// by tail calls, which return to the same address, and it has not been among them, nor `again`
    /// before them. Returns which of those in the place are left.
    fn drop_before(&mut self, new: &Instance, mut again: bool) -> Range<usize> {
        let first = self.position(new.location);
        let mut at = first;
        while let Some(old) = self.0.get(at).filter(|old| old.location == new.location) {
            again |= old.function == new.function;
            if again || old.return_address != new.return_address {
                let _ = self.0.remove(at);
            } else {
                at += 1;
            }
        }
        first..at
    }

    /// The instances in a place.
    fn at(&self, location: usize) -> impl Iterator<Item = &Instance> + '_ {
        let below = self.0.iter().skip(self.position(location));
        below.take_while(move |instance| instance.location == location)
    }

    /// Takes out the newest instance in a place that `returns` finds something for.
    fn pop<R>(
        &mut self,
        location: usize,
        returns: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        let first = self.position(location);
        let mut at = first;
        let mut newest = None;
        while let Some(instance) = self
            .0
            .get(at)
            .filter(|instance| instance.location == location)
        {
            if let Some(found) = returns(instance) {
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

    /// The highest place at or below `top`, but not below `lowest`, of an instance that `returns`
    /// holds for.
    fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        let below = self.0.get(self.position(top)..)?;
        below
            .iter()
            .take_while(|instance| instance.location >= lowest)
            .find(|instance| returns(instance))
            .map(|instance| instance.location)
    }
}

/// The instances in one page of memory.
#[pin_data]
struct Page {
    buckets: Buckets,
    /// Those that have no bucket; nothing once the page has been given up.
    #[pin]
    list: SpinLock<Option<List>>,
}

impl Page {
    fn new() -> Result<Arc<Self>> {
        let buckets = Buckets::new()?;
        let list = List(KVec::new());
        Arc::pin_init(
            pin_init!(Self {
                buckets,
                list <- new_spinlock!(Some(list)),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Notes an instance, in its bucket or in the list. May sleep.
    fn push(&self, new: Instance, is_alive: impl Fn(&Instance) -> bool) -> Pushed {
        let in_the_way = self.buckets.in_the_way(new.location);
        let dead = in_the_way.filter(|instance| !is_alive(instance));
        let mut list = self.list.lock();
        let Some(list) = &mut *list else {
            return Pushed::Gone;
        };
        if let Some(dead) = dead {
            self.buckets.drop_dead(&dead, Instance::is_seen_alive);
        }
        let pushed = self.push_locked(list, new);
        self.buckets.set_others(list.0.len());
        pushed
    }

    fn push_locked(&self, list: &mut List, new: Instance) -> Pushed {
        let in_bucket = self.buckets.at(new.location);
        let again = in_bucket.is_some_and(|old| old.function == new.function);
        let is_dead =
            again || in_bucket.is_some_and(|old| old.return_address != new.return_address);
        let before = list.drop_before(&new, again);
        if before.is_empty() && (in_bucket.is_none() || is_dead) && self.buckets.put(new) {
            return Pushed::Yes;
        }
        if is_dead {
            let _ = self.buckets.take_out(new.location, |_| Some(()));
        }
        match list.0.insert_within_capacity(before.end, new) {
            Ok(()) => Pushed::Yes,
            Err(_) => Pushed::Full,
        }
    }

    /// Takes out the newest instance in a place that `returns` finds something for.
    fn pop<R>(
        &self,
        location: usize,
        returns: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        if let Some(found) = self.buckets.leave(location, &returns) {
            return Some(Popped {
                found,
                any_left: false,
            });
        }
        let mut list = self.list.lock();
        let list = (*list).as_mut()?;
        let Some(mut popped) = list.pop(location, &returns) else {
            return Some(Popped {
                found: self.buckets.take_out(location, returns)?,
                any_left: list.at(location).next().is_some(),
            });
        };
        popped.any_left |= self.buckets.at(location).is_some();
        self.buckets.set_others(list.0.len());
        Some(popped)
    }

    fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        let in_bucket = self.buckets.highest(top, lowest, &returns);
        let list = self.list.lock();
        in_bucket.max(list.as_ref()?.highest(top, lowest, returns))
    }

    /// Drops the instances that are dead. Returns how many are left in the list. May sleep.
    fn drop_dead(&self) -> Result<usize> {
        let in_bucket = self
            .buckets
            .instances()
            .filter(|instance| !instance.may_be_alive());
        for dead in in_bucket {
            let _list = self.list.lock();
            self.buckets.drop_dead(&dead, Instance::is_seen_alive);
        }
        let count = self.list.lock().as_ref().map_or(0, |list| list.0.len());
        let mut dead = List::with_capacity(count)?;
        if let Some(list) = &*self.list.lock() {
            for instance in list.0.iter().take(count) {
                let _ = dead.0.push_within_capacity(*instance);
            }
        }
        dead.0.retain(|instance| !instance.may_be_alive());
        let mut list = self.list.lock();
        let Some(list) = &mut *list else {
            return Ok(0);
        };
        // The same call may have been made again meanwhile.
        let is_dead = |instance: &Instance| dead.at(instance.location).any(|dead| dead == instance);
        (list.0).retain(|instance| !is_dead(instance) || instance.is_seen_alive());
        self.buckets.set_others(list.0.len());
        Ok(list.0.len())
    }

    /// Makes room in the list.
    #[cold]
    fn make_room(&self, memory: &Memory) -> Result {
        let left = self.drop_dead()?;
        if left >= MOST {
            return Err(ENOMEM);
        }
        let capacity = (2 * left).clamp(FIRST, MOST);
        let charge = memory.try_charge(capacity * LIST_BYTES)?;
        let mut larger = Some(List::with_capacity(capacity)?);
        let mut now = self.list.lock();
        let (Some(list), Some(to)) = (&*now, &mut larger) else {
            return Ok(());
        };
        let mut unused = capacity;
        // Others may have come meanwhile.
        if to.0.capacity() > list.0.len() {
            for instance in &list.0 {
                let _ = to.0.push_within_capacity(*instance);
            }
            unused = list.0.capacity();
            core::mem::swap(&mut *now, &mut larger);
        }
        // What is not needed any more is freed without the lock.
        drop(now);
        drop(larger);
        charge.keep();
        memory.uncharge(unused * LIST_BYTES);
        Ok(())
    }

    /// Gives the page up if it is empty. Returns the capacity of its list if it was.
    fn give_up(&self) -> Option<usize> {
        let mut list = self.list.lock();
        let is_empty = list.as_ref().is_some_and(|list| list.0.is_empty());
        let gone = if is_empty && self.buckets.close() {
            list.take()
        } else {
            None
        };
        drop(list);
        gone.map(|list| list.0.capacity())
    }
}

/// The calls that have not returned, of one process.
#[pin_data]
pub(crate) struct Instances {
    /// By the number of the page.
    #[pin]
    pages: Map<Arc<Page>>,
    count: Atomic<i64>,
    /// How often there was no room since pages were given up last.
    refused: Atomic<i64>,
    /// At how many pages some are to be given up.
    #[pin]
    pages_limit: Mutex<usize>,
}

impl Instances {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            pages <- Map::new(BUILT_IN),
            count: Atomic::new(0),
            refused: Atomic::new(0),
            pages_limit <- new_mutex!(PAGES),
        })
    }

    #[inline]
    fn number(location: usize) -> usize {
        (location & PAGE_MASK) / PAGE_SIZE
    }

    #[inline(always)]
    fn page_of<'a>(&'a self, location: usize, guard: &'a Guard) -> Option<&'a Page> {
        Some(self.pages.get(Self::number(location), guard)?)
    }

    /// Notes a call, if its place has a bucket that is free. Returns whether it has.
    #[inline(always)]
    pub(crate) fn push_lockless(&self, instance: Instance, guard: &Guard) -> bool {
        match self.page_of(instance.location, guard) {
            Some(page) => page.buckets.take(instance),
            None => false,
        }
    }

    /// Takes out the call whose return address is at `location`, if `returns` finds something for
    /// it, it has a bucket, as it mostly does, and is the only one there.
    #[inline(always)]
    pub(crate) fn pop_lockless<R>(
        &self,
        location: usize,
        guard: &Guard,
        returns: impl FnOnce(&Instance) -> Option<R>,
    ) -> Option<R> {
        self.page_of(location, guard)?
            .buckets
            .leave(location, returns)
    }

    /// Notes a call, in a bucket or without one.
    ///
    /// Context: may sleep; the current thread is of the process.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the return address is in the first page of memory, for which there are no buckets.
    /// - `ENOMEM`.
    pub(crate) fn push(&self, instance: Instance, memory: &Memory, guard: &Guard) -> Result {
        loop {
            let Some(page) = self.page_of(instance.location, guard) else {
                self.add_page(Self::number(instance.location), memory)?;
                continue;
            };
            match page.push(instance, Instance::may_be_alive) {
                Pushed::Yes => return Ok(()),
                Pushed::Full => page.make_room(memory)?,
                // Another page takes its place, once the thread that gives it up is done.
                Pushed::Gone => drop(self.pages_limit.lock()),
            }
        }
    }

    /// Takes out the newest call, of those whose return address is at `location`, that `returns`
    /// finds something for.
    pub(crate) fn pop<R>(
        &self,
        location: usize,
        guard: &Guard,
        returns: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        self.page_of(location, guard)?.pop(location, returns)
    }

    /// Returns the highest place at or below `top`, but not below `lowest`, of a call that
    /// `returns` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        guard: &Guard,
        returns: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        [top, lowest].into_iter().find_map(|address| {
            let page = self.page_of(address, guard)?;
            page.highest(top, lowest, &returns)
        })
    }

    #[cold]
    fn add_page(&self, number: usize, memory: &Memory) -> Result {
        if number == 0 {
            return Err(EINVAL);
        }
        let Ok(charge) = memory.try_charge(PAGE_BYTES) else {
            return self.make_room(memory);
        };
        match self.pages.insert(number, Page::new()?, GFP_KERNEL_ACCOUNT) {
            Ok(()) => {
                charge.keep();
                let count = self.count.fetch_add(1, Relaxed) + 1;
                self.limit_pages(count as usize, memory)
            }
            Err(EEXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives up pages without instances, where the process has no room for another page. This takes
    /// a look at all pages, so it is done once for as many refusals as there are pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no room. Else the caller must try again.
    #[cold]
    fn make_room(&self, memory: &Memory) -> Result {
        let count = self.count.load(Relaxed);
        if self.refused.fetch_add(1, Relaxed) < count {
            return Err(ENOMEM);
        }
        self.refused.store(0, Relaxed);
        self.give_up_pages(memory)?;
        match self.count.load(Relaxed) < count {
            true => Ok(()),
            false => Err(ENOMEM),
        }
    }

    /// Gives up pages without instances, if there are many.
    fn limit_pages(&self, count: usize, memory: &Memory) -> Result {
        let Some(mut limit) = self.pages_limit.try_lock() else {
            // Another thread is doing so.
            return Ok(());
        };
        if count > *limit {
            self.give_up_pages(memory)?;
            *limit = PAGES.max(2 * self.count.load(Relaxed) as usize);
        }
        Ok(())
    }

    fn give_up_pages(&self, memory: &Memory) -> Result {
        let guard = tasks_trace::read_lock();
        for (number, page) in self.pages.range(0..=usize::MAX, &guard) {
            if page.drop_dead()? != 0 {
                continue;
            }
            if let Some(capacity) = page.give_up() {
                self.pages.remove(number);
                self.count.fetch_sub(1, Relaxed);
                memory.uncharge(PAGE_BYTES + capacity * LIST_BYTES);
            }
        }
        Ok(())
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "instances_test.rs"]
mod tests;
