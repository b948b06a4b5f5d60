// SPDX-License-Identifier: GPL-2.0

//! Return instances: calls of probed functions that have not returned.
//!
//! The return-address location identifies an instance. Two calls that have not returned have
//! different locations, in all threads and coroutines, unless one has led to the other by a tail
//! call.
//!
//! # Data model
//!
//! A [`Page`] has the instances with locations in one page of the process's memory. Lookups of a
//! page take no lock.
//!
//! An instance is dead if its call has ended without a return: its location holds another value
//! than the return address, or is not mapped. If the page of the location has been swapped out, the
//! instance counts as alive. A dead instance is dropped when a new call uses its location, when
//! another instance needs the bucket, or when the list is full. When the number of pages has
//! doubled since the last time, the pages without an instance that may be alive are given up.
//!
//! # Locks
//!
//! `Instances::pages_limit`, a mutex: held while pages are given up.

use crate::{
    returns::{
        buckets::OnlyInstance,
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

/// Number of pages below which none is given up.
const PAGES: usize = 256;

/// The return instances of a process.
#[pin_data]
pub(crate) struct Instances {
    /// The pages, by number.
    #[pin]
    pages: Map<Arc<Page>>,
    /// Number of pages.
    count: Atomic<i64>,
    /// Number of times that there was no room since pages were given up last.
    refused: Atomic<i64>,
    /// Number of pages above which some are given up.
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

    /// Returns the number of the page of a location.
    #[inline]
    fn number(location: usize) -> usize {
        (location & PAGE_MASK) / PAGE_SIZE
    }

    // Inlined into the fast paths of entries and returns.
    #[inline(always)]
    fn page_of<'a>(&'a self, location: usize, guard: &'a Guard) -> Option<&'a Page> {
        Some(self.pages.get(Self::number(location), guard)?)
    }

    /// Adds an instance if its bucket is free and the list of the page is empty. Returns whether it
    /// has.
    // Inlined into the fast path of an entry.
    #[inline(always)]
    pub(crate) fn push_lockless(&self, instance: Instance, guard: &Guard) -> bool {
        match self.page_of(instance.location, guard) {
            Some(page) => page.buckets.insert_lockless(instance),
            None => false,
        }
    }

    /// Returns the instance at `location`, if it is in its bucket, and the list of the page is
    /// empty.
    // Inlined into the fast path of a return.
    #[inline(always)]
    pub(crate) fn only<'a>(
        &'a self,
        location: usize,
        guard: &'a Guard,
    ) -> Option<OnlyInstance<'a>> {
        self.page_of(location, guard)?.buckets.only(location)
    }

    /// Adds an instance, to its bucket or to the list. Calls `dropped` for each dead instance of
    /// the same location.
    ///
    /// Context: may sleep, to allocate memory. The current thread must belong to the process.
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
            match page.push(instance, Instance::may_be_alive) {
                Pushed::Yes => return Ok(()),
                Pushed::Dropped(dead) => dropped(&dead),
                Pushed::Full => page.make_room(memory)?,
                // Waits for the thread that gives up the page, and then adds another page.
                Pushed::Gone => drop(self.pages_limit.lock()),
            }
        }
    }

    /// Removes the newest instance at `location` that `accept` accepts, and returns its result.
    pub(crate) fn pop<R>(
        &self,
        location: usize,
        guard: &Guard,
        accept: impl Fn(&Instance) -> Option<R>,
    ) -> Option<Popped<R>> {
        self.page_of(location, guard)?.pop(location, accept)
    }

    /// Returns the highest location from `lowest` to `top` of an instance that `accept` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        guard: &Guard,
        accept: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        [top, lowest].into_iter().find_map(|address| {
            let page = self.page_of(address, guard)?;
            page.highest(top, lowest, &accept)
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
                self.limit_pages(count as usize, memory);
                Ok(())
            }
            Err(EEXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives up pages without instances, because the process has no room for another page. This
    /// visits all pages, so it happens once for as many refusals as there are pages. On success the
    /// caller must try again.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no room.
    #[cold]
    fn make_room(&self, memory: &Memory) -> Result {
        let count = self.count.load(Relaxed);
        if self.refused.fetch_add(1, Relaxed) < count {
            return Err(ENOMEM);
        }
        self.refused.store(0, Relaxed);
        let limit = self.pages_limit.lock();
        self.give_up_pages(memory);
        drop(limit);
        match self.count.load(Relaxed) < count {
            true => Ok(()),
            false => Err(ENOMEM),
        }
    }

    /// Gives up pages without instances, if there are many.
    fn limit_pages(&self, count: usize, memory: &Memory) {
        let Some(mut limit) = self.pages_limit.try_lock() else {
            // Another thread gives up pages.
            return;
        };
        if count > *limit {
            self.give_up_pages(memory);
            *limit = PAGES.max(2 * self.count.load(Relaxed) as usize);
        }
    }

    fn give_up_pages(&self, memory: &Memory) {
        let guard = tasks_trace::read_lock();
        for (number, page) in self.pages.range(0..=usize::MAX, &guard) {
            if page.drop_dead(Instance::may_be_alive) != 0 {
                continue;
            }
            if let Some(capacity) = page.give_up() {
                self.pages.remove(number);
                self.count.fetch_sub(1, Relaxed);
                memory.uncharge(PAGE_BYTES + capacity * LIST_BYTES);
            }
        }
    }
}
