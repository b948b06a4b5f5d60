// SPDX-License-Identifier: GPL-2.0

//! The return instances in one page of stack.
//!
//! Mostly an instance is in a [bucket](crate::returns::buckets), without a lock. Those that find
//! their bucket taken are in a list. One thread at a time uses a stack, and so the page and its
//! cache lines, except for stacks that are smaller than a page.
//!
//! # Locks
//!
//! `Page::list`, a spinlock; nothing is allocated or freed under it, and user memory is looked at
//! without faults only.

use crate::returns::{
    buckets::Buckets,
    instance::Instance,
    limits::Memory, //
};

use core::ops::Range;

use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    }, //
};

/// How many instances there is room for in a page's list, once there are any.
const FIRST: usize = 8;

/// How many there can be: one in each word, and as many again by tail calls.
const MOST: usize = 2 * PAGE_SIZE / 4;

/// Bytes that a page takes, without its list: the buckets, and its entry in the map.
pub(crate) const PAGE_BYTES: usize = size_of::<Page>() + Buckets::BYTES + 64;

/// Bytes that each instance in a list takes.
pub(crate) const LIST_BYTES: usize = size_of::<Instance>();

/// The result of a search for an instance, which has been removed.
pub(crate) struct Popped<R> {
    pub(crate) found: R,
    /// Whether there are others at the same location.
    pub(crate) any_left: bool,
}

/// Instances of a page, in the order of falling locations, and then of time.
struct List(KVec<Instance>);

/// The result of an attempt to add an instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Yes,
    Full,
    /// This dead instance of the same location has been removed. The new one has not been added.
    Dropped(Instance),
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

    /// Returns where the instances are that have the location of a new one, and the last of them
    /// that is dead. Those are alive that have led to the new call by tail calls: they have the
    /// same return address, and the function is not among them, nor `again` before them.
    fn before(&self, new: &Instance, mut again: bool) -> (Range<usize>, Option<usize>) {
        let first = self.position(new.location);
        let mut at = first;
        let mut dead = None;
        while let Some(old) = self.0.get(at).filter(|old| old.location == new.location) {
            again |= old.function == new.function;
            if again || old.return_address != new.return_address {
                dead = Some(at);
            }
            at += 1;
        }
        (first..at, dead)
    }

    /// Returns the instances at a location.
    fn at(&self, location: usize) -> impl Iterator<Item = &Instance> + '_ {
        let below = self.0.iter().skip(self.position(location));
        below.take_while(move |instance| instance.location == location)
    }

    /// Removes the newest instance at a location that `returns` finds something for.
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

    /// Returns the highest location at or below `top`, but not below `lowest`, of an instance that
    /// `returns` holds for.
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
pub(crate) struct Page {
    pub(crate) buckets: Buckets,
    /// Instances that found their bucket taken; `None` once the page has been given up.
    #[pin]
    list: SpinLock<Option<List>>,
}

impl Page {
    pub(crate) fn new() -> Result<Arc<Self>> {
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

    /// Adds an instance, to its bucket or to the list. May sleep.
    pub(crate) fn push(&self, new: Instance, is_alive: impl Fn(&Instance) -> bool) -> Pushed {
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
        let (before, last_dead) = list.before(&new, again);
        // The last one first, so that the others can still be seen to be dead.
        if let Some(dead) = last_dead.and_then(|at| list.0.remove(at).ok()) {
            return Pushed::Dropped(dead);
        }
        let dead = |old: &Instance| is_dead.then_some(*old);
        if let Some(dead) = self.buckets.take_out(new.location, dead) {
            return Pushed::Dropped(dead);
        }
        if before.is_empty() && in_bucket.is_none() && self.buckets.put(new) {
            return Pushed::Yes;
        }
        match list.0.insert_within_capacity(before.end, new) {
            Ok(()) => Pushed::Yes,
            Err(_) => Pushed::Full,
        }
    }

    /// Removes the newest instance at a location that `returns` finds something for.
    pub(crate) fn pop<R>(
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

    pub(crate) fn highest(
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
    pub(crate) fn drop_dead(&self) -> Result<usize> {
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
        // A thread may have made the same call again since.
        let is_dead = |instance: &Instance| dead.at(instance.location).any(|dead| dead == instance);
        (list.0).retain(|instance| !is_dead(instance) || instance.is_seen_alive());
        self.buckets.set_others(list.0.len());
        Ok(list.0.len())
    }

    /// Makes room in the list.
    #[cold]
    pub(crate) fn make_room(&self, memory: &Memory) -> Result {
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
        // Other threads may have added instances since.
        if to.0.capacity() > list.0.len() {
            for instance in &list.0 {
                let _ = to.0.push_within_capacity(*instance);
            }
            unused = list.0.capacity();
            core::mem::swap(&mut *now, &mut larger);
        }
        // The smaller list is freed without the lock.
        drop(now);
        drop(larger);
        charge.keep();
        memory.uncharge(unused * LIST_BYTES);
        Ok(())
    }

    /// Gives the page up if it is empty. Returns the capacity of its list if it was.
    pub(crate) fn give_up(&self) -> Option<usize> {
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

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "page_test.rs"]
mod tests;
