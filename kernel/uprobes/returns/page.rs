// SPDX-License-Identifier: GPL-2.0

//! Return instances in one page of stack.
//!
//! Most instances are in a [bucket](crate::returns::buckets), which needs no lock. An instance with
//! a collision, or with the location of an older instance, is in a list. Only one thread at a time
//! uses a stack, and so the page and its cache lines, unless several small stacks share the page.
//!
//! Calls of functions that are not followed always take the lock, as does a thread that finds no
//! instance in the bucket of its location.
//!
//! # Locks
//!
//! `Page::list`, a spinlock. Its holder does not allocate or free memory. The holder may read user
//! memory without faults, and may try to lock `mmap_lock` for reading.

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

/// Capacity of a list when it gets its first instance.
const FIRST: usize = 8;

/// Maximum capacity of a list: one instance for each word of a page, and as many for tail calls.
const MOST: usize = 2 * PAGE_SIZE / 4;

/// Memory of a page, without its list: includes the buckets and the entry in the map.
pub(crate) const PAGE_BYTES: usize = size_of::<Page>() + Buckets::BYTES + 64;

/// Memory of an instance in a list.
pub(crate) const LIST_BYTES: usize = size_of::<Instance>();

/// Result of the removal of an instance.
pub(crate) struct Popped<R> {
    /// Result of the caller's function for the instance.
    pub(crate) found: R,
    /// Whether there are other instances at the location.
    pub(crate) any_left: bool,
}

/// Instances of a page, from higher to lower locations, and in the order of calls at each location.
struct List(KVec<Instance>);

/// Result of adding an instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Yes,
    Full,
    /// The instance has not been added: a dead one of the same location has been removed instead.
    Dropped(Instance),
    /// The page has been given up.
    Gone,
}

impl List {
    fn with_capacity(capacity: usize) -> Result<Self> {
        Ok(Self(KVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?))
    }

    /// Returns the index of the first instance that is not above `location`.
    #[inline]
    fn position(&self, location: usize) -> usize {
        // A fast path, because a new instance mostly is the lowest one.
        match self.0.last() {
            Some(last) if last.location > location => self.0.len(),
            Some(_) => self
                .0
                .partition_point(|instance| instance.location > location),
            None => 0,
        }
    }

    /// Returns the range of instances that have the location of a new one, and the index of the
    /// last one of these that is dead.
    ///
    /// An instance is alive if its call may have led to the new call by tail calls. It must have
    /// the return address of the new one. Neither it nor an earlier instance may have the function
    /// of the new one: when that function is entered again, its earlier call and the calls since
    /// then count as ended. `again` says that the instance in the bucket, the earliest one, has
    /// that function.
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

    /// Removes the newest instance at a location that `accept` accepts, and returns its result.
    fn pop<R>(
        &mut self,
        location: usize,
        accept: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        let first = self.position(location);
        let mut at = first;
        let mut newest = None;
        while let Some(instance) = self
            .0
            .get(at)
            .filter(|instance| instance.location == location)
        {
            if let Some(found) = accept(instance) {
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

    /// Returns the highest location from `lowest` to `top` of an instance that `accept` holds for.
    fn highest(
        &self,
        top: usize,
        lowest: usize,
        accept: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        let below = self.0.get(self.position(top)..)?;
        below
            .iter()
            .take_while(|instance| instance.location >= lowest)
            .find(|instance| accept(instance))
            .map(|instance| instance.location)
    }
}

/// The instances in one page of memory.
#[pin_data]
pub(crate) struct Page {
    pub(crate) buckets: Buckets,
    /// Instances with a collision; `None` once the page has been given up.
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

    /// Adds an instance, to its bucket or to the list.
    pub(crate) fn push(&self, new: Instance, is_alive: impl Fn(&Instance) -> bool) -> Pushed {
        let mut list = self.list.lock();
        let Some(list) = &mut *list else {
            return Pushed::Gone;
        };
        let collision = self.buckets.collision(new.location);
        if let Some(dead) = collision.filter(|instance| !is_alive(instance)) {
            self.buckets.drop_dead(&dead, is_alive);
        }
        let pushed = self.push_locked(list, new);
        self.buckets.set_list_len(list.0.len());
        pushed
    }

    fn push_locked(&self, list: &mut List, new: Instance) -> Pushed {
        let in_bucket = self.buckets.at(new.location);
        let again = in_bucket.is_some_and(|old| old.function == new.function);
        let is_dead =
            again || in_bucket.is_some_and(|old| old.return_address != new.return_address);
        let (before, last_dead) = list.before(&new, again);
        // The last dead one first, because the caller tries again after each one, and an instance
        // may be dead only because of an earlier one.
        if let Some(dead) = last_dead.and_then(|at| list.0.remove(at).ok()) {
            return Pushed::Dropped(dead);
        }
        let dead = |old: &Instance| is_dead.then_some(*old);
        if let Some(dead) = self.buckets.remove(new.location, dead) {
            return Pushed::Dropped(dead);
        }
        if before.is_empty() && in_bucket.is_none() && self.buckets.insert(new) {
            return Pushed::Yes;
        }
        match list.0.insert_within_capacity(before.end, new) {
            Ok(()) => Pushed::Yes,
            Err(_) => Pushed::Full,
        }
    }

    /// Removes the newest instance at a location that `accept` accepts, and returns its result.
    pub(crate) fn pop<R>(
        &self,
        location: usize,
        accept: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        if let Some(found) = self.buckets.remove_lockless(location, &accept) {
            return Some(Popped {
                found,
                any_left: false,
            });
        }
        let mut list = self.list.lock();
        let list = (*list).as_mut()?;
        let Some(mut popped) = list.pop(location, &accept) else {
            return Some(Popped {
                found: self.buckets.remove(location, accept)?,
                any_left: list.at(location).next().is_some(),
            });
        };
        popped.any_left |= self.buckets.at(location).is_some();
        self.buckets.set_list_len(list.0.len());
        Some(popped)
    }

    /// Returns the highest location from `lowest` to `top` of an instance that `accept` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        accept: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        let list = self.list.lock();
        let in_bucket = self.buckets.highest(top, lowest, &accept);
        in_bucket.max(list.as_ref()?.highest(top, lowest, accept))
    }

    /// Drops the instances that `is_alive` does not hold for. Returns the length of the list.
    pub(crate) fn drop_dead(&self, is_alive: impl Fn(&Instance) -> bool) -> usize {
        let mut list = self.list.lock();
        let Some(list) = &mut *list else {
            return 0;
        };
        for instance in self.buckets.instances() {
            if !is_alive(&instance) {
                // Checks again, because another thread may have used the bucket since.
                self.buckets.drop_dead(&instance, &is_alive);
            }
        }
        list.0.retain(|instance| is_alive(instance));
        self.buckets.set_list_len(list.0.len());
        list.0.len()
    }

    /// Makes room in the list. On success the caller must try again.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[cold]
    pub(crate) fn make_room(&self, memory: &Memory) -> Result {
        let left = self.drop_dead(Instance::may_be_alive);
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
        // Frees the smaller list without the lock.
        drop(now);
        drop(larger);
        charge.keep();
        memory.uncharge(unused * LIST_BYTES);
        Ok(())
    }

    /// Gives up the page if it has no instances. Returns the capacity of its list then.
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
