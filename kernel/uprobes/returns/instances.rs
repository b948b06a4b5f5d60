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
//! Pages are found without a lock.
//!
//! Instances of calls that were left without a return are dead. They are dropped when their
//! location is used again, when another instance needs the bucket, or when the list is full: an
//! instance is dead if its location holds something else than its return address. Pages without
//! an instance that may be alive are given up when there are twice as many as there were when this
//! was done last.
//!
//! # Locks
//!
//! `Instances::pages_limit`, a mutex, is held while pages are given up.

use crate::{
    returns::{
        instance::Instance,
        limits::Memory,
        page::{
            Page,
            Popped,
            Pushed,
            LIST_BYTES,
            PAGE_BYTES, //
        },
    },
    BUILT_IN, //
};

use kernel::{
    new_mutex,
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
        Mutex, //
    },
};

/// How many pages there are before any is given up.
const PAGES: usize = 256;

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

    /// Adds an instance if its bucket is free. Returns whether it has.
    #[inline(always)]
    pub(crate) fn push_lockless(&self, instance: Instance, guard: &Guard) -> bool {
        match self.page_of(instance.location, guard) {
            Some(page) => page.buckets.take(instance),
            None => false,
        }
    }

    /// Removes the instance whose return address is at `location`, if `returns` finds something for
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

    /// Adds an instance, to its bucket or to the list. Calls `dropped` for each instance that had
    /// the same location, and is dead.
    ///
    /// Context: may sleep; the current thread is of the process.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the return address is in the first page of memory, for which there are no
    ///   buckets.
    /// - `ENOMEM`.
    pub(crate) fn push(
        &self,
        instance: Instance,
        memory: &Memory,
        guard: &Guard,
        dropped: impl Fn(&Instance),
    ) -> Result {
        loop {
            let Some(page) = self.page_of(instance.location, guard) else {
                self.add_page(Self::number(instance.location), memory)?;
                continue;
            };
            match page.push(instance, Instance::is_seen_alive) {
                Pushed::Yes => return Ok(()),
                Pushed::Dropped(dead) => dropped(&dead),
                Pushed::Full => page.make_room(memory)?,
                // Another page replaces it, once the thread that gives it up is done.
                Pushed::Gone => drop(self.pages_limit.lock()),
            }
        }
    }

    /// Removes the newest instance whose return address is at `location` that `returns`
    /// finds something for.
    pub(crate) fn pop<R>(
        &self,
        location: usize,
        guard: &Guard,
        returns: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        self.page_of(location, guard)?.pop(location, returns)
    }

    /// Returns the highest location at or below `top`, but not below `lowest`, of an instance that
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
